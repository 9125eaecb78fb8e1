"""Opening a video file: which of its streams is the film, and whether bytes are missing."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import av
from av.error import FFmpegError
from av.stream import Disposition

from zsvg.errors import VideoError
from zsvg.places.urls import Url, place_of

REENCODE = "is it a video at all? Play it, or re-encode it with `ffmpeg -i FILE OUT.mp4`"

# Above 8192 x 4320, the largest that cameras write; a flipped bit can ask for gigabytes a picture.
_MOST_PIXELS = 40_000_000
_STILLS = frozenset({"mjpeg", "png", "bmp", "webp", "tiff", "jpegls", "jpeg2000", "ljpeg"})
_NO_FILM = Disposition.attached_pic | Disposition.timed_thumbnails


def open_container(path: str | Path) -> Any:
    """Open a file with PyAV; of one behind a URL, FFmpeg asks for the parts that it needs.

    Raises:
        VideoError: It is missing, empty, a still image or text, or FFmpeg knows no such container.
        RemoteError: The URL cannot be reached.
    """
    path = place_of(path)
    try:
        if not path.exists():
            raise VideoError(f"{path}: no such file; check the path")
        if not path.is_file():
            raise VideoError(f"{path}: not a file; give the path of one video")
        if path.stat().st_size == 0:
            raise VideoError(f"{path}: the file is empty; copy or download it again")
        # "file:" keeps a colon in a name from being read as a protocol, and the whitelist keeps
        # play lists from reaching for the network. Titles of old files are in any encoding.
        remote = isinstance(path, Url)
        options = {"protocol_whitelist": "none" if remote else "file"}
        source = path.open("rb") if remote else f"file:{path}"
        container = av.open(source, options=options, metadata_errors="replace")
    except (FFmpegError, OSError, ValueError) as error:
        raise VideoError(f"{path}: cannot be opened ({reason(error)}); {REENCODE}") from error
    name = container.format.name
    if name.endswith("_pipe") or name in {"image2", "ico"}:
        container.close()
        raise VideoError(f"{path}: a still image ({name}), not a video; give a video file")
    if name == "tty":  # FFmpeg "plays" any text file as a terminal recording
        container.close()
        raise VideoError(f"{path}: a text file, not a video; give a video file")
    return container


def film_of(container: Any, path: str | Path) -> Any:
    """Return the stream to watch: the default one, else FFmpeg's best; covers are not video.

    Raises:
        VideoError: There is none that can be decoded.
    """
    streams = [s for s in container.streams.video if not s.disposition & _NO_FILM]
    if not streams:
        kinds = sorted({stream.type for stream in container.streams}) or ["nothing"]
        raise VideoError(
            f"{path}: no video stream, found {', '.join(kinds)}; give a file with pictures"
        )
    # A cover that is not marked as one stands beside the film as a track of its own.
    streams = [s for s in streams if _codec(s) not in _STILLS] or streams
    defaults = [stream for stream in streams if stream.disposition & Disposition.default]
    stream = (defaults or [container.streams.best("video")])[0]
    return prepare(stream if stream in streams else streams[0], path)


def prepare(stream: Any, path: str | Path) -> Any:
    """Return the stream with its decoder set up.

    Raises:
        VideoError: FFmpeg has no decoder for it.
    """
    if stream.codec_context is None:
        raise VideoError(f"{path}: no decoder for this video's codec; re-encode as H.264")
    stream.thread_type = "AUTO"
    stream.codec_context.options = {"max_pixels": str(_MOST_PIXELS)}
    return stream


def packets(container: Any, streams: Any) -> Iterator[Any]:
    """Yield the packets of some streams in the order of the file, without those that only end it.

    Raises:
        FFmpegError: The file cannot be read on.
    """
    try:
        for packet in container.demux(streams):
            if packet.size or packet.dts is not None or packet.pts is not None:
                yield packet
    except IndexError:
        return  # at the end PyAV stumbles over streams that appeared on the way


def _codec(stream: Any) -> str | None:
    return None if stream.codec_context is None else stream.codec_context.name


def reason(error: BaseException | None) -> str:
    """Return FFmpeg's reason on one line, without the path, which the caller has named."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())


