r"""Measure labelling: what each stage of a video costs, and what workers of Ray make of it.

    OMP_NUM_THREADS=1 python scripts/benchmark_cluster.py stages
    OMP_NUM_THREADS=1 python scripts/benchmark_cluster.py stages --videos 1 \
        --backbone local-dir:OUT/clip-vit-b-32 --captioner OUT/blip-base
    OMP_NUM_THREADS=1 python scripts/benchmark_cluster.py rates --videos 60

`OUT` is what `make_random_backbones.py` writes.

- stages: processor seconds of each stage, which other work on the machine changes little, and how
  many videos an hour of one processor makes. Microworld for `micro`, else a synthetic minute of
  640x360 at 25 fps. On a GPU, `encode` and `caption` are its seconds.
- rates: videos per second after start-up, of torchrun's processes and of as many workers of Ray, in
  turn. It counts from when each has done two videos on average.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from benchmark_features import synthetic

from zsvg.backbones.captioner import load_captioner
from zsvg.backbones.clip import load_backbone
from zsvg.cli.terminal import say, table
from zsvg.events.proposals import propose
from zsvg.label.forms import phrase
from zsvg.label.run import default_options
from zsvg.label.views import caption_events, picture_size, view_times
from zsvg.microworld.world import write_world
from zsvg.video.finding import find_videos
from zsvg.video.sampling import load_frames_at, sample_frames

BATCH = 16
LABELLED = " zsvg.label.run: "
STAGES = ("decode", "encode", "propose", "look again", "caption", "compare")


def world(folder: Path, arguments: argparse.Namespace) -> dict[str, Path]:
    """Return vid -> file of what is labelled."""
    if arguments.captioner == "micro":
        write_world(folder, domain="chalk", videos=arguments.videos, annotations=False)
        return find_videos(folder)
    return {
        str(index): synthetic(folder / f"{index}.mp4", 60 + index, 640, 360)
        for index in range(arguments.videos)
    }


def stages(arguments: argparse.Namespace) -> None:
    """Print the processor time of the stages of `zsvg pseudo-label`, done one after the other."""
    clip = load_backbone(arguments.backbone, arguments.device)
    captioner = load_captioner(arguments.captioner, arguments.device)
    options = default_options(min_score=-1.0)
    spent = dict.fromkeys(STAGES, 0.0)
    clock: Callable[[], float] = time.process_time
    if clip.device.type != "cpu":
        clock = time.perf_counter

    @contextmanager
    def counted(stage: str) -> Iterator[None]:
        start = clock()
        yield
        spent[stage] += clock() - start

    def sentences(texts: list[str]) -> np.ndarray:
        return clip.encode_text(texts).pooled.float().cpu().numpy()

    length = 0.0
    with tempfile.TemporaryDirectory() as name:
        videos = world(Path(name), arguments)
        for path in videos.values():
            with counted("decode"):
                shown = sample_frames(path, fps=2, size=clip.image_size)
                frames = np.stack([pixels for _, pixels in shown])
            with counted("encode"):
                parts = [frames[at : at + BATCH] for at in range(0, len(frames), BATCH)]
                rows = np.concatenate([clip.encode_frames(part).cpu().numpy() for part in parts])
            edges = np.arange(len(rows) + 1) / 2
            length += edges[-1]
            with counted("propose"):
                events, _ = propose(rows, edges, options=options.proposals)
            with counted("look again"):
                times = view_times(events, options.queries.view)
                size = picture_size(captioner, options.queries.view)
                views = load_frames_at(path, times.ravel(), size)
            with counted("caption"):
                raw = caption_events(views.reshape(*times.shape, *views.shape[1:]), captioner)
            with counted("compare"):
                place = {"events": events, "centres": (edges[:-1] + edges[1:]) / 2}
                phrase(raw, sentences, rows, **place, options=options.queries)
    count, whole = len(videos), sum(spent.values())
    shown = [
        (name, f"{value / count:.2f}", f"{100 * value / whole:.0f}", f"{3600 * count / value:,.0f}")
        for name, value in {**spent, "all": whole}.items()
    ]
    title = f"{count} videos of {length / count:.0f} s, {clip.name}, on {clip.device}"
    table(("stage", "s a video", "%", "videos an hour"), shown, title)


def rate(command: list[str], after: int) -> tuple[float, float]:
    """Return videos per second after so many, and the seconds until the first one is done."""
    start, done = time.perf_counter(), []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr or ():
            if LABELLED in line:
                done.append(time.perf_counter())
    if process.returncode or len(done) <= after:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return (len(done) - after) / (done[-1] - done[after - 1]), done[0] - start


def rates(arguments: argparse.Namespace) -> None:
    """Print how fast torchrun's processes and Ray's workers are."""
    count = str(arguments.workers)
    os.environ["ACCELERATE_USE_CPU"] = "true"
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", count]
    runs: dict[str, list[tuple[float, float]]] = {"torchrun": [], "ray": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        world(folder / "videos", arguments)
        for number in range(arguments.rounds):
            for kind in runs:
                out = folder / f"{kind}{number}"
                line = ["-m", "zsvg", "pseudo-label", str(folder / "videos"), "--min-score", "-1"]
                line += ["--backbone", arguments.backbone, "--captioner", arguments.captioner, "-v"]
                line += ["--device", "cpu", "--cache", str(out / "cache"), "-o", f"{out}/p.jsonl"]
                started = [*torchrun, *line]
                if kind == "ray":
                    started = [*line, "--ray", "auto", "--workers", count]
                runs[kind].append(rate([sys.executable, *started], 2 * arguments.workers))
                say(f"{kind}: {runs[kind][-1][0]:.2f} videos/s")
    shown = [
        (kind, *(f"{statistics.median(values):.2f}" for values in zip(*found, strict=True)))
        for kind, found in runs.items()
    ]
    pairs = zip(runs["ray"], runs["torchrun"], strict=True)
    ratio = statistics.median(ray[0] / other[0] for ray, other in pairs)
    table(("", "videos/s after start-up", "s to the first video"), shown, f"{count} at a time")
    say(f"Ray over torchrun: {ratio:.2f} (median of {arguments.rounds} rounds)")


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("what", choices=("stages", "rates"))
    parser.add_argument("--backbone", default="micro")
    parser.add_argument("--captioner", default="micro")
    parser.add_argument("--device", help="of stages")
    parser.add_argument("--videos", type=int, default=6)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    (stages if arguments.what == "stages" else rates)(arguments)


if __name__ == "__main__":
    main()
