"""Backbone + adapter + head: encode a video once, then ask it as many sentences as you like."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from zsvg.backbones.base import TextStates
from zsvg.backbones.captions import (
    CLIP_SECONDS,
    CaptionBackbone,
    encode_captions,
    load_caption_backbone,
    read_captions,
)
from zsvg.backbones.clip import ClipBackbone, load_backbone
from zsvg.backbones.names import MANIFEST, PREFIX, tuned_folder
from zsvg.errors import ModelFolderError, ZsvgError
from zsvg.features.extract import FrameFeatures, extract
from zsvg.grounding.model_folder import (
    ADAPTER_FILE,
    attach_adapter,
    load_head,
    load_named,
    read_manifest,
)
from zsvg.grounding.ranking import EVERYDAY, fit
from zsvg.heads.long_videos import look
from zsvg.moments import Spans
from zsvg.scorers.find import find_moments
from zsvg.scorers.options import ScorerOptions
from zsvg.video.finding import find_readable
from zsvg.video.pictures import Framing

if TYPE_CHECKING:
    from peft import PeftModel

    from zsvg.heads.encoder import Encoder
    from zsvg.tuners import PromptConfig

_log = logging.getLogger(__name__)

TEMPLATE = "a video of"
BLIND_QUERY = "something"  # what a query-blind control reads instead of every sentence
_SENTENCES = 256  # that are remembered encoded: 40 MB with 77 tokens of 512 numbers each


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One answer: seconds from the start of the video, and a score (higher is better)."""

    start: float
    end: float
    score: float


@dataclass(frozen=True, kw_only=True)
class EncodedVideo:
    """A video that is ready for questions; cheap to keep, safe to share between threads.

    Attributes:
        vid: The video's name.
        frames: Its frame features.
        encoder: Identity of what encoded it (backbone and visual prompts). Another model that sees
            frames differently refuses it.
    """

    vid: str
    frames: FrameFeatures
    encoder: str

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.frames.duration


@dataclass(frozen=True, kw_only=True)
class Grounding:
    """The answer to one sentence.

    Attributes:
        query: The sentence.
        vid: The video's name.
        moments: Answers, best first.
        curve: (T,) float32 relevance of each clip to the sentence.
        centres: (T,) middle of each clip, seconds.
        fit: How well the video fits the sentence, the higher the better: sorts videos that one
            model was asked the same sentence about, which scores do not. Between sentences or
            models it does not compare. In [-1.5, 1.5], see `zsvg.grounding.ranking.fit`;
            of trained models its mean with `presence`, which is better than either. Of captions
            the highest relevance of a clip, which is 0 or more.
        presence: How well the best answer fits; of one model, it compares across videos and
            sentences, as scores do not. None without training.
        absent: It fits so badly that the moment may not be in the video; the model folder says how
            often that is said of moments that are (`zsvg.grounding.presence_threshold`). Always
            False without training.
    """

    query: str
    vid: str
    moments: tuple[Moment, ...]
    curve: NDArray[np.float32]
    centres: NDArray[np.float64]
    fit: float = 0.0
    presence: float | None = None
    absent: bool = False

    @property
    def extra(self) -> dict[str, Any]:
        """What a written answer tells besides its moments: "presence", and "absent" if it is."""
        told = {} if self.presence is None else {"presence": self.presence}
        return told | ({"absent": True} if self.absent else {})


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
            fps=self.fps,
            framing=self.framing,
            cache=cache,
            allow_truncated=allow_truncated,
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
            seen = look(self.head, video.frames.features, video.frames.edges, text)
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
        """(D,) mean of everyday sentences, as the frozen backbone encodes them."""
        texts = [f"{TEMPLATE} {sentence}" for sentence in EVERYDAY]
        with torch.no_grad():
            mean: NDArray[np.float32] = (
                self.backbone.encode_text(texts).pooled.mean(0).cpu().numpy()
            )
        return mean


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


def load(
    model_or_backbone: str | Path | None,
    device: str | None = None,
    *,
    backbone: ClipBackbone | None = None,
    domain: str | None = None,
    templates: Sequence[str] = (),
    allow_download: bool = False,
) -> Grounder:
    """Load a tuned model folder, or a bare backbone for training-free grounding.

    Args:
        model_or_backbone: A folder written by `zsvg tune`, or a backbone name such as `micro`
            (a folder of that name is `./micro`).
        device: "cpu", "cuda", ...; the best available by default.
        backbone: An already loaded backbone to put the model's prompts on. Several models can
            share one; each is switched to when it is asked.
        domain: One of the domains that the model was tuned on; None takes the mean of them.
        templates: Texts around `{query}` to ask a bare backbone with, all at once, such as
            `zsvg.training.recipes.load_templates("video")`.
        allow_download: Fetch the backbone that a model folder names, also where it is not of
            open_clip's own list. What you name yourself is fetched in any case.

    Raises:
        BackboneError: The backbone cannot be loaded.
        ZsvgError: The model does not know the domain.
        ModelFolderError: The folder is incomplete, was made for another backbone, has sizes out
            of range, or names a backbone that is neither here nor known.
        ValueError: `templates` are given for a model that was tuned with its own, or for captions.
    """
    grounder = _load(model_or_backbone, device, backbone, allow_download)
    if domain is not None and domain not in grounder.domains:
        known = f"knows {', '.join(grounder.domains)}" if grounder.domains else "has no domains"
        raise ZsvgError(f"unknown domain {domain!r}: this model {known}; or leave the domain out")
    if templates and (grounder.head is not None or isinstance(grounder.backbone, CaptionBackbone)):
        raise ValueError(
            f"templates are for a bare CLIP; {model_or_backbone} has its own way to ask"
        )
    grounder.domain, grounder.templates = domain, tuple(templates)
    return grounder


def _load(
    model_or_backbone: str | Path | None,
    device: str | None,
    backbone: ClipBackbone | None,
    allow_download: bool,
) -> Grounder:
    folder = tuned_folder(model_or_backbone)
    if model_or_backbone == "micro" and Path("micro", MANIFEST).is_file():
        _log.warning("micro is the embedded backbone; the model folder here is ./micro")
    if folder is None:
        name = None if model_or_backbone is None else str(model_or_backbone)
        if backbone is None and name is not None and name.startswith(PREFIX):
            speaker = load_caption_backbone(name, device)
            # Sentences need no template, and a captioner is slow: one frame per caption clip.
            return Grounder(speaker, template="", fps=1 / CLIP_SECONDS)
        return Grounder(backbone or load_backbone(name, device))
    manifest = read_manifest(folder)
    wanted = manifest["backbone"]
    backbone = backbone or load_named(folder, wanted["name"], device, allow_download=allow_download)
    if backbone.fingerprint != wanted["fingerprint"]:
        raise ModelFolderError(
            f"{folder}: made for {wanted['name']} ({wanted['fingerprint'][:12]}), but "
            f"{backbone.name} is {backbone.fingerprint[:12]}; load it onto the backbone it names"
        )
    adapter = None
    if (folder / ADAPTER_FILE).is_file():
        adapter = attach_adapter(backbone, folder)
    return Grounder(
        backbone,
        adapter=adapter,
        head=load_head(folder, manifest["head"], backbone),
        template=manifest["template"],
        fps=manifest["sampling"]["fps"],
        framing=manifest["sampling"]["framing"],
        manifest=manifest,
    )
