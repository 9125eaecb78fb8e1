"""A file's time is that of what it shows, whatever its clock and its header say."""

from __future__ import annotations

import json
import logging
import struct
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from films import FRAGMENTS, RATE, film, grey, join, patch, seconds_shown

from zsvg.errors import TruncatedVideoError
from zsvg.video.clock import Timeline, timeline
from zsvg.video.reading import decode_summary, probe
from zsvg.video.sampling import clip_count, load_frames_at
from zsvg.video.writing import cut

TWICE = [second for second in range(10) for _ in range(2)]  # ten seconds at two clips a second
CONTAINERS = (".mp4", ".mov", ".mkv", ".webm", ".flv", ".ts", ".mpg", ".wmv")


def second_at(path: Path, *times: float) -> list[int]:
    pictures = load_frames_at(path, times, 16, allow_truncated=True)
    return [round((float(picture.mean()) - 10) / 10) for picture in pictures]


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    own = (record for record in caplog.records if record.name.startswith("zsvg"))
    return [record.getMessage() for record in own if record.levelno >= logging.WARNING]


# --- the clock begins elsewhere --------------------------------------------------------------


@pytest.mark.parametrize("suffix", CONTAINERS)
@pytest.mark.parametrize("late", [1800.0, 40_000.0, 5.0])
def test_a_clock_that_begins_late_is_taken_off(tmp_path, suffix, late):
    path = film(tmp_path / f"late{suffix}", late=late)
    assert seconds_shown(path) == TWICE
    info = decode_summary(path)
    assert info.duration == pytest.approx(10, abs=0.15)
    assert info.first_frame_time == pytest.approx(0, abs=0.05)
    assert info.clock_start == pytest.approx(late, abs=0.2)
    assert probe(path).duration == info.duration
    assert second_at(path, 7.5, 2.5) == [7, 2]
    cut(path, 3.0, 5.0, tmp_path / "cut.mp4")
    assert seconds_shown(tmp_path / "cut.mp4") == [3, 3, 4, 4]


def test_pieces_of_dash_begin_with_their_first_picture(tmp_path):
    whole = film(tmp_path / "whole.mp4", options=FRAGMENTS)
    data, boxes, place = whole.read_bytes(), [], 0
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        boxes.append((data[place + 4 : place + 8], data[place : place + length]))
        place += length
    head = b"".join(box for kind, box in boxes if kind in (b"ftyp", b"moov"))
    moving = [box for kind, box in boxes if kind in (b"moof", b"mdat")]
    piece = tmp_path / "piece.mp4"
    piece.write_bytes(head + b"".join(moving[2 * 4 :]))  # from second 4 on
    assert seconds_shown(piece) == TWICE[8:]
    assert probe(piece).clock_start == pytest.approx(4)


def test_a_small_delay_stays(tmp_path):
    for suffix in (".mkv", ".webm"):
        path = film(tmp_path / f"delay{suffix}", range(4), late=0.4)
        info = decode_summary(path)
        assert info.first_frame_time == pytest.approx(0.4)
        assert info.clock_start == 0


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_pictures_long_after_the_sound_begin_with_themselves(tmp_path, suffix):
    path = film(tmp_path / f"far{suffix}", late=600.0, sound=(0.0, 5.0))
    assert seconds_shown(path) == TWICE
    # But where sound leads up to them, it belongs to the film.
    path = film(tmp_path / f"near{suffix}", range(4), late=30.0, sound=(0.0, 34.0))
    assert seconds_shown(path, fps=1) == [0] * 30 + [0, 1, 2, 3]


