"""Bring what is said in the videos of a library up to date: read subtitles, listen, embed lines."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from zsvg.files import sha256_json
from zsvg.library.said import Heard, Said
from zsvg.library.sentences import Sentences
from zsvg.library.tables import Video
from zsvg.places.urls import state_of
from zsvg.transcripts.lines import Line
from zsvg.transcripts.said import said_in
from zsvg.transcripts.subtitles import sidecars_of

if TYPE_CHECKING:
    from zsvg.transcripts.speech import Recogniser

_log = logging.getLogger(__name__)

_VIDEOS, _LINES = 64, 5000
"""How much waits to be written: it is what an interruption costs."""


def bring_up_to_date(
    said: Said,
    videos: Iterable[Video],
    sentences: Sentences,
    *,
    before: Said | None = None,
    subtitles: Callable[[Path], bool] | None = None,
    recogniser: Recogniser | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, Heard]:
    """Look after what is said in videos; of those that have not changed, nothing is read.

    What a recogniser heard stays when none is given later, and is heard anew by another one. Files
    that could not be read are tried again.

    Args:
        said: Where it is kept; the caller holds the lock of the library.
        videos: All that can be searched.
        sentences: Encodes lines.
        before: What was said in them according to another space, or by another model of sentences:
            it is not read again.
        subtitles: Whether a file of them beside a video may be read; None: each may.
        recogniser: Listens where there are no subtitles; None: nothing does.
        on_progress: Called with the number of videos that are done.

    Returns:
        vid -> what was heard in it.
    """
    known = {heard.key: heard for heard in said.heard()}
    there = {heard.source: heard for heard in said.whole(known.values())}
    old = {heard.source: heard for heard in before.heard()} if before is not None else {}
    films, work = list(videos), _Work(said, sentences)
    beside, report = _beside(films, subtitles), {}
    for done, video in enumerate(films, 1):
        files = beside.get(video.file, [])
        source = source_of(video, files)
        if source in there and not _stale(there[source], recogniser):  # as it was, moved, or a copy
            heard = replace(there[source], key=video.key)
            if known.get(video.key) != heard:
                work.put(heard)
        else:
            if before is not None and source in old and not _stale(old[source], recogniser):
                lines, heard = before.lines(source), replace(old[source], key=video.key)
            else:
                lines, heard = _listen(video, source, files, recogniser)
            work.put(heard, lines)
            there[source] = heard
        report[video.vid] = heard
        if on_progress is not None:
            on_progress(done)
    work.write()
    return report


def _stale(heard: Heard, recogniser: Recogniser | None) -> bool:
    """Return whether there may be more to read or to hear than there was."""
    if heard.failures:
        return True
    if recogniser is None or heard.recogniser == recogniser.fingerprint:
        return False
    return heard.count == 0 or bool(heard.recogniser)


def _listen(
    video: Video, source: str, beside: Sequence[Path], recogniser: Recogniser | None
) -> tuple[list[Line], Heard]:
    """Read what is said in a video, or listen to it."""
    lines = said_in(video.file, recogniser, beside)
    if lines.silent:
        _log.info("%s", lines.silent)
    listened = recogniser is not None and all(line.source == recogniser.name for line in lines)
    heard = Heard(
        key=video.key,
        source=source,
        recogniser=recogniser.fingerprint if recogniser is not None and listened else "",
        count=len(lines),
        failures=lines.unusable,
    )
    return list(lines), heard


def source_of(video: Video, beside: Iterable[Path]) -> str:
    """Return what the lines of a video belong to.

    It changes with the content of the video and with the files of subtitles beside it; a video that
    is moved with its subtitles keeps it.
    """
    states = []
    for file in beside:
        with suppress(OSError):  # it just went away
            suffix = file.name[len(video.file.stem) :]
            states.append((suffix, *state_of(file)[:2]))
    return sha256_json([video.content, sorted(states)])


class _Work:
    """What waits to be written."""

    def __init__(self, said: Said, sentences: Sentences) -> None:
        self.said = said
        self.sentences = sentences
        self._heard: list[Heard] = []
        self._lines: dict[str, list[Line]] = {}

    def put(self, heard: Heard, lines: Sequence[Line] | None = None) -> None:
        """Add what was heard in a video; without lines, they are there."""
        self._heard.append(heard)
        if lines is not None:
            self._lines[heard.source] = list(lines)
        waiting = sum(map(len, self._lines.values()))
        # What a recogniser heard took it minutes.
        if heard.recogniser or len(self._heard) >= _VIDEOS or waiting >= _LINES:
            self.write()

    def write(self) -> None:
        """Write it."""
        texts = [line.text for lines in self._lines.values() for line in lines]
        self.said.put(self._heard, self._lines, self.sentences.encode(texts))
        self._heard, self._lines = [], {}


def _beside(
    videos: Iterable[Video], wanted: Callable[[Path], bool] | None
) -> dict[Path, list[Path]]:
    """Return the wanted subtitles beside videos; none where a folder cannot be listed any more."""
    folders: dict[Path, list[Path]] = {}
    for video in videos:
        folders.setdefault(video.file.parent, []).append(video.file)
    found: dict[Path, list[Path]] = {}
    for files in folders.values():
        with suppress(OSError):
            found |= sidecars_of(files)
    if wanted is None:
        return found
    return {video: list(filter(wanted, files)) for video, files in found.items()}
