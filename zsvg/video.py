"""Video files: probe, sample frames at exact presentation times, and write, all in bounded memory.

Times are seconds of what is shown (`zsvg.clock`): they begin with the file, whatever its own clock
shows then, and they grow, however that jumps; a first frame at 0.033 s stays there. Of several
video streams the first one flagged as default is read (cover pictures are not video), else the one
that FFmpeg calls best. Pictures come out upright, turned and mirrored as players show them;
non-square pixels are not corrected, as in CLIP's own data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from zsvg.containers import REENCODE
from zsvg.decoding import TIME_TOLERANCE, Cursor, Reader, VideoInfo
from zsvg.errors import VideoError
from zsvg.files import atomic_path
from zsvg.finding import Videos, find_videos
from zsvg.hashes import video_hash
from zsvg.pictures import (
    ONE_THREAD,
    Framing,
    check_framing,
    even,
    fit,
    render,
    resize,
    within,
)

__all__ = [
    "FrameSampler",
    "Framing",
    "VideoInfo",
    "Videos",
    "clip_count",
    "cut",
    "decode_summary",
    "find_videos",
    "load_frames_at",
    "probe",
    "resize",
    "sample_frames",
    "video_hash",
    "write_video",
]


def clip_count(duration: float, fps: float) -> int:
    """Return into how many clips of 1/fps seconds `duration` seconds are cut, at least one.

    The rest after the last full step is a clip if it is half a step or more, else it belongs to the
    clip before: a clip of a hundredth of a second would be an answer of one frame.
    """
    return max(1, math.floor(duration * fps + 0.5 + TIME_TOLERANCE))


def probe(path: str | Path) -> VideoInfo:
    """Describe a video after one pass over its packets and decoding one frame.

    Raises:
        VideoError: The file is missing, empty, not a video, a still image, or has no frame.
    """
    with Reader(path) as reader:
        next(reader.frames(allow_truncated=True))
        return replace(reader.info(), last_frame_time=None, frames=None)


def decode_summary(path: str | Path, *, allow_truncated: bool = False) -> VideoInfo:
    """Decode every frame (without converting any) and describe the video exactly.

    Raises:
        TruncatedVideoError: The file ends early and `allow_truncated` is False.
        VideoError: As in `probe`.
    """
    with Reader(path) as reader:
        for _ in reader.frames(allow_truncated):
            pass
        return reader.info()


class FrameSampler(Iterator[tuple[float, NDArray[np.uint8]]]):
    """The iterator that `sample_frames` returns.

    Attributes:
        info: None at first; the decoded video's `VideoInfo` once the last frame has been yielded.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        fps: float,
        size: int | None,
        framing: Framing = "crop",
        allow_truncated: bool = False,
    ) -> None:
        if not (math.isfinite(fps) and fps > 0):
            raise ValueError(f"fps must be a positive number of frames per second, got {fps}")
        check_framing(size, framing)
        self.info: VideoInfo | None = None
        self._frames = self._sample(path, fps, size, framing, allow_truncated)

    def __next__(self) -> tuple[float, NDArray[np.uint8]]:
        return next(self._frames)

    def close(self) -> None:
        """Close the file without reading on."""
        self._frames.close()

    def _sample(
        self, path: str | Path, fps: float, size: int | None, framing: Framing, truncated: bool
    ) -> Any:
        with Reader(path) as reader:
            total = clip_count(reader.duration, fps)
            clip = 0
            shown: tuple[float, Any] | None = None
            pixels: NDArray[np.uint8] | None = None
            for time, frame in reader.frames(truncated):
                while (
                    shown is not None
                    and clip < total
                    and (clip + 0.5) / fps < time - TIME_TOLERANCE
                ):
                    if pixels is None:
                        pixels = render(shown[1], size, framing)
                    yield shown[0], pixels
                    clip += 1
                shown, pixels = (time, frame), None
            info = reader.info()
            if shown is None:
                raise VideoError(f"{path}: not one frame can be decoded; {REENCODE}")
            total = clip_count(info.duration, fps)
            if clip < total and pixels is None:
                pixels = render(shown[1], size, framing)
            while clip < total:
                yield shown[0], pixels
                clip += 1
            self.info = info


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
    return FrameSampler(path, fps=fps, size=size, framing=framing, allow_truncated=allow_truncated)


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


def write_video(
    path: str | Path,
    frames: Iterable[NDArray[np.uint8]],
    fps: float,
    *,
    preset: str = "veryfast",
    crf: int = 18,
) -> None:
    """Write (H, W, 3) uint8 RGB frames as an H.264 mp4; the same frames give the same bytes.

    Args:
        path: File to write.
        frames: RGB pictures of one even size.
        fps: Frames per second.
        preset: x264's trade of time against size.
        crf: x264's constant rate factor, 0 (lossless) to 51.

    Raises:
        ValueError: No frame, a frame of another shape or type, or an odd width or height.
    """
    if not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"fps must be a positive number of frames per second, got {fps}")
    stills = ((index / fps, 1 / fps, _to_frame(pixels)) for index, pixels in enumerate(frames))
    _encode(path, stills, fps, preset, crf)


