"""A backbone with one adapter's prompts at work, which is a backbone itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from zsvg.backbones.base import TextStates, TunableBackbone
from zsvg.errors import ZsvgError
from zsvg.features.encoder import FrameFeatures

if TYPE_CHECKING:
    from zsvg.tuners import PromptConfig


class PromptedBackbone:
    """Sees and reads as its backbone does with these prompts, and nobody else's.

    They are put to work for each pass anew: others that share the backbone have their turn while
    the next frames are decoded. What is asked of it raises `ZsvgError` once the prompts have been
    taken off the backbone.

    Attributes:
        backbone: The frozen one, which several may share.
        adapter: Name of the prompts in `backbone.adapters`.
    """

    def __init__(self, backbone: TunableBackbone, adapter: str) -> None:
        self.backbone = backbone
        self.adapter = adapter
        self.name = backbone.name
        self.precision = backbone.precision
        self.image_size = backbone.image_size
        self.embed_dim = backbone.embed_dim
        self.device = backbone.device
        self.cross_modal = backbone.cross_modal
        self.template = backbone.template
        self.reads = backbone.reads
        self.fps = backbone.fps

    @property
    def prompts(self) -> PromptConfig:
        """What the prompts are."""
        adapters = self.backbone.adapters
        if adapters is None or self.adapter not in adapters.peft_config:
            raise ZsvgError("this model's prompts were taken off the backbone; load it again")
        config: PromptConfig = adapters.peft_config[self.adapter]
        return config

    @property
    def fingerprint(self) -> str:
        """The backbone's, and the adapter's name if it changes how frames are encoded."""
        suffix = f"+{self.adapter}" if self.prompts.sees_frames else ""
        return self.backbone.fingerprint + suffix

    def prompted(self, adapter: str) -> PromptedBackbone:
        """Return the backbone with other prompts of it at work."""
        return PromptedBackbone(self.backbone, adapter)

    def ready(self, path: str | Path) -> FrameFeatures | None:
        """Return the backbone's, unless prompts change how frames are encoded."""
        return None if self.prompts.sees_frames else self.backbone.ready(path)

    def encode_frames(self, frames: NDArray[np.uint8]) -> torch.Tensor:
        """Encode as the backbone does."""
        if not self.prompts.sees_frames:
            return self.backbone.encode_frames(frames)
        with self._at_work() as model:
            return self.backbone.encode_frames(frames, model=model)

    def encode_text(self, texts: Sequence[str]) -> TextStates:
        """Encode texts, and what the prompts put behind them, without gradients.

        It depends on `zsvg.tuners.in_domain` and, for conditional prompts, needs `condition_on`.
        """
        config = self.prompts
        ids = config.complete(self.backbone.tokenize(texts))
        with torch.no_grad(), self._at_work() as model:
            return self.backbone.encode_tokens(ids, model=model, points=config.points(ids))

    def relevance(
        self, features: NDArray[np.float32], query: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the backbone's."""
        return self.backbone.relevance(features, query)

    @contextmanager
    def _at_work(self) -> Iterator[Any]:
        """Hold the backbone's lock for one pass; yield the `model` that runs it."""
        with self.backbone.lock:
            adapters = self.backbone.adapters
            adapters.set_adapter(self.adapter, inference_mode=True)
            yield adapters
