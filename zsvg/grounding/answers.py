"""What a grounder takes and gives: a video that is ready for questions, and the answer to one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsvg.features.encoder import FrameFeatures
from zsvg.moments import Spans
from zsvg.records import Prediction


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One answer: seconds from the start of the video, and a score (higher is better)."""

    start: float
    end: float
    score: float


def moments_of(spans: Spans, scores: NDArray[np.float64], top_k: int | None) -> tuple[Moment, ...]:
    """Return the first `top_k` of spans (n, 2) in seconds with scores (n,); None: all of them."""
    return tuple(
        Moment(start=float(start), end=float(end), score=float(score))
        for (start, end), score in zip(spans[:top_k], scores[:top_k], strict=True)
    )


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a sentence that relates moments in time, see `zsvg.grounding.parts`.

    Attributes:
        text: Its words.
        start: Of its best moment beside the other part, in seconds.
        end: In seconds.
    """

    text: str
    start: float
    end: float


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
            of trained models its mean with how well the best answer fits, which is better than
            either. Of captions the highest relevance of a clip, which is 0 or more.
        presence: How likely it is that the sentence is true of the video at all, in [0, 1]
            (`zsvg.grounding.presence`); it compares across videos and sentences, as scores do not.
            Of models from before zsvg knew, how well the best answer fits. None without training.
        absent: It is so unlikely that the moment may not be in the video; the model folder says how
            often that is said of moments that are. Always False without training. Where
            `Grounder.sure` is set, it is less likely than that, and there are no moments.
        parts: Where the parts of the sentence are, the one that is looked for first; none of a
            sentence that is read as a whole.
    """

    query: str
    vid: str
    moments: tuple[Moment, ...]
    curve: NDArray[np.float32]
    centres: NDArray[np.float64]
    fit: float = 0.0
    presence: float | None = None
    absent: bool = False
    parts: tuple[Part, ...] = ()

    @property
    def extra(self) -> dict[str, Any]:
        """What a written answer tells besides its moments, where there is anything to tell.

        "presence", "absent" and "parts", each with its "text", "start" and "end".
        """
        told: dict[str, Any] = {} if self.presence is None else {"presence": self.presence}
        if self.absent:
            told["absent"] = True
        if self.parts:
            told["parts"] = [
                {"text": part.text, "start": round(part.start, 3), "end": round(part.end, 3)}
                for part in self.parts
            ]
        return told

    def prediction(self, qid: str | int, vid: str, **more: Any) -> Prediction:
        """Return it as a record of the video of that name; `more` are further keys of it."""
        return Prediction(
            qid=qid,
            query=self.query,
            vid=vid,
            pred_relevant_windows=tuple((m.start, m.end, m.score) for m in self.moments),
            extra={**self.extra, **more},
        )
