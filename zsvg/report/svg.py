"""Drawing in SVG: scales, axes, lines, text and embedded pictures, as strings.

Colours come from the classes of `report.css`, so that one drawing reads on light and dark pages.
Numbers are printed with fixed digits: equal data gives equal text.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from html import escape
from importlib import resources

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Scale = Callable[[float], float]
"""Turns a value into a position; values outside its range stay at its ends."""


def style_sheet() -> str:
    """Return what pages and single drawings are styled by."""
    return resources.files("zsvg.report").joinpath("report.css").read_text(encoding="utf-8")


def drawing(width: float, height: float, label: str, parts: Sequence[str]) -> str:
    """Return an SVG element of fixed size; `label` is what a screen reader says."""
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    content = "\n".join(parts)
    return f'<svg {size} role="img" aria-label="{escape(label)}">\n{content}\n</svg>'


def text(x: float, y: float, words: str, style: str = "", anchor: str = "start") -> str:
    """Return escaped words whose start, middle or end is at (x, y) on the base line."""
    attributes = f' class="{style}"' if style else ""
    attributes += f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{attributes}>{escape(words)}</text>'


def rect(x: float, y: float, width: float, height: float, style: str, radius: int = 0) -> str:
    """Return a rectangle with rounded or sharp corners."""
    return f'<rect {_box(x, y, width, height)} rx="{radius}" class="{style}"/>'


def image(x: float, y: float, width: float, height: float, href: str, more: str = "") -> str:
    """Return the picture at a data address, fitted into a box, with more attributes."""
    return f'<image {_box(x, y, width, height)} href="{href}" {more}/>'


def _box(x: float, y: float, width: float, height: float) -> str:
    return f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'


def scale(low: float, high: float, first: float, last: float) -> Scale:
    """Map [low, high] to positions from `first` to `last`."""

    def place(value: float) -> float:
        return float(first + (min(max(value, low), high) - low) / (high - low) * (last - first))

    return place


def value_range(values: NDArray[np.float64]) -> tuple[float, float]:
    """Lowest and highest finite value, kept apart where all are equal."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if high - low > 1e-9 else (low - 0.5, high + 0.5)


def line(
    xs: NDArray[np.float64], ys: NDArray[np.float64], place: Scale, height: Scale, style: str
) -> str:
    """Draw a line through points in the order given; it breaks where a value is not finite."""
    commands, pen = [], "M"
    for x, y in zip(xs, ys, strict=True):
        if np.isfinite(y):
            commands.append(f"{pen}{place(x):.1f} {height(y):.1f}")
        pen = "L" if np.isfinite(y) else "M"
    return f'<path d="{"".join(commands)}" class="{style}"/>'


def value_axis(
    values: NDArray[np.float64], height: Scale, left: float, right: float, digits: int
) -> list[str]:
    """Draw a rule and its number at the lowest and at the highest value."""
    parts = []
    for value in value_range(values):
        y = height(value)
        parts.append(f'<path d="M{left:.1f} {y:.1f}H{right:.1f}" class="rule"/>')
        parts.append(text(left - 6, y + 4, f"{value:.{digits}f}", "small", "end"))
    return parts


def time_axis(duration: float, place: Scale, top: float, bottom: float) -> list[str]:
    """Draw upright rules at round seconds, with their times below."""
    parts = []
    for seconds in ticks(duration):
        x = place(seconds)
        parts.append(f'<path d="M{x:.1f} {top:.1f}V{bottom:.1f}" class="rule"/>')
        parts.append(text(x, bottom + 15, clock(seconds, duration), "small", "middle"))
    return parts


def ticks(last: float, most: int = 9) -> list[float]:
    """Round values from 0 to `last`, at most `most` of them."""
    base = 10.0 ** np.floor(np.log10(last / most))
    step = next(base * f for f in (1, 2, 5, 10, 20) if last / (base * f) <= most - 1)
    return [float(step * i) for i in range(int(last / step + 1e-9) + 1)]


def clock(seconds: float, duration: float) -> str:
    """Print a time as "12 s", or as "1:30" in a long video."""
    if duration >= 100:
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
    return f"{seconds:g} s"


def shorten(words: str, most: int = 80) -> str:
    """Put words on one line of at most `most` characters."""
    words = " ".join(words.split())
    return words if len(words) <= most else words[: most - 1].rstrip() + "…"


def histogram(
    title: str,
    series: Sequence[tuple[str, NDArray[np.floating]]],
    names: Sequence[str],
    label: str = "",
) -> str:
    """Draw shares as bars, those of one bin side by side.

    Args:
        title: Printed above.
        series: Style and (bins,) shares in [0, 1] of each kind of bar.
        names: Printed below, evenly from the first to the last edge.
        label: What a screen reader says besides the title.
    """
    left, right, top, bottom = 34.0, 234.0, 34.0, 132.0
    shares = np.stack([values for _, values in series]).astype(np.float64)
    count, bins = shares.shape
    highest = max(float(shares.max()), 0.01)
    height = scale(0.0, highest, bottom, top)
    cell = (right - left) / bins
    parts = [text(0, 14, title, "strong")]
    parts += value_axis(np.array([0.0, 100 * highest]), lambda v: height(v / 100), left, right, 0)
    for index, (style, _) in enumerate(series):
        width = max((cell - 2) / count, 0.5)
        for place, share in enumerate(shares[index]):
            if share > 0:
                y = min(height(share), bottom - 1)
                x = left + place * cell + 1 + index * width
                parts.append(rect(x, y, width, bottom - y, style))
    for index, name in enumerate(names):
        x = left + (right - left) * index / max(len(names) - 1, 1)
        parts.append(text(x, bottom + 17, name, "small", "middle"))
    return drawing(256, bottom + 24, f"{title}. {label}".rstrip(". "), parts)


def png(pixels: NDArray[np.uint8]) -> str:
    """Return an RGB picture as a data address, pixel by pixel."""
    return _address(Image.fromarray(np.ascontiguousarray(pixels, dtype=np.uint8)), "png")


def jpeg(pixels: NDArray[np.uint8], longest: int) -> str:
    """Return an RGB photo as a data address, its longest side cut down to `longest` pixels."""
    image = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.uint8))
    image.thumbnail((longest, longest), Image.Resampling.BOX)
    return _address(image, "jpeg", quality=80)


def _address(image: Image.Image, kind: str, **options: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, optimize=True, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
