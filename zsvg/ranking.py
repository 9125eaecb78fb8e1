"""Which video first: what `zsvg ground` answers to one sentence about many videos, in order.

Scores order the moments of one video; between videos they say nothing, and `fit` does (see
`zsvg.grounder.Grounding`). Here it is a key of the records, "fit".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from zsvg.moments import nms
from zsvg.records import Prediction

Window = tuple[float, float, float]
ALIKE = 0.5
"""IoU with a better moment of the same answer from which on a moment shows people nothing new."""


def by_fit(answers: Iterable[Prediction]) -> list[Prediction]:
    """Return one model's answers to one sentence, the video that fits best first.

    Videos that fit alike are in order of their names.
    """
    return sorted(answers, key=lambda answer: (-answer.extra["fit"], answer.vid))


def distinct(answer: Prediction) -> Prediction:
    """Return an answer without the moments that overlap a better one in it by `ALIKE` or more."""
    windows = answer.pred_relevant_windows or ()
    # They stand in order, best first; `nms` drops what is above its threshold.
    order, below = -np.arange(len(windows)), float(np.nextafter(ALIKE, 0))
    kept = nms([window[:2] for window in windows], order, below)
    return replace(answer, pred_relevant_windows=tuple(windows[index] for index in kept))


def best_moments(answers: Sequence[Prediction], most: int) -> list[tuple[Prediction, Window]]:
    """Return the moments to show first: of as many videos as there is room for.

    The best moment of each video comes before the second of any, which come before the third.
    What is chosen stays together by video, in the order of `answers`, and best first inside.

    Args:
        answers: In order, as of `by_fit`.
        most: How many moments to return at most.
    """
    windows = [answer.pred_relevant_windows or () for answer in answers]
    places = ((rank, place) for place, own in enumerate(windows) for rank in range(len(own)))
    chosen = sorted((place, rank) for rank, place in sorted(places)[:most])
    return [(answers[place], windows[place][rank]) for place, rank in chosen]
