"""Real files, written here or taken from ZSVG_TEST_DATA: times, framing, damage, writing."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import coloured_frames, encode_video
from PIL import Image

from zsvg.errors import TruncatedVideoError, VideoError
from zsvg.video.decoding import Reader
from zsvg.video.hashes import video_hash
from zsvg.video.pictures import resize
from zsvg.video.reading import decode_summary, probe
from zsvg.video.sampling import load_frames_at, sample_frames
from zsvg.video.writing import cut, write_video


def greys(pixels: np.ndarray) -> list[int]:
    """Return each frame's brightness at its bottom right corner, away from the moving bar."""
    return [round(float(frame[-4:, -4:].mean())) for frame in pixels]


def indexed(count: int) -> np.ndarray:
    """Return frames whose grey level tells their index: 10, 20, 30, ..."""
    return np.stack([np.full((32, 48, 3), 10 * (index + 1), np.uint8) for index in range(count)])


def records(folder: Path, name: str) -> list[dict]:
    lines = (folder / "videos" / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


# --- sampling grid ---------------------------------------------------------------------------


def test_grid_takes_the_frame_at_each_centre(small_video):
    sampler = sample_frames(small_video, fps=2, size=32)
    pairs = list(sampler)
    assert [round(time, 6) for time, _ in pairs] == [0.2, 0.7, 1.2, 1.7, 2.2, 2.7, 3.2, 3.7]
    assert all(pixels.shape == (32, 32, 3) and pixels.dtype == np.uint8 for _, pixels in pairs)
    assert sampler.info is not None
    assert sampler.info.frames == 40
    assert sampler.info.duration == pytest.approx(4.0)


def test_faster_grid_than_video_repeats_frames(tmp_path):
    path = encode_video(tmp_path / "slow.mp4", indexed(3), fps=1)
    pairs = list(sample_frames(path, fps=2, size=None))
    # clip centres .25 .75 1.25 1.75 2.25 2.75
    assert [time for time, _ in pairs] == [0, 0, 1, 1, 2, 2]


def test_variable_frame_rate_and_late_first_frame(tmp_path):
    times = [0.6, 0.7, 1.9, 2.0, 2.1, 3.6]
    path = encode_video(tmp_path / "vfr.mp4", indexed(6), times)
    info = decode_summary(path)
    assert info.first_frame_time == pytest.approx(0.6)
    assert info.last_frame_time == pytest.approx(3.6)
    assert info.frames == 6
    pairs = list(sample_frames(path, fps=2, size=None))
    # centres .25 (nothing yet: the first frame), .75, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75
    expected = [0.6, 0.7, 0.7, 0.7, 2.1, 2.1, 2.1, 3.6][: len(pairs)]
    assert [round(time, 6) for time, _ in pairs] == expected
    assert len(pairs) >= 7
    assert (
        np.abs(
            np.array(greys(np.stack([p for _, p in pairs])))[:7] - [10, 20, 20, 20, 50, 50, 50]
        ).max()
        <= 3
    )


def test_one_frame_video_yields_one_frame(tmp_path):
    path = encode_video(tmp_path / "one.mp4", indexed(1))
    pairs = list(sample_frames(path, fps=2, size=16))
    assert len(pairs) == 1
    assert probe(path).duration > 0


def test_gif(tmp_path):
    stills = [Image.fromarray(frame) for frame in indexed(5)]
    path = tmp_path / "five.gif"
    stills[0].save(path, save_all=True, append_images=stills[1:], duration=200)
    pairs = list(sample_frames(path, fps=5, size=None))
    assert [round(time, 6) for time, _ in pairs] == [0, 0.2, 0.4, 0.6, 0.8]
    assert greys(np.stack([pixels for _, pixels in pairs])) == [10, 20, 30, 40, 50]


def test_odd_sizes_and_no_duration_in_the_header(tmp_path):
    path = tmp_path / "live.mkv"
    with open(path, "wb") as raw:
        # A pipe cannot be rewound, so the muxer never learns the duration.
        class Pipe:
            write = staticmethod(raw.write)

        with av.open(Pipe(), "w", format="matroska") as sink:
            stream = sink.add_stream("ffv1", rate=10)
            stream.width, stream.height, stream.pix_fmt = 33, 21, "yuv444p"
            for frame in coloured_frames(20, 21, 33):
                sink.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            sink.mux(stream.encode(None))
    info = probe(path)
    assert info.duration == pytest.approx(2.0, abs=0.01)
    sampler = sample_frames(path, fps=2, size=None)
    pairs = list(sampler)
    assert len(pairs) == 4
    assert pairs[0][1].shape == (21, 33, 3)
    assert sampler.info.duration == pytest.approx(2.0, abs=0.01)


def test_avi_with_b_frames_keeps_rising_times(tmp_path):
    path = tmp_path / "b.avi"
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.codec_context.max_b_frames = 2
        for frame in indexed(20):
            sink.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        sink.mux(stream.encode(None))
    pairs = list(sample_frames(path, fps=10, size=None))
    seen = greys(np.stack([pixels for _, pixels in pairs]))
    assert seen == sorted(seen)
    times = [time for time, _ in pairs]
    assert times == sorted(times)


def test_mpegts_clock_starts_at_zero(tmp_path):
    path = tmp_path / "clock.ts"
    with av.open(str(path), "w", format="mpegts") as sink:
        stream = sink.add_stream("libx264", rate=10, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for frame in indexed(20):
            sink.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        sink.mux(stream.encode(None))
    info = decode_summary(path)
    assert info.first_frame_time == pytest.approx(0, abs=1e-6)
    assert info.duration == pytest.approx(2.0, abs=0.11)
    assert len(list(sample_frames(path, fps=2, size=16))) == 4


# --- framing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(48, 64), (64, 48), (37, 91), (101, 50), (32, 32)])
def test_crop_equals_open_clips_own_preprocessing(shape):
    from open_clip.transform import PreprocessCfg, image_transform_v2

    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    plain = PreprocessCfg(size=32, mean=(0, 0, 0), std=(1, 1, 1))
    theirs = image_transform_v2(plain, is_train=False)(Image.fromarray(pixels))
    ours = resize(pixels, 32).transpose(2, 0, 1)
    assert np.array_equal(np.round(theirs.numpy() * 255).astype(np.uint8), ours)


def test_pad_keeps_everything_between_bars_and_squash_fills():
    pixels = np.full((20, 40, 3), 200, np.uint8)
    padded = resize(pixels, 32, "pad")
    assert padded.shape == (32, 32, 3)
    assert (padded[8:24] == 200).all()
    assert (padded[:8] == 0).all()
    assert (padded[24:] == 0).all()
    assert (resize(pixels, 32, "squash") == 200).all()
    tall = resize(np.full((40, 20, 3), 200, np.uint8), 32, "pad")
    assert (tall[:, 8:24] == 200).all()
    assert (tall[:, :8] == 0).all()


def test_options_out_of_range(small_video):
    with pytest.raises(ValueError, match="framing must be one of crop, pad, squash"):
        sample_frames(small_video, fps=2, size=32, framing="zoom")
    with pytest.raises(ValueError, match="fps"):
        sample_frames(small_video, fps=0, size=32)
    with pytest.raises(ValueError, match="size"):
        sample_frames(small_video, fps=2, size=0)


# --- frames at given times -------------------------------------------------------------------


def test_frames_at_any_times_in_any_order(tmp_path):
    path = encode_video(tmp_path / "long.mp4", coloured_frames(300), fps=10)
    by_time = dict(sample_frames(path, fps=10, size=24))
    frames = load_frames_at(path, [25.05, 0.0, 29.95, 12.31, 12.3, -1.0, 99.0], 24)
    expected = [25.0, 0.0, 29.9, 12.3, 12.3, 0.0, 29.9]
    assert frames.shape == (7, 24, 24, 3)
    for pixels, time in zip(frames, expected, strict=True):
        assert np.array_equal(pixels, by_time[time]), time


def test_no_seek_goes_back_to_a_key_frame(tmp_path, monkeypatch):
    still = coloured_frames(1).repeat(600, 0)  # key frames at 0, 25 and 50 s
    path = encode_video(tmp_path / "long.mp4", still, fps=10)
    decoded, read = [], Reader.frames

    def counted(self, allow_truncated):
        for time, frame in read(self, allow_truncated):
            decoded.append(time)
            yield time, frame

    monkeypatch.setattr(Reader, "frames", counted)
    load_frames_at(path, np.arange(1.0, 60.0, 3.0), 24)
    assert len(decoded) == len(set(decoded))
    decoded.clear()
    load_frames_at(path, [1.0, 51.0], 24)
    assert len(decoded) < 60  # where a key frame lies between, seeking still pays


def test_frames_at_needs_times(small_video):
    with pytest.raises(ValueError, match="non-empty"):
        load_frames_at(small_video, [], 24)
    with pytest.raises(ValueError, match="finite"):
        load_frames_at(small_video, [float("nan")], 24)


# --- damage ----------------------------------------------------------------------------------


@pytest.fixture
def faststart(tmp_path) -> Path:
    """A 20 s mp4 with its index in front, so that a cut file still opens."""
    path = tmp_path / "fast.mp4"
    random = np.random.default_rng(0)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as sink:
        stream = sink.add_stream("libx264", rate=10, options={"bf": "0", "g": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(200):
            pixels = random.integers(0, 255, (48, 64, 3), np.uint8)
            sink.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        sink.mux(stream.encode(None))
    return path


def test_truncated_file_names_the_time_reached(faststart, tmp_path):
    cut_file = tmp_path / "cut.mp4"
    data = faststart.read_bytes()
    cut_file.write_bytes(data[: len(data) // 2])
    with pytest.raises(
        TruncatedVideoError, match=r"cut\.mp4: .* at \d+\.\d\d s of 20\.00 s"
    ) as caught:
        list(sample_frames(cut_file, fps=2, size=16))
    assert "\n" not in str(caught.value)
    sampler = sample_frames(cut_file, fps=2, size=16, allow_truncated=True)
    kept = list(sampler)
    assert 15 < len(kept) < 25
    assert sampler.info.truncated_at == sampler.info.duration == pytest.approx(10, abs=1)
    whole = list(sample_frames(faststart, fps=2, size=16))
    assert len(whole) == 40
    for (time, pixels), (time2, pixels2) in zip(kept[:-1], whole, strict=False):
        assert time == time2
        assert np.array_equal(pixels, pixels2)


def test_sound_that_outlives_the_pictures_is_not_damage(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as sink:
        video = sink.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 48, 32, "yuv420p"
        audio = sink.add_stream("aac", rate=16000)
        audio.layout = "mono"
        for frame in indexed(20):
            sink.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        sink.mux(video.encode(None))
        for index in range(16000 * 6 // 1024):
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            sound.sample_rate, sound.pts = 16000, index * 1024
            sink.mux(audio.encode(sound))
        sink.mux(audio.encode(None))
    sampler = sample_frames(path, fps=1, size=16)
    assert len(list(sampler)) == 6  # the last picture stays on display
    assert sampler.info.duration == pytest.approx(6.0, abs=0.1)


def test_unusable_files_are_one_line_errors(tmp_path):
    empty = tmp_path / "empty.mp4"
    empty.touch()
    text = tmp_path / "notes.txt"
    text.write_text("not a video\n" * 50)
    image = tmp_path / "picture.png"
    Image.fromarray(indexed(1)[0]).save(image)
    for path, reason in [
        (tmp_path / "missing.mp4", "no such file"),
        (tmp_path, "not a file"),
        (empty, "empty"),
        (text, "text file|cannot be opened"),
        (image, "still image"),
    ]:
        with pytest.raises(VideoError, match=reason) as caught:
            probe(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not isinstance(caught.value, TruncatedVideoError)


# --- hashing ------------------------------------------------------------------------


def test_hash_is_of_the_content(tmp_path, small_video):
    copy = tmp_path / "other name.mp4"
    copy.write_bytes(small_video.read_bytes())
    assert video_hash(copy) == video_hash(small_video)
    with pytest.raises(VideoError, match="cannot be read"):
        video_hash(tmp_path / "missing.mp4")


def test_a_colon_in_the_name_is_no_protocol(tmp_path, small_video):
    path = tmp_path / "clip:1 50%.mp4"
    path.write_bytes(small_video.read_bytes())
    assert probe(path).frames is None
    assert decode_summary(path).frames == 40


# --- writing ---------------------------------------------------------------------------------


def test_write_video_is_reproducible_and_faithful(tmp_path):
    frames = coloured_frames(25)
    write_video(tmp_path / "a.mp4", frames, 5)
    write_video(tmp_path / "b.mp4", iter(frames), 5)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    info = decode_summary(tmp_path / "a.mp4")
    assert (info.codec, info.frames, info.width, info.height) == ("h264", 25, 64, 48)
    assert info.duration == pytest.approx(5.0)
    assert info.first_frame_time == 0
    assert info.last_frame_time == pytest.approx(4.8)
    read = np.stack([pixels for _, pixels in sample_frames(tmp_path / "a.mp4", fps=5, size=None)])
    assert np.abs(read.astype(int) - frames).mean() < 6


def test_write_video_refuses_and_leaves_nothing(tmp_path):
    out = tmp_path / "x.mp4"
    with pytest.raises(ValueError, match="even"):
        write_video(out, coloured_frames(2, 31, 40), 5)
    with pytest.raises(ValueError, match="no frame"):
        write_video(out, [], 5)
    with pytest.raises(ValueError, match="uint8"):
        write_video(out, [np.zeros((4, 4, 3), np.float32)], 5)
    with pytest.raises(ValueError, match="one size"):
        write_video(out, [*coloured_frames(1), *coloured_frames(1, 32, 32)], 5)
    assert list(tmp_path.iterdir()) == []


def test_cut_saves_the_moment(tmp_path):
    path = encode_video(tmp_path / "long.mp4", coloured_frames(200), fps=10)
    out = tmp_path / "moment.mp4"
    cut(path, 12.04, 15.52, out)
    info = decode_summary(out)
    assert info.codec == "h264"
    assert info.duration == pytest.approx(3.48, abs=0.02)
    assert info.first_frame_time == 0
    moment = load_frames_at(out, [0.0, 0.07, 1.0, 3.4], None)
    source = load_frames_at(path, [12.04, 12.11, 13.04, 15.44], None)
    assert np.abs(moment.astype(int) - source).mean() < 3


def test_cut_checks_its_times(tmp_path, small_video):
    with pytest.raises(ValueError, match="start < end"):
        cut(small_video, 2, 2, tmp_path / "x.mp4")
    with pytest.raises(ValueError, match="start < end"):
        cut(small_video, -1, 2, tmp_path / "x.mp4")
    with pytest.raises(VideoError, match="after the end"):
        cut(small_video, 4.0, 6, tmp_path / "x.mp4")
    cut(small_video, 3.0, 60, tmp_path / "tail.mp4")
    assert decode_summary(tmp_path / "tail.mp4").duration == pytest.approx(1.0, abs=0.02)


def test_cut_of_odd_sizes(tmp_path):
    path = tmp_path / "odd.gif"
    stills = [Image.fromarray(frame[:31, :45]) for frame in indexed(5)]
    stills[0].save(path, save_all=True, append_images=stills[1:], duration=200)
    cut(path, 0.3, 0.9, tmp_path / "even.mp4")
    info = decode_summary(tmp_path / "even.mp4")
    assert (info.width, info.height) == (44, 30)
    assert info.duration == pytest.approx(0.6, abs=0.02)


# --- real videos -----------------------------------------------------------------------------


def test_every_video_agrees_with_its_record(data_folder):
    for record in records(data_folder, "videos.jsonl"):
        path = data_folder / "videos" / record["file"]
        info = decode_summary(path)
        assert info.frames == record["frames"], path.name
        assert info.first_frame_time == pytest.approx(record["first_frame_time"], abs=1e-3)
        assert info.last_frame_time == pytest.approx(record["last_frame_time"], abs=1e-3)
        assert info.duration == pytest.approx(record["duration"], abs=1e-3), path.name
        assert (info.width, info.height) == (record["width"], record["height"]), path.name
        assert info.rotation == record["rotation"], path.name
        assert info.codec == record["codec"], path.name
        quick = probe(path)
        assert quick.duration == info.duration
        assert quick.rotation == info.rotation
        assert quick.first_frame_time == info.first_frame_time
        assert (quick.frames, quick.last_frame_time) == (None, None)
        assert video_hash(path) == record["sha256"]


def test_two_streams_read_the_default_one_at_upstreams_own_times(data_folder):
    path = data_folder / "videos" / "nasa_13013.mp4"
    listed = Path(f"{path}.stream0.all_frames_info.json")
    reference = [float(frame["pts_time"]) for frame in json.loads(listed.read_text())]
    times = [time for time, _ in sample_frames(path, fps=25, size=None)]
    assert probe(path).stream == 0
    assert set(np.round(times, 6)) <= set(np.round(reference, 6))
    assert len(set(times)) == len(reference)


def test_rotation_is_applied(data_folder):
    path = data_folder / "videos" / "keyboard_rot90.mov"
    (_, shown), *_ = sample_frames(path, fps=30, size=None)
    with av.open(str(path)) as container:
        coded = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert coded.shape == (320, 568, 3)
    assert shown.shape == (568, 320, 3)
    assert np.array_equal(shown, np.rot90(coded, -1))  # -90: a quarter turn clockwise


def test_seeking_finds_the_same_frames_as_reading_on(data_folder):
    for record in records(data_folder, "videos.jsonl"):
        if record["duration"] < 5:
            continue
        path = data_folder / "videos" / record["file"]
        pairs = list(sample_frames(path, fps=0.4, size=32))
        centres = (np.arange(len(pairs)) + 0.5) / 0.4
        assert np.array_equal(
            load_frames_at(path, centres[::2], 32), np.stack([p for _, p in pairs[::2]])
        ), path.name


def test_broken_and_odd_files(data_folder):
    fine = {"no_duration.webm", "small_webm.webm"}
    truncated = {"corrupted.mp4": 2.8, "trunc_faststart.mp4": 3.52, "trunc_pancake.mkv": 3.27}
    files = [record["file"] for record in records(data_folder, "bad/bad.jsonl")]
    assert len(files) == 15
    for file in files:
        path = data_folder / "videos" / file
        if path.name in fine:
            assert list(sample_frames(path, fps=2, size=32))
            continue
        with pytest.raises(VideoError) as caught:
            list(sample_frames(path, fps=2, size=32))
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        if path.name in truncated:
            assert isinstance(caught.value, TruncatedVideoError)
            assert f"{truncated[path.name]:.2f} s" in str(caught.value)
            sampler = sample_frames(path, fps=2, size=32, allow_truncated=True)
            assert list(sampler)
            assert sampler.info.truncated_at == pytest.approx(truncated[path.name], abs=0.01)
        else:
            assert not isinstance(caught.value, TruncatedVideoError)
