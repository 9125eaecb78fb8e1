"""All that is said in a video: what people wrote down first, then what a model hears."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zsvg.errors import ITEM_ERRORS, SilentError, failure
from zsvg.transcripts.lines import Line, Lines
from zsvg.transcripts.streams import read_streams
from zsvg.transcripts.subtitles import language_beside, read_subtitles, sidecars

if TYPE_CHECKING:
    from zsvg.transcripts.speech import Recogniser


def said_in(
    video: str | Path,
    recogniser: Recogniser | None = None,
    beside: Sequence[Path] | None = None,
) -> Lines:
    """Return the lines of a video's subtitles, else of its speech.

    Files beside the video come first, in all their languages; then streams inside it, of languages
    that no file has. A file without a language in its name may be in any, so that with one there no
    stream is read. Only where there is no line at all, the recogniser listens: what people wrote
    down is better. What two sources say alike at the same time is told once.

    Args:
        video: The video.
        recogniser: Of `load_recogniser`; None: silence where there are no subtitles.
        beside: The files beside it, as of `sidecars_of`; None: they are looked for.

    Returns:
        Lines in order of time, and in `unusable` one line on each file or stream that cannot be
        read; a broken one does not keep the others from being read. `silent` tells why there are
        none at all: no subtitles, or no sound.
    """
    lines: list[Line] = []
    unusable: list[str] = []
    silent = ""
    try:
        for path in sidecars(video) if beside is None else beside:
            try:
                lines += read_subtitles(path, language_beside(video, path))
            except ITEM_ERRORS as error:
                unusable.append(failure(path, error))
        known = {line.language for line in lines}
        if "" not in known:
            inside = read_streams(video)
            unusable += inside.unusable
            silent = inside.silent
            lines += (line for line in inside if line.language not in known)
        if not lines and recogniser is not None:
            lines += recogniser.transcribe(video)
    except SilentError as error:
        silent = str(error)
    except ITEM_ERRORS as error:
        unusable.append(failure(video, error))
    if not lines and not unusable and recogniser is None and not silent:
        silent = f"{video}: no subtitles beside or in it; a recogniser could listen"
    return Lines(_once(lines), unusable, silent if not lines else "")


def _once(lines: list[Line]) -> list[Line]:
    """Return lines in order, without those that an earlier source says alike at the same time."""
    kept: list[Line] = []
    alike: dict[str, list[Line]] = {}
    for line in lines:
        same = alike.setdefault(line.text, [])
        if not any(_repeats(line, other) for other in same):
            same.append(line)
            kept.append(line)
    return sorted(kept, key=lambda line: (line.start, line.end))


def _repeats(line: Line, other: Line) -> bool:
    return (
        line.source != other.source
        and (line.language == other.language or not line.language or not other.language)
        and line.start < other.end
        and other.start < line.end
    )
