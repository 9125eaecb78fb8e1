"""Subtitle streams inside a video, and the time of what its streams say."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from av.error import FFmpegError

from zsvg.transcripts.cues import CODECS, cues_of
from zsvg.transcripts.lines import Line, Lines, tidy
from zsvg.transcripts.subtitles import language_tag
from zsvg.video.clock import timeline
from zsvg.video.containers import film_of, open_container, packets, reason

_log = logging.getLogger(__name__)


def read_streams(video: str | Path) -> Lines:
    """Read all streams of subtitles that are text (SubRip, ASS, WebVTT, 3GPP timed text).

    Returns:
        Lines of all streams in order of time, each with its stream's language; none where there is
        no such stream. `unusable` names the streams whose text is broken, `silent` those that are
        pictures (DVD, Blu-ray, DVB).

    Raises:
        VideoError: The file cannot be opened as a video.
    """
    lines: list[Line] = []
    unusable: list[str] = []
    pictures: list[str] = []
    with open_container(video) as container:
        readable = []
        for stream in container.streams.subtitles:
            codec = _codec(stream)
            if codec in CODECS:
                readable.append(stream)
            else:
                pictures.append(f"subtitle stream {stream.index} ({codec}) is not text; skipped")
        found: dict[int, list[tuple[Any, float]]] = {stream.index: [] for stream in readable}
        for packet, shift in in_time(video, container, readable) if readable else ():
            found[packet.stream_index].append((packet, shift))
        for stream in readable:
            codec = _codec(stream)
            source = f"stream {stream.index} ({codec})"
            language = language_tag(stream.metadata.get("language", ""))
            try:
                lines += tidy(cues_of(found[stream.index], codec), language, source)
            except ValueError as error:
                unusable.append(f"{video}: subtitle {source} cannot be read ({error}); skipped")
    silent = f"{video}: {', '.join(pictures)}" if pictures else ""
    return Lines(sorted(lines, key=lambda line: (line.start, line.end)), unusable, silent)


def in_time(path: str | Path, container: Any, streams: list[Any]) -> Iterator[tuple[Any, float]]:
    """Yield (packet, seconds that the clock is ahead of what is shown) of streams beside the film.

    A file that breaks off ends there, with a warning.

    Args:
        path: The file.
        container: It, opened.
        streams: At least one, not the film.

    Raises:
        VideoError: It has no film.
    """
    jumps = list(timeline(path).shifts)
    shift = jumps.pop(0)[1]
    # The clock of the file jumps at packets of the film, so where it does they are counted.
    film = film_of(container, path) if jumps else None
    number = 0
    try:
        for packet in packets(container, [*streams, film] if film else streams):
            if film is None or packet.stream_index != film.index:
                yield packet, shift
                continue
            if jumps and number == jumps[0][0]:
                shift = jumps.pop(0)[1]
            number += 1
    except FFmpegError as error:
        _log.warning("%s: cannot be read to its end (%s)", path, reason(error))


def _codec(stream: Any) -> str:
    return "unknown" if stream.codec_context is None else str(stream.codec_context.name)
