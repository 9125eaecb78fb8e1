"""JSON lines as Moment-DETR and lighthouse read them: QVHighlights, TVR, TVSum, YouTube Highlights.

This is the form of `zsvg.records` too, so records that were converted before pass unchanged, and
one JSON array of them, alone or under "annotations", is read as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from zsvg.datasets.reading import identifier, listed, number, pair, records_of, required, string
from zsvg.datasets.rules import Row
from zsvg.errors import RecordError
from zsvg.records import MOST_WINDOWS, SALIENCY, WINDOWS

_FIELDS = ("qid", "query", "vid", "duration", "relevant_windows")
_NAMES_OF_TVR = {"desc_id": "qid", "desc": "query", "vid_name": "vid"}


def detr(text: str, path: str | Path) -> Iterator[Row]:
    """Read `qid`, `query`, `vid`, `duration` and `relevant_windows`, in seconds; keep the rest.

    The windows may be missing or null, as in test sets and highlight detection. TVR's names
    `desc_id`, `desc`, `vid_name` and `ts` (one window) mean the same.

    QVHighlights (Lei et al., NeurIPS 2021; jayleicn/moment_detr), TVR (Lei et al., ECCV 2020;
    jayleicn/TVRetrieval), and line/lighthouse's release files of Charades-STA, TACoS and YouTube
    Highlights (Sun et al., ECCV 2014).
    """
    for where, record in records_of(text, path):
        for key, name in _NAMES_OF_TVR.items():
            if key in record and name not in record:
                record[name] = record.pop(key)
        if "duration" not in record and (WINDOWS in record or SALIENCY in record):
            raise RecordError(f"{where}: this is a prediction; give a file of annotations")
        qid = required(record, "qid", where, identifier)
        duration = number(record["duration"], "duration", where) if "duration" in record else None
        windows = _windows(record, where)
        yield Row(
            where=where,
            vid=required(record, "vid", where, string),
            qid=qid,
            query=required(record, "query", where, string),
            windows=windows,
            duration=duration,
            extra={key: value for key, value in record.items() if key not in _FIELDS},
        )


def tvsum(text: str, path: str | Path) -> Iterator[Row]:
    """Read lighthouse's TVSum files, in which `duration` counts 2-second clips: it is doubled.

    A row counts clips where its `duration` is the number of items in `label`, the raters' scores
    of each clip; other rows hold seconds already.

    TVSum (Song et al., CVPR 2015) as released by line/lighthouse.
    """
    for row in detr(text, path):
        label = listed(row.extra.get("label"), "label", row.where)
        if row.duration == len(label):
            change = "duration doubled: it counted clips of 2 s"
            row = replace(row, duration=2 * row.duration, changes=(change,))
        yield row


def _windows(record: dict[str, Any], where: str) -> tuple[tuple[float, float], ...]:
    key = "relevant_windows"
    if "ts" in record and key not in record:
        times = record.pop("ts")
        record[key] = None if times is None else [times]
    if record.get(key) is None:
        return ()
    windows = listed(record[key], key, where)
    if len(windows) > MOST_WINDOWS:
        raise RecordError(f"{where}: {len(windows):,} {key}, more than {MOST_WINDOWS:,}")
    return tuple(pair(window, key, where) for window in windows)
