r"""Measure pseudo-labelling at scale: proposals, what surrounds the captioner, and long videos.

    OMP_NUM_THREADS=1 python scripts/benchmark_pseudo_label.py
    OMP_NUM_THREADS=1 python scripts/benchmark_pseudo_label.py --only captions \
        --backbone local-dir:OUT/clip-vit-b-32 --captioner OUT/blip-base --videos 3

prints one line per number, with its target. `OUT` is what `make_random_backbones.py` writes.

- proposals: videos per second of one core, from frame features at hand.
- captions: the time that the captioner alone needs for the very batches of a run, over the time of
  the whole run; with nothing cached, and with cached frame features. Median of rounds in turn, on
  microworld videos for `micro`, else on synthetic ones of a minute, 640x360 at 25 fps.
- length: synthetic videos of half an hour, one and two hours, each in a process of its own: peak
  memory, and seconds per hour of video. Always with `micro`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_features import peak_megabytes, seconds, synthetic

from zsvg.events.proposals import propose

HOURS = (0.5, 1.0, 2.0)


def proposals(arguments: argparse.Namespace) -> list[float]:
    """Return videos per second for 64, 128 and 200 frames of 512 numbers."""
    rng = np.random.default_rng(0)
    rates = []
    for frames in (64, 128, 200):
        scenes = np.sort(rng.integers(0, 6, (arguments.rounds * 20, frames)), axis=1)
        rows = rng.normal(size=(6, 512))[scenes] + rng.normal(size=(*scenes.shape, 512)) + 3.0
        rows /= np.linalg.norm(rows, axis=-1, keepdims=True)
        videos, edges = rows.astype(np.float32), np.arange(frames + 1) / 2
        propose(videos[0], edges)
        start = time.perf_counter()
        for seed, features in enumerate(videos):
            propose(features, edges, seed=seed)
        rates.append(len(videos) / (time.perf_counter() - start))
    return rates


def captions(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the captioner's share of the time of whole runs, fresh and with cached features."""
    import torch

    from zsvg.backbones.captioner import load_captioner
    from zsvg.backbones.clip import load_backbone
    from zsvg.label.run import default_options, pseudo_label
    from zsvg.microworld.domains import DEVELOPMENT
    from zsvg.microworld.world import write_world
    from zsvg.video.finding import find_videos

    warnings.filterwarnings("ignore", "text is cut")  # random weights say long words
    backbone = load_backbone(arguments.backbone, arguments.device)
    captioner = load_captioner(arguments.captioner, arguments.device)
    options = default_options(min_score=-1.0)
    caption, calls = captioner.caption, []

    def recorded(images: list[np.ndarray]) -> list[str]:
        calls.append(images)
        return caption(images)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.captioner == "micro":
            world = write_world(folder, domain=DEVELOPMENT, videos=arguments.videos, seed=900)
            videos = find_videos(world / "videos")
        else:
            videos = {
                str(index): synthetic(folder / f"{index}.mp4", 60 + index, 640, 360, fps=25)
                for index in range(arguments.videos)
            }

        def run(cache: Path | None) -> None:
            report = pseudo_label(videos, backbone, captioner, options=options, cache=cache)
            if report.failures:
                raise SystemExit(str(report.failures))

        captioner.caption = recorded
        run(folder / "cache")  # warm-up; it also fills the cache and tells the batches
        captioner.caption = caption
        works = (
            lambda: [caption(images) for images in calls],
            lambda: run(None),
            lambda: run(folder / "cache"),
        )
        times = np.array([[seconds(w) for w in works] for _ in range(arguments.rounds)])
    own, fresh, cached = np.median(times, axis=0)
    return {
        "images": sum(map(len, calls)),
        "own": own,
        "fresh": float(np.median(times[:, 0] / times[:, 1])),
        "cached": float(np.median(times[:, 0] / times[:, 2])),
        "whole": [fresh, cached],
        "threads": torch.get_num_threads(),
        "device": str(backbone.device),
    }


