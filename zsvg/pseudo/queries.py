"""What happens: a pseudo-query for each event, from captions of its atomic events.

Every atomic event is captioned once; composite events borrow the captions of their atoms. Which
caption belongs to which event is decided by the frozen CLIP, with the event quality of SPL (Zheng
et al., "Generating Structured Pseudo Labels for Noise-resistant Zero-shot Video Sentence
Localization", ACL 2023): mean cosine of the caption with the frames inside the event, minus the
mean with those outside.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zsvg.backbones.captioner import Captioner, strip
from zsvg.moments import spans_to_mask

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
        view: "strip" shows the captioner four frames of an atomic event in a 2 x 2 grid, "middle"
            the one frame in its middle.
        samples: Captions drawn per atomic event by nucleus sampling; 0 for one decoded without
            randomness.
        per_event: Most sentences that one event keeps, best first.
        min_score: Least inside-minus-outside cosine of a label. An event that is the whole video
            has nothing outside and scores 0.
        per_video: Most labels of one video, best first.
        repeated: What to do with a sentence that describes several events of one video. "best":
            the event that it fits best keeps it. "drop": as "best", but a sentence given to atomic
            events that do not touch is dropped, for it does not say which is meant. "keep": each
            event may have it.
    """

    view: Literal["strip", "middle"] = "strip"
    samples: int = 0
    per_event: int = 1
    min_score: float = 0.0
    per_video: int = 10
    repeated: Literal["drop", "best", "keep"] = "best"

    def __post_init__(self) -> None:
        if self.view not in ("strip", "middle"):
            raise ValueError(f"view must be 'strip' or 'middle', got {self.view!r}")
        if self.repeated not in ("drop", "best", "keep"):
            raise ValueError(f"repeated must be 'drop', 'best' or 'keep', got {self.repeated!r}")
        if self.samples < 0:
            raise ValueError(f"samples must not be negative, got {self.samples}")
        for name in ("per_video", "per_event"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not -2 <= self.min_score <= 2:
            raise ValueError(f"min_score is a difference of cosines, got {self.min_score}")


@dataclass(frozen=True, kw_only=True)
class PseudoQuery:
    """A sentence for one event.

    Attributes:
        text: The sentence.
        atoms: (first, last) atomic event, both included.
        span: (start, end) of the event, seconds.
        score: Inside-minus-outside cosine, in [-2, 2].
    """

    text: str
    atoms: tuple[int, int]
    span: tuple[float, float]
    score: float


def view_times(atoms: ArrayLike, view: Literal["strip", "middle"]) -> NDArray[np.float64]:
    """Return when to look at each atomic event.

    Args:
        atoms: (n, 2) spans, seconds.
        view: "strip" or "middle".

    Returns:
        (n, 4) or (n, 1) seconds: the middles of as many equal parts of the event.
    """
    spans = np.asarray(atoms, dtype=np.float64)
    parts = 4 if view == "strip" else 1
    share = (np.arange(parts) + 0.5) / parts
    return np.asarray(spans[:, :1] + share * (spans[:, 1:] - spans[:, :1]))


def caption_events(
    frames: NDArray[np.uint8], captioner: Captioner, *, samples: int = 0, seed: int = 0
) -> list[list[str]]:
    """Caption the atomic events of one video.

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


def inside_minus_outside(
    relevance: NDArray[np.floating], inside: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return how much better sentences fit inside an event than outside it.

    Args:
        relevance: (C, T) cosines of sentences with frames.
        inside: (T,) which frames belong to the event.

    Returns:
        (C,) float64 in [-2, 2]; 0 where there is no frame inside, or none outside.
    """
    cosines = np.asarray(relevance, dtype=np.float64)
    if inside.all() or not inside.any():
        return np.zeros(len(cosines))
    return np.asarray(cosines[:, inside].mean(axis=1) - cosines[:, ~inside].mean(axis=1))


def choose(
    captions: Sequence[Sequence[str]],
    texts: Sequence[str],
    relevance: NDArray[np.floating],
    *,
    atoms: ArrayLike,
    events: Sequence[tuple[int, int]],
    centres: NDArray[np.floating],
    options: QueryOptions | None = None,
) -> list[PseudoQuery]:
    """Decide which sentence describes which event of one video.

    Every event may have a caption of one of its atoms. The best-scored pair of event and sentence
    is taken first; it uses up a place of the event and, unless repeated is "keep", the sentence.

    Args:
        captions: The captions of each atomic event.
        texts: The C different captions of the video.
        relevance: (C, T) cosines of `texts` with the video's frames.
        atoms: (n, 2) atomic events, seconds.
        events: (first, last) atoms of each event, both included.
        centres: (T,) middle of each frame's clip, seconds.
        options: What to keep.

    Returns:
        At most `per_video` queries in the order of their spans.
    """
    options = options or QueryOptions()
    spans = np.asarray(atoms, dtype=np.float64)
    row = {text: index for index, text in enumerate(texts)}
    ambiguous = _scattered(captions) if options.repeated == "drop" else set()
    pairs: list[PseudoQuery] = []
    for first, last in events:
        span = (float(spans[first, 0]), float(spans[last, 1]))
        scores = inside_minus_outside(relevance, spans_to_mask(np.array([span]), centres))
        for text in sorted({t for atom in captions[first : last + 1] for t in atom}):
            score = float(scores[row[text]])
            if score >= options.min_score and text.casefold() not in ambiguous:
                pairs.append(PseudoQuery(text=text, atoms=(first, last), span=span, score=score))
    kept: list[PseudoQuery] = []
    described: Counter[tuple[int, int]] = Counter()
    said: set[str] = set()
    # Among equals the shorter event, then the earlier one: the order must not depend on chance.
    pairs.sort(key=lambda q: (-q.score, q.span[1] - q.span[0], q.span, q.text))
    for query in pairs:
        if len(kept) == options.per_video:
            break
        key = query.text.casefold()
        again = key in said and options.repeated != "keep"
        if again or described[query.atoms] == options.per_event:
            continue
        kept.append(query)
        described[query.atoms] += 1
        said.add(key)
    return sorted(kept, key=lambda query: (query.span, query.text))


def _scattered(captions: Sequence[Sequence[str]]) -> set[str]:
    """Return the sentences, case folded, of atomic events that do not form one row."""
    places: dict[str, list[int]] = {}
    for index, texts in enumerate(captions):
        for key in {text.casefold() for text in texts}:
            places.setdefault(key, []).append(index)
    return {key for key, at in places.items() if any(b - a > 1 for a, b in pairwise(at))}
