"""Heads turn frame and query features into moments, behind one interface.

Training-free scorers (`zsvg.scorers.find`, numpy) read one relevance curve in seconds.
Trained heads are `torch` modules called with the same keyword arguments, `HeadInputs`, and return a
`HeadOutput`; their `config` is a frozen dataclass of JSON values. `zsvg.heads.encoder` is what they
share, `zsvg.heads.by_name` says which there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["HeadInputs", "HeadOutput"]


class HeadInputs(TypedDict):
    """Keyword arguments of every trained head (B videos, T frames, L query tokens)."""

    frames: Tensor
    """(B, T, D) L2-normalised; values at padding are ignored."""
    frame_mask: Tensor
    """(B, T) bool, True for real frames, which come first; at least one per video."""
    centres: Tensor
    """(B, T) clip centres divided by the duration, in [0, 1]."""
    tokens: Tensor
    """(B, L, D) states of the query's tokens in the joint space."""
    token_mask: Tensor
    """(B, L) bool, at least one True per query."""
    pooled: Tensor
    """(B, D) query embedding, L2-normalised."""
    points: Tensor | None
    """(B, 2, D) states of the tokens that point at start and end; None without such prompts."""


@dataclass(frozen=True, kw_only=True)
class HeadOutput:
    """What a head says about B (video, query) pairs; times are fractions of the duration.

    What only one kind of head needs stands in its own subclass.
    """

    moments: Tensor
    """(B, K, 2) starts and ends in [0, 1], best first (with a target, those that are trained)."""
    scores: Tensor
    """(B, K) in [0, 1], not increasing; 0 marks an answer that does not exist."""
    relevance: Tensor
    """(B, T) in [0, 1], 0 at padding."""
    logits: Tensor
    """(B, T) float32 frame logits that `relevance` and the losses derive from."""
    frame_mask: Tensor
    """(B, T) bool, as given."""
    centres: Tensor
    """(B, T), as given; 0 at padding."""

    @property
    def presence(self) -> Tensor:
        """(B,) how well the best answer fits, to compare across videos: the higher the surer."""
        return self.scores[:, 0]

    @property
    def exchanged(self) -> Tensor | None:
        """(N, B, D) what the loss needs of samples in other processes, N tensors of one shape.

        The loss gets it as `away` (N, M, D); gradients flow back to the samples' processes.
        None, and no message, where a sample's loss is its own business.
        """
        return None
