"""One open video file: frames with the times at which they are shown, and damage.

The public interface is `zsvg.video`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from av.error import FFmpegError
from av.sidedata.sidedata import Type as SideData

from zsvg.errors import TruncatedVideoError, VideoError
from zsvg.places.urls import place_of
from zsvg.video.clock import LONGEST_STILL, presentable, timeline, usual_step
from zsvg.video.containers import REENCODE, film_of, open_container, packets, prepare, reason

TIME_TOLERANCE = 1e-6
"""Seconds by which two times may differ and still count as equal (float rounding of pts)."""
_SEEK_GAP = 2.0  # decoding two seconds on is about as fast as seeking to a key frame and back up


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What is known about a video file.

    Attributes:
        path: The file.
        duration: Seconds of what is shown: the header's where packets agree with it, else theirs;
            of a truncated file, until where it can be read.
        clock_start: What the file's own clock shows at time 0; 0 in most files.
        jumps: How often that clock jumps.
        first_frame_time: Presentation time of the first frame, seconds.
        last_frame_time: The same of the last frame, None until every frame has been decoded.
        frames: Number of frames, None until every frame has been decoded.
        width: Coded width in pixels, before rotation.
        height: Coded height in pixels, before rotation.
        rotation: Multiple of 90 degrees in (-180, 180]; turn counter-clockwise by it to show.
        mirrored: Whether left and right are exchanged, after turning, to show.
        fps: Average frame rate that the container claims, None when unknown.
        codec: FFmpeg's name of the codec.
        pixel_format: FFmpeg's name of how pixels are stored, such as "yuv420p"; None when unknown.
        container: FFmpeg's name of the container.
        stream: Index of the video stream that is read.
        timecode: What the camera's or editor's clock showed at the first frame, such as
            "01:00:00:00" (";" before the frames: drop-frame); None where the file does not say.
        sound: Whether there is a stream of sound.
        truncated_at: Seconds reached when the file ends early, None when it is whole.
    """

    path: Path
    duration: float
    clock_start: float = 0.0
    jumps: int = 0
    first_frame_time: float
    last_frame_time: float | None = None
    frames: int | None = None
    width: int
    height: int
    rotation: int
    mirrored: bool = False
    fps: float | None
    codec: str
    pixel_format: str | None = None
    container: str
    stream: int
    timecode: str | None = None
    sound: bool = False
    truncated_at: float | None = None


