"""Strict JSON: no NaN, no key twice, text that can be written back; records in bounded memory.

`json_records` reads JSON lines, one JSON array, or the array under a key of one JSON object. It
holds one record at a time, since a file may be a thousand times as large as it is packed.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from zsvg.errors import RecordError

MOST_RECORD = 16_000_000
"""Characters of one record: more than a hundred thousand windows, each with a score, take."""

_SPACE = re.compile(r"[ \t\r\n]*")
_LATE_CONTROLS = re.compile(r"[\x7f-\x9f]")  # a terminal takes \x9b for ESC [
_HALF = 16  # characters at the end of a piece that can be half of a number, word or escape


def quoted(value: Any) -> str:
    """Return a JSON value for a message, cut to a readable length."""
    try:
        text = json.dumps(value, ensure_ascii=True)
    except RecursionError:
        return "a deeply nested value"
    return text if len(text) <= 60 else text[:57] + "..."


def escaped(text: str) -> str:
    """Return the same JSON without control characters: it may hold the later ones as they are."""
    return _LATE_CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def parse_json(text: str, where: str | Path) -> Any:
    """Parse one JSON value strictly.

    Raises:
        RecordError: the text is not such JSON; the message begins with `where`.
    """
    with _refusing(where):
        return _parse(text)


def decoded(pieces: Iterable[bytes]) -> Iterator[str]:
    """Decode UTF-8 without a BOM; other bytes pass, for `json_records` to name their line."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
    for piece in pieces:
        yield decoder.decode(piece)
    yield decoder.decode(b"", final=True)