# --- the clock jumps -------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".ts", ".mpg", ".mkv", ".flv"])
def test_a_clock_that_begins_again_goes_on(tmp_path, suffix, caplog):
    first = film(tmp_path / f"1{suffix}", range(5))
    second = film(tmp_path / f"2{suffix}", range(5, 10))
    path = tmp_path / f"day{suffix}"
    head = 13 if suffix == ".flv" else 0  # the header of a second file in one is no tag
    path.write_bytes(first.read_bytes() + second.read_bytes()[head:])
    assert seconds_shown(path) == TWICE
    info = decode_summary(path)
    assert info.duration == pytest.approx(10, abs=0.15)
    assert info.jumps == 1
    (line,) = warnings_of(caplog)
    assert f"{path}: its clock jumps once (at 5.00 s by -5.00 s)" in line
    assert second_at(path, 8.5, 1.5, 6.5) == [8, 1, 6]
    cut(path, 4.0, 7.0, tmp_path / "cut.mp4")
    assert seconds_shown(tmp_path / "cut.mp4", fps=1) == [4, 5, 6]


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_b_frames_across_a_jump_are_all_shown(tmp_path, codec):
    pieces = [
        film(tmp_path / f"{n}.ts", range(2 * n, 2 * n + 2), late=50.0 * (9 - n), codec=codec,
             b_frames=2)
        for n in range(3)
    ]  # fmt: skip
    path = join(tmp_path / "all.ts", *pieces)
    assert decode_summary(path).frames == 60
    assert seconds_shown(path) == TWICE[:12]


@pytest.mark.parametrize("suffix", [".ts", ".flv"])
def test_minutes_that_a_broadcast_lost_are_no_still(tmp_path, suffix):
    at = [0, 1, 2, 3, 4, 305, 306, 307, 308, 309]
    path = film(tmp_path / f"lost{suffix}", range(10), at=at)
    assert seconds_shown(path) == TWICE
    assert decode_summary(path).jumps == 1


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_minutes_of_one_picture_are_content_and_hours_are_not(tmp_path, suffix):
    path = film(tmp_path / f"screen{suffix}", range(4), at=[0, 1, 302, 303])
    assert seconds_shown(path, fps=1) == [0, 1, *[1] * 300, 2, 3]
    path = film(tmp_path / f"hours{suffix}", range(4), at=[0, 1, 40_000, 40_001])
    assert seconds_shown(path) == TWICE[:8]
    assert decode_summary(path).jumps == 1


def test_a_stream_that_was_joined_between_key_frames(tmp_path):
    whole = film(tmp_path / "whole.ts").read_bytes()
    middle = len(whole) // 188 // 2 * 188
    path = tmp_path / "middle.ts"
    path.write_bytes(whole[middle:])
    shown = seconds_shown(path)
    assert shown[-2:] == [9, 9]
    assert set(shown) == set(range(shown[0], 10))
    assert 2 <= shown[0] <= 8


# --- the header claims something else --------------------------------------------------------


def claim(path: Path, seconds: float) -> Path:
    """Make the header of a film claim another length."""
    if path.suffix == ".flv":
        return patch(path, b"duration", 9, ">d", seconds)
    if path.suffix == ".mkv":
        return patch(path, b"\x44\x89\x88", 3, ">d", 1000 * seconds)
    if path.suffix == ".avi":
        patch(path, b"avih", 24, "<I", round(RATE * seconds))
        return patch(path, b"strh", 40, "<I", round(RATE * seconds))
    for name, offset, scale in ((b"mvhd", 20, 1000), (b"tkhd", 24, 1000), (b"mdhd", 20, 10240)):
        patch(path, name, offset, ">I", round(scale * seconds))
    return path


@pytest.mark.parametrize("suffix", [".flv", ".mkv", ".mp4", ".avi"])
@pytest.mark.parametrize("seconds", [2.5, 40.0])
def test_frames_win_over_the_header(tmp_path, suffix, seconds, caplog):
    path = film(tmp_path / f"lies{suffix}", options={"use_editlist": "0"})
    claim(path, seconds)
    assert seconds_shown(path) == TWICE
    assert probe(path).duration == pytest.approx(10, abs=0.15)
    told = warnings_of(caplog)
    if suffix in (".flv", ".mkv"):  # the others' readers look at the frames by themselves
        assert [f"its header claims {seconds:.2f} s" in line for line in told] == [True]
    assert all(str(path) in line for line in told)


