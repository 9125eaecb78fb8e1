"""Small layers that the trained heads share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zsvg.heads.curves import neighbours


class Residual(nn.Module):
    """Turns unit vectors a little; the identity before training (CLIP-Adapter's idea)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.turn = nn.Linear(dim, dim, bias=False)
        nn.init.zeros_(self.turn.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Turn (..., D)."""
        return F.normalize(x + self.turn(x), dim=-1)


class Block(nn.Module):
    """Temporal convolution over frames, then frames and query words look at each other.

    The words are read by frames only, so they look at the video once, in the last block.
    """

    def __init__(
        self, hidden: int, heads: int, dropout: float, *, dilation: int, last: bool
    ) -> None:
        super().__init__()
        self.dilation, self.rate = dilation, dropout
        self.norm = nn.LayerNorm(hidden)
        # Half the width inside, as in the attentions: most of a step is spent here.
        self.mix = nn.Linear(3 * hidden, hidden // 2)
        self.out = nn.Linear(hidden // 2, hidden)
        self.to_words = Attention(hidden, heads, dropout) if last else None
        self.to_frames = Attention(hidden, heads, dropout)

    def forward(
        self, x: Tensor, words: Tensor, frame_mask: Tensor, token_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return frames (B, T, H) and words (B, L, H)."""
        # Zeros beyond the last real frame, as beyond the last frame of an unpadded video.
        near = neighbours(self.norm(x) * frame_mask[..., None], self.dilation)
        x = x + drop_channels(self.out(F.gelu(self.mix(near))), self.rate, self.training)
        if self.to_words is not None:
            words = words + self.to_words(words, x, frame_mask)
        return x + self.to_frames(x, words, token_mask), words


class Attention(nn.Module):
    """Multi-head attention from `x` to the real entries of `memory`, layer norms first."""

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.rate = heads, dropout
        self.norm, self.norm_memory = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.query, self.memory = nn.Linear(hidden, hidden // 2), nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden // 2, hidden)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """Return what (B, N, H) learns from `memory` (B, M, H) where `mask` (B, M) is True."""
        query = self.query(self.norm(x)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = (
            self.memory(self.norm_memory(memory)).unflatten(-1, (2, self.heads, -1)).unbind(2)
        )
        seen = F.scaled_dot_product_attention(
            query, key.transpose(1, 2), value.transpose(1, 2), attn_mask=mask[:, None, None, :]
        )
        out = self.out(seen.transpose(1, 2).flatten(2))
        return drop_channels(out, self.rate, self.training)


def coarse(x: Tensor, mask: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Average neighbouring frames where there are more than `most`, so that attention stays cheap.

    Args:
        x: (B, T, H).
        mask: (B, T) bool, real frames first.
        most: Frames that a video keeps at most, M. Each video is averaged by its own length, and
            shorter ones stay as they are.

    Returns:
        (B, at most M, H) and which of them are real.
    """
    if x.shape[1] <= most:
        return x, mask
    frames = mask.sum(-1, keepdim=True)
    place = torch.arange(x.shape[1], device=x.device) // ((frames + most - 1) // most).clamp(min=1)
    place = place.clamp(max=most - 1)  # of padding only
    index = place[..., None].expand_as(x)
    total = x.new_zeros(len(x), most, x.shape[-1]).scatter_add(1, index, x * mask[..., None])
    count = x.new_zeros(len(x), most).scatter_add(1, place, mask.to(x.dtype))
    return total / count.clamp(min=1)[..., None], count > 0


def quiet_mlp(inputs: int, hidden: int, outputs: int, *, bias: float) -> nn.Sequential:
    """Make a two-layer perceptron whose output is almost `bias` until it is trained."""
    last = nn.Linear(hidden, outputs)
    nn.init.normal_(last.weight, std=1e-3)
    nn.init.constant_(last.bias, bias)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), last)


def drop_channels(x: Tensor, rate: float, training: bool) -> Tensor:
    """Drop channels of (B, T, H) over the whole sequence; one draw per channel is cheap on CPU."""
    return F.dropout1d(x.transpose(1, 2), rate, training).transpose(1, 2)
