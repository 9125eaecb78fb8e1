"""Captions as a backbone: a clip is represented by the sentence embedding of its caption.

So any captioner, or a folder of captions that somebody else made, becomes a grounding backbone in
the space of an ordinary sentence encoder. The query is encoded by the same one.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from zsvg.backbones.base import TextStates, pick_device
from zsvg.backbones.names import CAPTION_FILES, PREFIX, check_sentence_model
from zsvg.errors import BackboneError, RecordError, reason
from zsvg.features.encoder import FrameFeatures
from zsvg.files import sha256_json, sha256_tensors
from zsvg.places.urls import place_of

if TYPE_CHECKING:
    from zsvg.backbones.captioner import Captioner

CLIP_SECONDS = 2.0
"""Length of a clip in caption files that number their clips, as QVHighlights' clips are."""
_TFIDF_WIDTH = 4096

Rows = NDArray[np.float32]


class SentenceEncoder(Protocol):
    """Turns sentences into rows of unit length."""

    fingerprint: str
    width: int

    def encode(self, texts: Sequence[str]) -> Rows:
        """Return (N, width) float32, L2-normalised; an all-zero row where nothing is known."""
        ...

    def weigh(self, rows: Rows, features: Rows) -> Rows:
        """Return rows (N, width) as they count in a video with clips (T, width), length 1 or 0."""
        ...

    def relevance(self, features: Rows, query: Rows) -> Rows:
        """Return (T,) how well each clip (T, width) fits the query (width,)."""
        ...


class CaptionBackbone:
    """A sentence encoder, and a captioner where frames have to be described first.

    A sentence of a query is compared with sentences, so it needs no template; and a captioner is
    slow, so one frame stands for a caption clip.

    Attributes:
        name: "captions:ENCODER".
        encoder: The sentence encoder.
        captioner: Describes frames; None reads ready captions only.
        fingerprint: Of both.
        image_size: What the captioner takes, pixels.
        embed_dim: Width of the sentence embeddings.
        seconds: Length of a clip in files of ready captions.
    """

    precision = "fp32"
    reads = CAPTION_FILES
    fps = 1 / CLIP_SECONDS
    cross_modal = False
    template = ""
    prompts = None
    adapters = None

    def __init__(
        self, name: str, encoder: SentenceEncoder, captioner: Captioner | None = None
    ) -> None:
        self.name = name
        self.encoder = encoder
        self.captioner = captioner
        described = captioner.fingerprint if captioner else None
        self.fingerprint = sha256_json({"sentences": encoder.fingerprint, "captioner": described})
        self.image_size = captioner.image_size if captioner else 224
        self.embed_dim = encoder.width
        self.seconds = CLIP_SECONDS
        self.device = torch.device("cpu")
        self.lock = threading.RLock()

    def prompted(self, adapter: str) -> NoReturn:
        """Refuse: it takes no prompts."""
        raise BackboneError(f"{self.name} takes no prompts; tune a CLIP")

    def ready(self, path: str | Path) -> FrameFeatures | None:
        """Return the features of a file of captions; frames of videos have to be described.

        Raises:
            RecordError: As of `read_captions`.
        """
        if place_of(path).suffix not in self.reads:
            return None
        return encode_captions(self, read_captions(path, seconds=self.seconds))

    def encode_frames(self, frames: NDArray[np.uint8]) -> torch.Tensor:
        """Caption (B, image_size, image_size, 3) uint8 frames; return the captions' (B, D) rows.

        Raises:
            BackboneError: There is no captioner.
        """
        if self.captioner is None:
            raise BackboneError(
                f"{self.name} cannot describe frames; name a captioner ({self.name}@CAPTIONER), or "
                "give ready captions (a folder of VIDEO.jsonl) instead of videos"
            )
        captions = self.captioner.caption(list(frames))
        with self.lock:
            return torch.from_numpy(self.encoder.encode(captions))

    def encode_text(self, texts: Sequence[str]) -> TextStates:
        """Encode sentences; the pooled vector is the only token."""
        with self.lock:
            pooled = torch.from_numpy(self.encoder.encode(texts))
        mask = torch.ones(len(pooled), 1, dtype=torch.bool)
        return TextStates(pooled=pooled, tokens=pooled[:, None], mask=mask)

    def relevance(self, features: Rows, query: Rows) -> Rows:
        """Return (T,) how well each clip's row (T, D) fits the query (D,)."""
        return self.encoder.relevance(features, query)


