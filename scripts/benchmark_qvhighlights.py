"""QVHighlights val from captions alone: training-free, then adapted without a label or a query.

    python scripts/benchmark_qvhighlights.py --annotations highlight_val_release.jsonl \
        --captions caption_val/ --rephrasings query_val.jsonl --encoder all-MiniLM-L6-v2/ \
        --out runs/qvhighlights

No frame is looked at: clips are the captions that VTG-GPT published, queries the originals and its
five rephrasings, both encoded by one frozen sentence encoder. The videos are cut into two halves;
every setting is chosen on one half and reported on the other, and the figure over all queries puts
the two reported halves together.

Training-free, relevance may spread over clips with alike captions before windows are cut from it.
Adaptation trains a small convolution over the relevance curve on pseudo-queries: noisy means of the
captions of a segment, segments by clustering neighbouring captions (Ward). "inductive" trains on
the captions of the half that is not reported, "transductive" on those that are; neither sees
queries or windows. One file per run is kept under OUT, so an interrupted benchmark continues.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Sequence
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file, save_file
from sklearn.cluster import AgglomerativeClustering
from torch import nn

from zsvg.backbones.captions import encode_captions, load_caption_backbone, read_captions
from zsvg.files import write_json
from zsvg.heads.curves import neighbours
from zsvg.heads.training_free import ScorerOptions, find_moments
from zsvg.protocols.qvhighlights import per_query, score
from zsvg.records import Annotation, Prediction, read_annotations, write_predictions
from zsvg.terminal import say, table

CLIP = 2.0
SEEDS = (0, 1, 2)
NOISE = 0.18  # per dimension of a unit vector of 384: what bridges captions to queries
STEPS, BATCH, CHANNELS = 400, 64, 32
SEGMENTS = (4, 6, 9, 13)  # numbers of segments a video is cut into, all of them used
COMMON = {"nms": 0.7, "top_k": 10}  # the protocol looks at ten windows
COLUMNS = ("MR-full-R1@0.5", "MR-full-R1@0.7", "MR-full-mAP")

Curves = dict[int | str, np.ndarray]


def half(vid: str) -> int:
    """Return 0 or 1 by name: no video is in both halves."""
    return zlib.crc32(vid.encode()) % 2


def encoded(args: argparse.Namespace) -> tuple[dict[str, np.ndarray], Curves]:
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
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, file)
    found = load_file(file)
    videos = {k.removeprefix("video "): v for k, v in found.items() if k.startswith("video ")}
    queries = {k.removeprefix("query "): v for k, v in found.items() if k.startswith("query ")}
    return videos, queries


def settings() -> list[ScorerOptions]:
    """Return the grid of training-free decoders."""
    spreads = (0.0, 0.1, 0.2, 0.3)
    grid = [
        ScorerOptions(
            kind="threshold_runs",
            spread=spread,
            smooth=smooth,
            octaves=octaves,
            bias=bias,
            **COMMON,
        )
        for spread, (smooth, octaves), bias in product(
            spreads, ((1.0, 1), (1.0, 4), (2.0, 2)), (0.5, 0.75, 1.0)
        )
    ]
    return grid + [
        ScorerOptions(kind="max_sum", spread=spread, smooth=smooth, bias=bias, **COMMON)
        for spread, smooth, bias in product(spreads, (0.0, 2.0), (0.0, 0.25))
    ]


def answers(
    annotations: Sequence[Annotation],
    curves: Curves,
    videos: dict[str, np.ndarray],
    options: ScorerOptions,
) -> list[Prediction]:
    """Decode every query's curve."""
    found = []
    for record in annotations:
        curve = curves[record.qid]
        edges = np.arange(len(curve) + 1) * CLIP
        spans, scores = find_moments(curve, edges, options, videos[record.vid])
        windows = tuple(
            (float(s), float(e), float(p)) for (s, e), p in zip(spans, scores, strict=True)
        )
        found.append(
            Prediction(
                qid=record.qid, query=record.query, vid=record.vid, pred_relevant_windows=windows
            )
        )
    return found


def goodness(predictions: Sequence[Prediction], annotations: Sequence[Annotation]) -> float:
    """Return what settings are chosen by: the sum of the three reported numbers."""
    brief = score(predictions, annotations)["brief"]
    return float(sum(brief[name] for name in COLUMNS))


