"""Heads x supervision: every trained head under every level, beside answers that need no training.

    OMP_NUM_THREADS=1 python scripts/compare_heads.py --out runs/worlds
    OMP_NUM_THREADS=1 python scripts/compare_heads.py --out runs/worlds \
        --domains paper night fabric --seeds 0 1 2 --heads span --levels captions full blind

The first command makes the whole grid on the development domain, the second some of it on the
reported ones. Levels, from what is known least to most: `features` and `captions` are
language-free (pseudo labels that borrow CLIP's frame features as queries, or the captioner's
sentences), `stitched` has captions too, half of their moments stitched into other videos,
`retrieved` has sentences of other videos of the domain, without these, `weak` has the true
sentences of all 180 training videos without times, `glance` one instant of each, `few-shot` all
true labels of 18 videos, `full` those of all. `blind` is `full` with one and the same sentence
everywhere: the control that sees only videos. Videos, test queries and recipe are those of `zsvg
quickstart`, so that the regression head's `captions`, `full` and `blind` are its rows; `full` has
three times as many steps, as there. All heads have the prompts of `coop`, but for pointing, which
needs those of `ppt`, and `features`, which have no sentences that could teach any.

Each run leaves one small file, OUT/DOMAIN-SEED/HEAD LEVEL.json, and is skipped when it is there.
The command may run several times at once, and beside `compare_prompts.py` with the same folder.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from compare_prompts import COLUMNS, prepared
from worlds import VIDEOS, World, labels_of, make, options, results

from zsvg.cli.terminal import table
from zsvg.experiments.compare import LANGUAGE_FREE, Material, Run, measure
from zsvg.experiments.compare_report import mean_and_spread
from zsvg.experiments.quickstart import supervised_recipe
from zsvg.heads.by_name import HEADS
from zsvg.microworld.near_misses import with_near_misses
from zsvg.microworld.world import truth
from zsvg.records import read_annotations
from zsvg.training.recipes import load_recipe

LEVELS = (
    "features", "captions", "stitched", "retrieved", "weak", "glance", "few-shot", "full", "blind"
)  # fmt: skip
PSEUDO = {"features": "features", "captions": "captions", "stitched": "captions",
          "retrieved": "retrieved"}  # fmt: skip
FEW = 18
STITCHED = 0.5


def one_run(world: World, head: str, level: str, members: int) -> dict[str, Any]:
    """Tune and answer; return what was measured."""
    if head == "pointing":
        recipe = load_recipe("ppt")
    else:
        recipe = load_recipe("head-only" if level == "features" else "coop")
    recipe = recipe.with_head(head, members=members)
    blind = level == "blind"
    if level in ("full", "blind"):
        recipe = supervised_recipe(recipe, query_blind=blind)
    if level == "stitched":
        recipe = recipe.with_training(stitch_rate=STITCHED)
    world.videos("test")
    material = Material(
        labels=with_near_misses(truth(world.domain, "train", world.seed, VIDEOS), world.seed),
        annotations=read_annotations(world.folder / "test" / "annotations.jsonl"),
        videos=world.videos("train"),
        test_videos=world.videos("test"),
        backbone=world.backbone,
        pseudo=with_near_misses(labels_of(world, "blocks", PSEUDO[level]), world.seed)
        if level in PSEUDO
        else (),
        cache=world.folder / "features",
    )
    told = level if level in ("weak", "glance") else "full"
    run = Run(
        supervision=LANGUAGE_FREE if level in PSEUDO else told,
        recipe=recipe,
        shots=FEW if level == "few-shot" else None,
        seed=world.seed,
        blind=blind,
    )
    processor = time.process_time()
    result = measure(run, material, world.folder / "models" / f"{head} {level}")
    return result | {"processor seconds": round(time.process_time() - processor, 1)}


def main() -> None:
    """Make the runs that are missing and print the tables."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--heads", nargs="+", default=list(HEADS), choices=HEADS)
    parser.add_argument("--levels", nargs="+", default=list(LEVELS), choices=LEVELS)
    parser.add_argument("--members", type=int, default=1, help="heads whose mean answers")
    args = parser.parse_args()
    worlds, several = prepared(args), f"{args.members} x " if args.members > 1 else ""
    for level, head, world in product(args.levels, args.heads, worlds):
        if (head, level) != ("pointing", "features"):  # there would be no text to point from
            make(
                world,
                f"{several}{head} {level}",
                lambda world=world, h=head, v=level: one_run(world, h, v, args.members),
            )
    report(worlds, [several + head for head in args.heads], args.levels)


def report(worlds: Sequence[World], heads: Sequence[str], levels: Sequence[str]) -> None:
    """Print mIoU by head and level, then all numbers; ± is the standard deviation over runs."""
    runs = {(h, v): found for h in heads for v in levels if (found := results(worlds, f"{h} {v}"))}
    title = f"{len(worlds)} runs (domain, seed)"
    rows = [
        (h, *(mean_and_spread([r["metrics"] for r in runs[h, v]], "mIoU") if (h, v) in runs else "-"
              for v in levels))
        for h in heads
    ]  # fmt: skip
    table(("mIoU of", *levels), rows, title=title)

    trivial = results(worlds, "trivial") or []
    every = {n: [t["rows"][n] for t in trivial] for n in (trivial[0]["rows"] if trivial else ())}
    every |= {f"{h}, {v}": [r["metrics"] for r in found] for (h, v), found in runs.items()}
    other = {f"{h}, {v}": [r["permuted"] for r in found] for (h, v), found in runs.items()}
    kinds = sorted(next(iter(every.values()))[0]["kinds"])
    rows = [
        (
            name,
            *(mean_and_spread(scores, column) for column in COLUMNS),
            mean_and_spread(other[name], "mIoU") if name in other else "",
            *(
                mean_and_spread([score["kinds"][kind] for score in scores], "mIoU")
                for kind in kinds
            ),
        )
        for name, scores in every.items()
    ]
    table(("", *COLUMNS, "other videos' answers", *(f"mIoU, {k}" for k in kinds)), rows)

    free = np.array([t["rows"]["training-free"]["mIoU"] for t in trivial])
    rows = []
    for head, level in product(heads, PSEUDO):
        if (head, level) in runs and (head, "full") in runs:
            ours, full = (
                np.array([r["metrics"]["mIoU"] for r in runs[head, v]]) for v in (level, "full")
            )
            share = (ours - free).sum() / (full - free).sum()
            name = f"{head}, {level}"
            rows.append((name, f"{100 * share:.0f} %", f"{100 * (ours - free).mean():+.1f}"))
    if rows:
        table(("", "share of the gap closed", "mIoU - training-free"), rows)


if __name__ == "__main__":
    main()
