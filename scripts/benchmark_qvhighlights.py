"""QVHighlights val from captions alone: training-free, then adapted without labels.

    python scripts/benchmark_qvhighlights.py --annotations highlight_val_release.jsonl \
        --captions caption_val/ --rephrasings query_val.jsonl --encoder all-MiniLM-L6-v2/ \
        --out runs/qvhighlights

No frame is looked at: clips are the captions that VTG-GPT published, queries the originals and its
five rephrasings, all encoded by one frozen sentence encoder. The videos are cut into two halves;
every setting is chosen on one half and reported on the other, and the figure over all queries puts
the two reported halves together. Every other scorer stands beside the default one, cross-fit in the
same way, and a published decoder at its best setting in hindsight.

Rows of adaptation use no query and no window; "inductive" ones learn from the captions of the half
that is not reported, "transductive" ones from those that are. "centred" subtracts the mean caption.
"pseudo labels" trains a head of zsvg on them (regression, where no other is named) and adds its
relevance to the curve; "alone" are that head's own answers. "true windows" trains the regression
head on the queries and windows of the half that is not reported: what labels would buy. Gains over
the training-free row come with a 95 % bootstrap interval over queries. What was chosen and learned
is kept under OUT, so an interrupted benchmark continues.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby, product
from pathlib import Path

import numpy as np
from adapt_to_captions import (
    CLIP,
    Rows,
    Sampler,
    pseudo_labels,
    relevance,
    train,
    true_labels,
    unit,
)
from safetensors.numpy import load_file, save_file

from zsvg.backbones.captions import encode_captions, load_caption_backbone, read_captions
from zsvg.cli.terminal import say, table
from zsvg.evaluation.baselines import random_windows, whole_video
from zsvg.evaluation.protocols.qvhighlights import per_query, score
from zsvg.files import atomic_path, write_json
from zsvg.heads.by_name import HEADS
from zsvg.moments import iou
from zsvg.records import Annotation, Prediction, read_annotations, write_predictions
from zsvg.scorers.find import find_moments
from zsvg.scorers.options import ScorerOptions
from zsvg.scorers.scorers import SCORERS

COLUMNS = ("MR-full-R1@0.5", "MR-full-R1@0.7", "MR-full-mAP")
# REZE's decoder at the setting that does best for it here.
MAX_SUM = ScorerOptions(kind="max_sum", smooth=2.0, octaves=2, bias=0.5, nms=0.7, top_k=10)
WEIGHTS = (0.15, 0.3, 0.6)  # of the learned relevance beside the plain one
DRAWS = 2000  # of the bootstrap
FREE = "training-free"

Curves = Mapping[int | str, np.ndarray]


def half(vid: str) -> int:
    """Return 0 or 1 by name: no video is in both halves."""
    return zlib.crc32(vid.encode()) % 2


def encoded(args: argparse.Namespace) -> tuple[Rows, Rows]:
    """Return the rows of every video's captions, and of every query with its rephrasings."""
    file = args.out / "encoded.safetensors"
    if not file.exists():
        backbone = load_caption_backbone(f"captions:{args.encoder}")
        tensors = {}
        tracks = sorted(args.captions.glob("*.jsonl"))
        for number, path in enumerate(tracks, start=1):
            tensors[f"video {path.stem}"] = encode_captions(backbone, read_captions(path)).features
            if number % 100 == 0:
                say(f"encoded the captions of {number} of {len(tracks)} videos")
        for line in args.rephrasings.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            texts = [record["query"], *record["rephrased_query"]]
            tensors[f"query {record['qid']}"] = backbone.encoder.encode(texts)
        with atomic_path(file) as temporary:
            save_file(tensors, temporary)
    found = load_file(file)
    videos = {k.removeprefix("video "): v for k, v in found.items() if k.startswith("video ")}
    queries = {k.removeprefix("query "): v for k, v in found.items() if k.startswith("query ")}
    return videos, queries