class Reader(AbstractContextManager["Reader"]):
    """One open file: the stream to watch, its timeline, and frames in display order."""

    def __init__(self, path: str | Path) -> None:
        self.path = place_of(path)
        self.timeline = timeline(path)
        self.container = open_container(path)
        try:
            self.stream = film_of(self.container, path)
        except BaseException:
            self.container.close()
            raise
        self.count = 0
        self.first: float | None = None
        self.last: float | None = None
        self.end = 0.0
        self.orientation = (0, False)
        self.truncated_at: float | None = None

    def __exit__(self, *exc: object) -> None:
        self.container.close()

    @property
    def fps(self) -> float | None:
        """Average frame rate that the container claims, None when it claims none."""
        rate = self.stream.average_rate
        return float(rate) if rate else None

    @property
    def duration(self) -> float:
        """Seconds until the end, as far as the file has been read."""
        return self.timeline.duration if self.truncated_at is None else self.truncated_at

    def frames(self, allow_truncated: bool) -> Iterator[tuple[float, Any]]:
        """Yield (presentation time, frame) from the current position to the end.

        Raises:
            TruncatedVideoError: Decoding failed, or bytes are missing at the end of the file.
            VideoError: Not one frame could be decoded.
        """
        failure: Exception | None = None
        previous: float | None = None
        step = usual_step(self.stream)
        # Decoder threads report an error in its turn, after the frames before it, so where a file
        # breaks does not depend on their number; what they hold back after it would.
        try:
            for shift, frame in self._decoded():
                time = self._time(frame, shift, None if previous is None else previous + step)
                if previous is not None:
                    time = max(time, previous)
                shown = float(frame.duration * self.stream.time_base) if frame.duration else 0.0
                if not 0.0 < shown <= LONGEST_STILL:
                    shown = step if previous is None or time <= previous else time - previous
                self.count += 1
                if self.first is None:
                    self.first = time
                    self.orientation = orientation_of(frame)
                previous = self.last = time
                self.end = time + shown
                yield time, frame
        except (FFmpegError, OSError, ValueError) as error:
            failure = error
        if self.first is None:
            if self.timeline.missing:
                raise VideoError(
                    f"{self.path}: the file ends before its first picture; copy it again"
                )
            detail = f" ({reason(failure)})" if failure else ""
            raise VideoError(f"{self.path}: not one frame can be decoded{detail}; {REENCODE}")
        if failure or self.timeline.missing:
            self.truncated_at = self.end = min(self.end, max(self.timeline.duration, step))
            if not allow_truncated:
                claimed = self.timeline.header
                of = "" if claimed is None else f" of {claimed:.2f} s"
                how = f"decoding fails ({reason(failure)})" if failure else "the file ends"
                raise TruncatedVideoError(
                    f"{self.path}: {how} at {self.end:.2f} s{of}; copy the file again, or keep "
                    "this part with allow_truncated=True (--allow-truncated)"
                ) from failure

    def _decoded(self) -> Iterator[tuple[float, Any]]:
        """Yield (seconds that the clock is ahead, frame); each piece of the clock by itself."""
        jumps = list(self.timeline.shifts)
        shift = jumps.pop(0)[1]
        number, shown, refused = 0, False, None
        base = float(self.stream.time_base)
        for packet in packets(self.container, self.stream):
            if jumps and number == jumps[0][0]:
                for frame in self._held_back(shown):
                    yield shift, frame
                shift, shown = jumps.pop(0)[1], False
            number += 1
            if not packet.size:
                continue  # the picture before it stays
            if not presentable(packet, base):
                packet.pts = packet.dts
            try:
                frames = packet.decode()
            except FFmpegError as error:
                if shown:
                    raise
                # A stream that was joined late begins between two key frames.
                refused = refused or error
                continue
            for frame in frames:
                shown = True
                yield shift, frame
        for frame in self._held_back(shown):
            shown = True
            yield shift, frame
        if not shown and refused is not None:
            raise refused

    def _held_back(self, shown: bool) -> Iterator[Any]:
        """Yield what the decoder still holds, and make it ready to begin anew."""
        try:
            yield from self.stream.decode(None)
        except FFmpegError:
            if shown:
                raise
        self.stream.codec_context.flush_buffers()

    def _time(self, frame: Any, shift: float, guess: float | None) -> float:
        # AVI stores only decoding times; FFmpeg's made-up presentation times jump back and forth
        # in files with packed B-frames, while frames do come out in display order.
        ticks = frame.dts if self.container.format.name == "avi" else frame.pts
        if ticks is None:
            ticks = frame.pts if frame.pts is not None else frame.dts
        if ticks is None:
            return guess or 0.0
        return float(ticks * (frame.time_base or self.stream.time_base)) - shift

    def seek(self, time: float) -> bool:
        """Go to a key frame at or before `time`; return whether the container can."""
        if not self.timeline.steady:
            return False
        try:
            self.container.seek(self._ticks(time), stream=self.stream, backward=True)
        except (FFmpegError, OSError):
            return False
        return True

    def _ticks(self, time: float) -> int:
        return max(int((time + self.timeline.start) / self.stream.time_base), 0)

    def decodes_on(self, position: float, time: float) -> bool:
        """Return whether seeking to `time` would lead no further than `position`.

        Key frames often lie ten seconds apart, so that a seek over three goes back by seven.
        """
        index = getattr(self.stream, "index_entries", None)
        ticks = self._ticks(time)
        # Where the header has no index, it covers no more than what has been read.
        if not index or index[len(index) - 1].timestamp < ticks:
            return False
        found = index.search_timestamp(ticks)
        if found < 0:
            return False
        landed = float(index[found].timestamp * self.stream.time_base)
        return landed - self.timeline.start <= position

    def reopen(self) -> None:
        """Start again at the first frame, for containers that seek badly."""
        index = self.stream.index
        self.container.close()
        self.container = open_container(self.path)
        self.stream = prepare(self.container.streams[index], self.path)

    def info(self) -> VideoInfo:
        """Describe the file as far as it has been decoded (at least one frame)."""
        context = self.stream.codec_context
        turns, mirrored = self.orientation
        tags = (self.stream, self.container, *self.container.streams)
        return VideoInfo(
            path=self.path,
            duration=self.duration,
            clock_start=self.timeline.start,
            jumps=len(self.timeline.shifts) - 1,
            first_frame_time=self.first or 0.0,
            last_frame_time=self.last,
            frames=self.count,
            width=context.width,
            height=context.height,
            rotation=90 * turns,
            mirrored=mirrored,
            fps=self.fps,
            codec=context.name,
            pixel_format=context.pix_fmt,
            container=self.container.format.name,
            stream=self.stream.index,
            timecode=next((m for one in tags if (m := one.metadata.get("timecode"))), None),
            sound=bool(self.container.streams.audio),
            truncated_at=self.truncated_at,
        )


