"""What a grounder takes and gives: a video that is ready for questions, and the answer to one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsvg.features.encoder import FrameFeatures
from zsvg.records import Prediction


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One answer: seconds from the start of the video, and a score (higher is better)."""

    start: float
    end: float
    score: float


@dataclass(frozen=True, kw_only=True)
class EncodedVideo:
    """A video that is ready for questions; cheap to keep, safe to share between threads.

    Attributes:
        vid: The video's name.
        frames: Its frame features.
        encoder: Identity of what encoded it (backbone and visual prompts). Another model that sees
            frames differently refuses it.
    """

    vid: str
    frames: FrameFeatures
    encoder: str

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.frames.duration


@dataclass(frozen=True, kw_only=True)
class Grounding:
    """The answer to one sentence.

    Attributes:
        query: The sentence.
        vid: The video's name.
        moments: Answers, best first.
        curve: (T,) float32 relevance of each clip to the sentence.
        centres: (T,) middle of each clip, seconds.
        fit: How well the video fits the sentence, the higher the better: sorts videos that one
            model was asked the same sentence about, which scores do not. Between sentences or
            models it does not compare. In [-1.5, 1.5], see `zsvg.grounding.ranking.fit`;
            of trained models its mean with `presence`, which is better than either. Of captions
            the highest relevance of a clip, which is 0 or more.
        presence: How well the best answer fits; of one model, it compares across videos and
            sentences, as scores do not. None without training.
        absent: It fits so badly that the moment may not be in the video; the model folder says how
            often that is said of moments that are (`zsvg.grounding.presence_threshold`). Always
            False without training.
    """

    query: str
    vid: str
    moments: tuple[Moment, ...]
    curve: NDArray[np.float32]
    centres: NDArray[np.float64]
    fit: float = 0.0
    presence: float | None = None
    absent: bool = False

    @property
    def extra(self) -> dict[str, Any]:
        """What a written answer tells besides its moments: "presence", and "absent" if it is."""
        told = {} if self.presence is None else {"presence": self.presence}
        return told | ({"absent": True} if self.absent else {})

    def prediction(self, qid: str | int, vid: str, **more: Any) -> Prediction:
        """Return it as a record of the video of that name; `more` are further keys of it."""
        return Prediction(
            qid=qid,
            query=self.query,
            vid=vid,
            pred_relevant_windows=tuple((m.start, m.end, m.score) for m in self.moments),
            extra={**self.extra, **more},
        )
