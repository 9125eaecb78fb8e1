"""Queries made of frames, for labels that have no sentence.

The class of language-free training, or LFVMR (Kim et al., "Language-free Training for Zero-shot
Video Grounding", WACV 2023), never held against code; noise and selector have its sizes: frame
features of the event, moved by noise as far as sentences lie from
pictures in CLIP's space, stand in for the sentence; a small selector learns which one to take.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SAMPLED = 9
_WIDTH, _LAYERS, _HEADS, _DROPOUT = 128, 2, 2, 0.1


class FrameQuery(nn.Module):
    """Picks one noisy frame of an event as its query; only training uses it.

    Attributes:
        noise: Length of the noise beside unit vectors, whatever their width. Published: .04 in each
            of 512 dimensions, about 0.9.
    """

    def __init__(self, dim: int, noise: float = 0.9) -> None:
        super().__init__()
        self.noise = noise
        self.enter = nn.Linear(dim, _WIDTH)
        layer = nn.TransformerEncoderLayer(
            _WIDTH, _HEADS, dim_feedforward=_WIDTH, dropout=_DROPOUT, batch_first=True
        )
        self.layers = nn.TransformerEncoder(layer, _LAYERS, enable_nested_tensor=False)
        self.judge = nn.Linear(_WIDTH, 1)

    def forward(self, frames: Tensor, inside: Tensor) -> Tensor:
        """Return queries (B, D) of unit length.

        In training frames are drawn at random from inside, with noise, and the choice is a hard
        Gumbel-softmax; otherwise they are spread evenly, without noise, and the best is taken.

        Args:
            frames: (B, T, D) L2-normalised.
            inside: (B, T) bool frames of the event, at least one in each row.
        """
        rows = torch.arange(len(frames), device=frames.device)[:, None]
        if self.training:
            chosen = torch.multinomial(inside.float(), _SAMPLED, replacement=True)
            spoken = frames[rows, chosen]
            noise = torch.randn_like(spoken) * (self.noise / spoken.shape[-1] ** 0.5)
            spoken = F.normalize(spoken + noise, dim=-1)
        else:
            count = inside.sum(-1, keepdim=True)
            share = (torch.arange(_SAMPLED, device=frames.device) + 0.5) / _SAMPLED
            first = inside.float().argsort(dim=-1, descending=True, stable=True)
            chosen = first.gather(1, (share * count).long())
            spoken = frames[rows, chosen]
        scale = spoken.shape[-1] ** 0.5  # entries of about 1, as layers expect
        logits = self.judge(self.layers(self.enter(spoken * scale))).squeeze(-1)
        if self.training:
            picked = F.gumbel_softmax(logits, hard=True)
        else:
            picked = F.one_hot(logits.argmax(-1), _SAMPLED).to(spoken.dtype)
        return torch.einsum("bn,bnd->bd", picked, spoken)
