"""The engine of a library alone: how long it takes to choose among very many frames, and how well.

    python scripts/benchmark_vectors.py --features charades_l14/frames_even.safetensors \
        --texts charades_l14/text_pairs.safetensors --rows 100000 --out runs/vectors

Rows are drawn around real frames (codes as of `scripts/benchmark_charades.py`): a video is one of
the real ones, `centred` as `zsvg.library.rows` has it, moved by one random offset of length .5, and
every frame by another of .2. Cosines of neighbours and of videos are printed, of real ones and of
drawn ones. Queries are real vectors of sentences (`vectors`), as `fit` asks them. They are far from
all frames, as sentences are, which is harder for an index than frames that ask for frames.

A row is right if it fits no worse than the twentieth of all, so equal rows count as one. Searches
run in a process of their own, which tells its peak memory; the first is cold, as far as the pages
that the system keeps of the file allow.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from zsvg.cli.terminal import say, table
from zsvg.grounding.ranking import asked, centred
from zsvg.library.tables import Tables
from zsvg.library.vectors import PROBED

TOP, QUERIES, CLIPS = 20, 200, 64
OFFSET, NOISE = 0.5, 0.2
ALIKE = 1e-4
"""Of a product with a float16 row, what rounding may change."""

Rows = NDArray[np.float32]


def real_videos(file: Path) -> Rows:
    """Return (videos, clips, D) real frames as they are indexed."""
    tensors = load_file(file)
    scale, mean = tensors.pop("scale"), tensors.pop("mean")
    videos = []
    for _, codes in sorted(tensors.items()):
        rows = codes.astype(np.float32) * scale + mean
        videos.append(centred(rows / np.linalg.norm(rows, axis=1, keepdims=True)))
    return np.stack(videos)


def drawn(real: Rows, count: int, draw: np.random.Generator) -> Rows:
    """Return (count, clips, D) videos around real ones."""
    width = real.shape[2]
    offset = draw.normal(size=(count, 1, width)) * OFFSET / np.sqrt(width)
    noise = draw.normal(size=(count, real.shape[1], width)) * NOISE / np.sqrt(width)
    rows = real[draw.integers(len(real), size=count)] + offset + noise
    return (rows / np.linalg.norm(rows, axis=2, keepdims=True)).astype(np.float32)


def described(name: str, videos: Rows) -> str:
    """Return the cosines of neighbouring frames, and of mean frames of two videos."""
    near = (videos[:, 1:] * videos[:, :-1]).sum(axis=2)
    means = videos.mean(axis=1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    far = (means @ means.T)[np.triu_indices(len(means), 1)]
    told = [", ".join(f"{v:.2f}" for v in np.percentile(c, (5, 50, 95))) for c in (near, far)]
    return f"{name}: cosines (5, 50, 95 %) of neighbours {told[0]}, of videos {told[1]}"


def fill(tables: Tables, real: Rows, count: int) -> None:
    """Write that many rows."""
    draw, made = np.random.default_rng(0), 0
    say(described("real", real))
    say(described("drawn", drawn(real, 500, draw)))
    while made < count:
        videos = drawn(real, min(1024, -(-(count - made) // CLIPS)), draw)
        contents = np.repeat([f"{made + n:064x}" for n in range(len(videos))], CLIPS).tolist()
        starts = np.tile(np.arange(CLIPS, dtype=np.int32), len(videos))
        rows = videos.reshape(-1, videos.shape[2]).astype(np.float16)
        tables.add_frames(contents, rows, np.column_stack((starts, starts + 1)))
        made += len(rows)


def sentences(file: Path) -> Rows:
    """Return real vectors of sentences, as `fit` asks them."""
    vectors = load_file(file)["vectors"].astype(np.float32)
    usual = vectors.mean(axis=0)
    usual /= np.linalg.norm(usual)
    chosen = np.random.default_rng(1).permutation(len(vectors))[:QUERIES]
    return np.stack([asked(vectors[place], usual) for place in sorted(chosen)])


def distances(tables: Tables, query: Rows, exact: bool) -> tuple[list[float], float]:
    """Return the distances of the first rows, and the seconds that the library's own call takes."""
    started = time.perf_counter()
    found = tables.near(query, TOP, exact=exact)
    seconds = time.perf_counter() - started
    return found["_distance"].to_pylist(), seconds


def peak_memory() -> int:
    """Return the bytes this process had at most (Linux); `getrusage` would count its parent's."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (kilobytes,) = re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return 1024 * int(kilobytes)


def measure(folder: Path, width: int, texts: Path) -> dict[str, Any]:
    """Search, in a process that does nothing else."""
    queries = sentences(texts)
    tables = Tables(folder, width)
    cold = distances(tables, queries[0], False)[1]
    warm, shares = [], []
    for query in queries:
        distances(tables, query, False)
    for query in queries:
        found, seconds = distances(tables, query, False)
        warm.append(1000 * seconds)
        shares.append(found)
    peak = peak_memory()
    flat, right = [], []
    for query, found in zip(queries[:50], shares, strict=False):
        best, seconds = distances(tables, query, True)
        flat.append(1000 * seconds)
        right.append(np.mean(np.array(found) <= best[-1] + ALIKE))
    return {
        "cold": 1000 * cold,
        "p50": float(np.percentile(warm, 50)),
        "p95": float(np.percentile(warm, 95)),
        "flat p95": float(np.percentile(flat, 95)),
        "recall": float(np.mean(right)),
        "peak": peak,
    }


def main() -> None:
    """Make the tables that are missing, and print the row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("features", "texts", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--search", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    folder = args.out / f"{args.rows}"
    if args.search:
        width = int(load_file(args.texts)["vectors"].shape[1])
        print(json.dumps(measure(folder, width, args.texts)))
        return
    real = real_videos(args.features)
    tables, told = Tables(folder, real.shape[2]), args.out / f"{args.rows}.json"
    if not told.exists():
        started = time.monotonic()
        fill(tables, real, args.rows)
        written = time.monotonic()
        tables.vectors.make_index()
        built = time.monotonic()
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        told.write_text(json.dumps({"write": written - started, "build": built - written,
                                    "size": size}))  # fmt: skip
    line = [sys.executable, __file__, "--search", "--rows", str(args.rows)]
    line += [f"--{name}={getattr(args, name)}" for name in ("features", "texts", "out")]
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True)
    found = {**json.loads(told.read_text()), **json.loads(done.stdout.splitlines()[-1])}
    header = ("rows", "written s", "index s", "GB", "cold ms", "p50 ms", "p95 ms", "all rows p95",
              f"recall@{TOP}", "peak GB")  # fmt: skip
    row = (f"{args.rows:,}", f"{found['write']:.0f}", f"{found['build']:.0f}",
           f"{found['size'] / 1e9:.2f}", f"{found['cold']:.0f}", f"{found['p50']:.0f}",
           f"{found['p95']:.0f}", f"{found['flat p95']:.0f}", f"{found['recall']:.3f}",
           f"{found['peak'] / 1e9:.2f}")  # fmt: skip
    table(header, [row], title=f"{PROBED:.0%} of the parts, {QUERIES} sentences")


if __name__ == "__main__":
    main()