def load_caption_backbone(name: str, device: str | None = None) -> CaptionBackbone:
    """Load "captions:ENCODER" (reads ready captions) or "captions:ENCODER@CAPTIONER" (makes them).

    Args:
        name: ENCODER is `tfidf` (words in common, weighed by how few clips of the video have them;
            needs no weights), or a sentence-transformers id or folder. CAPTIONER is what
            `load_captioner` takes.
        device: Where both run; the best there is by default.

    Raises:
        BackboneError: The encoder or captioner cannot be loaded.
    """
    kind, _, captioner = name.removeprefix(PREFIX).partition("@")
    if not kind:
        raise BackboneError(f"backbone {name!r} names no encoder; try captions:tfidf")
    encoder: SentenceEncoder = _Tfidf() if kind == "tfidf" else _Transformer(kind, device)
    describe = None
    if captioner:
        from zsvg.backbones.captioner import load_captioner

        describe = load_captioner(captioner, device)
    return CaptionBackbone(name, encoder, describe)


def load_sentence_model(
    name: str, device: str | None = None, *, allow_download: bool = False
) -> CaptionBackbone:
    """Load a model of sentences alone.

    Args:
        name: A folder (with or without the prefix "local-dir:"), or an ORG/NAME of the Hugging Face
            Hub: a model of sentence-transformers.
        device: Where it runs; the best there is by default.
        allow_download: Fetch it if it is not on this machine.

    Raises:
        BackboneError: The name is unknown, or the model cannot be loaded.
    """
    check_sentence_model(name)
    bare = name.removeprefix("local-dir:")
    folder = Path(bare).expanduser()
    source = str(folder) if folder.is_dir() else bare
    return CaptionBackbone(
        f"{PREFIX}{source}", _Transformer(source, device, fetched=allow_download)
    )


class _Tfidf:
    """Bags of words in hashed columns. How rare a word is depends on the video: see `weigh`."""

    width = _TFIDF_WIDTH
    fingerprint = f"tfidf-{_TFIDF_WIDTH}-1"

    def __init__(self) -> None:
        from sklearn.feature_extraction.text import HashingVectorizer

        self._words = HashingVectorizer(
            n_features=_TFIDF_WIDTH, stop_words="english", alternate_sign=False
        )

    def encode(self, texts: Sequence[str]) -> Rows:
        if not len(texts):
            return np.zeros((0, self.width), np.float32)
        return np.asarray(self._words.transform(texts).toarray(), dtype=np.float32)

    def weigh(self, rows: Rows, features: Rows) -> Rows:
        # As scikit-learn's tf-idf, fitted on the clips of this video.
        rarity = np.log((1 + len(features)) / (1 + (features > 0).sum(axis=0))) + 1
        weighed = rows * rarity
        lengths = np.linalg.norm(weighed, axis=1, keepdims=True)
        return np.asarray(weighed / np.maximum(lengths, 1e-9), dtype=np.float32)

    def relevance(self, features: Rows, query: Rows) -> Rows:
        (wanted,) = self.weigh(query[None], features)
        return np.asarray(self.weigh(features, features) @ wanted)


