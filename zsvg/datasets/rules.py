"""Rules for the rows of every form: kept, repaired or dropped, and always reported.

The rules, unless the rows are taken as they are:

1. White space in sentences becomes single spaces, with none around; blank sentences are dropped.
2. A start before 0 is raised to 0, an end after the video is cut to the duration.
3. A window whose start is not before its end, or that lies outside the video, is left out; a row
   that has no window left is dropped.

Rows that have no windows in the file (test sets) stay. Rows that repeat an earlier one stay too,
because published counts include them, and are named.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from zsvg.errors import RecordError
from zsvg.records import Annotation
from zsvg.strict_json import quoted

DROPPED = "dropped: "
NOTICED = "noticed: "

ROUNDING = 1e-6
"""Seconds that are no difference: 197.58 is not after a duration of 197.57999999999998."""

_BLANK = "sentence is blank"
_SPACES = "sentence has white space around it, doubled, or a line feed"
_REPEATED = "same video, sentence and windows as an earlier row"
_BACKWARDS = "start is not before end"
_OUTSIDE = "window is outside the video"
_EARLY = "start is before 0"
_LATE = "end is after the video"
_REPAIRS = {
    _EARLY: "start raised to 0",
    _LATE: "end cut to the duration",
    _SPACES: "white space of the sentence made single spaces",
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One query as a reader found it: types are checked, times are seconds, nothing is repaired.

    Attributes:
        where: File and line, or video and number, for messages.
        vid: Name of the video: its file name without the extension.
        query: The sentence as written.
        windows: (start, end) pairs in seconds.
        duration: Seconds; None where the form has no durations.
        qid: The file's own identifier; None where it has none.
        extra: Other keys to keep.
        changes: What the reader itself changed, in words.
    """

    where: str
    vid: str
    query: str
    windows: tuple[tuple[float, float], ...]
    duration: float | None = None
    qid: int | str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Converted:
    """The records of somebody's annotation file, and what was done to get them.

    Attributes:
        records: In the order of the file.
        rows: Queries found in the file: `len(records)` plus the ones dropped.
        changes: What was changed or noticed -> a short name for each affected row (for each
            affected window of rows that have several). Keys that begin with "dropped: " name every
            dropped row exactly once; "noticed: " means that the record is as written.
    """

    records: tuple[Annotation, ...]
    rows: int
    changes: Mapping[str, tuple[str, ...]]

    @property
    def dropped(self) -> int:
        """Number of rows that did not become a record."""
        return sum(len(names) for key, names in self.changes.items() if key.startswith(DROPPED))


def settle(
    rows: Iterable[Row],
    *,
    path: str | Path,
    durations: Mapping[str, float] | None = None,
    as_is: bool = False,
) -> Converted:
    """Turn rows into records by the rules at the top of this module.

    A row without an identifier gets "VID-N", where N counts all rows of its video from 0, so that
    `as_is` does not change it.

    Args:
        rows: What a reader yields, in the order of the file.
        path: The file, for messages.
        durations: vid -> seconds; they replace durations of the file.
        as_is: Keep windows and sentences as written, and only report what is odd.

    Raises:
        RecordError: no rows; a duration is missing or not positive; an identifier is used twice;
            a number is not finite; an extra key has the name of a field of records.
    """
    changes: defaultdict[str, list[str]] = defaultdict(list)
    records: list[Annotation] = []
    rows_of_video: defaultdict[str, int] = defaultdict(int)
    owners: dict[str, str] = {}
    first: dict[tuple[Any, ...], int | str] = {}
    for row in rows:
        qid = f"{row.vid}-{rows_of_video[row.vid]}" if row.qid is None else row.qid
        rows_of_video[row.vid] += 1
        if str(qid) in owners:
            raise RecordError(
                f"{row.where}: the identifier {quoted(qid)} is used before, at {owners[str(qid)]}; "
                "identifiers must differ"
            )
        owners[str(qid)] = row.where
        duration, replaced = _duration(row, path, durations)
        _check_finite(row, duration)
        name = f"qid {_plain(str(qid))}"
        notes = [(change, name) for change in (*row.changes, *replaced)]
        notes += _notes(row, duration, name, as_is)
        dropped = next((note for note in notes if note[0].startswith(DROPPED)), None)
        if dropped is not None:
            changes[dropped[0]].append(dropped[1])
            continue
        windows, query = row.windows, row.query
        if not as_is:
            windows, query = _cut(windows, duration), _single_spaces(query)
        original = first.setdefault((row.vid, query, windows), qid)
        if original != qid:
            notes.append((NOTICED + _REPEATED, f"{name} as {_plain(str(original))}"))
        for change, affected in notes:
            changes[change].append(affected)
        try:
            record = Annotation(
                qid=qid,
                query=query,
                vid=row.vid,
                duration=duration,
                relevant_windows=windows,
                extra=row.extra,
            )
        except ValueError as error:  # a key of `extra` is a field of the record
            raise RecordError(f"{row.where}: {error}; rename the key") from None
        records.append(record)
    if not owners:
        raise RecordError(f"{path}: no queries in this file; is it the right one?")
    return Converted(
        records=tuple(records),
        rows=len(owners),
        changes={change: tuple(names) for change, names in changes.items()},
    )


