"""Losses of the trained heads, on times normalised by the video's duration.

Each returns one scalar: the mean over the batch of per-sample losses times `weight` (B,), which is
1 for every sample when not given. Weights are not renormalised, so that gradient accumulation and
several processes sum up to the same gradient as one large batch (`set_loss` says where not).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from zsvg.heads.span_arithmetic import centre_length, generalised_iou


def span_loss(moments: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor:
    """SmoothL1 on start plus SmoothL1 on end (PSVL, LGI).

    The published form has its knee at 1, where it is quadratic for every possible error of a time
    in [0, 1] and nearly blind to errors of a few per cent. The knee here is at 0.1.

    Args:
        moments: (B, 2) predicted start and end, fractions of the duration.
        target: (B, 2) true start and end.
        weight: (B,) sample weights.
    """
    return _mean(F.smooth_l1_loss(moments, target, beta=0.1, reduction="none").sum(-1), weight)


def attention_guidance_loss(
    logits: Tensor, frame_mask: Tensor, inside: Tensor, *, weight: Tensor | None = None
) -> Tensor:
    """Temporal attention guidance, -sum(m_i log o_i) / sum(m_i) (ABLR; also LGI and PSVL).

    Args:
        logits: (B, T) attention logits; o is their softmax over real frames.
        frame_mask: (B, T) bool, True for real frames.
        inside: (B, T) bool m, True inside the moment; a row without any contributes 0.
        weight: (B,) sample weights.
    """
    masked = logits.masked_fill(~frame_mask, float("-inf"))
    # Padding would be 0 * -inf; it carries no mass, so any finite value will do.
    attention = masked.log_softmax(-1).masked_fill(~frame_mask, 0.0)
    chosen = (inside & frame_mask).to(logits.dtype)
    return _mean(-(chosen * attention).sum(-1) / chosen.sum(-1).clamp(min=1), weight)


def inside_loss(
    logits: Tensor, frame_mask: Tensor, inside: Tensor, *, weight: Tensor | None = None
) -> Tensor:
    """Binary cross-entropy of "this frame is inside the moment", averaged over real frames.

    Args:
        logits: (B, T) frame logits.
        frame_mask: (B, T) bool, True for real frames.
        inside: (B, T) bool targets.
        weight: (B,) sample weights.
    """
    loss = F.binary_cross_entropy_with_logits(logits, inside.to(logits.dtype), reduction="none")
    real = frame_mask.to(logits.dtype)
    return _mean((loss * real).sum(-1) / real.sum(-1).clamp(min=1), weight)


def scaled_iou_loss(
    logits: Tensor,
    overlap: Tensor,
    counts: Tensor,
    *,
    low: float = 0.3,
    high: float = 0.7,
    weight: Tensor | None = None,
) -> Tensor:
    """Binary cross-entropy between judged and true IoU of candidates, added up (2D-TAN's form).

    Args:
        logits: (B, R) logits of the IoU.
        overlap: (B, R) true IoU in [0, 1].
        counts: (B, R) bool, which candidates take part.
        low: IoU that counts for nothing.
        high: IoU that counts for everything.
        weight: (B,) sample weights.
    """
    target = ((overlap - low) / (high - low)).clamp(0, 1).to(logits.dtype)
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return _mean((loss * counts).sum(-1), weight)


def distribution_loss(
    scores: tuple[Tensor, Tensor],
    targets: tuple[Tensor, Tensor],
    whole: Tensor,
    weight: Tensor | None = None,
) -> Tensor:
    """Divergence of the predicted from the true distribution of (start, end) pairs.

    Args:
        scores: (B, T) of starts and of ends; exp(start + end - whole) is a pair's probability.
        targets: (B, T) true distributions of the start and of the end, 0 at padding.
        whole: (B,) log of the sum over all pairs.
        weight: (B,) sample weights.
    """
    loss = whole
    for score, target in zip(scores, targets, strict=True):
        loss = loss + (torch.xlogy(target, target) - target * score).sum(-1)
    return _mean(loss, weight)


def alignment_loss(fit: Tensor, same: Tensor, *, weight: Tensor | None = None) -> Tensor:
    """A sentence belongs to its own clip and to no other (after CTRL: Gao et al., ICCV 2017).

    CTRL adds up the wrong pairs with a weight; here their mean weighs as much as the right one.

    Args:
        fit: (B, M) logits of sentence i and clip j; clip i is that of sentence i, M >= B.
        same: (B, M) bool, pairs of one sentence; but for its own clip they take no part.
        weight: (B,) sample weights.
    """
    wrong = (F.softplus(fit) * ~same).sum(-1) / (~same).sum(-1).clamp(min=1)
    return _mean(F.softplus(-fit.diagonal()) + wrong, weight)


def offset_loss(
    moved: Tensor, target: Tensor, windows: Tensor, right: Tensor, *, weight: Tensor | None = None
) -> Tensor:
    """SmoothL1 of both borders, a mean over the right windows (after CTRL).

    They are in lengths of the window, which CTRL does not divide by.

    Args:
        moved: (B, W, 2) windows whose borders were moved.
        target: (B, 2) true moments.
        windows: (W, 2) the windows before.
        right: (B, W) bool, at least one in each row.
        weight: (B,) sample weights.
    """
    off = (moved - target[:, None]) / (windows[:, 1:] - windows[:, :1])
    loss = F.smooth_l1_loss(off, torch.zeros_like(off), beta=0.1, reduction="none").sum(-1)
    return _mean((loss * right).sum(-1) / right.sum(-1).clamp(min=1), weight)


def set_loss(
    spans: Tensor,
    logits: Tensor,
    chosen: Tensor,
    moments: Tensor,
    exists: Tensor,
    *,
    background: float,
    weight: Tensor | None = None,
) -> dict[str, Tensor]:
    """L1 and generalised IoU of matched queries, and the cross-entropy of being matched.

    They are Moment-DETR's (Lei et al., NeurIPS 2021): "span" is a mean over centre and length and,
    as "overlap", over all pairs of the batch, so that a sample with two moments counts twice;
    "class" is a mean over all queries, whatever they weigh. A batch in shares with unlike numbers
    of moments therefore adds up to about, not exactly, the gradient of the whole.

    Args:
        spans: (B, Q, 2) what the queries say.
        logits: (B, Q) of "is a moment": that of foreground minus that of background.
        chosen: (B, Q) bool, matched queries, at least one in each row.
        moments: (B, Q, 2) what they were matched with.
        exists: (B, Q) bool, queries that take part.
        background: Weight of queries without a match.
        weight: (B,) sample weights.

    Returns:
        Scalars "span", "overlap" and "class".
    """
    off = (centre_length(spans) - centre_length(moments)).abs().mean(-1)
    apart = 1 - generalised_iou(spans, moments)
    pairs = chosen / chosen.sum(-1).float().mean()
    share = torch.where(chosen, 1.0, background) * exists
    judged = F.binary_cross_entropy_with_logits(logits, chosen.to(logits.dtype), reduction="none")
    return {
        "span": _mean((off * pairs).sum(-1), weight),
        "overlap": _mean((apart * pairs).sum(-1), weight),
        "class": _mean((judged * share).sum(-1) / exists.sum(-1), weight),
    }


def contrast_loss(
    summary: Tensor,
    query: Tensor,
    others: Tensor,
    scale: Tensor,
    *,
    weight: Tensor | None = None,
    away: Tensor | None = None,
) -> Tensor:
    """InfoNCE from each query to its run, against the batch's runs and others of its own video.

    Args:
        summary: (B, D) unit vectors of the true runs.
        query: (B, D) unit vectors; rows with the same query are not each other's negatives.
        others: (B, R) cosines of the query with wrong runs of its video, -inf where there is none.
        scale: () factor on cosines.
        weight: (B,) sample weights.
        away: (2, M, D) the `summary` and `query` of the batch's samples in other processes.
    """
    summaries, queries = summary.float(), query.float()
    if away is not None:
        summaries, queries = torch.cat((summaries, away[0])), torch.cat((queries, away[1]))
    cosines = query.float() @ summaries.T
    same = (query.float() @ queries.T) > 1 - 1e-5
    same.fill_diagonal_(False)
    wrong = torch.cat((same, others.isinf()), 1)
    # Filled in before and after scaling: an infinity would make the scale's gradient NaN.
    logits = torch.cat((cosines, others), 1).masked_fill(wrong, 0.0) * scale
    logits = logits.masked_fill(wrong, -torch.inf)
    target = torch.arange(len(query), device=query.device)
    return _mean(F.cross_entropy(logits, target, reduction="none"), weight)


def _mean(per_sample: Tensor, weight: Tensor | None) -> Tensor:
    return torch.mean(per_sample if weight is None else per_sample * weight)
