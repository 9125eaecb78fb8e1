"""The timelines below the players, and the cards beside them, as HTML; `timeline.js` moves them.

Everything is placed in percent of the duration, so that one drawing fits a wide screen and a phone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from zsvg import Grounding
from zsvg.report.svg import shorten

from .previews import Clip

MAX_POINTS = 400  # of a curve; no screen shows more
SCRIPT = "\n".join(
    Path(__file__).with_name(name).read_text(encoding="utf-8")
    for name in ("zoom.js", "timeline.js")
)
TOOLS = (
    '<div class="zt-tools" role="toolbar" aria-label="Timeline">'
    '<button type="button" data-loop aria-pressed="false" title="C">loop moments</button>'
    '<button type="button" data-zoom="out" aria-label="Farther" title="Shift+Z">−</button>'
    '<button type="button" data-zoom="in" aria-label="Closer" title="Z">+</button>'
    '<button type="button" data-zoom="all">all</button></div>'
)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The prediction of one model for one query.

    Attributes:
        model: The model's name on the page.
        side: "a" or "b", "c": which colour it has.
        grounding: The prediction.
    """

    model: str
    side: str
    grounding: Grounding

    @property
    def absent(self) -> bool:
        """Whether the model predicts that the moment may be absent."""
        return self.grounding.absent or not self.grounding.moments

    def to_json(self) -> dict[str, Any]:
        """Return it as the endpoint `/ground` does; the curve has at most `MAX_POINTS` points."""
        seconds, relevance = thin(self.grounding)
        return {
            "sentence": self.grounding.query,
            "model": self.model,
            "absent": self.absent,
            "moments": [
                {"start": round(m.start, 3), "end": round(m.end, 3), "score": round(m.score, 4)}
                for m in self.grounding.moments
            ],
            "curve": {"seconds": seconds.round(3).tolist(), "relevance": relevance.tolist()},
        }


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A span on a lane.

    Attributes:
        start: Seconds.
        end: Seconds.
        name: Written on it.
        says: What a screen reader says of it.
        style: Class of the style sheet.
        pick: Number that a click on it picks; None: it only moves the player.
        held: Whether its ends can be moved.
        label: What tells it from others, however it is moved.
    """

    start: float
    end: float
    name: str
    says: str
    style: str = ""
    pick: int | None = None
    held: bool = False
    label: str = ""


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One row of a timeline: a name, a curve or none, and bars below it."""

    name: str
    note: str = ""
    style: str = ""
    bars: Sequence[Bar] = ()
    curve: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    empty: str = ""


def component(name: str) -> gr.HTML:
    """Return an empty timeline, or cards, that act on clicks and keys."""
    return gr.HTML("", js_on_load=SCRIPT, apply_default_css=False, elem_id=name)


def timeline(clip: Clip, player: str, lanes: Iterable[Lane]) -> str:
    """Return the film, the ruler and the lanes of a video.

    Args:
        clip: The video.
        player: Id of its player on the page.
        lanes: Rows, from the top.
    """
    duration = clip.info.duration
    film = "".join(f'<img src="{picture}" alt="">' for picture in clip.film)
    drawn = list(lanes)
    rows = "".join(_lane(lane, duration) for lane in drawn)
    marks = "".join(
        f'<i class="{bar.style}" style="left:{100 * bar.start / duration:.3f}%;'
        f'width:{100 * max(bar.end - bar.start, 0.0) / duration:.3f}%"></i>'
        for lane in drawn
        if lane.style != "quiet"
        for bar in lane.bars
    )
    return (
        f'<div class="zt" data-player="{player}" data-duration="{duration:.3f}" '
        f'data-vid="{escape(clip.vid)}" data-file="{clip.key}" '
        f'data-fps="{clip.info.fps or 25.0:.4f}" '
        f'style="--aspect:{clip.aspect:.4f}">{TOOLS}'
        f'<div class="zt-map" aria-hidden="true" hidden>{marks}<div class="zt-frame"></div></div>'
        '<div class="zt-pane"><div class="zt-wide">'
        f'<div class="zt-film zt-track" aria-hidden="true">{film}</div>'
        f'<div class="zt-ruler zt-track" role="slider" tabindex="0" aria-label="Play head" '
        f'aria-valuemin="0" aria-valuemax="{duration:.2f}" aria-valuenow="0" '
        f'aria-valuetext="0.0 seconds"></div>'
        f'{rows}<div class="zt-head" aria-hidden="true"></div></div></div></div>'
    )


def answer_lanes(answers: Iterable[Answer]) -> list[Lane]:
    """Return one lane per answer: its curve, and its moments by rank."""
    lanes = []
    for answer in answers:
        query = answer.grounding.query
        bars = [
            Bar(
                start=m.start,
                end=m.end,
                name=str(rank),
                says=f"Moment {rank} of {query}, {answer.model}: {_span(m.start, m.end)}, "
                f"score {m.score:.2f}. Go there.",
                style="best" if rank == 1 else "",
            )
            for rank, m in enumerate(answer.grounding.moments, 1)
        ]
        lanes.append(
            Lane(
                name=query,
                note=f"{answer.model}: perhaps no such moment" if answer.absent else answer.model,
                style=answer.side,
                bars=bars,
                curve=thin(answer.grounding),
            )
        )
    return lanes


