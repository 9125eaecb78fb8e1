"""Walks of `try_refine.py`: what a policy sees of an answer, how it moves it, how it learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from zsvg.records import Annotation

SEES = ("place and length", "curves", "frames")
STEPS, LEAST, CHANNELS = 6, 1 / 32, 16
_FAR = (-1 / 16, 1 / 16, -1 / 8, 1 / 8)
# Start and end by parts of the video, after the length is multiplied; the first is to stop.
MOVES = torch.tensor(
    [(0.0, 0.0, 1.0)]
    + [(far * start, far * end, 1.0) for far in _FAR for start, end in ((1, 0), (0, 1), (1, 1))]
    + [(-1 / 16, 1 / 16, 1.0), (1 / 16, -1 / 16, 1.0), (0.0, 0.0, 1.5), (0.0, 0.0, 1 / 1.5)]
)
WARM, WALKS, BATCH, RATE, ENTROPY = 120, 150, 256, 3e-3, 0.005


@dataclass(frozen=True)
class Start:
    """A query, the answer that it starts from, and the curves behind that."""

    record: Annotation
    window: tuple[float, float]
    curves: list[list[float]]


class Look:
    """What frames and sentences of some queries vary by most, as few numbers."""

    def __init__(self, frames: NDArray[np.float32], sentences: NDArray[np.float32]) -> None:
        self.mean, self.told = frames.mean(0), sentences.mean(0)
        _, size, axes = np.linalg.svd(frames - self.mean, full_matrices=False)
        self.axes = axes[:CHANNELS]
        self.spread = size[:CHANNELS] / np.sqrt(len(frames))
        self.width = ((sentences - self.told) @ self.axes.T).std(0) + 1e-6

    def of_frames(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn (..., D) into (..., CHANNELS)."""
        seen: NDArray[np.float32] = (frames - self.mean) @ self.axes.T / self.spread
        return seen

    def of_sentences(self, sentences: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn (N, D) into (N, CHANNELS), along the same axes."""
        told: NDArray[np.float32] = (sentences - self.told) @ self.axes.T / self.width
        return told


def integral(values: NDArray[np.floating]) -> Tensor:
    """Integrate values (N, T, C) over time: (N, T + 1, C)."""
    total = np.cumsum(values, 1) / values.shape[1]
    return torch.tensor(np.pad(total, ((0, 0), (1, 0), (0, 0))), dtype=torch.float32)


def means(total: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """Return means (N, S, C) between two instants (N, S) of what `integral` made."""
    count, rows = total.shape[1] - 1, torch.arange(len(total))[:, None]

    def until(time: Tensor) -> Tensor:
        place = time * count
        floor = place.long().clamp(max=count - 1)
        below, above = total[rows, floor], total[rows, floor + 1]
        return below + (above - below) * (place - floor)[..., None]

    length = (last - first)[..., None]
    mean = (until(last) - until(first)) / length.clamp(min=1e-4)
    return torch.where(length > 1e-4, mean, 0.0)


class Queries:
    """What a policy may see of queries, and what their answers should be."""

    def __init__(
        self,
        starts: Sequence[Start],
        frames: NDArray[np.float32],
        sentences: NDArray[np.float32],
    ) -> None:
        lengths = np.array([[s.record.duration] for s in starts])
        self.length = torch.tensor(lengths[:, 0], dtype=torch.float32)
        window = torch.tensor(np.array([s.window for s in starts]) / lengths, dtype=torch.float32)
        self.window = window.clamp(0, 1)
        true = np.full((len(starts), max(len(s.record.relevant_windows) for s in starts), 2), -9.0)
        for row, start in enumerate(starts):
            windows = np.array(start.record.relevant_windows) / start.record.duration
            true[row, : len(windows)] = windows
        self.true = torch.tensor(true, dtype=torch.float32)
        curves = np.array([s.curves for s in starts]).transpose(0, 2, 1)
        spread = curves.std(1, keepdims=True) + 1e-6
        self.curves = integral((curves - curves.mean(1, keepdims=True)) / spread)
        self.frames = integral(frames)
        self.text = torch.tensor(sentences, dtype=torch.float32)

    def some(self, rows: Tensor) -> Queries:
        """Return some of them."""
        found = object.__new__(Queries)
        found.__dict__ = {name: values[rows] for name, values in vars(self).items()}
        return found

    def state(self, window: Tensor, step: int, sees: str) -> Tensor:
        """Return what a policy sees of windows (N, 2)."""
        a, e = window.unbind(1)
        size, one = e - a, torch.ones_like(a)
        place = torch.stack(
            (a, e, size, size.log(), size * self.length / 30, self.length / 30,
             *self.window.unbind(1), (a < 1e-3) * one, (e > 1 - 1e-3) * one, one * step / STEPS), 1,
        )  # fmt: skip
        if sees == "place and length":
            return place
        quarter, h = size / 4, 1 / 16
        spans = [(a, e), (a - size / 2, a), (e, e + size / 2), (0 * a, a), (e, one)]
        spans += [(x - d, x) for x in (a, e) for d in (quarter, h)]
        spans += [(x, x + d) for x in (a, e) for d in (quarter, h)]
        spans += [(x + d, x + d + h) for x in (a, e) for d in (-2 * h, h)]
        first, last = (torch.stack(ends, 1).clamp(0, 1) for ends in zip(*spans, strict=True))
        seen = [place, means(self.curves, first, last).flatten(1)]
        if sees == "frames":
            near = means(self.frames, first[:, :3], last[:, :3])
            seen += [near.flatten(1), self.text, (near * self.text[:, None]).flatten(1)]
        return torch.cat(seen, 1)

    def overlap(self, windows: Tensor) -> Tensor:
        """Return IoU (...) of windows (..., N, 2), with the truth that is nearest."""
        w = windows[..., None, :]
        shared = torch.minimum(w[..., 1], self.true[..., 1]) - torch.maximum(
            w[..., 0], self.true[..., 0]
        )
        shared = shared.clamp(min=0)
        both = (w[..., 1] - w[..., 0]) + (self.true[..., 1] - self.true[..., 0]) - shared
        return (shared / both.clamp(min=1e-9)).amax(-1)


def moved(window: Tensor, move: Tensor) -> Tensor:
    """Return windows (..., 2) after the moves (...) of these numbers."""
    far = MOVES[move]
    reach = (window[..., 1] - window[..., 0]) / 2 * far[..., 2]
    start = (window.mean(-1) - reach + far[..., 0]).clamp(0, 1 - LEAST)
    end = torch.maximum(window.mean(-1) + reach + far[..., 1], start + LEAST).clamp(max=1)
    return torch.stack((start, end), -1)


class Policy(nn.Module):
    """How probable every move is; before it learns, to stop is most."""

    mean: Tensor
    spread: Tensor

    def __init__(self, example: Tensor) -> None:
        super().__init__()
        last = nn.Linear(48, len(MOVES))
        nn.init.zeros_(last.weight)
        last.bias.data = torch.eye(len(MOVES))[0]
        first = nn.Linear(example.shape[1], 48)
        self.net = nn.Sequential(nn.Dropout(0.1), first, nn.ReLU(), nn.Dropout(0.2), last)
        self.register_buffer("mean", example.mean(0))
        self.register_buffer("spread", example.std(0) + 1e-3)

    def forward(self, state: Tensor) -> Tensor:
        """Return log probabilities (N, moves)."""
        scaled = ((state - self.mean) / self.spread).clamp(-4, 4)
        chances: Tensor = self.net(scaled).log_softmax(-1)
        return chances


@torch.no_grad()
def walk(queries: Queries, sees: str, policy: Policy | None, seed: int = 0) -> Tensor:
    """Return all windows (STEPS + 1, N, 2) of the best moves; of drawn ones without a policy."""
    draw, window = torch.Generator().manual_seed(seed), queries.window
    walked, stopped = [window], torch.zeros(len(window), dtype=torch.bool)
    for step in range(STEPS):
        if policy is None:
            move = torch.randint(len(MOVES), (len(window),), generator=draw)
        else:
            move = policy.eval()(queries.state(window, step, sees)).argmax(-1)
        stopped = stopped | (move == 0)
        window = torch.where(stopped[:, None], window, moved(window, move))
        walked.append(window)
    return torch.stack(walked)


def expected(queries: Queries, sees: str, policy: Policy, draw: torch.Generator) -> Tensor:
    """Return what to minimise: less the expected gain of each of three single steps."""
    window, loss, every = queries.window, torch.tensor(0.0), torch.arange(len(MOVES))[:, None]
    for step in range(3):
        log = policy.train()(queries.state(window, step, sees))
        chance = log.exp()
        reached = moved(window.expand(len(MOVES), -1, -1), every.expand(-1, len(window)))
        more = queries.overlap(reached) - queries.overlap(window)
        loss = loss - (chance * more.T).sum(-1).mean() + ENTROPY * (chance * log).sum(-1).mean()
        window = moved(window, torch.multinomial(chance.detach(), 1, generator=draw)[:, 0])
    return loss


def self_critical(queries: Queries, sees: str, policy: Policy, draw: torch.Generator) -> Tensor:
    """Return what to minimise: drawn walks count by their gain over the walk of best moves."""
    base = queries.overlap(walk(queries, sees, policy)[-1])
    window, told, doubt = queries.window, torch.tensor(0.0), torch.tensor(0.0)
    goes = torch.ones(len(window))
    for step in range(STEPS):
        log = policy.train()(queries.state(window, step, sees))
        move = torch.multinomial(log.exp().detach(), 1, generator=draw)
        told, doubt = (
            told + goes * log.gather(1, move)[:, 0],
            doubt - goes * (log.exp() * log).sum(-1),
        )
        goes = goes * (move[:, 0] != 0)
        window = torch.where(goes[:, None] > 0, moved(window, move[:, 0]), window)
    return -((queries.overlap(window) - base) * told).mean() - ENTROPY * doubt.mean()


def learn(queries: Queries, held: Queries, sees: str, seed: int) -> tuple[Policy, int]:
    """Return a policy, and how many of its steps to take; both are best on `held`."""
    torch.manual_seed(seed)
    draw = torch.Generator().manual_seed(seed)
    count = len(queries.window)
    some = moved(queries.window, torch.randint(1, len(MOVES), (count,), generator=draw))
    states = [queries.state(queries.window, 0, sees), queries.state(some, 1, sees)]
    policy = Policy(torch.cat(states))
    optimizer = torch.optim.AdamW(policy.parameters(), lr=RATE, weight_decay=0.05)
    best, steps, weights = -1.0, 0, policy.state_dict()
    for round_ in range(WARM + WALKS):
        loss_of = expected if round_ < WARM else self_critical
        optimizer.param_groups[0]["lr"] = RATE if round_ < WARM else RATE / 3
        loss = loss_of(
            queries.some(torch.randperm(count, generator=draw)[:BATCH]), sees, policy, draw
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if round_ % 10 == 9:
            found = held.overlap(walk(held, sees, policy)).mean(1)
            if float(found.max()) > best + 1e-6:
                best, steps = float(found.max()), int(found.argmax())
                weights = {name: value.clone() for name, value in policy.state_dict().items()}
    policy.load_state_dict(weights)
    return policy, steps
