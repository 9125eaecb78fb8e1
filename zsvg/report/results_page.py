"""A page of moments to look at: for each sentence those that the table shows, with a player each.

Pictures and curves are inside; videos stay where they are, and the page leads to them. It works
without its script, which only plays a moment when its pictures are clicked, and says so where a
browser cannot. Equal answers and videos give equal bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zsvg.errors import ITEM_ERRORS, failure, visible
from zsvg.files import write_text
from zsvg.grounding.ranking import Window, words_of
from zsvg.grounding.writers import hms
from zsvg.places.urls import met
from zsvg.records import Prediction
from zsvg.report import page
from zsvg.report.figures import thin
from zsvg.report.links import file_url, near
from zsvg.report.svg import drawing, jpeg, line, rect, scale, shorten, text, value_range
from zsvg.video.sampling import load_frames_at

if TYPE_CHECKING:
    from zsvg.grounding.answers import Grounding

Shown = tuple[Prediction, Window]
"""A moment, and the answer that it is of; in its `extra` are "fit" and "path"."""

_PICTURES = 3
_SIDE = 240  # pixels of the longer side of a picture: sharp on screens with two for one


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """How relevant a video is to a sentence all along.

    Attributes:
        duration: Of the video, seconds.
        centres: (T,) seconds, at most a few hundred of them.
        values: (T,) relevance.
    """

    duration: float
    centres: NDArray[np.float64]
    values: NDArray[np.float64]

    @classmethod
    def of(cls, answer: Grounding, duration: float) -> Curve:
        """Return the curve of an answer, thinned out: that of a long video is large."""
        values = thin(np.asarray(answer.curve, dtype=np.float64))
        return cls(duration=duration, centres=thin(answer.centres), values=values)

    def svg(self, start: float, end: float) -> str:
        """Draw it, with a moment of it marked."""
        width, bottom = 320.0, 62.0
        place = scale(0.0, self.duration, 0.0, width)
        left, right = place(start), max(place(end), place(start) + 2)
        # Of a clip all is as relevant as its middle, out to the ends of the video.
        times = np.concatenate(([0.0], self.centres, [self.duration]))
        values = self.values[[0, *range(len(self.values)), -1]]
        parts = [
            rect(left, 0, right - left, bottom, "guess-band"),
            f'<path d="M0 {bottom:.0f}H{width:.0f}" class="rule"/>',
            line(times, values, place, scale(*value_range(values), bottom - 10, 6), "line"),
            rect(left, bottom - 5, right - left, 5, "guess", radius=2),
            text(0, bottom + 16, hms(0), "small"),
            text(width, bottom + 16, hms(self.duration), "small", "end"),
        ]
        label = f"Relevance over {hms(self.duration)} of video; {_span(start, end)} is marked"
        return drawing(width, bottom + 20, label, parts)


def write_results(
    path: str | Path,
    answers: Sequence[tuple[str, Sequence[Shown], Mapping[str, Curve]]],
    *,
    model: str,
    on_progress: Callable[[int], None] | None = None,
) -> list[str]:
    """Write the page as one HTML file, atomically.

    Args:
        path: File to write.
        answers: For each sentence its moments in order, and vid -> curve of their videos.
        model: What the page says has answered.
        on_progress: Called with the number of moments whose pictures have been looked for.

    Returns:
        Why moments have no pictures, a line for each video; the page says so too.
    """
    failures: dict[str, str] = {}
    sections, done = [], 0
    for sentence, moments, curves in answers:
        videos = {answer.vid: answer for answer, _ in moments}
        cards = []
        for answer, window in moments:
            cards.append(_card(path, answer, window, curves[answer.vid], failures))
            done += 1
            if on_progress is not None:
                on_progress(done)
        sections.append(
            {
                "sentence": visible(shorten(sentence, 300)),
                "videos": len(videos),
                "absent": all(answer.extra.get("absent") for answer in videos.values()),
                "cards": cards,
            }
        )
    made = page.render(
        "results.html",
        "Moments",
        summary="Click a moment to play it. The line is how well the sentence fits all along the "
        "video; the moment is marked.",
        facts={"model": visible(model), "sentences": f"{len(answers):,}", "moments": f"{done:,}"},
        times="hours, minutes and seconds",
        answers=sections,
    )
    write_text(path, made)
    return list(failures.values())


def _card(
    target: str | Path, answer: Prediction, window: Window, curve: Curve, failures: dict[str, str]
) -> dict[str, Any]:
    """Return what the page shows of a moment."""
    file, (start, end, score) = answer.extra["path"], window
    playable = not file.endswith(".jsonl")  # in a track of captions there is nothing to see
    return {
        "link": file_url(file, target),
        "name": visible(near(file)),
        "numbers": f"fit {answer.extra['fit']:.3f}, score {score:.3f}",
        "times": _span(start, end),
        "said": visible(shorten(words_of(answer, window), 300)),
        "playable": playable,
        "film": _film(file, start, end, failures) if playable else [],
        "failure": visible(failures.get(file, "")),
        "fragment": f"t={start:.3f},{end:.3f}",
        "curve": curve.svg(start, end),
    }


def _film(file: str, start: float, end: float, failures: dict[str, str]) -> list[tuple[str, str]]:
    """Return pictures from the middles of equal parts of a moment, with their times."""
    times = start + (np.arange(_PICTURES) + 0.5) * (end - start) / _PICTURES
    if file not in failures:
        try:
            frames = load_frames_at(met(file), times, None, allow_truncated=True)
            return [(jpeg(f, longest=_SIDE), hms(t)) for f, t in zip(frames, times, strict=True)]
        except ITEM_ERRORS as error:
            failures[file] = failure(file, error)
    return []


def _span(start: float, end: float) -> str:
    return f"{hms(start)} to {hms(end)}"
