"""Extraction end to end: real videos, a real (tiny) backbone, a real cache folder."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import coloured_frames, encode_video, run_python
from films import film, join

from zsvg.backbones.clip import load_backbone
from zsvg.errors import TruncatedVideoError, VideoError, ZsvgError
from zsvg.features.extract import default_cache, extract
from zsvg.video.reading import probe
from zsvg.video.sampling import Sampling, sample_frames


@pytest.fixture(scope="module")
def backbone(tiny_clip_folder):
    return load_backbone(f"local-dir:{tiny_clip_folder}", "cpu")


def test_features_are_those_of_the_sampled_frames(backbone, small_video):
    found = extract(small_video, backbone, batch_size=3)
    frames = np.stack([pixels for _, pixels in sample_frames(small_video, fps=2, size=32)])
    with torch.no_grad():
        expected = backbone.encode_frames(frames).numpy()
    assert found.features.shape == (8, 32)
    assert found.features.dtype == np.float32
    np.testing.assert_allclose(found.features, expected, atol=1e-3)  # float16 rounding
    np.testing.assert_allclose(np.linalg.norm(found.features, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(found.times, np.arange(8) / 2 + 0.2)
    assert (found.vid, found.fps, found.framing) == ("small", 2.0, "crop")
    assert found.duration == pytest.approx(4.0)
    assert found.fingerprint == backbone.fingerprint
    np.testing.assert_allclose(found.edges, np.arange(9) / 2)
    np.testing.assert_allclose(found.centres, np.arange(8) / 2 + 0.25)


def test_last_clip_ends_with_the_video(backbone, tmp_path):
    path = encode_video(tmp_path / "short.mp4", coloured_frames(13))
    found = extract(path, backbone)
    np.testing.assert_allclose(found.edges, [0, 0.5, 1.0, 1.3])
    np.testing.assert_allclose(found.centres, [0.25, 0.75, 1.15])


def test_cached_equals_fresh_and_does_not_decode(backbone, small_video, tmp_path):
    fresh = extract(small_video, backbone, cache=tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    os.utime(file, (1e9, 1e9))
    written = file.stat().st_ino
    elsewhere = tmp_path.parent / "renamed video.mp4"
    elsewhere.write_bytes(small_video.read_bytes())
    cached = extract(elsewhere, backbone, cache=tmp_path)
    assert np.array_equal(fresh.features, cached.features)
    assert np.array_equal(fresh.times, cached.times)
    assert fresh.duration == cached.duration
    assert cached.vid == "renamed video"
    assert list(tmp_path.glob("*.safetensors")) == [file]
    assert file.stat().st_ino == written  # not replaced by a new one ...
    assert file.stat().st_mtime > 1.7e9  # ... but marked as used
    assert np.array_equal(extract(small_video, backbone).features, fresh.features)


def test_cache_key_holds_everything_that_matters(backbone, small_video, tmp_path, tmp_path_factory):
    from conftest import write_tiny_clip

    other = load_backbone(f"local-dir:{write_tiny_clip(tmp_path / 'other', seed=1)}", "cpu")
    cache = tmp_path / "cache"
    extract(small_video, backbone, cache=cache)
    for sampling in (Sampling(fps=1.0), Sampling(framing="pad")):
        extract(small_video, backbone, sampling, cache=cache)
    extract(small_video, backbone, cache=cache, batch_size=5)
    extract(small_video, other, cache=cache)
    assert len(list(cache.glob("*.safetensors"))) == 5


@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "other tensors", "wrong size"])
def test_damaged_cache_files_are_recomputed(backbone, small_video, tmp_path, damage):
    from safetensors.numpy import save_file

    fresh = extract(small_video, backbone, cache=tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    good = file.read_bytes()
    if damage == "cut":
        file.write_bytes(good[: len(good) // 2])
    elif damage == "noise":
        file.write_bytes(np.random.default_rng(0).bytes(len(good)))
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "other tensors":
        save_file({"x": np.zeros(3)}, file, metadata={"zsvg": "{}"})
    else:
        meta = {"zsvg": json.dumps({"duration": 4.0, "truncated_at": None})}
        save_file({"features": np.zeros((8, 7), np.float16), "times": np.zeros(8)}, file, meta)
    assert np.array_equal(extract(small_video, backbone, cache=tmp_path).features, fresh.features)
    assert file.read_bytes() == good


def test_two_processes_write_the_same_bytes(backbone, small_video, tiny_clip_folder, tmp_path):
    code = """
