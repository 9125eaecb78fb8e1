"""A video as the page needs it: checked, playable in a browser, with small pictures."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from av.error import FFmpegError
from numpy.typing import ArrayLike

from zsvg import ZsvgError
from zsvg.files import file_stem, sha256_json
from zsvg.report.svg import jpeg
from zsvg.video.decoding import VideoInfo
from zsvg.video.previews import Span, preview, remux
from zsvg.video.reading import probe
from zsvg.video.sampling import load_frames_at

from .visit import Limits

WHOLE_MINUTES = 10.0  # of a video that is converted whole, whatever its pictures are like
WHOLE_PIXELS = 1.5e10  # in all pictures of a longer one that is: ten minutes of 1280 x 720
AROUND = 5.0  # seconds before and after a moment that a copy shows in full
EVERY = 4.0  # seconds between the other pictures of it
PREVIEW_SIDE = 854  # pixels of the longer side
FILM = 12  # pictures above a timeline
_THUMB = 128


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A video that a visitor looks at.

    Attributes:
        vid: Its name.
        path: The file itself.
        info: What is known about it.
        aspect: Width over height of the upright picture.
        film: Small pictures, evenly spread, as data addresses.
        key: In the names of the files that browsers play of it, and of no other.
    """

    vid: str
    path: Path
    key: str
    info: VideoInfo
    aspect: float
    film: tuple[str, ...]

    @property
    def plays(self) -> bool:
        """Whether browsers play the file itself."""
        return plays(self.info)

    @property
    def note(self) -> str:
        """What the visitor should know about it; may be empty."""
        if self.plays:
            return ""
        return f"Browsers do not play this file ({_kind(self.info)}): it is converted to be seen."

    @property
    def thinned(self) -> bool:
        """Whether a copy shows in full only what is around the moments."""
        info = self.info
        if info.duration <= 60 * WHOLE_MINUTES or self.plays or remuxes(info):
            return False
        pixels = info.width * info.height * info.duration * (info.fps or 25.0)
        return pixels > WHOLE_PIXELS


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a browser plays.

    Attributes:
        path: The video itself, or a copy.
        note: What the visitor should know about it; may be empty.
    """

    path: Path
    note: str = ""


def open_clip(file: str | Path, limits: Limits, vid: str = "") -> Clip:
    """Check a video, and make small pictures of it.

    Args:
        file: The video; of a link, the file that it leads to.
        limits: What is taken.
        vid: Its name; "": that of the file.

    Raises:
        VideoError: The file is no usable video.
        ZsvgError: It is longer or larger than the page takes.
    """
    path = Path(file).resolve()
    info = check(path, limits)
    upright = (info.width, info.height) if info.rotation % 180 == 0 else (info.height, info.width)
    state = path.stat()
    return Clip(
        vid=vid or Path(file).stem,
        path=path,
        key=sha256_json([str(path), state.st_size, state.st_mtime_ns])[:16],
        info=info,
        aspect=upright[0] / max(upright[1], 1),
        film=thumbnails(path, (np.arange(FILM) + 0.5) * info.duration / FILM),
    )


def show(
    clip: Clip,
    folder: Path,
    moments: Iterable[tuple[float, float]] = (),
    on_progress: Callable[[float, float], object] | None = None,
) -> Shown:
    """Return what a browser plays of a video: itself where it can, else a copy.

    H.264 in another container is copied whole without being encoded again. Other videos are
    converted: short ones whole, long ones around the moments, with a picture now and then between.

    Args:
        clip: The video.
        folder: Where copies go; names of files tell contents apart.
        moments: (start, end) seconds of what will be looked at.
        on_progress: Called with seconds done and in all.
    """
    info = clip.info
    spans = _spans(clip, moments) if clip.thinned else ()
    name = f"{file_stem(clip.vid)}-{clip.key}"
    if clip.plays:
        return Shown(path=_link(clip.path, folder / f"{name}{clip.path.suffix.lower()}"))
    why = f"Browsers do not play this file ({_kind(info)})"
    copy = folder / sha256_json(spans)[:16] / f"{name}.mp4"
    try:
        if not copy.exists() and not (remuxes(info) and remux(clip.path, copy)):
            preview(
                clip.path,
                copy,
                spans=spans if clip.thinned else None,
                every=EVERY,
                longest=PREVIEW_SIDE,
                on_progress=on_progress,
            )
    except (OSError, FFmpegError) as error:  # a full disk takes the picture, not the answers
        why += f", and a copy cannot be written ({error.strerror}); questions work."
        place = folder / f"{name}{clip.path.suffix.lower()}"
        return Shown(path=_link(clip.path, place), note=why)
    why += ": you see a copy in H.264."
    if clip.thinned:
        why += f" Around the moments it shows everything, elsewhere a picture every {EVERY:g} s."
    return Shown(path=copy, note=why)


def keep(file: str | Path, folder: Path) -> Path:
    """Put an uploaded file into a folder under its own name; linked where the disk allows that.

    Uploads are deleted after a while.
    """
    source, kept = Path(file).resolve(), folder / Path(file).name
    folder.mkdir(parents=True, exist_ok=True)
    if kept.exists() and kept.samefile(source):
        return kept
    kept.unlink(missing_ok=True)
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
    if not _plain(info):
        return False
    suffix = info.path.suffix.lower()
    if suffix in (".mp4", ".m4v"):
        return info.codec == "h264"
    return suffix == ".webm" and info.codec in ("vp8", "vp9", "libvpx", "libvpx-vp9", "av1")


def remuxes(info: VideoInfo) -> bool:
    """Whether browsers play the pictures of a file, but not its container."""
    return _plain(info) and info.codec == "h264"


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


def _plain(info: VideoInfo) -> bool:
    turned = info.rotation or info.mirrored or info.clock_start or info.jumps
    return not turned and info.pixel_format in ("yuv420p", "yuvj420p")


def _spans(clip: Clip, moments: Iterable[tuple[float, float]]) -> tuple[Span, ...]:
    """Return what a thinned copy shows in full: around the moments, or else the beginning."""
    room = 60 * WHOLE_MINUTES
    duration = clip.info.duration
    spans: list[Span] = []
    for start, end in moments:
        span = (max(start - AROUND, 0.0), min(end + AROUND, duration))
        room -= span[1] - span[0]
        if room < 0:
            break
        spans.append(span)
    return tuple(sorted(spans)) or ((0.0, min(60.0, duration)),)


def _link(source: Path, place: Path) -> Path:
    """Return a link to a file, from where the server may hand out copies."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.is_symlink():
        place.symlink_to(source)
    return place


def _kind(info: VideoInfo) -> str:
    words = [info.path.suffix.lstrip(".") or info.container, info.codec, info.pixel_format or ""]
    if info.rotation or info.mirrored:
        words.append("turned" if info.rotation else "mirrored")
    if info.clock_start or info.jumps:
        words.append("with a clock of its own")
    return ", ".join(word for word in words if word)
