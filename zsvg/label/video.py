"""One video: its events, what is said of them, and which labels that makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsvg.backbones.base import TunableBackbone
from zsvg.backbones.captioner import Captioner
from zsvg.backbones.endpoint import Endpoint
from zsvg.errors import ZsvgError
from zsvg.events.proposals import ProposalOptions, propose
from zsvg.features.encoder import FrameFeatures
from zsvg.features.extract import extract
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
    """One video, of which nothing has been said yet; `views` are for the labeller, if it is asked.

    The name of the video is not part of it.
    """

    path: Path
    sampling: Sampling
    frames: FrameFeatures
    events: Spans
    views: NDArray[np.uint8] | None
    seed: int

    def times(self, queries: QueryOptions) -> NDArray[np.float64]:
        """When the views are, (n, k) seconds."""
        return view_times(self.events, queries.view, float(self.frames.duration))

    def pictures(self, times: NDArray[np.float64], size: int) -> NDArray[np.uint8]:
        """Return the frames at times (n, k) as (n, k, size, size, 3) uint8."""
        sampling = self.sampling
        found = load_frames_at(self.path, times.ravel(), size, sampling.framing,
                               allow_truncated=sampling.allow_truncated)  # fmt: skip
        return found.reshape(*times.shape, *found.shape[1:])


def check_asking(asking: Asking, labeller: Labeller | None, queries: QueryOptions) -> None:
    """Refuse questions that the labeller cannot answer, and views that it cannot be shown.

    Raises:
        ZsvgError: It writes captions only, or the options contradict each other.
    """
    asks = asking.instructions is not None
    if not queries.speaks and (asks or asking.rephraser or asking.verifier):
        raise ZsvgError(
            f"form {queries.form!r} has no sentences; leave --ask, --rephrase and --verify out"
        )
    if asks and queries.samples:
        raise ZsvgError("--samples draws captions; with --ask take --rephrase for other wordings")
    for option, model in (("--ask", labeller if asks else None), ("--verify", asking.verifier)):
        if isinstance(model, Captioner) and not model.takes_questions:
            raise ZsvgError(
                f"captioner {model.name!r} takes no instructions; leave {option} out, or name an "
                "image-text-to-text model with a chat template, or openai:MODEL@URL"
            )
    if queries.view == "around" and not asks and isinstance(labeller, Captioner):
        raise ZsvgError(
            "view 'around' is eight pictures for models that are asked (--ask); a captioner of one "
            "picture takes strip, middle or ends"
        )


def see(
    path: Path,
    backbone: TunableBackbone,
    labeller: Labeller | None,
    proposals: ProposalOptions,
    queries: QueryOptions,
    seed: int,
    *,
    several: bool,
    sampling: Sampling,
    cache: Path | None,
) -> Seen:
    """Find the events of a video; it may run ahead in another thread.

    Args:
        path: The video.
        backbone: Frozen CLIP.
        labeller: For whom pictures are read.
        proposals: How events are found.
        queries: How they are looked at.
        seed: Of the video.
        several: Pictures are shown one by one.
        sampling: Which frames are encoded.
        cache: Folder of frame features.
    """
    frames = extract(path, backbone, sampling, cache=cache)
    events, _ = propose(frames.features, frames.edges, options=proposals, seed=seed)
    place: dict[str, Any] = {"path": path, "sampling": sampling, "frames": frames, "seed": seed}
    seen = Seen(**place, events=events, views=None)
    if labeller is None or not queries.speaks:
        return seen
    size = picture_size(labeller, queries.view, several)
    return Seen(**place, events=events, views=seen.pictures(seen.times(queries), size))


def say(
    seen: Seen,
    backbone: TunableBackbone,
    labeller: Labeller | None,
    queries: QueryOptions,
    asking: Asking,
    tagger: Tagger | None,
) -> dict[str, Any]:
    """Return the labels of a video and what else is kept of it, as JSON."""
    rows, centres = seen.frames.features, seen.frames.centres
    lost: list[str] = []
    if labeller is None or seen.views is None:
        chosen = choose_events(rows, events=seen.events, centres=centres, options=queries)
        labels = [as_json(query, queries) for query in chosen]
    else:
        looks, events = _looked(seen, labeller, queries, asking, lost)

        def encode(texts: list[str]) -> NDArray[np.float32]:
            return backbone.encode_text(texts).pooled.float().cpu().numpy()

        captions = [list(one.sentences) for one in looks]
        chosen = phrase(captions, encode, rows, events=events, centres=centres, options=queries,
                        tagger=tagger)  # fmt: skip
        labels = [as_json(query, queries) for query in chosen]
        if asking.instructions is not None:
            said = [put(own, queries, tagger) for own in captions]
            labels = spread(chosen, looks, said, queries)
        labels = rephrased(labels, asking, lost)
        duration = float(seen.frames.duration)
        labels = verified(labels, asking, duration, seen.pictures, lost)
    part = {
        "duration": float(seen.frames.duration),
        "events": seen.events.tolist(),
        "labels": labels,
    }
    return {**part, "lost": lost} if lost else part


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


def _looked(
    seen: Seen, labeller: Labeller, queries: QueryOptions, asking: Asking, lost: list[str]
) -> tuple[list[Look], Spans]:
    """Return what was said of each event, and the events with the borders that were seen."""
    if seen.views is None:
        raise ValueError("the labeller has seen nothing")
    times = seen.times(queries)

    def fit(sentence: str) -> bool:
        return well_said(sentence, queries)

    if asking.instructions is None:
        draws: dict[str, Any] = {"samples": queries.samples, "seed": seen.seed, "keep": fit}
        unanswered: Mapping[int, str] = {}
        if isinstance(labeller, Endpoint):
            raw, unanswered = ask_events(seen.views, times, labeller, **draws)
        elif isinstance(labeller, Captioner):
            raw = caption_events(seen.views, labeller, **draws)
        else:
            raise ZsvgError(f"{labeller.name} writes no captions; ask it with instructions")
        looks = [Look(sentences=tuple(own)) for own in raw]
    else:
        found, unanswered = look(seen.views, times, queries.view, labeller, asking.instructions)
        looks = [_cleaned(one, fit) for one in found]
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


def _cleaned(one: Look, fit: Callable[[str], bool]) -> Look:
    sentences = dict.fromkeys(text for text in map(clean, one.sentences) if text and fit(text))
    return replace(one, sentences=tuple(sentences))


def _whole(queries: QueryOptions) -> tuple[int, int]:
    """Return the numbers of the first and last frame inside an event, which keep its borders."""
    inside = [i for i, share in enumerate(VIEWS[queries.view]) if 0 <= share < 1]
    return inside[0], inside[-1]
