"""An uploaded video as the page needs it: checked, playable in a browser, with small pictures."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from av.error import FFmpegError
from numpy.typing import ArrayLike

from zsvg import ZsvgError
from zsvg.files import file_stem
from zsvg.report.svg import jpeg
from zsvg.video.decoding import VideoInfo
from zsvg.video.reading import probe
from zsvg.video.sampling import load_frames_at
from zsvg.video.writing import cut

from .visit import Limits

PREVIEW_MINUTES = 10.0
PREVIEW_SIDE = 854  # pixels of the longer side
FILM = 12  # pictures above a timeline
_THUMB = 128


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A video that a visitor has brought.

    Attributes:
        vid: Its name.
        path: The file as it came.
        shown: What a browser plays instead; the same file where it plays that.
        info: What is known about it.
        aspect: Width over height of the upright picture.
        film: Small pictures, evenly spread, as data addresses.
        note: What the visitor should know about it; may be empty.
    """

    vid: str
    path: Path
    shown: Path
    info: VideoInfo
    aspect: float
    film: tuple[str, ...]
    note: str = ""


def open_clip(file: str | Path, folder: Path, limits: Limits) -> Clip:
    """Check a video, keep it in a folder, and make what the page shows of it.

    Args:
        file: The uploaded file.
        folder: Where the page keeps it: uploads are deleted after a while.
        limits: What is taken.

    Raises:
        VideoError: The file is no usable video.
        ZsvgError: It is longer or larger than the page takes.
    """
    path = keep(file, folder)
    info = check(path, limits)
    note, shown = "", path
    if not plays(info):
        shown = path.with_name(f"{file_stem(path.name)}.preview.mp4")
        shown_seconds = min(info.duration, 60 * PREVIEW_MINUTES)
        note = f"Browsers do not play this file ({_kind(info)})"
        try:
            if not shown.exists():
                cut(path, 0.0, shown_seconds, shown, longest=PREVIEW_SIDE)
            note += ": you see a copy in H.264."
            if shown_seconds < info.duration:
                minutes = f"{PREVIEW_MINUTES:g} minutes"
                note += f" It holds the first {minutes}; questions look at all of it."
        except (OSError, FFmpegError) as error:  # a full disk takes the picture, not the answers
            shown = path
            note += f", and a copy cannot be written ({error.strerror}); questions work."
    upright = (info.width, info.height) if info.rotation % 180 == 0 else (info.height, info.width)
    return Clip(
        vid=path.stem,
        path=path,
        shown=shown,
        info=info,
        aspect=upright[0] / max(upright[1], 1),
        film=thumbnails(path, (np.arange(FILM) + 0.5) * info.duration / FILM),
        note=note,
    )


def keep(file: str | Path, folder: Path) -> Path:
    """Put a file into a folder under its own name; a link where the disk allows that."""
    source, kept = Path(file), folder / Path(file).name
    folder.mkdir(parents=True, exist_ok=True)
    if kept.exists() and kept.samefile(source):
        return kept
    kept.unlink(missing_ok=True)
    kept.with_name(f"{file_stem(kept.name)}.preview.mp4").unlink(missing_ok=True)
    try:
        os.link(source, kept)
    except OSError:
        shutil.copyfile(source, kept)
    return kept


def check(path: Path, limits: Limits) -> VideoInfo:
    """Probe a video that the page may take.

    Raises:
        VideoError: It is no usable video.
        ZsvgError: It is longer or larger than the page takes.
    """
    info = probe(path)
    if info.duration > 60 * limits.minutes:
        raise ZsvgError(
            f"{path.name} lasts {info.duration / 60:.0f} minutes; this page takes up to "
            f"{limits.minutes:g}, so cut it first"
        )
    if info.width * info.height > limits.pixels:
        raise ZsvgError(
            f"{path.name} has pictures of {info.width} x {info.height}; make them smaller first"
        )
    return info


def plays(info: VideoInfo) -> bool:
    """Whether every browser plays a video: H.264 in mp4, VP8, VP9 or AV1 in webm, 8 bit, 4:2:0.

    Turned videos are played by most, but with pictures as wide as they are coded; and players count
    by the clock of the file, which may begin elsewhere or jump.
    """
    if info.rotation or info.mirrored or info.clock_start or info.jumps:
        return False
    if info.pixel_format not in ("yuv420p", "yuvj420p"):
        return False
    suffix = info.path.suffix.lower()
    if suffix in (".mp4", ".m4v"):
        return info.codec == "h264"
    return suffix == ".webm" and info.codec in ("vp8", "vp9", "libvpx", "libvpx-vp9", "av1")


def thumbnails(path: Path, times: ArrayLike) -> tuple[str, ...]:
    """Return pictures at some times (seconds) as data addresses.

    They are square: style sheets draw them out to the shape of the video. Native pictures of a long
    list of times would not fit into memory.
    """
    wanted = np.asarray(times, dtype=np.float64)
    if not len(wanted):
        return ()
    pictures = load_frames_at(path, wanted, _THUMB, "squash", allow_truncated=True)
    return tuple(jpeg(picture, _THUMB) for picture in pictures)


def _kind(info: VideoInfo) -> str:
    words = [info.path.suffix.lstrip(".") or info.container, info.codec, info.pixel_format or ""]
    if info.rotation or info.mirrored:
        words.append("turned" if info.rotation else "mirrored")
    if info.clock_start or info.jumps:
        words.append("with a clock of its own")
    return ", ".join(word for word in words if word)
