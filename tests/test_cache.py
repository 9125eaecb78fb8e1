"""The cache of frame features: what is recognised, and what pruning leaves alone."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import coloured_frames, encode_video
from safetensors.numpy import save_file
from typer.testing import CliRunner

from zsvg.backbones.clip import load_backbone
from zsvg.cli.app import app
from zsvg.features.cache import cache_content, prune
from zsvg.features.extract import cache_file, extract
from zsvg.video.hashes import video_hash
from zsvg.video.sampling import Sampling

DAY = 86_400.0


@pytest.fixture(scope="module")
def made(tiny_clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Cache files of two videos and a rate, by name."""
    folder = tmp_path_factory.mktemp("made")
    backbone = load_backbone(f"local-dir:{tiny_clip_folder}", "cpu")
    for name, count, fps in (("a", 20, 2.0), ("b", 30, 2.0), ("a", 20, 4.0)):
        video = encode_video(folder / f"{name}.mp4", coloured_frames(count))
        extract(video, backbone, Sampling(fps), cache=folder / "cache")
        file = cache_file(folder / "cache", video_hash(video), backbone, Sampling(fps))
        assert file.is_file()
    return {file.name: file.read_bytes() for file in (folder / "cache").glob("*.safetensors")}


@pytest.fixture
def cache(made: dict[str, bytes], tmp_path: Path) -> Path:
    """Three good files of 10, 20 and 30 days ago, and one of every other sort."""
    for age, (name, content) in zip((10, 20, 30), sorted(made.items()), strict=True):
        (tmp_path / name).write_bytes(content)
        os.utime(tmp_path / name, (time.time(), time.time() - age * DAY))
    first = tmp_path / min(made)
    (tmp_path / f"{'1' * 64}.safetensors").write_bytes(b"cut off")
    (tmp_path / f"{'2' * 64}.safetensors").write_bytes(first.read_bytes())  # not its name
    old = {"format": 0, "content": "c"}
    meta = {"duration": 4.0, "truncated_at": None, "key": old}
    tensors = {"features": np.zeros((8, 7), np.float16), "times": np.zeros(8)}
    from zsvg.features.extract import file_name

    save_file(tensors, tmp_path / file_name(old), {"zsvg": json.dumps(meta)})
    before_keys = {"zsvg": json.dumps({"duration": 4.0, "truncated_at": None})}
    save_file(tensors, tmp_path / f"{'4' * 64}.safetensors", before_keys)
    temporary = f".{'5' * 64}.safetensors.12-34.tmp.safetensors"
    (tmp_path / temporary).write_bytes(b"half")
    os.utime(tmp_path / temporary, (0, time.time() - 2 * DAY))
    (tmp_path / temporary.replace("12-34", "56-78")).write_bytes(b"half, now")
    # Not ours, whatever they look like.
    save_file(tensors, tmp_path / f"{'6' * 64}.safetensors", {"format": "pt"})
    (tmp_path / "model.safetensors").write_bytes(first.read_bytes())
    (tmp_path / "hashes.jsonl").write_text(json.dumps(["/v/a.mp4", 1, 2, 3, 4, "0" * 64]) + "\n[1")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / f"{'7' * 64}.safetensors").symlink_to(first)
    for path in tmp_path.iterdir():
        if path.name.startswith(("66", "model", "notes")):
            os.utime(path, (0, 0))
    return tmp_path


def test_every_file_is_told_apart(cache: Path, made: dict[str, bytes]):
    content = cache_content(cache)
    states = [file.state for file in content.files]
    assert {state: states.count(state) for state in set(states)} == {
        "features": 3,
        "hashes": 1,
        "damaged": 2,
        "old": 2,  # one of them from before keys
        "left behind": 1,
        "in work": 1,
    }
    assert content.foreign == 5
    assert content.size == sum(file.path.stat().st_size for file in content.files)
    assert [file.used for file in content.files] == sorted(file.used for file in content.files)
    rates = sorted(f.details["fps"] for f in content.files if f.path.name in made)
    assert rates == [2.0, 2.0, 4.0]
    assert cache_content(cache / "nowhere").files == ()


def test_pruning_by_age_and_by_use(cache: Path):
    everything = set(cache.iterdir())
    assert len(prune(cache, older_than=15 * DAY, dry_run=True)) == 2
    assert set(cache.iterdir()) == everything
    assert len(prune(cache, older_than=15 * DAY)) == 2
    assert {file.state for file in prune(cache, unused=True)} == {"damaged", "old", "left behind"}
    left = cache_content(cache)
    assert sorted(file.state for file in left.files) == ["features", "hashes", "in work"]
    assert left.foreign == 5
    assert prune(cache, older_than=15 * DAY, unused=True) == []
    assert len(prune(cache, older_than=0)) == 2
    assert {file.state for file in cache_content(cache).files} == {"in work"}


def test_a_read_counts_as_use(tiny_clip_folder: Path, tmp_path: Path, small_video: Path):
    backbone = load_backbone(f"local-dir:{tiny_clip_folder}", "cpu")
    extract(small_video, backbone, cache=tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    os.utime(file, (0, 0))
    extract(small_video, backbone, cache=tmp_path)
    assert prune(tmp_path, older_than=DAY) == []
    os.utime(file, (0, 0))
    cache_content(tmp_path)  # looking does not
    assert len(prune(tmp_path, older_than=DAY)) == 1


def test_the_commands(cache: Path):
    def zsvg(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["cache", *arguments, "--cache", str(cache)])
        assert done.exit_code == 0, done.output
        return done.stdout

    size = json.loads(zsvg("size", "--format", "json"))
    assert (size["files"], size["foreign"], size["bytes"]) == (10, 5, cache_content(cache).size)
    listed = [json.loads(line) for line in zsvg("list", "--format", "jsonl").splitlines()]
    assert len(listed) == 10
    assert [file["videos"] for file in listed if file["state"] == "hashes"] == [1]
    assert sum("fingerprint" in file for file in listed) >= 3
    assert "features" in zsvg("list")
    assert "together" in zsvg("size")
    assert len(json.loads(zsvg("prune", "--older-than", "4w", "--format", "json"))) == 1
    assert "damaged" in zsvg("prune", "--unused", "--dry-run")
    assert len(cache_content(cache).files) == 9
    for wrong in (["prune"], ["prune", "--older-than", "soon"]):
        assert CliRunner().invoke(app, ["cache", *wrong]).exit_code == 2
