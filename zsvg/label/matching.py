"""Sentences found for events, instead of captions: words that CLIP sees, or sentences at hand.

No captioner looks at anything. "vocabulary" tags each event with the nouns and actions of two
word lists that fit its frames and not the rest (PSVL's nouns and verbs without its detector and
language model); "retrieved" takes, for each event, the nearest of a list of sentences that belong
to no video (after Gao and Xu, "Learning Video Moment Retrieval Without a Single Annotated Video",
2021); "subtitles" takes, for each line that is said, the event around it, if the line is seen
there. What fits is told by comparison with all other videos, so a whole folder is labelled at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zsvg.backbones.base import TunableBackbone
from zsvg.errors import ZsvgError
from zsvg.features.encoder import FrameFeatures
from zsvg.moments import Spans, spans_to_mask
from zsvg.transcripts.lines import Line

Rows = NDArray[np.float32]

ACTION, NOUN, BOTH = "a person is {action}", "a {noun}", "a person is {action}, {noun}"
_NOUNS, _ACTIONS, _SENTENCES = 12, 6, 5  # of each event, that its sentences are drawn from
_HUBS = 10  # events that say how near a sentence is to everything
_TEXTS_AT_ONCE = 256
SEEN = 1.0
"""Standard deviations by which a line fits its event better than those of other videos."""


@dataclass(frozen=True, kw_only=True)
class Phrases:
    """What can be said of events: words to make sentences of, or sentences.

    Attributes:
        nouns: Things.
        actions: What a person can be seen doing, such as "opening a door".
        sentences: Instead of both.
        said: Instead of all: vid -> what is said in it.
    """

    nouns: Sequence[str] = ()
    actions: Sequence[str] = ()
    sentences: Sequence[str] = ()
    said: Mapping[str, Sequence[Line]] | None = None

    def __post_init__(self) -> None:
        if self.said is None and not (self.sentences or (self.nouns and self.actions)):
            raise ZsvgError("give nouns and actions, or sentences; none are left")

    @property
    def form(self) -> str:
        """What labels of it are called."""
        if self.said is not None:
            return "subtitles"
        return "retrieved" if self.sentences else "vocabulary"


@dataclass(frozen=True, kw_only=True)
class Said:
    """A sentence of an event of a video, and by how much it fits."""

    event: int
    text: str
    score: float


class _Spread:
    """Mean and covariance of all frames, added up video by video."""

    def __init__(self, dim: int) -> None:
        self.count, self.total = 0, np.zeros(dim)
        self.products = np.zeros((dim, dim))

    def add(self, rows: Rows) -> None:
        self.count += len(rows)
        self.total += rows.sum(axis=0, dtype=np.float64)
        self.products += rows.T.astype(np.float64) @ rows

    @property
    def mean(self) -> NDArray[np.float64]:
        mean: NDArray[np.float64] = self.total / self.count
        return mean

    def along(self, vectors: Rows) -> NDArray[np.float64]:
        """Standard deviation of the frames' products with vectors (N, D): (N,)."""
        covariance = self.products / self.count - np.outer(self.mean, self.mean)
        variance = np.einsum("nd,de,ne->n", vectors, covariance, vectors)
        return np.asarray(np.sqrt(np.maximum(variance, 1e-12)), dtype=np.float64)


def match(
    videos: Mapping[str, tuple[FrameFeatures, Spans]],
    backbone: TunableBackbone,
    phrases: Phrases,
    *,
    samples: int,
    seed: int,
) -> dict[str, list[Said]]:
    """Find sentences for the events of all videos.

    Args:
        videos: vid -> frame features and events (n, 2) in seconds.
        backbone: Whose features they are.
        phrases: What can be said.
        samples: Sentences of an event; "retrieved" has at most five.
        seed: Of what is drawn.

    Returns:
        vid -> what is said of its events, in their order; different sentences for each.
    """
    if phrases.said is not None:
        return _lines(videos, backbone, phrases.said, samples)
    places, looks, spread = looks_of_events(videos, backbone.embed_dim)
    found: dict[str, list[Said]] = {vid: [] for vid in videos}
    if not places:
        return found
    find = _sentences if phrases.sentences else _words
    draw = np.random.default_rng([seed, 79])
    for (vid, index), said in zip(
        places, find(looks, spread, backbone, phrases, samples, draw), strict=True
    ):
        found[vid] += [Said(event=index, text=text, score=score) for text, score in said.items()]
    return found


def looks_of_events(
    videos: Mapping[str, tuple[FrameFeatures, Spans]], dim: int
) -> tuple[list[tuple[str, int]], NDArray[np.float64], _Spread]:
    """Return video and number of each event, its looks (N, D), and how frames spread.

    Looks are what an event has more than all videos, plus what it has more than the rest of its
    own.
    """
    spread = _Spread(dim)
    places: list[tuple[str, int]] = []
    inside, apart = [], []
    for vid, (frames, events) in videos.items():
        spread.add(frames.features)
        for index, event in enumerate(events):
            mask = spans_to_mask(event[None], frames.centres)
            if mask.any():
                rest = frames.features[~mask] if not mask.all() else frames.features
                within = frames.features[mask].mean(axis=0)
                places.append((vid, index))
                inside.append(within)
                apart.append(within - rest.mean(axis=0))
    if not places:
        return places, np.zeros((0, dim)), spread
    return places, np.stack(inside) - spread.mean + np.stack(apart), spread


