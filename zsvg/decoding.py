"""One open video file: which stream, what the header claims, frames with their times, damage.

`zsvg.video` is the public door; this module is what it is built on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError
from av.stream import Disposition

from zsvg.errors import TruncatedVideoError, VideoError

TIME_TOLERANCE = 1e-6
"""Seconds by which two times may differ and still count as equal (float rounding of pts)."""
REENCODE = "is it a video at all? Play it, or re-encode it with `ffmpeg -i FILE OUT.mp4`"
_SEEK_GAP = 2.0  # decoding two seconds on is about as fast as seeking to a key frame and back up
_PROGRAM_STREAMS = frozenset({"mpegts", "mpeg"})  # their clocks start anywhere: players subtract it
_ELEMENTARY = frozenset({"h264", "hevc", "m4v", "mpegvideo", "mjpeg", "av1", "obu", "vc1"})


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What is known about a video file.

    Attributes:
        path: The file.
        duration: Seconds; the header's, else the end of the last frame (also when truncated).
        header_duration: Seconds that the container claims, None when it claims nothing.
        first_frame_time: Presentation time of the first frame, seconds.
        last_frame_time: The same of the last frame, None until every frame has been decoded.
        frames: Number of frames, None until every frame has been decoded.
        width: Coded width in pixels, before rotation.
        height: Coded height in pixels, before rotation.
        rotation: Multiple of 90 degrees in (-180, 180]; turn counter-clockwise by it to show.
        fps: Average frame rate that the container claims, None when unknown.
        codec: FFmpeg's name of the codec.
        pixel_format: FFmpeg's name of how pixels are stored, such as "yuv420p"; None when unknown.
        container: FFmpeg's name of the container.
        stream: Index of the video stream that is read.
        truncated_at: Seconds reached when the file ends early, None when it is whole.
    """

    path: Path
    duration: float
    header_duration: float | None
    first_frame_time: float
    last_frame_time: float | None = None
    frames: int | None = None
    width: int
    height: int
    rotation: int
    fps: float | None
    codec: str
    pixel_format: str | None = None
    container: str
    stream: int
    truncated_at: float | None = None


