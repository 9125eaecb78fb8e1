"""One list of moments: those that were seen, and those in which the words were said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from zsvg.grounding.ranking import distinct
from zsvg.library.search import Answer
from zsvg.library.tables import Video
from zsvg.records import Prediction

By = Literal["seen", "said", "both"]
"""How a moment was found, or is to be."""
DAMPED = 60
"""What is added to ranks before they are inverted: that of Cormack et al., "Reciprocal Rank Fusion
outperforms Condorcet and individual Rank Learning Methods", SIGIR 2009."""
_HELD = 0.5  # share of a line that lies in a moment from which on it is said there


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A moment that a search found.

    Attributes:
        answer: What its video answers.
        start: Seconds.
        end: Seconds.
        score: Of the moment, as `zsvg ground` gives it; 0 where it was only said.
        by: Whether it was seen, or words of the sentence were said there, or both.
        words: What is said there; "" if it was only seen.
    """

    answer: Answer
    start: float
    end: float
    score: float = 0.0
    by: By = "seen"
    words: str = ""

    @property
    def video(self) -> Video:
        """Where it is."""
        return self.answer.video

    @property
    def fit(self) -> float:
        """How well the video fits the sentence, as `zsvg.Grounding.fit`."""
        return self.answer.grounding.fit

    @property
    def alike(self) -> tuple[str, ...]:
        """Where else the same is to be seen."""
        return self.answer.alike


def seen(answers: Iterable[Answer], per_video: int) -> list[Hit]:
    """Return the moments of answers: the best one of each video, then the second ones.

    Args:
        answers: The video that fits best first.
        per_video: Most of one video; those that overlap a better one much do not count.
    """
    found = []
    for place, answer in enumerate(answers):
        windows = distinct(answer.prediction(0)).pred_relevant_windows or ()
        found += [
            (rank, place, Hit(answer=answer, start=start, end=end, score=score))
            for rank, (start, end, score) in enumerate(windows[:per_video])
        ]
    return [hit for *_, hit in sorted(found, key=lambda item: item[:2])]


def fused(by_eye: Sequence[Hit], by_ear: Sequence[Hit]) -> list[Hit]:
    """Return two lists as one, by the sum of their reciprocal ranks.

    A line that is said while a moment is seen belongs to that moment.

    Args:
        by_eye: Moments that were seen, best first.
        by_ear: Lines that were said, best first.
    """
    found = list(by_eye)
    points = [1 / (DAMPED + rank) for rank in range(1, len(found) + 1)]
    places: dict[str, list[int]] = {}
    for place, hit in enumerate(found):
        places.setdefault(hit.video.content, []).append(place)
    for rank, line in enumerate(by_ear, 1):
        seen_there = places.get(line.video.content, ())
        holding = [place for place in seen_there if _holds(found[place], line)]
        if not holding:
            found.append(line)
            points.append(1 / (DAMPED + rank))
        elif found[place := holding[0]].by == "seen":
            found[place] = replace(found[place], by="both", words=line.words)
            points[place] += 1 / (DAMPED + rank)
        else:
            found[place] = replace(found[place], words=f"{found[place].words} … {line.words}")
    order = sorted(range(len(found)), key=lambda place: -points[place])
    return [found[place] for place in order]


def first(hits: Iterable[Hit], top: int, per_video: int) -> list[Hit]:
    """Return the first hits: at most `top`, and `per_video` of each video."""
    kept: list[Hit] = []
    counts: dict[str, int] = {}
    for hit in hits:
        if len(kept) == top:
            break
        counts[hit.video.key] = counts.get(hit.video.key, 0) + 1
        if counts[hit.video.key] <= per_video:
            kept.append(hit)
    return kept


def records(hits: Iterable[Hit]) -> list[Prediction]:
    """Return hits as one record for each video, in the order in which the videos come first.

    Their `extra` has what `Answer.prediction` says, and where there are words, "said" and "by", of
    each window what is said in it and how it was found.
    """
    grouped: dict[str, list[Hit]] = {}
    for hit in hits:
        grouped.setdefault(hit.video.key, []).append(hit)
    made = []
    for own in grouped.values():
        record = own[0].answer.prediction(0)
        windows = tuple((hit.start, hit.end, hit.score) for hit in own)
        said = {}
        if any(hit.words for hit in own):
            said = {"said": [hit.words for hit in own], "by": [hit.by for hit in own]}
        made.append(replace(record, pred_relevant_windows=windows, extra={**record.extra, **said}))
    return made


def _holds(moment: Hit, line: Hit) -> bool:
    shared = min(moment.end, line.end) - max(moment.start, line.start)
    return shared >= _HELD * max(line.end - line.start, 1e-9)
