"""Pseudo labels of QVHighlights val from captions alone: where they lie, and what they say.

    python scripts/audit_caption_labels.py --annotations highlight_val_release.jsonl \
        --captions caption_val/ --rephrasings query_val.jsonl --encoder all-MiniLM-L6-v2/ \
        --out runs/qvhighlights

Labels are those of `zsvg pseudo-label caption_val/ --backbone captions:ENCODER` with its defaults;
nothing was chosen on these annotations. OUT may be that of benchmark_qvhighlights.py, whose encoded
captions then serve; the labels are written there.

Where: precision is the best IoU of a label with a true window of its video, coverage the best IoU
of a true window with a label; averaged over videos. Beside the labels stand spans from other
generators, at most as many in each video, and for all of them the same spans given to another
video, scaled to its length (mean of 20 exchanges): that knows as much about lengths and places.

What: of labels whose best IoU is at least .5, the cosine of their sentence with the query of that
window, and the rank of this cosine among those with 100 random queries of other videos. Beside it
stand all captions of the label's clips, and of the video's other clips, averaged.

Intervals are 95 % bootstraps over videos. Prints Markdown.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from benchmark_proposals import DRAWS, LOOSE, NAMES, Propose, exchanged, fixed, measure, ours
from benchmark_qvhighlights import encoded
from numpy.typing import NDArray

from zsvg.backbones.captions import CLIP_SECONDS, load_caption_backbone, read_captions
from zsvg.cli.terminal import progress, say
from zsvg.label.from_captions import label_captions
from zsvg.label.run import LabelOptions
from zsvg.moments import iou, spans_to_mask
from zsvg.records import Annotation, read_annotations, write_annotations
from zsvg.video.finding import find_captions

OTHERS = 100  # queries of other videos that a sentence is compared with
ON_TARGET = 0.5
OVERLAP = LabelOptions().queries.overlap
LABELS = "zsvg labels"
# At most as many spans as the video has labels. Unions of few parts overlap much: at the labels'
# own bound on overlap there would be too few.
CONTROLS: Mapping[str, Propose] = {
    "best proposals, no sentences": ours(nms=OVERLAP, greedy=False),
    "psvl by fit": ours(kind="psvl"),
    "psvl by chance": ours(kind="psvl", **LOOSE),
    "uniform by fit": ours(kind="uniform"),
    "uniform by chance": ours(kind="uniform", **LOOSE),
    "random": ours(kind="random", rank="chance", nms=OVERLAP),
    "fixed windows": fixed,
}
WHAT = ("cosine", "with others", "first of 101", "mean rank of 101")

Rows = Mapping[str, NDArray[np.float32]]
Table = NDArray[np.float64]


class Remembering:
    """A sentence encoder that encodes no sentence twice."""

    def __init__(self, encoder: object, known: Mapping[str, NDArray[np.float32]]) -> None:
        self.encoder = encoder
        self.width, self.fingerprint = encoder.width, encoder.fingerprint
        self.weigh, self.relevance = encoder.weigh, encoder.relevance
        self.known = dict(known)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (N, width) rows."""
        new = sorted(set(texts) - self.known.keys())
        self.known.update(zip(new, self.encoder.encode(new), strict=True))
        return np.array([self.known[text] for text in texts], np.float32).reshape(-1, self.width)


def with_interval(values: Table) -> Table:
    """Return (columns, 3): mean over videos (V, columns), and its 95 % bootstrap interval."""
    picks = np.random.default_rng(0).integers(0, len(values), (DRAWS, len(values)))
    means = np.array([values[pick].mean(axis=0) for pick in picks])
    low, high = np.quantile(means, (0.025, 0.975), axis=0)
    return np.stack((values.mean(axis=0), low, high), axis=1)


