"""Video re-localization: what is asked for is a clip of another video, not a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zsvg.datasets.reading import (
    fields,
    identifier,
    listed,
    number,
    pair,
    read_text,
    required,
    string,
)
from zsvg.datasets.rules import Row
from zsvg.errors import RecordError, ZsvgError
from zsvg.strict_json import parse_json, quoted

FRAMES = 16
"""Of a video, behind each of the features in which the file counts."""


@dataclass(frozen=True, kw_only=True)
class _Stretch:
    """A row of the file: a stretch of a video, and its segment; both count features of all of it.

    Attributes:
        where: File and row, for messages.
        id: The video.
        label: Number of the action.
        location: First and last end of the stretch.
        segment: First and last end of what shows the action.
    """

    where: str
    id: str
    label: int | str
    location: tuple[float, float]
    segment: tuple[float, float]

    def holds(self, other: _Stretch) -> bool:
        """Whether another row can be asked for in this one."""
        return (
            self.label == other.label
            and self.id != other.id
            and _length(self.location) >= _length(other.segment)
        )


def video_reloc(
    text: str,
    path: str | Path,
    lengths: str | Path | None,
    durations: Mapping[str, float] | None,
) -> Iterator[Row]:
    """Read rows with `id`, `label`, `location` and `groundtruth`, counted in features.

    A row is a stretch of a video (`location`) and the one segment of it that shows an action
    (`groundtruth`, from the start of the stretch). Each is the query of one record, and is asked of
    the next row with its label, round the end of the file, whose video is another one and whose
    stretch is not shorter than it. (The authors draw that row, by a seed of TensorFlow.) The query
    of the record is "VIDEO@START-END", in seconds; `label`, and `location` in seconds, are kept.
    Feature i begins at frame 16 i. Where the durations have names with ActivityNet's `v_`, so do
    the records.

    Feng et al., "Video Re-localization", ECCV 2018; fengyang0317/video_reloc: train.json, val.json,
    test.json, with length.json (id -> n_frames) as `lengths`, and ActivityNet's durations.
    """
    if lengths is None or durations is None:
        raise ZsvgError(
            f"{path}: counts in features; give the frames of the videos as `lengths` (length.json) "
            "and their seconds as `durations` (activity_net.v1-3.min.json, or vid -> seconds)"
        )
    frames = fields(parse_json(read_text(lengths), lengths), lengths)
    rows = [
        _stretch(fields(row, where := f"{path}: row {index}"), where)
        for index, row in enumerate(listed(parse_json(text, path), "the file", path), start=1)
    ]
    times = {row.id: _times(row, frames, lengths, durations) for row in rows}
    for index, asked in enumerate(rows):
        others = rows[index + 1 :] + rows[:index]
        found = next((row for row in others if row.holds(asked)), None)
        if found is None:
            raise RecordError(
                f"{asked.where}: no other video with label {quoted(asked.label)} is as long"
            )
        (source, step, _), (vid, unit, duration) = times[asked.id], times[found.id]
        start, end = (round(time * step, 3) for time in asked.segment)
        first, last = found.segment
        yield Row(
            where=asked.where,
            vid=vid,
            qid=index,
            query=f"{source}@{start}-{end}",
            windows=((first * unit, last * unit),),
            duration=duration,
            extra={
                "label": found.label,
                "location": [min(time * unit, duration) for time in found.location],
            },
        )


def _stretch(row: dict[str, Any], where: str) -> _Stretch:
    first, last = required(row, "location", where, pair)
    start, end = required(row, "groundtruth", where, pair)
    if not 0 <= first <= first + start < first + end <= last:
        raise RecordError(
            f"{where}: groundtruth {quoted(row['groundtruth'])} must lie in location "
            f"{quoted(row['location'])}, from whose start it counts"
        )
    return _Stretch(
        where=where,
        id=required(row, "id", where, string),
        label=required(row, "label", where, identifier),
        location=(first, last),
        segment=(first + start, first + end),
    )


def _times(
    row: _Stretch,
    frames: Mapping[str, Any],
    lengths: str | Path,
    durations: Mapping[str, float],
) -> tuple[str, float, float]:
    """Return the name of a row's video, the seconds of a feature, and those of the video."""
    name = row.id if row.id in durations else f"v_{row.id}"
    if name not in durations:
        raise RecordError(
            f"{row.where}: video {quoted(row.id)} is not in the durations file; add its seconds"
        )
    where = f"{lengths}: video {quoted(row.id)}"
    count = required(fields(frames.get(row.id), where), "n_frames", where, number)
    if count <= 0:
        raise RecordError(f"{where}: n_frames {count:g} must be more than 0")
    return name, FRAMES * durations[name] / count, durations[name]


def _length(span: tuple[float, float]) -> float:
    return span[1] - span[0]
