"""Losses of the trained heads, on times normalised by the video's duration.

Each returns one scalar: the mean over the batch of per-sample losses times `weight` (B,), which is
1 for every sample when not given. Weights are not renormalised, so that gradient accumulation and
several processes sum up to the same gradient as one large batch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def span_loss(moments: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor:
    """SmoothL1 on start plus SmoothL1 on end (PSVL, LGI; METHODS: "regression loss").

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


def rank_loss(
    logits: Tensor, overlap: Tensor, counts: Tensor, *, weight: Tensor | None = None
) -> Tensor:
    """Binary cross-entropy between judged and true IoU of candidate runs (2D-TAN's form).

    Args:
        logits: (B, R) logits of the IoU.
        overlap: (B, R) true IoU in [0, 1].
        counts: (B, R) bool, which runs take part.
        weight: (B,) sample weights.
    """
    # Scaled as in 2D-TAN: an IoU of 0.3 counts for nothing, 0.7 for everything.
    target = ((overlap - 0.3) / 0.4).clamp(0, 1).to(logits.dtype)
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return _mean((loss * counts).sum(-1), weight)


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
