"""TEMPO: pairs of DiDeMo's moments, joined by a word of time, as CSV."""

from __future__ import annotations

from collections.abc import Iterator
from os.path import splitext
from pathlib import Path

from zsvg.datasets.reading import csv_rows, written_number
from zsvg.datasets.rules import Row
from zsvg.errors import RecordError
from zsvg.strict_json import quoted

SECONDS = 30.0
"""As much of each video DiDeMo shows its annotators: six segments of five seconds."""

_EVENTS = ("event1", "event2")
_COLUMNS = (
    "video_id", "conjugate", "caption",
    *(f"{event}_{what}" for event in _EVENTS for what in ("description", "start", "end")),
)  # fmt: skip
_MAIN = {"before": "event1", "after": "event2"}


def tempo(text: str, path: str | Path) -> Iterator[Row]:
    """Read rows of two events, the earlier one first: "A before B" means A, "B after A" means B.

    The window is the one that is meant; `conjugate`, the descriptions and the windows of both
    events (`event1`, `event2`) are kept. The name of the video loses its extension. There are no
    durations in the file: they are taken to be 30 s.

    TEMPO (Hendricks et al., "Localizing Moments in Video with Temporal Language", EMNLP 2018): the
    table of its test rows with "before" and "after", tempotl_didemo_test.csv.
    """
    for where, row in csv_rows(text, path, _COLUMNS):
        if (word := row["conjugate"]) not in _MAIN:
            raise RecordError(
                f"{where}: conjugate {quoted(word)} must be one of {', '.join(_MAIN)}"
            )
        windows = {
            event: (
                written_number(row[f"{event}_start"], f"{event}_start", where),
                written_number(row[f"{event}_end"], f"{event}_end", where),
            )
            for event in _EVENTS
        }
        yield Row(
            where=where,
            vid=splitext(row["video_id"])[0],
            query=row["caption"],
            windows=(windows[_MAIN[word]],),
            duration=SECONDS,
            extra={
                "conjugate": word,
                **{f"{event}_description": row[f"{event}_description"] for event in _EVENTS},
                **{event: list(window) for event, window in windows.items()},
            },
        )
