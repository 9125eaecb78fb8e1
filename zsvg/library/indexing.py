"""Bring the tables up to date with what lies in folders: decode what is new, and nothing else."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from zsvg.errors import ITEM_ERRORS, failure
from zsvg.features.encoder import FrameFeatures
from zsvg.library.looking import Looking
from zsvg.library.rows import packed, runs
from zsvg.library.said import Heard
from zsvg.library.sources import Source
from zsvg.library.tables import Tables, Video
from zsvg.places.patience import RemoteError
from zsvg.places.urls import Url, place_of

_FRAMES = 5000
_VIDEOS = 32
"""How much work waits to be written: it is what an interruption costs."""


@dataclass(kw_only=True)
class Report:
    """What became of the files; each list holds names of videos.

    Attributes:
        added: New, or with new content.
        moved: Known content at another place, and not at its own any more.
        copies: Known content that is at its own place, too.
        unchanged: How many were as they had been, though some were read to find out.
        vanished: Not there any more, and marked so.
        back: There again.
        failures: vid -> why it cannot be used; of unchanged files, what was found out before.
        heard: vid -> that it was looked after what is said in it.
    """

    added: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)
    unchanged: int = 0
    vanished: list[str] = field(default_factory=list)
    back: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    heard: dict[str, Heard] = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        """Whether anything was written."""
        return bool(self.added or self.moved or self.copies or self.vanished or self.back)


def bring_up_to_date(
    tables: Tables,
    looking: Looking,
    found: Collection[Source],
    roots: Iterable[str],
    *,
    rehash: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> Report:
    """Index sources, and mark what vanished below the roots.

    Args:
        tables: Where they are kept; the caller holds the lock of the library.
        looking: Looks at those that are new or have changed, see `zsvg.library.looking.looking`.
        found: All that there is below the roots, and more.
        roots: Folders that were searched.
        rehash: Read the content of files whose state has not changed, too.
        on_progress: Called with the number of sources that are done.
    """
    tables.sweep()
    known = {video.key: video for video in tables.videos()}
    names = {video.vid: key for key, video in known.items()}
    work, report = _Work(tables, known.values()), Report()
    seen: set[str] = set()
    arrived: dict[str, str] = {}  # known contents at new places: vid -> content
    fresh: dict[str, Source] = {}
    videos: dict[str, Video] = {}
    for source in found:
        before = known.get(source.key)
        if source.key in seen:  # by another name
            pass
        elif before is not None and source.state and source.state == before.state and not rehash:
            report.unchanged += 1
            if before.failure:
                report.failures[before.vid] = before.failure
            if before.vanished:
                work.put(replace(before, vanished=False))
                report.back.append(before.vid)
        else:
            vid = before.vid if before is not None else _name(source, names)
            fresh[source.key], videos[source.key] = source, _video(source, vid, before)
        seen.add(source.key)
    others = len(found) - len(fresh)
    if on_progress is not None:
        on_progress(others)
    with closing(looking(fresh, work.durations)) as coming:
        for done, (key, future) in enumerate(coming, others + 1):
            before, video = known.get(key), videos[key]
            try:
                looked = future.result()
                content = looked.content
                if content not in work.durations and looked.frames is not None:
                    work.add(looked.frames, looked.events)
                    report.added.append(video.vid)
                elif before is not None and before.content == content:
                    report.unchanged += 1
                else:
                    arrived[video.vid] = content
                length = work.durations[content]
                video = replace(video, content=content, duration=length, title=looked.title)
            except ITEM_ERRORS as error:
                report.failures[video.vid] = why = failure(fresh[key].given, error)
                # What could not be reached may be tomorrow.
                state = "" if isinstance(error, RemoteError) else video.state
                video = replace(video, failure=why, state=state)
            work.put(video)
            if on_progress is not None:
                on_progress(done)
    missing = [video for key, video in known.items() if key not in seen and _is_gone(video, roots)]
    gone = {video.content for video in missing} & set(arrived.values())
    report.moved = [vid for vid, content in arrived.items() if content in gone]
    report.copies = [vid for vid, content in arrived.items() if content not in gone]
    for video in missing:
        if video.content not in gone and not video.vanished:
            work.put(replace(video, vanished=True))
            report.vanished.append(video.vid)
    work.write()
    tables.forget(video for video in missing if video.content in gone)
    tables.sweep()
    return report


def _is_gone(video: Video, roots: Iterable[str]) -> bool:
    """Return whether a video that was not found is gone.

    It is not where nobody looked, or in a folder that could not be read.
    """
    below = any(video.file.is_relative_to(root) for root in roots)
    file = video.file
    return below and not (file.exists() if isinstance(file, Url) else os.path.lexists(file))


class _Work:
    """What waits to be written."""

    def __init__(self, tables: Tables, known: Iterable[Video]) -> None:
        self.tables = tables
        # Of what there are features, or will be.
        self.durations = {video.content: video.duration for video in known if video.content}
        self._clear()

    def _clear(self) -> None:
        self._videos: list[Video] = []
        self._features: list[dict[str, Any]] = []
        self._events: list[dict[str, Any]] = []
        self._frames: list[tuple[str, Any, Any]] = []
        self._size = 0

    def add(self, frames: FrameFeatures, events: Iterable[dict[str, Any]]) -> None:
        """Add the features and events of a video."""
        content = frames.content
        self.durations[content] = frames.duration
        vectors, borders = runs(frames.features)
        self._frames.append((content, vectors, np.column_stack((borders[:-1], borders[1:]))))
        self._features.append(packed(frames))
        self._events += events
        self._size += len(frames.features)

    def put(self, video: Video) -> None:
        """Add or replace a video."""
        self._videos.append(video)
        if len(self._videos) >= _VIDEOS or self._size >= _FRAMES:
            self.write()

    def write(self) -> None:
        """Write it, the videos last."""
        if self._frames:
            names, vectors, spans = zip(*self._frames, strict=True)
            contents = np.repeat(names, [len(rows) for rows in vectors]).tolist()
            self.tables.add(features=self._features)
            self.tables.add_frames(contents, np.concatenate(vectors), np.concatenate(spans))
            self.tables.add(events=self._events)
        self.tables.put(self._videos)
        self._clear()


def _name(source: Source, names: dict[str, str]) -> str:
    """Return a name that no video of another folder has, and take note of it."""
    longer = (source.vid, f"{place_of(source.root).name}/{source.path}", source.key)
    return next(name for name in longer if names.setdefault(name, source.key) == source.key)


def _video(source: Source, vid: str, before: Video | None) -> Video:
    at = before or source  # it may have been found below another folder
    return Video(
        vid=vid,
        root=at.root,
        path=at.path,
        content="",
        state=source.state,
        size=source.size,
        modified=source.modified,
        added=time.time(),
    )