def markdown(title: str, columns: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Print one table."""
    print(f"\n{title}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for line in lines:
        print(f"| {' | '.join(line)} |", flush=True)


def cells(values: Table, form: str = "{:.3f} [{:.3f}, {:.3f}]") -> list[str]:
    """Return the mean of each column with its interval."""
    return [form.format(*row) for row in with_interval(values)]


def where(
    spans: Callable[[int, str], list[NDArray[np.float64]]],
    truth: Sequence[NDArray[np.float64]],
    seeds: Sequence[int],
    names: Sequence[str],
) -> None:
    """Measure the labels and the controls; print three tables.

    Args:
        spans: Seed and name -> the spans of each video, as shares of it.
        truth: The true windows of each video, as shares of it.
        seeds: Of labels, controls and exchanges.
        names: Rows; the first one are the labels.
    """
    own, others, counts = {}, {}, {}
    with progress("where", len(names)) as advance:
        for done, name in enumerate(names, start=1):
            found = [spans(seed, name) for seed in seeds]
            own[name] = np.mean([measure(one, truth) for one in found], axis=0)
            others[name] = np.mean(
                [exchanged(one, truth, seed) for one, seed in zip(found, seeds, strict=True)],
                axis=0,
            )
            counts[name] = np.mean([len(video) for one in found for video in one])
            advance(done)
    columns = ("spans", "n", *NAMES)
    signed = "{:+.3f} [{:+.3f}, {:+.3f}]"
    markdown(
        f"Best IoU, {len(truth)} videos, {len(seeds)} seeds",
        columns,
        [(name, f"{counts[name]:.1f}", *cells(own[name])) for name in names],
    )
    markdown(
        "The same less that of another video's spans",
        columns,
        [(n, f"{counts[n]:.1f}", *cells(own[n] - others[n], signed)) for n in names],
    )
    markdown(
        f"{names[0]} less each row",
        columns,
        [(n, f"{counts[n]:.1f}", *cells(own[names[0]] - own[n], signed)) for n in names[1:]],
    )


def agreement(rows: NDArray[np.float32], query: NDArray, others: NDArray) -> list[float]:
    """Return the columns of `WHAT` for sentences (N, D), averaged over them."""
    mine, theirs = rows @ query, rows @ others.T
    ranks = 1 + (theirs > mine[:, None]).sum(axis=1)
    return [mine.mean(), theirs.mean(), (ranks == 1).mean(), ranks.mean()]


def what(
    labels: Sequence[Sequence[Annotation]],
    truth: Sequence[Annotation],
    videos: Rows,
    queries: Rows,
    encoder: Remembering,
) -> None:
    """Compare the sentences of labels on a true window with its query; print one table.

    Args:
        labels: Those of each seed.
        truth: With real queries.
        videos: vid -> rows of its captions.
        queries: qid -> rows, the first one of the query as it was asked.
        encoder: Of the labels' sentences.
    """
    asked = np.array([queries[str(a.qid)][0] for a in truth])
    names = np.array([a.vid for a in truth])
    draw = np.random.default_rng(0)
    found: dict[str, dict[str, list[list[float]]]] = {}
    count, on_target = 0, 0
    for label in (label for seed in labels for label in seed):
        count += 1
        (window,) = label.relevant_windows
        here = np.flatnonzero(names == label.vid)
        best = [iou([window], truth[i].relevant_windows).max() for i in here]
        if not len(here) or max(best) < ON_TARGET:
            continue
        on_target += 1
        query = asked[here[int(np.argmax(best))]]
        others = asked[draw.choice(np.flatnonzero(names != label.vid), OTHERS, replace=False)]
        rows = videos[label.vid]
        rows, seconds = rows[rows.any(axis=1)], CLIP_SECONDS * np.flatnonzero(rows.any(axis=1))
        inside = spans_to_mask([window], seconds + CLIP_SECONDS / 2)
        sentences = {
            "the label's sentence": encoder.encode([label.query]),
            "all captions of its clips": rows[inside],
            "all captions of the video's other clips": rows[~inside],
        }
        for name, some in sentences.items():
            if len(some):
                numbers = agreement(some, query, others)
                found.setdefault(name, {}).setdefault(label.vid, []).append(numbers)
    lines = []
    for name, by_video in found.items():
        values = np.array([np.mean(by_video[vid], axis=0) for vid in sorted(by_video)])
        lines.append(
            (name, *cells(values[:, :3]), *cells(values[:, 3:], "{:.1f} [{:.1f}, {:.1f}]"))
        )
    markdown(
        f"Sentence and true query: {on_target / len(labels):.0f} of {count / len(labels):.0f} "
        f"labels with an IoU of at least {ON_TARGET}, in {len(next(iter(found.values())))} videos",
        ("sentences", *WHAT),
        lines,
    )


def main() -> None:
    """Make the labels and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--captions", type=Path, required=True, help="folder of VIDEO.jsonl")
    parser.add_argument("--rephrasings", type=Path, required=True, help="query_val.jsonl")
    parser.add_argument("--encoder", required=True, help="sentence encoder folder or id")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    annotations = read_annotations(args.annotations)
    videos, queries = encoded(args)
    tracks = find_captions(args.captions)
    backbone = load_caption_backbone(f"captions:{args.encoder}")
    known = {
        caption: row
        for vid, path in tracks.items()
        for caption, row in zip(read_captions(path).captions, videos[vid], strict=True)
        if caption
    }
    backbone.encoder = Remembering(backbone.encoder, known)
    labels = []
    for seed in args.seeds:
        report = label_captions(tracks, backbone, seed=seed)
        for failure in report.failures.values():
            say(f"error: {failure}")
        write_annotations(args.out / f"labels-{seed}.jsonl", report.labels)
        labels.append(report.labels)
        say(f"seed {seed}: {len(report.labels)} labels, {len(report.silent)} videos without one")

    lengths = {a.vid: a.duration for a in annotations}
    true: dict[str, list[tuple[float, float]]] = {}
    for a in annotations:
        true.setdefault(a.vid, []).extend(a.relevant_windows)
    mine: list[dict[str, list[tuple[float, float]]]] = []
    for some in labels:
        mine.append({})
        for label in some:
            mine[-1].setdefault(label.vid, []).extend(label.relevant_windows)
    vids = sorted(set(true).intersection(*mine))
    say(f"{len(vids)} of {len(true)} videos have labels of every seed; the others are left out")

    def spans(seed: int, name: str) -> list[NDArray[np.float64]]:
        if name == LABELS:
            own = mine[args.seeds.index(seed)]
            return [np.array(own[vid]) / lengths[vid] for vid in vids]
        sizes = [len(mine[args.seeds.index(seed)][vid]) for vid in vids]
        return [
            CONTROLS[name](videos[vid], size, seed) * len(videos[vid]) * CLIP_SECONDS / lengths[vid]
            for vid, size in zip(vids, sizes, strict=True)
        ]

    truth = [np.unique(true[vid], axis=0) / lengths[vid] for vid in vids]
    where(spans, truth, args.seeds, (LABELS, *CONTROLS))
    what(labels, annotations, videos, queries, backbone.encoder)


if __name__ == "__main__":
    main()
