"""Proposed events judged by the sentence, in place of windows of its curve: why no head does so.

    python scripts/try_events.py film --features frames.safetensors \
        --annotations charades_sta_test.txt --durations Charades_v1_test.csv.gz \
        --model ViT-L-14/openai --out runs/charades
    python scripts/try_events.py drawings --out runs/worlds

QSPN, SAP, MAN and SCDM ask which of a few candidates is meant. The candidates here are the events
that `zsvg.events.proposals` finds in the frames, and nothing is trained. An event is worth what the
training-free scorer would give it, the sum of the smoothed curve of the whole sentence above its
bias; "contrast" takes
the mean inside less the mean outside, weighted by length; "attention" lets alike events share what
they are worth. "best" is the event nearest to the truth, the most that a judge could reach.
Intervals are paired bootstraps over videos. Film is what `benchmark_charades.py` takes, drawings
the test videos of microworld's development domain.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from film import Bench, arguments
from footing import other_sentences
from numpy.typing import NDArray
from worlds import options as worlds_options
from worlds import worlds_of

from zsvg.cli.terminal import progress, table
from zsvg.evaluation.intervals import gain
from zsvg.events.proposals import ProposalOptions, propose
from zsvg.features.encoder import FrameFeatures
from zsvg.grounding.grounder import Grounder
from zsvg.moments import iou
from zsvg.records import Annotation, read_annotations
from zsvg.scorers.options import usual_scorer
from zsvg.scorers.transforms import smooth, standardised

COUNTS = (8, 12, 40)
_ALIKE = 0.01  # temperature of cosines between events; warmer loses more

Curve = NDArray[np.float64]
Spans = NDArray[np.float64]
Judge = Callable[[Curve, NDArray[np.bool_], float], Curve]


def sums(curve: Curve, inside: NDArray[np.bool_], bias: float) -> Curve:
    """Return the sum of a curve (T,) above its bias inside of each event (m, T)."""
    return inside @ (curve - bias)


def contrast(curve: Curve, inside: NDArray[np.bool_], bias: float) -> Curve:
    """Return the mean inside less the mean outside, weighted by the root of the length."""
    length = inside.sum(axis=1)
    within = inside @ curve
    rest = np.maximum(len(curve) - length, 1)
    return (within / length - (curve.sum() - within) / rest) * np.sqrt(length / len(curve))


def shared(worth: Curve, video: FrameFeatures, inside: NDArray[np.bool_]) -> Curve:
    """Return the mean worth (m,) of events, each weighted by how alike it looks."""
    means = inside @ video.features
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    weights = np.exp((means @ means.T - 1) / _ALIKE)
    return (weights / weights.sum(axis=1, keepdims=True)) @ worth


def events_of(video: FrameFeatures, count: int) -> tuple[Spans, NDArray[np.bool_]]:
    """Return at most `count` events (m, 2) in seconds, and which clips lie in them (m, T)."""
    found = ProposalOptions(count=count, greedy=True)
    spans, _ = propose(video.features, video.edges, options=found)
    inside = (video.centres >= spans[:, :1]) & (video.centres <= spans[:, 1:])
    full = inside.any(axis=1)
    return spans[full], inside[full]


def answers(
    grounder: Grounder, files: Mapping[str, Path], records: Sequence[Annotation], drawn: bool
) -> dict[str, list[float]]:
    """Return row -> IoU of each record's answer."""
    made: dict[str, list[float]] = {}
    seen = {vid: grounder.encode(files[vid]) for vid in {record.vid for record in records}}
    found = {(vid, n): events_of(seen[vid].frames, n) for vid in seen for n in COUNTS}
    with progress("sentences", len(records)) as advance:
        for done, record in enumerate(records, 1):
            video = seen[record.vid]
            similar = grounder.similarity(video, record.query)
            moment, *_ = grounder.read(video, similar, 1)

            def add(row: str, span: Sequence[float] | Spans, record: Annotation = record) -> None:
                best = iou([tuple(span)], record.relevant_windows).max()
                made.setdefault(row, []).append(float(best))

            add("windows of the curve", (moment.start, moment.end))
            scorer = usual_scorer(video.frames.fps, drawn=drawn)
            curve = smooth(similar.astype(np.float64), scorer.smooth * video.frames.fps)
            curve = standardised(curve)
            for count in COUNTS:
                spans, inside = found[record.vid, count]
                worth = sums(curve, inside, scorer.bias)
                add(f"{count} events", spans[worth.argmax()])
                other = contrast(curve, inside, scorer.bias)
                add(f"{count} events, contrast", spans[other.argmax()])
                alike = shared(worth, video.frames, inside)
                add(f"{count} events, attention", spans[alike.argmax()])
                nearest = iou(spans, record.relevant_windows).max(axis=1)
                add(f"{count} events, best", spans[nearest.argmax()])
            advance(done)
    return made


def report(rows: Mapping[str, Sequence[float]], vids: Sequence[str], title: str) -> None:
    """Print R1, mIoU and what is gained over windows of the curve."""
    base = 100 * np.array(rows["windows of the curve"])
    lines = []
    for name, row in rows.items():
        overlaps = np.array(row)
        cells = [100 * (overlaps >= x).mean() for x in (0.3, 0.5, 0.7)] + [100 * overlaps.mean()]
        more = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*gain(100 * overlaps, base, vids))
        lines.append((name, *(f"{cell:.1f}" for cell in cells), more))
    table(("", "R1@.3", "R1@.5", "R1@.7", "mIoU", "less windows"), lines, title=title)


def main() -> None:
    """Print the table of film or of drawings."""
    kind = sys.argv[1] if len(sys.argv) > 1 else ""
    if kind not in ("film", "drawings"):
        raise SystemExit("say film or drawings first")
    title = __doc__.splitlines()[0]
    if kind == "film":
        bench = Bench(arguments(title).parse_args(sys.argv[2:]))
        grounder, files, records = Grounder(bench.backbone), bench.files, bench.records
    else:
        world, *_ = worlds_of(worlds_options(title).parse_args(sys.argv[2:]))
        grounder, files = Grounder(world.backbone), world.videos("test")
        records = read_annotations(world.folder / "test" / "annotations.jsonl")
    drawn = kind == "drawings"
    rows = answers(grounder, files, records, drawn)
    asked = other_sentences(records, 0)
    rows |= {
        f"{name}, sentences of other videos": row
        for name, row in answers(grounder, files, asked, drawn).items()
        if name == "12 events"
    }
    report(rows, [record.vid for record in records], f"{len(records)} sentences; {kind}")


if __name__ == "__main__":
    main()
