"""What backbones are: a Protocol; the states of a text, and the device they run on."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from zsvg.errors import ITEM_ERRORS, RecordError, failure
from zsvg.features.encoder import FrameEncoder
from zsvg.features.from_files import FeatureFiles
from zsvg.records import Annotation, called, video_key
from zsvg.video.finding import find_videos

if TYPE_CHECKING:
    from zsvg.tuners import PromptConfig

_TRUE = ("1", "on", "t", "true", "y", "yes")  # as Accelerate reads its variables


@dataclass(frozen=True, kw_only=True)
class TextStates:
    """Text features in the joint space.

    Attributes:
        pooled: (B, D) float32, L2-normalised; equal to open_clip's `encode_text(normalize=True)`.
        tokens: (B, L, D) float32, L2-normalised; every token's output state after the final layer
            norm, put through the same projection as the pooled one. L is the context length, for
            Hugging Face's encoders the longest text; 1, with the pooled vector as the only token,
            for sentence encoders.
        mask: (B, L) bool, True from the start token to the end-of-text token.
        points: (B, 2, D), the rows of `tokens` that point at a start and an end (PPT's prompts);
            None where no prompts point.
    """

    pooled: torch.Tensor
    tokens: torch.Tensor
    mask: torch.Tensor
    points: torch.Tensor | None = None


class Backbone(FrameEncoder, Protocol):
    """What grounding asks of a backbone: rows of clips and of sentences that can be compared."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Suffixes of the files, besides videos, whose features are `ready`."""

    @property
    def fps(self) -> float:
        """Clips per second of a video where nobody says otherwise."""

    @property
    def cross_modal(self) -> bool:
        """Whether any sentence can be compared with pictures.

        Then `zsvg.grounding.ranking.fit` takes out of both sides what is in all of them.
        """

    @property
    def template(self) -> str:
        """What stands in front of a sentence where nobody says otherwise."""

    @property
    def prompts(self) -> PromptConfig | None:
        """What the prompts at work are; None: it is frozen."""

    def prompted(self, adapter: str) -> Backbone:
        """Return it with prompts at work that have been attached to it under this name.

        Raises:
            BackboneError: It takes no prompts.
        """

    def encode_text(self, texts: Sequence[str]) -> TextStates:
        """Encode texts without gradients."""

    def relevance(
        self, features: NDArray[np.float32], query: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return (T,) how well each clip's row (T, embed_dim) fits the query (embed_dim,)."""


class TunableBackbone(Backbone, Protocol):
    """What prompts ask of a backbone that can carry them."""

    model: Any
    """The frozen module that they are put on."""
    adapters: Any
    """The PEFT model around `model` once prompts have been attached, else None."""
    files: FeatureFiles | None
    """Features of videos that lie ready; None encodes every frame."""

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """To hold around every adapter choice and forward pass; re-entrant."""

    def encode_frames(self, frames: NDArray[np.uint8], model: Any | None = None) -> torch.Tensor:
        """Encode with the prompts of `model`, which is `adapters`; None: the frozen backbone."""

    def tokenize(self, texts: Sequence[str]) -> torch.Tensor:
        """Return (B, L) int64 token ids."""

    def encode_tokens(
        self, ids: torch.Tensor, model: Any | None = None, points: torch.Tensor | None = None
    ) -> TextStates:
        """Encode token ids, with the prompts of `model`, with gradients where grad mode is on."""


TEMPLATE = "a video of"
"""In front of sentences for CLIP's own text transformers, whose texts often begin so."""


def videos_for(
    backbone: Any,
    videos: Mapping[str, Path] | str | Path,
    records: Iterable[Annotation] = (),
) -> Mapping[str, Path]:
    """Return vid -> file of what is given, and let the backbone read it where it is features.

    Args:
        backbone: A `Backbone`; its `files` are set to features, if those are given.
        videos: vid -> file, `FeatureFiles`, or a folder of videos.
        records: Annotations that tell how long videos are, where features do not.
    """
    if isinstance(videos, FeatureFiles):
        known: dict[str, float] = {}
        for record in records:
            other = known.setdefault(video_key(record.vid), record.duration)
            if abs(other - record.duration) > 1:
                raise RecordError(
                    f"{called(record)}: the video lasts {record.duration:g} s here and {other:g} s "
                    "in another record; correct one"
                )
        videos = backbone.files = videos.lasting(known)
    return videos if isinstance(videos, Mapping) else find_videos(videos)


def unreadable(
    videos: Mapping[str, Path], records: Iterable[Annotation], backbone: Backbone
) -> dict[str, str]:
    """Return vid -> why, of the records' videos whose ready features cannot be used.

    Videos proper are not looked at: that would take as long as encoding them.
    """
    files = videos_for(backbone, videos, records := list(records))
    failures = {}
    for vid in sorted(vid for vid in {record.vid for record in records} if vid in files):
        try:
            backbone.ready(files[vid])
        except ITEM_ERRORS as error:
            failures[vid] = failure(files[vid], error)
    return failures


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
