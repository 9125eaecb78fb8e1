"""Copies of videos that browsers play, with the times of the original."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError

from zsvg.errors import VideoError
from zsvg.files import atomic_path
from zsvg.video.containers import film_of, open_container, packets
from zsvg.video.decoding import Cursor, Reader
from zsvg.video.reading import probe
from zsvg.video.writing import encode, fitted, stretch

Span = tuple[float, float]

_TOLERANCE = 0.1  # seconds by which a copy may be longer or shorter


def remux(path: str | Path, out: str | Path) -> bool:
    """Put the pictures of an H.264 video into an mp4 as they are; return whether that worked.

    It does not where packets carry no times, as in some AVI files; then nothing is written.

    Args:
        path: The video.
        out: File to write.

    Raises:
        VideoError: The video cannot be opened.
        OSError: The file cannot be written.
    """
    try:
        with atomic_path(out) as temporary:
            with (
                open_container(path) as source,
                av.open(f"file:{temporary}", "w", format="mp4") as sink,
            ):
                film = film_of(source, path)
                stream = sink.add_stream_from_template(film)
                for packet in packets(source, film):
                    if packet.pts is None or packet.dts is None:
                        raise VideoError(f"{path}: a packet has no time")
                    packet.stream = stream
                    sink.mux(packet)
            before, after = probe(path), probe(temporary)
            if abs(before.duration - after.duration) > _TOLERANCE or after.clock_start:
                raise VideoError(f"{path}: the copy has other times")
    except (VideoError, FFmpegError, ValueError) as error:
        if isinstance(error, OSError) and not isinstance(error, FFmpegError):
            raise
        return False
    return True


def preview(
    path: str | Path,
    out: str | Path,
    *,
    spans: Sequence[Span] | None = None,
    every: float = 4.0,
    longest: int | None = None,
    on_progress: Callable[[float, float], object] | None = None,
) -> None:
    """Save a video as an H.264 mp4 with the same times, in full or only here and there.

    Pictures only, upright, made smaller where they are large.

    Args:
        path: The video.
        out: File to write.
        spans: (start, end) seconds, by time, that are saved in full; None: all.
        every: Seconds from one picture to the next elsewhere.
        longest: Pixels of the longer side, above which pictures are made smaller; None keeps all.
        on_progress: Called with the seconds that are done, and all of them.

    Raises:
        VideoError: The video cannot be read.
        OSError: The file cannot be written.
    """
    with Reader(path) as reader:
        cursor = Cursor(reader, allow_truncated=True)
        end = reader.duration

        def pictures() -> Iterator[tuple[float, float, Any]]:
            for start, until, full in _parts(spans, end):
                for piece in stretch(cursor, start, until, longest, 0.0 if full else every):
                    yield piece
                    if on_progress is not None:
                        on_progress(min(piece[0] + piece[1], end), end)

        encode(out, fitted(pictures()), reader.fps or 25.0)


def _parts(spans: Sequence[Span] | None, end: float) -> Iterator[tuple[float, float, bool]]:
    """Yield (start, end, whether it is a span) from 0 to the end without a gap."""
    if spans is None:
        yield 0.0, end, True
        return
    reached = 0.0
    for start, until in spans:
        if start > reached:
            yield reached, start, False
        if until > reached:
            yield max(start, reached), until, True
            reached = until
    if reached < end:
        yield reached, end, False
