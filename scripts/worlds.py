"""Microworld for grids of runs: a folder for each domain and seed, and a small file for each run.

The videos, thresholds of pseudo labels and test queries are those of `zsvg quickstart`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from zsvg.backbones.captioner import Captioner, load_captioner
from zsvg.backbones.clip import ClipBackbone, load_backbone
from zsvg.evaluation.metrics import evaluate
from zsvg.experiments.quickstart import LABELS
from zsvg.files import locked, write_json
from zsvg.grounding.grounder import Grounder
from zsvg.grounding.load import load
from zsvg.grounding.model_folder import detach_adapters
from zsvg.grounding.prediction import predict
from zsvg.label.by_matching import label_by_matching
from zsvg.label.matching import Phrases
from zsvg.label.run import default_options, pseudo_label
from zsvg.label.tagging import load_tagger
from zsvg.microworld.domains import DEVELOPMENT
from zsvg.microworld.world import truth, write_world
from zsvg.records import Annotation, read_annotations, write_annotations
from zsvg.training.options import TuneOptions
from zsvg.training.outcome import TuneOutcome
from zsvg.training.recipes import Recipe
from zsvg.training.tune import tune
from zsvg.video.finding import find_videos

FORMS: Mapping[str, Mapping[str, Any]] = {
    "captions": {},
    "sampled": {"samples": 5},
    "simplified": {"form": "simplified"},
    "start-to-end": {"view": "ends"},
    "composed": {"form": "composed"},
    "features": {"form": "features"},
}
VIDEOS, TEST_VIDEOS = 180, 50
UNSEEN = 1000
"""What is added to a seed for videos that are in no grid."""


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

    def tune(self, name: str, labels: Sequence[Annotation], recipe: Recipe) -> TuneOutcome:
        """Tune `models`/NAME on labels of the training videos."""
        return tune(
            labels,
            self.videos("train"),
            self.backbone,
            self.folder / "models" / name,
            recipe=recipe,
            options=TuneOptions(seed=self.seed),
            cache=self.folder / "features",
        )

    def test(self, name: str) -> dict[str, Any]:
        """Return the metrics of `models`/NAME on the test queries."""
        try:
            return self.answer(load(self.folder / "models" / name, backbone=self.backbone))
        finally:
            detach_adapters(self.backbone)

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
    """Return the pseudo labels of one kind and form, made once.

    "retrieved" sentences are those of as many other videos of the domain, which nobody has seen.
    """
    file = world.folder / f"{kind} {form}.jsonl"
    if form == "retrieved" and not file.exists():
        unseen = truth(world.domain, "train", world.seed + UNSEEN, VIDEOS)
        sentences = list(dict.fromkeys(label.query for label in unseen))
        report = label_by_matching(
            world.videos("train"),
            world.backbone,
            Phrases(sentences=sentences),
            seed=world.seed,
            cache=world.folder / "features",
        )
        write_annotations(file, report.labels)
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


def options(title: str) -> argparse.ArgumentParser:
    """Return a parser of what all grids take."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--domains", nargs="+", default=[DEVELOPMENT])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    return parser


def worlds_of(args: argparse.Namespace) -> list[World]:
    """Return a world for each of `args.domains` and `args.seeds`."""
    backbone = load_backbone("micro")
    worlds = []
    for domain, seed in product(args.domains, args.seeds):
        world = World(args.out / f"{domain}-{seed}", domain, seed, backbone)
        world.folder.mkdir(parents=True, exist_ok=True)
        worlds.append(world)
    return worlds


def make(world: World, name: str, work: Any) -> None:
    """Make one result file, unless it is there or another process is at it."""
    file = world.folder / f"{name}.json"
    with locked(world.folder / f".{name}.lock") as ours:
        if ours and not file.exists():
            write_json(file, work() | {"domain": world.domain, "seed": world.seed})
            print(world.domain, world.seed, name, flush=True)


def results(worlds: Sequence[World], name: str) -> list[dict[str, Any]] | None:
    """Return what `make` wrote by that name in each world; None unless all have it."""
    files = [world.folder / f"{name}.json" for world in worlds]
    if not all(file.exists() for file in files):
        return None
    return [json.loads(file.read_text()) for file in files]