@pytest.mark.parametrize("seconds", [2_147_483.647, 0.0, -5.0])
def test_lengths_that_no_film_has(tmp_path, seconds):
    path = claim(film(tmp_path / "odd.flv"), seconds)
    assert seconds_shown(path) == TWICE
    assert probe(path).duration == pytest.approx(10, abs=0.15)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".flv", ".wmv"])
def test_missing_bytes_are_damage(tmp_path, suffix):
    options = {"movflags": "faststart"} if suffix == ".mp4" else None
    whole = film(tmp_path / f"whole{suffix}", options=options)
    assert seconds_shown(whole) == TWICE
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    with pytest.raises(TruncatedVideoError, match=r"cut\S+: .* at \d\.\d\d s"):
        seconds_shown(path)
    kept = seconds_shown(path, allow_truncated=True)
    assert kept == TWICE[: len(kept)]
    assert 2 <= len(kept) <= 16


@pytest.mark.parametrize("suffix", [".mp4", ".flv", ".mkv", ".wmv", ".ts"])
def test_sound_that_goes_on_is_no_damage(tmp_path, suffix):
    path = film(tmp_path / f"sound{suffix}", range(5), sound=(0.0, 10.0))
    if suffix == ".mkv":  # as programs write it that leave out the tags of tracks
        path.write_bytes(path.read_bytes().replace(b"DURATION", b"XURATION"))
    assert seconds_shown(path) == [*TWICE[:10], *[4] * 10]  # the last picture stays


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_the_last_picture_stands_as_long_as_it_says(tmp_path, suffix):
    path = film(tmp_path / f"still{suffix}", range(5), last=5.1)
    assert seconds_shown(path) == [*TWICE[:10], *[4] * 10]
    cut(path, 6.0, 9.0, tmp_path / "cut.mp4")
    assert seconds_shown(tmp_path / "cut.mp4", fps=1) == [4, 4, 4]


