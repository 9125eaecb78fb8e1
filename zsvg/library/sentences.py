"""By which model what is said is compared with a sentence, and where its lines lie."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from zsvg.backbones.base import Backbone
from zsvg.errors import ZsvgError
from zsvg.grounding.ranking import USUAL
from zsvg.library.manifest import Manifest, SentenceModel, read_manifest
from zsvg.library.said import Said

_BATCH = 64  # sentences


class Sentences:
    """Encodes lines, and the sentences that are looked for in them.

    Attributes:
        backbone: Its frozen text side does it, without prompts.
        model: What the manifest says of it; None: it is the backbone of the frames.
    """

    def __init__(self, backbone: Backbone, model: SentenceModel | None = None) -> None:
        self.backbone = backbone
        self.model = model

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (N, D) rows of unit length."""
        rows = [np.zeros((0, self.backbone.embed_dim), np.float32)]
        for start in range(0, len(texts), _BATCH):
            with torch.no_grad():
                states = self.backbone.encode_text(list(texts[start : start + _BATCH]))
            rows.append(states.pooled.cpu().numpy().astype(np.float32))
        return np.concatenate(rows)

    def least(self, vector: NDArray[np.float32]) -> float:
        """Return the cosine with a sentence (D,) from which on a line means the same.

        It is nearer to the sentence than one that says nothing in particular. So each model, and
        each sentence, has a threshold of its own. (Of two sentences about one moment of
        Charades-STA 96 % pass with all-MiniLM-L6-v2 and 90 % with CLIP's text space as rebuilt from
        it, of two about any moments 13 and 10 %, `scripts/benchmark_said.py`.)
        """
        return float(vector @ self._usual)

    @cached_property
    def _usual(self) -> NDArray[np.float32]:
        usual: NDArray[np.float32] = self.encode([USUAL])[0]
        return usual

    def said(self, space: Path) -> Said:
        """Return the tables of what is said in the folder of a space, made where they are missing.

        Raises:
            ZsvgError: As of `Said`.
        """
        return Said(_place(space, self.model), self.backbone.embed_dim)

    def there(self, space: Path) -> Said | None:
        """Return the same to be read; None where it was never looked after what is said."""
        return Said.there(_place(space, self.model), self.backbone.embed_dim)


def load_sentences(
    name: str, device: str | None = None, *, allow_download: bool = False
) -> Sentences:
    """Load a model of sentences by name, as of `zsvg.backbones.captions.load_sentence_model`.

    Raises:
        BackboneError: It is unknown, or cannot be loaded.
    """
    from zsvg.backbones.captions import load_sentence_model

    bare = name.removeprefix("local-dir:")
    folder = Path(bare).expanduser()
    kept = str(folder.absolute()) if folder.is_dir() else bare  # found from other folders too
    backbone = load_sentence_model(kept, device, allow_download=allow_download)
    encoder = backbone.encoder
    model = SentenceModel(model=kept, fingerprint=encoder.fingerprint, width=encoder.width)
    return Sentences(backbone, model)


def own_sentences(
    folder: Path, backbone: Backbone, device: str | None = None, *, allow_download: bool = False
) -> Sentences:
    """Return what the lines of a library are compared by.

    Libraries come from anybody: nothing is fetched, unless it is allowed.

    Args:
        folder: The library.
        backbone: Of its frames.
        device: As of `load_sentences`, like the last one.
        allow_download: Fetch a model that the library names.

    Raises:
        BackboneError: That model cannot be loaded.
        ZsvgError: It is another one by now.
    """
    made = read_manifest(folder).sentences
    if made is None:
        return Sentences(backbone)
    found = load_sentences(made.model, device, allow_download=allow_download)
    if found.model != made:
        raise ZsvgError(
            f"{folder}: lines are of another {made.model} ({made.fingerprint[:12]}) than the one "
            f"there is now; `zsvg index -o {folder} --sentence-model {made.model}` makes them anew"
        )
    return found


def said_there(folder: Path, manifest: Manifest, space: str) -> Said | None:
    """Return what is known of what is said in a space, by its name; None: nothing."""
    model = manifest.sentences
    width = manifest.spaces[space].width if model is None else model.width
    return Said.there(_place(folder / space, model), width)


def _place(space: Path, model: SentenceModel | None) -> Path:
    return space if model is None else space / model.name