import sys
from zsvg.backbones.clip import load_backbone
from zsvg.features.extract import extract
backbone = load_backbone("local-dir:" + sys.argv[1], "cpu")
extract(sys.argv[2], backbone, cache=sys.argv[3], batch_size=3)
"""
    done = run_python("-c", code, tiny_clip_folder, small_video, tmp_path / "there")
    assert done.returncode == 0, done.stderr
    extract(small_video, backbone, cache=tmp_path / "here", batch_size=3)
    here, there = (
        {p.name: p.read_bytes() for p in (tmp_path / run).glob("*.safetensors")}
        for run in ("here", "there")
    )
    assert here == there
    assert len(here) == 1


def test_threads_extract_at_once(backbone, small_video, tmp_path):
    results = []
    threads = [
        threading.Thread(
            target=lambda: results.append(extract(small_video, backbone, cache=tmp_path))
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(np.allclose(r.features, results[0].features, atol=1e-3) for r in results)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


def test_a_part_kept_once_is_not_taken_for_the_whole(backbone, tmp_path):
    path = tmp_path / "cut.mkv"
    # Noise does not compress, so that half of the bytes is about half of the time.
    noise = np.random.default_rng(0).integers(0, 255, (100, 48, 64, 3), dtype=np.uint8)
    encode_video(path, noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    cache = tmp_path / "cache"
    with pytest.raises(TruncatedVideoError, match=r"cut\.mkv"):
        extract(path, backbone, cache=cache)
    part = extract(path, backbone, Sampling(allow_truncated=True), cache=cache)
    assert 2 < part.duration < 8
    assert len(part.features) == len(part.times) == np.ceil(part.duration * 2)
    again = extract(path, backbone, Sampling(allow_truncated=True), cache=cache)
    assert np.array_equal(part.features, again.features)
    with pytest.raises(TruncatedVideoError):
        extract(path, backbone, cache=cache)


def test_errors_leave_no_thread_and_no_file(backbone, small_video, tmp_path):
    def decoders() -> list[str]:
        return [t.name for t in threading.enumerate() if t.name.startswith("zsvg-ahead")]

    with pytest.raises(VideoError, match="no such file"):
        extract(tmp_path / "missing.mp4", backbone, cache=tmp_path)
    with pytest.raises(ValueError, match="batch_size"):
        extract(small_video, backbone, batch_size=0)
    with pytest.raises(ValueError, match="framing"):
        extract(small_video, backbone, Sampling(framing="zoom"))
    text = tmp_path / "notes.mp4"
    text.write_text("no video")
    with pytest.raises(VideoError, match="cannot be opened"):
        extract(text, backbone, cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    from zsvg.features.extract import _batches

    batches = _batches(sample_frames(small_video, fps=10, size=32), 1)
    next(batches)
    batches.close()  # a consumer that stops early must not leave a decoder waiting
    assert decoders() == []


def test_default_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("ZSVG_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.delenv("ZSVG_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache" / "zsvg" / "features"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_memory_does_not_grow_with_length(tiny_clip_folder, tmp_path):
    """Ten times the length, 130 MB more of native pixels: the peak must stay the same."""
    # VmHWM and not getrusage: the latter also counts the parent's memory from before the exec.
    code = """
import sys
from zsvg.backbones.clip import load_backbone
from zsvg.features.extract import extract
backbone = load_backbone("local-dir:" + sys.argv[1], "cpu")
for path in sys.argv[2:]:
    found = extract(path, backbone)
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
    print(len(found.features), peak)
