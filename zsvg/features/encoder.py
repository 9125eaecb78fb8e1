"""What features are, and what is asked for them: a Protocol, so this room knows no backbone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from zsvg.video.pictures import Framing

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class FrameFeatures:
    """One video as the frozen backbone sees it.

    Attributes:
        vid: The video's name (file stem).
        features: (T, D) float32, L2-normalised, one row per clip of 1/fps seconds.
        times: (T,) float64, each frame's own presentation time in seconds.
        duration: Seconds.
        fps: Clips per second.
        framing: "crop", "pad" or "squash".
        fingerprint: The backbone's.
        content: SHA-256 of the video file.
        first: Seconds at which the first clip ends; 1/fps without it.
    """

    vid: str
    features: NDArray[np.float32]
    times: NDArray[np.float64]
    duration: float
    fps: float
    framing: Framing
    fingerprint: str
    content: str
    first: float | None = None

    @property
    def edges(self) -> NDArray[np.float64]:
        """(T + 1,) float64 clip borders in seconds: k / fps, and the duration at the end."""
        borders = np.arange(len(self.features) + 1) / self.fps
        if self.first is not None:
            borders[1:] += self.first - borders[1]
        borders[-1] = self.duration
        return borders

    @property
    def centres(self) -> NDArray[np.float64]:
        """(T,) float64 clip centres in seconds."""
        edges = self.edges
        return (edges[:-1] + edges[1:]) / 2


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

    def ready(self, path: str | Path) -> FrameFeatures | None:
        """Return features that lie ready in a file or for it; None where frames are encoded."""
