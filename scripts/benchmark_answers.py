"""How long one sentence takes on an hour of video whose frame features are at hand.

    python scripts/benchmark_answers.py

7,200 clips of CLIP's width (512) that change slowly, as videos do, and a sentence that is already
encoded. Medians over rounds, of every training-free scorer and every trained head (at its default
size, with random weights: what it answers takes the same time). Targets: 20 ms without training,
500 ms with a head.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize

from zsvg.backbones.base import TextStates
from zsvg.cli.terminal import table
from zsvg.heads.by_name import HEADS, make_head
from zsvg.heads.long_videos import answer_video
from zsvg.scorers.find import find_moments
from zsvg.scorers.options import ScorerOptions
from zsvg.scorers.scorers import SCORERS

WIDTH, WORDS, SECONDS, FPS = 512, 12, 3600, 2
TARGETS = {"scorer": 20.0, "head": 500.0}


def video(rng: np.random.Generator) -> np.ndarray:
    """Return (T, D) float32 rows of unit length: scenes of 5 to 60 seconds, and noise."""
    rows: list[np.ndarray] = []
    while len(rows) < SECONDS * FPS:
        scene = rng.standard_normal(WIDTH)
        clips = int(rng.integers(5, 60)) * FPS
        rows += list(scene + 0.5 * rng.standard_normal((clips, WIDTH)))
    found = np.asarray(rows[: SECONDS * FPS], np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def milliseconds(work: Callable[[], Any], rounds: int) -> float:
    """Return the median over rounds, after one that does not count."""
    work()
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - started))
    return float(np.median(taken))


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    features = video(rng)
    edges = np.linspace(0, SECONDS, len(features) + 1)
    torch.manual_seed(0)
    text = TextStates(
        pooled=normalize(torch.randn(1, WIDTH), dim=-1),
        tokens=torch.randn(1, WORDS, WIDTH),
        mask=torch.ones(1, WORDS, dtype=torch.bool),
        points=normalize(torch.randn(1, 2, WIDTH), dim=-1),
    )
    query = text.pooled[0].numpy()
    rows = []

    def row(name: str, kind: str, taken: float) -> None:
        target = TARGETS[kind]
        rows.append((name, kind, f"{taken:.1f}", f"{target:.0f}", "ok" if taken < target else "no"))

    for name in ("", *SCORERS):
        options = ScorerOptions(kind=name) if name else ScorerOptions()
        taken = milliseconds(
            lambda options=options: find_moments(features @ query, edges, options, features),
            args.rounds,
        )
        row(name or "the default", "scorer", taken)
    for name in HEADS:
        head = make_head(name, {"dim": WIDTH}).eval()
        taken = milliseconds(
            lambda head=head: answer_video(head, features, edges, text), args.rounds
        )
        row(name, "head", taken)
    table(
        ("", "kind", "milliseconds", "target", ""),
        rows,
        title=f"{SECONDS} s, {len(features)} clips, {torch.get_num_threads()} threads",
    )


if __name__ == "__main__":
    main()