"""
    lengths = (6, 60)
    paths = [
        encode_video(tmp_path / f"{seconds}.mp4", coloured_frames(seconds * 10, 240, 320))
        for seconds in lengths
    ]
    done = run_python("-c", code, tiny_clip_folder, *paths)
    assert done.returncode == 0, done.stderr
    found = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert [frames for frames, _ in found] == [seconds * 2 for seconds in lengths]
    (_, short), (_, long) = found
    assert long - short < 40 * 1024


def test_every_real_video(backbone, data_folder):
    lines = (data_folder / "videos" / "videos.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 18
    for record in map(json.loads, lines):
        found = extract(data_folder / "videos" / record["file"], backbone)
        assert found.duration == pytest.approx(record["duration"], abs=1e-3)
        assert len(found.features) == len(found.times) == max(1, int(record["duration"] * 2 + 0.5))
        assert np.isfinite(found.features).all()
        np.testing.assert_allclose(np.linalg.norm(found.features, axis=1), 1, atol=1e-5)
        assert found.content == record["sha256"]
        assert found.times[0] >= record["first_frame_time"] - 1e-3
        assert found.times[-1] <= record["last_frame_time"] + 1e-3
        assert (np.diff(found.times) >= 0).all()
        assert found.edges[-1] == found.duration
        assert (np.diff(found.edges) > 0).all()


class TestACacheThatCannotBeUsed:
    """It is optional: one warning that names it and says why, and the work is done."""

    @pytest.fixture
    def ground(self, tiny_clip_folder, small_video, tmp_path, as_nobody):
        videos = tmp_path / "videos"
        videos.mkdir()
        for name in "ab":  # of different content, so each wants a file of its own
            encode_video(videos / f"{name}.mp4", coloured_frames(20 + 5 * ord(name) % 7))

        def run(cache, *more, limit=None, command=None):
            code = "from zsvg.cli.app import main; main()"
            if limit is not None:
                code = f"import resource as r; r.setrlimit(r.RLIMIT_FSIZE, ({limit},) * 2); {code}"
            model = f"local-dir:{tiny_clip_folder}"
            command = command or ["ground", videos, "a red ball", "-m", model, "--format", "jsonl"]
            done = as_nobody(
                [sys.executable, "-c", code, *command, "--device", "cpu", *more],
                # Nor may what Python compiles be cut off: it would be of no use to anybody else.
                env={**os.environ, "ZSVG_CACHE": str(cache), "PYTHONDONTWRITEBYTECODE": "1"},
                cwd=Path(__file__).parents[1],
            )
            return done

        run.features = ["features", videos, "--backbone", f"local-dir:{tiny_clip_folder}"]
        return run

    @staticmethod
    def check(done, cache, why):
        assert done.returncode == 0, done.stderr
        assert {json.loads(line)["vid"] for line in done.stdout.splitlines()} == {"a", "b"}
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"warning: the cache of frame features {cache} ")
        assert why in line

    def test_full(self, ground, tmp_path):
        # A limit on the size of files stands for a full disk: safetensors has no OSError for it.
        done = ground(tmp_path / "cache", limit=512)
        self.check(done, tmp_path / "cache", "File too large")
        assert list((tmp_path / "cache").glob("*.safetensors")) == []

    def test_only_to_read(self, ground, tmp_path):
        (tmp_path / "cache").mkdir(mode=0o555)
        self.check(ground(tmp_path / "cache"), tmp_path / "cache", "Permission denied")

    def test_no_folder_and_none_can_be_made(self, ground, tmp_path):
        (tmp_path / "file").write_text("mine")
        self.check(ground(tmp_path / "file" / "cache"), tmp_path / "file" / "cache", "directory")
        self.check(ground(tmp_path / "file"), tmp_path / "file", "exists")
        assert (tmp_path / "file").read_text() == "mine"

    def test_damaged_also_where_logs_are_shown(self, ground, tmp_path):
        ground(tmp_path / "cache")
        good = {p: p.read_bytes() for p in (tmp_path / "cache").glob("*.safetensors")}
        assert len(good) == 2
        for path in good:
            path.write_bytes(b"cut off")
        self.check(ground(tmp_path / "cache"), tmp_path / "cache", "damaged file")
        assert {p: p.read_bytes() for p in good} == good  # made again
        for path in good:
            path.write_bytes(b"cut off")
        done = ground(tmp_path / "cache", "-vv")
        assert done.stderr.count("warning: the cache of frame features") == 1
        assert "frames encoded in" in done.stderr

    def test_a_missing_one_is_made_without_a_word(self, ground, tmp_path):
        done = ground(tmp_path / "new" / "cache")
        assert (done.returncode, done.stderr) == (0, "")
        assert len(list((tmp_path / "new" / "cache").glob("*.safetensors"))) == 2

    def test_the_command_whose_result_it_is_fails(self, ground, tmp_path):
        done = ground(tmp_path / "cache", limit=512, command=ground.features)
        assert done.returncode == 1
        assert "features of 0 of 2 videos are in" in done.stderr
        assert "the features of 2 videos could not be kept" in done.stderr
        done = ground(tmp_path / "cache", command=ground.features)
        assert (done.returncode, "features of 2 of 2" in done.stderr) == (0, True)


def test_warnings_are_shown_once_and_tests_still_see_logs(run_zsvg, caplog, tmp_path, small_video,
                                                          tiny_clip_folder):  # fmt: skip
    import logging

    model = f"local-dir:{tiny_clip_folder}"
    (tmp_path / "file").touch()
    logging.getLogger().addHandler(elsewhere := logging.StreamHandler())  # as packages do
    try:
        status, _, said = run_zsvg("ground", small_video, "a ball", "-m", model,
                                   "--cache", tmp_path / "file")  # fmt: skip
    finally:
        logging.getLogger().removeHandler(elsewhere)
    assert (status, said.count("cache of frame features")) == (0, 1)
    logging.getLogger("zsvg.features.extract").warning("after the command")
    assert "after the command" in caplog.text


def test_a_home_that_nobody_knows(monkeypatch):
    monkeypatch.setenv("ZSVG_CACHE", "~nobody-of-this-name/features")
    with pytest.raises(ZsvgError, match="set ZSVG_CACHE"):
        default_cache()


def test_a_rest_below_half_a_step_belongs_to_the_last_clip(backbone, tmp_path):
    path = encode_video(tmp_path / "rest.mp4", coloured_frames(12))  # 1.2 s
    found = extract(path, backbone)
    np.testing.assert_allclose(found.edges, [0, 0.5, 1.2])
    assert found.features.shape == (2, 32)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_picture_that_stands_for_long_is_encoded_once(backbone, tmp_path, monkeypatch, suffix):
    path = film(tmp_path / f"screen{suffix}", range(4), at=[0, 1, 302, 303])
    encoded = []
    encode = backbone.encode_frames
    monkeypatch.setattr(
        backbone, "encode_frames", lambda frames: [encoded.append(len(frames)), encode(frames)][1]
    )
    found = extract(path, backbone, cache=tmp_path / "cache")
    assert len(found.features) == len(found.times) == 608  # 304 s
    assert sum(encoded) <= 9  # eight, and the same picture before and after the pause
    assert np.array_equal(found.features[4], found.features[600])
    again = extract(path, backbone, cache=tmp_path / "cache")
    assert np.array_equal(found.features, again.features)
    assert np.array_equal(found.times, again.times)


def test_the_timeline_is_remembered_with_the_content(backbone, tmp_path, caplog):
    pieces = [film(tmp_path / f"{n}.ts", range(2 * n, 2 * n + 2)) for n in range(2)]
    path = join(tmp_path / "day.ts", *pieces)
    first = extract(path, backbone, cache=tmp_path / "cache")
    assert "its clock jumps once" in caplog.text
    caplog.clear()
    copy = join(tmp_path / "copy.ts", path)  # never looked at; known by its content
    second = extract(copy, backbone, cache=tmp_path / "cache")
    assert np.array_equal(first.features, second.features)
    assert probe(copy).jumps == 1
    assert "its clock jumps" not in caplog.text  # nobody had to read its packets again