def _notes(row: Row, duration: float, name: str, as_is: bool) -> Iterator[tuple[str, str]]:
    """Yield (change, name); the first one that begins with "dropped: " drops the row."""
    if not row.query.strip():
        yield (NOTICED if as_is else DROPPED) + _BLANK, name
    elif row.query != _single_spaces(row.query):
        yield NOTICED + _SPACES if as_is else _REPAIRS[_SPACES], name
    for start, end in row.windows:
        window = f"{_plain(row.vid)} {start:g} {end:g} ({duration:g} s)"
        faults = _faults(start, end, duration)
        if as_is:
            yield from ((NOTICED + fault, window) for fault in faults)
        elif faults and faults[0] in (_BACKWARDS, _OUTSIDE):
            hopeless = not _cut(row.windows, duration)
            yield (DROPPED if hopeless else "window left out: ") + faults[0], window
        else:
            yield from ((_REPAIRS[fault], window) for fault in faults)


def _faults(start: float, end: float, duration: float) -> list[str]:
    """Return what is wrong with a window; what cannot be repaired comes first."""
    faults = []
    if start >= end:
        faults.append(_BACKWARDS)
    if start >= duration or end <= 0:
        faults.append(_OUTSIDE)
    if start < 0:
        faults.append(_EARLY)
    if end > duration + ROUNDING:
        faults.append(_LATE)
    return faults


def _cut(
    windows: tuple[tuple[float, float], ...], duration: float
) -> tuple[tuple[float, float], ...]:
    return tuple(
        (max(start, 0.0), end if end <= duration + ROUNDING else duration)
        for start, end in windows
        if start < end and start < duration and end > 0
    )


def _duration(
    row: Row, path: str | Path, durations: Mapping[str, float] | None
) -> tuple[float, tuple[str, ...]]:
    """Return the duration to use, and what to report about it."""
    known = None if durations is None else durations.get(row.vid)
    duration = row.duration if known is None else known
    if duration is None and durations is None:
        raise RecordError(
            f"{path}: no video lengths in this file; pass a file of them as durations: a CSV "
            'table with columns id and length, or JSON from vid to seconds or {"duration": seconds}'
        )
    if duration is None:
        raise RecordError(
            f"{row.where}: video {quoted(row.vid)} is not in the durations file; add its seconds"
        )
    if not duration > 0:
        raise RecordError(
            f"{row.where}: duration {duration:g} of video {quoted(row.vid)} must be more than 0"
        )
    if known is None or row.duration is None or abs(known - row.duration) <= ROUNDING:
        return duration, ()
    return duration, ("duration replaced by the one of the durations file",)


def _check_finite(row: Row, duration: float) -> None:
    # Readers check what is written; frames per second and fractions can still make it too large.
    if not all(map(math.isfinite, (duration, *chain.from_iterable(row.windows)))):
        raise RecordError(f"{row.where}: a time is too large for a number of seconds")


def _single_spaces(sentence: str) -> str:
    return " ".join(sentence.split())


def _plain(name: str) -> str:
    return name if name.isprintable() else quoted(name)
