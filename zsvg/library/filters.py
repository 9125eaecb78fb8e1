"""Which videos of a library are looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from zsvg.library.tables import Video
from zsvg.places.urls import absolute, place_of


def chosen_by(
    videos: Iterable[Video],
    folder: str | Path | None,
    since: float | None,
    min_length: float,
    among: Callable[[Video], bool] | None,
) -> list[Video]:
    """Return those that can be searched and pass, in their order.

    Args:
        videos: All.
        folder: Only those below it, named from here or from their root; None: of any.
        since: Only those that were changed then or later, seconds since 1970; None: of any time.
        min_length: Only those of so many seconds or more.
        among: Only those of which it is true; None: all.
    """
    return [
        video
        for video in videos
        if video.usable
        and (folder is None or _is_below(video, folder))
        and (since is None or video.modified >= since)
        and video.duration >= min_length
        and (among is None or among(video))
    ]


def _is_below(video: Video, folder: str | Path) -> bool:
    inside = str(folder).strip("/") + "/"
    return video.file.is_relative_to(absolute(place_of(folder))) or video.path.startswith(inside)
