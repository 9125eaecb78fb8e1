"""The runs of `benchmark_charades.py`: their material, how they are made and kept, and controls."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from footing import fold, other_sentences
from numpy.typing import NDArray
from safetensors.numpy import load_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

import zsvg
from zsvg.backbones.base import TextStates
from zsvg.backbones.clip import ClipBackbone, load_backbone
from zsvg.cli.terminal import say
from zsvg.datasets import convert
from zsvg.evaluation import baselines
from zsvg.evaluation.metrics import best_overlaps
from zsvg.evaluation.protocols.by_name import cut_to_video
from zsvg.features.from_files import FeatureFiles
from zsvg.files import sha256_json, write_json
from zsvg.grounding.alignment import AMOUNTS, FITTED, USUAL_AMOUNT
from zsvg.grounding.answers import Moment
from zsvg.grounding.grounder import Grounder
from zsvg.grounding.model_folder import detach_adapters
from zsvg.grounding.presence import LEAST_VIDEOS
from zsvg.grounding.share import SHARES, mixed
from zsvg.label.by_matching import label_by_matching, read_lines, shipped_words
from zsvg.label.matching import Phrases
from zsvg.label.run import default_options
from zsvg.records import Annotation, Prediction
from zsvg.scorers.options import ScorerOptions
from zsvg.training.aligning import alignment_of
from zsvg.training.held_out import DOUBTS
from zsvg.training.labels import choose_labels, shots
from zsvg.training.options import Training, TuneOptions
from zsvg.training.supervision import Level, hide

STITCHED = 0.5
TRUE_WEIGHT = 4.0  # of a true label, where a pseudo label counts 1
CONTROLS = (
    "asked for sentences of other videos", "its head asked so", "looks of other sentences"
)  # fmt: skip

Labels = Callable[[int, int], Sequence[Annotation]]
"""Fold and seed -> what is learned from."""
Run = Callable[[int], dict[str, list[Prediction]]]
"""Seed -> row -> answers: the run's own, and its controls."""


def features_of(given: Path, out: Path) -> Path:
    """Return what `FeatureFiles` takes; codes are written out once, as one file a video."""
    if given.suffix != ".safetensors":
        return given
    tensors = load_file(given)
    if "mean" not in tensors:
        return given
    folder = out / "features"
    if not folder.exists():
        unfinished = folder.with_name("features.unfinished")
        unfinished.mkdir(parents=True, exist_ok=True)
        for name, codes in tensors.items():
            if name not in ("mean", "scale"):
                rows = codes.astype(np.float32) * tensors["scale"] + tensors["mean"]
                rows /= np.linalg.norm(rows, axis=1, keepdims=True)
                np.save(unfinished / f"{name.removeprefix('video ')}.npy", rows.astype(np.float16))
        unfinished.rename(folder)
    return folder


def remember(backbone: ClipBackbone) -> None:
    """Let the frozen tower keep what it says: rows ask it the same sentences again and again."""
    plain = backbone.encode_tokens
    known: dict[bytes, TextStates] = {}

    def encoded(ids: Tensor, model: Any | None = None, points: Tensor | None = None) -> TextStates:
        if model is not None or points is not None or not len(ids):
            return plain(ids, model, points)
        keys = [row.tobytes() for row in ids.numpy()]
        for key, row in zip(keys, ids, strict=True):
            if key not in known:
                known[key] = plain(row[None])
        found = [known[key] for key in keys]
        return TextStates(
            pooled=torch.cat([one.pooled for one in found]),
            tokens=pad_sequence([one.tokens[0] for one in found], batch_first=True),
            mask=pad_sequence([one.mask[0] for one in found], batch_first=True),
        )

    backbone.encode_tokens = encoded  # type: ignore[method-assign]


