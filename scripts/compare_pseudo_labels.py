"""Ways to make pseudo labels against each other: where x what x how noise is borne.

    python scripts/compare_pseudo_labels.py --out runs/pseudo
    python scripts/compare_pseudo_labels.py --out runs/pseudo --domains paper night fabric \
        --seeds 0 1 2 --rows "blocks captions no" "blocks composed no" "blocks captions both"

A row is KIND FORM DENOISING: a way to propose events (`zsvg.events.proposals`), a form of
pseudo-queries (see `FORMS` of `worlds.py`), and `denoise` of the recipe. The first command makes
all rows on the development domain, the second some on the reported ones. Everything else is as in
`zsvg quickstart`: its videos, thresholds, recipe and test queries. Rows without sentences train no
prompts, as there is nothing to learn them from (recipe head-only).

Each row leaves one small file, OUT/DOMAIN-SEED/ROW.json, and is skipped when that is there. The
command may run several times at once: rows that another process is at are left to it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from worlds import FORMS, VIDEOS, World, labels_of, make, options, results, worlds_of

from zsvg.cli.terminal import table
from zsvg.experiments.compare_report import mean_and_spread
from zsvg.grounding.grounder import Grounder
from zsvg.microworld.world import truth
from zsvg.moments import iou
from zsvg.training.recipes import Recipe, load_recipe

KINDS = ("blocks", "psvl", "changes", "uniform")
DENOISING = ("no", "weights", "both")


def recipe_of(form: str, denoising: str) -> Recipe:
    """Return the quickstart's recipe with one way to bear noise, and no mean of the weights."""
    recipe = load_recipe("head-only" if form == "features" else "coop")
    steps = recipe.training.steps
    return recipe.with_training(denoise=denoising, denoise_every=steps // 8, average=0.0)


def one_row(world: World, kind: str, form: str, denoising: str) -> dict[str, Any]:
    """Label, tune and answer; return what was measured."""
    started = time.monotonic()
    labels = labels_of(world, kind, form)
    name = f"{kind} {form} {denoising}"
    world.tune(name, labels, recipe_of(form, denoising))
    scores = world.test(name)
    true: dict[str, list[tuple[float, float]]] = {}
    for record in truth(world.domain, "train", world.seed, VIDEOS):
        true.setdefault(record.vid, []).extend(record.relevant_windows)
    best = np.array([float(iou(np.array(a.relevant_windows), np.array(true[a.vid])).max())
                     for a in labels])  # fmt: skip
    return {
        "labels": len(labels),
        "precision": float(best.mean()),
        "precision .7": float((best >= 0.7).mean()),
        "seconds": round(time.monotonic() - started, 1),
        "test": scores,
    }


def measured(world: World, name: str) -> dict[str, Any]:
    """Make a row by its name."""
    if name == "training-free":
        return {"test": world.answer(Grounder(world.backbone))}
    return one_row(world, *name.split())


def main() -> None:
    """Make the rows that are missing and print them."""
    parser = options(__doc__.splitlines()[0])
    every = [" ".join(row) for row in product(KINDS, FORMS, DENOISING)]
    parser.add_argument("--rows", nargs="+", default=every, help='"KIND FORM DENOISING" each')
    args = parser.parse_args()
    worlds = worlds_of(args)
    for world, name in product(worlds, ("training-free", *args.rows)):
        make(world, name, lambda world=world, name=name: measured(world, name))
    names = dict.fromkeys(("training-free", *args.rows))
    found = {name: rows for name in names if (rows := results(worlds, name))}
    if "training-free" in found:  # and not still being made by another process
        report(found)


def report(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Print means over domains and seeds, with the standard deviation over them."""
    columns = ("mIoU", "R1@0.5", "R1@0.7")
    lines = []
    for name, rows in found.items():
        cells = [mean_and_spread([row["test"] for row in rows], column) for column in columns]
        pairs = zip(rows, found["training-free"], strict=True)
        gain = 100 * np.array([row["test"]["mIoU"] - free["test"]["mIoU"] for row, free in pairs])
        about = [
            f"{np.mean([row[key] for row in rows]):{form}}" if key in rows[0] else ""
            for key, form in (("labels", ".0f"), ("precision", ".3f"), ("precision .7", ".3f"))
        ]
        lines.append((name, *about, *cells, f"{gain.mean():+.1f}"))
    runs = len(found["training-free"])
    table(
        ("labels by", "labels", "precision", "IoU >= .7", *columns, "mIoU - training-free"),
        lines,
        title=f"{runs} runs (domain, seed); ± is the standard deviation over them",
    )


if __name__ == "__main__":
    main()
