"""Print the conditions that keep microworld from being a toy, per domain, and check them.

    python scripts/check_microworld.py --out runs/quickstart

The trivial answers and the ambiguity are computed on 200 test videos of every domain. The learned
rows come from quickstart runs under OUT/DOMAIN-SEED, which are made when they are missing. The
training-free row of `studio` is measured on 50 of its test videos, which pre-training never saw.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from benchmark_microworld import one_run

from zsvg.evaluation import baselines
from zsvg.evaluation.metrics import evaluate
from zsvg.microworld.domains import DEVELOPMENT, LOOKS, PRETRAINING, REPORTED
from zsvg.microworld.world import truth

# Asked of the domains that are reported on: the one for choices may be a little easier.
STUDIO_LIMIT = "<= .70"


def trivial(domain: str) -> dict[str, float]:
    """Return the best trivial mIoU and R1@0.5 of a domain, and its share of ambiguous queries."""
    test, train = truth(domain, "test", 0, 200), truth(domain, "train", 0, 200)
    answers = {
        "whole": baselines.whole_video(test),
        "window": baselines.fixed_window(test, *baselines.fit_fixed_window(train)),
        "part": baselines.uniform_part(test, parts=5),
        "random": baselines.random_windows(test, seed=0),
    }
    scores = {name: evaluate(given, test) for name, given in answers.items()}
    return {
        **{f"{name} mIoU": s["mIoU"] for name, s in scores.items()},
        "worst mIoU": max(s["mIoU"] for s in scores.values()),
        "worst R1@0.5": max(s["R1@0.5"] for s in scores.values()),
        "ambiguous": float(np.mean([a.extra["ambiguous_object"] for a in test])),
    }


def learned(out: Path, domain: str, seed: int) -> dict[str, float]:
    """Return mIoU of the learned rows of a quickstart run, made when it is missing."""
    methods = one_run(out / f"{domain}-{seed}", domain, seed)["methods"]
    return {name: methods[name]["mIoU"] for name in methods}


def studio_training_free(out: Path) -> float:
    """Return the training-free mIoU on `studio` test videos."""
    from zsvg.grounding.load import load
    from zsvg.grounding.prediction import predict
    from zsvg.microworld.world import write_world
    from zsvg.records import read_annotations
    from zsvg.video.finding import find_videos

    folder = write_world(out / "studio-test", domain=PRETRAINING, videos=50, split="test")
    annotations = read_annotations(folder / "annotations.jsonl")
    predictions, _ = predict(
        load("micro"), annotations, find_videos(folder / "videos"), cache=out / "features"
    )
    return float(evaluate(predictions, annotations)["mIoU"])


def main() -> None:
    """Print the table and exit non-zero when a condition fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the quickstart runs")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    failed = []

    def check(domain: str, what: str, value: float, holds: bool) -> None:
        required = not (what.endswith(STUDIO_LIMIT) and domain == DEVELOPMENT)
        verdict = "ok" if holds else "FAILS" if required else "not met, not required"
        print(f"{domain:8} {what:46} {value:7.3f}  {verdict}")
        if required and not holds:
            failed.append((domain, what))

    for domain in LOOKS:
        numbers = trivial(domain)
        check(domain, "queries whose object fits elsewhere >= .40", numbers["ambiguous"],
              numbers["ambiguous"] >= 0.4)  # fmt: skip
        for name in ("whole", "window", "part", "random"):
            value = numbers[f"{name} mIoU"]
            check(domain, f"trivial {name}: mIoU <= .25", value, value <= 0.25)
        check(domain, "best trivial R1@0.5 <= .15", numbers["worst R1@0.5"],
              numbers["worst R1@0.5"] <= 0.15)  # fmt: skip
    studio = studio_training_free(args.out)
    print(f"{PRETRAINING:8} training-free mIoU {studio:35.3f}")
    for domain in (DEVELOPMENT, *REPORTED):
        rows = learned(args.out, domain, args.seed)
        free, full, blind = (rows[n] for n in ("training-free", "supervised", "query-blind"))
        check(domain, f"training-free / studio {STUDIO_LIMIT}", free / studio, free <= 0.7 * studio)
        check(domain, "supervised - training-free >= .20", full - free, full - free >= 0.2)
        check(domain, "query-blind / supervised <= .50", blind / full, blind <= 0.5 * full)
    raise SystemExit(f"{len(failed)} conditions fail: {failed}" if failed else 0)


if __name__ == "__main__":
    main()
