"""Heads turn frame and query features into moments, behind one interface.

Training-free scorers (`zsvg.heads.training_free`, numpy) read one relevance curve in seconds.
Trained heads are `torch` modules called with the same keyword arguments, `HeadInputs`, and return a
`HeadOutput`; their `config` is a frozen dataclass of JSON values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypedDict

if TYPE_CHECKING:
    from torch import Tensor

    from zsvg.heads.runs import Runs

__all__ = ["Head", "HeadInputs", "HeadOutput"]


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


@dataclass(frozen=True, kw_only=True)
class HeadOutput:
    """What a head says about B (video, query) pairs; times are fractions of the duration."""

    moments: Tensor
    """(B, K, 2) starts and ends in [0, 1], best first (K = 1 while training)."""
    scores: Tensor
    """(B, K) in [0, 1], not increasing; 0 marks an answer that does not exist."""
    relevance: Tensor
    """(B, T) in [0, 1], 0 at padding."""
    logits: Tensor
    """(B, T) float32 frame logits that `relevance` and the losses derive from."""
    frame_mask: Tensor
    """(B, T) bool, as given."""
    centres: Tensor
    """(B, T), as given."""
    runs: Runs
    """Candidate runs that the moments were read from."""
    query: Tensor
    """(B, D) the query as the runs were compared with it, unit length."""
    summary: Tensor | None = None
    """(B, D) the true run as a whole, unit length; only with a target."""


class Head(Protocol):
    """A trained head; `target` (B, 2) is given in training only (teacher forcing)."""

    def __call__(
        self,
        frames: Tensor,
        frame_mask: Tensor,
        centres: Tensor,
        tokens: Tensor,
        token_mask: Tensor,
        pooled: Tensor,
        *,
        target: Tensor | None = None,
    ) -> HeadOutput:
        """Answer a batch."""
        ...

    def loss(
        self,
        output: HeadOutput,
        target: Tensor,
        inside: Tensor | None = None,
        weight: Tensor | None = None,
        away: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return named scalar losses; training minimises their sum."""
        ...
