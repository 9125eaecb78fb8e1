"""Curves over time that compare a video with a query, and small convolutions that read them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CURVES = 4
_DILATIONS = (1, 2, 4, 8)


class CurveEncoder(nn.Module):
    """Dilated convolutions over a few curves per video, seeing 15 clips to either side."""

    def __init__(self, hidden: int, channels: int = 32) -> None:
        super().__init__()
        self.first = nn.Linear(_CURVES, channels)
        self.mix = nn.ModuleList(nn.Linear(3 * channels, channels) for _ in _DILATIONS)
        self.out = nn.Linear(channels, hidden)

    def forward(self, curves: Tensor, real: Tensor) -> Tensor:
        """Read curves (B, T, 4); `real` (B, T, 1) bool marks frames. Returns (B, T, hidden)."""
        x = self.first(curves)
        for layer, step in zip(self.mix, _DILATIONS, strict=True):
            x = x + F.gelu(layer(neighbours(x * real, step)))
        states: Tensor = self.out(x)
        return states


def neighbours(x: Tensor, step: int) -> Tensor:
    """Put clips `step` before and after beside each clip: (B, T, 3 C), zeros beyond the ends."""
    padded = F.pad(x, (0, 0, step, step))
    return torch.cat([padded[:, i * step : i * step + x.shape[1]] for i in range(3)], -1)


def similarity_curves(relevance: Tensor, motion: Tensor, pooled: Tensor, real: Tensor) -> Tensor:
    """Similarity with the query, how much changes, and how much of what the query names changes.

    Rising and falling relevance tells which way something moves; convolutions see that. What
    blinks or spins only shows in the size of the change.

    Returns:
        (B, T, 4) float32, 0 at padding.
    """
    change = motion.float().abs()
    asked = torch.einsum("btd,bd->bt", change, pooled.float())
    size = motion.float().norm(dim=-1)
    return torch.cat(
        (relevance, standardise(asked, real)[..., 1:], standardise(size, real)[..., 1:]), -1
    )


def standardise(raw: Tensor, real: Tensor) -> Tensor:
    """Stack a curve (B, T) with its z-scores over the real frames: (B, T, 2), 0 at padding."""
    mask = real.squeeze(-1)
    count = mask.sum(-1, keepdim=True).clamp(min=1)
    centred = (raw - (raw * mask).sum(-1, keepdim=True) / count) * mask
    deviation = (centred.square().sum(-1, keepdim=True) / count + 1e-10).sqrt()
    return torch.stack((raw * mask, centred / deviation), -1)
