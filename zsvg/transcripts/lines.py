"""Lines of a transcript: what is said from when to when; cues become lines."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

STANDS = 2.0
"""Seconds that a line without an end stands at most; readers need about that for a short one."""

_TOUCH = 0.1  # seconds by which captions that roll up may miss each other

# Blanks that only lay text out; the wide one of Chinese and Japanese is a sign of its own.
_BLANKS = re.compile(r"[ \t\xa0]+")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ufeff]")


@dataclass(frozen=True)
class Line:
    """What is said in one stretch of time.

    Attributes:
        start: First second, 0 or later, of what the video shows (`zsvg.video.clock`).
        end: Second after the last, after `start`.
        text: Plain text on one line, without markup; never empty.
        language: BCP 47 tag such as "en" or "pt-BR"; "" where nobody says.
        source: Where it was read: a file's name, a stream, or the name of a recogniser.

    Raises:
        ValueError: The times are no such stretch, or the text is empty.
    """

    start: float
    end: float
    text: str
    language: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if not (0 <= self.start < self.end and math.isfinite(self.end)):
            raise ValueError(
                f"a line needs 0 <= start < end in seconds, got {self.start} to {self.end}"
            )
        if not self.text.strip():
            raise ValueError(f"a line needs text, got {self.text!r}")


class Lines(list[Line]):
    """Lines in the order of their times.

    Attributes:
        unusable: One line each on what could not be read: broken files, streams of pictures.
        silent: Why there is nothing, where nothing is broken; else "".
    """

    def __init__(
        self, lines: Iterable[Line] = (), unusable: Iterable[str] = (), silent: str = ""
    ) -> None:
        super().__init__(lines)
        self.unusable = tuple(unusable)
        self.silent = silent


class Cue(NamedTuple):
    """What a file shows at a time, before it becomes a line.

    Attributes:
        start: Seconds; may lie before 0.
        end: Seconds; not after `start` where the file does not say.
        rows: Rows of plain text, as `rows_of` returns them.
    """

    start: float
    end: float
    rows: tuple[str, ...]


def rows_of(text: str) -> tuple[str, ...]:
    """Return the rows of a text that are not blank, without control characters."""
    rows = (_BLANKS.sub(" ", _CONTROLS.sub("", row)).strip() for row in text.splitlines())
    return tuple(filter(None, rows))


def tidy(cues: Iterable[Cue], language: str = "", source: str = "") -> list[Line]:
    """Make lines of the cues of one source.

    Lines are in order of time and may overlap. What ends before 0 is left out. A cue without an end
    stands until the next one, `STANDS` seconds at most. Captions that roll up repeat the rows above
    the new one, and automatic ones show each row once more by itself: a row that stays on is told
    once, from when it came until the last cue of which it is all.

    Args:
        cues: In any order.
        language: Of all lines.
        source: Of all lines.
    """
    ordered = sorted(
        (max(cue.start, 0.0), cue.end, cue.rows)
        for cue in cues
        if cue.rows and not (cue.start < 0 and cue.end <= 0)
    )
    lines: list[Line] = []
    shown: tuple[str, ...] = ()
    until = -math.inf
    for (start, end, rows), limit in zip(ordered, _limits(ordered), strict=True):
        end = end if end > start else limit
        staying = _repeated(shown, rows) if start <= until + _TOUCH else 0
        if new := rows[staying:]:
            lines.append(Line(start, end, " ".join(new), language, source))
        elif end > lines[-1].end:
            lines[-1] = replace(lines[-1], end=end)
        shown, until = rows, max(until, end)
    return lines


def _limits(ordered: list[tuple[float, float, tuple[str, ...]]]) -> list[float]:
    """Return until when each cue stands if it has no end: the next start, or not for long."""
    limits: list[float] = []
    later = following = math.inf
    for start, _, _ in reversed(ordered):
        if start < later:
            later, following = start, later
        limits.append(min(start + STANDS, following))
    return limits[::-1]


def _repeated(shown: tuple[str, ...], rows: tuple[str, ...]) -> int:
    """Return how many of the first rows are the last ones of what was shown before."""
    most = min(len(shown), len(rows))
    return next((n for n in range(most, 0, -1) if shown[-n:] == rows[:n]), 0)
