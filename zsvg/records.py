"""Annotations and predictions: the records of QVHighlights, one JSON object per line.

Read are also one JSON array of records, one JSON object with such an array under "annotations", or
of predictions under "predictions" or "results" (as Ego4D submits them), and any of these gzipped,
whatever its name. The path `-` is standard input or output.

A pseudo label is an `Annotation` whose `extra` has `source` (where it came from) and `weight`.
Times are seconds from the start of the video; spans are half-open [start, end). Keys that are not
known here are kept in `extra` and written back, so other people's files survive a round trip.

Reading checks types only: real annotation files hold windows that end after the video or before
they start, and an evaluator has to see them. `check_trainable` is the stricter gate of training.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from zsvg.errors import RecordError
from zsvg.files import read_pieces, write_text
from zsvg.strict_json import decoded, escaped, json_records, quoted

FROM_FRAMES = "(frames)"
"""The query of a label without a sentence: training makes one up from the frames of the event."""

END_TOLERANCE = 0.5
"""Seconds that a window may end after its video: annotations and containers round differently."""

MOST_WINDOWS = 100_000
"""Of one record: far more than any method gives, far fewer than fill the memory."""

LISTS_OF_ANNOTATIONS = ("annotations",)
"""Under which key one JSON object holds annotations."""

_LISTS_OF_PREDICTIONS = ("predictions", "results")
WINDOWS, SALIENCY = "pred_relevant_windows", "pred_saliency_scores"
_ANNOTATION_KEYS = ("qid", "query", "vid", "duration", "relevant_windows")
_PREDICTION_KEYS = ("qid", "query", "vid", WINDOWS)


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """A sentence and the windows of a video that it describes.

    Attributes:
        qid: Identifier of the query, unique within a file.
        query: The sentence.
        vid: Name of the video: its file name without the extension.
        duration: Length of the video in seconds.
        relevant_windows: (start, end) pairs in seconds; empty where the truth is not given.
        extra: Every other key of the record, such as `kind`, or `source` of a pseudo label.
    """

    qid: int | str
    query: str
    vid: str
    duration: float
    relevant_windows: tuple[tuple[float, float], ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        windows = tuple((float(start), float(end)) for start, end in self.relevant_windows)
        object.__setattr__(self, "relevant_windows", windows)
        object.__setattr__(self, "duration", float(self.duration))
        _check_extra(self.extra, _ANNOTATION_KEYS)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Moments that a method gives for a query, best first.

    Attributes:
        qid: Identifier of the query, as in its annotation.
        query: The sentence.
        vid: Name of the video.
        pred_relevant_windows: (start, end, score) triples, best first; seconds and any real score.
            None where a method gives highlight scores alone (`pred_saliency_scores` in `extra`).
        extra: Every other key of the record.
    """

    qid: int | str
    query: str
    vid: str
    pred_relevant_windows: tuple[tuple[float, float, float], ...] | None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (given := self.pred_relevant_windows) is not None:
            windows = tuple((float(start), float(end), float(score)) for start, end, score in given)
            object.__setattr__(self, "pred_relevant_windows", windows)
        _check_extra(self.extra, _PREDICTION_KEYS)


def read_annotations(path: str | Path) -> list[Annotation]:
    """Read QVHighlights annotations or pseudo labels, in the order of the file.

    Raises:
        FileNotFoundError: there is no such file.
        RecordError: a line is not a record; the message names file, line and value.
    """
    return _read(path, LISTS_OF_ANNOTATIONS, _annotation)


def write_annotations(path: str | Path, records: Iterable[Annotation]) -> None:
    """Write annotations atomically; equal records give equal bytes.

    Raises:
        RecordError: a value cannot be written as JSON (not finite, or an object in `extra`).
    """
    write_text(path, to_jsonl(records, path))