def centred(
    annotations: Sequence[Annotation], videos: Rows, queries: Rows, *, transductive: bool
) -> tuple[Rows, Rows]:
    """Subtract the mean caption of the other half, or of the same, and scale to length one."""
    means = [
        np.concatenate([videos[vid] for vid in sorted(videos) if half(vid) == side]).mean(axis=0)
        for side in ((0, 1) if transductive else (1, 0))
    ]
    texts = {str(a.qid): unit(queries[str(a.qid)] - means[half(a.vid)]) for a in annotations}
    return {vid: unit(rows - means[half(vid)]) for vid, rows in videos.items()}, texts


def plain_curves(annotations: Sequence[Annotation], videos: Rows, queries: Rows) -> Curves:
    """Return the relevance of every query, the mean over its wordings."""
    return {a.qid: videos[a.vid] @ queries[str(a.qid)].mean(axis=0) for a in annotations}


def settings(kind: str = "threshold_runs") -> list[ScorerOptions]:
    """Return a scorer's grid; the default one's is that of the training-free row."""
    # The protocol looks at ten windows.
    plain = ScorerOptions(kind=kind, smooth=2.0, bias=0.5, nms=0.7, top_k=10)
    if kind == "threshold_runs":
        return [
            replace(plain, spread=spread, smooth=smooth, octaves=octaves, bias=bias)
            for spread, (smooth, octaves), bias in product(
                (0.0, 0.1, 0.2, 0.3), ((1.0, 4), (2.0, 2)), (0.5, 0.75, 1.0)
            )
        ]
    own: list[dict[str, float | bool]] = [{}]
    if kind in ("max_sum", "watershed", "consensus"):
        own = [{"bias": bias} for bias in (0.5, 0.75, 1.0)]
    elif kind in ("inside_outside", "coherent"):
        own = [
            {"length_weight": weight, "extend": extend, "box_cox": kind == "coherent"}
            for weight, extend in product((0.2, 0.35, 0.5), (False, True))
        ]
    return [replace(plain, spread=spread, **more) for spread in (0.0, 0.2) for more in own]


def answer(record: Annotation, windows: Sequence[tuple[float, float, float]]) -> Prediction:
    """Return the prediction that the protocol reads."""
    return Prediction(
        qid=record.qid, query=record.query, vid=record.vid, pred_relevant_windows=tuple(windows)
    )


def decoded(
    annotations: Sequence[Annotation],
    videos: Rows,
    curves: Curves,
    options: Sequence[ScorerOptions],
) -> list[Prediction]:
    """Cut windows from the curve of every query, by the setting of its half."""
    found = []
    for record in annotations:
        rows, curve = videos[record.vid], curves[record.qid]
        edges = np.arange(len(rows) + 1) * CLIP
        spans, scores = find_moments(curve, edges, options[half(record.vid)], rows)
        found.append(answer(record, np.column_stack((spans, scores)).tolist()))
    return found


def numbers(predictions: Sequence[Prediction], annotations: Sequence[Annotation]) -> list[float]:
    """Return the three reported numbers for the predictions of these annotations."""
    qids = {a.qid for a in annotations}
    brief = score([p for p in predictions if p.qid in qids], annotations)["brief"]
    return [brief[name] for name in COLUMNS]


def cross_fit(
    tried: Sequence[Sequence[Prediction]], annotations: Sequence[Annotation]
) -> tuple[list[Prediction], list[int]]:
    """Take for each half the setting whose three numbers have the largest sum on the other."""
    halves = [[a for a in annotations if half(a.vid) == side] for side in (0, 1)]
    values = np.array([[sum(numbers(p, part)) for part in halves] for p in tried])
    chosen = values.argmax(axis=0)[::-1].tolist()
    return [tried[chosen[half(a.vid)]][i] for i, a in enumerate(annotations)], chosen


def training_free(
    annotations: Sequence[Annotation],
    videos: Rows,
    queries: Rows,
    file: Path,
    kind: str = "threshold_runs",
) -> tuple[list[Prediction], list[ScorerOptions]]:
    """Decode with every setting; return the cross-fit answers and the setting of each half.

    `file` keeps which settings were chosen.
    """
    curves, grid = plain_curves(annotations, videos, queries), settings(kind)
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        tried = [decoded(annotations, videos, curves, (options,) * 2) for options in grid]
        write_json(file, {"chosen": cross_fit(tried, annotations)[1]})
    chosen = [grid[index] for index in json.loads(file.read_text())["chosen"]]
    return decoded(annotations, videos, curves, chosen), chosen


