"""What lies in the folders that are indexed: videos, or features of them, with their states."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from zsvg.errors import VideoError
from zsvg.features.from_files import SUFFIXES, FeatureFiles
from zsvg.files import sha256_json
from zsvg.records import video_key
from zsvg.video.hashes import settled, state_of


@dataclass(frozen=True, kw_only=True)
class Source:
    """A video, or its features, that was found.

    Attributes:
        vid: What it is called.
        given: What `Grounder.encode` takes.
        root: The folder that was indexed, absolute.
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
        return str(Path(self.root, self.path))


def roots_of(places: Iterable[str | Path]) -> list[str]:
    """Return the folders among places, absolute: all that is below them is looked at.

    A file with the features of many videos is like a folder.
    """
    return sorted(
        {
            os.path.abspath(place)
            for place in places
            if Path(place).is_dir() or Path(place).suffix.lower() in SUFFIXES
        }
    )


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
        file = os.path.abspath(given)
        try:
            file.encode("utf-8")
        except UnicodeEncodeError:
            shown = os.fsencode(file).decode("utf-8", "backslashreplace")
            raise VideoError(f"{shown}: the name is not UTF-8; rename the folder") from None
        root = next((r for r in known if Path(file).is_relative_to(r)), os.path.dirname(file))
        # Of one file with many arrays, the path to an array has the array's name behind it.
        real = file if os.path.lexists(file) else os.path.dirname(file)
        try:
            state = state_of(real)
        except OSError:  # it went away, or cannot be read: encoding says why
            state = (0, 0, 0, time.time_ns())
        told = "-".join(map(str, state)) if settled(state, time.time()) else ""
        if told and how:  # how rows lie in time is part of what they are
            told += f"-{how}-{lengths.get(video_key(vid))}"
        yield Source(
            vid=vid,
            given=given,
            root=root,
            path=Path(os.path.relpath(file, root)).as_posix(),
            size=state[0],
            modified=state[1] / 1e9,
            film=not how,
            state=told,
        )