def ends_early(path: str | Path, format_name: str) -> bool | None:
    """Return whether a file has fewer bytes than its container says, None where that is unknown.

    A header that claims more seconds than there are pictures may be wrong; missing bytes are not.

    Args:
        path: The file.
        format_name: FFmpeg's name of the container.
    """
    for part, check in _CHECKS.items():
        if part in format_name.split(","):
            try:
                with place_of(path).open("rb") as file:
                    return check(file, place_of(path).stat().st_size)
            except (OSError, struct.error):
                return None
    return None


def _mp4(file: BinaryIO, size: int) -> bool | None:
    """Walk the boxes of the top level; each begins with its length and its kind."""
    place = 0
    while place + 8 <= size:
        file.seek(place)
        head = file.read(16)
        length = struct.unpack_from(">I", head)[0]
        if length == 1:
            length = struct.unpack_from(">Q", head, 8)[0]
        if length < 8:  # 0: to the end of the file
            return False if length == 0 else None
        place += length
    return place > size


def _matroska(file: BinaryIO, size: int) -> bool | None:
    """Read the length of the segment, which holds all but the first element."""
    found = _segment(file, 0)
    return None if found is None or found[1] is None else found[0] + found[1] > size


def recordings(path: str | Path) -> int:
    """Return how many Matroska files lie one after the other in a file; 0 where it is none."""
    place, count = 0, 0
    with place_of(path).open("rb") as file, suppress(struct.error):
        while (found := _segment(file, place)) is not None:
            count += 1
            if found[1] is None:
                break
            place = found[0] + found[1]
    return count


def _segment(file: BinaryIO, place: int) -> tuple[int, int | None] | None:
    """Return where the segment of a Matroska file begins, and its length if that is known.

    Args:
        file: The file.
        place: Where the Matroska file begins in it; None is returned where none does.
    """
    file.seek(place)
    head = file.read(128)
    if head[:4] != b"\x1a\x45\xdf\xa3":
        return None
    length, mark = _vint(head, 4)
    mark += length
    if head[mark : mark + 4] != b"\x18\x53\x80\x67":
        return None
    length, begin = _vint(head, mark + 4)
    unknown = length == (1 << 7 * (begin - mark - 4)) - 1  # written as it came, as live streams
    return place + begin, None if unknown else length


def _vint(data: bytes, place: int) -> tuple[int, int]:
    """Return a number of variable length and where it ends."""
    first = data[place] if place < len(data) else 0
    if not first:
        raise struct.error("no length")
    width = 9 - first.bit_length()
    return int.from_bytes(data[place : place + width], "big") & ((1 << 7 * width) - 1), (
        place + width
    )


def _avi(file: BinaryIO, size: int) -> bool | None:
    """Walk the RIFF chunks; large files have several."""
    place = 0
    while place + 12 <= size:
        file.seek(place)
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind != b"RIFF" or length == 0:  # a recorder that never came back to fix it
            return None if place == 0 else False
        place += 8 + length + length % 2
    return place > size + 1


def _flv(file: BinaryIO, size: int) -> bool | None:
    """Look whether the last tag is whole: its length stands behind it too."""
    if size < 15:
        return None
    file.seek(size - 4)
    length = struct.unpack(">I", file.read(4))[0]
    begin = size - 4 - length
    if length < 11 or begin < 9:
        return True
    file.seek(begin)
    kind, *payload = struct.unpack(">4B", file.read(4))
    return kind & 31 not in (8, 9, 18) or int.from_bytes(bytes(payload), "big") + 11 != length


def _asf(file: BinaryIO, size: int) -> bool | None:
    """Read the size of the file from its properties."""
    head = file.read(65_536)
    place = head.find(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"))
    if place < 0:
        return None
    claimed = struct.unpack_from("<Q", head, place + 40)[0]
    return None if claimed == 0 else claimed > size


_CHECKS = {"mp4": _mp4, "matroska": _matroska, "avi": _avi, "flv": _flv, "asf": _asf}
