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
    numbered_lines,
    parse_json,
    read_text,
    required,
    show,
    string,
    written_number,
)
from zsvg.errors import RecordError


def read_durations(path: str | Path) -> dict[str, float]:
    """Read vid -> seconds.

    Takes, decided by content: a CSV table with columns `id` and `length` (Charades_v1_train.csv and
    Charades_v1_test.csv of the Charades dataset); a JSON object vid -> seconds (DRN's
    Charades_duration.json), or vid -> object with `duration` or `video_duration` (ActivityNet
    Captions, Charades-CD) or with `num_frames` and `fps` (2D-TAN's TACoS files); a JSON list or
    JSON lines of objects with `vid` and `duration` (PSVL; Moment-DETR, lighthouse). So an
    annotation file of the same videos will do.

    Raises:
        FileNotFoundError: there is no such file.
        RecordError: the file has another form, or two durations for one video.
    """
    found: dict[str, float] = {}
    for where, vid, seconds in _entries(read_text(path), path):
        if found.setdefault(vid, seconds) != seconds:
            raise RecordError(
                f"{where}: video {show(vid)} has two durations, {found[vid]:g} and {seconds:g} s"
            )
    return found


def duration_key(entry: dict[str, Any]) -> str | None:
    """Return the key of a JSON object that holds seconds, or None: Charades-CD names it longer."""
    return next((key for key in ("duration", "video_duration") if key in entry), None)


def counted_duration(entry: dict[str, Any], where: str) -> float:
    """Return `num_frames` / `fps`, in seconds."""
    frames = number(required(entry, "num_frames", where), "num_frames", where)
    return frames / frame_rate(entry, where)


def frame_rate(entry: dict[str, Any], where: str) -> float:
    """Return `fps`, which must be there and be more than 0."""
    fps = number(required(entry, "fps", where), "fps", where)
    if fps <= 0:
        raise RecordError(f"{where}: fps {fps:g} must be more than 0")
    return fps


def _entries(text: str, path: str | Path) -> Iterator[tuple[str, str, float]]:
    if not text.lstrip().startswith(("{", "[")):
        for where, row in csv_rows(text, path, ("id", "length")):
            yield where, row["id"], written_number(row["length"], "length", where)
        return
    records = list(_json_lines(text, path))
    if not records:
        value = parse_json(text, path)
        if isinstance(value, dict):
            yield from _map_entries(value, path)
            return
        records = [(f"{path}: row {index}", row) for index, row in enumerate(value, start=1)]
    for where, value in records:
        record = fields(value, where)
        key = "vid_name" if "vid_name" in record else "vid"
        vid = string(required(record, key, where), key, where)
        yield where, vid, number(required(record, "duration", where), "duration", where)


def _json_lines(text: str, path: str | Path) -> Iterator[tuple[str, Any]]:
    """Yield the lines of a JSON lines file, and nothing for one JSON value."""
    lines = numbered_lines(text, path)
    where, line = next(lines)
    if '"vid"' not in line and '"vid_name"' not in line:  # spares large maps a second parsing
        return
    try:
        first = parse_json(line, where)
    except RecordError:
        return
    if isinstance(first, dict) and isinstance(first.get("vid", first.get("vid_name")), str):
        yield where, first
        yield from ((where, parse_json(line, where)) for where, line in lines)


def _map_entries(value: dict[str, Any], path: str | Path) -> Iterator[tuple[str, str, float]]:
    for vid, entry in value.items():
        where = f"{path}: video {show(vid)}"
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
                f"the keys are {show(sorted(entry))}"
            )
