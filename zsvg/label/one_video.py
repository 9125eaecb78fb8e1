"""From one video to its labels: look at it, then say what happens. No video knows of another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
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
from zsvg.errors import ZsvgError
from zsvg.events.proposals import ProposalOptions, propose
from zsvg.features.cluster import Make, same_model
from zsvg.features.encoder import FrameFeatures
from zsvg.features.extract import content_of, extract
from zsvg.files import sha256_json
from zsvg.label.asking import Asking, look
from zsvg.label.forms import phrase, put, well_said
from zsvg.label.look import Look
from zsvg.label.opinions import rephrased, span_of, verified
from zsvg.label.queries import PseudoQuery, QueryOptions, choose_events
from zsvg.label.tagging import Tagger
from zsvg.label.views import (
    VIEWS,
    Labeller,
    ask_events,
    between_frames,
    caption_events,
    clean,
    picture_size,
    view_times,
)
from zsvg.moments import Spans
from zsvg.video.sampling import Sampling, load_frames_at


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One video, of which nothing has been said yet; `views` are for the captioner, if it is asked.

    The name of the video is not part of what is said.
    """

    path: Path
    frames: FrameFeatures
    events: Spans
    times: NDArray[np.float64]
    views: NDArray[np.uint8] | None
    seed: int


@dataclass(frozen=True, kw_only=True)
class Labelling:
    """The models, and all that decides what they say of a video.

    Attributes:
        backbone: As of `zsvg.label.run.pseudo_label`, like the others.
        captioner: None: nothing is said.
        asking: What is asked beside a caption, and whom.
        tagger: For options that ask for one.
        proposals: How a video is cut into events.
        queries: How events get their sentences.
        seed: Of everything random.
        sampling: Which frames are looked at.
        cache: Folder of frame features, or None.
    """

    backbone: TunableBackbone
    captioner: Labeller | None
    asking: Asking
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
        view = self.queries.view
        times = view_times(events, view, float(frames.duration))
        views = None
        if self.captioner is not None and self.queries.speaks:
            several = self.asking.instructions is not None
            views = self._pictures(path, times, picture_size(self.captioner, view, several))
        return Seen(path=path, frames=frames, events=events, times=times, views=views, seed=seed)

    def say(self, seen: Seen) -> dict[str, Any]:
        """Return the labels of a video and what else is kept of it, as JSON."""
        queries, rows, duration = self.queries, seen.frames.features, float(seen.frames.duration)
        centres = seen.frames.centres
        lost: list[str] = []
        if self.captioner is None or seen.views is None:
            chosen = choose_events(rows, events=seen.events, centres=centres, options=queries)
            labels = [as_json(query, queries) for query in chosen]
        else:
            looks, events = self._looks(seen, seen.views, self.captioner, lost)

            def encode(texts: list[str]) -> NDArray[np.float32]:
                return self.backbone.encode_text(texts).pooled.float().cpu().numpy()

            captions = [list(one.sentences) for one in looks]
            chosen = phrase(captions, encode, rows, events=events, centres=centres,
                            options=queries, tagger=self.tagger)  # fmt: skip
            labels = [as_json(query, queries) for query in chosen]
            if self.asking.instructions is not None:
                said = [put(own, queries, self.tagger) for own in captions]
                labels = spread(chosen, looks, said, queries)
            labels = rephrased(labels, self.asking, lost)
            pictures = partial(self._pictures, seen.path)
            labels = verified(labels, self.asking, duration, pictures, lost)
        part = {"duration": duration, "events": seen.events.tolist(), "labels": labels}
        return {**part, "lost": lost} if lost else part

    def elsewhere(self) -> Make[Path, tuple[str, dict[str, Any] | Seen]]:
        """Return what makes the same in another process, as a function of a video.

        It returns content and labels. One video is looked at while the captioner is busy with
        another, as in one process.

        Raises:
            ValueError: Something else than a captioner on this machine is asked.
        """
        clip, speaker = self.backbone, self.captioner
        if not (speaker is None or isinstance(speaker, Captioner)):
            raise ValueError(f"{speaker.name} cannot be loaded elsewhere by its name")
        settings = {field.name: getattr(self, field.name) for field in fields(self)}
        del settings["backbone"], settings["captioner"]
        saying = None if speaker is None else (speaker.name, speaker.fingerprint, speaker.options)
        return partial(_elsewhere, (clip.name, clip.fingerprint), saying, settings)

    def _pictures(self, path: Path, times: NDArray[np.float64], size: int) -> NDArray[np.uint8]:
        """Return the frames at times (n, k) seconds as (n, k, size, size, 3) uint8."""
        framing, cut = self.sampling.framing, self.sampling.allow_truncated
        found = load_frames_at(path, times.ravel(), size, framing, allow_truncated=cut)
        return found.reshape(*times.shape, *found.shape[1:])

    def _looks(
        self, seen: Seen, views: NDArray[np.uint8], captioner: Labeller, lost: list[str]
    ) -> tuple[list[Look], Spans]:
        """Return what was said of each event, and the events with the borders that were seen."""
        queries, words = self.queries, self.asking.instructions

        def fit(sentence: str) -> bool:
            return well_said(sentence, queries)

        unanswered: Mapping[int, str] = {}
        if words is not None:
            found, unanswered = look(views, seen.times, queries.view, captioner, words)
            looks = [_cleaned(one, fit) for one in found]
        else:
            draws: dict[str, Any] = {"samples": queries.samples, "seed": seen.seed, "keep": fit}
            if isinstance(captioner, Endpoint):
                raw, unanswered = ask_events(views, seen.times, captioner, **draws)
            elif isinstance(captioner, Captioner):
                raw = caption_events(views, captioner, **draws)
            else:
                raise ZsvgError(f"{captioner.name} writes no captions; ask it with instructions")
            looks = [Look(sentences=tuple(own)) for own in raw]
        lost += [f"{span_of(seen.events[number])}: {why}" for number, why in unanswered.items()]
        events = seen.events.copy()
        for number, one in enumerate(looks):
            if one.frames is None or one.frames == _whole(queries):
                continue
            span = (float(events[number, 0]), float(events[number, 1]))
            start, end = between_frames(span, queries.view, one.frames, float(seen.frames.duration))
            if start < end:
                events[number] = start, end
        return looks, events


