"""Moments of sentences that relate two of them in time, from a curve of each part.

Each part is somewhere: a softmax over the clips turns its standardised relevance into chances. "X
before Y" is where X is and Y is still to come,

    P(X at t) * P(Y after t)

so that nothing is cut off: of a part that was misread, whose curve is flat, all that is left is
that X comes early. Main event, context and signal of time are those of TCMN (Zhang et al.,
"Exploiting Temporal Relationships in Video Moment Localization with Natural Language", ACM MM
2019), where all is learned; nothing is here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from zsvg.grounding.answers import Moment, Part
from zsvg.grounding.parts import Kind, Parts
from zsvg.moments import nms
from zsvg.scorers.transforms import standardised

Curve = NDArray[np.float32]
Moments = tuple[Moment, ...]

_AS_GOOD = 0.5
"""Share of the best score from which on a moment counts as a time that it happens."""


@dataclass(frozen=True, kw_only=True)
class Read:
    """What was read from the curves of a sentence's parts.

    Attributes:
        moments: Answers, best first.
        curve: (T,) what they were read from; of "then", the higher of both parts' curves.
        parts: Where each part is, the one that is looked for first; none of a whole sentence.
    """

    moments: Moments
    curve: Curve
    parts: tuple[Part, ...] = ()


def in_time(parts: Parts, curves: Mapping[str, Curve], read: Callable[[Curve], Moments]) -> Read:
    """Return the moments of a sentence.

    Args:
        parts: The sentence.
        curves: Words of each part -> (T,) relevance of each clip to them.
        read: Returns all moments of a curve, best first, at least one.
    """
    main = curves[parts.main]
    if parts.kind == "whole":
        return Read(moments=read(main), curve=main)
    if parts.kind == "nth":
        moments = nth(read(main), parts.ordinal)
        return Read(moments=moments, curve=main, parts=(_part(parts.main, moments),))
    here, there = related(parts.kind, main, curves[parts.other])
    ours, theirs = read(here), read(there)
    lit = (_part(parts.main, ours), _part(parts.other, theirs))
    if parts.kind == "then":
        return Read(moments=spanning(ours, theirs), curve=np.maximum(here, there), parts=lit)
    return Read(moments=ours, curve=here, parts=lit)


def related(kind: Kind, main: Curve, other: Curve) -> tuple[Curve, Curve]:
    """Return where each part is, given how it relates to the other one.

    Args:
        kind: "before", "after", "then", "while" or "not".
        main: (T,) relevance of each clip to the main part, of any unit.
        other: (T,) the same of the other part.

    Returns:
        Two curves (T,) in [0, 1]. Of "before", "after" and "then" each is the chance that its part
        is there with the other one on its right side; of "while" the first is the mean of both
        chances, and of "not" it goes down where the other part is; there the second is the other
        part's own.
    """
    here, there = _chances(main), _chances(other)
    if kind == "while":
        here = (here + there) / 2
    elif kind == "not":
        here = here * (1 - there / there.max())
    elif kind == "after":
        here, there = here * _earlier(there), there * _later(here)
    else:
        here, there = here * _later(there), there * _earlier(here)
    return here.astype(np.float32), there.astype(np.float32)


def spanning(first: Moments, second: Moments) -> Moments:
    """Return moments from the start of the first part to the end of the second one, best first.

    Args:
        first: Of the first part, best first.
        second: Of the second part.
    """
    return tuple(
        Moment(
            start=min(one.start, two.start),
            end=max(one.end, two.end),
            score=(one.score + two.score) / 2,
        )
        for one, two in zip(first, second, strict=False)
    )


def nth(moments: Moments, ordinal: int) -> Moments:
    """Return moments with the one first that happens the nth time; the others keep their order.

    Times are moments that share nothing with a better one and score at least half as well as the
    best; where they are fewer the last one is taken. Scores stay where they are, in order.

    Args:
        moments: Best first, at least one.
        ordinal: From 1.
    """
    least = min(_AS_GOOD * moments[0].score, moments[0].score)  # scores may be below 0
    good = [moment for moment in moments if moment.score >= least]
    apart = nms([(m.start, m.end) for m in good], [m.score for m in good], 0.0)
    times = sorted((good[place] for place in apart), key=lambda moment: moment.start)
    chosen = times[min(ordinal, len(times)) - 1]
    order = [chosen, *(moment for moment in moments if moment is not chosen)]
    return tuple(
        replace(moment, score=ranked.score) for moment, ranked in zip(order, moments, strict=True)
    )


def _part(text: str, moments: Moments) -> Part:
    return Part(text=text, start=moments[0].start, end=moments[0].end)


def _chances(curve: Curve) -> NDArray[np.float64]:
    """Return how probably a part is at each clip, (T,) that sum to 1."""
    scaled = standardised(curve)
    weights = np.exp(scaled - scaled.max())
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def _earlier(chances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the chance that it is at an earlier clip, (T,)."""
    return np.concatenate(([0.0], np.cumsum(chances)[:-1]))


def _later(chances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the chance that it is at a later clip, (T,)."""
    return _earlier(chances[::-1])[::-1]