def cards(
    player: str, aspect: float, answers: Sequence[Answer], pictures: dict[tuple[int, int], str]
) -> str:
    """Return the ranked moments of every sentence, the models side by side.

    Args:
        player: Id of the player that they move.
        aspect: Width over height of the video.
        answers: Those of one sentence follow each other.
        pictures: (index of the answer, rank from 0) -> data address.
    """
    columns = len({answer.model for answer in answers})
    parts = []
    for first in range(0, len(answers), max(columns, 1)):
        sides = [
            _side(answer, index, pictures, named=columns > 1)
            for index, answer in enumerate(answers[first : first + columns], first)
        ]
        query = answers[first].grounding.query
        parts.append(
            f'<section class="zc-ask"><h2>{escape(query)}</h2>'
            f'<div class="zc-sides zc-{columns}">{"".join(sides)}</div></section>'
        )
    return (
        f'<div class="zc" data-player="{player}" style="--aspect:{aspect:.4f}">'
        f"{''.join(parts)}</div>"
    )


def thin(grounding: Grounding) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (seconds, relevance) with at most `MAX_POINTS` points; peaks survive the thinning."""
    step = -(-len(grounding.curve) // MAX_POINTS)
    starts = np.arange(0, len(grounding.curve), step)
    highest = np.maximum.reduceat(grounding.curve, starts).astype(np.float64)
    return grounding.centres[starts].astype(np.float64), highest.round(4)


def _side(answer: Answer, index: int, pictures: dict[tuple[int, int], str], *, named: bool) -> str:
    head = f"<h3>{escape(answer.model)}</h3>" if named else ""
    if answer.absent:
        head += "<p>Perhaps no such moment in this video: no score is high for this model.</p>"
    items = []
    for rank, m in enumerate(answer.grounding.moments):
        picture = pictures.get((index, rank))
        image = f'<img src="{picture}" alt="">' if picture else ""
        items.append(
            f'<li><button type="button" class="zc-card" data-start="{m.start:.3f}" '
            f'data-end="{m.end:.3f}">{image}<span class="zc-words"><b>{rank + 1}</b> '
            f"<span>{_span(m.start, m.end)}</span> "
            f"<small>score {m.score:.2f}</small></span></button>"
            f'<button type="button" class="zc-cut" data-answer="{index}" data-rank="{rank}" '
            f'aria-label="Cut moment {rank + 1} out as a clip" title="Cut out as a clip">'
            "clip</button></li>"
        )
    return f'<div class="zc-side {answer.side}">{head}<ol>{"".join(items)}</ol></div>'


def _lane(lane: Lane, duration: float) -> str:
    note = f"<span>{escape(lane.note)}</span>" if lane.note else ""
    rows: list[list[Bar]] = []
    bars = []
    for bar in lane.bars:
        # The first row that has room; what comes first is seen first.
        free = (i for i, row in enumerate(rows) if all(_apart(bar, other) for other in row))
        place = next(free, len(rows))
        rows[place : place + 1] = [[*(rows[place] if place < len(rows) else ()), bar]]
        bars.append(_bar(bar, place, duration))
    curve = "" if lane.curve is None else _curve(*lane.curve, duration)
    empty = f'<span class="zt-empty">{escape(lane.empty)}</span>' if lane.empty else ""
    return (
        f'<div class="zt-lane {lane.style}"><div class="zt-name">'
        f"<b>{escape(shorten(lane.name, 90))}</b> {note}</div>"
        f'<div class="zt-track" style="--rows:{max(len(rows), 1)}">{curve}{"".join(bars)}{empty}'
        "</div></div>"
    )


def _apart(bar: Bar, other: Bar) -> bool:
    return bar.end <= other.start or other.end <= bar.start


def _bar(bar: Bar, row: int, duration: float) -> str:
    left, width = 100 * bar.start / duration, 100 * max(bar.end - bar.start, 0.0) / duration
    place = f"left:{left:.3f}%;width:{width:.3f}%;--row:{row}"
    pick = "" if bar.pick is None else f' data-pick="{bar.pick}"'
    pick += f' data-label="{escape(bar.label)}"' if bar.label else ""
    button = (
        f'<button type="button" class="zt-bar {bar.style}" style="{place}" '
        f'data-start="{bar.start:.3f}" data-end="{bar.end:.3f}"{pick} '
        f'aria-label="{escape(bar.says)}">{escape(bar.name)}</button>'
    )
    if not bar.held:
        return button
    handles = "".join(
        f'<span class="zt-handle {end}" data-edge="{end}" role="slider" tabindex="0" '
        f'aria-label="{end.capitalize()} of the moment" aria-valuemin="0" '
        f'aria-valuemax="{duration:.2f}" aria-valuenow="{value:.2f}" '
        f'aria-valuetext="{value:.1f} seconds" style="left:{100 * value / duration:.3f}%;'
        f'--row:{row}"></span>'
        for end, value in (("start", bar.start), ("end", bar.end))
    )
    return button + handles


def _curve(seconds: NDArray[np.float64], relevance: NDArray[np.float64], duration: float) -> str:
    low, high = float(relevance.min()), float(relevance.max())
    x = 1000 * seconds / duration
    y = 96 - 90 * (relevance - low) / max(high - low, 1e-9)
    points = "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))
    return (
        '<svg class="zt-curve" viewBox="0 0 1000 100" preserveAspectRatio="none" '
        f'aria-hidden="true"><path class="area" d="M{x[0]:.1f} 100L{points}L{x[-1]:.1f} 100Z"/>'
        f'<path class="line" d="M{points}"/></svg>'
    )


def _span(start: float, end: float) -> str:
    return f"{_time(start)} to {_time(end)}"


def _time(seconds: float) -> str:
    tenths = round(10 * seconds)
    minutes, rest = divmod(tenths, 600)
    return f"{minutes}:{rest // 10:02d}.{rest % 10}"