class _Transformer:
    """A sentence-transformers model."""

    def __init__(self, name: str, device: str | None, *, fetched: bool | None = None) -> None:
        way_out = "give the folder of a downloaded model"
        if fetched is None:
            way_out += ", or captions:tfidf"
        elif not fetched and not Path(name).is_dir():
            way_out = (
                "if it is not on this machine, --allow-download (in Python "
                "`allow_download=True`) fetches it"
            )
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise BackboneError(
                f"{name}: needs sentence-transformers: pip install 'zsvg[captions]'"
                + (", or take captions:tfidf" if fetched is None else "")
            ) from None
        try:
            self._model = SentenceTransformer(
                name, device=str(device or pick_device()), local_files_only=fetched is False
            )
        except Exception as error:  # its loaders raise a dozen unrelated types
            raise BackboneError(
                f"sentence encoder {name!r} cannot be loaded: {reason(error)}; {way_out}"
            ) from error
        self.width = int(self._model.get_embedding_dimension() or 0)
        self.fingerprint = _fingerprint(self._model)

    def encode(self, texts: Sequence[str]) -> Rows:
        if not len(texts):
            return np.zeros((0, self.width), np.float32)
        rows = self._model.encode(
            list(texts), normalize_embeddings=True, show_progress_bar=False, convert_to_numpy=True
        )
        return np.asarray(rows, dtype=np.float32)

    def weigh(self, rows: Rows, features: Rows) -> Rows:
        return rows

    def relevance(self, features: Rows, query: Rows) -> Rows:
        return np.asarray(features @ query)


def _fingerprint(model: Any) -> str:
    vocabulary = sha256_json(sorted(model.tokenizer.get_vocab().items()))
    return sha256_json(
        {
            "weights": sha256_tensors(model.state_dict()),
            "vocabulary": vocabulary,
            "longest": model.max_seq_length,
            "modules": [type(module).__name__ for module in model],
        }
    )


@dataclass(frozen=True, kw_only=True)
class CaptionTrack:
    """What somebody wrote about a video, clip by clip.

    Attributes:
        vid: The video's name.
        captions: One sentence per clip; a clip that nobody described has "".
        seconds: Length of a clip.
    """

    vid: str
    captions: tuple[str, ...]
    seconds: float = CLIP_SECONDS

    @property
    def duration(self) -> float:
        """Seconds that the captions cover."""
        return len(self.captions) * self.seconds


def read_captions(path: str | Path, *, seconds: float = CLIP_SECONDS) -> CaptionTrack:
    """Read a JSONL file with one caption per clip of `seconds`.

    Lines have the clip's number from 0 as `clip` (or VTG-GPT's `moment`) and the sentence as
    `caption` (or `description`). The name of the file is that of the video.

    Raises:
        FileNotFoundError: There is no such file.
        RecordError: A line is not such an object, or a clip is described twice.
    """
    source = place_of(path)
    found: dict[int, str] = {}
    for number, line in enumerate(source.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line.decode("utf-8"))
            clip, text = _caption(record)
        except (ValueError, KeyError, TypeError, RecursionError):
            raise RecordError(
                f'{source}:{number}: not a caption; a line is {{"clip": 0, "caption": "..."}}'
            ) from None
        if clip in found:
            raise RecordError(f"{source}:{number}: clip {clip} is described twice")
        found[clip] = text
    if not found:
        raise RecordError(f"{source}: there are no captions in it")
    captions = tuple(found.get(clip, "") for clip in range(max(found) + 1))
    return CaptionTrack(vid=source.stem, captions=captions, seconds=seconds)


def _caption(record: Mapping[str, Any]) -> tuple[int, str]:
    clip = record["clip"] if "clip" in record else record["moment"]
    text = record["caption"] if "caption" in record else record["description"]
    if isinstance(clip, bool) or not isinstance(clip, int) or not 0 <= clip < 10**6:
        raise ValueError
    if not isinstance(text, str):
        raise TypeError
    return clip, " ".join(text.split())


def encode_captions(backbone: CaptionBackbone, track: CaptionTrack) -> FrameFeatures:
    """Return a video's features from its captions; clips without a caption are zero rows."""
    with backbone.lock:
        rows = backbone.encoder.encode(track.captions)
    rows[[not caption for caption in track.captions]] = 0.0
    centres = ((np.arange(len(rows)) + 0.5) * track.seconds).astype(np.float64)
    return FrameFeatures(
        vid=track.vid,
        features=rows,
        times=centres,
        duration=track.duration,
        fps=1 / track.seconds,
        framing="crop",
        fingerprint=backbone.fingerprint,
        content=sha256_json(list(track.captions)),
    )