def test_an_empty_packet_repeats_the_picture(tmp_path):
    path = tmp_path / "rests.avi"
    with av.open(str(path), "w") as sink:  # the muxer fills what is left out with empty packets
        stream = sink.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for tick in range(100):
            if tick % RATE < 3 or tick == 99:
                frame = av.VideoFrame.from_ndarray(grey(tick // RATE), format="rgb24")
                frame.pts = tick
                sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
    assert seconds_shown(path) == TWICE


def test_empty_packets_at_the_end_are_content(tmp_path):
    # As Theora writes stills: pictures of no bytes, each with its time.
    path = tmp_path / "still.ogv"
    source = film(tmp_path / "five.mkv", range(5), codec="libvpx")
    with av.open(str(source)) as read, av.open(str(path), "w", format="ogg") as sink:
        stream = sink.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(video=0):
            if packet.size:
                packet.stream = stream
                sink.mux(packet)
        for tenth in range(50, 100):
            empty = av.Packet(0)
            empty.stream, empty.time_base = stream, packet.time_base
            empty.pts = empty.dts = 100 * tenth
            empty.duration = 100
            sink.mux(empty)
    assert seconds_shown(path)[:10] == TWICE[:10]
    assert seconds_shown(path) == [*TWICE[:10], *[4] * (len(seconds_shown(path)) - 10)]


# --- other odd things ------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".mkv"])
def test_a_title_in_another_encoding(tmp_path, suffix):
    path = film(tmp_path / f"old{suffix}", range(2), title="Cafe X")
    path.write_bytes(path.read_bytes().replace(b"Cafe X", b"Caf\xe9 X"))
    assert seconds_shown(path) == TWICE[:4]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("cover_first", [True, False])
def test_a_cover_that_calls_itself_the_film(tmp_path, suffix, cover_first):
    path = tmp_path / f"cover{suffix}"
    with av.open(str(path), "w") as sink:
        streams = {}
        for codec in ("mjpeg", "libx264") if cover_first else ("libx264", "mjpeg"):
            stream = streams[codec] = sink.add_stream(codec, rate=RATE)
            stream.width, stream.height = 64, 48
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            stream.disposition = Disposition.default if codec == "mjpeg" else Disposition(0)
        white = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 255, np.uint8), format="rgb24")
        sink.mux(streams["mjpeg"].encode(white.reformat(format="yuvj420p")))
        sink.mux(streams["mjpeg"].encode(None))
        for tick in range(50):
            frame = av.VideoFrame.from_ndarray(grey(tick // RATE), format="rgb24")
            sink.mux(streams["libx264"].encode(frame))
        sink.mux(streams["libx264"].encode(None))
    assert seconds_shown(path) == TWICE[:10]


def test_the_rest_after_the_last_full_step_is_no_clip_by_itself(tmp_path):
    assert [clip_count(seconds, 2) for seconds in (0.01, 10, 10.01, 10.2, 10.25, 10.5)] == [
        1, 20, 20, 20, 21, 21,
    ]  # fmt: skip
    path = film(tmp_path / "rest.mkv", range(3), last=0.2)  # 3.1 s
    assert probe(path).duration == pytest.approx(3.1)
    assert seconds_shown(path) == TWICE[:6]


def test_a_timeline_survives_json(tmp_path):
    path = join(
        tmp_path / "two.ts",
        film(tmp_path / "1.ts", range(2)),
        film(tmp_path / "2.ts", range(2), late=77.0),
    )
    known = timeline(path)
    assert len(known.shifts) == 2
    assert Timeline.from_json(known.to_json()) == known


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".flv", ".ts"])
def test_a_cut_begins_where_it_is_said_also_before_the_first_picture(tmp_path, suffix):
    path = film(tmp_path / f"lead{suffix}", range(2), late=4.0, sound=(0.0, 6.0))
    shown = seconds_shown(path)
    assert shown == [*[0] * 8, 0, 0, 1, 1]
    cut(path, 0.0, 6.0, tmp_path / "all.mp4")
    assert seconds_shown(tmp_path / "all.mp4") == shown
    assert probe(tmp_path / "all.mp4").clock_start == 0
    cut(path, 1.0, 2.0, tmp_path / "lead.mp4")
    assert probe(tmp_path / "lead.mp4").duration == pytest.approx(1.0)


def test_the_same_cut_has_the_same_bytes(tmp_path):
    path = film(tmp_path / "film.mp4", at=[0, 1, 2, 3, 4, 7, 8, 9, 10, 11])
    made = set()
    for _ in range(150):  # with x264's macroblock tree, about one in a hundred was another
        cut(path, 0, 0.5, tmp_path / "cut.mp4")
        made.add((tmp_path / "cut.mp4").read_bytes())
    assert len(made) == 1


def test_more_joined_files_than_can_be_read_are_told(tmp_path, caplog):
    pieces = [film(tmp_path / f"{n}.mkv", range(n, n + 1)) for n in range(4)]
    path = join(tmp_path / "four.mkv", *pieces)
    shown = seconds_shown(path)
    told = [line for line in warnings_of(caplog) if "4 files one after the other" in line]
    assert len(told) == (shown != TWICE[:8])


def test_a_picture_without_a_length_stands_as_long_as_the_one_before(tmp_path):
    path = tmp_path / "slides.wmv"
    with av.open(str(path), "w", format="asf") as sink:
        stream = sink.add_stream("wmv2", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for second in range(4):
            frame = av.VideoFrame.from_ndarray(grey(second), format="rgb24")
            frame.pts = 5 * RATE * second
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
    assert seconds_shown(path, fps=0.2) == [0, 1, 2, 3]


def test_damaged_videos_give_a_film_or_one_line():
    script = Path(__file__).parent.parent / "scripts" / "walk_damaged_videos.py"
    done = subprocess.run(
        [sys.executable, script, "--videos", "96"], capture_output=True, text=True, timeout=500
    )
    result = json.loads(done.stdout)
    assert result["faults"] == []
    assert done.returncode == 0
    assert min(result["film"], result["line"]) > 50  # some of both
