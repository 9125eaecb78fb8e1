"""`micro` answers about any video, and says which of them it cannot know."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from tests.conftest import coloured_frames, encode_video
from zsvg.features import strangers
from zsvg.microworld.world import write_world

SAYS = "warning: micro knows only the drawings of microworld; its answers about"


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two videos of microworld (`w/videos`), and two of other sizes beside it."""
    folder = tmp_path_factory.mktemp("mixed")
    write_world(folder / "w", domain="chalk", videos=2, split="test")
    encode_video(folder / "kitchen.mp4", coloured_frames(20))
    encode_video(folder / "street.mp4", coloured_frames(20, 128, 176))
    return folder


def warned(error: str) -> list[str]:
    return [line for line in error.splitlines() if line.startswith("warning: micro knows")]


def test_each_command_warns_once(mixed: Path, tmp_path: Path, run_zsvg) -> None:
    cache = ("--cache", tmp_path / "cache")
    ground = ("ground", mixed, "a red circle", "-m", "micro", *cache)
    for _ in range(2):  # encoded, and read from the cache
        status, _, error = run_zsvg(*ground)
        assert status == 0
        (line,) = warned(error)
        assert line == (
            f"{SAYS} 2 of 4 videos (first: {mixed / 'kitchen.mp4'}) mean nothing; name a CLIP with "
            "--model or --backbone"
        )
    status, _, error = run_zsvg("features", mixed, "--backbone", "micro", *cache)
    assert (status, len(warned(error))) == (0, 1)
    labels = tmp_path / "labels.jsonl"
    rows = [
        {"qid": i, "query": "a dog", "vid": v, "duration": 2, "relevant_windows": [[0, 1]]}
        for i, v in enumerate(["kitchen", "street"])
    ]
    labels.write_text("".join(json.dumps(row) + "\n" for row in rows))
    predict = ("predict", labels, "--videos", mixed, "-m", "micro", *cache)
    status, _, error = run_zsvg(*predict, "-o", tmp_path / "p.jsonl")
    assert (status, len(warned(error))) == (0, 1)
    assert f"{SAYS} 2 of 2 videos" in error
    label = ("pseudo-label", mixed, "--backbone", "micro", "--captioner", "micro", *cache)
    status, _, error = run_zsvg(*label, "-o", tmp_path / "pseudo.jsonl")
    assert (status, len(warned(error))) == (0, 1), error
    tune = ("tune", labels, "--videos", mixed, "--backbone", "micro", *cache, "--steps", 1)
    status, _, error = run_zsvg(*tune, "-o", tmp_path / "model")
    assert (status, len(warned(error))) == (0, 1), error
    status, _, error = run_zsvg("ground", mixed, "a dog", "-m", tmp_path / "model", *cache)
    assert (status, len(warned(error))) == (0, 1), error  # the model's backbone is micro too


def test_no_warning_where_none_is_due(
    mixed: Path, tmp_path: Path, tiny_clip_folder: Path, run_zsvg
) -> None:
    cache = ("--cache", tmp_path / "cache")
    status, _, error = run_zsvg("ground", mixed / "w", "a red circle", "-m", "micro", *cache)
    assert (status, error) == (0, "")
    other = f"local-dir:{tiny_clip_folder}"
    status, _, error = run_zsvg("ground", mixed, "a red circle", "-m", other, *cache)
    assert (status, warned(error)) == (0, [])


def test_features_of_before_know_no_size(mixed: Path, tmp_path: Path, run_zsvg) -> None:
    ground = (
        "ground",
        mixed,
        "a red circle",
        "-m",
        "micro",
        "--cache",
        tmp_path,
        "--format",
        "csv",
    )
    _, fresh, error = run_zsvg(*ground)
    assert len(warned(error)) == 1
    from safetensors import safe_open

    files = sorted(tmp_path.glob("*.safetensors"))
    assert len(files) == 4
    for file in files:
        with safe_open(file, framework="numpy") as handle:
            meta = json.loads(handle.metadata()["zsvg"])
        del meta["size"]
        save_file(load_file(file), file, metadata={"zsvg": json.dumps(meta, sort_keys=True)})
    before = [file.read_bytes() for file in files]
    status, out, error = run_zsvg(*ground)
    assert (status, out, error) == (0, fresh, "")
    assert [file.read_bytes() for file in files] == before  # they are good, and not made again


def test_nobody_is_told_outside_of_a_command(caplog: pytest.LogCaptureFixture) -> None:
    strangers.note("v.mp4", "micro", (640, 480))
    with strangers.watching():
        strangers.note("w.mp4", "ViT-B-32/openai", (640, 480))
        strangers.note("w.mp4", "micro", (128, 128))
    assert caplog.text == ""
