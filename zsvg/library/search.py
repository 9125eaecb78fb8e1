"""The second step of a search: what `ground` says of the chosen videos, in order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from zsvg.features.encoder import FrameFeatures
from zsvg.grounding.answers import EncodedVideo, Grounding
from zsvg.grounding.grounder import Grounder
from zsvg.library.rows import unpacked
from zsvg.library.tables import Tables, Video
from zsvg.records import Prediction

DUPLICATE = 0.95
"""Cosine of all parts of two moments from which on they show the same, if they last as long. (Of
70,000 pairs of moments of different Charades videos, CLIP ViT-L/14, not one reaches .93.)"""
_AS_LONG = 1.0  # seconds that near duplicates may differ
_PARTS = 4
_CHUNK = 64  # videos whose features are in memory at once
TRIED = 5
"""Moments of a video that are looked at for each that may be shown."""
NARROW = 2000
"""Videos that the engine is told to look at alone; more are sorted out afterwards."""


class Question(Protocol):
    """What is looked for, where it is more than a sentence or none."""

    @property
    def name(self) -> str:
        """What it is called in answers."""

    @property
    def sentence(self) -> str:
        """What is looked for in what is said; "" where nothing is."""

    @property
    def direction(self) -> NDArray[np.float32]:
        """The (D,) vector that rows of frames are compared with, to choose videos."""

    def ask(self, grounder: Grounder, video: EncodedVideo, top_k: int) -> Grounding:
        """Return the moments of a video that answer it, at most `top_k`."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one video answers to a sentence.

    Attributes:
        video: The video.
        grounding: What `Grounder.ground` says of it.
        alike: Where the same is to be seen: copies of the file, and near duplicates that fit worse.
    """

    video: Video
    grounding: Grounding
    alike: tuple[str, ...] = ()

    def prediction(self, qid: str | int) -> Prediction:
        """Return it as a record with "fit", "path", "content", and "alike" where there is any."""
        alike = {"alike": list(self.alike)} if self.alike else {}
        return self.grounding.prediction(
            qid,
            self.video.vid,
            fit=self.grounding.fit,
            path=str(self.video.file),
            content=self.video.content,
            **alike,
        )


def answers(
    tables: Tables,
    grounder: Grounder,
    query: str | Question,
    chosen: Sequence[str],
    videos: Iterable[Video],
    *,
    top_k: int,
    group: bool = True,
) -> list[Answer]:
    """Ask videos by their stored features; the one that fits best comes first.

    Args:
        tables: Where the features are.
        grounder: The model.
        query: The sentence, or another question.
        chosen: Contents to ask.
        videos: Whose contents they are; of several with one content the first by name answers.
        top_k: Most moments of each.
        group: Leave out near duplicates of better answers, and name them there.
    """
    places: dict[str, list[Video]] = {}
    for video in videos:
        places.setdefault(video.content, []).append(video)
    found: list[tuple[Answer, NDArray[np.float32]]] = []
    for start in range(0, len(chosen), _CHUNK):
        rows = tables.features(chosen[start : start + _CHUNK])
        for content, row in rows.items():
            first, *copies = places[content]
            found.append(_ask(grounder, query, first, copies, row, top_k))
    found.sort(key=lambda pair: (-pair[0].grounding.fit, pair[0].video.vid))
    return _grouped(found) if group else [answer for answer, _ in found]


def _ask(
    grounder: Grounder,
    query: str | Question,
    video: Video,
    copies: Sequence[Video],
    row: dict[str, Any],
    top_k: int,
) -> tuple[Answer, NDArray[np.float32]]:
    frames = unpacked(row, video.vid)
    encoded = EncodedVideo(vid=video.vid, frames=frames, encoder=grounder.encoder)
    if isinstance(query, str):
        said = grounder.ground(encoded, query, top_k=top_k)
    else:
        said = query.ask(grounder, encoded, top_k)
    alike = tuple(str(copy.file) for copy in copies)
    return Answer(video=video, grounding=said, alike=alike), _looks(frames, said)


def _looks(frames: FrameFeatures, said: Grounding) -> NDArray[np.float32]:
    """Return (parts, D) how the best moment looks, clips from the middles of its equal parts."""
    start, end = (said.moments[0].start, said.moments[0].end) if said.moments else (0.0, 0.0)
    times = start + (np.arange(_PARTS) + 0.5) * (end - start) / _PARTS
    places = np.searchsorted(frames.edges, times, side="right") - 1
    return frames.features[np.clip(places, 0, len(frames.features) - 1)]


def _grouped(found: Sequence[tuple[Answer, NDArray[np.float32]]]) -> list[Answer]:
    """Put near duplicates with the answer that fits best."""
    kept: list[Answer] = []
    looks: list[NDArray[np.float32]] = []
    for answer, look in found:
        same = (
            place
            for place, other in enumerate(looks)
            if abs(_length(kept[place]) - _length(answer)) <= _AS_LONG
            and (look * other).sum(axis=1).min() >= DUPLICATE
        )
        if (place := next(same, None)) is not None:
            more = (str(answer.video.file), *answer.alike)
            kept[place] = replace(kept[place], alike=kept[place].alike + more)
        else:
            kept.append(answer)
            looks.append(look)
    return kept


def _length(answer: Answer) -> float:
    return sum(moment.end - moment.start for moment in answer.grounding.moments[:1])
