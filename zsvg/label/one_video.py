"""From one video to its labels: look at it, then say what happens. No video knows of another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsvg.backbones.base import TunableBackbone
from zsvg.backbones.captioner import Captioner, CaptionOptions, load_captioner
from zsvg.backbones.clip import load_backbone
from zsvg.backbones.endpoint import Endpoint
from zsvg.events.proposals import ProposalOptions, propose
from zsvg.features.cluster import Make, same_model
from zsvg.features.encoder import FrameFeatures
from zsvg.features.extract import content_of, extract
from zsvg.files import sha256_json
from zsvg.label.forms import phrase, well_said
from zsvg.label.queries import PseudoQuery, QueryOptions, choose_events
from zsvg.label.tagging import Tagger
from zsvg.label.views import ask_events, caption_events, picture_size, view_times
from zsvg.moments import Spans
from zsvg.video.sampling import Sampling, load_frames_at


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One video, of which nothing has been said yet; `views` are for the captioner, if it is asked.

    The name of the video is not part of it.
    """

    frames: FrameFeatures
    events: Spans
    views: NDArray[np.uint8] | None
    seed: int


@dataclass(frozen=True, kw_only=True)
class Labeller:
    """The models, and all that decides what they say of a video.

    Attributes:
        backbone: As of `zsvg.label.run.pseudo_label`, like the others.
        captioner: None: nothing is said.
        tagger: For options that ask for one.
        proposals: How a video is cut into events.
        queries: How events get their sentences.
        seed: Of everything random.
        sampling: Which frames are looked at.
        cache: Folder of frame features, or None.
    """

    backbone: TunableBackbone
    captioner: Captioner | Endpoint | None
    tagger: Tagger | None
    proposals: ProposalOptions
    queries: QueryOptions
    seed: int
    sampling: Sampling
    cache: Path | None

    def content(self, path: str | Path) -> str:
        """Return the content of a video, by which its labels are kept."""
        return content_of(path, self.backbone, self.cache)

    def look(self, path: Path, content: str) -> Seen:
        """Find the events of a video; it may run ahead in another thread."""
        seed = int(sha256_json([self.seed, content])[:8], 16)
        frames = extract(path, self.backbone, self.sampling, cache=self.cache)
        events, _ = propose(frames.features, frames.edges, options=self.proposals, seed=seed)
        views = None
        if self.captioner is not None and self.queries.speaks:
            times = view_times(events, self.queries.view)
            size = picture_size(self.captioner, self.queries.view)
            framing, cut = self.sampling.framing, self.sampling.allow_truncated
            pictures = load_frames_at(path, times.ravel(), size, framing, allow_truncated=cut)
            views = pictures.reshape(*times.shape, *pictures.shape[1:])
        return Seen(frames=frames, events=events, views=views, seed=seed)

    def say(self, seen: Seen) -> dict[str, Any]:
        """Return the labels of a video and what else is kept of it, as JSON."""
        captioner, queries, rows = self.captioner, self.queries, seen.frames.features
        place: dict[str, Any] = {"events": seen.events, "centres": seen.frames.centres}
        lost: list[str] = []
        if captioner is None or seen.views is None:
            chosen = choose_events(rows, **place, options=queries)
        else:
            draws: dict[str, Any] = {"samples": queries.samples, "seed": seen.seed}
            draws["keep"] = lambda caption: well_said(caption, queries)
            if isinstance(captioner, Endpoint):
                times = view_times(seen.events, queries.view)
                raw, unanswered = ask_events(seen.views, times, captioner, **draws)
                for number, why in unanswered.items():
                    start, end = seen.events[number]
                    lost.append(f"{start:.1f} to {end:.1f} s: {why}")
            else:
                raw = caption_events(seen.views, captioner, **draws)

            def encode(texts: list[str]) -> NDArray[np.float32]:
                return self.backbone.encode_text(texts).pooled.float().cpu().numpy()

            chosen = phrase(raw, encode, rows, **place, options=queries, tagger=self.tagger)
        part = {
            "duration": float(seen.frames.duration),
            "events": seen.events.tolist(),
            "labels": [as_json(query, queries) for query in chosen],
        }
        return {**part, "lost": lost} if lost else part

    def elsewhere(self) -> Make[Path, tuple[str, dict[str, Any] | Seen]]:
        """Return what makes the same labeller in another process, as a function of a video.

        It returns content and labels. One video is looked at while the captioner is busy with
        another, as in one process.
        """
        clip, speaker = self.backbone, self.captioner
        settings = {field.name: getattr(self, field.name) for field in fields(self)}
        del settings["backbone"], settings["captioner"]
        saying = None if speaker is None else (speaker.name, speaker.fingerprint, speaker.options)
        return partial(_labelling, (clip.name, clip.fingerprint), saying, settings)


def _labelling(
    seeing: tuple[str, str],
    saying: tuple[str, str, CaptionOptions] | None,
    settings: dict[str, Any],
    device: str,
) -> Callable[[Path], tuple[str, dict[str, Any] | Seen]]:
    clip = load_backbone(seeing[0], device)
    same_model(*seeing, clip.fingerprint)
    speaker = None
    if saying is not None:
        speaker = load_captioner(saying[0], device, options=saying[2])
        same_model(*saying[:2], speaker.fingerprint)
    labeller = Labeller(backbone=clip, captioner=speaker, **settings)
    speaking = Lock()

    def label(path: Path) -> tuple[str, dict[str, Any] | Seen]:
        content = labeller.content(path)
        seen = labeller.look(path, content)
        with speaking:
            return content, labeller.say(seen)

    return label


def as_json(query: PseudoQuery, options: QueryOptions) -> dict[str, Any]:
    """Return a label as finished videos keep it."""
    kept = {"query": query.text, "window": list(query.span), "score": round(query.score, 6)}
    return {**kept, "form": query.form} if options.form == "composed" else kept
