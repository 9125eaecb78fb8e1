"""NExT-GQA from captions: which moment of a video answers a question.

    python scripts/benchmark_nextgqa.py --captions captions.json.gz --annotations gsub_val.json \
        --questions val.csv.gz --encoder all-MiniLM-L6-v2/ --out runs/nextgqa

CAPTIONS maps each video to styles, and each of these to one caption per `--clip-seconds`.
Questions of videos without captions are left out. Nothing is trained: captions and questions are
encoded by one frozen sentence encoder. Two rows for each style: the question alone, and the
question with its true answer behind it, which is another task. Settings of the cross-fit rows and
the fixed window are chosen on one fold of videos, by mIoU, and reported on the other. Trivial rows
stand beside: sentences of other videos, answers of other videos, the same lengths elsewhere.
Intervals are paired bootstraps over videos.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
from footing import elsewhere, fold, other_sentences

import zsvg
from zsvg.cli.terminal import progress, say, table
from zsvg.datasets import convert
from zsvg.evaluation import baselines
from zsvg.evaluation.intervals import gain
from zsvg.evaluation.metrics import best_overlaps
from zsvg.evaluation.protocols.nextgqa import score
from zsvg.files import read_bytes, write_json, write_text
from zsvg.grounding.grounder import Grounder
from zsvg.records import Annotation, Prediction
from zsvg.scorers.find import find_moments
from zsvg.scorers.options import ScorerOptions

COLUMNS = ("mIoP", "IoP@0.3", "IoP@0.5", "mIoU", "IoU@0.3", "IoU@0.5")
PUBLISHED = "Published, all of val or test and with a large model's answers: see NExT-GQA's paper."

Answers = list[Prediction]


def write_captions(style: str, captions: dict[str, dict[str, list[str]]], folder: Path) -> None:
    """Write one style as files of ready captions."""
    for vid, styles in captions.items():
        lines = [{"clip": clip, "caption": text} for clip, text in enumerate(styles[style])]
        write_text(folder / f"{vid}.jsonl", "".join(json.dumps(line) + "\n" for line in lines))


def settings() -> list[ScorerOptions]:
    """Return the grid of the cross-fit rows."""
    return [
        ScorerOptions(kind=kind, smooth=smooth, spread=spread, bias=bias)
        for kind, smooth, spread, bias in product(
            ("threshold_runs", "max_sum", "correlation"), (1.0, 2.0, 4.0), (0.0, 0.2),
            (0.0, 0.25, 0.5),
        )
        if kind != "correlation" or bias == 0.0
    ]  # fmt: skip


class Style:
    """One style of captions, encoded, and its questions."""

    def __init__(
        self, grounder: Grounder, folder: Path, records: Sequence[Annotation], with_answer: bool
    ) -> None:
        self.grounder = grounder
        self.records = list(records)
        if with_answer:
            self.records = [replace(r, query=f"{r.query} {r.extra['answer']}") for r in records]
        found = grounder.find(folder)
        self.videos = {vid: grounder.encode(found[vid]) for vid in {r.vid for r in records}}

    def curves(self, records: Sequence[Annotation]) -> list[np.ndarray]:
        """Return how well every clip fits each question."""
        with progress("questions", len(records)) as advance:
            found = []
            for done, r in enumerate(records, 1):
                found.append(self.grounder.ground(self.videos[r.vid], r.query, top_k=1).curve)
                advance(done)
        return found

    def decoded(
        self, curves: Sequence[np.ndarray], options: Callable[[Annotation], ScorerOptions]
    ) -> Answers:
        """Return the best moment of every curve, inside the video."""
        answers = []
        for record, curve in zip(self.records, curves, strict=True):
            frames = self.videos[record.vid].frames
            spans, scores = find_moments(curve, frames.edges, options(record), frames.features)
            start, end = np.minimum(spans[0], record.duration).tolist()
            windows = ((min(start, end - 1e-3), end, float(scores[0])),)
            answers.append(
                Prediction(qid=record.qid, query=record.query, vid=record.vid,
                           pred_relevant_windows=windows)
            )  # fmt: skip
        return answers

    def overlaps(self, answers: Answers) -> np.ndarray:
        """Return the IoU of each answer."""
        windows = [answer.pred_relevant_windows or () for answer in answers]
        return best_overlaps(windows, [r.relevant_windows for r in self.records], 1)[0][:, 0]

    def cross_fit(self, curves: Sequence[np.ndarray]) -> Answers:
        """Answer each fold by the setting whose mIoU is best on the other one."""
        grid = settings()
        sides = np.array([fold(record.vid) for record in self.records])
        tried = [self.decoded(curves, lambda _, o=options: o) for options in grid]
        means = np.array([[self.overlaps(a)[sides == s].mean() for s in (0, 1)] for a in tried])
        best = means.argmax(axis=0)
        for side in (0, 1):
            say(f"fold {side} by what is best on the other: {grid[best[1 - side]]}")
        return [tried[best[1 - side]][place] for place, side in enumerate(sides)]


def main() -> None:
    """Make the rows and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--captions", type=Path, required=True)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--encoder", required=True, help="sentence encoder folder, id, or tfidf")
    parser.add_argument("--clip-seconds", type=float, default=1.0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    captions = json.loads(read_bytes(args.captions))
    found = convert("nextgqa", args.annotations, questions=args.questions).records
    records = [record for record in found if record.vid in captions]
    grounder = zsvg.load(f"captions:{args.encoder}", "cpu")
    grounder.backbone.seconds = args.clip_seconds
    made: dict[str, list[Answers]] = {
        "whole video": [baselines.whole_video(records)],
        "best fixed window of the other fold": [_fixed(records)],
        "random": [baselines.random_windows(records, seed) for seed in args.seeds],
    }
    for style in sorted(next(iter(captions.values()))):
        folder = args.out / "captions" / style
        write_captions(style, captions, folder)
        for with_answer in (False, True):
            asked = Style(grounder, folder, records, with_answer)
            name = f"{style}, question{' and answer' * with_answer}"
            curves = asked.curves(asked.records)
            free = asked.decoded(
                curves, lambda r, a=asked: grounder.scorer_for(a.videos[r.vid].frames.fps)
            )
            made[f"{name}: training-free"] = [free]
            made[f"{name}: settings cross-fit"] = [asked.cross_fit(curves)]
            if style == sorted(next(iter(captions.values())))[0]:
                others = asked.curves(other_sentences(asked.records, args.seeds[0]))
                made[f"{name}: sentences of other videos"] = [
                    asked.decoded(
                        others, lambda r, a=asked: grounder.scorer_for(a.videos[r.vid].frames.fps)
                    )
                ]
                made[f"{name}: answers of other videos"] = [
                    baselines.exchanged(free, records, seed=seed) for seed in args.seeds
                ]
                made[f"{name}: the same lengths elsewhere"] = [
                    elsewhere(free, records, seed) for seed in args.seeds
                ]
    _report(made, records, args.out)


def _fixed(records: Sequence[Annotation]) -> Answers:
    sides = [[r for r in records if fold(r.vid) == side] for side in (0, 1)]
    return [
        answer
        for side in (0, 1)
        for answer in baselines.fixed_window(
            sides[1 - side], *baselines.fit_fixed_window(sides[side])
        )
    ]


def _report(made: dict[str, list[Answers]], records: Sequence[Annotation], out: Path) -> None:
    truth = [record.relevant_windows for record in records]
    vids = [record.vid for record in records]

    def overlaps(answers: Answers) -> np.ndarray:
        known = {answer.qid: answer.pred_relevant_windows or () for answer in answers}
        return 100 * best_overlaps([known[r.qid] for r in records], truth, 1)[0][:, 0]

    base = overlaps(made["whole video"][0])
    lines, kept = [], {}
    for name, runs in made.items():
        results = [score(answers, records) for answers in runs]
        values = [100 * float(np.mean([result[c] for result in results])) for c in COLUMNS]
        more = gain(np.mean([overlaps(answers) for answers in runs], axis=0), base, vids)
        shown = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*more)
        lines.append((name, *(f"{value:.1f}" for value in values), shown))
        kept[name] = {"numbers": dict(zip(COLUMNS, values, strict=True)), "gain in mIoU": more}
    title = f"{len(records)} questions of {len(set(vids))} videos"
    table(("", *COLUMNS, "mIoU - whole video"), lines, title=title)
    say(PUBLISHED)
    write_json(out / "results.json", kept)
    say(f"wrote {out / 'results.json'}")


if __name__ == "__main__":
    main()