def _words(
    looks: NDArray[np.float64],
    spread: _Spread,
    backbone: TunableBackbone,
    phrases: Phrases,
    samples: int,
    draw: np.random.Generator,
) -> list[dict[str, float]]:
    """Draw sentences of the nouns and actions that stand out most in each event."""

    def best(
        words: Sequence[str], template: str, count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        vectors = encode(backbone, [template.replace("{noun}", w).replace("{action}", w)
                                    for w in words])  # fmt: skip
        scores = looks @ vectors.T / spread.along(vectors)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        return order, np.take_along_axis(scores, order, axis=1)

    nouns, noun_scores = best(phrases.nouns, NOUN, _NOUNS)
    actions, action_scores = best(phrases.actions, ACTION, _ACTIONS)
    said = []
    for row in range(len(looks)):
        texts: dict[str, float] = {}
        for sample in range(samples):
            action = int(draw.integers(actions.shape[1]))
            noun = int(draw.integers(nouns.shape[1]))
            template = (BOTH, ACTION)[sample % 2]
            text = template.replace("{action}", phrases.actions[actions[row, action]])
            text = text.replace("{noun}", phrases.nouns[nouns[row, noun]])
            texts[text] = float(action_scores[row, action] + noun_scores[row, noun]) / 2
        said.append(texts)
    return said


def _sentences(
    looks: NDArray[np.float64],
    spread: _Spread,
    backbone: TunableBackbone,
    phrases: Phrases,
    samples: int,
    draw: np.random.Generator,
) -> list[dict[str, float]]:
    """Take the nearest sentences of each event; those near to everything stand back."""
    vectors = encode(backbone, phrases.sentences)
    fits = _unit(looks) @ _unit(vectors - vectors.mean(axis=0)).T
    usual = np.sort(fits, axis=0)[-_HUBS:].mean(axis=0)  # (S,)
    fits = fits - usual / 2
    order = np.argsort(-fits, axis=1, kind="stable")[:, : min(samples, _SENTENCES)]
    return [
        {phrases.sentences[place]: float(fits[row, place]) for place in places}
        for row, places in enumerate(order)
    ]


def _lines(
    videos: Mapping[str, tuple[FrameFeatures, Spans]],
    backbone: TunableBackbone,
    lines: Mapping[str, Sequence[Line]],
    samples: int,
) -> dict[str, list[Said]]:
    """Take the lines that are said in an event, and seen there rather than in other videos."""
    found: dict[str, list[Said]] = {vid: [] for vid in videos}
    places, looks, _ = looks_of_events(videos, backbone.embed_dim)
    texts = list(dict.fromkeys(line.text for vid in videos for line in lines.get(vid, ())))
    if not texts:
        return found
    owners = np.array([vid for vid, _ in places])
    if len(set(owners)) < 2:
        raise ZsvgError("lines are compared with the events of other videos; give more than one")
    rows = encode(backbone, texts)
    vectors = _unit(rows - rows.mean(axis=0))
    number = {text: place for place, text in enumerate(texts)}
    looks = _unit(looks)
    total, products = looks.sum(axis=0), looks.T @ looks
    for vid, (_, events) in videos.items():
        own = np.flatnonzero(owners == vid)
        spoken = lines.get(vid, ())
        if not len(own) or not spoken:
            continue
        said = vectors[[number[line.text] for line in spoken]]
        fits = said @ looks[own].T
        # How much better than the events of other videos.
        others = len(owners) - len(own)
        mean = (said @ total - fits.sum(axis=1)) / others
        square = np.einsum("ld,de,le->l", said, products, said) - (fits**2).sum(axis=1)
        spread = np.sqrt(np.maximum(square / others - mean**2, 1e-12))
        best: dict[int, dict[str, float]] = {}
        for row, line in enumerate(spoken):
            around = [
                place for place, event in enumerate(own) if _around(events[places[event][1]], line)
            ]
            if not around:
                continue
            place = max(around, key=lambda place: float(fits[row, place]))
            score = float((fits[row, place] - mean[row]) / spread[row])
            if score >= SEEN:
                texts_of = best.setdefault(places[own[place]][1], {})
                texts_of[line.text] = max(score, texts_of.get(line.text, score))
        for event, words in sorted(best.items()):
            kept = sorted(words.items(), key=lambda item: -item[1])[:samples]
            found[vid] += [Said(event=event, text=text, score=score) for text, score in kept]
    return found


def _around(event: NDArray[np.float64], line: Line) -> bool:
    """Return whether most of a line is said in an event."""
    shared = min(float(event[1]), line.end) - max(float(event[0]), line.start)
    return shared > (line.end - line.start) / 2


def encode(backbone: TunableBackbone, texts: Sequence[str]) -> Rows:
    """Encode texts behind the backbone's template into rows (N, D) of unit length."""
    rows = []
    for first in range(0, len(texts), _TEXTS_AT_ONCE):
        some = [f"{backbone.template} {text}".strip() for text in
                texts[first : first + _TEXTS_AT_ONCE]]  # fmt: skip
        rows.append(backbone.encode_text(some).pooled.float().cpu().numpy())
    return np.concatenate(rows)


def _unit(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, 1e-9), dtype=np.float64)
