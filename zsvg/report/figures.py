"""Figures of a report: plain data in, one inline SVG each out.

Colours come from the classes of `report.css`, so that one drawing reads on light and dark pages.
Numbers are printed with fixed digits: equal data gives equal text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from zsvg.moments import as_spans, iou
from zsvg.report.svg import (
    Scale,
    clock,
    drawing,
    image,
    jpeg,
    line,
    png,
    rect,
    scale,
    shorten,
    text,
    ticks,
    time_axis,
    value_axis,
    value_range,
)

LabelledSpan = tuple[float, float, str]
"""Start and end in seconds, and the sentence."""

_WIDTH = 880
_GUTTER, _RIGHT = 66, 858  # the plot's sides: names and numbers on the left, half a label right
_CELLS = 256  # a larger similarity matrix is averaged down: no screen shows more
_POINTS = 600
_LETTER = 7.5  # pixels that one takes in the wider ones of the fonts of `report.css`
# Ends and middle of the cividis map, which reads the same with any colour vision.
_COLOURS = np.array([[0, 34, 78], [124, 123, 120], [254, 232, 56]], dtype=np.float64)


@dataclass(frozen=True, kw_only=True, eq=False)
class SimilarityFigure:
    """How alike the clips of a video are, with the events that were found.

    Attributes:
        vid: Name of the video.
        similarity: (T, T) similarity of every clip with every other.
        edges: (T + 1,) clip borders in seconds.
        events: (n, 2) spans in seconds.
    """

    vid: str
    similarity: ArrayLike
    edges: ArrayLike
    events: ArrayLike

    def __post_init__(self) -> None:
        shape, borders = np.shape(self.similarity), np.shape(self.edges)
        if len(shape) != 2 or shape[0] != shape[1] or not shape[0] or borders != (shape[0] + 1,):
            raise ValueError(f"similarity {shape} must be (T, T) and edges {borders} (T + 1,)")

    def svg(self) -> str:
        """Draw the matrix as a picture, each event as a square on its diagonal."""
        left, top, side = 42.0, 22.0, 346.0
        edges = np.asarray(self.edges, dtype=np.float64)
        place = scale(edges[0], edges[-1], 0.0, side)
        picture, low, high = _heat(np.asarray(self.similarity, dtype=np.float64))
        stretched = 'preserveAspectRatio="none"'
        parts = [image(left, top, side, side, png(picture), f'{stretched} class="cells"')]
        for index, (start, end) in enumerate(as_spans(self.events)):
            a, size = place(start), place(end) - place(start)
            parts += [rect(left + a, top + a, size, size, style) for style in ("halo", "event")]
            number = str(index + 1)
            if size >= 8 * len(number):  # numbers of short events would run into each other
                middle = left + a + size / 2
                parts.append(text(middle, top - 7, number, "small strong", "middle"))
        for seconds in ticks(edges[-1]):
            at, told = place(seconds), clock(seconds, edges[-1])
            parts.append(text(left + at, top + side + 16, told, "small", "middle"))
            parts.append(text(left - 6, top + at + 4, told, "small", "end"))
        # The legend: a ramp of the same colours with the values of its ends.
        ramp = png(_colour(np.linspace(0.0, 1.0, 64)[None, :]))
        y = top + side + 30
        parts.append(image(left, y, 120, 9, ramp, stretched))
        parts.append(text(left + 128, y + 9, f"similarity {low:.2f} to {high:.2f}", "small"))
        label = f"Self-similarity of {self.vid} with {len(as_spans(self.events))} events"
        return drawing(left + side + 16, y + 16, label, parts)


@dataclass(frozen=True, kw_only=True, eq=False)
class TimelineFigure:
    """Pseudo labels of a video against the truth.

    Attributes:
        vid: Name of the video.
        duration: Its length in seconds.
        thumbnails: uint8 (H, W, 3) frames, each from the middle of one of n equal parts.
        truth: True moments, as (start, end, sentence); None where nobody knows them.
        pseudo: Moments and sentences that zsvg wrote itself.
    """

    vid: str
    duration: float
    thumbnails: Sequence[NDArray[np.uint8]] = ()
    truth: Sequence[LabelledSpan] | None = ()
    pseudo: Sequence[LabelledSpan] = ()

    def __post_init__(self) -> None:
        _check_duration(self.duration)

    def svg(self) -> str:
        """Draw the frames along the top and every moment as a bar under its sentence."""
        width = float(_RIGHT - _GUTTER)
        place = scale(0.0, self.duration, _GUTTER, _RIGHT)
        parts, y = [], 0.0
        if self.thumbnails:
            cell = width / len(self.thumbnails)
            height = min(132.0, cell * max(t.shape[0] / t.shape[1] for t in self.thumbnails))
            for index, pixels in enumerate(self.thumbnails):
                x, picture = _GUTTER + index * cell, jpeg(pixels, longest=160)
                parts.append(image(x, 0, cell - 2, height, picture))
            y = height + 12
        grid_top = y
        bands = (("truth", self.truth, "truth"), ("pseudo", self.pseudo, "guess"))
        for name, moments, style in bands:
            if moments is None:
                continue
            parts.append(text(0, y + 14, name, f"strong {style}-text"))
            lanes = _lanes(moments, place)
            for lane, start, end, sentence in lanes:
                left, right = place(start), max(place(end), place(start) + 2)
                parts.append(rect(left, y + 34 * lane + 19, right - left, 7, style, radius=2))
                x, anchor = _text_place(left, right, sentence)
                parts.append(text(x, y + 34 * lane + 13, shorten(sentence), "", anchor))
            if not lanes:
                parts.append(text(_GUTTER, y + 14, "none", "quiet"))
            y += 34 * max((lane for lane, *_ in lanes), default=0) + 40
        axis = time_axis(self.duration, place, grid_top, y)
        label = f"Pseudo labels of {self.vid}"
        label += "" if self.truth is None else " against the truth"
        return drawing(_WIDTH, y + 20, label, [*axis, *parts])


@dataclass(frozen=True, kw_only=True, eq=False)
class CurveFigure:
    """Relevance of every clip to a query, for one or more methods.

    Attributes:
        query: The sentence.
        duration: Length of the video in seconds.
        centres: (T,) clip centres in seconds.
        curves: For each method its (T,) relevance; each is drawn with a scale of its own.
        predicted: For each method the (start, end) it answers; methods may be left out.
        truth: True (start, end) windows.
        vid: Name of the video.
    """

    query: str
    duration: float
    centres: ArrayLike
    curves: Mapping[str, ArrayLike]
    predicted: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    truth: Sequence[tuple[float, float]] = ()
    vid: str = ""

    def __post_init__(self) -> None:
        _check_duration(self.duration)
        times = np.shape(self.centres)
        for name, curve in self.curves.items():
            if np.shape(curve) != times or len(times) != 1:
                raise ValueError(
                    f"curve {name!r} {np.shape(curve)} and centres {times} must be (T,)"
                )

    def svg(self) -> str:
        """Draw one panel per method, one above the other, over the same time axis."""
        place = scale(0.0, self.duration, _GUTTER, _RIGHT)
        times = np.asarray(self.centres, dtype=np.float64)
        parts, y = [], 0.0
        for name, curve in self.curves.items():
            title = name
            answer = self.predicted.get(name)
            if answer is not None and len(self.truth):
                title += f", IoU {iou([answer], list(self.truth)).max():.2f}"
            parts.append(text(_GUTTER, y + 13, title, "strong"))
            top, bottom = y + 22, y + 118
            for start, end in self.truth:
                left, width = place(start), place(end) - place(start)
                parts.append(rect(left, top, width, bottom - top, "truth-band"))
                parts.append(rect(left, top, width, 5, "truth"))
            values = np.asarray(curve, dtype=np.float64)
            height = scale(*value_range(values), bottom - 14, top + 12)
            parts += value_axis(values, height, _GUTTER, _RIGHT, 2)
            parts.append(line(times, values, place, height, "line"))
            if answer is not None:
                a, b = place(answer[0]), place(answer[1])
                parts.append(rect(a, bottom - 6, b - a, 6, "guess", radius=2))
                edges = "".join(f"M{x:.1f} {top:.1f}V{bottom - 6:.1f}" for x in (a, b))
                parts.append(f'<path d="{edges}" class="guess-edge"/>')
            y = bottom + 12
        axis = time_axis(self.duration, place, y - 8, y - 4)
        label = f"Relevance of each moment to: {self.query}"
        return drawing(_WIDTH, y + 16, label, [*axis, *parts])


@dataclass(frozen=True, kw_only=True, eq=False)
class LearningFigure:
    """How training went.

    Attributes:
        title: What was trained.
        steps: (n,) optimiser steps.
        losses: (n,) training loss at those steps.
        validation: (step, mIoU in [0, 1]) pairs; may be empty.
    """

    title: str
    steps: ArrayLike
    losses: ArrayLike
    validation: Sequence[tuple[float, float]] = ()

    def __post_init__(self) -> None:
        if np.shape(self.steps) != np.shape(self.losses) or np.ndim(self.steps) != 1:
            raise ValueError(
                f"steps {np.shape(self.steps)} and losses {np.shape(self.losses)} must be (n,)"
            )

    def svg(self) -> list[str]:
        """Draw the loss and, where there is one, the validation curve: one picture each."""
        steps = np.asarray(self.steps, dtype=np.float64)
        losses = np.asarray(self.losses, dtype=np.float64)
        pictures = [self._panel("training loss", steps, losses, "line", 3)]
        if len(self.validation):
            checked = np.asarray(self.validation, dtype=np.float64)
            values = 100 * checked[:, 1]
            name = "validation mIoU, %"
            pictures.append(self._panel(name, checked[:, 0], values, "guess-line", 1))
        return pictures

    def _panel(
        self,
        name: str,
        steps: NDArray[np.float64],
        values: NDArray[np.float64],
        style: str,
        digits: int,
    ) -> str:
        left, right, top, bottom = 52.0, 394.0, 30.0, 180.0
        last = max(float(steps.max(initial=0.0)), 1.0)
        place = scale(0.0, last, left, right - 10)
        steps, values = thin(steps), thin(values)
        height = scale(*value_range(values), bottom, top)
        parts = value_axis(values, height, left, right, digits)
        parts.append(line(steps, values, place, height, style))
        title = name
        if style == "guess-line" and np.isfinite(values).any():
            best = int(np.nanargmax(values))
            title += f": best {values[best]:.{digits}f} at step {steps[best]:,.0f}"
            at = f'cx="{place(steps[best]):.1f}" cy="{height(values[best]):.1f}"'
            parts.append(f'<circle {at} r="4.5" class="guess"/>')
        parts.append(text(left, 14, title, "strong"))
        for step in (step for step in ticks(last, most=5) if step.is_integer()):
            parts.append(text(place(step), bottom + 17, f"{step:,.0f}", "small", "middle"))
        parts.append(text(right, bottom + 34, "step", "small quiet", "end"))
        return drawing(404, bottom + 38, f"{self.title}: {name} against step", parts)


def _check_duration(duration: float) -> None:
    if not (np.isfinite(duration) and duration > 0):
        raise ValueError(f"duration {duration} must be a number of seconds above 0")


def _text_place(left: float, right: float, sentence: str) -> tuple[float, str]:
    """Begin a sentence at its bar, or let it end there when it would leave the picture."""
    length = _LETTER * len(shorten(sentence))
    if left + length <= _WIDTH:
        return left, "start"
    return min(max(right, _GUTTER + length), _WIDTH - 4), "end"


def _lanes(moments: Sequence[LabelledSpan], place: Scale) -> list[tuple[int, float, float, str]]:
    """Give each moment the first row where neither its bar nor its sentence hits another."""
    taken: list[list[tuple[float, float]]] = []
    result = []
    for start, end, sentence in sorted(moments):
        left, right = place(start), place(end)
        x, anchor = _text_place(left, right, sentence)
        length = _LETTER * len(shorten(sentence))
        a, b = min(left, x - length if anchor == "end" else x), right
        b = max(b, x + length if anchor == "start" else x) + 12
        free = (i for i, row in enumerate(taken) if all(b <= c or d <= a for c, d in row))
        lane = next(free, len(taken))
        if lane == len(taken):
            taken.append([])
        taken[lane].append((a, b))
        result.append((lane, start, end, sentence))
    return result


def thin(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average runs of neighbours, so that a long training does not make a huge file."""
    if len(values) <= _POINTS:
        return values
    return np.array([block.mean() for block in np.array_split(values, _POINTS)])


def _heat(matrix: NDArray[np.float64]) -> tuple[NDArray[np.uint8], float, float]:
    """Colour a matrix from its lowest to its highest value off the diagonal."""
    if len(matrix) > _CELLS:
        small = Image.fromarray(matrix.astype(np.float32)).resize(
            (_CELLS, _CELLS), Image.Resampling.BOX
        )
        matrix = np.asarray(small, dtype=np.float64)
    # Every clip equals itself: with the diagonal the scale would say nothing about the others.
    others = matrix[~np.eye(len(matrix), dtype=bool)] if len(matrix) > 1 else matrix
    low, high = value_range(others)
    return _colour(np.clip(np.nan_to_num((matrix - low) / (high - low)), 0, 1)), low, high


def _colour(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    stops = np.linspace(0.0, 1.0, len(_COLOURS))
    channels = [np.interp(values, stops, _COLOURS[:, c]) for c in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
