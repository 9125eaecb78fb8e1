"""Answers whose ends are moved by learned steps: tried on real frames, and in no head.

    python scripts/try_refine.py ...  # the arguments of benchmark_charades.py

The class of R-W-M, SM-RL, TripNet, TSP-PRL, STRONG and AVMR: a policy sees an answer and what lies
inside, beside and at the ends of it, and moves, widens or narrows it, up to six times, or stops. It
learns first from the expected gain in IoU of every single step, then from that of whole walks by
policy gradient, beside a walk of its best steps (self-critical). Labels of every fifth video choose
the weights and how many steps are taken, none among them.

Starts: the training-free answer; that of sentences aligned on true labels; that of a head tuned on
them. A policy learns from one fold and answers the other. Its own starts are of models that did not
see their videos: of the one half of a fold by what was learned on the other.
Policies: "place and length" sees no frame and no sentence, "curves" also the curve that the answer
was read from and the training-free one, "frames" also frames and sentence themselves. Controls:
policy "curves" given the curves of another video's query, and steps that are drawn. "First step
alone" is the same policy, stopped. Gains are over no step, with paired bootstraps over videos.

Videos have as many rows of features each. One small file for each start and each run lies in
OUT/runs and is not made again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial

import numpy as np
import torch
from film import Bench, arguments
from numpy.typing import NDArray
from walks import SEES, Look, Queries, Start, learn, walk

import zsvg
from zsvg.cli.terminal import progress, say, table
from zsvg.evaluation import baselines
from zsvg.evaluation.intervals import gain
from zsvg.files import write_json
from zsvg.grounding.alignment import AMOUNTS
from zsvg.grounding.grounder import Grounder
from zsvg.grounding.model_folder import detach_adapters
from zsvg.records import Annotation, Prediction
from zsvg.training.aligning import alignment_of
from zsvg.training.held_out import split_by_video
from zsvg.training.options import TuneOptions

STARTS = ("training-free", "aligned", "tuned", "words")
RANDOM, FOREIGN, FIRST = "drawn", "curves of other videos", "curves, first step alone"


def half(vid: str) -> int:
    """Return 0 or 1 by name, whatever the fold."""
    return int(hashlib.md5(vid.encode()).hexdigest(), 16) % 2


def answerer(
    bench: Bench, kind: str, told: Sequence[Annotation]
) -> Callable[[Annotation], tuple[tuple[float, float], NDArray[np.float32]]]:
    """Return what answers a query with a window and its curve, learned from `told`."""
    grounder = Grounder(bench.backbone)
    if kind == "aligned":
        videos = {a.vid: grounder.encode(bench.files[a.vid]).frames for a in told}
        alignment = alignment_of(told, videos, bench.backbone, told="full")
    if kind == "tuned":
        folder = bench.out / "models" / "refine"
        shutil.rmtree(folder, ignore_errors=True)
        recipe = zsvg.load_recipe("head-only").with_training(**bench.recipe)
        zsvg.tune(
            told, bench.files, bench.backbone, folder, recipe=recipe, options=TuneOptions(seed=0)
        )
        grounder = zsvg.load(folder, backbone=bench.backbone)

    def ask(record: Annotation) -> tuple[tuple[float, float], NDArray[np.float32]]:
        video = grounder.encode(bench.files[record.vid])
        if kind == "aligned":
            vector = bench.vector(record)
            # Of few labels there is none.
            turned = vector + (AMOUNTS[1] * alignment.look(vector) if alignment else 0)
            curve = bench.backbone.relevance(video.frames.features, turned)
            moment = grounder.read(video, curve, 1)[0]
        else:
            grounding = grounder.ground(video, record.query, top_k=1)
            moment, curve = grounding.moments[0], grounding.curve
        return (moment.start, moment.end), curve

    return ask


def starts_of(bench: Bench, kind: str, number: int, seed: int, learn: bool) -> list[Start]:
    """Return the starts that a policy of fold `number` learns from, or is asked."""
    if kind == "words" and learn:
        return kept(bench, f"words {number} {seed}", "training-free", [],
                    partial(bench.found(bench.words), number, seed))  # fmt: skip
    if kind in ("words", "training-free"):
        side = number if learn else 1 - number
        return kept(bench, f"free {side}", "training-free", [], partial(bench.side, side))
    if not learn:
        told, asked = bench.side(number), partial(bench.side, 1 - number)
        return kept(bench, f"{kind} {number}", kind, told, asked)
    parts = [[r for r in bench.side(number) if half(r.vid) == part] for part in (0, 1)]
    return [
        start
        for part in (0, 1)
        for start in kept(bench, f"{kind} {number}{part}", kind, parts[part],
                          lambda part=part: parts[1 - part])  # type: ignore[misc]
    ]  # fmt: skip


def kept(
    bench: Bench,
    name: str,
    kind: str,
    told: Sequence[Annotation],
    asked: Callable[[], Sequence[Annotation]],
) -> list[Start]:
    """Return the starts of a file, made unless it is there."""
    file = bench.out / "runs" / f"start_{name.replace(' ', '_')}_{bench.identity}.json"
    if not file.exists():
        ask, plain, made = answerer(bench, kind, told), Grounder(bench.backbone), []
        for record in asked():
            window, curve = ask(record)
            free = plain.similarity(plain.encode(bench.files[record.vid]), record.query)
            curves = [[round(float(value), 6) for value in one] for one in (curve, free)]
            made.append({"record": asdict(record), "window": window, "curves": curves})
        detach_adapters(bench.backbone)
        write_json(file, made)
    found = json.loads(file.read_text(encoding="utf-8"))
    return [Start(Annotation(**s["record"]), s["window"], s["curves"]) for s in found]


class Refined:
    """Policies of one start, learned and asked."""

    def __init__(self, bench: Bench, kind: str) -> None:
        self.bench, self.kind = bench, kind
        grounder = Grounder(bench.backbone)
        vids = {record.vid for record in bench.records}
        self.frames = {vid: grounder.encode(bench.files[vid]).frames.features for vid in vids}

    def queries(self, starts: Sequence[Start], look: Look | None = None) -> tuple[Queries, Look]:
        """Return queries, and what they are looked at by: the given one, or their own."""
        sentences = np.stack([self.bench.vector(start.record) for start in starts])
        vids = sorted({start.record.vid for start in starts})
        if look is None:
            frames = np.concatenate([self.frames[vid] for vid in vids])
            look = Look(frames[:: len(vids) // 64 + 1], sentences)
        seen = {vid: look.of_frames(self.frames[vid]) for vid in vids}
        frames = np.stack([seen[start.record.vid] for start in starts])
        return Queries(starts, frames, look.of_sentences(sentences)), look

    def exchanged(self, starts: Sequence[Start], seed: int) -> list[Start]:
        """Return the starts with the curves of another video's queries."""
        other = baselines.another_video({start.record.vid for start in starts}, seed)
        curves = {start.record.vid: start.curves for start in starts}
        return [
            Start(start.record, start.window, curves[other[start.record.vid]]) for start in starts
        ]

    def make(self, seed: int) -> dict[str, list[Prediction]]:
        """Return row -> answers to all queries."""
        made: dict[str, list[Prediction]] = {}
        for number in (0, 1):
            known = starts_of(self.bench, self.kind, number, seed, learn=True)
            asked = starts_of(self.bench, self.kind, number, seed, learn=False)
            held = {a.vid for a in split_by_video([s.record for s in known], 0.2, seed)[1]}
            sides = torch.tensor([start.record.vid in held for start in known])
            own, look = self.queries(known)
            theirs, _ = self.queries(asked, look)
            foreign, _ = self.queries(self.exchanged(asked, seed), look)
            found = {"": theirs.window, RANDOM: walk(theirs, "", None, seed)[-1]}
            for sees in SEES:
                policy, steps = learn(own.some(~sides), own.some(sides), sees, seed)
                found[sees] = walk(theirs, sees, policy)[steps]
                if sees == "curves":
                    found[FIRST] = walk(theirs, sees, policy)[min(steps, 1)]
                    found[FOREIGN] = walk(foreign, sees, policy)[steps]
            for name, windows in found.items():
                made.setdefault(self.row(name), []).extend(map(prediction, asked, windows.tolist()))
        return made

    def row(self, name: str) -> str:
        """Return what a row is called; "" takes no step."""
        return f"refine {self.kind}, {name}" if name else f"refine {self.kind}"


