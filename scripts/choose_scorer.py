"""Choose the training-free scorer's settings on `studio` validation videos, and nowhere else.

    python scripts/choose_scorer.py --out runs/studio-val

Prints mean IoU of the first answer for every setting, best last. The winner is the default of
`zsvg.heads.training_free.ScorerOptions`.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

from zsvg.grounder import load
from zsvg.heads.training_free import ScorerOptions, find_moments
from zsvg.microworld.domains import PRETRAINING
from zsvg.microworld.world import write_world
from zsvg.moments import paired_iou
from zsvg.records import read_annotations
from zsvg.video import find_videos


def settings() -> list[ScorerOptions]:
    """Return the grid."""
    spreads, biases = (0.0, 0.05, 0.1), (0.5, 1.0, 1.5)
    grid = [
        ScorerOptions(kind="max_sum", spread=spread, smooth=smooth, bias=bias)
        for spread, smooth, bias in product(spreads, (0.0, 0.5, 1.0), biases)
    ]
    grid += [
        ScorerOptions(
            kind="threshold_runs", spread=spread, smooth=smooth, octaves=octaves, bias=bias
        )
        for spread, smooth, octaves, bias in product(spreads, (0.25, 0.5, 1.0), (1, 2, 3), biases)
    ]
    grid += [
        ScorerOptions(kind="inside_outside", spread=spread, smooth=smooth, length_weight=weight)
        for spread, smooth, weight in product(spreads, (0.0, 0.5, 1.0), (0.0, 0.2, 0.35, 0.5))
    ]
    return grid


def main() -> None:
    """Measure the grid."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--videos", type=int, default=100)
    args = parser.parse_args()
    folder = write_world(args.out, domain=PRETRAINING, videos=args.videos, split="val")
    annotations = read_annotations(folder / "annotations.jsonl")
    clips = find_videos(folder / "videos")
    grounder = load("micro")
    videos = {vid: grounder.encode(clips[vid], cache=args.out / "features") for vid in clips}
    curves = [grounder.ground(videos[a.vid], a.query).curve for a in annotations]
    truth = np.array([a.relevant_windows[0] for a in annotations])
    scores = []
    for options in settings():
        firsts = []
        for record, curve in zip(annotations, curves, strict=True):
            frames = videos[record.vid].frames
            first = replace(options, top_k=1)
            spans, _ = find_moments(curve, frames.edges, first, frames.features)
            firsts.append(spans[0])
        scores.append((paired_iou(np.array(firsts), truth).mean(), options))
    print(f"{len(annotations)} queries of {len(clips)} videos")
    for score, options in sorted(scores, key=lambda pair: pair[0]):
        print(f"{100 * score:5.2f}  {options}")


if __name__ == "__main__":
    main()