def arguments(description: str) -> argparse.ArgumentParser:
    """Return a parser of what `Bench` is made of."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--durations", type=Path, required=True)
    parser.add_argument("--model", required=True, help="whose sentences fit the features")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help="of each training (default: the recipes')")
    parser.add_argument("--members", type=int, default=1, help="heads whose mean answers")
    parser.add_argument("--nouns", type=Path, help="a line each (default: the shipped list)")
    parser.add_argument("--actions", type=Path, help="likewise")
    parser.add_argument("--sentences", type=Path, help="of no video of FEATURES, a line each")
    parser.set_defaults(heads=[], forms=[], budgets=[])
    return parser


class Bench:
    """The material of all rows, and how their runs are made and kept."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.out: Path = args.out
        self.seeds: list[int] = args.seeds
        self.budgets: list[int] = args.budgets
        self.heads: list[str] = args.heads
        self.members: int = args.members
        self.forms: list[str] = args.forms
        words = shipped_words()
        nouns = read_lines(args.nouns) if args.nouns else words.nouns
        actions = read_lines(args.actions) if args.actions else words.actions
        self.words = Phrases(nouns=nouns, actions=actions)
        self.sentences = read_lines(args.sentences) if args.sentences else []
        self.files = FeatureFiles(features_of(args.features, args.out))
        found = convert("charades-sta", args.annotations, durations=args.durations).records
        self.records = [r for r in cut_to_video(found) if r.vid in self.files]
        self.backbone = load_backbone(args.model, "cpu")
        remember(self.backbone)
        durations = {record.vid: record.duration for record in self.records}
        self.files = self.backbone.files = replace(self.files, durations=durations)
        self.recipe: dict[str, Any] = {} if args.steps is None else {"steps": args.steps}
        # Runs of other material or defaults are others.
        known = [zsvg.__version__, self.backbone.fingerprint, asdict(ScorerOptions()), SHARES,
                 AMOUNTS, DOUBTS, LEAST_VIDEOS, FITTED, STITCHED, self.recipe, asdict(Training()),
                 asdict(self.words), self.sentences,
                 [asdict(record) for record in self.records]]  # fmt: skip
        self.identity = sha256_json(known)[:8]

    def side(self, number: int) -> list[Annotation]:
        """Return the queries of one fold."""
        return [record for record in self.records if fold(record.vid) == number]

    def ask(self, records: Sequence[Annotation], model: Grounder | Path) -> list[Prediction]:
        """Return the first answers of a model."""
        grounder = model
        if isinstance(model, Path):
            grounder = zsvg.load(model, backbone=self.backbone)
        answers, failures = zsvg.predict(grounder, records, self.files)
        detach_adapters(self.backbone)
        for failure in failures.values():
            say(f"error: {failure}")
        return answers

    def overlaps(self, answers: Iterable[Prediction]) -> list[float]:
        """Return the IoU of each query's first answer, in the order of the records."""
        by_qid = {answer.qid: answer for answer in answers}
        ranked = [by_qid[r.qid].pred_relevant_windows or () for r in self.records]
        best, _, _ = best_overlaps(ranked, [r.relevant_windows for r in self.records], 1)
        return [round(float(value), 6) for value in best[:, 0]]

    def runs(self, rows: Sequence[str], make: Run, seed: int) -> list[list[float]]:
        """Return the overlaps of a run's rows, made unless their files are there."""
        files = [
            self.out
            / "runs"
            / f"{row.replace(' ', '_').replace(',', '')}_{seed}_{self.identity}.json"
            for row in rows
        ]
        if not all(file.exists() for file in files):
            made = make(seed)
            for row, file in zip(rows, files, strict=True):
                overlaps = self.overlaps(made[row])
                write_json(file, {"run": row, "seed": seed, "overlaps": overlaps})
        return [json.loads(file.read_text(encoding="utf-8"))["overlaps"] for file in files]

    def run(self, row: str, make: Callable[[int], list[Prediction]], seed: int) -> list[float]:
        """Return the overlaps of a run with one row."""
        return self.runs([row], lambda seed: {row: make(seed)}, seed)[0]

    def tuned(
        self,
        row: str,
        recipe: str,
        head: str,
        labels: Labels,
        *,
        controls: bool = False,
        supervision: Level = "full",
        **training: Any,
    ) -> Run:
        """Return a run that tunes on `labels(fold, seed)` and answers the other fold."""

        def make(seed: int) -> dict[str, list[Prediction]]:
            made: dict[str, list[Prediction]] = {}
            # A run that was interrupted may have been another one.
            shutil.rmtree(self.out / "models", ignore_errors=True)
            chosen = zsvg.load_recipe(recipe).with_head(head, members=self.members)
            chosen = chosen.with_training(**self.recipe, **training)
            for number in (0, 1):
                folder = self.out / "models" / f"{recipe}-{head}-{number}"
                zsvg.tune(
                    labels(number, seed),
                    self.files,
                    self.backbone,
                    folder,
                    recipe=chosen,
                    options=TuneOptions(seed=seed, supervision=supervision),
                )
                asked = self.side(1 - number)
                made[row] = made.get(row, []) + self.ask(asked, folder)
                if controls:
                    foreign, misled = (f"{row}, {what}" for what in CONTROLS[:2])
                    others = other_sentences(asked, seed)
                    made[foreign] = made.get(foreign, []) + self.ask(others, folder)
                    made[misled] = made.get(misled, []) + self.misled(asked, others, folder)
            shutil.rmtree(self.out / "models", ignore_errors=True)
            return made

        return make

    def vector(self, record: Annotation) -> NDArray[np.float32]:
        """Return a query (D,), as the bare backbone has it."""
        text = f"{self.backbone.template} {record.query}".strip()
        return self.backbone.encode_text([text]).pooled[0].cpu().numpy()

    def aligned(self, labels: Labels, row: str, supervision: Level = "full") -> Run:
        """Return a run without a head: sentences aligned on the other fold, and so by others."""
        amount = USUAL_AMOUNT if supervision == "weak" else AMOUNTS[1]

        def make(seed: int) -> dict[str, list[Prediction]]:
            made: dict[str, list[Prediction]] = {}
            for number in (0, 1):
                told = hide(labels(number, seed), supervision, seed)
                grounder = Grounder(self.backbone)
                videos = {a.vid: grounder.encode(self.files[a.vid]).frames for a in told}
                alignment = alignment_of(told, videos, self.backbone, told=supervision)
                assert alignment is not None
                asked = self.side(1 - number)
                for record, other in zip(asked, other_sentences(asked, seed), strict=True):
                    video = grounder.encode(self.files[record.vid])
                    for name, whose in ((row, record), (f"{row}, {CONTROLS[2]}", other)):
                        look = alignment.look(self.vector(whose))
                        turned = self.vector(record) + amount * look
                        curve = self.backbone.relevance(video.frames.features, turned)
                        moment = grounder.read(video, curve, 1)
                        made.setdefault(name, []).append(answer(record, moment))
            return made

        return make

    def misled(
        self, records: Sequence[Annotation], others: Sequence[Annotation], model: Path
    ) -> list[Prediction]:
        """Answer by the similarity of each sentence and what the head says of another one."""
        grounder = zsvg.load(model, backbone=self.backbone)
        answers = []
        for record, other in zip(records, others, strict=True):
            video = grounder.encode(self.files[record.vid])
            similar = grounder.similarity(video, record.query)
            learned = grounder.learned(video, other.query)
            curve = mixed(similar, learned, 1.0 if grounder.share is None else grounder.share)
            answers.append(answer(record, grounder.read(video, curve, 1)))
        detach_adapters(self.backbone)
        return answers

    def moved(self, labels: Labels) -> Labels:
        """Return what gives every label to another video, at the same part of it."""

        def other(number: int, seed: int) -> list[Annotation]:
            made = labels(number, seed)
            lengths = {label.vid: label.duration for label in made}
            place = baselines.another_video(set(lengths), seed)
            return [
                replace(
                    label,
                    vid=place[label.vid],
                    duration=lengths[place[label.vid]],
                    relevant_windows=tuple(
                        (
                            start / label.duration * lengths[place[label.vid]],
                            end / label.duration * lengths[place[label.vid]],
                        )
                        for start, end in label.relevant_windows
                    ),
                )
                for label in made
            ]

        return other

    def foreign(self, seed: int) -> list[Prediction]:
        """Ask every video the sentences of another one."""
        return self.ask(other_sentences(self.records, seed), Grounder(self.backbone))

    def few(self, count: int, number: int, seed: int) -> list[Annotation]:
        """Return the queries of so many videos of a fold."""
        return list(shots(self.side(number), count, seed))

    def beside(self, source: Labels, count: int) -> Labels:
        """Return labels without an annotator, and true ones of so many videos beside them."""

        def labels(number: int, seed: int) -> list[Annotation]:
            return choose_labels(
                source(number, seed),
                also=self.side(number),
                also_weight=TRUE_WEIGHT,
                shot_count=count,
                seed=seed,
            )[0]

        return labels

    def together(self, *sources: Labels) -> Labels:
        """Return the labels of several sources as one list."""

        def labels(number: int, seed: int) -> list[Annotation]:
            return [
                replace(label, qid=f"{label.qid}-{place}")
                for place, source in enumerate(sources)
                for label in source(number, seed)
            ]

        return labels

    def found(self, phrases: Phrases) -> Labels:
        """Return what labels events of a fold's videos by words or sentences."""

        def labels(number: int, seed: int) -> list[Annotation]:
            videos = {record.vid: self.files[record.vid] for record in self.side(number)}
            return list(label_by_matching(videos, self.backbone, phrases, seed=seed).labels)

        return labels

    def wordless(self, number: int, seed: int) -> list[Annotation]:
        """Return events of a fold's videos, without a sentence."""
        videos = {record.vid: self.files[record.vid] for record in self.side(number)}
        report = zsvg.pseudo_label(
            videos, self.backbone, None, options=default_options(form="features"), seed=seed
        )
        return list(report.labels)


def answer(record: Annotation, moments: Sequence[Moment]) -> Prediction:
    """Return the first moment as the answer to a query."""
    return Prediction(
        qid=record.qid,
        query=record.query,
        vid=record.vid,
        pred_relevant_windows=((moments[0].start, moments[0].end, moments[0].score),),
    )
