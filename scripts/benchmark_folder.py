"""What a second question to a folder of 1,000 known videos costs, beyond loading the model.

    OMP_NUM_THREADS=1 python scripts/benchmark_folder.py --out runs/folder

The videos are pieces of rendered ones, one second each, all different. The first `ground` fills the
cache, and is not in the table. Measured is the second one, with `micro` and with a ViT-B-32 of
random weights: how many videos it opens (PyAV), how many files of them Python reads (to hash them),
and processor and wall time for each video: that of the folder less that of one video, over the
other 999. OUT/folder.json keeps what was measured, and what is there is not measured again; nor are
videos made, or encoded, twice.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from benchmark_startup import SENTENCE, models, quiet, timed, zsvg

from zsvg.cli.terminal import say, table
from zsvg.files import write_json
from zsvg.microworld.world import write_world
from zsvg.video.finding import find_videos
from zsvg.video.sampling import sample_frames
from zsvg.video.writing import write_video

SOURCES = 24
_FRAMES = 2  # of a piece, half a second each

# Runs a command as `zsvg` does; the last line of stderr tells how many files below the first
# argument were opened as videos, and how many by Python itself.
_COUNTED = """
import atexit, json, sys
import av
folder = sys.argv.pop(1)
opened, read = [], []
own = av.open
def counting(file, *arguments, **options):
    if folder in str(file): opened.append(file)
    return own(file, *arguments, **options)
av.open = counting
def hook(event, arguments):
    if event == "open" and isinstance(arguments[0], str) and arguments[0].startswith(folder):
        read.append(arguments[0])
sys.addaudithook(hook)
atexit.register(lambda: print(json.dumps([len(opened), len(read)]), file=sys.stderr))
from zsvg.cli.app import main
main()
"""


def pieces(out: Path) -> Iterator[list[np.ndarray]]:
    """Yield short pieces of rendered videos, without end."""
    write_world(out / "world", domain="chalk", videos=SOURCES, split="test", annotations=False)
    brightness = 0
    while True:
        for path in find_videos(out / "world").values():
            frames = [pixels for _, pixels in sample_frames(path, fps=2, size=128)]
            for first in range(0, len(frames) - 1, _FRAMES):
                yield [np.maximum(pixels, brightness) for pixels in frames[first : first + 2]]
        brightness += 8  # the next round differs from this one


def folder_of(out: Path, count: int) -> Path:
    """Return the folder of short videos, with those that were missing."""
    folder = out / f"videos-{count}"
    folder.mkdir(parents=True, exist_ok=True)
    names = [folder / f"{number:04d}.mp4" for number in range(count)]
    if not all(name.exists() for name in names):
        for name, frames in zip(names, pieces(out), strict=False):
            if not name.exists():
                write_video(name, frames, fps=2)
        time.sleep(2.5)  # hashes of files that are younger are not remembered (`zsvg.video.hashes`)
    return folder


def counts(folder: Path, arguments: list[str | Path]) -> tuple[int, int]:
    """Return how many videos a command opens, and how many files of them Python reads."""
    command = [sys.executable, "-c", _COUNTED, str(folder), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    opened, read = json.loads(done.stderr.splitlines()[-1])
    return opened, read


def main() -> None:
    """Measure what is not measured yet, and show all of it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=Path("runs/folder"))
    parser.add_argument("--videos", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    out = options.out.resolve()
    folder = folder_of(out, options.videos)
    one = min(folder.glob("*.mp4"))
    kept = out / "folder.json"
    measured = json.loads(kept.read_text()) if kept.exists() else {}
    for name, model in models(out).items():
        name = f"{name}, {options.videos} videos"
        if name in measured:
            continue
        rest = [SENTENCE, "--model", model, "--cache", str(out / "features")]
        say(f"filling the cache with {name}")
        first = timed(zsvg("ground", folder, *rest), stdout=subprocess.DEVNULL)
        say(f"measuring {name}")
        opened, read = counts(folder, ["ground", folder, *rest])
        # They take turns, so that other work on the machine meets both alike.
        turns = [
            {"one": quiet(zsvg("ground", one, *rest)), "all": quiet(zsvg("ground", folder, *rest))}
            for _ in range(options.runs)
        ]
        measured[name] = {"videos": options.videos, "opened": opened, "read": read}
        measured[name] |= {"first": first, "turns": turns}
        write_json(kept, measured)
    rows = []
    for name, found in measured.items():
        turns, others = found["turns"], found["videos"] - 1
        each = [
            [1e3 * (turn["all"][key] - turn["one"][key]) / others for turn in turns]
            for key in ("cpu", "wall")
        ]
        shown = [f"{statistics.median(ms):.1f} ({min(ms):.1f}-{max(ms):.1f})" for ms in each]
        rows.append((name, str(found["opened"]), str(found["read"]), *shown))
    header = ("model", "videos opened", "files read", "processor, ms a video", "wall, ms a video")
    table(header, rows)


if __name__ == "__main__":
    main()
