"""Charades-STA on real frames: training-free, without labels, and with those of the other fold.

    python scripts/benchmark_charades.py --features frames.safetensors \
        --annotations charades_sta_test.txt --durations Charades_v1_test.csv.gz \
        --model ViT-L-14/openai --out runs/charades

FEATURES is what `zsvg tune --features` takes, rows spread evenly over each video, or a .safetensors
file of int8 codes with `mean` and `scale` (codes * scale + mean), in the joint space of MODEL's
sentences. Queries of videos without features are left out.

Groups of rows: "alignment" (sentences aligned on labels by a fixed amount, no head), "forms"
(labels without an annotator: of frames, of words, of words with half of the moments stitched into
other videos, of --sentences), "controls" (labels of other videos), and with true labels "heads",
"prompts" and "budgets". The videos are cut into two folds by name. What is chosen or learned is so
on one fold and reported on the other: settings of the cross-fit row, the best fixed window, and
heads. Rows with true labels ("cross-fit on test videos") learn from the queries of the other fold,
those without from its frames alone. Windows are cut to the video. Trivial rows stand beside:
windows of the training-free lengths elsewhere, sentences of other videos, answers of other videos;
and beside the rows of "forms" (but stitched) two controls: their models asked for sentences of
other videos, and their heads asked so while similarity is of the right sentence. Intervals are
paired bootstraps over videos, of the mean over seeds.

One small file for each run lies in OUT/runs and is not made again.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from footing import elsewhere, fold, other_sentences
from numpy.typing import NDArray
from safetensors.numpy import load_file

import zsvg
from zsvg.backbones.clip import load_backbone
from zsvg.cli.terminal import progress, say, table
from zsvg.datasets import convert
from zsvg.evaluation import baselines
from zsvg.evaluation.intervals import gain
from zsvg.evaluation.metrics import best_overlaps
from zsvg.evaluation.protocols.by_name import cut_to_video
from zsvg.features.from_files import FeatureFiles
from zsvg.files import sha256_json, write_json
from zsvg.grounding.alignment import AMOUNTS, FITTED
from zsvg.grounding.answers import Moment
from zsvg.grounding.grounder import Grounder
from zsvg.grounding.model_folder import detach_adapters
from zsvg.grounding.share import SHARES, mixed
from zsvg.label.by_matching import label_by_matching, read_lines, shipped_words
from zsvg.label.matching import Phrases
from zsvg.label.run import default_options
from zsvg.records import Annotation, Prediction
from zsvg.scorers.find import find_moments
from zsvg.scorers.options import ScorerOptions
from zsvg.training.aligning import alignment_of
from zsvg.training.held_out import DOUBTS
from zsvg.training.labels import shots
from zsvg.training.options import Training, TuneOptions

FREE = "training-free"
FORMS = ("features", "vocabulary", "stitched", "retrieved")
HEADS = ("regression", "map", "span", "set", "windows")
PROMPTS = (("head-only", "regression"), ("coop", "regression"), ("cocoop", "regression"),
           ("ppt", "pointing"))  # fmt: skip
STITCHED = 0.5
CONTROLS = (
    "asked for sentences of other videos", "its head asked so", "looks of other sentences"
)  # fmt: skip
PUBLISHED = (
    "Published, CLIP's own text tower: SPL 60.7 / 40.7 / 19.6 / 40.5 (adapts on 5,338 train "
    "videos); see each paper for what it was chosen on."
)

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


class Bench:
    """The material of all rows, and how their runs are made and kept."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.out: Path = args.out
        self.seeds: list[int] = args.seeds
        self.budgets: list[int] = args.budgets
        self.heads: list[str] = args.heads
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
        # Rows ask the frozen tower the same sentences again and again.
        plain = self.backbone.encode_text
        once = cache(lambda text: plain([text]))
        self.backbone.encode_text = lambda texts, model=None: (  # type: ignore[method-assign]
            once(texts[0]) if model is None and len(texts) == 1 else plain(texts, model)
        )
        durations = {record.vid: record.duration for record in self.records}
        self.files = self.backbone.files = replace(self.files, durations=durations)
        self.recipe: dict[str, Any] = {} if args.steps is None else {"steps": args.steps}
        # Runs of other material or defaults are others.
        known = [zsvg.__version__, self.backbone.fingerprint, asdict(ScorerOptions()), SHARES,
                 AMOUNTS, DOUBTS, FITTED, STITCHED, self.recipe, asdict(Training()),
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
        labels: Callable[[int, int], Sequence[Annotation]],
        *,
        controls: bool = False,
        **training: Any,
    ) -> Run:
        """Return a run that tunes on `labels(fold, seed)` and answers the other fold."""

        def make(seed: int) -> dict[str, list[Prediction]]:
            made: dict[str, list[Prediction]] = {}
            # A run that was interrupted may have been another one.
            shutil.rmtree(self.out / "models", ignore_errors=True)
            chosen = zsvg.load_recipe(recipe).with_head(head)
            chosen = chosen.with_training(**self.recipe, **training)
            for number in (0, 1):
                folder = self.out / "models" / f"{recipe}-{head}-{number}"
                zsvg.tune(
                    labels(number, seed),
                    self.files,
                    self.backbone,
                    folder,
                    recipe=chosen,
                    options=TuneOptions(seed=seed),
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

    def aligned(self, labels: Callable[[int, int], Sequence[Annotation]], row: str) -> Run:
        """Return a run without a head: sentences aligned on the other fold, and so by others."""

        def make(seed: int) -> dict[str, list[Prediction]]:
            made: dict[str, list[Prediction]] = {}
            for number in (0, 1):
                told = labels(number, seed)
                grounder = Grounder(self.backbone)
                videos = {a.vid: grounder.encode(self.files[a.vid]).frames for a in told}
                alignment = alignment_of(told, videos, self.backbone, told="full")
                assert alignment is not None
                asked = self.side(1 - number)
                for record, other in zip(asked, other_sentences(asked, seed), strict=True):
                    video = grounder.encode(self.files[record.vid])
                    for name, whose in ((row, record), (f"{row}, {CONTROLS[2]}", other)):
                        look = alignment.look(self.vector(whose))
                        turned = self.vector(record) + AMOUNTS[1] * look
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

    def moved(
        self, labels: Callable[[int, int], Sequence[Annotation]]
    ) -> Callable[[int, int], list[Annotation]]:
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

    def found(self, phrases: Phrases) -> Callable[[int, int], list[Annotation]]:
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


def settings() -> list[ScorerOptions]:
    """Return the grid of the cross-fit training-free row."""
    runs = [
        ScorerOptions(kind="threshold_runs", smooth=smooth, octaves=octaves, bias=bias)
        for smooth, octaves, bias in product((1.5, 2.0, 3.0), (1, 2, 3), (0.25, 0.5, 0.75))
    ]
    return runs + [
        ScorerOptions(kind="max_sum", smooth=smooth, bias=bias)
        for smooth, bias in product((2.0, 2.5, 3.0, 4.0), (0.2, 0.25, 0.3, 0.4))
    ]


def cross_fit(bench: Bench) -> list[Prediction]:
    """Answer each fold by the setting whose mIoU is best on the other one."""
    grounder, grid = Grounder(bench.backbone), settings()
    seen = {vid: grounder.encode(bench.files[vid]) for vid in {r.vid for r in bench.records}}
    curves = [grounder.ground(seen[r.vid], r.query, top_k=1).curve for r in bench.records]
    tried, sides = [], np.array([fold(record.vid) for record in bench.records])
    with progress("settings", len(grid)) as advance:
        for done, options in enumerate(grid, 1):
            answers = []
            for record, curve in zip(bench.records, curves, strict=True):
                frames = seen[record.vid].frames
                spans, scores = find_moments(curve, frames.edges, options, frames.features)
                windows = ((*spans[0].tolist(), float(scores[0])),)
                answers.append(
                    Prediction(qid=record.qid, query=record.query, vid=record.vid,
                               pred_relevant_windows=windows)
                )  # fmt: skip
            tried.append((answers, np.array(bench.overlaps(answers))))
            advance(done)
    best = [int(np.argmax([o[sides == side].mean() for _, o in tried])) for side in (0, 1)]
    for side in (0, 1):
        say(f"fold {side} is answered by what is best on the other: {grid[best[1 - side]]}")
    return [
        answer
        for side in (0, 1)
        for record, answer in zip(bench.records, tried[best[1 - side]][0], strict=True)
        if fold(record.vid) == side
    ]


def rows(bench: Bench, groups: Sequence[str]) -> dict[str, list[list[float]]]:
    """Make what is missing; return name -> overlaps by seed."""
    free = bench.ask(bench.records, Grounder(bench.backbone))
    best_window = [
        answer
        for side in (0, 1)
        for answer in baselines.fixed_window(
            bench.side(1 - side), *baselines.fit_fixed_window(bench.side(side))
        )
    ]
    made = {
        "whole video": [bench.overlaps(baselines.whole_video(bench.records))],
        "best fixed window of the other fold": [bench.overlaps(best_window)],
        "random": [
            bench.overlaps(baselines.random_windows(bench.records, seed)) for seed in bench.seeds
        ],
        "the same lengths elsewhere": [
            bench.overlaps(elsewhere(free, bench.records, seed)) for seed in bench.seeds
        ],
        "answers of other videos": [
            bench.overlaps(baselines.exchanged(free, bench.records, seed=seed))
            for seed in bench.seeds
        ],
        "sentences of other videos": [
            bench.run("sentences of other videos", bench.foreign, seed) for seed in bench.seeds
        ],
        FREE: [bench.overlaps(free)],
    }
    made["training-free, settings cross-fit"] = [
        bench.run("training-free cross-fit", lambda _: cross_fit(bench), 0)
    ]
    wanted: list[tuple[list[str], Run]] = []

    def want(
        row: str,
        recipe: str,
        head: str,
        labels: Callable[[int, int], Sequence[Annotation]],
        controls: bool = False,
        **training: Any,
    ) -> None:
        named = [row, *(f"{row}, {what}" for what in CONTROLS[:2] if controls)]
        wanted.append(
            (named, bench.tuned(row, recipe, head, labels, controls=controls, **training))
        )

    if "forms" in groups:
        words = bench.found(bench.words)
        forms = {"features": bench.wordless, "vocabulary": words, "stitched": words}
        if bench.sentences:
            forms["retrieved"] = bench.found(Phrases(sentences=bench.sentences))
        for form, head in product(bench.forms, bench.heads):
            if form in forms:
                row, rate = f"{form}, head-only + {head}", STITCHED * (form == "stitched")
                want(row, "head-only", head, forms[form], form != "stitched", stitch_rate=rate)
    if "controls" in groups:
        for form in bench.forms:
            if form == "vocabulary" or (form == "retrieved" and bench.sentences):
                labels = bench.found(
                    bench.words if form == "vocabulary" else Phrases(sentences=bench.sentences)
                )
                row = f"{form} of other videos, head-only + regression"
                want(row, "head-only", "regression", bench.moved(labels))
    if "alignment" in groups:
        sources = {"full": lambda n, _: bench.side(n), "vocabulary": bench.found(bench.words)}
        if bench.sentences:
            sources["retrieved"] = bench.found(Phrases(sentences=bench.sentences))
        for source, labels in sources.items():
            row = f"{source}, aligned sentences alone"
            wanted.append(([row, f"{row}, {CONTROLS[2]}"], bench.aligned(labels, row)))
    if "heads" in groups:
        for head in bench.heads:
            want(f"full, head-only + {head}", "head-only", head, lambda n, _: bench.side(n))
    if "prompts" in groups:
        for recipe, head in PROMPTS[1:]:
            want(f"full, {recipe} + {head}", recipe, head, lambda n, _: bench.side(n))
    if "budgets" in groups:
        for count in bench.budgets:
            want(
                f"labels of {count} videos, head-only + regression", "head-only", "regression",
                lambda n, seed, count=count: shots(bench.side(n), count, seed),
            )  # fmt: skip
    with progress("runs", len(wanted) * len(bench.seeds)) as advance:
        for done, ((named, make), seed) in enumerate(product(wanted, bench.seeds), 1):
            for row, overlaps in zip(named, bench.runs(named, make, seed), strict=True):
                made.setdefault(row, []).append(overlaps)
            advance(done)
    return made


def numbers(overlaps: np.ndarray) -> list[float]:
    """Return R1 at .3, .5 and .7, and mIoU, in percent."""
    return [100 * float((overlaps >= x).mean()) for x in (0.3, 0.5, 0.7)] + [
        100 * float(overlaps.mean())
    ]


def report(made: Mapping[str, list[list[float]]], bench: Bench) -> None:
    """Print the table, and write it as JSON."""
    vids = [record.vid for record in bench.records]
    base = 100 * np.mean(made[FREE], axis=0)
    lines, kept = [], {}
    for name, runs in made.items():
        by_seed = np.array([numbers(np.array(run)) for run in runs])
        mean = by_seed.mean(axis=0)
        spread = f" ± {by_seed[:, 3].std():.1f}" if len(runs) > 1 else ""
        more = gain(100 * np.mean(runs, axis=0), base, vids)
        shown = "" if name == FREE else "{:+.1f} [{:+.1f}, {:+.1f}]".format(*more)
        cells = [f"{value:.1f}" for value in mean]
        lines.append((name, str(len(runs)), *cells[:3], cells[3] + spread, shown))
        kept[name] = {"numbers": mean.tolist(), "seeds": len(runs), "gain in mIoU": more}
    header = ("", "seeds", "R1@.3", "R1@.5", "R1@.7", "mIoU", f"mIoU - {FREE}")
    title = f"{len(vids)} queries of {len(set(vids))} videos; {bench.backbone.name}"
    table(header, lines, title=title)
    say(PUBLISHED)
    write_json(bench.out / "results.json", kept)
    say(f"wrote {bench.out / 'results.json'}")


def main() -> None:
    """Make the rows that are missing and print all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--durations", type=Path, required=True)
    parser.add_argument("--model", required=True, help="whose sentences fit the features")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help="of each training (default: the recipes')")
    parser.add_argument("--heads", nargs="*", choices=HEADS, default=HEADS)
    parser.add_argument("--forms", nargs="*", choices=FORMS, default=FORMS)
    parser.add_argument("--budgets", type=int, nargs="*", default=[10, 30, 100], help="videos")
    parser.add_argument("--nouns", type=Path, help="a line each (default: the shipped list)")
    parser.add_argument("--actions", type=Path, help="likewise")
    parser.add_argument("--sentences", type=Path, help="of no video of FEATURES, a line each")
    groups = ("alignment", "forms", "controls", "heads", "prompts", "budgets")
    parser.add_argument("--groups", nargs="*", choices=groups, default=groups)
    args = parser.parse_args()
    bench = Bench(args)
    report(rows(bench, args.groups), bench)


if __name__ == "__main__":
    main()
