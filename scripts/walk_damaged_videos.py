"""Send damaged videos through probing, sampling and cutting: a film or one line must come out.

    python scripts/walk_damaged_videos.py --videos 300 --seed 0

Tiny films of eight containers are cut off, lose or repeat a piece, or get wrong bytes, often in the
header. Each goes through a process of its own kind that is watched: an error that is none of ours
or of several lines, ten seconds for one step, or a gigabyte of memory is a fault, and the file is
kept. Exit status 1 where there was one.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import resource
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from zsvg import ZsvgError
from zsvg.video.reading import probe
from zsvg.video.sampling import load_frames_at, sample_frames
from zsvg.video.writing import cut

CODECS = {
    ".mp4": "libx264", ".mkv": "libx264", ".flv": "libx264", ".ts": "libx264", ".avi": "mpeg4",
    ".webm": "libvpx", ".wmv": "wmv2", ".mpg": "mpeg2video",
}  # fmt: skip
FORMATS = {".wmv": "asf", ".mpg": "mpeg", ".ts": "mpegts"}
SECONDS, GIGABYTE = 10.0, 1_000_000  # the latter in kB


def film(path: Path, *, sound: bool, b_frames: int, options: dict[str, str]) -> Path:
    """Write three seconds of grey that gets lighter, with silence or without."""
    with av.open(str(path), "w", format=FORMATS.get(path.suffix), options=options) as sink:
        video = sink.add_stream(CODECS[path.suffix], rate=10)
        (video.width, video.height), video.pix_fmt, video.gop_size = (64, 48), "yuv420p", 10
        video.max_b_frames = b_frames if path.suffix in (".mp4", ".mkv", ".ts", ".avi") else 0
        audio = sink.add_stream("aac", rate=16_000) if sound else None
        for index in range(30):
            pixels = np.full((48, 64, 3), 10 + 5 * index, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            sink.mux(video.encode(frame))
        sink.mux(video.encode(None))
        for index in range(0, 48_000 if audio else 0, 1024):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            silence.sample_rate, silence.pts = 16_000, index
            sink.mux(audio.encode(silence))
        if audio:
            sink.mux(audio.encode(None))
    return path


def damage(data: bytes, chance: random.Random) -> bytes:
    """Return a file cut off, without a piece, with a piece twice, or with wrong bytes."""
    kind = chance.random()
    start = chance.randrange(1, len(data))
    stop = min(len(data), start + chance.randrange(1, 2000))
    if kind < 0.15:
        return data[:start]
    if kind < 0.25:
        return data[:start] + data[stop:]
    if kind < 0.35:
        return data[:stop] + data[start:]
    changed = bytearray(data)
    head = len(data) if kind < 0.7 else min(len(data), 800)
    for _ in range(chance.choice((1, 2, 5, 20, 100))):
        place = chance.randrange(head)
        flipped = changed[place] ^ (1 << chance.randrange(8))
        changed[place] = chance.choice((0, 127, 128, 255, chance.randrange(256), flipped))
    return bytes(changed)


STEPS: dict[str, Callable[[str, Path], object]] = {
    "probe": lambda path, _: probe(path),
    "sample": lambda path, _: deque(sample_frames(path, fps=2, size=32), 0),
    "sample what is left": lambda path, _: deque(
        sample_frames(path, fps=2, size=None, allow_truncated=True), 0
    ),
    "frames at": lambda path, _: load_frames_at(path, [0.2, 2.5, 1e4], 16),
    "cut": lambda path, out: cut(path, 0.5, 2.0, out, longest=64),
}


def work(line: Any) -> None:
    """Take paths from the pipe and tell what came of each, until None comes."""
    while (path := line.recv()) is not None:
        told, out = [], Path(f"{path}.out.mp4")
        for name, step in STEPS.items():
            started, came = time.monotonic(), "film"
            try:
                step(path, out)
            except ZsvgError as error:
                came = "line" if "\n" not in str(error) else f"several lines: {error}"
            except Exception as error:
                came = f"{type(error).__name__}: {error}"
            if time.monotonic() - started > SECONDS:
                came = f"{time.monotonic() - started:.0f} seconds"
            told.append((name, came))
        out.unlink(missing_ok=True)
        line.send((told, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))


def main() -> int:
    """Damage, send, watch and count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    folder, chance = Path(tempfile.mkdtemp(prefix="damaged-")), random.Random(args.seed)
    bases = []
    for number, suffix in enumerate(CODECS):
        pieces = {"movflags": "frag_keyframe+empty_moov"}
        for way, options in enumerate(({}, {}, pieces if suffix == ".mp4" else {})):
            sound = way == 1 and suffix in (".mp4", ".mkv", ".flv", ".ts")
            path = folder / f"base{number}{way}{suffix}"
            bases.append(film(path, sound=sound, b_frames=2 * (way == 2), options=options))
    chance.shuffle(bases)
    context = multiprocessing.get_context("spawn")
    counts: dict[str, int] = {}
    faults, most, child = [], 0, None
    for number in range(args.videos):
        if child is None:
            here, there = context.Pipe()
            child = context.Process(target=work, args=(there,), daemon=True)
            child.start()
        base = bases[number % len(bases)]
        path = folder / f"{args.seed}-{number}{base.suffix}"
        path.write_bytes(damage(base.read_bytes(), chance))
        here.send(str(path))
        wrong = "no answer"
        if here.poll(6 * SECONDS):
            try:
                told, memory = here.recv()
            except EOFError:
                told, memory, wrong = [], 0, "the process died"
            else:
                most = max(most, memory)
                bad = [f"{name}: {came}" for name, came in told if came not in ("film", "line")]
                wrong = "; ".join(bad) or (f"{memory} kB" if memory > GIGABYTE else "")
                for _, came in told:
                    counts[came] = counts.get(came, 0) + 1
        if wrong:
            faults.append(f"{path}: {wrong}")
            child.kill()
            child = None
        else:
            path.unlink()
    if child is not None:
        here.send(None)
        child.join(SECONDS)
    for base in bases:
        base.unlink()
    if not faults:
        folder.rmdir()
    result = {"videos": args.videos, "seed": args.seed, "memory_kb": most, "faults": faults}
    print(json.dumps({**result, **{came: counts.get(came, 0) for came in ("film", "line")}}))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