class Cursor:
    """Finds the frame on display at rising times, by decoding on or by seeking.

    Attributes:
        current: (presentation time, frame) on display.
        next: The one after it, None at the end.
    """

    def __init__(self, reader: Reader, allow_truncated: bool) -> None:
        self.reader = reader
        self.allow_truncated = allow_truncated
        self.can_seek = reader.timeline.steady
        self._restart()

    def _restart(self) -> None:
        self.frames = self.reader.frames(self.allow_truncated)
        self.current: tuple[float, Any] = next(self.frames)
        self.next: tuple[float, Any] | None = next(self.frames, None)

    def _seek(self, time: float) -> bool:
        """Continue from a key frame at or before `time`; return whether that worked."""
        if not self.reader.seek(time):
            return False
        frames = self.reader.frames(self.allow_truncated)
        try:
            landed = next(frames, None)
            # Indices lie: some phone files call every frame a key frame.
            if landed is None or landed[0] > time + TIME_TOLERANCE or not landed[1].key_frame:
                return False
            self.frames, self.current, self.next = frames, landed, next(frames, None)
        except TruncatedVideoError:
            return False  # the walk from the start says where the file ends
        return True

    def advance(self) -> tuple[float, Any] | None:
        """Step to the next frame and return it; at the end return None and stay."""
        if self.next is not None:
            self.current, self.next = self.next, next(self.frames, None)
            return self.current
        return None

    def at(self, time: float) -> tuple[float, Any]:
        """Return (presentation time, frame) on display at `time`, not before the last answer."""
        limit = time + TIME_TOLERANCE
        reached = math.inf if self.next is None else self.next[0]
        far = self.can_seek and limit - reached > _SEEK_GAP
        if far and not self.reader.decodes_on(reached, time):
            self.can_seek = self._seek(time)
            if not self.can_seek:
                self.reader.reopen()
                self._restart()
        while self.next is not None and self.next[0] <= limit:
            self.advance()
        return self.current


def orientation_of(frame: Any) -> tuple[int, bool]:
    """Return how a frame is shown: quarter turns (-1 to 2, counter-clockwise) and mirrored after.

    The display matrix sends a pixel (x, y) to (a x + c y, b x + d y), y downwards; other angles
    than a camera's are taken for the nearest of those.
    """
    data = frame.side_data.get(SideData.DISPLAYMATRIX)
    if data is None:
        return 0, False
    (a, b, _), (c, d, _), _ = np.frombuffer(bytes(data), np.int32)[:9].reshape(3, 3).tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        leftwards, upwards = a < 0, d < 0
        return (2 if upwards else 0), leftwards != upwards
    leftwards, upwards = c < 0, b < 0
    return (1 if upwards else -1), leftwards == upwards
