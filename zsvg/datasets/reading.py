"""From a file to checked values: gzip, UTF-8, strict JSON and CSV, errors of one line."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from zsvg.errors import RecordError
from zsvg.files import read_bytes
from zsvg.records import LISTS_OF_ANNOTATIONS
from zsvg.strict_json import json_records, quoted

# `float` also takes "1_000", "nan" and digits of other scripts.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)

_PIECE = 1 << 20


def read_text(path: str | Path) -> str:
    """Return the text of a file, gzipped or not (decided by its first bytes), without a BOM.

    The path `-` is standard input.

    Raises:
        FileNotFoundError: there is no such file.
        RecordError: the file is damaged, or is not UTF-8.
    """
    data = read_bytes(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise RecordError(
            f"{path}:{line}: not valid UTF-8 ({error.reason}); save the file as UTF-8"
        ) from None


def numbered_lines(text: str, path: str | Path) -> Iterator[tuple[str, str]]:
    """Yield ("path:number", line) of every line that is not blank."""
    # Only "\n" ends a line: str.splitlines would also cut at U+2028 inside a sentence.
    for number, line in enumerate(io.StringIO(text, newline="\n"), start=1):
        if line.strip():
            yield f"{path}:{number}", line.removesuffix("\n").removesuffix("\r")


def records_of(text: str, path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place and the JSON object of each record, in every form that `zsvg.records` reads.

    Raises:
        RecordError: one is no JSON object.
    """
    pieces = (text[start : start + _PIECE] for start in range(0, len(text), _PIECE))
    return json_records(pieces, path, LISTS_OF_ANNOTATIONS)


def csv_rows(
    text: str, path: str | Path, columns: Sequence[str]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield ("path:number", row) of a CSV file with a header that has the given columns.

    Raises:
        RecordError: a column is missing, or a row has more or fewer fields than the header.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        header = list(reader.fieldnames or ())
        if not set(columns) <= set(header) or len(set(header)) < len(header):
            raise RecordError(
                f"{path}:1: the header {quoted(header)} must have {', '.join(columns)}, each once"
            )
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if None in row or None in row.values():
                raise RecordError(f"{where}: not {len(header)} fields as in the header")
            yield where, row
    except csv.Error as error:
        raise RecordError(f"{path}:{reader.line_num}: not CSV ({error})") from None


def fields(value: Any, where: str | Path) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        RecordError: it is something else; so for all the functions below.
    """
    if not isinstance(value, dict):
        raise RecordError(f"{where}: {quoted(value)} must be a JSON object")
    return value


_Value = TypeVar("_Value")


def required(
    record: dict[str, Any],
    key: str,
    where: str | Path,
    read: Callable[[Any, str, str | Path], _Value],
) -> _Value:
    """Return the value of a key that must be there, as one of the functions below reads it."""
    if key not in record:
        raise RecordError(f'{where}: no "{key}"; the keys are {quoted(sorted(record))}')
    return read(record[key], key, where)


def nested(value: Any, _key: str, where: str | Path) -> dict[str, Any]:
    """Return a JSON object, as `fields` does."""
    return fields(value, where)


def identifier(value: Any, key: str, where: str | Path) -> int | str:
    """Return a whole JSON number or a string."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise RecordError(f"{where}: {key} {quoted(value)} must be a whole number or a string")
    return value


def listed(value: Any, key: str, where: str | Path) -> list[Any]:
    """Return a JSON list."""
    if not isinstance(value, list):
        raise RecordError(f"{where}: {key} {quoted(value)} must be a list")
    return value


def string(value: Any, key: str, where: str | Path) -> str:
    """Return a JSON string."""
    if not isinstance(value, str):
        raise RecordError(f"{where}: {key} {quoted(value)} must be a string")
    return value


def whole(value: Any, key: str, where: str | Path) -> int:
    """Return a JSON number that is whole and not written as a fraction."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise RecordError(f"{where}: {key} {quoted(value)} must be a whole number")
    return value


def number(value: Any, key: str, where: str | Path) -> float:
    """Return a JSON number as a finite float."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RecordError(f"{where}: {key} {quoted(value)} must be a number")
    try:
        return float(value)
    except OverflowError:
        raise RecordError(f"{where}: {key} {quoted(value)} is too large") from None


def written_number(text: str, key: str, where: str | Path) -> float:
    """Return a number of a text file as a finite float."""
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(value):
        raise RecordError(f"{where}: {key} {quoted(text)} must be a finite number")
    return value


def pair(value: Any, key: str, where: str | Path) -> tuple[float, float]:
    """Return a [start, end] of two numbers."""
    if not isinstance(value, list) or len(value) != 2:
        raise RecordError(f"{where}: {key} {quoted(value)} must be [start, end]")
    return number(value[0], key, where), number(value[1], key, where)