def read_predictions(path: str | Path) -> list[Prediction]:
    """Read QVHighlights predictions, in the order of the file.

    Raises:
        FileNotFoundError: there is no such file.
        RecordError: a line is not a record; the message names file, line and value.
    """
    return _read(path, _LISTS_OF_PREDICTIONS, _prediction)


def write_predictions(path: str | Path, records: Iterable[Prediction]) -> None:
    """Write predictions atomically; equal records give equal bytes.

    Raises:
        RecordError: a value cannot be written as JSON (not finite, or an object in `extra`).
    """
    write_text(path, to_jsonl(records, path))


def check_trainable(
    annotations: Iterable[Annotation], *, tolerance: float = END_TOLERANCE, timed: bool = True
) -> None:
    """Refuse labels that training cannot use.

    Each record needs a query that is not blank and, where labels are `timed`, at least one window;
    each window needs 0 <= start < end, start < duration and end <= duration + `tolerance` seconds.
    A `weight` must be a finite number, 0 or more.

    Raises:
        RecordError: the first record that fails, with its qid, vid and value.
    """
    for record in annotations:
        name = called(record)
        check_query(record)
        if timed and not record.relevant_windows:
            raise RecordError(
                f"{name}: no relevant_windows to train on; drop the record, or train without times "
                "(--supervision weak)"
            )
        weight = record.extra.get("weight", 1.0)
        if not _is_number(weight) or not math.isfinite(weight) or weight < 0:
            raise RecordError(f"{name}: weight {weight!r} must be a finite number, 0 or more")
        for start, end in record.relevant_windows:
            window = f"{name}: window [{start:g}, {end:g}]"
            if not (math.isfinite(start) and math.isfinite(end)):
                raise RecordError(f"{window} is not finite; drop it")
            if start < 0:
                raise RecordError(f"{window} starts before the video; raise its start to 0")
            if start >= end:
                raise RecordError(f"{window} does not end after it starts; repair or drop it")
            if start >= record.duration or end > record.duration + tolerance:
                raise RecordError(
                    f"{window} leaves the video, which is {record.duration:g} s long (tolerance "
                    f"{tolerance:g} s); cut it to the duration or drop it"
                )


def called(record: Annotation) -> str:
    """Return how messages name a record."""
    return f"record qid {record.qid!r} of video {record.vid!r}"


def check_query(record: Annotation, *, timed: bool = False) -> None:
    """Refuse a record without a query, and a `timed` one without windows.

    Raises:
        RecordError: Its query is blank, or it has no windows.
    """
    if not record.query.strip():
        raise RecordError(
            f"{called(record)}: the query is blank; drop the record or write a sentence"
        )
    if timed and not record.relevant_windows:
        raise RecordError(f"{called(record)}: no relevant_windows to compare with; drop the record")


def sift(
    records: Iterable[Annotation], check: Callable[[Annotation], object]
) -> tuple[list[Annotation], dict[str, str]]:
    """Return the records that pass a check, and name -> error of the others.

    Args:
        records: Any.
        check: Raises a RecordError for a record that is to be left out.
    """
    kept, left = [], {}
    for record in records:
        try:
            check(record)
        except RecordError as error:
            left[called(record)] = str(error)
        else:
            kept.append(record)
    return kept, left


def video_key(vid: str) -> str:
    """Return the name of a video as it is compared: some systems write accents as own letters."""
    return unicodedata.normalize("NFC", vid)


_Record = TypeVar("_Record", Annotation, Prediction)


def _read(
    path: str | Path, keys: Sequence[str], parse: Callable[[dict[str, Any]], _Record]
) -> list[_Record]:
    records = []
    for where, value in json_records(decoded(read_pieces(path)), path, keys):
        try:
            records.append(parse(value))
        except RecordError as error:
            raise RecordError(f"{where}: {error}") from None
    return records


