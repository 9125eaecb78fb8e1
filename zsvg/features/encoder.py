"""What features are asked of: a Protocol, so that this room knows no backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch


class FrameEncoder(Protocol):
    """What encodes frames: a frozen backbone, or one with prompts at work."""

    @property
    def name(self) -> str:
        """What it was loaded by."""

    @property
    def fingerprint(self) -> str:
        """Identity of all that decides the features; part of every cache key."""

    @property
    def precision(self) -> str:
        """The arithmetic of `encode_frames`; part of every cache key."""

    @property
    def image_size(self) -> int:
        """Side of the square pictures that it takes, pixels."""

    @property
    def embed_dim(self) -> int:
        """Length of a row of features."""

    @property
    def device(self) -> torch.device:
        """Where it runs."""

    def encode_frames(self, frames: NDArray[np.uint8]) -> torch.Tensor:
        """Encode (B, image_size, image_size, 3) uint8 RGB into (B, embed_dim) unit rows."""