def json_records(
    pieces: Iterable[str], path: str | Path, keys: Collection[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each record with its place, "path:line" of JSON lines or "path: record N".

    Args:
        pieces: The text of the file, in pieces of any size.
        path: The file, for messages.
        keys: Where the file is one JSON object, the records are the array under one of these.

    Raises:
        RecordError: a record is no JSON object, or has more than `MOST_RECORD` characters.
    """
    text = _Text(pieces, path)
    for where, value in text.items() if text.enter_list(keys) else text.lines():
        if not isinstance(value, dict):
            raise RecordError(
                f"{where}: {quoted(value)} is not a JSON object; write one record per line (JSONL)"
            )
        yield where, value


class _TooLong(ValueError):
    """A record goes on for more than `MOST_RECORD` characters."""


class _Text:
    """The unread rest of a text that comes in pieces."""

    def __init__(self, pieces: Iterable[str], path: str | Path) -> None:
        self._pieces = iter(pieces)
        self._path = path
        self._held = ""
        self._at = 0  # what is before it was read
        self._back: int | None = None  # a place to return to
        self._wrapped = False

    def lines(self) -> Iterator[tuple[str, Any]]:
        """Yield the place and the value of each line that is not blank."""
        number = 0
        while self._at < len(self._held) or self._more():
            # Blank lines at once: there may be millions of them.
            blank = self._held[self._at : self._after_space()].rfind("\n") + 1
            number += 1 + self._held.count("\n", self._at, self._at + blank)
            self._at += blank
            where = f"{self._path}:{number}"
            with _refusing(where, "; write one JSON object per line"):
                line = self._line()
                value = _parse(line) if line.strip() else None
            if line.strip():
                yield where, value

    def enter_list(self, keys: Collection[str]) -> bool:
        """Go to the first item of the list that the text is, or has under a key; else stay."""
        entered = False
        self._back = self._at
        # What cannot be read here is refused as a line, with its number.
        with suppress(ValueError, RecursionError):
            entered = self._go_to(keys)
        if not entered:
            self._at = self._back
        self._back = None
        return entered

    def items(self) -> Iterator[tuple[str, Any]]:
        """Yield the place and the value of each item of the list; check what follows it."""
        number, mark = 0, self._take("]") if self._peek() == "]" else ","
        while mark == ",":
            number += 1
            where = f"{self._path}: record {number}"
            with _refusing(where):
                value = self._value()
            yield where, value
            with _refusing(f"{self._path}: after record {number}"):
                mark = self._take(",]")
        with _refusing(f"{self._path}: after record {number}"):
            while self._wrapped and self._take(",}") == ",":
                self._value()
                self._take(":")
                self._value()
            if self._peek():
                raise ValueError("the array has ended, and something follows")

    def _go_to(self, keys: Collection[str]) -> bool:
        """Look for a list, also under a key, whose items are objects."""
        self._wrapped = self._take("[{") == "{"
        while self._wrapped:
            self._peek()
            key = self._value()
            self._take(":")
            if key in keys and self._peek() == "[":
                self._take("[")
                break
            if key == "qid":  # a record, and what it holds is its own
                return False
            self._value()
            self._take(",")
        return self._peek() in ("{", "]")

    def _line(self) -> str:
        """Return what comes before the next end of a line."""
        seen = 0
        # Only "\n" ends a line: str.splitlines would also cut at U+2028 inside a sentence.
        while (end := self._held.find("\n", self._at + seen)) < 0:
            seen = len(self._held) - self._at
            if not self._more():
                end = len(self._held)
                break
        line, self._at = self._held[self._at : end], min(end + 1, len(self._held))
        return line

    def _value(self) -> Any:
        """Return the JSON value that comes next."""
        self._peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._held, self._at)
            except json.JSONDecodeError as error:
                cut = error.pos > len(self._held) - _HALF or error.msg.startswith("Unterminated")
                if not (cut and self._grow()):
                    raise ValueError(error.msg) from None  # its place is not that in the file
                continue
            if end == len(self._held) and self._more():
                continue  # a number may go on
            _check_text(self._held[self._at : end], value)
            self._at = end
            return value

    def _take(self, characters: str) -> str:
        """Take one of these characters, after white space."""
        found = self._peek()
        if not found or found not in characters:
            raise ValueError(f"{' or '.join(characters)} is missing")
        self._at += 1
        return found

    def _peek(self) -> str:
        """Skip white space; return the character after it, or "" at the end."""
        while True:
            self._at = self._after_space()
            if self._at < len(self._held):
                return self._held[self._at]
            if not self._more():
                return ""

    def _after_space(self) -> int:
        found = _SPACE.match(self._held, self._at)
        return self._at if found is None else found.end()

    def _grow(self) -> bool:
        """Hold twice as much of one value, so that a long one is not parsed over and over."""
        wanted = 2 * (len(self._held) - self._at)
        grown = False
        while len(self._held) - self._at < wanted and self._more():
            grown = True
        return grown

    def _more(self) -> bool:
        """Hold another piece, and no longer what was read; return False at the end."""
        first = self._at if self._back is None else self._back
        if len(self._held) - first > MOST_RECORD:
            raise _TooLong
        piece = next(self._pieces, None)
        if piece is None:
            return False
        self._held = self._held[first:] + piece
        self._at -= first
        self._back = None if self._back is None else 0
        return True


@contextmanager
def _refusing(where: str | Path, way_out: str = "") -> Iterator[None]:
    """Turn what a parser raises into a RecordError that names the place."""
    try:
        yield
    except UnicodeEncodeError:
        raise RecordError(f"{where}: not valid UTF-8; save the file as UTF-8") from None
    except RecursionError:
        raise RecordError(f"{where}: nested too deeply for annotations or predictions") from None
    except _TooLong:
        raise RecordError(
            f"{where}: more than {MOST_RECORD:,} characters in one record; is this the right file?"
        ) from None
    except ValueError as error:
        raise RecordError(f"{where}: not JSON ({error}){way_out}") from None


def _parse(text: str) -> Any:
    if not text.isascii():
        text.encode("utf-8")  # the first error to report of a file in another encoding
    value = _DECODER.decode(text)
    if "\\u" in text:
        _check_text(text, value)
    return value


def _check_text(text: str, value: Any) -> None:
    """Refuse what cannot be written back: bytes that were no UTF-8, halves of surrogate pairs."""
    if "\\u" in text:
        text = json.dumps(value, ensure_ascii=False)
    if not text.isascii():
        text.encode("utf-8")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:40]} is too large")
    return value


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Python would keep the last one, and the rows of the first would be gone without a word.
    value = dict(pairs)
    if len(value) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {quoted(twice)} is there twice in one object")
    return value


_DECODER = json.JSONDecoder(
    parse_constant=_refuse_constant,
    parse_float=_finite_float,
    object_pairs_hook=_without_repeats,
)
