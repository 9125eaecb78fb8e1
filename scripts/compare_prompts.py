"""Prompt methods against each other, from no true label to all of them.

    OMP_NUM_THREADS=1 python scripts/compare_prompts.py --out runs/prompts
    OMP_NUM_THREADS=1 python scripts/compare_prompts.py --out runs/prompts \
        --domains paper night fabric --seeds 0 1 2 --methods coop vpt maple --budgets 0 5 10 100

The first command makes the whole grid on the development domain, the second the best methods on the
reported ones. A method is a shipped recipe. A budget is the share, in percent, of the 180 training
videos whose true labels are given: 0 tunes on pseudo labels of all of them, "5+" on those and true
labels of 5 %, which weigh `MIXED_WEIGHT` times as much, the others on true labels alone. Videos,
pseudo labels and test queries are those of `zsvg quickstart`; where all true labels are given there
are three times as many steps of the head, as there.

So that methods differ by their prompts alone, all have the steps and batches of `SCHEDULE` instead
of their own, and no mean of the weights: the head learns as long with each of them, and prompts in
the image tower, slow to train, join at the end, when it stands still. Prompts deeper than `micro`
take as many blocks as it has. `dapl` knows one domain here, that of the run.

Each run leaves one small file, OUT/DOMAIN-SEED/METHOD BUDGET.json, and is skipped when it is there.
The command may run several times at once: runs that another process is at are left to it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from worlds import VIDEOS, World, labels_of, make, options, results, worlds_of

from zsvg.cli.terminal import table
from zsvg.evaluation.metrics import evaluate
from zsvg.experiments.compare_report import mean_and_spread
from zsvg.experiments.quickstart import supervised_recipe, without_looking
from zsvg.grounding.grounder import Grounder
from zsvg.grounding.model_folder import ADAPTER_FILE
from zsvg.microworld.world import truth
from zsvg.records import Annotation, read_annotations
from zsvg.training.from_recipe import build_network
from zsvg.training.labels import choose_labels
from zsvg.training.recipes import Recipe, load_recipe

METHODS = (
    "head-only", "coop", "cocoop", "dapl", "ppt", "vpt", "vpt-deep", "independent", "maple", "tvp"
)  # fmt: skip
BUDGETS = ("0", "1", "5", "10", "100")
SCHEDULE = {"steps": 200, "batch_size": 32, "average": 0.0}
VISUAL_STEPS, VISUAL = 50, {"visual_batch_size": 2, "visual_clips": 128}
MIXED_WEIGHT = 4.0
_TEXT_BLOCKS = 3  # of `micro`; its image tower has 5


def recipe_of(method: str, budget: str) -> Recipe:
    """Return a shipped recipe with what all methods share here."""
    recipe = load_recipe(method)
    prompts = recipe.prompts
    if prompts.coupled or isinstance(prompts.text_depth, int):
        depth = min(prompts.text_depth, _TEXT_BLOCKS)
        coupled = {"vision_depth": depth} if prompts.coupled else {}
        prompts = prompts.model_copy(update={"text_depth": depth, **coupled})
    recipe = recipe.model_copy(update={"prompts": prompts})
    recipe = recipe.with_training(**SCHEDULE, visual_share=1.0)
    if budget == "100":
        recipe = supervised_recipe(recipe)
    if not (prompts.vision_tokens or prompts.border):
        return recipe
    steps = recipe.training.steps + VISUAL_STEPS
    return recipe.with_training(steps=steps, visual_share=VISUAL_STEPS / steps, **VISUAL)


def labels_for(world: World, budget: str) -> list[Annotation]:
    """Return what a budget gives to tune on."""
    share = int(budget.removesuffix("+"))
    pseudo = labels_of(world, "blocks", "captions") if share == 0 or "+" in budget else []
    if share == 0:
        return pseudo
    true = truth(world.domain, "train", world.seed, VIDEOS)
    # Selection holds out whole videos, so there are at least two.
    videos = max(2, round(share / 100 * VIDEOS))
    if not pseudo:
        return choose_labels(true, shot_count=videos, seed=world.seed)[0]
    return choose_labels(
        pseudo, also=true, also_weight=MIXED_WEIGHT, shot_count=videos, seed=world.seed
    )[0]


def one_run(world: World, method: str, budget: str) -> dict[str, Any]:
    """Tune and answer; return what was measured."""
    labels, recipe = labels_for(world, budget), recipe_of(method, budget)
    if recipe.prompts.domain_tokens:
        labels = [replace(a, extra={**a.extra, "domain": world.domain}) for a in labels]
    prompts, head = build_network(world.backbone, recipe, world.seed, labels).parameter_counts()
    name = f"{method} {budget}"
    started, processor = time.monotonic(), time.process_time()
    outcome = world.tune(name, labels, recipe)
    seconds, processor = time.monotonic() - started, time.process_time() - processor
    scores = world.test(name)
    adapter = world.folder / "models" / name / ADAPTER_FILE
    return {
        "labels": len(labels),
        "videos": len({label.vid for label in labels}),
        "prompt parameters": prompts,
        "head parameters": head,
        "adapter bytes": adapter.stat().st_size if adapter.exists() else 0,
        "seconds": round(seconds, 1),
        "processor seconds": round(processor, 1),
        "best step": outcome.history.best_step,
        "test": scores,
    }


def trivial_rows(world: World) -> dict[str, dict[str, Any]]:
    """Return what needs no training: answers without looking, and similarity alone."""
    world.videos("test")
    asked = read_annotations(world.folder / "test" / "annotations.jsonl")
    answers = without_looking(asked, labels_of(world, "blocks", "captions"), world.seed)
    rows = {name: evaluate(predictions, asked) for name, predictions in answers.items()}
    return {**rows, "training-free": world.answer(Grounder(world.backbone))}


def prepared(args: argparse.Namespace) -> list[World]:
    """Return the worlds that are asked for, their training-free rows made."""
    worlds = worlds_of(args)
    for world in worlds:
        make(world, "trivial", lambda world=world: {"rows": trivial_rows(world)})
    return worlds


def main() -> None:
    """Make the runs that are missing and print the tables."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--budgets", nargs="+", default=list(BUDGETS))
    args = parser.parse_args()
    worlds = prepared(args)
    for budget, method, world in product(args.budgets, args.methods, worlds):
        make(
            world,
            f"{method} {budget}",
            lambda world=world, m=method, b=budget: one_run(world, m, b),
        )
    report(worlds, args.methods, args.budgets)


