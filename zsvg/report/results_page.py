"""A page of moments to look at: for each sentence those that the table shows, with a player each.

Pictures and curves are inside; videos stay where they are, and the page leads to them. It works
without its script, which only plays a moment when its pictures are clicked, and says so where a
browser cannot. Equal answers and videos give equal bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zsvg.errors import ITEM_ERRORS, failure, visible
from zsvg.files import write_text
from zsvg.grounding.ranking import Window
from zsvg.grounding.writers import hms
from zsvg.records import Prediction
from zsvg.report import page
from zsvg.report.figures import thin
from zsvg.report.links import file_url, near
from zsvg.report.svg import drawing, jpeg, line, scale, shorten, text, value_range
from zsvg.video.sampling import load_frames_at

if TYPE_CHECKING:
    from zsvg.grounding.answers import Grounding

Shown = tuple[Prediction, Window]
"""A moment, and the answer that it is of; in its `extra` are "fit" and "path"."""

_PICTURES = 3
_SIDE = 240  # pixels of the longer side of a picture: sharp on screens with two for one
_NO_MOMENT = "Perhaps there is no such moment: every score is low for this model."
_UNPLAYED = "Nothing to see? This browser does not play such a video: open the file in a player."
_SCRIPT = """\
for (const told of document.querySelectorAll("video + p")) told.hidden = true;
document.addEventListener("toggle", ({target}) => {
  const video = target.querySelector("video");
  if (!target.open) return video.load();
  for (const other of document.querySelectorAll("video")) other.pause();
  video.play().catch(() => {});
}, true);
for (const what of ["error", "loadedmetadata"]) document.addEventListener(what, ({target}) => {
  if (target.tagName != "VIDEO" || target.videoWidth) return;
  target.hidden = true;
  target.nextElementSibling.hidden = false;
}, true);
"""


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
        box = f'x="{left:.1f}" width="{right - left:.1f}"'
        # Of a clip all is as relevant as its middle, out to the ends of the video.
        times = np.concatenate(([0.0], self.centres, [self.duration]))
        values = self.values[[0, *range(len(self.values)), -1]]
        parts = [
            f'<rect {box} y="0" height="{bottom:.0f}" class="guess-band"/>',
            f'<path d="M0 {bottom:.0f}H{width:.0f}" class="rule"/>',
            line(times, values, place, scale(*value_range(values), bottom - 10, 6), "line"),
            f'<rect {box} y="{bottom - 5:.0f}" height="5" rx="2" class="guess"/>',
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
        cards = []
        for rank, shown in enumerate(moments, 1):
            cards.append(_card(Path(path), rank, shown, curves[shown[0].vid], failures))
            done += 1
            if on_progress is not None:
                on_progress(done)
        sections.append(_section(sentence, moments, "".join(cards)))
    facts = {"model": visible(model), "sentences": f"{len(answers):,}", "moments": f"{done:,}"}
    summary = "Click a moment to play it. The line is how well the sentence fits all along the "
    summary += "video; the moment is marked."
    parts = [page.top("Moments", summary, facts), *sections]
    times = "Times are hours, minutes and seconds from the start of the video."
    write_text(path, page.document("Moments", parts, times, _SCRIPT))
    return list(failures.values())


def _section(sentence: str, moments: Sequence[Shown], cards: str) -> str:
    videos = {answer.vid: answer for answer, _ in moments}
    told = f"{page.count(len(moments), 'moment')} of {page.count(len(videos), 'video')}, "
    told += "the video that fits best first. Fit compares videos, scores the moments of one."
    absent = videos and all(answer.extra.get("absent") for answer in videos.values())
    doubt = f'<p class="gap">{_NO_MOMENT}</p>' if absent else ""
    heading = visible(shorten(sentence, 300))
    return page.section(heading, told if moments else "", doubt + cards or "<p>No answer.</p>")


def _card(target: Path, rank: int, shown: Shown, curve: Curve, failures: dict[str, str]) -> str:
    answer, (start, end, score) = shown
    file = answer.extra["path"]
    link = escape(file_url(file, target))
    name, times = escape(visible(near(file))), _span(start, end)
    numbers = f"fit {answer.extra['fit']:.3f}, score {score:.3f}"
    heading = f'<h3>{rank}. <a href="{link}">{name}</a> <small>{numbers}</small></h3>'
    if Path(file).suffix == ".jsonl":  # a track of captions: there is nothing to see
        inside, note = f"<p>{times}</p>", ""
    else:
        film, note = _film(file, start, end, failures)
        inside = (
            f"<details><summary>Play {times}{film}</summary>"
            f'<video controls preload="none" aria-label="{name}, {times}" '
            f'src="{link}#t={start:.3f},{end:.3f}"></video>'
            f"<p>{_UNPLAYED}</p></details>"
        )
    return (
        f'<div class="figure">{heading}<div class="moment">{inside}{curve.svg(start, end)}</div>'
        f"{note}</div>\n"
    )


def _film(file: str, start: float, end: float, failures: dict[str, str]) -> tuple[str, str]:
    """Return pictures from the middles of equal parts of a moment, and why there are none."""
    times = start + (np.arange(_PICTURES) + 0.5) * (end - start) / _PICTURES
    if file not in failures:
        try:
            frames = load_frames_at(file, times, None, allow_truncated=True)
        except ITEM_ERRORS as error:
            failures[file] = failure(file, error)
    if file in failures:
        return "", f'<p class="gap">No pictures: {escape(visible(failures[file]))}</p>'
    pictures = (
        f'<img src="{jpeg(pixels, longest=_SIDE)}" alt="At {hms(time)}">'
        for pixels, time in zip(frames, times, strict=True)
    )
    return f'<span class="film">{"".join(pictures)}</span>', ""


def _span(start: float, end: float) -> str:
    return f"{hms(start)} to {hms(end)}"
