"""Backbone + adapter + head: encode a video once, then ask it as many sentences as you like."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from zsvg.backbones.base import TextStates
from zsvg.backbones.captions import (
    CaptionBackbone,
    encode_captions,
    read_captions,
)
from zsvg.backbones.clip import ClipBackbone
from zsvg.errors import ZsvgError
from zsvg.features.extract import FrameFeatures, extract
from zsvg.grounding.answers import EncodedVideo, Grounding, Moment
from zsvg.grounding.ranking import USUAL, fit
from zsvg.heads.long_videos import answer_video
from zsvg.moments import Spans
from zsvg.scorers.find import find_moments
from zsvg.scorers.options import ScorerOptions
from zsvg.video.finding import find_readable
from zsvg.video.pictures import Framing
from zsvg.video.sampling import Sampling

if TYPE_CHECKING:
    from peft import PeftModel

    from zsvg.heads.encoder import Encoder
    from zsvg.tuners import PromptConfig

_log = logging.getLogger(__name__)

TEMPLATE = "a video of"
BLIND_QUERY = "something"  # what a query-blind control reads instead of every sentence
_SENTENCES = 256  # that are remembered encoded: 40 MB with 77 tokens of 512 numbers each


class Grounder:
    """Finds moments by sentence; make one with `zsvg.load`.

    Attributes:
        backbone: The frozen CLIP; several grounders may share one.
        adapter: Name of its prompts in `backbone.adapters`, None without prompts.
        head: Trained head; None grounds without training, by similarity alone.
        fps: Clips per second.
        framing: How pictures become square.
        templates: Hand-written texts around `{query}`, whose mean embedding is the query's
            (prompt ensembling, as in CLIP's paper); empty: `template` in front of it alone.
        manifest: The model folder's `zsvg.json`; empty without one.
        domain: Which of `domains` the videos are of, for a model that was tuned on several; None,
            and other names, stand for the mean of all.
    """

    def __init__(
        self,
        backbone: ClipBackbone | CaptionBackbone,
        *,
        adapter: str | None = None,
        head: Encoder | None = None,
        template: str = TEMPLATE,
        fps: float = 2.0,
        framing: Framing = "crop",
        scorer: ScorerOptions | None = None,
        manifest: Mapping[str, Any] | None = None,
    ) -> None:
        self.backbone = backbone
        self.adapter = adapter
        self.head = head
        self.template = template
        self.templates: tuple[str, ...] = ()
        self.fps = fps
        self.framing: Framing = framing
        self.scorer = scorer or ScorerOptions()
        self.manifest = dict(manifest or {})
        self.domain: str | None = None
        # Encoding a sentence takes far longer than asking it of one more video.
        self._remembered = lru_cache(_SENTENCES)(self._encode_texts)

    @property
    def prompts(self) -> PromptConfig | None:
        """What its prompts are; None without any.

        Raises:
            ZsvgError: They have been taken off the backbone.
        """
        if self.adapter is None:
            return None
        adapters = self.backbone.adapters
        if adapters is None or self.adapter not in adapters.peft_config:
            raise ZsvgError("this model's prompts were taken off the backbone; load it again")
        config: PromptConfig = adapters.peft_config[self.adapter]
        return config

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the domains that the prompts have tokens of (DAPL); none in other models."""
        return tuple((self.prompts and self.prompts.domains) or ())

    @property
    def least_presence(self) -> float:
        """From which `Grounding.presence` on a moment is taken to be there."""
        presence = self.manifest.get("presence")
        return float(presence["threshold"]) if presence and self.head is not None else -math.inf

    @property
    def sees_prompts(self) -> bool:
        """Whether the adapter changes how frames are encoded."""
        return self.prompts is not None and self.prompts.sees_frames

    @property
    def encoder(self) -> str:
        """Identity of the frame encoder: the backbone's, with the adapter's if it sees frames."""
        suffix = f"+{self.adapter}" if self.sees_prompts else ""
        return self.backbone.fingerprint + suffix

    @contextmanager
    def active(self) -> Iterator[Any]:
        """Yield the `model` to encode with: this grounder's prompts, and nobody else's, at work.

        That is None, the frozen backbone, without prompts. It holds the backbone's lock: use it
        around one forward pass, not around a video.
        """
        with self.backbone.lock:
            if self.prompts is None:
                yield None
            else:
                adapters: PeftModel = self.backbone.adapters
                adapters.set_adapter(self.adapter, inference_mode=True)
                yield adapters

    def find(self, *places: str | Path) -> dict[str, Path]:
        """Return vid -> file of what `encode` takes: videos, or ready captions where those serve.

        Args:
            places: Files, folders and patterns, see `zsvg.video.finding.find_videos`.

        Raises:
            VideoError: There is nothing of that kind.
        """
        return find_readable(*places, captions=isinstance(self.backbone, CaptionBackbone))

    def encode(
        self,
        video: str | Path,
        *,
        cache: str | Path | None = None,
        allow_truncated: bool = False,
    ) -> EncodedVideo:
        """Encode a video's frames.

        Args:
            video: A file; for a backbone that reads captions also a JSONL file of captions.
            cache: Folder of cached features; None neither reads nor writes one.
            allow_truncated: Keep the readable part of a damaged file instead of raising.

        Raises:
            VideoError: The file is not a usable video.
        """
        if isinstance(self.backbone, CaptionBackbone) and Path(video).suffix == ".jsonl":
            frames = encode_captions(self.backbone, read_captions(video))
            return EncodedVideo(vid=frames.vid, frames=frames, encoder=self.encoder)
        frames = extract(
            video,
            self._frame_encoder,
            Sampling(self.fps, self.framing, allow_truncated),
            cache=cache,
        )
        return EncodedVideo(vid=frames.vid, frames=frames, encoder=self.encoder)

    def encode_pictures(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode (N, image_size, image_size, 3) uint8 frames into (N, D) rows of unit length."""
        with torch.no_grad():
            rows: NDArray[np.float32] = self._frame_encoder.encode_frames(pictures).cpu().numpy()
        return rows

    @property
    def _frame_encoder(self) -> Any:
        """What encodes frames: the backbone, with the prompts at work if they see frames."""
        return _PromptedEncoder(self) if self.sees_prompts else self.backbone

    def encode_query(
        self, query: str, video: EncodedVideo | None = None, domain: str | None = None
    ) -> TextStates:
        """Encode a sentence behind the template, with this grounder's prompts.

        Args:
            query: The sentence.
            video: What it will be asked of; prompts that depend on the video (CoCoOp) need it.
            domain: Instead of the grounder's `domain`.

        Raises:
            ValueError: The prompts depend on the video, and none is given.
        """
        texts = [template.replace("{query}", query) for template in self.templates]
        texts = texts or [f"{self.template} {query}".strip()]
        about = domain or self.domain
        if self.prompts is None or not self.prompts.conditional:
            return self._remembered(tuple(texts), about, self.adapter)
        if video is None:
            raise ValueError("this model's prompts depend on the video; give encode_query one")
        from zsvg.tuners import condition_on

        mean = torch.from_numpy(video.frames.features).to(self.backbone.device).mean(0)
        with condition_on(torch.nn.functional.normalize(mean, dim=-1)):
            return self._encode_texts(tuple(texts), about)

    @torch.no_grad()
    def _encode_texts(
        self, texts: tuple[str, ...], domain: str | None, adapter: str | None = None
    ) -> TextStates:
        """Encode one sentence in all its templates, with what the prompts put behind it.

        `adapter` is the grounder's own: what is remembered of one is not of another.
        """
        states = self._states(list(texts), domain)
        if len(texts) == 1:
            return states
        pooled = torch.nn.functional.normalize(states.pooled.mean(0, keepdim=True), dim=-1)
        # Words stand at other places in every text; a mean of them would be of nothing.
        return TextStates(pooled=pooled, tokens=pooled[:, None], mask=pooled.new_ones(1, 1).bool())

    def _states(self, texts: list[str], domain: str | None) -> TextStates:
        config = self.prompts
        if config is None or isinstance(self.backbone, CaptionBackbone):
            return self.backbone.encode_text(texts)
        from zsvg.tuners import in_domain

        ids = config.complete(self.backbone.tokenize(texts))
        with self.active() as model, in_domain(domain):
            return self.backbone.encode_tokens(ids, model=model, points=config.points(ids))

    def ground(
        self,
        video: EncodedVideo | str | Path,
        query: str,
        top_k: int = 5,
        domain: str | None = None,
    ) -> Grounding:
        """Find the moments that a sentence describes.

        Args:
            video: An encoded video, or a file (then it is encoded first).
            query: The sentence.
            top_k: Most answers to return, at least 1.
            domain: Instead of the grounder's `domain`.

        Raises:
            ValueError: The video was encoded by another model, the sentence is empty, or `top_k`
                is below 1.
        """
        if not query.strip():
            raise ValueError("the query is empty; describe the moment in a few words")
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k}")
        if not isinstance(video, EncodedVideo):
            video = self.encode(video)
        if video.encoder != self.encoder:
            raise ValueError(
                f"{video.vid} was encoded by another model ({video.encoder[:12]}, this one is "
                f"{self.encoder[:12]}); encode it with this model"
            )
        asked = BLIND_QUERY if self.manifest.get("query_blind") else query
        text = self.encode_query(asked, video, domain)
        similar = self.backbone.relevance(video.frames.features, text.pooled[0].cpu().numpy())
        fits = self._fit(video.frames, text, similar)
        if self.head is None:
            moments, curve = self._by_similarity(video.frames, similar, top_k), similar
            presence = None
        else:
            seen = answer_video(self.head, video.frames.features, video.frames.edges, text)
            moments, curve = _moments(seen.moments, seen.scores, top_k), seen.relevance
            presence = round(seen.presence, 6)
            fits = (fits + seen.presence) / 2
        return Grounding(
            query=query,
            vid=video.vid,
            moments=moments,
            curve=curve,
            centres=video.frames.centres,
            fit=round(fits, 6),
            presence=presence,
            absent=presence is not None and presence < self.least_presence,
        )

    def _by_similarity(
        self, frames: FrameFeatures, curve: NDArray[np.float32], top_k: int
    ) -> tuple[Moment, ...]:
        spans, scores = find_moments(curve, frames.edges, self.scorer, frames.features)
        return _moments(spans, scores, top_k)

    def _fit(self, frames: FrameFeatures, text: TextStates, similar: NDArray[np.float32]) -> float:
        if isinstance(self.backbone, CaptionBackbone):  # words are not shared as pictures are
            return float(similar.max())
        return fit(frames.features, text.pooled[0].cpu().numpy(), self.usual)

    @cached_property
    def usual(self) -> NDArray[np.float32]:
        """(D,) the sentence that `fit` compares others with, as the frozen backbone encodes it."""
        vector: NDArray[np.float32] = self.backbone.encode_text([USUAL]).pooled[0].cpu().numpy()
        return vector


def _moments(spans: Spans, scores: NDArray[np.float64], top_k: int) -> tuple[Moment, ...]:
    return tuple(
        Moment(start=float(s), end=float(e), score=float(p))
        for (s, e), p in zip(spans[:top_k], scores[:top_k], strict=True)
    )


class _PromptedEncoder:
    """What `features.extract` needs of a backbone, with a grounder's visual prompts at work.

    They are put to work for each batch anew: others that share the backbone have their turn while
    the next frames are decoded.
    """

    def __init__(self, grounder: Grounder) -> None:
        backbone = grounder.backbone
        self.grounder = grounder
        self.name = backbone.name
        self.fingerprint = grounder.encoder
        self.precision = backbone.precision
        self.image_size = backbone.image_size
        self.embed_dim = backbone.embed_dim
        self.device = backbone.device

    def encode_frames(self, frames: NDArray[np.uint8]) -> torch.Tensor:
        """Encode as `ClipBackbone.encode_frames` does."""
        with self.grounder.active() as model:
            return self.grounder.backbone.encode_frames(frames, model=model)
