"""Backbone + adapter + head: encode a video once, then ask it as many sentences as you like."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from zsvg.backbones.base import Backbone, TextStates
from zsvg.features.encoder import FrameFeatures
from zsvg.features.extract import extract
from zsvg.grounding.alignment import Alignment
from zsvg.grounding.answers import EncodedVideo, Grounding, Moment, moments_of
from zsvg.grounding.model_card import describe_features
from zsvg.grounding.parts import Parts, parts_of
from zsvg.grounding.presence import checked_sure, least_of, presence_of
from zsvg.grounding.ranking import USUAL, fit
from zsvg.grounding.relations import Read, in_time
from zsvg.grounding.share import mixed
from zsvg.heads.long_videos import answer_video
from zsvg.scorers.find import find_moments
from zsvg.scorers.options import ScorerOptions, usual_scorer
from zsvg.scorers.tfvtg import Tfvtg
from zsvg.video.finding import find_readable
from zsvg.video.pictures import Framing
from zsvg.video.sampling import Sampling

if TYPE_CHECKING:
    from zsvg.heads.ensemble import Head
    from zsvg.heads.presence import PresenceJudge
    from zsvg.tuners import PromptConfig

_log = logging.getLogger(__name__)

BLIND_QUERY = "something"  # what a query-blind control reads instead of every sentence
_SENTENCES = 256  # that are remembered encoded: 40 MB with 77 tokens of 512 numbers each


class Grounder:
    """Finds moments by sentence; make one with `zsvg.load`.

    Attributes:
        backbone: The frozen one; several grounders may share it.
        adapter: Name of its prompts on the backbone, None without prompts.
        head: Trained head; None grounds without training, by similarity alone.
        alignment: What turns sentences towards the looks of their moments, as far as `amount` says;
            None: nothing does.
        fps: Clips per second.
        scorer: What reads moments from a curve without a head; None: what is usual for the rate.
        framing: How pictures become square.
        templates: Hand-written texts around `{query}`, whose mean embedding is the query's
            (prompt ensembling, as in CLIP's paper); empty: `template` in front of it alone.
        manifest: The model folder's `zsvg.json`; empty without one.
        reads_time: Whether sentences that relate moments ("X before Y") are read into parts, see
            `zsvg.grounding.parts`; else every sentence is one moment.
        domain: Which of `domains` the videos are of, for a model that was tuned on several; None,
            and other names, stand for the mean of all.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        adapter: str | None = None,
        head: Head | None = None,
        alignment: Alignment | None = None,
        judge: PresenceJudge | None = None,
        template: str | None = None,
        fps: float | None = None,
        framing: Framing = "crop",
        scorer: ScorerOptions | Tfvtg | None = None,
        manifest: Mapping[str, Any] | None = None,
    ) -> None:
        self.backbone = backbone
        self.adapter = adapter
        self.head = head
        self.alignment = alignment
        self.judge = judge
        self.template = backbone.template if template is None else template
        self.templates: tuple[str, ...] = ()
        self.reads_time = True
        self.fps = backbone.fps if fps is None else fps
        self.framing: Framing = framing
        self.scorer = scorer
        self.manifest = dict(manifest or {})
        self.domain: str | None = None
        self._sure: float | None = None
        self._told = False
        # What sees and reads: the backbone, with the prompts at work if there are any.
        self._prompted = backbone if adapter is None else backbone.prompted(adapter)
        # Encoding a sentence takes far longer than asking it of one more video.
        self._remembered = lru_cache(_SENTENCES)(self._encode_texts)
        self._frozen_text = lru_cache(_SENTENCES)(self._encode_frozen)

    @property
    def prompts(self) -> PromptConfig | None:
        """What its prompts are; None without any.

        Raises:
            ZsvgError: They have been taken off the backbone.
        """
        return self._prompted.prompts

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the domains that the prompts have tokens of (DAPL); none in other models."""
        return tuple((self.prompts and self.prompts.domains) or ())

    @property
    def sure(self) -> float | None:
        """Least probability of an answer, in [0, 1]; None, as it starts: there is always one.

        Raises:
            ZsvgError: It is set out of range, or of a model that knows no probability.
        """
        return self._sure

    @sure.setter
    def sure(self, probability: float | None) -> None:
        self._sure = checked_sure(probability, self.manifest)

    @property
    def share(self) -> float | None:
        """How much of the answers is the head's, see `zsvg.grounding.share`; None: all of them."""
        share = self.manifest.get("share")
        return None if share is None else float(share)

    @property
    def amount(self) -> float:
        """How far sentences are turned by `alignment`; 0: not at all."""
        return float(self.manifest.get("alignment") or 0.0)

    @property
    def drawn(self) -> bool:
        """Whether the videos are microworld's."""
        return self.backbone.name == "micro"

    @property
    def encoder(self) -> str:
        """Identity of the frame encoder: the backbone's, with the adapter's if it sees frames."""
        return self._prompted.fingerprint

    def find(self, *places: str | Path) -> dict[str, Path]:
        """Return vid -> file of what `encode` takes: videos, or files that the backbone `reads`.

        Args:
            places: Files, folders and patterns, see `zsvg.video.finding.find_videos`.

        Raises:
            VideoError: There is nothing of that kind.
        """
        return find_readable(*places, reads=self.backbone.reads)

    def encode(
        self,
        video: str | Path,
        *,
        cache: str | Path | None = None,
        allow_truncated: bool = False,
    ) -> EncodedVideo:
        """Encode a video's frames.

        Args:
            video: A file; a video, or one that the backbone `reads`, such as JSONL of captions.
            cache: Folder of cached features; None neither reads nor writes one.
            allow_truncated: Keep the readable part of a damaged file instead of raising.

        Raises:
            VideoError: The file is not a usable video.
        """
        if "features" in self.manifest and self.backbone.ready(video) is None and not self._told:
            self._told = True
            _log.warning(
                "this model learned from frame features of files (%s); frames of videos are "
                "encoded by %s, which must be what made those",
                describe_features(self.manifest["features"]),
                self.backbone.name,
            )
        frames = extract(
            video,
            self._prompted,
            Sampling(self.fps, self.framing, allow_truncated),
            cache=cache,
        )
        return EncodedVideo(vid=frames.vid, frames=frames, encoder=self.encoder)

    def encode_pictures(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode (N, image_size, image_size, 3) uint8 frames into (N, D) rows of unit length."""
        with torch.no_grad():
            rows: NDArray[np.float32] = self._prompted.encode_frames(pictures).cpu().numpy()
        return rows

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
            return self._remembered(tuple(texts), about)
        if video is None:
            raise ValueError("this model's prompts depend on the video; give encode_query one")
        from zsvg.tuners import condition_on

        mean = torch.from_numpy(video.frames.features).to(self.backbone.device).mean(0)
        with condition_on(torch.nn.functional.normalize(mean, dim=-1)):
            return self._encode_texts(tuple(texts), about)

    @torch.no_grad()
    def _encode_texts(self, texts: tuple[str, ...], domain: str | None) -> TextStates:
        """Encode one sentence in all its templates, with what the prompts put behind it."""
        if self.prompts is None:
            states = self.backbone.encode_text(texts)
        else:
            from zsvg.tuners import in_domain

            with in_domain(domain):
                states = self._prompted.encode_text(texts)
        if len(texts) == 1:
            return states
        pooled = torch.nn.functional.normalize(states.pooled.mean(0, keepdim=True), dim=-1)
        # Words stand at other places in every text; a mean of them would be of nothing.
        return TextStates(pooled=pooled, tokens=pooled[:, None], mask=pooled.new_ones(1, 1).bool())

    def _without_prompts(self, text: str) -> NDArray[np.float32]:
        """Return a text (D,) as the frozen backbone has it, once where there are no prompts."""
        if self.adapter is not None:
            return self._frozen_text(text)
        vector: NDArray[np.float32] = self._remembered((text,), None).pooled[0].cpu().numpy()
        return vector

    @torch.no_grad()
    def _encode_frozen(self, text: str) -> NDArray[np.float32]:
        """Encode a text (D,) as if there were no prompts."""
        vector: NDArray[np.float32] = self.backbone.encode_text([text]).pooled[0].cpu().numpy()
        return vector

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
        whole = self._ground(video, query, top_k, domain)
        if whole.absent and self.sure is not None:
            return replace(whole, moments=())
        if (parts := self.parts(query)).kind == "whole":
            return whole
        curves = {part: self._ground(video, part, 1, domain).curve for part in parts.texts}
        read = self.read_sentence(video, query, curves)
        return replace(whole, moments=read.moments[:top_k], curve=read.curve, parts=read.parts)

    def _ground(self, video: EncodedVideo, query: str, top_k: int, domain: str | None) -> Grounding:
        """Find the moments of a sentence as a whole."""
        text = self.encode_query(self.asked(query), video, domain)
        curve = self.backbone.relevance(video.frames.features, text.pooled[0].cpu().numpy())
        fits, presence = self._fit(video.frames, text, curve), None
        if self.head is None:
            moments = self.read(video, curve, top_k)
        else:
            seen = answer_video(self.head, video.frames.features, video.frames.edges, text)
            asked = f"{self.template} {self.asked(query)}".strip()
            vector = None if self.judge is None else self._without_prompts(asked)
            presence = presence_of(self.judge, video.frames, seen, vector, self.manifest)
            fits = (fits + seen.presence) / 2
            if self.share is None:
                moments, curve = moments_of(seen.moments, seen.scores, top_k), seen.relevance
            else:
                curve = mixed(self.similarity(video, query), seen.relevance, self.share)
                moments = self.read(video, curve, top_k)
        return Grounding(
            query=query,
            vid=video.vid,
            moments=moments,
            curve=curve,
            centres=video.frames.centres,
            fit=round(fits, 6),
            presence=presence,
            absent=presence is not None and presence < least_of(self.sure, self.manifest),
        )

    def asked(self, query: str) -> str:
        """Return what the model reads instead of a sentence: it, unless the model is blind."""
        return BLIND_QUERY if self.manifest.get("query_blind") else query

    def parts(self, query: str) -> Parts:
        """Return what the model reads a sentence as, see `reads_time`."""
        asked = self.asked(query)
        return parts_of(asked) if self.reads_time else Parts(kind="whole", main=asked)

    def scorer_for(self, rate: float) -> ScorerOptions | Tfvtg:
        """Return how moments are cut out of curves of so many clips per second, without a head."""
        return self.scorer or usual_scorer(rate, drawn=self.drawn)

    def similarity(
        self, video: EncodedVideo, query: str, amount: float | None = None
    ) -> NDArray[np.float32]:
        """Return how similar each clip is to a sentence, (T,): aligned, without prompts.

        Args:
            video: The encoded video.
            query: The sentence.
            amount: Instead of the grounder's `amount`.
        """
        text = f"{self.backbone.template} {self.asked(query)}".strip()
        vector = self._without_prompts(text)
        amount = self.amount if amount is None else amount
        if self.alignment is not None and amount:
            vector = self.alignment.aligned(vector, amount)
        return self.backbone.relevance(video.frames.features, vector)

    def learned(
        self, video: EncodedVideo, query: str, domain: str | None = None
    ) -> NDArray[np.float32]:
        """Return the head's relevance of each clip to a sentence, (T,) in [0, 1].

        Raises:
            ValueError: There is no head.
        """
        if self.head is None:
            raise ValueError("nothing was learned: this is a backbone alone")
        text = self.encode_query(self.asked(query), video, domain)
        frames = video.frames
        return answer_video(self.head, frames.features, frames.edges, text).relevance

    def read_sentence(
        self, video: EncodedVideo, query: str, curves: Mapping[str, NDArray[np.float32]]
    ) -> Read:
        """Return all moments of a sentence.

        Args:
            video: The encoded video.
            query: The sentence.
            curves: Each of the `texts` of its `parts` -> (T,) relevance of each clip to it.
        """
        return in_time(self.parts(query), curves, partial(self.read, video))

    def read(
        self, video: EncodedVideo, curve: NDArray[np.float32], top_k: int | None = None
    ) -> tuple[Moment, ...]:
        """Return at most `top_k` moments of a curve (T,) over a video, best first; None: all."""
        frames = video.frames
        options = self.scorer_for(frames.fps)
        spans, scores = find_moments(curve, frames.edges, options, frames.features)
        return moments_of(spans, scores, top_k)

    def _fit(self, frames: FrameFeatures, text: TextStates, similar: NDArray[np.float32]) -> float:
        if not self.backbone.cross_modal:  # words are not shared as pictures are
            return float(similar.max())
        return fit(frames.features, text.pooled[0].cpu().numpy(), self.usual)

    @cached_property
    def usual(self) -> NDArray[np.float32]:
        """(D,) the sentence that `fit` compares others with, as the frozen backbone encodes it."""
        return self._encode_frozen(USUAL)
