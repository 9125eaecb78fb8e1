"""What happens: a pseudo-query for each event, from captions of it.

A sentence belongs to the event inside which its cosine with the frames (the frozen CLIP) is high
and outside which it is low. SPL (Zheng et al., "Generating Structured Pseudo Labels for
Noise-resistant Zero-shot Video Sentence Localization", ACL 2023) takes the plain difference of
means; that favours the most telling part of an event over the event.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zsvg.backbones.captioner import Captioner, strip
from zsvg.moments import iou, spans_to_mask

# Standard deviation below which a curve of cosines is rounding, not content.
_FLAT = 1e-5
# Captioners describe a 2 x 2 strip as what it looks like; the sentence that follows is the content.
_STRIP_TALK = re.compile(
    r"^(?:(?:this is|there (?:is|are)) )?(?:an? |the )?"
    r"(?:(?:(?:series|collage|set|group|sequence|couple|grid|collection) of )?"
    r"(?:(?:two|three|four|several|different) )*(?:photos?|photographs?|pictures?|images?|frames?)|"
    r"collage)(?: that)? (?:of|showing|shows?|depicting|with) ",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class QueryOptions:
    """How events get their sentences.

    Attributes:
        view: "strip" shows the captioner four frames of an event in a 2 x 2 grid, "middle"
            the one frame in its middle.
        samples: Captions drawn per event by nucleus sampling; 0 for one decoded without randomness.
        min_score: Least `fit` of a label, in [-1, 1]. An event that is the whole video has nothing
            outside and scores 0.
        overlap: Of events whose IoU is above this, the best one is kept.
        per_video: Most labels of one video, best first.
    """

    view: Literal["strip", "middle"] = "strip"
    samples: int = 0
    min_score: float = 0.0
    overlap: float = 0.3
    per_video: int = 10

    def __post_init__(self) -> None:
        if self.view not in ("strip", "middle"):
            raise ValueError(f"view must be 'strip' or 'middle', got {self.view!r}")
        if self.samples < 0:
            raise ValueError(f"samples must not be negative, got {self.samples}")
        if self.per_video < 1:
            raise ValueError(f"per_video must be at least 1, got {self.per_video}")
        if not -1 <= self.min_score <= 1:
            raise ValueError(f"min_score is a correlation, in [-1, 1], got {self.min_score}")
        if not 0 <= self.overlap <= 1:
            raise ValueError(f"overlap is an IoU, in [0, 1], got {self.overlap}")


@dataclass(frozen=True, kw_only=True)
class PseudoQuery:
    """A sentence for one event.

    Attributes:
        text: The sentence.
        span: (start, end) of the event, seconds.
        score: How well it fits, in [-1, 1]; see `choose`.
    """

    text: str
    span: tuple[float, float]
    score: float


def view_times(events: ArrayLike, view: Literal["strip", "middle"]) -> NDArray[np.float64]:
    """Return when to look at each event.

    Args:
        events: (n, 2) spans, seconds.
        view: "strip" or "middle".

    Returns:
        (n, 4) or (n, 1) seconds: the middles of as many equal parts of the event.
    """
    spans = np.asarray(events, dtype=np.float64)
    parts = 4 if view == "strip" else 1
    share = (np.arange(parts) + 0.5) / parts
    return np.asarray(spans[:, :1] + share * (spans[:, 1:] - spans[:, :1]))


def caption_events(
    frames: NDArray[np.uint8], captioner: Captioner, *, samples: int = 0, seed: int = 0
) -> list[list[str]]:
    """Caption the events of one video.

    Args:
        frames: (n, 4, H, W, 3) or (n, 1, H, W, 3) uint8, the frames at `view_times`.
        captioner: Frozen captioner.
        samples: Captions drawn per event; 0 for one without randomness.
        seed: Of the draws.

    Returns:
        For each event its different captions, in a fixed order; none where all came out empty.
    """
    images = [strip(group) if len(group) == 4 else group[0] for group in frames]
    if samples:
        raw = captioner.sample(images, samples, seed=seed)
    else:
        raw = [[text] for text in captioner.caption(images)]
    return [sorted({clean(text) for text in texts} - {""}) for texts in raw]


def clean(caption: str) -> str:
    """Return a caption without talk about pictures, outer punctuation and double spaces."""
    return _STRIP_TALK.sub("", " ".join(caption.split())).strip(" .,;:")


def fit(curves: NDArray[np.floating], inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the correlation of curves with "inside the event".

    It is the difference of the means inside and outside, in standard deviations of the curve,
    times sqrt(p (1 - p)) for an event of share p of the video: 1 for a box of the event's length.

    Args:
        curves: (C, T), any scale.
        inside: (T,) which frames belong to the event.

    Returns:
        (C,) float64 in [-1, 1]; 0 for a flat curve, no frame inside, or none outside.
    """
    values = np.asarray(curves, dtype=np.float64)
    if inside.all() or not inside.any():
        return np.zeros(len(values))
    share = inside.mean()
    difference = values[:, inside].mean(axis=1) - values[:, ~inside].mean(axis=1)
    deviation = values.std(axis=1)
    flat = deviation < _FLAT
    score = difference * np.sqrt(share * (1 - share)) / np.where(flat, 1.0, deviation)
    return np.where(flat, 0.0, score)


def choose(
    captions: Sequence[Sequence[str]],
    texts: Sequence[str],
    pooled: NDArray[np.floating],
    features: NDArray[np.floating],
    *,
    events: ArrayLike,
    centres: NDArray[np.floating],
    options: QueryOptions | None = None,
) -> list[PseudoQuery]:
    """Decide which sentence describes which event of one video.

    The score of an event and one of its captions is the mean of two values of `fit`: of the
    sentence's cosine with the frames, and of the frames' cosine with the mean frame of the event.
    The best pair is taken first; its sentence is then used up, and so are the events that overlap
    with it.

    Args:
        captions: The captions of each event.
        texts: The C different captions of the video.
        pooled: (C, D) L2-normalised features of `texts`.
        features: (T, D) L2-normalised frame features.
        events: (n, 2) spans, seconds.
        centres: (T,) middle of each frame's clip, seconds.
        options: What to keep.

    Returns:
        At most `per_video` queries in the order of their spans.
    """
    options = options or QueryOptions()
    row = {text: index for index, text in enumerate(texts)}
    seen = pooled @ features.T
    pairs: list[PseudoQuery] = []
    for span, own in zip(np.asarray(events, dtype=np.float64), captions, strict=True):
        inside = spans_to_mask(span[None], centres)
        if not own or not inside.any():
            continue
        (alone,) = fit((features @ features[inside].mean(axis=0))[None], inside)
        scores = (fit(seen[[row[text] for text in own]], inside) + alone) / 2
        pairs += [
            PseudoQuery(text=text, span=(float(span[0]), float(span[1])), score=float(score))
            for text, score in zip(own, scores, strict=True)
            if score >= options.min_score
        ]
    # Among equals the shorter event, then the earlier one: the order must not depend on chance.
    pairs.sort(key=lambda q: (-q.score, q.span[1] - q.span[0], q.span, q.text))
    kept: list[PseudoQuery] = []
    for query in pairs:
        if len(kept) == options.per_video:
            break
        repeats = any(query.text.casefold() == other.text.casefold() for other in kept)
        if not repeats and not _overlaps(query, kept, options.overlap):
            kept.append(query)
    return sorted(kept, key=lambda query: query.span)


def _overlaps(query: PseudoQuery, kept: Sequence[PseudoQuery], most: float) -> bool:
    if not kept:
        return False
    return bool(iou(np.array([query.span]), np.array([q.span for q in kept])).max() > most)