class Reader(AbstractContextManager["Reader"]):
    """One open file: the chosen stream, its header, and frames in display order."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise VideoError(f"{path}: no such file; check the path")
        if not self.path.is_file():
            raise VideoError(f"{path}: not a file; give the path of one video")
        if self.path.stat().st_size == 0:
            raise VideoError(f"{path}: the file is empty; copy or download it again")
        self.container = self._open()
        try:
            self.stream = self._choose_stream()
        except BaseException:
            self.container.close()
            raise
        format_name = self.container.format.name
        self.offset = 0.0
        if format_name in _PROGRAM_STREAMS and self.container.start_time is not None:
            self.offset = self.container.start_time / av.time_base
        claimed = self.container.duration
        known = claimed is not None and claimed > 0 and format_name not in _ELEMENTARY
        self.header_duration: float | None = claimed / av.time_base if known else None
        self.count = 0
        self.first: float | None = None
        self.last: float | None = None
        self.end = 0.0
        self.rotation = 0
        self.truncated_at: float | None = None

    def __exit__(self, *exc: object) -> None:
        self.container.close()

    def _open(self) -> Any:
        try:
            # "file:" keeps a colon in a name from being read as a protocol, and the whitelist
            # keeps play lists from reaching for the network.
            return av.open(f"file:{self.path}", options={"protocol_whitelist": "file"})
        except (FFmpegError, OSError) as error:
            raise VideoError(
                f"{self.path}: cannot be opened ({reason(error)}); {REENCODE}"
            ) from error

    def _choose_stream(self) -> Any:
        name = self.container.format.name
        if name.endswith("_pipe") or name in {"image2", "ico"}:
            raise VideoError(f"{self.path}: a still image ({name}), not a video; give a video file")
        if name == "tty":  # FFmpeg "plays" any text file as a terminal recording
            raise VideoError(f"{self.path}: a text file, not a video; give a video file")
        streams = [
            stream
            for stream in self.container.streams.video
            if not stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails)
        ]
        if not streams:
            kinds = sorted({stream.type for stream in self.container.streams}) or ["nothing"]
            raise VideoError(
                f"{self.path}: no video stream, found {', '.join(kinds)}; give a file with pictures"
            )
        defaults = [stream for stream in streams if stream.disposition & Disposition.default]
        stream = (defaults or [self.container.streams.best("video")])[0]
        if stream not in streams:
            stream = streams[0]
        if stream.codec_context is None:
            raise VideoError(f"{self.path}: no decoder for this video's codec; re-encode as H.264")
        stream.thread_type = "AUTO"
        return stream

    @property
    def fps(self) -> float | None:
        """Average frame rate that the container claims, None when it claims none."""
        rate = self.stream.average_rate
        return float(rate) if rate else None

    def expected_end(self) -> float | None:
        """Return when the last frame should end: sound may outlive the pictures."""
        if self.header_duration is None:
            return None
        if self.stream.duration:
            start = self.stream.start_time or 0
            stream_end = float((start + self.stream.duration) * self.stream.time_base) - self.offset
            return min(stream_end, self.header_duration)
        clock = self.stream.metadata.get("DURATION", "").split(":")  # Matroska, per stream
        if len(clock) == 3:
            try:
                written = float(clock[0]) * 3600 + float(clock[1]) * 60 + float(clock[2])
            except ValueError:
                return self.header_duration
            return min(written, self.header_duration)
        return self.header_duration

    def frames(self, allow_truncated: bool) -> Iterator[tuple[float, Any]]:
        """Yield (presentation time, frame) from the current position to the end.

        Raises:
            TruncatedVideoError: Decoding failed, or the file ends well before its header says.
            VideoError: Not one frame could be decoded.
        """
        failure: Exception | None = None
        previous: float | None = None
        step = 1.0 / (self.fps or 25.0)
        decoded = self.container.decode(self.stream)
        while True:
            # Decoder threads report an error in its turn, after the frames before it, so where a
            # file breaks does not depend on their number; what they hold back after it would.
            try:
                frame = next(decoded)
            except StopIteration:
                break
            except (FFmpegError, OSError, ValueError) as error:
                failure = error
                break
            time = self._time(frame, None if previous is None else previous + step)
            if previous is not None:
                time = max(time, previous)
            shown = float(frame.duration * self.stream.time_base) if frame.duration else 0.0
            if shown <= 0.0:
                shown = step if previous is None or time <= previous else time - previous
            self.count += 1
            if self.first is None:
                self.first = time
                self.rotation = _quarter_turns(frame) * 90
            previous = self.last = time
            self.end = time + shown
            yield time, frame
        if self.first is None:
            detail = f" ({reason(failure)})" if failure else ""
            raise VideoError(f"{self.path}: not one frame can be decoded{detail}; {REENCODE}")
        expected = self.expected_end()
        short = expected is not None and expected - self.end > max(1.0, 0.05 * expected)
        if failure or short:
            self.truncated_at = self.end
            if not allow_truncated:
                of = "" if expected is None else f" of {expected:.2f} s"
                how = f"decoding fails ({reason(failure)})" if failure else "the file ends"
                raise TruncatedVideoError(
                    f"{self.path}: {how} at {self.end:.2f} s{of}; copy the file again, or keep "
                    "this part with allow_truncated=True (--allow-truncated)"
                ) from failure

    def _time(self, frame: Any, guess: float | None) -> float:
        # AVI stores only decoding times; FFmpeg's made-up presentation times jump back and forth
        # in files with packed B-frames, while frames do come out in display order.
        ticks = frame.dts if self.container.format.name == "avi" else frame.pts
        if ticks is None:
            ticks = frame.pts if frame.pts is not None else frame.dts
        if ticks is None:
            return guess or 0.0
        return float(ticks * (frame.time_base or self.stream.time_base)) - self.offset

    def seek(self, time: float) -> bool:
        """Go to a key frame at or before `time`; return whether the container can."""
        ticks = max(int((time + self.offset) / self.stream.time_base), 0)
        try:
            self.container.seek(ticks, stream=self.stream, backward=True)
        except (FFmpegError, OSError):
            return False
        return True

    def decodes_on(self, position: float, time: float) -> bool:
        """Return whether seeking to `time` would lead no further than `position`.

        Key frames often lie ten seconds apart, so that a seek over three goes back by seven.
        """
        index = getattr(self.stream, "index_entries", None)
        ticks = int((time + self.offset) / self.stream.time_base)
        # Where the header has no index, it covers no more than what has been read.
        if not index or index[len(index) - 1].timestamp < ticks:
            return False
        found = index.search_timestamp(ticks)
        if found < 0:
            return False
        return float(index[found].timestamp * self.stream.time_base) - self.offset <= position

    def reopen(self) -> None:
        """Start again at the first frame, for containers that seek badly."""
        index = self.stream.index
        self.container.close()
        self.container = self._open()
        self.stream = self.container.streams[index]
        self.stream.thread_type = "AUTO"

    def info(self) -> VideoInfo:
        """Describe the file as far as it has been decoded (at least one frame)."""
        duration = self.header_duration or self.end
        if self.truncated_at is not None:
            duration = self.truncated_at
        context = self.stream.codec_context
        return VideoInfo(
            path=self.path,
            duration=duration,
            header_duration=self.header_duration,
            first_frame_time=self.first or 0.0,
            last_frame_time=self.last,
            frames=self.count,
            width=context.width,
            height=context.height,
            rotation=self.rotation,
            fps=self.fps,
            codec=context.name,
            pixel_format=context.pix_fmt,
            container=self.container.format.name,
            stream=self.stream.index,
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
        self.can_seek = True
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


def _quarter_turns(frame: Any) -> int:
    turns = round((frame.rotation or 0) / 90) % 4
    return turns - 4 if turns == 3 else turns  # -90 is what players and PyAV call 270


def reason(error: BaseException | None) -> str:
    """Return FFmpeg's reason on one line, without the path, which the caller has named."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())
