"""Choose the settings of `micro`'s training-free scorer on `studio` validation videos alone.

    python scripts/choose_scorer.py --out runs/studio-val
    python scripts/choose_scorer.py --out runs/chalk --domain chalk --usual

The second shows what the settings that are usual for microworld, film and captions are worth there,
and TFVTG's, with and without its mask.

Prints mean IoU of the first answer and recall at IoU .5 of five for every setting of every
scorer, best last. The winner is `zsvg.scorers.options.DRAWINGS`.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

import numpy as np

from zsvg.grounding.load import load
from zsvg.microworld.domains import PRETRAINING
from zsvg.microworld.world import write_world
from zsvg.moments import iou
from zsvg.records import read_annotations
from zsvg.scorers.find import find_moments
from zsvg.scorers.options import COARSE, DRAWINGS, ScorerOptions
from zsvg.scorers.tfvtg import Tfvtg
from zsvg.video.finding import find_videos

USUAL = (DRAWINGS, ScorerOptions(), COARSE, Tfvtg(), Tfvtg(least=-1.0))


def settings() -> list[ScorerOptions]:
    """Return the grid: each scorer over the options that it reads."""
    spreads, biases = (0.0, 0.05, 0.1), (0.5, 1.0, 1.5)
    smooths, weights = (0.0, 0.5, 1.0), (0.0, 0.2, 0.35, 0.5)
    grid = [
        ScorerOptions(kind="max_sum", spread=spread, smooth=smooth, bias=bias)
        for spread, smooth, bias in product(spreads, smooths, biases)
    ]
    grid += [
        ScorerOptions(
            kind="threshold_runs", spread=spread, smooth=smooth, octaves=octaves, bias=bias
        )
        for spread, smooth, octaves, bias in product(spreads, (0.25, 0.5, 1.0), (1, 2, 3), biases)
    ]
    grid += [
        ScorerOptions(
            kind="inside_outside",
            spread=spread,
            smooth=smooth,
            length_weight=weight,
            extend=extend,
        )
        for spread, smooth, weight, extend in product(spreads, smooths, weights, (False, True))
    ]
    grid += [
        ScorerOptions(kind="correlation", spread=spread, smooth=smooth, box_cox=box_cox)
        for spread, smooth, box_cox in product(spreads, smooths, (False, True))
    ]
    grid += [
        ScorerOptions(
            kind="watershed", spread=spread, smooth=smooth, bias=bias, length_weight=weight
        )
        for spread, smooth, bias, weight in product(spreads, smooths, biases, weights)
    ]
    grid += [
        ScorerOptions(
            kind="coherent",
            clusters=clusters,
            smooth=smooth,
            length_weight=weight,
            box_cox=box_cox,
            extend=extend,
        )
        for clusters, smooth, weight, box_cox, extend in product(
            (9, 15), (0.0, 0.5), (0.0, 0.35), (False, True), (False, True)
        )
    ]
    grid += [
        ScorerOptions(kind="consensus", spread=spread, smooth=smooth, bias=bias)
        for spread, smooth, bias in product(spreads, (0.25, 0.5), biases)
    ]
    return grid


def main() -> None:
    """Measure the grid."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--videos", type=int, default=100)
    parser.add_argument("--domain", default=PRETRAINING)
    parser.add_argument("--usual", action="store_true", help="only the settings in use")
    args = parser.parse_args()
    folder = write_world(args.out, domain=args.domain, videos=args.videos, split="val")
    annotations = read_annotations(folder / "annotations.jsonl")
    clips = find_videos(folder / "videos")
    grounder = load("micro")
    videos = {vid: grounder.encode(clips[vid], cache=args.out / "features") for vid in clips}
    curves = [grounder.ground(videos[a.vid], a.query).curve for a in annotations]
    scores = []
    for options in USUAL if args.usual else settings():
        found = [
            find_moments(curve, videos[a.vid].frames.edges, options, videos[a.vid].frames.features)
            for a, curve in zip(annotations, curves, strict=True)
        ]
        overlaps = [iou(spans, a.relevant_windows).max(axis=1)
                    for (spans, _), a in zip(found, annotations, strict=True)]  # fmt: skip
        first = np.mean([overlap[0] for overlap in overlaps])
        five = np.mean([(overlap[:5] >= 0.5).any() for overlap in overlaps])
        scores.append((first, five, options))
    print(f"{len(annotations)} queries of {len(clips)} videos: mIoU, R5@0.5, setting")
    scores.sort(key=lambda row: row[0])
    best = {options.kind: index for index, (*_, options) in enumerate(scores)}
    for index, (first, five, options) in enumerate(scores):
        mark = "*" if best[options.kind] == index else " "  # the best of its kind
        print(f"{100 * first:5.2f}  {100 * five:5.2f} {mark} {options}")


if __name__ == "__main__":
    main()
