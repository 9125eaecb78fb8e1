"""Runs of frames as candidates for a moment: finding them, and how well one fits the query."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zsvg.heads.training_free import best_segment

_RATIO_STEPS = 4
_POINTS, _LAG = 12, 2  # a run is looked at in so many places; changes are taken between every other


def best_run(probability: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """Find the run of `free` frames with the largest expected IoU; not differentiable.

    With p the probability that a frame is inside, the IoU of a run R is expected to be about
    sum_R p / (|R| + sum p - sum_R p). The maximum of this ratio is a maximum-sum segment of
    (1 + r) p - r, where r is the maximum itself (Dinkelbach's iteration, a few steps). A sure
    head thus cuts at p = 1/2, an unsure one lower, where a fixed cut would return single frames.

    Args:
        probability: (B, T) in [0, 1], 0 at padding.
        free: (B, T) bool, frames that a run may contain.

    Returns:
        (B, T) bool, one run per row, empty where no frame is free; and its expected IoU (B,).
    """
    p, open_ = probability.detach().double().cpu().numpy(), free.cpu().numpy()
    rows, index = np.arange(len(p)), np.arange(p.shape[1])
    prefix = np.concatenate((np.zeros((len(p), 1)), np.cumsum(p * open_, axis=1)), axis=1)
    total, ratio = p.sum(axis=1), np.full(len(p), 0.5)
    for _ in range(_RATIO_STEPS):
        gain = (1 + ratio[:, None]) * p - ratio[:, None]
        # A frame this negative is never worth crossing.
        gain = np.where(open_, gain, -2.0 * p.shape[1] - 1.0)
        start, stop, _ = best_segment(gain)
        covered = prefix[rows, stop] - prefix[rows, start]
        ratio = covered / np.maximum(stop - start + total - covered, 1e-12)
    run = (index >= start[:, None]) & (index < stop[:, None]) & open_
    score = np.where(run.any(axis=1), ratio, 0.0)
    return (
        torch.from_numpy(run).to(free.device),
        torch.from_numpy(score).to(probability),
    )


@dataclass(frozen=True, kw_only=True)
class Runs:
    """R candidate runs of frames per (video, query) pair."""

    masks: Tensor
    """(B, R, T) bool, empty where a run does not exist."""
    expected: Tensor
    """(B, R) their expected IoU by the frame probabilities, 0 for an empty run."""
    logits: Tensor
    """(B, R) logit of the IoU with the moment, after looking at the run as a whole."""
    fit: Tensor
    """(B, R) cosine of run and query, in [-1, 1]."""


def find_runs(probability: Tensor, frame_mask: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Find `count` runs (B, count, T), best first, the ones found before cut out; expected IoU."""
    free, masks, scores = frame_mask, [], []
    for _ in range(count):
        run, score = best_run(probability, free)
        masks.append(run)
        scores.append(score)
        free = free & ~run
    return torch.stack(masks, 1), torch.stack(scores, 1)


def overlap(runs: Tensor, other: Tensor) -> Tensor:
    """IoU in frames (B, R) of runs (B, R, T) with one run per row (B, T)."""
    both = (runs & other[:, None]).sum(-1)
    return both / (runs | other[:, None]).sum(-1).clamp(min=1)


class RunFit(nn.Module):
    """Judges a run as a whole: what is there, what changes which way, and how restless it is.

    One frame cannot tell whether something comes or goes. The mean of a run's features, late minus
    early, and the mean size of changes are added up with learned weights and compared with the
    query.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.trend = nn.Parameter(torch.tensor(1.0))
        self.unrest = nn.Parameter(torch.tensor(2.0))
        self.scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.judge = nn.Linear(3, 1)
        with torch.no_grad():  # at first the expected IoU and the fit decide together
            self.judge.weight.copy_(torch.tensor([[1.0, 0.3, 0.3]]))
            self.judge.bias.zero_()

    def summary(self, frames: Tensor, runs: Tensor) -> Tensor:
        """Summarise runs (B, R, T) of frames (B, T, D) as unit vectors (B, R, D)."""
        length = runs.sum(-1)
        first = runs.float().argmax(-1)
        places = torch.linspace(0, 1, _POINTS, device=frames.device)
        at = first[..., None] + (length - 1).clamp(min=0)[..., None] * places
        low = at.floor().long()
        high = torch.minimum(low + 1, (first + (length - 1).clamp(min=0))[..., None])
        share = (at - low)[..., None].to(frames.dtype)
        points = _take(frames, low) * (1 - share) + _take(frames, high) * share
        ramp = torch.linspace(-1, 1, _POINTS, device=frames.device) / (_POINTS / 2)
        trend = torch.einsum("brpd,p->brd", points, ramp.to(points.dtype))
        unrest = (points[:, :, _LAG:] - points[:, :, :-_LAG]).abs().mean(2)
        whole = points.mean(2) + self.trend * trend + self.unrest * unrest
        return F.normalize(whole.float(), dim=-1)

    def forward(self, frames: Tensor, query: Tensor, masks: Tensor, expected: Tensor) -> Runs:
        """Judge runs (B, R, T) with their expected IoU (B, R) against queries (B, D)."""
        exists = masks.any(-1)
        fit = torch.einsum("brd,bd->br", self.summary(frames, masks), query.float())
        mean = (fit * exists).sum(-1, keepdim=True) / exists.sum(-1, keepdim=True).clamp(min=1)
        sure = expected.float().clamp(1e-4, 1 - 1e-4).logit()
        facts = torch.stack((sure, 20 * fit, 20 * (fit - mean)), -1)
        logits = F.linear(facts, self.judge.weight.float(), self.judge.bias.float()).squeeze(-1)
        return Runs(masks=masks, expected=expected, logits=logits, fit=fit * exists)


def _take(frames: Tensor, index: Tensor) -> Tensor:
    """Gather (B, T, D) at (B, R, P) to (B, R, P, D)."""
    flat = index.flatten(1)[..., None].expand(-1, -1, frames.shape[-1])
    return frames.gather(1, flat).view(*index.shape, frames.shape[-1])
