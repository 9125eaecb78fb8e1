"""Bring the tables up to date with what lies in folders: decode what is new, and nothing else."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zsvg.errors import ITEM_ERRORS, failure
from zsvg.events.proposals import ProposalOptions, propose
from zsvg.features.encoder import FrameFeatures
from zsvg.features.extract import content_of
from zsvg.grounding.grounder import Grounder
from zsvg.library.rows import packed, runs
from zsvg.library.said import Heard
from zsvg.library.sources import Source
from zsvg.library.tables import Tables, Video
from zsvg.places.patience import RemoteError
from zsvg.places.urls import Url, place_of
from zsvg.video.containers import open_container
from zsvg.video.sampling import load_frames_at

_log = logging.getLogger(__name__)

_FRAMES = 5000
_VIDEOS = 32
"""How much work waits to be written: it is what an interruption costs."""
_EVENTS = ProposalOptions(count=8)
_SIDE = 320  # pixels of the longer side of a picture


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
    grounder: Grounder,
    found: Iterable[Source],
    roots: Iterable[str],
    *,
    cache: str | Path | None = None,
    allow_truncated: bool = False,
    rehash: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> Report:
    """Index sources, and mark what vanished below the roots.

    Args:
        tables: Where they are kept; the caller holds the lock of the library.
        grounder: Encodes frames.
        found: All that there is below the roots, and more.
        roots: Folders that were searched.
        cache: Folder of cached features that is used too; None: none.
        allow_truncated: Keep the readable part of damaged files.
        rehash: Read the content of files whose state has not changed, too.
        on_progress: Called with the number of sources that are done.
    """
    tables.sweep()
    known = {video.key: video for video in tables.videos()}
    names = {video.vid: key for key, video in known.items()}
    work, report = _Work(tables, known.values()), Report()
    seen: set[str] = set()
    arrived: dict[str, str] = {}  # known contents at new places: vid -> content
    for done, source in enumerate(found, 1):
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
            video = _video(source, vid, before)
            try:
                content = content_of(source.given, grounder.backbone)
                if content not in work.durations:
                    encoded = grounder.encode(
                        source.given, cache=cache, allow_truncated=allow_truncated
                    )
                    content = encoded.frames.content
                    work.add(source, encoded.frames)
                    report.added.append(vid)
                elif before is not None and before.content == content:
                    report.unchanged += 1
                else:
                    arrived[vid] = content
                duration, title = work.durations[content], _title(source)
                video = replace(video, content=content, duration=duration, title=title)
            except ITEM_ERRORS as error:
                report.failures[vid] = why = failure(source.given, error)
                # What could not be reached may be tomorrow.
                state = "" if isinstance(error, RemoteError) else video.state
                video = replace(video, failure=why, state=state)
            work.put(video)
        seen.add(source.key)
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

    def add(self, source: Source, frames: FrameFeatures) -> None:
        """Add the features of a video."""
        content, events = frames.content, _events(source, frames)
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


def _title(source: Source) -> str:
    """Return the title in a container; "" where there is none."""
    if source.film:
        with suppress(*ITEM_ERRORS), open_container(source.given) as container:
            return str(container.metadata.get("title", ""))
    return ""


def _events(source: Source, frames: FrameFeatures) -> list[dict[str, Any]]:
    """Return the events of a video, each with a picture of its middle where there is one."""
    spans, _ = propose(frames.features, frames.edges, options=_EVENTS)
    pictures: list[bytes | None] = [None] * len(spans)
    if source.film:
        try:
            shown = load_frames_at(source.given, spans.mean(axis=1), None, allow_truncated=True)
            pictures = [_jpeg(pixels) for pixels in shown]
        except RemoteError:
            raise
        except ITEM_ERRORS as error:
            _log.info("%s: has no pictures (%s)", source.given, error)  # and is searched without
    return [
        {"content": frames.content, "start": float(s[0]), "end": float(s[1]), "picture": picture}
        for s, picture in zip(spans, pictures, strict=True)
    ]


def _jpeg(pixels: Any) -> bytes:
    image = Image.fromarray(pixels)
    image.thumbnail((_SIDE, _SIDE))
    image.save(target := BytesIO(), "JPEG", quality=80)
    return target.getvalue()
