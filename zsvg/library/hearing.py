"""Bring what is said in the videos of a library up to date: read subtitles, listen, embed lines."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from zsvg.backbones.base import Backbone
from zsvg.files import sha256_json
from zsvg.grounding.ranking import USUAL
from zsvg.library.said import Heard, Said
from zsvg.library.tables import Video
from zsvg.transcripts.lines import Line
from zsvg.transcripts.said import said_in
from zsvg.transcripts.subtitles import sidecars_of

if TYPE_CHECKING:
    from zsvg.transcripts.speech import Recogniser

_log = logging.getLogger(__name__)

_BATCH = 64  # sentences
_NARROW = 2000  # videos that the engine is told to look at alone


def encode_lines(backbone: Backbone, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return (N, D) rows of unit length of what is said, as the frozen text tower has them."""
    rows = [np.zeros((0, backbone.embed_dim), np.float32)]
    for start in range(0, len(texts), _BATCH):
        with torch.no_grad():
            states = backbone.encode_text(list(texts[start : start + _BATCH]))
        rows.append(states.pooled.cpu().numpy().astype(np.float32))
    return np.concatenate(rows)


def bring_up_to_date(
    said: Said,
    videos: Iterable[Video],
    backbone: Backbone,
    *,
    before: Said | None = None,
    recogniser: Recogniser | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, Heard]:
    """Look after what is said in videos; of those that have not changed, nothing is read.

    What a recogniser heard stays when none is given later.

    Args:
        said: Where it is kept; the caller holds the lock of the library.
        videos: All that can be searched.
        backbone: Encodes lines.
        before: What was said in them according to another space: it is not read again.
        recogniser: Listens where there are no subtitles; None: nothing does.
        on_progress: Called with the number of videos that are done.

    Returns:
        vid -> what was heard in it.
    """
    known = {heard.key: heard for heard in said.heard()}
    there = {heard.source: heard for heard in known.values()}
    old = {heard.key: heard for heard in before.heard()} if before is not None else {}
    films, report = list(videos), {}
    beside = _beside(films)
    for done, video in enumerate(films, 1):
        last = known.get(video.key) or old.get(video.key)
        listens = last.recogniser if last is not None else ""
        if recogniser is not None:
            listens = recogniser.name
        source = source_of(video, beside.get(video.file, ()), listens)
        if source in there:  # as it was, or moved, or a copy
            heard = replace(there[source], key=video.key)
            if known.get(video.key) != heard:
                said.put(heard)
        else:
            heard = Heard(key=video.key, source=source, recogniser=listens)
            if before is not None and last is not None and last.source == source:
                lines, failures = before.lines(source), last.failures
            else:
                read = said_in(video.file, recogniser)
                lines, failures = list(read), read.unusable
                if read.silent:
                    _log.info("%s", read.silent)
            there[source] = heard = replace(heard, count=len(lines), failures=failures)
            said.put(heard, lines, encode_lines(backbone, [line.text for line in lines]))
        report[video.vid] = heard
        if on_progress is not None:
            on_progress(done)
    return report


def source_of(video: Video, beside: Iterable[Path], recogniser: str = "") -> str:
    """Return what the lines of a video belong to.

    It changes with the content of the video, with the files of subtitles beside it, and with what
    listens; a video that is moved with its subtitles keeps it.
    """
    states = []
    for file in beside:
        with suppress(OSError):  # it just went away
            state = os.stat(file)
            suffix = file.name[len(video.file.stem) :]
            states.append((suffix, state.st_size, state.st_mtime_ns))
    return sha256_json([video.content, sorted(states), recogniser])


def _beside(videos: Iterable[Video]) -> dict[Path, list[Path]]:
    """Return the subtitles beside videos; none where a folder cannot be listed any more."""
    folders: dict[Path, list[Path]] = {}
    for video in videos:
        folders.setdefault(video.file.parent, []).append(video.file)
    found: dict[Path, list[Path]] = {}
    for files in folders.values():
        with suppress(OSError):
            found |= sidecars_of(files)
    return found


def spoken(
    said: Said, backbone: Backbone, query: str, videos: Iterable[Video], most: int
) -> list[tuple[Video, Line]]:
    """Return lines in which a sentence, or what it means, is said, best first.

    A line means the same if it is nearer to the sentence than one that says nothing in particular
    is. (Of two sentences about one moment of Charades-STA seven in eight pass, of two about any
    moments one in twelve: CLIP's text space as rebuilt from MiniLM.)

    Args:
        said: What is said.
        backbone: Encodes the sentence.
        query: The sentence.
        videos: Where to look.
        most: Most lines.

    Returns:
        The video of each line, and the line; of copies the first one.
    """
    wanted = {video.key: video for video in videos}
    places: dict[str, Video] = {}
    for heard in said.heard():
        if heard.key in wanted:
            places.setdefault(heard.source, wanted[heard.key])
    if not places:
        return []
    vector, usual = encode_lines(backbone, [query, USUAL])
    narrow = places if len(places) <= _NARROW else None
    found = said.find(query, vector, float(vector @ usual), narrow)
    lines = [(places[source], line) for source, line in found if source in places]
    return [(video, line) for video, line in lines if line.start < video.duration][:most]
