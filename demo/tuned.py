"""The models that visitors have tuned: the last few that were asked stay in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

import zsvg
from zsvg import Grounder, ZsvgError
from zsvg.backbones.clip import ClipBackbone

KEPT = 8
"""More than requests that are answered at a time, so that none loses its model meanwhile."""


class Tuned:
    """Models by their folders, all on the backbone of the page.

    Each has prompts there, and remembers sentences that it has encoded, up to 40 MB. One that was
    let go is loaded again when it is asked.

    Args:
        own: The models of the page; the first has the backbone.
    """

    def __init__(self, own: Iterable[Grounder]) -> None:
        self._own = list(own)
        self._lock = threading.Lock()
        self._models: dict[Path, Grounder] = {}  # the last one that was asked is last

    def of(self, folder: Path) -> Grounder:
        """Return the model in a folder.

        Raises:
            ZsvgError: The page has no CLIP to put its prompts on.
        """
        backbone = self._own[0].backbone
        if not isinstance(backbone, ClipBackbone):
            raise ZsvgError("this page asks captions, and those take no prompts")
        with self._lock:
            model = self._models.pop(folder, None) or zsvg.load(folder, backbone=backbone)
            self._models[folder] = model
            if len(self._models) > KEPT:
                self._let_go(backbone, self._models.pop(next(iter(self._models))))
        return model

    def _let_go(self, backbone: ClipBackbone, model: Grounder) -> None:
        """Take a model's prompts off the backbone, unless another one has the same."""
        needed = {other.adapter for other in (*self._own, *self._models.values())}
        if model.adapter is not None and model.adapter not in needed:
            with backbone.lock:
                backbone.adapters.delete_adapter(model.adapter)
