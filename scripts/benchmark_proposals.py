"""Event proposals on real features: every generator against controls, at several sizes.

    python scripts/benchmark_proposals.py --features charades_clip.npz \
        --annotations charades_test.jsonl --out runs/proposals

FEATURES holds `ids` (V,) and `codes` (V, T, D), with `scale`, `basis` (D, E) and `mean` (E,) to
undo a projection if there was one; frames are spread evenly over each video. ANNOTATIONS is what
`zsvg convert` writes.

A proposal's precision is its best IoU with a true moment of its video, a moment's coverage its best
IoU with a proposal; both are averaged over videos. What content contributes is the difference to
the same proposals given to other videos (scaled to their length), which knows as much about lengths
and positions: the mean of 20 exchanges, with a 95 % bootstrap interval over videos. Nothing was
chosen on these annotations. One file per row is kept under OUT and not made again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsvg.cli.terminal import progress, table
from zsvg.events.proposals import SPL, ProposalOptions, propose
from zsvg.files import write_json
from zsvg.moments import iou
from zsvg.records import read_annotations

SIZES = (3, 5, 10, 15, 25)
EXCHANGES, DRAWS = 20, 2000
NAMES = ("precision", "precision .5", "precision .7", "coverage", "coverage .5", "coverage .7")
# Windows that need no look at a video, the first ones for the smaller sizes.
THIRDS = ((0, 0.33), (0.33, 0.67), (0.67, 1), (0, 0.5), (0.5, 1))

Spans = NDArray[np.float64]
Propose = Callable[[NDArray[np.float32], int, int], Spans]


def ours(**options: Any) -> Propose:
    """Return a generator of the package; more parts where few have too few unions.

    Overlaps are suppressed greedily, as is usual, if `options` do not say otherwise.
    """

    def make(frames: NDArray[np.float32], size: int, seed: int) -> Spans:
        parts = next(k for k in range(5, 20) if k * (k + 1) // 2 - 1 >= size)
        given = ProposalOptions(**{"clusters": parts, "greedy": True, **options, "count": size})
        return propose(frames, np.linspace(0, 1, len(frames) + 1), options=given, seed=seed)[0]

    return make


def fixed(frames: NDArray[np.float32], size: int, seed: int) -> Spans:
    """Thirds and halves, then finer equal parts: the same for every video."""
    windows = list(THIRDS)
    parts = 4
    while len(windows) < size:
        windows += [(i / parts, (i + 1) / parts) for i in range(parts)]
        parts += 1
    return np.array(windows[:size])


# As published: every union but the whole video, in a random order, and nothing dropped.
LOOSE = {"rank": "chance", "nms": 1.0, "shortest": 0.0, "longest": 0.999}
ROWS: Mapping[str, Propose] = {
    "blocks (default)": ours(greedy=False),
    "blocks": ours(),
    "blocks, centred": ours(centre=True),
    "blocks by quality": ours(rank="quality"),
    "blocks by compactness": ours(rank="compact"),
    "blocks by distinctness": ours(rank="distinct"),
    **{
        f"{kind} by fit": ours(kind=kind)
        for kind in ("psvl", "spl", "frames", "coherent", "changes", "steps", "windows")
    },
    "coherent, TAG's pooling, by fit": ours(kind="coherent", pool=21),
    "psvl by fit, peaks": ours(kind="psvl", greedy=False),
    "windows by fit, peaks": ours(kind="windows", greedy=False),
    "psvl, centred, by fit": ours(kind="psvl", centre=True),
    "psvl by chance": ours(kind="psvl", **LOOSE),
    "psvl, centred, by chance": ours(kind="psvl", centre=True, **LOOSE),
    "spl by chance": ours(**{**vars(SPL), "rank": "chance"}),
    "uniform by fit": ours(kind="uniform"),
    "uniform by chance": ours(kind="uniform", **LOOSE),
    "random": ours(kind="random", rank="chance", nms=1.0),
    "fixed windows": fixed,
}


def measure(proposals: Sequence[Spans], truth: Sequence[Spans]) -> NDArray[np.float64]:
    """Return (V, 6): precision and coverage of each video, mean and shares >= .5 and .7."""
    rows = []
    for spans, true in zip(proposals, truth, strict=True):
        overlaps = iou(spans, true)
        row = []
        for best in (overlaps.max(axis=1), overlaps.max(axis=0)):
            row += [best.mean(), (best >= 0.5).mean(), (best >= 0.7).mean()]
        rows.append(row)
    return np.array(rows)


def exchanged(proposals: Sequence[Spans], truth: Sequence[Spans], seed: int) -> NDArray[np.float64]:
    """Measure after every video got the proposals of another one; mean of `EXCHANGES`, (V, 6)."""
    draw = np.random.default_rng([seed, 1])
    total = np.zeros((len(truth), len(NAMES)))
    for _ in range(EXCHANGES):
        ring = draw.permutation(len(truth))
        other = np.empty(len(truth), dtype=int)
        other[ring] = np.roll(ring, 1)  # one ring: nobody keeps its own
        total += measure([proposals[index] for index in other], truth)
    return total / EXCHANGES


def one_row(
    make: Propose,
    size: int,
    videos: Sequence[NDArray[np.float32]],
    truth: Sequence[Spans],
    seeds: int,
) -> dict[str, object]:
    """Return the numbers of one row, mean over seeds, and its gains with intervals."""
    own, others, counts = [], [], []
    for seed in range(seeds):
        proposals = [make(frames, size, seed) for frames in videos]
        own.append(measure(proposals, truth))
        others.append(exchanged(proposals, truth, seed))
        counts.append(np.mean([len(spans) for spans in proposals]))
    mine, control = np.mean(own, axis=0), np.mean(others, axis=0)
    difference = mine - control
    picks = np.random.default_rng(0).integers(0, len(truth), (DRAWS, len(truth)))
    low, high = np.quantile(difference[picks].mean(axis=1), (0.025, 0.975), axis=0)
    return {
        "proposals": float(np.mean(counts)),
        "own": dict(zip(NAMES, mine.mean(axis=0).tolist(), strict=True)),
        "over seeds": dict(zip(NAMES, np.std([o.mean(axis=0) for o in own], axis=0).tolist(),
                               strict=True)),
        "exchanged": dict(zip(NAMES, control.mean(axis=0).tolist(), strict=True)),
        "gain": dict(zip(NAMES, np.stack((difference.mean(axis=0), low, high), 1).tolist(),
                         strict=True)),
    }  # fmt: skip


def main() -> None:
    """Make the rows that are missing and print all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    true: dict[str, list[tuple[float, float]]] = {}
    for a in read_annotations(args.annotations):
        true.setdefault(a.vid, []).extend(
            (start / a.duration, end / a.duration) for start, end in a.relevant_windows
        )
    stored = np.load(args.features)
    frames = stored["codes"].astype(np.float32)
    if "basis" in stored:
        frames = frames * stored["scale"] @ stored["basis"] + stored["mean"]
    known = [index for index, vid in enumerate(stored["ids"]) if str(vid) in true]
    videos = [frames[index] for index in known]
    truth = [np.unique(true[str(stored["ids"][index])], axis=0) for index in known]
    args.out.mkdir(parents=True, exist_ok=True)
    lines = []
    with progress("rows", len(args.sizes) * len(ROWS)) as advance:
        for size in args.sizes:
            for name, make in ROWS.items():
                file = args.out / f"{size} {name}.json"
                if not file.exists():
                    write_json(file, one_row(make, size, videos, truth, args.seeds))
                row = json.loads(file.read_text())
                numbers = [f"{row['own'][key]:.3f}" for key in NAMES]
                gains = [
                    "{:+.3f} [{:+.3f}, {:+.3f}]".format(*row["gain"][key])
                    for key in ("precision", "coverage .7")
                ]
                lines.append((str(size), name, f"{row['proposals']:.1f}", *numbers, *gains))
                advance(len(lines))
    columns = ("at most", "proposals by", "n", *NAMES, "precision - exchanged",
               "coverage .7 - exchanged")  # fmt: skip
    table(columns, lines, title=f"{len(videos)} videos, {args.seeds} seeds")


if __name__ == "__main__":
    main()
