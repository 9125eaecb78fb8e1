"""Frames of a video at exact presentation times, in bounded memory.

Times are seconds of what is shown (`zsvg.video.clock`): they begin with the file, whatever its own
clock shows then, and they grow, however that jumps; a first frame at 0.033 s stays there. Of
several video streams the first one flagged as default is read (cover pictures are not video), else
the one that FFmpeg calls best. Pictures come out upright, turned and mirrored as players show them;
non-square pixels are not corrected, as in CLIP's own data.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsvg.video.decoding import TIME_TOLERANCE, Cursor, Reader, VideoInfo
from zsvg.video.pictures import Framing, check_framing, fit, render


@dataclass(frozen=True)
class Sampling:
    """Which frames of a video are looked at, and how.

    Attributes:
        fps: Clips per second; see `sample_frames` for the frame of a clip.
        framing: How pictures become square: "crop", "pad" or "squash", see `sample_frames`.
        allow_truncated: Keep the readable part of a damaged file instead of raising.

    Raises:
        ValueError: One is out of range.
    """

    fps: float = 2.0
    framing: Framing = "crop"
    allow_truncated: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"fps must be a positive number of frames per second, got {self.fps}")
        check_framing(None, self.framing)


def clip_count(duration: float, fps: float) -> int:
    """Return into how many clips of 1/fps seconds `duration` seconds are cut, at least one.

    The rest after the last full step is a clip if it is half a step or more, else it belongs to the
    clip before: a clip of a hundredth of a second would be an answer of one frame.
    """
    return max(1, math.floor(duration * fps + 0.5 + TIME_TOLERANCE))


class FrameSampler(Iterator[tuple[float, NDArray[np.uint8]]]):
    """The iterator that `sample_frames` returns.

    Attributes:
        info: None at first; the decoded video's `VideoInfo` once the last frame has been yielded.
    """

    def __init__(self, path: str | Path, size: int | None, sampling: Sampling) -> None:
        check_framing(size, sampling.framing)
        self.info: VideoInfo | None = None
        self._frames = self._sample(path, size, sampling)

    def __next__(self) -> tuple[float, NDArray[np.uint8]]:
        return next(self._frames)

    def close(self) -> None:
        """Close the file without reading on."""
        self._frames.close()

    def _sample(
        self, path: str | Path, size: int | None, sampling: Sampling
    ) -> Generator[tuple[float, NDArray[np.uint8]], None, None]:
        fps, framing = sampling.fps, sampling.framing
        with Reader(path) as reader:
            clip = 0
            shown: tuple[float, Any] | None = None
            pixels: NDArray[np.uint8] | None = None
            # The last frame stands to the end, which is known when all have been read.
            for time, frame in chain(reader.frames(sampling.allow_truncated), [(math.inf, None)]):
                total = clip_count(reader.duration, fps)
                while shown and clip < total and (clip + 0.5) / fps < time - TIME_TOLERANCE:
                    if pixels is None:
                        pixels = render(shown[1], size, framing)
                    yield shown[0], pixels
                    clip += 1
                shown, pixels = (time, frame), None
            self.info = reader.info()


def sample_frames(
    path: str | Path,
    *,
    fps: float,
    size: int | None,
    framing: Framing = "crop",
    allow_truncated: bool = False,
) -> FrameSampler:
    """Yield the frame on display at the centre of each clip of 1/fps seconds.

    Clip k covers [k/fps, (k+1)/fps) of [0, duration), the last one also a rest of less than half a
    step. Its frame is the last one whose presentation time is not after (k+0.5)/fps, or the first
    frame when there is none yet. Every clip has a frame, so a video slower than `fps` repeats
    frames (the same array again) and the shortest video yields one.

    Args:
        path: The video.
        fps: Clips per second, positive.
        size: Side of the square pictures in pixels; None keeps the native size.
        framing: "crop" resizes the short side and takes the centre square (CLIP's preprocessing),
            "pad" fits the whole picture between black bars, "squash" ignores the aspect ratio.
        allow_truncated: Keep the readable part of a damaged file instead of raising.

    Returns:
        An iterator of (presentation time in seconds, (size, size, 3) uint8 RGB); memory does not
        grow with the length. Afterwards its `info` describes the video.

    Raises:
        TruncatedVideoError: While iterating; the message names the time reached.
        VideoError: On the first step, when the file is not a usable video.
        ValueError: An option is out of range.
    """
    return FrameSampler(path, size, Sampling(fps, framing, allow_truncated))


def load_frames_at(
    path: str | Path,
    times: Sequence[float] | NDArray[np.floating[Any]],
    size: int | None,
    framing: Framing = "crop",
    *,
    allow_truncated: bool = False,
) -> NDArray[np.uint8]:
    """Return the frames on display at `times` (seconds, any order) as (n, size, size, 3) uint8.

    Times before the first frame give the first frame, times after the last the last. Distant times
    are reached by seeking, so a damaged end goes unnoticed unless a time lies there.

    Raises:
        TruncatedVideoError: A time lies behind the readable part, unless `allow_truncated`.
        VideoError: As in `probe`.
        ValueError: No time is given, or one is not finite.
    """
    check_framing(size, framing)
    wanted = np.asarray(times, dtype=np.float64)
    if wanted.ndim != 1 or not len(wanted) or not np.isfinite(wanted).all():
        raise ValueError(f"times must be a non-empty list of finite seconds, got {times!r}")
    pictures: dict[int, NDArray[np.uint8]] = {}
    with Reader(path) as reader:
        cursor = Cursor(reader, allow_truncated)
        for index in np.argsort(wanted, kind="stable"):
            _, frame = cursor.at(float(wanted[index]))
            pictures[int(index)] = render(frame, size, framing)
    first = pictures[0].shape[:2]  # where pictures change their size on the way, all get this one
    return np.stack([fit(pictures[index], first) for index in range(len(wanted))])