def length(arguments: argparse.Namespace) -> dict[str, Any]:
    """Label one video in this process; return its time and peak memory (MB)."""
    from zsvg.backbones.captioner import load_captioner
    from zsvg.backbones.clip import load_backbone
    from zsvg.label.run import pseudo_label

    models = load_backbone("micro", "cpu"), load_captioner("micro", "cpu")
    start = time.perf_counter()
    report = pseudo_label({"long": arguments.video}, *models)
    if report.failures:
        raise SystemExit(str(report.failures))
    return {"seconds": time.perf_counter() - start, "peak": peak_megabytes()}


def child(part: str, arguments: argparse.Namespace, *more: str, threads: int | None = None) -> Any:
    """Run one part in a process of its own; return what it found."""
    command = [sys.executable, __file__, "--part", part, "--backbone", arguments.backbone]
    command += ["--captioner", arguments.captioner, "--rounds", str(arguments.rounds)]
    command += ["--videos", str(arguments.videos), *more]
    if arguments.device:
        command += ["--device", arguments.device]
    environment = dict(os.environ)
    if threads:
        environment |= {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def show(name: str, value: float, sign: str, target: float, note: str = "") -> bool:
    """Print one number beside its target; return whether it is reached."""
    reached = value >= target if sign == ">=" else value <= target
    mark = "" if reached else "  MISSED"
    print(f"{name:<46} {value:>9.2f}   {sign} {target:<7g}{note}{mark}", flush=True)
    return reached


def table(arguments: argparse.Namespace) -> bool:
    """Print the chosen numbers; return whether all reach their targets."""
    good = []
    if "proposals" in arguments.only:
        rates = child("proposals", arguments, threads=1)
        for frames, rate in zip((64, 128, 200), rates, strict=True):
            good.append(show(f"proposals, {frames} frames: videos/s/core", rate, ">=", 100))
    if "captions" in arguments.only:
        found = child("captions", arguments)
        rate = found["images"] / found["own"]
        print(
            f"captioner alone: {rate:.2f} images/s in the batches of {arguments.videos} videos "
            f"({found['device']}, {found['threads']} threads)"
        )
        for kind in ("fresh", "cached"):
            name = f"captioning rate of a run, of that: {kind} features"
            good.append(show(name, found[kind], ">=", 0.9))
    if "length" in arguments.only:
        rows = []
        with tempfile.TemporaryDirectory() as folder:
            for hours in HOURS:
                path = synthetic(Path(folder) / f"{hours}.mp4", hours * 3600, 128, 96, fps=4)
                rows.append(child("length", arguments, "--video", str(path)))
                path.unlink()
        paces = [row["seconds"] / hours for row, hours in zip(rows, HOURS, strict=True)]
        for hours, row, pace in zip(HOURS, rows, paces, strict=True):
            print(
                f"{hours:g} h of video: peak {row['peak']:.0f} MB, {row['seconds']:.1f} s, "
                f"{pace:.1f} s per hour"
            )
        name = "peak memory, 2 h over 0.5 h"
        good.append(show(name, rows[-1]["peak"] / rows[0]["peak"], "<=", 1.1))
        good.append(show("time per hour, 2 h over 0.5 h", paces[-1] / paces[0], "<=", 1.1))
    return all(good)


def main() -> None:
    """Print the table; exit non-zero when a target is missed."""
    parts = {"proposals": proposals, "captions": captions, "length": length}
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--backbone", default="micro")
    parser.add_argument("--captioner", default="micro")
    parser.add_argument("--device")
    parser.add_argument("--videos", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--part", choices=parts, help="measure this in this process, as JSON")
    parser.add_argument("--video", type=Path, help="of --part length")
    arguments = parser.parse_args()
    if arguments.part:
        json.dump(parts[arguments.part](arguments), sys.stdout)
    else:
        raise SystemExit(0 if table(arguments) else 1)


if __name__ == "__main__":
    main()