def report(worlds: Sequence[World], methods: Sequence[str], budgets: Sequence[str]) -> None:
    """Print mIoU by budget, then R@1, sizes and time; ± is the standard deviation over runs."""

    def cell(runs: Sequence[Mapping[str, Any]] | None, column: str) -> str:
        return "-" if runs is None else mean_and_spread([run["test"] for run in runs], column)

    runs = {(m, b): results(worlds, f"{m} {b}") for m in methods for b in budgets}
    title = f"{len(worlds)} runs (domain, seed); true labels given, percent of the videos"
    trivial = results(worlds, "trivial")
    if trivial is not None:
        rows = [
            (name, *(mean_and_spread([run["rows"][name] for run in trivial], c) for c in COLUMNS))
            for name in trivial[0]["rows"]
        ]
        table(("without training", *COLUMNS), rows)
    for column in COLUMNS:
        rows = [(m, *(cell(runs[m, b], column) for b in budgets)) for m in methods]
        table((f"{column} of", *budgets), rows, title=title)
    sizes = []
    for method in methods:
        made = [run for b in budgets for run in runs[method, b] or ()]
        if made:
            seconds = [run["processor seconds"] for run in made]
            sizes.append(
                (
                    method,
                    f"{made[0]['prompt parameters']}",
                    f"{made[0]['head parameters']}",
                    f"{max(run['adapter bytes'] for run in made)}",
                    f"{min(seconds):.0f} to {max(seconds):.0f}",
                )
            )
    table(("method", "prompts", "head", "adapter bytes", "processor seconds to tune"), sizes)


COLUMNS = ("mIoU", "R1@0.5", "R1@0.7")

if __name__ == "__main__":
    main()
