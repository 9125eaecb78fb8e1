"""What happens: a pseudo-query for each event, from captions of it.

A sentence belongs to the event inside which its cosine with the frames (the frozen CLIP) is high
and outside which it is low. SPL (Zheng et al., "Generating Structured Pseudo Labels for
Noise-resistant Zero-shot Video Sentence Localization", ACL 2023) takes the plain difference of
means; that favours the most telling part of an event over the event.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass as checked

from zsvg.label.views import View
from zsvg.moments import iou, spans_to_mask
from zsvg.records import FROM_FRAMES

Form = Literal["caption", "before", "after"]
# Standard deviation below which a curve of cosines is rounding, not content.
_FLAT = 1e-5


@checked(frozen=True, kw_only=True, config={"extra": "forbid"})
class QueryOptions:
    """How events get their sentences.

    Attributes:
        form: "captions"; "simplified" to their nouns and verbs (PSVL's form); "composed", which
            adds "A before B" and "B after A" for events that follow each other; or "features":
            events without a sentence (Kim et al., WACV 2023), which no captioner looks at.
        view: "strip" shows the captioner four frames of an event in a 2 x 2 grid, "middle"
            the one frame in its middle, "ends" an early and a late one, each for itself; the
            sentence is then "EARLY then LATE", or only one where both say the same. "around" is
            for models that take several pictures: four of the event, two before and two after it.
        samples: Captions drawn per event by nucleus sampling; 0 for one decoded without randomness.
        least_words: Captions with fewer words are dropped.
        quality: Drop captions that repeat themselves, see `zsvg.label.forms.well_said`.
        static: Keep captions without an action; False drops those that have no verb, or none but
            "be" and "stay" (SPL's filter drops "be" alone).
        min_score: Least `fit` of a label, in [-1, 1]. An event that is the whole video has nothing
            outside and scores 0.
        overlap: Of events whose IoU is above this, the best one is kept.
        alike: Of sentences of one video whose cosine is above this in the backbone's text space,
            the best one is kept; 1 keeps all.
        per_video: Most labels of one video, best first. Sentences that "composed" adds come on top.
    """

    form: Literal["captions", "simplified", "composed", "features"] = "captions"
    view: View = "strip"
    samples: int = Field(default=0, ge=0)
    least_words: int = Field(default=1, ge=1)
    quality: bool = False
    static: bool = True
    min_score: float = Field(default=0.0, ge=-1, le=1)
    overlap: float = Field(default=0.1, ge=0, le=1)
    alike: float = Field(default=1.0, ge=-1, le=1)
    per_video: int = Field(default=10, ge=1)

    @property
    def speaks(self) -> bool:
        """Whether labels get sentences, so that a captioner is needed."""
        return self.form != "features"

    @property
    def needs_tagger(self) -> bool:
        """Whether it has to be known which words are nouns and verbs."""
        return self.speaks and (self.form == "simplified" or not self.static)


@dataclass(frozen=True, kw_only=True)
class PseudoQuery:
    """A sentence for one event.

    Attributes:
        text: The sentence.
        span: (start, end) of the event, seconds.
        score: How well it fits, in [-1, 1]; see `choose`.
        form: "caption", or "before" and "after" where it relates two events.
        event: Number of the event among those that it was chosen from.
    """

    text: str
    span: tuple[float, float]
    score: float
    form: Form = "caption"
    event: int = 0


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
    spans = np.asarray(events, dtype=np.float64)
    for event, (span, own) in enumerate(zip(spans, captions, strict=True)):
        inside = spans_to_mask(span[None], centres)
        if not own or not inside.any():
            continue
        alone = _likeness_fit(features, inside)
        scores = (fit(seen[[row[text] for text in own]], inside) + alone) / 2
        ends = (float(span[0]), float(span[1]))
        pairs += [
            PseudoQuery(text=text, span=ends, score=float(score), event=event)
            for text, score in zip(own, scores, strict=True)
        ]

    def repeats(one: PseudoQuery, other: PseudoQuery) -> bool:
        if one.text.casefold() == other.text.casefold():
            return True
        # Not left to the comparison: rounding takes cosines of equal features above 1.
        return options.alike < 1 and bool(
            pooled[row[one.text]] @ pooled[row[other.text]] > options.alike
        )

    return _keep_best(pairs, options, repeats)


def choose_events(
    features: NDArray[np.floating],
    *,
    events: ArrayLike,
    centres: NDArray[np.floating],
    options: QueryOptions | None = None,
) -> list[PseudoQuery]:
    """Decide which events of one video are labels without a sentence.

    The score is the part of `choose`'s that needs none: the fit of the frames' cosine with the mean
    frame of the event.

    Args:
        features: (T, D) L2-normalised frame features.
        events: (n, 2) spans, seconds.
        centres: (T,) middle of each frame's clip, seconds.
        options: What to keep.

    Returns:
        At most `per_video` queries in the order of their spans, all with the text `FROM_FRAMES`.
    """
    found: list[PseudoQuery] = []
    for span in np.asarray(events, dtype=np.float64):
        inside = spans_to_mask(span[None], centres)
        if inside.any():
            score, ends = _likeness_fit(features, inside), (float(span[0]), float(span[1]))
            found.append(PseudoQuery(text=FROM_FRAMES, span=ends, score=score))
    return _keep_best(found, options or QueryOptions(), lambda _one, _other: False)


def _likeness_fit(features: NDArray[np.floating], inside: NDArray[np.bool_]) -> float:
    """Return how well likeness with the mean frame of an event tells inside from outside."""
    (score,) = fit((features @ features[inside].mean(axis=0))[None], inside)
    return float(score)


def _keep_best(
    pairs: Sequence[PseudoQuery],
    options: QueryOptions,
    repeats: Callable[[PseudoQuery, PseudoQuery], bool],
) -> list[PseudoQuery]:
    """Take the best first, and then none that repeats or overlaps with one that was taken."""
    # Among equals the shorter event, then the earlier one: the order must not depend on chance.
    ranked = sorted(pairs, key=lambda q: (-q.score, q.span[1] - q.span[0], q.span, q.text))
    kept: list[PseudoQuery] = []
    for query in ranked:
        if len(kept) == options.per_video or query.score < options.min_score:
            break
        if not any(repeats(query, other) for other in kept) and not _overlaps(
            query, kept, options.overlap
        ):
            kept.append(query)
    return sorted(kept, key=lambda query: query.span)


def _overlaps(query: PseudoQuery, kept: Sequence[PseudoQuery], most: float) -> bool:
    if not kept:
        return False
    return bool(iou(np.array([query.span]), np.array([q.span for q in kept])).max() > most)