def head_answers(
    annotations: Sequence[Annotation],
    videos: Rows,
    queries: Rows,
    samplers: Sequence[Sampler],
    seed: int,
    head_kind: str,
    file: Path,
) -> tuple[Curves, list[Prediction]]:
    """Train a head for each half, unless `file` has what they said.

    Args:
        annotations: Of both halves.
        videos: Centred rows.
        queries: Centred rows.
        samplers: What the heads that answer half A and half B learn from.
        seed: Of weights and samples.
        head_kind: Which head.
        file: Keeps the result.

    Returns:
        The heads' relevance for every query, and their own answers.
    """
    if not file.exists():
        width = next(iter(videos.values())).shape[1]
        heads = [train(sampler, width, seed, head_kind) for sampler in samplers]
        tensors = {}
        for side, head in enumerate(heads):
            asked = [a for a in annotations if half(a.vid) == side]
            pairs = [(videos[a.vid], unit(queries[str(a.qid)].mean(axis=0))) for a in asked]
            for a, (logits, windows) in zip(asked, relevance(head, pairs), strict=True):
                tensors[f"logits {a.qid}"] = logits
                tensors[f"windows {a.qid}"] = np.array(windows).reshape(-1, 3)
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as temporary:
            save_file(tensors, temporary)
    kept = load_file(file)
    alone = [answer(a, kept[f"windows {a.qid}"].tolist()) for a in annotations]
    return {a.qid: kept[f"logits {a.qid}"] for a in annotations}, alone


def added(
    annotations: Sequence[Annotation],
    videos: Rows,
    plain: Curves,
    learned: Curves,
    options: Sequence[ScorerOptions],
) -> list[Prediction]:
    """Decode plain relevance plus some of the learned, cross-fit in how much."""
    tried = []
    for weight in WEIGHTS:
        both = {
            a.qid: standardised(plain[a.qid]) + weight * standardised(learned[a.qid])
            for a in annotations
        }
        tried.append(decoded(annotations, videos, both, options))
    return cross_fit(tried, annotations)[0]


def standardised(curve: np.ndarray) -> np.ndarray:
    """Return z-scores; zeros of a flat curve."""
    return np.asarray((curve - curve.mean()) / max(float(curve.std()), 1e-9))


def per_column(predictions: Sequence[Prediction], annotations: Sequence[Annotation]) -> np.ndarray:
    """Return (queries, 3) what each query adds to the reported numbers, in points."""
    known = {p.qid: p for p in predictions}
    first = [known[a.qid].pred_relevant_windows[0][:2] for a in annotations]
    best = np.array(
        [iou([w], a.relevant_windows).max() for w, a in zip(first, annotations, strict=True)]
    )
    return 100 * np.column_stack((best >= 0.5, best >= 0.7, per_query(predictions, annotations)))


