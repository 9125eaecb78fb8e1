"""What lies in the folders that are indexed: videos, or features of them, with their states."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from zsvg.errors import VideoError
from zsvg.features.from_files import SUFFIXES, FeatureFiles
from zsvg.files import sha256_json
from zsvg.places.patience import RemoteError
from zsvg.places.urls import State, Url, absolute, place_of, state_of
from zsvg.records import video_key
from zsvg.video.hashes import settled


@dataclass(frozen=True, kw_only=True)
class Source:
    """A video, or its features, that was found.

    Attributes:
        vid: What it is called.
        given: What `Grounder.encode` takes.
        root: The folder that was indexed, absolute, or its URL.
        path: Of the file below it, with "/" between folders.
        size: Bytes; of all arrays of one file together.
        modified: When it was, seconds since 1970.
        film: Whether there are pictures; features of others have none.
        state: While it stays the same, so does the content; "" where this cannot be told.
    """

    vid: str
    given: Path
    root: str
    path: str
    size: int
    modified: float
    film: bool
    state: str

    @property
    def key(self) -> str:
        """What no other source has: its place."""
        return str(place_of(self.root) / self.path)


def roots_of(places: Iterable[str | Path]) -> list[str]:
    """Return the folders among places, absolute: all that is below them is looked at.

    A file with the features of many videos is like a folder.
    """
    given = map(place_of, places)
    return sorted({absolute(p) for p in given if p.is_dir() or p.suffix.lower() in SUFFIXES})


def sources(found: Mapping[str, Path], roots: Iterable[str]) -> Iterator[Source]:
    """Yield what was found, in its order.

    Args:
        found: vid -> file.
        roots: Folders that were searched; a file outside of them has its own for a root.

    Raises:
        VideoError: The name of a folder is not text.
    """
    known = sorted(roots, key=len, reverse=True)  # the nearest one first
    how, lengths = "", {}
    if isinstance(found, FeatureFiles):
        how = sha256_json([found.seconds, found.window])[:8]
        lengths = {video_key(vid): seconds for vid, seconds in found.durations.items()}
    for vid, given in found.items():
        file = absolute(given)
        try:
            file.encode("utf-8")
        except UnicodeEncodeError:
            shown = os.fsencode(file).decode("utf-8", "backslashreplace")
            raise VideoError(f"{shown}: the name is not UTF-8; rename the folder") from None
        real = given if isinstance(given, Url) else Path(file)
        root = next((r for r in known if real.is_relative_to(r)), str(real.parent))
        # Of one file with many arrays, the path to an array has the array's name behind it.
        if not isinstance(real, Url) and not os.path.lexists(real):
            real = real.parent
        size, modified = 0, 0.0
        state: State = 0, 0, 0, time.time_ns()
        with suppress(OSError, RemoteError):  # it cannot be read, and encoding says why
            size, modified = real.stat().st_size, real.stat().st_mtime
            state = state_of(real)
        told = "-".join(map(str, state)) if settled(state, time.time()) else ""
        if told and how:  # how rows lie in time is part of what they are
            told += f"-{how}-{lengths.get(video_key(vid))}"
        yield Source(
            vid=vid,
            given=given,
            root=root,
            path=file[len(root) :].replace(os.sep, "/").lstrip("/"),
            size=size,
            modified=modified,
            film=not how,
            state=told,
        )
