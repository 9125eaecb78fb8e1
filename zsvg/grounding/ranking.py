"""Which video first: what `zsvg ground` answers to one sentence about many videos, in order.

Scores order the moments of one video; between videos they say nothing, and `fit` does (see
`zsvg.Grounding`). Here it is a key of the records, "fit".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from zsvg.moments import nms
from zsvg.records import Prediction

Window = tuple[float, float, float]
ALIKE = 0.5
"""IoU with a better moment of the same answer from which on a moment shows people nothing new."""

USUAL = "a person does something"
"""What a sentence has in common with others: as much of it as all of them say."""


def fit(
    features: NDArray[np.float32], sentence: NDArray[np.float32], usual: NDArray[np.float32]
) -> float:
    """Return how well a video fits a sentence, to sort videos by: the best clip's similarity.

    Half of what is always there is taken out of both sides first: of every clip, the mean clip of
    its video, and of the sentence, the one that says nothing in particular, `USUAL`. What a whole
    video looks like, and what any sentence is near to, decides otherwise. All of it must not go,
    since a thing that is there throughout is in the mean too. (Chosen on microworld's development
    domain, `scripts/benchmark_ranking.py`, and on CLIP's frames of Charades-STA.)

    Args:
        features: (T, D) clips as rows of unit length, T >= 1.
        sentence: (D,) vector of the sentence, of unit length.
        usual: (D,) vector of `USUAL`, of unit length.

    Returns:
        In [-1.5, 1.5].
    """
    return float((centred(features) @ asked(sentence, usual)).max())


def centred(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the clips of a video as `fit` compares them: (T, D) rows of unit length."""
    rows: NDArray[np.float32] = features - features.mean(axis=0) / 2
    # The mean is not above 1 in length, so nothing is divided by 0.
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def asked(sentence: NDArray[np.float32], usual: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the (D,) sentence as `fit` compares it."""
    told: NDArray[np.float32] = np.subtract(sentence, usual / 2, dtype=np.float32)
    return told


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


def words_of(answer: Prediction, window: Window) -> str:
    """Return what is said in a moment of an answer, "" where nobody looked for it.

    An answer whose moments were searched for by words, too, has them in "said", in the same order.
    """
    said = answer.extra.get("said")
    windows = answer.pred_relevant_windows or ()
    return str(said[windows.index(window)]) if said else ""


def parts_told(answer: Prediction) -> str:
    """Return where the parts of an answer's sentence are, "" of one that was read as a whole."""
    return "; ".join(
        f"{part['text']} {part['start']:.1f}–{part['end']:.1f} s"
        for part in answer.extra.get("parts", ())
    )