def gains(found: Sequence[np.ndarray], base: np.ndarray) -> np.ndarray:
    """Return (3 columns, 3): the mean gain of all runs, and its 95 % bootstrap interval."""
    difference = np.mean(found, axis=0) - base
    picks = np.random.default_rng(0).integers(0, len(base), (DRAWS, len(base)))
    low, high = np.quantile(difference[picks].mean(axis=1), (0.025, 0.975), axis=0)
    return np.stack((difference.mean(axis=0), low, high), axis=1)


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--captions", type=Path, required=True, help="folder of VIDEO.jsonl")
    parser.add_argument("--rephrasings", type=Path, required=True, help="query_val.jsonl")
    parser.add_argument("--encoder", required=True, help="sentence encoder folder, id, or tfidf")
    parser.add_argument("--out", type=Path, required=True)
    others = sorted(
        set(SCORERS) - {"threshold_runs", "segment_first"}
    )  # which is the training-free row
    parser.add_argument("--scorers", nargs="*", choices=others, default=others)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], help="none: no heads")
    kinds = sorted(set(HEADS) - {"pointing"})  # sentence embeddings have no tokens to point with
    parser.add_argument("--heads", nargs="*", choices=kinds, default=kinds)
    args = parser.parse_args()
    annotations = read_annotations(args.annotations)
    videos, queries = encoded(args)
    halves = [[a for a in annotations if half(a.vid) == side] for side in (0, 1)]

    found = {"whole video": whole_video(annotations), "random": random_windows(annotations, seed=0)}
    found["maximum-sum segment"] = decoded(
        annotations, videos, plain_curves(annotations, videos, queries), (MAX_SUM,) * 2
    )
    found[FREE], options = training_free(
        annotations, videos, queries, args.out / "settings" / f"{FREE}.json"
    )
    say(f"on half A {options[0]}, on half B {options[1]}")
    for kind in args.scorers:
        file = args.out / "settings" / f"scorer {kind}.json"
        found[f"scorer {kind}"], chosen = training_free(annotations, videos, queries, file, kind)
        say(f"{kind}: on half A {chosen[0]}, on half B {chosen[1]}")
    # Heads learn from rows less the mean of their own half: the reported half tells them nothing.
    own, own_texts = centred(annotations, videos, queries, transductive=True)
    for kind in ("inductive", "transductive"):
        rows, texts = centred(annotations, videos, queries, transductive=kind == "transductive")
        found[f"centred, {kind}"], options = training_free(
            annotations, rows, texts, args.out / "settings" / f"{kind}.json"
        )
        plain = plain_curves(annotations, rows, texts)
        sources = (0, 1) if kind == "transductive" else (1, 0)  # of the heads for half A and half B
        # Other heads learn from pseudo labels of other videos only: that is what they are for.
        wanted = [("pseudo labels", "regression")]
        if kind == "inductive":
            wanted += [("true windows", "regression")]
            wanted += [("pseudo labels", other) for other in args.heads if other != "regression"]
        for (given, head_kind), seed in product(wanted, args.seeds):
            by = "" if head_kind == "regression" else f"{head_kind}, "
            name = f"{given}, {kind}, {by}seed {seed}"
            samplers = [
                true_labels(halves[source], own, own_texts)
                if given == "true windows"
                else pseudo_labels({v: r for v, r in own.items() if half(v) == source}, seed)
                for source in sources
            ]
            file = args.out / "heads" / f"{name}.safetensors"
            learned, alone = head_answers(annotations, rows, texts, samplers, seed, head_kind, file)
            found[name] = added(annotations, rows, plain, learned, options)
            found[f"{name}, alone"] = alone
            say(f"{name}: done")
    report(found, annotations, halves, args)


def report(
    found: Mapping[str, Sequence[Prediction]],
    annotations: Sequence[Annotation],
    halves: Sequence[Sequence[Annotation]],
    args: argparse.Namespace,
) -> None:
    """Print the table and the gains, and write both and all predictions."""
    lines: list[tuple[str, ...]] = []
    results: dict[str, Mapping[str, object]] = {}
    for name, predictions in found.items():
        write_predictions(args.out / "predictions" / f"{name}.jsonl", predictions)
        parts = {"all": annotations, "half A": halves[0], "half B": halves[1]}
        values = {part: numbers(predictions, queries) for part, queries in parts.items()}
        results[name] = {part: dict(zip(COLUMNS, row, strict=True)) for part, row in values.items()}
        sides = (" / ".join(f"{x:.1f}" for x in values[part]) for part in ("half A", "half B"))
        lines.append((name, *(f"{x:.2f}" for x in values["all"]), *sides))
    table(("", *COLUMNS, "half A", "half B"), lines)
    base = per_column(found[FREE], annotations)
    adapted = [name for name in found if "ductive" in name and not name.endswith("alone")]
    differences = []
    for kind, names in groupby(adapted, key=lambda name: name.split(", seed")[0]):
        runs = [per_column(found[name], annotations) for name in names]
        rows = gains(runs, base)
        results[f"{kind} - {FREE}"] = dict(zip(COLUMNS, rows.tolist(), strict=True))
        cells = ["{:+.2f} [{:+.2f}, {:+.2f}]".format(*row) for row in rows]
        differences.append((f"{kind} - {FREE}", str(len(runs)), *cells))
    table(("", "runs", *COLUMNS), differences)
    write_json(args.out / "results.json", results)


if __name__ == "__main__":
    main()
