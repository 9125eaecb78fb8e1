"""Tiny films whose picture tells its second: grey 10 + 10 s at second s of what they show."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from zsvg.video.sampling import sample_frames

RATE = 10
SIZE = (64, 48)
CODECS = {".webm": "libvpx", ".wmv": "wmv2", ".avi": "mpeg4", ".mpg": "mpeg2video"}
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}


def grey(second: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Return the picture of a second."""
    return np.full((size[1], size[0], 3), 10 + 10 * second, np.uint8)


def film(
    path: Path,
    seconds: Iterable[int] = range(10),
    *,
    late: float = 0.0,
    at: Sequence[float] | None = None,
    last: float | None = None,
    sound: tuple[float, float] | None = None,
    codec: str | None = None,
    b_frames: int = 0,
    title: str | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a film of ten pictures a second; key frames a second apart.

    Args:
        path: The suffix says the container.
        seconds: What is shown, a second each.
        late: What the clock shows at the first picture.
        at: When each of these seconds begins instead, by the clock.
        last: How long the last picture is said to stand, seconds.
        sound: (first, last) second of silence, by the clock.
        codec: Another than the usual one of the container.
        b_frames: Pictures that wait for later ones.
        title: In the metadata.
        options: Of the muxer.
    """
    shown = list(seconds)
    begins = at or [late + index for index in range(len(shown))]
    form = {".wmv": "asf", ".mpg": "mpeg", ".ts": "mpegts"}.get(path.suffix)
    with av.open(str(path), "w", format=form, options=options or {}) as sink:
        if title:
            sink.metadata["title"] = title
        video = sink.add_stream(codec or CODECS.get(path.suffix, "libx264"), rate=RATE)
        (video.width, video.height), video.pix_fmt = SIZE, "yuv420p"
        video.gop_size = RATE
        if video.codec.name == "libx264":
            video.options = {"bf": str(b_frames)}
        else:
            video.max_b_frames = b_frames
        audio = None
        if sound is not None:
            audio = sink.add_stream("wmav2" if path.suffix == ".wmv" else "aac", rate=44100)
            audio.bit_rate = 64_000
            audio.layout = "stereo"
        packets = []
        for second, begin in zip(shown, begins, strict=True):
            for tenth in range(RATE):
                frame = av.VideoFrame.from_ndarray(grey(second), format="rgb24")
                frame.time_base = Fraction(1, RATE)
                frame.pts = round((begin - begins[0]) * RATE) + tenth
                packets += video.encode(frame)
        packets += video.encode(None)
        if last is not None:
            packets[-1].duration = round(last / packets[-1].time_base)
        for packet in packets:  # encoders do not take clocks that begin anywhere
            ticks = round(begins[0] / packet.time_base)
            packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
            sink.mux(packet)
        if audio is not None and sound is not None:
            begin, end = (round(44100 * time) for time in sound)
            for pts in range(begin, end, 1024):
                silence = av.AudioFrame.from_ndarray(
                    np.zeros((2, 1024), np.float32), "fltp", "stereo"
                )
                silence.sample_rate, silence.pts = 44100, pts
                sink.mux(audio.encode(silence))
            sink.mux(audio.encode(None))
    return path


def join(path: Path, *pieces: Path) -> Path:
    """Write files one after the other into one, as `cat` does."""
    path.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    return path


def patch(path: Path, name: bytes, offset: int, form: str, value: float) -> Path:
    """Overwrite a number `offset` bytes after every place where `name` stands."""
    data = bytearray(path.read_bytes())
    place = data.find(name)
    assert place >= 0, name
    while place >= 0:
        struct.pack_into(form, data, place + offset, value)
        place = data.find(name, place + 1)
    path.write_bytes(data)
    return path


def seconds_shown(path: Path, fps: float = 2.0, **options: object) -> list[int]:
    """Return which second of the film each clip shows."""
    sampler = sample_frames(path, fps=fps, size=16, **options)  # type: ignore[arg-type]
    return [round((float(pixels.mean()) - 10) / 10) for _, pixels in sampler]
