"""The features of a library's videos, where training would encode the videos again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from zsvg.errors import VideoError
from zsvg.features.encoder import FrameFeatures
from zsvg.library.example import clips_between
from zsvg.library.rows import unpacked
from zsvg.library.tables import Tables

Part = tuple[str, float, float]
"""Content, start and end of a moment, seconds."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """A video of a library that is learned from.

    Attributes:
        content: Of the video.
        behind: Moments that follow after its end. To a label of the video, they are what its
            sentence does not describe: hard negatives.
    """

    content: str
    behind: Sequence[Part] = ()


class KnownFeatures:
    """Features of some videos; give it to a backbone as its `files`.

    Attributes:
        videos: vid -> the path by which a video is asked for; nothing lies there.
        names: The same the other way round.

    Args:
        tables: Where they are.
        known: vid -> what is known of the video.
    """

    def __init__(self, tables: Tables, known: Mapping[str, Known]) -> None:
        self.tables = tables
        self.known = dict(known)
        self.videos = {vid: Path("library", vid) for vid in known}
        self.names = {path: vid for vid, path in self.videos.items()}

    def read(self, path: str | Path, *, width: int, fingerprint: str) -> FrameFeatures:
        """Return the features of one video, and of what is behind it.

        Args:
            path: One of `videos`.
            width: What a row must have.
            fingerprint: Of the backbone that is asked with them.

        Raises:
            VideoError: There are none, or another frame encoder made them.
        """
        vid = self.names[Path(path)]
        known = self.known[vid]
        rows = self.tables.features([known.content, *(part[0] for part in known.behind)])
        if known.content not in rows:
            raise VideoError(f"{vid}: the library has no features of it any more")
        frames = unpacked(rows[known.content], vid)
        if frames.fingerprint != fingerprint or frames.features.shape[1] != width:
            raise VideoError(f"{vid}: the library was made with another frame encoder")
        parts = [part for part in known.behind if part[0] in rows]
        return joined(frames, [(unpacked(rows[c], c), start, end) for c, start, end in parts])


def joined(
    frames: FrameFeatures, parts: Iterable[tuple[FrameFeatures, float, float]]
) -> FrameFeatures:
    """Return a video with moments of others behind it; its own times stay.

    Args:
        frames: Of the video.
        parts: Features, start and end in seconds of what follows, of as many clips a second.
    """
    pieces = [frames.features]
    for other, start, end in parts:
        pieces.append(other.features[clips_between(other, start, end)])
    if len(pieces) == 1:
        return frames
    rows = np.concatenate(pieces)
    longer = replace(frames, features=rows, duration=0.0)
    step = 1 / frames.fps
    duration = float(longer.edges[-2] + step)  # the last clip is a whole one
    more = longer.edges[len(frames.times) : -1] + step / 2
    return replace(longer, times=np.concatenate((frames.times, more)), duration=duration)
