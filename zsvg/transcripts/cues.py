"""Cues of subtitle streams: FFmpeg's packets with their times, and text without its markup.

A subtitle file is to FFmpeg a container with one stream, so that files and streams are read alike.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from zsvg.transcripts.lines import Cue, rows_of

# In braces, ASS and the SRT files made of it; what is drawn with \p1 are coordinates, not words.
_DRAWING = re.compile(r"\{[^{}]*\\p[1-9][^{}]*\}.*?(?=\{[^{}]*\\p0[^{}]*\}|\Z)", re.DOTALL)
_BRACES = re.compile(r"\{[^{}]*\}")
_OVERRIDES = re.compile(r"\{\\[^{}]*\}")
# SRT has no rule that "<" must be escaped: only what is known is markup.
_HTML = re.compile(
    r"</?(?:b|i|u|s|em|strong|font|span|p|div|ruby|rt|c|v|lang)(?:[\s.][^<>]*)?>"
    r"|<\d+(?::\d\d)+\.\d+>",
    re.IGNORECASE,
)
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_TAGS = re.compile(r"<[^<>]*>")
_ENTITY = re.compile(r"&(?:#\d+|#[xX][\da-fA-F]+|\w+);")


def cues_of(packets: Iterable[tuple[Any, float]], codec: str) -> Iterator[Cue]:
    """Yield the cues of one stream.

    Args:
        packets: (packet, seconds that its clock is ahead of what is shown).
        codec: FFmpeg's name of it, one of `CODECS`.

    Raises:
        UnicodeDecodeError: A text is not in the encoding that its format demands.
    """
    for packet, shift in packets:
        if packet.size and packet.pts is not None:
            start = float(packet.pts * packet.time_base) - shift
            length = float(packet.duration * packet.time_base) if packet.duration else 0.0
            yield Cue(start, start + length, rows_of(CODECS[codec](bytes(packet))))


def _ass(data: bytes) -> str:
    """Read ASS and SSA: eight fields, of which commas tell the ends, then the text."""
    text = data.decode().split(",", 8)[-1]
    text = _BRACES.sub("", _DRAWING.sub("", text))
    return re.sub(r"\\[Nn]", "\n", text).replace("\\h", " ")


def _mov_text(data: bytes) -> str:
    """Read 3GPP timed text: two bytes of length, the text, then boxes of styles."""
    text = data[2 : 2 + int.from_bytes(data[:2], "big")]
    return text.decode("utf-16" if text[:2] in (b"\xfe\xff", b"\xff\xfe") else "utf-8")


def _subrip(data: bytes) -> str:
    text = _HTML.sub("", _BREAK.sub("\n", _OVERRIDES.sub("", data.decode())))
    return _ENTITY.sub(_character, text)


def _webvtt(data: bytes) -> str:
    return _ENTITY.sub(_character, _TAGS.sub("", data.decode()))


def _character(entity: re.Match[str]) -> str:
    return html.unescape(entity[0])


CODECS: dict[str, Callable[[bytes], str]] = {
    "ass": _ass,
    "ssa": _ass,
    "mov_text": _mov_text,
    "srt": _subrip,
    "subrip": _subrip,
    "text": _subrip,
    "webvtt": _webvtt,
}
"""FFmpeg's names of subtitles that are text, and what reads one packet of them."""
