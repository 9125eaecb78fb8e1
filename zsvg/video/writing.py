"""Writing videos: clips cut out of others, and rendered frames; the same bytes each time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from zsvg.errors import VideoError
from zsvg.files import atomic_path
from zsvg.video.decoding import Cursor, Reader
from zsvg.video.pictures import (
    ONE_THREAD,
    even,
    fit,
    render,
    within,
)


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
    encode(path, stills, fps, preset, crf)


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

        pieces = stretch(cursor, start, end, longest)
        shown = fitted((time - start, length, pixels) for time, length, pixels in pieces)
        if (first := next(shown, None)) is None:
            raise VideoError(
                f"{path}: nothing is shown from {start} s on; choose an earlier moment"
            )
        encode(out, chain([first], shown), reader.fps or 25.0)


def stretch(
    cursor: Cursor, start: float, end: float, longest: int | None = None, every: float = 0.0
) -> Iterator[tuple[float, float, NDArray[np.uint8]]]:
    """Yield (time, duration, upright rgb picture) of what is shown in [start, end) seconds.

    Args:
        cursor: On the video; it is moved on.
        start: First second; the first picture also stands for the time before it.
        end: Second after the last.
        longest: Pixels of the longer side, above which pictures are made smaller; None keeps all.
        every: At least so many seconds from one picture to the next; 0: all of them.
    """
    reader, position = cursor.reader, start
    cursor.at(start)
    while position < end:
        frame, last = cursor.current[1], cursor.next is None
        if last:
            until = min(end, max(reader.end, reader.duration))
        elif every:
            until = min(end, position + every)
            cursor.at(until)
        else:
            following = cursor.advance()
            until = min(end, following[0]) if following else end
        if until > position:
            frame = frame if longest is None else within(frame, longest)
            yield position, until - position, even(render(frame, None, "squash"))
            position = until
        if last:
            return


def fitted(
    pieces: Iterable[tuple[float, float, NDArray[np.uint8]]],
) -> Iterator[tuple[float, float, Any]]:
    """Yield (time, duration, frame) of pictures; all are fitted into the size of the first."""
    shape: tuple[int, ...] | None = None
    for time, length, pixels in pieces:
        shape = shape or pixels.shape[:2]
        yield time, length, _to_frame(fit(pixels, shape))


def encode(
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