def cut(
    path: str | Path, start: float, end: float, out: str | Path, *, longest: int | None = None
) -> None:
    """Save the moment [start, end) seconds of a video as an H.264 mp4 that begins at 0.

    Pictures only, upright, in their own size (rounded down to even; later pictures of another size
    are fitted into that of the first) and with their own times.

    Args:
        path: The video.
        start: First second.
        end: Second after the last.
        out: File to write.
        longest: Pixels of the longer side, above which pictures are made smaller; None keeps all.

    Raises:
        VideoError: The video cannot be read, or `start` is not inside it.
        ValueError: `start` is negative or not before `end`, or `longest` is below 2.
    """
    if not (0 <= start < end and math.isfinite(end)):
        raise ValueError(f"a moment needs 0 <= start < end in seconds, got {start} to {end}")
    if longest is not None and longest < 2:
        raise ValueError(f"longest must be at least 2 pixels or None, got {longest}")
    with Reader(path) as reader:
        cursor = Cursor(reader, allow_truncated=True)
        cursor.at(start)
        if start >= (max(reader.end, reader.duration) if cursor.next is None else math.inf):
            raise VideoError(f"{path}: a moment at {start} s lies after the end; choose an earlier")

        def pieces() -> Iterator[tuple[float, float, Any]]:
            shape: tuple[int, ...] | None = None
            position = start  # the first picture also stands for the time before it
            while position < end:
                frame = cursor.current[1]
                following = cursor.advance()
                shown = max(reader.end, reader.duration) if following is None else following[0]
                until = min(end, shown)
                if until > position:
                    frame = frame if longest is None else within(frame, longest)
                    pixels = even(render(frame, None, "squash"))
                    shape = shape or pixels.shape[:2]
                    pixels = fit(pixels, shape)
                    yield position - start, until - position, _to_frame(pixels)
                    position = until
                if following is None:
                    return

        shown = pieces()
        if (first := next(shown, None)) is None:
            raise VideoError(
                f"{path}: nothing is shown from {start} s on; choose an earlier moment"
            )
        _encode(out, chain([first], shown), reader.fps or 25.0)


def _encode(
    path: str | Path,
    stills: Iterable[tuple[float, float, Any]],
    fps: float,
    preset: str = "veryfast",
    crf: int = 18,
) -> None:
    """Encode (time, duration, rgb frame) with one thread, which makes libx264 reproducible."""
    base = Fraction(1, 90_000)
    with atomic_path(path) as temporary, av.open(f"file:{temporary}", "w", format="mp4") as sink:
        stream: Any = None
        shape, ticks = (0, 0), -1
        lengths: dict[int, int] = {}

        def mux(packets: Iterable[Any]) -> None:
            for packet in packets:  # the encoder forgets durations, and the last one counts
                packet.duration = lengths.pop(packet.pts, packet.duration)
                sink.mux(packet)

        for time, duration, frame in stills:
            if stream is None:
                shape = (frame.width, frame.height)
                if shape[0] % 2 or shape[1] % 2:
                    raise ValueError(f"H.264 needs an even width and height, got {shape}")
                rate = Fraction(fps).limit_denominator(10_000)
                options = {"crf": str(crf), "preset": preset, "bf": "0", "threads": "1"}
                # With its macroblock tree one file in some hundred comes out with other bytes.
                options["x264-params"] = "mbtree=0"
                stream = sink.add_stream("libx264", rate=rate, options=options)
                stream.width, stream.height = shape
                stream.pix_fmt = "yuv420p"
                stream.codec_context.thread_count = 1
                stream.codec_context.time_base = base
            if (frame.width, frame.height) != shape:
                raise ValueError(
                    f"frames must share one size: {shape}, then {(frame.width, frame.height)}"
                )
            frame = frame.reformat(format="yuv420p", **ONE_THREAD)
            ticks = max(round(time / base), ticks + 1)  # two frames never share a time
            frame.pts, frame.time_base = ticks, base
            lengths[ticks] = max(round(duration / base), 1)
            mux(stream.encode(frame))
        if stream is None:
            raise ValueError(f"{path}: there is no frame to write")
        mux(stream.encode(None))


def _to_frame(pixels: NDArray[np.uint8]) -> Any:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"a frame is (H, W, 3) uint8, got {pixels.shape} {pixels.dtype}")
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