def prediction(start: Start, window: Sequence[float]) -> Prediction:
    """Return a window, fractions of the video, as an answer."""
    record, (first, last) = start.record, window
    moments = ((first * record.duration, last * record.duration, 1.0),)
    return Prediction(
        qid=record.qid, query=record.query, vid=record.vid, pred_relevant_windows=moments
    )


def main() -> None:
    """Make the runs that are missing and print all."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--starts", nargs="*", choices=STARTS, default=STARTS)
    args = parser.parse_args()
    bench = Bench(args)
    vids, lines, kept_rows = [record.vid for record in bench.records], [], {}
    for kind in args.starts:
        refined, names = Refined(bench, kind), ("", *SEES, FIRST, FOREIGN, RANDOM)
        rows = [refined.row(name) for name in names]
        with progress(kind, len(bench.seeds)) as advance:
            runs = []
            for done, seed in enumerate(bench.seeds, 1):
                runs.append(bench.runs(rows, refined.make, seed))
                advance(done)
        found = dict(zip(rows, 100 * np.array(runs).transpose(1, 0, 2), strict=True))
        still, blind = (found[refined.row(name)].mean(0) for name in ("", SEES[0]))
        for row, overlaps in found.items():
            recalls = [float((overlaps >= 100 * least).mean() * 100) for least in (0.3, 0.5, 0.7)]
            numbers = [*recalls, float(overlaps.mean())]
            gains = [gain(overlaps.mean(0), base, vids) for base in (still, blind)]
            shown = ["{:+.2f} [{:+.2f}, {:+.2f}]".format(*more) for more in gains]
            lines.append((row, *(f"{value:.1f}" for value in numbers), *shown))
            kept_rows[row] = {"numbers": numbers, "gain": gains[0], "gain over blind": gains[1]}
    header = ("", "R1@.3", "R1@.5", "R1@.7", "mIoU", "less no step", f"less {SEES[0]}")
    table(header, lines, title=f"{len(vids)} queries; {len(bench.seeds)} seeds")
    write_json(bench.out / "refine.json", kept_rows)
    say(f"wrote {bench.out / 'refine.json'}")


if __name__ == "__main__":
    main()