def _elsewhere(
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
    labelling = Labelling(backbone=clip, captioner=speaker, **settings)
    speaking = Lock()

    def label(path: Path) -> tuple[str, dict[str, Any] | Seen]:
        content = labelling.content(path)
        seen = labelling.look(path, content)
        with speaking:
            return content, labelling.say(seen)

    return label


def as_json(query: PseudoQuery, options: QueryOptions) -> dict[str, Any]:
    """Return a label as finished videos keep it."""
    kept = {"query": query.text, "window": list(query.span), "score": round(query.score, 6)}
    return {**kept, "form": query.form} if options.form == "composed" else kept


def spread(
    chosen: Sequence[PseudoQuery],
    looks: Sequence[Look],
    said: Sequence[Sequence[str]],
    options: QueryOptions,
) -> list[dict[str, Any]]:
    """Return the labels of one video: all sentences of the events that were chosen by their best.

    Each event weighs 1, shared by its sentences. One that was said of another event, too, belongs
    to the event that it was chosen for; a near miss that was said of any is none.

    Args:
        chosen: One query per event (and more that relate two events).
        looks: What was said of each event.
        said: Its sentences in the form of the options.
        options: The form.
    """
    taken = {query.text.casefold() for query in chosen}
    every = {text.casefold() for own in said for text in own}
    labels: list[dict[str, Any]] = []
    for query in chosen:
        first = as_json(query, options)
        if query.form != "caption":
            labels.append(first)
            continue
        one = looks[query.event]
        others = [text for text in said[query.event] if text.casefold() not in taken]
        taken |= {text.casefold() for text in others}
        more: dict[str, Any] = {"event": query.event, "weight": round(1 / (1 + len(others)), 6)}
        more |= {name: text for name in ("who", "object") if (text := getattr(one, name))}
        if (nearly := clean(one.nearly)) and nearly.casefold() not in every:
            more["absent"] = [nearly]
        labels += [{**first, **more, "query": text} for text in (query.text, *others)]
    return labels


def _cleaned(one: Look, fit: Callable[[str], bool]) -> Look:
    sentences = dict.fromkeys(text for text in map(clean, one.sentences) if text and fit(text))
    return replace(one, sentences=tuple(sentences))


def _whole(queries: QueryOptions) -> tuple[int, int]:
    """Return the numbers of the first and last frame inside an event, which keep its borders."""
    inside = [i for i, share in enumerate(VIEWS[queries.view]) if 0 <= share < 1]
    return inside[0], inside[-1]
