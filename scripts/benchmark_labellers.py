"""What more than one sentence per event buys: a grid over what an ideal labeller is asked.

    python scripts/benchmark_labellers.py --out runs/labellers
    python scripts/benchmark_labellers.py --out runs/labellers --domains paper night fabric \
        --seeds 0 1 2 --rows training-free captions supervised one borders all

The labeller knows the scripts of the scenes and answers in microworld's grammar
(`ideal_labeller.py`), but about events that were proposed without any truth: no true time reaches a
label. Rows: `one` sentence per event; `detail`, one to three of different detail; `paraphrased`,
one in three wordings; `negatives`, one and a near miss that is told as absent; `borders`, one with
borders by the labeller; `verified`, one that is weighed by a second look; `all` of it. Beside them
`captions` of the micro captioner, no training, and true labels. Everything else is as in
`zsvg quickstart`. Precision is the mean IoU of labels with their nearest true moment, by weight.
The ROC area is of true sentences against the same ones with another verb (50: it knows nothing).

Each row leaves one small file, OUT/DOMAIN-SEED/ROW.json, and is skipped when that is there. The
command may run several times at once: rows that another process is at are left to it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from benchmark_absence import questions
from ideal_labeller import IdealLabeller
from sklearn.metrics import roc_auc_score
from worlds import TEST_VIDEOS, VIDEOS, World, labels_of, make, options, results, worlds_of

from zsvg.cli.terminal import table
from zsvg.evaluation.audit import audit
from zsvg.experiments.compare_report import mean_and_spread
from zsvg.experiments.quickstart import LABELS, supervised_recipe
from zsvg.grounding.grounder import Grounder
from zsvg.grounding.load import load
from zsvg.grounding.model_folder import detach_adapters
from zsvg.label.asking import Asking
from zsvg.label.instructions import Instructions, load_instructions
from zsvg.label.run import default_options, pseudo_label
from zsvg.microworld.world import plan_video, truth
from zsvg.records import Annotation, read_annotations, write_annotations
from zsvg.training.recipes import load_recipe

# Parts of the answer, whether sentences are said in other words, and whether they are verified.
ROWS: Mapping[str, tuple[tuple[str, ...], bool, bool]] = {
    "one": ((), False, False),
    "detail": (("detail",), False, False),
    "paraphrased": ((), True, False),
    "negatives": (("nearly",), False, False),
    "borders": (("borders",), False, False),
    "verified": ((), False, True),
    "all": (("detail", "nearly", "borders"), True, True),
}
OTHERS = ("training-free", "captions", "supervised")


def instructions_of(parts: Sequence[str]) -> Instructions:
    """Return the shipped instructions with these parts; "detail" is of the sentences."""
    rich, sentence = load_instructions("rich"), load_instructions("sentence")
    chosen = rich.only([part for part in parts if part != "detail"])
    if "detail" in parts:
        return chosen
    one = chosen.parts.model_copy(update={"sentences": sentence.parts.sentences})
    return chosen.model_copy(update={"parts": one})


def ideal_labels(world: World, row: str) -> list[Annotation]:
    """Return the labels of a row, made once."""
    file = world.folder / f"labels {row}.jsonl"
    if file.exists():
        return read_annotations(file)
    parts, rephrased, verified = ROWS[row]
    ideal = IdealLabeller(world.seed)
    asking = Asking(
        instructions=instructions_of(parts),
        rephraser=ideal if rephrased else None,
        verifier=ideal if verified else None,
    )
    chosen = default_options(
        min_score=LABELS.queries.min_score,
        view="around" if "borders" in parts else "strip",
    )
    labels: list[Annotation] = []
    videos = world.videos("train")
    for index in range(VIDEOS):
        ideal.scene = plan_video(world.domain, "train", world.seed, index)[0]
        vid = ideal.scene.vid
        report = pseudo_label(
            {vid: videos[vid]}, world.backbone, ideal, options=chosen, asking=asking,
            seed=world.seed, cache=world.folder / "features",
        )  # fmt: skip
        labels += report.labels
    write_annotations(file, labels)
    return labels


def about(world: World, labels: Sequence[Annotation]) -> dict[str, Any]:
    """Return how many labels there are, and how near they are to the truth."""
    found = audit(labels, truth(world.domain, "train", world.seed, VIDEOS)).values
    whose = found["precision"]
    return {
        "labels": found["labels"],
        "events": found["events"],
        "precision": whose["own"]["mean"],
        "weighted": whose.get("weighted", whose["own"])["mean"],
        "coverage": found["coverage"]["all_videos"]["mean"],
    }


def roc(world: World, grounder: Grounder) -> float:
    """Return the ROC area of true sentences against those with another verb."""
    videos, fits, true = world.videos("test"), [], []
    for vid, sorts in questions(world.domain, world.seed, TEST_VIDEOS).items():
        video = grounder.encode(videos[vid], cache=world.folder / "features")
        for sort in ("present", "hard"):
            for sentence in sorts[sort]:
                answer = grounder.ground(video, sentence, top_k=1)
                best = answer.moments[0].score  # all there is without training
                fits.append(best if answer.presence is None else answer.presence)
                true.append(sort == "present")
    return float(roc_auc_score(true, fits))


def measured(world: World, row: str) -> dict[str, Any]:
    """Make a row by its name."""
    started = time.monotonic()
    if row == "training-free":
        free = Grounder(world.backbone)
        return {"test": world.answer(free), "roc": roc(world, free)}
    recipe = load_recipe("coop")
    if row == "supervised":
        labels = truth(world.domain, "train", world.seed, VIDEOS)
        recipe = supervised_recipe(recipe)
    elif row == "captions":
        labels = labels_of(world, "blocks", "captions")
    else:
        labels = ideal_labels(world, row)
    world.tune(row, labels, recipe)
    scores = world.test(row)
    try:
        area_of_roc = roc(world, load(world.folder / "models" / row, backbone=world.backbone))
    finally:
        detach_adapters(world.backbone)
    seconds = round(time.monotonic() - started, 1)
    told = {} if row == "supervised" else about(world, labels)
    return {**told, "test": scores, "roc": area_of_roc, "seconds": seconds}


def main() -> None:
    """Make the rows that are missing and print them."""
    parser = options(__doc__.splitlines()[0])
    every = [*OTHERS, *ROWS]
    parser.add_argument("--rows", nargs="+", default=every, choices=every)
    args = parser.parse_args()
    worlds = worlds_of(args)
    names = args.rows
    for world, name in product(worlds, names):
        make(world, name, lambda world=world, name=name: measured(world, name))
    found = {name: rows for name in names if (rows := results(worlds, name))}
    if "training-free" in found:  # and not still being made by another process
        report(found)


def report(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Print means over domains and seeds, with the standard deviation over them."""
    columns = ("mIoU", "R1@0.5", "R1@0.7")
    lines = []
    for name, rows in found.items():
        cells = [mean_and_spread([row["test"] for row in rows], column) for column in columns]
        told = [
            f"{np.mean([row[key] for row in rows]):{form}}" if key in rows[0] else ""
            for key, form in (("labels", ".0f"), ("precision", ".3f"), ("weighted", ".3f"),
                              ("coverage", ".3f"))
        ]  # fmt: skip
        pairs = zip(rows, found["training-free"], strict=True)
        gain = 100 * np.array([row["test"]["mIoU"] - free["test"]["mIoU"] for row, free in pairs])
        area = f"{100 * np.mean([row['roc'] for row in rows]):.1f}"
        lines.append((name, *told, *cells, f"{gain.mean():+.1f}", area))
    runs = len(found["training-free"])
    table(
        ("labels by", "labels", "precision", "by weight", "coverage", *columns,
         "mIoU - training-free", "ROC area"),
        lines,
        title=f"{runs} runs (domain, seed); ± is the standard deviation over them",
    )  # fmt: skip


if __name__ == "__main__":
    main()
