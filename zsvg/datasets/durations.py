"""Lengths of videos, for annotation files that do not have them."""

from __future__ import annotations

from collections.abc import Iterator
from os.path import splitext
from pathlib import Path
from typing import Any

from zsvg.datasets.reading import (
    csv_rows,
    fields,
    number,
    read_text,
    records_of,
    required,
    string,
    written_number,
)
from zsvg.errors import RecordError
from zsvg.strict_json import parse_json, quoted


def read_durations(path: str | Path) -> dict[str, float]:
    """Read vid -> seconds.

    Takes, decided by content: a CSV table with columns `id` and `length` (Charades_v1_train.csv and
    Charades_v1_test.csv of the Charades dataset); a JSON object vid -> seconds (DRN's
    Charades_duration.json), or vid -> object with `duration` or `video_duration` (ActivityNet
    Captions, Charades-CD; ActivityNet's own file, under its "database") or with `num_frames` and
    `fps` (2D-TAN's TACoS files); JSON lines or a JSON list (also one under "annotations") of
    objects with `vid` and `duration` (PSVL; Moment-DETR, lighthouse). So an annotation file of the
    same videos will do.

    Raises:
        FileNotFoundError: there is no such file.
        RecordError: the file has another form, or two durations for one video.
    """
    found: dict[str, float] = {}
    for where, vid, seconds in _entries(read_text(path), path):
        if found.setdefault(vid, seconds) != seconds:
            raise RecordError(
                f"{where}: video {quoted(vid)} has two durations, {found[vid]:g} and {seconds:g} s"
            )
    return found


def duration_key(entry: dict[str, Any]) -> str | None:
    """Return the key of a JSON object that holds seconds, or None: Charades-CD names it longer."""
    return next((key for key in ("duration", "video_duration") if key in entry), None)


def counted_duration(entry: dict[str, Any], where: str) -> float:
    """Return `num_frames` / `fps`, in seconds."""
    frames = required(entry, "num_frames", where, number)
    return frames / frame_rate(entry, where)


def frame_rate(entry: dict[str, Any], where: str) -> float:
    """Return `fps`, which must be there and be more than 0."""
    fps = required(entry, "fps", where, number)
    if fps <= 0:
        raise RecordError(f"{where}: fps {fps:g} must be more than 0")
    return fps


def _entries(text: str, path: str | Path) -> Iterator[tuple[str, str, float]]:
    if not text.lstrip().startswith(("{", "[")):
        for where, row in csv_rows(text, path, ("id", "length")):
            yield where, row["id"], written_number(row["length"], "length", where)
        return
    if not _lists_records(text, path):
        value = fields(parse_json(text, path), path)
        if isinstance(inner := value.get("database"), dict) and duration_key(inner) is None:
            value = inner  # activity_net.v1-3.min.json
        yield from _map_entries(value, path)
        return
    for where, record in records_of(text, path):
        key = "vid_name" if "vid_name" in record else "vid"
        vid = required(record, key, where, string)
        yield where, vid, required(record, "duration", where, number)


def _lists_records(text: str, path: str | Path) -> bool:
    """Tell records, in any of their forms, from one JSON object vid -> duration."""
    if text.lstrip().startswith("["):
        return True
    try:
        first = next(records_of(text, path))[1]
    except (StopIteration, RecordError):
        return False
    return isinstance(first.get("vid", first.get("vid_name")), str)


def _map_entries(value: dict[str, Any], path: str | Path) -> Iterator[tuple[str, str, float]]:
    for vid, entry in value.items():
        where = f"{path}: video {quoted(vid)}"
        if not isinstance(entry, dict):
            yield where, vid, number(entry, "duration", where)
            continue
        key = duration_key(entry)
        if key is not None:
            yield where, vid, number(entry[key], key, where)
        elif "num_frames" in entry:  # 2D-TAN, which names files
            yield where, splitext(vid)[0], counted_duration(entry, where)
        else:
            raise RecordError(
                f"{where}: no duration, video_duration, or num_frames and fps; "
                f"the keys are {quoted(sorted(entry))}"
            )
