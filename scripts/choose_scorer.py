"""Choose the training-free scorer's settings on `studio` validation videos, and nowhere else.

    python scripts/choose_scorer.py --out runs/studio-val

Prints mean IoU of the first answer for every setting, best last. The winner is the default of
`zsvg.heads.training_free.ScorerOptions`.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

from zsvg.grounder import Grounder, load
from zsvg.heads.training_free import ScorerOptions
from zsvg.metrics import evaluate
from zsvg.microworld.domains import PRETRAINING
from zsvg.microworld.world import write_world
from zsvg.prediction import predict_all
from zsvg.records import read_annotations
from zsvg.video import find_videos


def settings() -> list[ScorerOptions]:
    """Return the grid."""
    grid = [
        ScorerOptions(kind=kind, smooth=smooth, bias=bias)
        for kind, smooth, bias in product(
            ("max_sum", "threshold_runs"), (0.0, 0.5, 1.0), (0.0, 0.5, 1.0, 1.5)
        )
    ]
    grid += [
        ScorerOptions(kind="inside_outside", smooth=smooth, length_weight=weight)
        for smooth, weight in product((0.0, 0.5, 1.0), (0.0, 0.2, 0.35, 0.5))
    ]
    return grid


def main() -> None:
    """Measure the grid."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--videos", type=int, default=40)
    args = parser.parse_args()
    folder = write_world(args.out, domain=PRETRAINING, videos=args.videos, split="val")
    annotations = read_annotations(folder / "annotations.jsonl")
    clips = find_videos(folder / "videos")
    backbone = load("micro").backbone
    scores = []
    for options in settings():
        grounder = Grounder(backbone, scorer=options)
        answers, _ = predict_all(grounder, annotations, clips, cache=args.out / "features")
        scores.append((evaluate(answers, annotations)["mIoU"], options))
    for score, options in sorted(scores, key=lambda pair: pair[0]):
        print(f"{100 * score:5.2f}  {options}")


if __name__ == "__main__":
    main()
