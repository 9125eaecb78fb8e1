"""Pictures come out as players show them: turned, mirrored, and of one size where one is needed."""

from __future__ import annotations

import itertools
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from films import RATE, grey, seconds_shown

from zsvg.errors import VideoError
from zsvg.video.reading import decode_summary
from zsvg.video.sampling import load_frames_at, sample_frames
from zsvg.video.writing import cut, write_video

# All ways to lay a picture on its sides: (a, b, c, d) sends (x, y) to (a x + c y, b x + d y).
MATRICES = [
    *((a, 0, 0, d) for a, d in itertools.product((1, -1), repeat=2)),
    *((0, b, c, 0) for b, c in itertools.product((1, -1), repeat=2)),
]


def quarters() -> np.ndarray:
    """Return a 96 x 64 picture (w x h) whose quarters are of four greys."""
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:32, :48], pixels[:32, 48:], pixels[32:, :48], pixels[32:, 48:] = 40, 100, 160, 220
    return pixels


def corners(pixels: np.ndarray) -> list[list[int]]:
    """Return the greys of a picture's four quarters, to the nearest of those above."""
    height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
    parts = [[pixels[:height, :width], pixels[:height, width:]],
             [pixels[height:, :width], pixels[height:, width:]]]  # fmt: skip
    greys = (40, 100, 160, 220)
    return [[min(greys, key=lambda g: abs(g - part.mean())) for part in row] for row in parts]


def as_shown(a: int, b: int, c: int, d: int) -> list[list[int]]:
    """Return where the matrix puts each quarter, by its definition."""
    shown = [[0, 0], [0, 0]]
    for (y, x), value in zip(itertools.product((-1, 1), repeat=2), (40, 100, 160, 220),
                             strict=True):  # fmt: skip
        right, down = a * x + c * y, b * x + d * y
        shown[down > 0][right > 0] = value
    return shown


def turned(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    write_video(path, [quarters()] * 10, RATE)
    data = bytearray(path.read_bytes())
    place = data.find(b"tkhd")
    start = place + 8 + (32 if data[place + 4] else 20) + 16
    a, b, c, d = (number << 16 for number in matrix)
    struct.pack_into(">9i", data, start, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("matrix", MATRICES)
def test_every_display_matrix_is_obeyed(tmp_path, matrix):
    path = turned(tmp_path / "turned.mp4", matrix)
    (_, shown), *_ = sample_frames(path, fps=1, size=None)
    assert corners(shown) == as_shown(*matrix)
    assert shown.shape[:2] == ((64, 96) if matrix[0] else (96, 64))
    info = decode_summary(path)
    assert info.mirrored == (matrix[0] * matrix[3] - matrix[1] * matrix[2] < 0)
    pixels = np.rot90(quarters(), info.rotation // 90)
    assert corners(pixels[:, ::-1] if info.mirrored else pixels) == as_shown(*matrix)
    cut(path, 0, 0.5, tmp_path / "cut.mp4")
    assert corners(load_frames_at(tmp_path / "cut.mp4", [0.2], None)[0]) == as_shown(*matrix)
    # The same where the matrix stands in another container.
    other = tmp_path / "turned.mov"
    with av.open(str(path)) as source, av.open(str(other), "w") as sink:
        stream = sink.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                sink.mux(packet)
    (_, shown), *_ = sample_frames(other, fps=1, size=None)
    assert corners(shown) == as_shown(*matrix)


def call(path: Path, sizes: list[tuple[int, int]]) -> Path:
    """Write a film of five seconds in each size, as calls do when the line gets worse."""
    tick, raw = Fraction(1, RATE), path.with_suffix(".h264")
    with open(raw, "wb") as stream:
        for part, size in enumerate(sizes):
            encoder = av.CodecContext.create("libx264", "w")
            encoder.width, encoder.height, encoder.pix_fmt = *size, "yuv420p"
            encoder.framerate, encoder.time_base, encoder.options = RATE, tick, {"bf": "0"}
            packets = []
            for index in range(5 * RATE):
                pixels = grey(5 * part + index // RATE, size)
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts = index
                packets += encoder.encode(frame)
            for packet in packets + encoder.encode(None):
                stream.write(bytes(packet))
    with av.open(str(raw)) as source, av.open(str(path), "w") as sink:
        copied = sink.add_stream_from_template(source.streams.video[0])
        for index, packet in enumerate(p for p in source.demux(video=0) if p.size):
            packet.stream, packet.time_base = copied, tick
            packet.pts = packet.dts = index
            sink.mux(packet)
    return path


@pytest.mark.parametrize("suffix", [".mkv", ".ts"])
@pytest.mark.parametrize("sizes", [[(64, 48), (96, 64)], [(96, 64), (48, 64)]])
def test_pictures_that_change_their_size(tmp_path, suffix, sizes):
    path = call(tmp_path / f"call{suffix}", sizes)
    assert decode_summary(path).frames == 100
    assert seconds_shown(path) == [second for second in range(10) for _ in range(2)]
    pictures = load_frames_at(path, [2.5, 7.5], None)
    assert pictures.shape == (2, sizes[0][1], sizes[0][0], 3)
    centre = pictures[:, sizes[0][1] // 2, sizes[0][0] // 2].mean(-1)
    assert np.abs(centre - [30, 80]).max() < 4
    cut(path, 3, 7, tmp_path / "cut.mp4")
    info = decode_summary(tmp_path / "cut.mp4")
    assert (info.frames, info.width, info.height) == (40, *sizes[0])
    assert info.duration == pytest.approx(4)


def test_pictures_that_no_memory_holds_are_refused(tmp_path):
    path = tmp_path / "huge.mkv"
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream("mpeg4", rate=1)
        stream.width, stream.height, stream.pix_fmt = 8000, 6000, "yuv420p"
        sink.mux(stream.encode(av.VideoFrame(8000, 6000, "yuv420p")))
        sink.mux(stream.encode(None))
    with pytest.raises(VideoError, match=r"huge\.mkv: not one frame can be decoded"):
        list(sample_frames(path, fps=1, size=16))
