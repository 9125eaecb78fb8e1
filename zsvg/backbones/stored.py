"""Clips and sentences that others have encoded, as a backbone without any tower.

So published features (QVHighlights' of Moment-DETR, say) are trained on and answered from without
the models that made them.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from zsvg.backbones.base import TextStates, pick_device
from zsvg.backbones.names import STORED
from zsvg.errors import BackboneError, RecordError
from zsvg.features.encoder import FrameFeatures
from zsvg.features.from_files import FeatureFiles, SentenceFeatures, read_sentence, ready
from zsvg.files import sha256_json
from zsvg.records import FROM_FRAMES, Annotation, called
from zsvg.strict_json import quoted


class StoredBackbone:
    """Features alone: of the sentences of given records, and of the videos of `files`.

    Attributes:
        texts: Folder of the sentences' features, one file for each qid.
        embed_dim: D, their width, which clips must have too.
        fingerprint: Of the width; what made the features nobody tells.
        files: Features of videos.
        failures: Sentence -> why it is not known.
    """

    name = STORED
    precision = "fp32"
    reads: tuple[str, ...] = ()
    fps = 2.0
    image_size = 1
    cross_modal = False  # no sentence can be compared with but those that are known
    template = ""
    prompts = None
    adapters = None

    def __init__(
        self,
        texts: str | Path,
        records: Iterable[Annotation],
        device: str | torch.device | None = None,
    ) -> None:
        self.texts = Path(texts)
        self.device = torch.device(device) if device is not None else pick_device()
        self.lock = threading.RLock()
        self.model = torch.nn.Module()
        self.files: FeatureFiles | None = None
        self.failures: dict[str, str] = {}
        self._places: dict[str, int] = {}
        self._states: list[SentenceFeatures] = []
        read: dict[str, SentenceFeatures] = {}
        for record in records:
            if record.query not in read:
                try:
                    read[record.query] = read_sentence(self.texts, record.qid)
                except RecordError as error:
                    self.failures[record.query] = str(error)
        if not read:
            why = next(iter(self.failures.values()), "there are no records")
            raise BackboneError(f"no sentence has features in {self.texts}: {why}")
        width, _ = Counter(len(states.pooled) for states in read.values()).most_common(1)[0]
        for query, states in read.items():
            if len(states.pooled) == width:
                self._places[query] = len(self._states)
                self._states.append(states)
            else:
                self.failures[query] = (
                    f"{self.texts}: {len(states.pooled)} numbers for {quoted(query)}, {width} for "
                    "most others; give features of one model"
                )
        self._places.setdefault(FROM_FRAMES, 0)  # what stands for it is made of frames
        self.embed_dim = width
        self.fingerprint = sha256_json({"features": width})

    def check(self, record: Annotation) -> None:
        """Refuse a record whose sentence has no features.

        Raises:
            RecordError: It has none.
        """
        if record.query not in self._places:
            why = self.failures.get(record.query, f"no features of this sentence in {self.texts}")
            raise RecordError(f"{called(record)}: {why}")

    def prompted(self, adapter: str) -> NoReturn:
        """Refuse: there is no tower to put prompts on."""
        raise BackboneError("ready features take no prompts; name the backbone that made them")

    def ready(self, path: str | Path) -> FrameFeatures | None:
        """Return features of a file of `files`.

        Raises:
            VideoError: As of `FeatureFiles.read`.
        """
        return ready(self.files, path, width=self.embed_dim, fingerprint=self.fingerprint)

    def encode_frames(self, frames: NDArray[np.uint8], model: Any | None = None) -> torch.Tensor:
        """Refuse: there is no image tower."""
        raise BackboneError(
            "this model knows videos by ready features only; give --features, or tune with the "
            "backbone that made them"
        )

    def tokenize(self, texts: Sequence[str]) -> torch.Tensor:
        """Return (B, 1) places of known sentences.

        Raises:
            BackboneError: A sentence has no features.
        """
        if unknown := [text for text in texts if text not in self._places]:
            if (why := self.failures.get(unknown[0])) is not None:
                raise BackboneError(why)
            raise BackboneError(
                f"no features of the sentence {quoted(unknown[0])} in {self.texts}; without a text "
                "tower only sentences that were encoded can be asked"
            )
        return torch.tensor([[self._places[text]] for text in texts], dtype=torch.int64)

    def encode_tokens(
        self, ids: torch.Tensor, model: Any | None = None, points: torch.Tensor | None = None
    ) -> TextStates:
        """Return the states of sentences by their places (B, 1)."""
        chosen = [self._states[place] for place in ids[:, 0].tolist()]
        tokens = [torch.from_numpy(states.tokens) for states in chosen]
        pad = torch.nn.utils.rnn.pad_sequence
        return TextStates(
            pooled=torch.from_numpy(np.stack([s.pooled for s in chosen])).to(self.device),
            tokens=pad(tokens, batch_first=True).to(self.device),
            mask=pad([torch.ones(len(t), dtype=torch.bool) for t in tokens], batch_first=True).to(
                self.device
            ),
        )

    def encode_text(self, texts: Sequence[str]) -> TextStates:
        """Return the states of known sentences."""
        return self.encode_tokens(self.tokenize(texts))

    def relevance(
        self, features: NDArray[np.float32], query: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return (T,) cosines of clips (T, D) with a query (D,)."""
        return np.asarray(features @ query)
