"""What a video file is, without keeping any frame of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from zsvg.video.decoding import Reader, VideoInfo


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
