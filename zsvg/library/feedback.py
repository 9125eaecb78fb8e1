"""Yes and no on moments that a search found: the sentence moves towards what was meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zsvg.grounding.answers import EncodedVideo, Grounding
from zsvg.grounding.grounder import Grounder
from zsvg.grounding.ranking import centred
from zsvg.library.candidates import direction
from zsvg.library.example import clips_between
from zsvg.library.known import Part
from zsvg.library.rows import unpacked
from zsvg.library.tables import Tables

YES, NO = 0.75, 0.15
"""What moments with a yes add to a sentence, and those with a no take away: the usual weights of
Rocchio's formula (Manning, Raghavan and Schütze, "Introduction to Information Retrieval", 2008,
equation 9.3)."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A sentence, and what was said of moments that it found.

    Attributes:
        sentence: The words.
        direction: (D,) what clips are compared with instead of it.
    """

    sentence: str
    direction: NDArray[np.float32]

    @property
    def name(self) -> str:
        """What it is called in answers."""
        return self.sentence

    def ask(self, grounder: Grounder, video: EncodedVideo, top_k: int) -> Grounding:
        """Return the moments of a video that fit it, by what is seen alone: no head is asked."""
        frames = video.frames
        curve: NDArray[np.float32] = frames.features @ self.direction
        return Grounding(
            query=self.sentence,
            vid=video.vid,
            moments=grounder.read(video, curve, top_k),
            curve=curve,
            centres=frames.centres,
            fit=round(float((centred(frames.features) @ self.direction).max()), 6),
        )


def judged(
    tables: Tables, grounder: Grounder, sentence: str, yes: Sequence[Part], no: Sequence[Part]
) -> Judged:
    """Return a sentence that is nearer to some moments, and farther from others.

    Clips are those that `zsvg.grounding.ranking.fit` compares. Each moment counts as its mean clip,
    however long it is.

    Args:
        tables: Where features are; moments of videos that left do not count.
        grounder: Encodes the sentence.
        sentence: What was looked for.
        yes: Moments that it describes.
        no: Moments that it does not describe.
    """
    rows = tables.features(sorted({content for content, *_ in (*yes, *no)}))
    clips = {content: unpacked(row, content) for content, row in rows.items()}
    told = direction(grounder, sentence)
    told = told / max(float(np.linalg.norm(told)), 1e-9)
    for weight, moments in ((YES, yes), (-NO, no)):
        means = [
            centred(clips[content].features)[clips_between(clips[content], start, end)].mean(axis=0)
            for content, start, end in moments
            if content in clips
        ]
        if means:
            told = told + weight * np.mean(means, axis=0)
    return Judged(sentence=sentence, direction=told.astype(np.float32))