def _annotation(record: dict[str, Any]) -> Annotation:
    if "duration" not in record and (WINDOWS in record or SALIENCY in record):
        raise RecordError("this is a prediction; give a file of annotations with relevant_windows")
    duration = _number(_required(record, "duration"), "duration")
    if duration <= 0:
        raise RecordError(f"duration {duration:g} must be more than 0 seconds")
    # Test sets leave the windows out, and some files have null there.
    windows = record.get("relevant_windows")
    return Annotation(
        qid=_qid(record),
        query=_text(record, "query"),
        vid=_text(record, "vid"),
        duration=duration,
        relevant_windows=_windows([] if windows is None else windows, 2, "relevant_windows"),
        extra={key: value for key, value in record.items() if key not in _ANNOTATION_KEYS},
    )


def _prediction(record: dict[str, Any]) -> Prediction:
    alone = WINDOWS not in record and record.get(SALIENCY) is not None
    return Prediction(
        qid=_qid(record),
        query=_text(record, "query"),
        vid=_text(record, "vid"),
        pred_relevant_windows=None if alone else _windows(_required(record, WINDOWS), 3, WINDOWS),
        extra={key: value for key, value in record.items() if key not in _PREDICTION_KEYS},
    )


def _required(record: dict[str, Any], key: str) -> Any:
    if key not in record:
        raise RecordError(f'no "{key}" in this record; its keys are {quoted(sorted(record))}')
    return record[key]


def _qid(record: dict[str, Any]) -> int | str:
    value = _required(record, "qid")
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise RecordError(f"qid {quoted(value)} must be a whole number or a string")
    return value


def _text(record: dict[str, Any], key: str) -> str:
    value = _required(record, key)
    if not isinstance(value, str):
        raise RecordError(f"{key} {quoted(value)} must be a string")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(value: Any, key: str) -> float:
    if not _is_number(value):
        raise RecordError(f"{key} {quoted(value)} must be a number of seconds")
    try:
        return float(value)
    except OverflowError:
        raise RecordError(f"{key} {quoted(value)} is too large for a number of seconds") from None


def _windows(value: Any, size: int, key: str) -> tuple[Any, ...]:
    form = "[start, end, score]" if size == 3 else "[start, end]"
    if not isinstance(value, list):
        raise RecordError(f"{key} {quoted(value)} must be a list of {form}")
    if len(value) > MOST_WINDOWS:
        raise RecordError(f"{len(value):,} {key}; give the best {MOST_WINDOWS:,} at most")
    for window in value:
        if not isinstance(window, list) or len(window) != size:
            raise RecordError(f"{key} holds {quoted(window)}; each window is {form} with numbers")
    return tuple(tuple(_number(number, key) for number in window) for window in value)


def _check_extra(extra: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in extra:
        if key in known:
            raise ValueError(f'extra has the key "{key}", which is a field of the record')


def to_jsonl(
    records: Iterable[Annotation] | Iterable[Prediction], where: str | Path = "records"
) -> str:
    """Return what `write_annotations` and `write_predictions` write.

    Args:
        records: Either kind.
        where: What a message names as their place.

    Raises:
        RecordError: a value cannot be written as JSON (not finite, or an object in `extra`).
    """
    lines = []
    for record in records:
        keys = _PREDICTION_KEYS if isinstance(record, Prediction) else _ANNOTATION_KEYS
        known = {key: getattr(record, key) for key in keys}
        if known.get(WINDOWS, ()) is None:
            del known[WINDOWS]
        try:
            line = json.dumps(known, ensure_ascii=False, allow_nan=False)
            if record.extra:
                # Keys of `extra` are sorted, so that their order of insertion leaves no trace.
                extra = json.dumps(
                    dict(record.extra), ensure_ascii=False, allow_nan=False, sort_keys=True
                )
                line = f"{line[:-1]}, {extra[1:]}"
            line.encode("utf-8")
        except (TypeError, ValueError, RecursionError) as error:
            raise RecordError(f"{where}: qid {record.qid!r} cannot be written: {error}") from None
        lines.append(line + "\n")
    return escaped("".join(lines))
