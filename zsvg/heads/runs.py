"""Runs of frames as candidates for a moment: finding them, and how well one fits the query."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zsvg.heads.span_arithmetic import span_iou

_LEVELS = 9  # thresholds, evenly spaced below the largest probability
_MOST_RUNS = 96  # of one video that are compared with each other, the longest
_DUPLICATE = 0.7  # IoU above which the less agreed-upon of two runs is dropped
_POINTS, _LAG = 12, 2  # a run is looked at in so many places; changes are taken between every other


@dataclass(frozen=True, kw_only=True)
class Runs:
    """R candidate runs of frames per (video, query) pair."""

    masks: Tensor
    """(B, R, T) bool, empty where a run does not exist."""
    logits: Tensor
    """(B, R) logit of the IoU with the moment, after looking at the run as a whole."""
    fit: Tensor
    """(B, R) cosine of run and query, in [-1, 1]."""

    @property
    def judged(self) -> Tensor:
        """(B, R) `logits`, -inf where a run does not exist."""
        return self.logits.masked_fill(~self.masks.any(-1), -torch.inf)


def find_runs(probability: Tensor, frame_mask: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Find runs of frames above thresholds; those that most thresholds agree on come first.

    Not differentiable. Thresholds are tenths of the largest probability, so there is always a run.
    With p the probability that a frame is inside, the IoU of a run R is expected to be about
    sum_R p / (|R| + sum p - sum_R p).

    Args:
        probability: (B, T) in [0, 1].
        frame_mask: (B, T) bool, real frames first, at least one.
        count: How many runs to return, R.

    Returns:
        (B, R, T) bool, empty where there are fewer; their expected IoU (B, R); and their mean IoU
        with all runs found (B, R).
    """
    p = probability.detach().float() * frame_mask
    share = torch.arange(1, _LEVELS + 1, device=p.device) / (_LEVELS + 1)
    peak = p.max(-1, keepdim=True).values
    above = (p[:, None] >= peak[:, None] * share[:, None]) & frame_mask[:, None]
    borders = F.pad(above, (1, 1)).int().diff()  # (B, levels, T + 1): 1 opens, -1 closes a run
    rows, _, start = (borders == 1).nonzero().unbind(1)
    stop = (borders == -1).nonzero()[:, 2]
    order = (stop - start).argsort(descending=True, stable=True)
    order = order[rows[order].argsort(stable=True)]  # by row, the longest first
    rows, start, stop = rows[order], start[order], stop[order]
    amount = rows.bincount(minlength=len(p))
    place = torch.arange(len(rows), device=p.device) - (amount.cumsum(0) - amount)[rows]
    kept = place < _MOST_RUNS
    spans = p.new_zeros(len(p), min(int(amount.max()), _MOST_RUNS), 2)
    spans[rows[kept], place[kept]] = torch.stack((start, stop), 1)[kept].to(spans)
    iou = span_iou(spans[:, :, None], spans[:, None])
    exists = spans[..., 0] < spans[..., 1]
    vote = iou.sum(-1) / exists.sum(-1, keepdim=True)
    vote = vote.masked_fill(~exists, 0.0)
    left, found, votes = vote.clone(), [], []
    every = torch.arange(len(p), device=p.device)
    for _ in range(count):
        score, best = left.max(-1)
        found.append(spans[every, best] * (score > 0)[:, None])
        votes.append(score)
        left = left.masked_fill(iou[every, best] > _DUPLICATE, 0.0)
    chosen, agreement = torch.stack(found, 1), torch.stack(votes, 1)
    index = torch.arange(p.shape[1], device=p.device)
    masks = (index >= chosen[..., :1]) & (index < chosen[..., 1:])
    covered = torch.einsum("brt,bt->br", masks.float(), p)
    expected = covered / (masks.sum(-1) + p.sum(-1, keepdim=True) - covered).clamp(min=1e-9)
    return masks, expected, agreement


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
        self.judge = nn.Linear(4, 1)
        with torch.no_grad():  # at first all of them decide together
            self.judge.weight.copy_(torch.tensor([[1.0, 1.0, 0.3, 0.3]]))
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

    def forward(
        self, frames: Tensor, query: Tensor, masks: Tensor, expected: Tensor, agreement: Tensor
    ) -> Runs:
        """Judge runs (B, R, T), what `find_runs` says of them (B, R), against queries (B, D)."""
        exists = masks.any(-1)
        fit = torch.einsum("brd,bd->br", self.summary(frames, masks), query.float())
        mean = (fit * exists).sum(-1, keepdim=True) / exists.sum(-1, keepdim=True).clamp(min=1)
        sure, agreed = (x.float().clamp(1e-4, 1 - 1e-4).logit() for x in (expected, agreement))
        facts = torch.stack((sure, agreed, 20 * fit, 20 * (fit - mean)), -1)
        logits = F.linear(facts, self.judge.weight.float(), self.judge.bias.float()).squeeze(-1)
        return Runs(masks=masks, logits=logits, fit=fit * exists)


def _take(frames: Tensor, index: Tensor) -> Tensor:
    """Gather (B, T, D) at (B, R, P) to (B, R, P, D)."""
    flat = index.flatten(1)[..., None].expand(-1, -1, frames.shape[-1])
    return frames.gather(1, flat).view(*index.shape, frames.shape[-1])