def cross_fit(
    annotations: Sequence[Annotation],
    curves: Curves,
    videos: dict[str, np.ndarray],
    grid: Sequence[ScorerOptions],
) -> tuple[list[Prediction], list[ScorerOptions]]:
    """Choose on one half, answer the other; return all answers and both choices."""
    halves = [[a for a in annotations if half(a.vid) == side] for side in (0, 1)]
    found, chosen = [], []
    for side in (0, 1):
        other = halves[1 - side]
        best = max(
            grid, key=lambda options, o=other: goodness(answers(o, curves, videos, options), o)
        )
        chosen.append(best)
        found += answers(halves[side], curves, videos, best)
    return found, chosen


def segments(rows: np.ndarray) -> list[tuple[int, int]]:
    """Cut a video into runs of alike captions, at several grains; return (first, last + 1)."""
    clips = len(rows)
    chain = np.eye(clips, k=1) + np.eye(clips, k=-1)
    found = set()
    for count in SEGMENTS:
        if count >= clips:
            continue
        labels = AgglomerativeClustering(count, connectivity=chain, linkage="ward").fit_predict(
            rows
        )
        borders = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), clips]
        found |= set(pairwise(borders))
    return sorted(found)


class CurveHead(nn.Module):
    """Dilated convolutions over the relevance curve and what caption and query share."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.shared = nn.Linear(width, CHANNELS - 3)
        self.mix = nn.ModuleList(nn.Linear(3 * CHANNELS, CHANNELS) for _ in range(4))
        self.out = nn.Linear(CHANNELS, 1)

    def forward(self, rows: torch.Tensor, query: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """Read rows (B, T, D), query (B, D), real (B, T); return logits (B, T)."""
        curve = torch.einsum("btd,bd->bt", rows, query)
        count = real.sum(1, keepdim=True)
        mean = (curve * real).sum(1, keepdim=True) / count
        centred = (curve - mean) * real
        scale = (centred.square().sum(1, keepdim=True) / count + 1e-8).sqrt()
        change = 1 - (rows[:, 1:] * rows[:, :-1]).sum(-1)
        change = F.pad(change, (1, 0))
        shared = self.shared(rows * query[:, None] * rows.shape[-1] ** 0.5)
        x = torch.cat(((centred / scale)[..., None], centred[..., None], change[..., None], shared),
                      -1)  # fmt: skip
        for layer, step in zip(self.mix, (1, 2, 4, 8), strict=True):
            x = x + F.gelu(layer(neighbours(x * real[..., None], step)))
        return self.out(x).squeeze(-1)


def adapt(videos: dict[str, np.ndarray], seed: int) -> CurveHead:
    """Train a head on the captions of videos; no query or window is seen."""
    torch.manual_seed(seed)
    draw = np.random.default_rng(seed)
    names = sorted(videos)
    cuts = {vid: segments(videos[vid]) for vid in names}
    width = next(iter(videos.values())).shape[1]
    head = CurveHead(width)
    optimiser = torch.optim.AdamW(head.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=STEPS)
    longest = max(len(rows) for rows in videos.values())
    for _ in range(STEPS):
        rows = np.zeros((BATCH, longest, width), np.float32)
        real = np.zeros((BATCH, longest), np.float32)
        target = np.zeros((BATCH, longest), np.float32)
        query = np.zeros((BATCH, width), np.float32)
        for index in range(BATCH):
            vid = names[draw.integers(len(names))]
            own = videos[vid]
            first, stop = cuts[vid][draw.integers(len(cuts[vid]))]
            spoken = draw.integers(first, stop, size=draw.integers(1, 5))
            mean = own[spoken].mean(0)
            noisy = mean / max(np.linalg.norm(mean), 1e-6) + NOISE * draw.standard_normal(width)
            rows[index, : len(own)], real[index, : len(own)] = own, 1
            query[index] = noisy / np.linalg.norm(noisy)
            # A scene that returns is described by the same sentence: not a clear negative.
            centre = own[first:stop].mean(0)
            alike = own @ centre / max(np.linalg.norm(centre), 1e-6)
            inside = alike[first:stop]
            soft = 1 / (1 + np.exp(-(alike - inside.mean()) / max(inside.std(), 0.02)))
            target[index, : len(own)] = 0.5 * soft
            target[index, first:stop] = 1
        rows_, query_, real_ = map(torch.from_numpy, (rows, query, real))
        logits = head(rows_, query_, real_)
        loss = (
            F.binary_cross_entropy_with_logits(
                logits, torch.from_numpy(target), weight=real_, reduction="sum"
            )
            / real_.sum()
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return head.eval()


@torch.no_grad()
def learned_curves(
    head: CurveHead,
    annotations: Sequence[Annotation],
    videos: dict[str, np.ndarray],
    queries: Curves,
) -> Curves:
    """Return the head's logits, averaged over a query's wordings."""
    found = {}
    for record in annotations:
        wordings = torch.from_numpy(queries[str(record.qid)])
        rows = torch.from_numpy(videos[record.vid])[None].expand(len(wordings), -1, -1)
        logits = head(rows, wordings, torch.ones(rows.shape[:2]))
        found[record.qid] = logits.mean(0).numpy()
    return found


def standardised(curve: np.ndarray) -> np.ndarray:
    """Return z-scores."""
    return (curve - curve.mean()) / max(float(curve.std()), 1e-9)


def interval(a: np.ndarray, b: np.ndarray, draws: int = 2000) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of mean(a - b) over queries."""
    random = np.random.default_rng(0)
    difference = a - b
    picks = random.integers(0, len(difference), (draws, len(difference)))
    means = difference[picks].mean(axis=1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--captions", type=Path, required=True, help="folder of VIDEO.jsonl")
    parser.add_argument("--rephrasings", type=Path, required=True, help="query_val.jsonl")
    parser.add_argument("--encoder", required=True, help="sentence encoder folder, id, or tfidf")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    args = parser.parse_args()
    annotations = read_annotations(args.annotations)
    videos, queries = encoded(args)
    plain = {a.qid: videos[a.vid] @ queries[str(a.qid)].mean(0) for a in annotations}
    lines, found = [], {}

    def row(name: str, predictions: list[Prediction]) -> np.ndarray:
        write_predictions(args.out / "predictions" / f"{name}.jsonl", predictions)
        for side, label in ((None, "all"), (0, "half A"), (1, "half B")):
            kept = [a for a in annotations if side in (None, half(a.vid))]
            qids = {a.qid for a in kept}
            brief = score([p for p in predictions if p.qid in qids], kept)["brief"]
            lines.append((name, label, *(f"{brief[c]:.2f}" for c in COLUMNS)))
            found[f"{name}, {label}"] = {c: brief[c] for c in COLUMNS}
        return per_query(predictions, annotations)

    free, chosen = cross_fit(annotations, plain, videos, settings())
    say(f"training-free, chosen on B for A and on A for B: {chosen}")
    base = row("training-free", free)
    for kind in ("inductive", "transductive"):
        gains = []
        for seed in args.seeds:
            name = f"adapted, {kind}, seed {seed}"
            file = args.out / f"{kind}-{seed}.safetensors"
            if not file.exists():
                curves = {}
                for side in (0, 1):
                    reported = [a for a in annotations if half(a.vid) == side]
                    source = 1 - side if kind == "inductive" else side
                    own = {vid: rows for vid, rows in videos.items() if half(vid) == source}
                    curves |= learned_curves(adapt(own, seed), reported, videos, queries)
                save_file({str(qid): curve for qid, curve in curves.items()}, file)
            learned = load_file(file)
            mixed = {
                a.qid: standardised(plain[a.qid]) + standardised(learned[str(a.qid)])
                for a in annotations
            }
            predictions, _ = cross_fit(annotations, mixed, videos, settings())
            gains.append(row(name, predictions))
        low, high = interval(np.mean(gains, axis=0), base)
        gain = 100 * (np.mean(gains) - base.mean())
        say(f"{kind} - training-free: {gain:+.2f} mAP, 95 % interval {100 * low:+.2f} to "
            f"{100 * high:+.2f} (over queries, mean of {len(gains)} seeds)")  # fmt: skip
        found[f"{kind} gain"] = {"mAP": gain, "low": 100 * low, "high": 100 * high}
    table(("", "queries", *COLUMNS), lines)
    write_json(args.out / "results.json", found)


if __name__ == "__main__":
    main()
