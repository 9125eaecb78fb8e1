"""Learns to say that something is not there, of labels and of sentences that are not true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from zsvg.heads.presence import PresenceJudge, describe
from zsvg.moments import iou
from zsvg.training.absent import Kinds
from zsvg.training.examples import Example

_EPOCHS, _BATCH = 20, 64
_LEARNING_RATE, _WEIGHT_DECAY = 2e-3, 0.05
_ELSEWHERE = 0.5  # weight of a sentence at another label's window of its video


def learn_presence(
    examples: Sequence[Example],
    absent: Sequence[Kinds],
    vectors: Mapping[str, NDArray[np.float32]],
    seed: int,
) -> PresenceJudge:
    """Train a judge on the CPU, in seconds; the same input gives the same weights.

    Every label's window is shown with its own sentence, with one that is not true, each kind as
    often, and its sentence with the window of another label of the video.

    Args:
        examples: Labels, at least one, all with sentences.
        absent: What is not true of each, no one without.
        vectors: text -> (D,) frozen embedding of unit length, of all texts in both.
        seed: Of weights and draws.
    """
    rng = np.random.default_rng([seed, 81])
    place = {text: row for row, text in enumerate(vectors)}
    table = torch.from_numpy(np.stack(list(vectors.values())))
    facts = torch.from_numpy(
        np.concatenate(
            [describe(e.features, e.centres, e.windows[:1] / e.duration) for e in examples]
        )
    )
    own = torch.tensor([place[example.query] for example in examples])
    weight = torch.tensor([example.weight for example in examples])
    others = _others(examples)
    kinds = [[[place[t] for t in some] for some in kind.values()] for kind in absent]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        judge = PresenceJudge(table.shape[1])
        judge.mean.copy_(facts.mean(0))
        judge.deviation.copy_(facts.std(0, correction=0) + 1e-6)
        optimizer = torch.optim.AdamW(
            judge.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY
        )
        passes = len(examples) // _BATCH + 1
        rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _EPOCHS * passes)
        for _ in range(_EPOCHS):
            for some in np.array_split(rng.permutation(len(examples)), passes):
                if not len(some):
                    continue
                wrong = [_drawn(rng, kinds[i]) for i in some]
                right = judge(facts[some], table[own[some]])
                loss = weight[some] * (F.softplus(-right) + F.softplus(
                    judge(facts[some], table[wrong])))  # fmt: skip
                total = loss.mean()
                moved = [
                    (i, others[i][int(rng.integers(len(others[i])))]) for i in some if others[i]
                ]
                if moved:
                    sentence, window = (list(x) for x in zip(*moved, strict=True))
                    away = judge(facts[window], table[own[sentence]])
                    total = total + _ELSEWHERE * F.softplus(away).mean()
                optimizer.zero_grad()
                total.backward()
                optimizer.step()
                rate.step()
    return judge.requires_grad_(False).eval()


def _drawn(rng: np.random.Generator, kinds: Sequence[Sequence[int]]) -> int:
    some = kinds[int(rng.integers(len(kinds)))]
    return some[int(rng.integers(len(some)))]


def _others(examples: Sequence[Example]) -> list[list[int]]:
    """Return of each label those of its video that are elsewhere and say something else."""
    by_video: dict[str, list[int]] = {}
    for number, example in enumerate(examples):
        by_video.setdefault(example.vid, []).append(number)
    return [
        [
            number
            for number in by_video[example.vid]
            if examples[number].query != example.query
            and not iou(examples[number].windows[:1], example.windows).any()
        ]
        for example in examples
    ]
