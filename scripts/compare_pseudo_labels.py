"""Ways to make pseudo labels against each other: where x what x how noise is borne.

    python scripts/compare_pseudo_labels.py --out runs/pseudo
    python scripts/compare_pseudo_labels.py --out runs/pseudo --domains paper night fabric \
        --seeds 0 1 2 --rows "blocks captions no" "blocks composed no" "blocks captions both"

A row is KIND FORM DENOISING: a way to propose events (`zsvg.events.proposals`), a form of
pseudo-queries (see `FORMS`), and `denoise` of the recipe. The first command makes all rows on the
development domain, the second some on the reported ones. Everything else is as in
`zsvg quickstart`: its videos, thresholds, recipe and test queries. Rows without sentences train no
prompts, as there is nothing to learn them from (recipe head-only).

Each row leaves one small file, OUT/DOMAIN-SEED/ROW.json, and is skipped when that is there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from zsvg.backbones.captioner import Captioner, load_captioner
from zsvg.backbones.clip import ClipBackbone, load_backbone
from zsvg.cli.terminal import table
from zsvg.evaluation.metrics import evaluate
from zsvg.experiments.quickstart import LABELS
from zsvg.files import write_json
from zsvg.grounding.grounder import Grounder
from zsvg.grounding.load import load
from zsvg.grounding.model_folder import detach_adapters
from zsvg.grounding.prediction import predict
from zsvg.label.run import default_options, pseudo_label
from zsvg.label.tagging import load_tagger
from zsvg.microworld.domains import DEVELOPMENT
from zsvg.microworld.world import truth, write_world
from zsvg.moments import iou
from zsvg.records import Annotation, read_annotations, write_annotations
from zsvg.training.options import TuneOptions
from zsvg.training.recipes import Recipe, load_recipe
from zsvg.training.tune import tune
from zsvg.video.finding import find_videos

KINDS = ("blocks", "psvl", "changes", "uniform")
FORMS: Mapping[str, Mapping[str, Any]] = {
    "captions": {},
    "sampled": {"samples": 5},
    "simplified": {"form": "simplified"},
    "start-to-end": {"view": "ends"},
    "composed": {"form": "composed"},
    "features": {"form": "features"},
}
DENOISING = ("no", "weights", "both")
VIDEOS, TEST_VIDEOS = 180, 50


@dataclass(frozen=True)
class World:
    """One domain and seed: its videos, test queries and what is kept of it."""

    folder: Path
    domain: str
    seed: int
    backbone: ClipBackbone

    def videos(self, split: str) -> dict[str, Path]:
        """Return vid -> file, rendering them when they are not there."""
        folder = self.folder / ("unlabelled" if split == "train" else "test")
        if not (folder / "done").exists():
            count = VIDEOS if split == "train" else TEST_VIDEOS
            write_world(folder, domain=self.domain, videos=count, split=split, seed=self.seed,
                        annotations=split == "test")  # fmt: skip
            (folder / "done").touch()
        return find_videos(folder / "videos")

    def answer(self, grounder: Grounder) -> dict[str, Any]:
        """Return the metrics of a grounder on the test queries."""
        clips = self.videos("test")
        asked = read_annotations(self.folder / "test" / "annotations.jsonl")
        predictions, _ = predict(grounder, asked, clips, cache=self.folder / "features")
        return evaluate(predictions, asked)


def remember(captioner: Captioner, file: Path) -> None:
    """Let a captioner keep what it says about each batch: forms share most of their pictures."""
    known: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    caption, sample = captioner.caption, captioner.sample

    def kept(name: str, images: Sequence[np.ndarray], make: Any) -> Any:
        digest = hashlib.sha256(name.encode())
        for image in images:
            digest.update(image.tobytes())
        key = digest.hexdigest()
        if key not in known:
            known[key] = make()
            write_json(file, known)
        return known[key]

    def spoken(images: Sequence[np.ndarray]) -> Any:
        return kept("greedy", images, partial(caption, images))

    def sampled(images: Sequence[np.ndarray], samples: int, *, seed: int) -> Any:
        return kept(f"{samples} {seed}", images, partial(sample, images, samples, seed=seed))

    captioner.caption, captioner.sample = spoken, sampled  # type: ignore[method-assign]


def labels_of(world: World, kind: str, form: str) -> list[Annotation]:
    """Return the pseudo labels of one kind and form, made once."""
    file = world.folder / f"{kind} {form}.jsonl"
    if not file.exists():
        captioner = load_captioner("micro")
        remember(captioner, world.folder / f"{kind}.captions.json")
        options = default_options(
            min_score=LABELS.queries.min_score,
            per_video=LABELS.queries.per_video,
            overlap=LABELS.queries.overlap,
            kind=kind,
            **FORMS[form],
        )
        report = pseudo_label(
            world.videos("train"),
            world.backbone,
            captioner,
            options=options,
            seed=world.seed,
            cache=world.folder / "features",
            tagger=load_tagger("micro"),
        )
        write_annotations(file, report.labels)
    return read_annotations(file)


def recipe_of(form: str, denoising: str) -> Recipe:
    """Return the quickstart's recipe with one way to bear noise, and no mean of the weights."""
    recipe = load_recipe("head-only" if form == "features" else "coop")
    steps = recipe.training.steps
    return recipe.with_training(denoise=denoising, denoise_every=steps // 8, average=0.0)


def one_row(world: World, kind: str, form: str, denoising: str) -> dict[str, Any]:
    """Label, tune and answer; return what was measured."""
    started = time.monotonic()
    labels = labels_of(world, kind, form)
    model = world.folder / "models" / f"{kind} {form} {denoising}"
    tune(
        labels,
        world.videos("train"),
        world.backbone,
        model,
        recipe=recipe_of(form, denoising),
        options=TuneOptions(seed=world.seed),
        cache=world.folder / "features",
    )
    grounder = load(model, backbone=world.backbone)
    scores = world.answer(grounder)
    detach_adapters(world.backbone)
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


def main() -> None:
    """Make the rows that are missing and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--domains", nargs="+", default=[DEVELOPMENT])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    every = [" ".join(row) for row in product(KINDS, FORMS, DENOISING)]
    parser.add_argument("--rows", nargs="+", default=every, help='"KIND FORM DENOISING" each')
    args = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {"training-free": []}
    backbone = load_backbone("micro")
    for domain, seed in product(args.domains, args.seeds):
        world = World(args.out / f"{domain}-{seed}", domain, seed, backbone)
        world.folder.mkdir(parents=True, exist_ok=True)
        for name in ("training-free", *args.rows):
            file = world.folder / f"{name}.json"
            if not file.exists():
                row = (
                    {"test": world.answer(Grounder(backbone))}
                    if name == "training-free"
                    else one_row(world, *name.split())
                )
                write_json(file, row | {"domain": domain, "seed": seed})
                print(domain, seed, name, f"{row['test']['mIoU']:.4f}", flush=True)
            found.setdefault(name, []).append(json.loads(file.read_text()))
    report(found)


def report(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Print means over domains and seeds, with the standard deviation over them."""
    columns = ("mIoU", "R1@0.5", "R1@0.7")
    lines = []
    for name, rows in found.items():
        cells = []
        for column in columns:
            values = 100 * np.array([row["test"][column] for row in rows])
            cells.append(f"{values.mean():.1f} ± {values.std(ddof=len(values) > 1):.1f}")
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
