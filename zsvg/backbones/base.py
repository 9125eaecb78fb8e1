"""What all backbones share: the states of a text, and the device they run on."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

import torch

_TRUE = ("1", "on", "t", "true", "y", "yes")  # as Accelerate reads its variables


@dataclass(frozen=True, kw_only=True)
class TextStates:
    """Text features in the joint space.

    Attributes:
        pooled: (B, D) float32, L2-normalised; equal to open_clip's `encode_text(normalize=True)`.
        tokens: (B, L, D) float32, L2-normalised; every token's output state after the final layer
            norm, put through the same projection as the pooled one. L is the context length; it
            is 1, with the pooled vector as the only token, for Hugging Face text towers.
        mask: (B, L) bool, True from the start token to the end-of-text token.
        points: (B, 2, D), the rows of `tokens` that point at a start and an end (PPT's prompts);
            None where no prompts point.
    """

    pooled: torch.Tensor
    tokens: torch.Tensor
    mask: torch.Tensor
    points: torch.Tensor | None = None


def pick_device() -> torch.device:
    """Return Accelerate's device when a run is set up or launched, else cuda, mps or cpu."""
    # Accelerate itself reads this flag in its launcher and in `Accelerator` only.
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in _TRUE
    if "accelerate" in sys.modules or "LOCAL_RANK" in os.environ:
        from accelerate import PartialState

        if PartialState._shared_state or "LOCAL_RANK" in os.environ:
            device: torch.device = PartialState(cpu=on_cpu).device
            return device
    if on_cpu:
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
