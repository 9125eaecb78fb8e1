"""What version 0.1.0 wrote, read by this one; how it was made is told beside it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import zsvg
from zsvg.records import check_trainable, read_annotations
from zsvg.video.reading import probe

OLD = Path(__file__).parent / "fixtures" / "v0.1.0"
VIDEO = OLD / "videos" / "one.mp4"


def lines_about_an_older_version(said: str) -> list[str]:
    return [line for line in said.splitlines() if "older version" in line]


def test_a_model_folder_loads_and_answers():
    grounder = zsvg.load(OLD / "model", "cpu")
    answer = grounder.ground(VIDEO, "the red star is shrinking", top_k=3)
    assert 1 <= len(answer.moments) <= 3
    duration = probe(VIDEO).duration
    assert all(0 <= moment.start < moment.end <= duration for moment in answer.moments)
    assert len(answer.curve) == 2 * duration


@pytest.mark.parametrize(
    "line",
    [("features", "--backbone", "micro"), ("ground", "a red star", "--model", OLD / "model")],
)
def test_cached_features_stay_and_are_made_again_where_they_do_not_serve(
    run_zsvg, tmp_path: Path, line: tuple[str | Path, ...]
):
    cache = tmp_path / "cache"
    shutil.copytree(OLD / "features", cache)
    (old,) = cache.iterdir()
    content = old.read_bytes()
    command, *more = line
    for run in ("first", "second"):
        status, _, said = run_zsvg(command, VIDEO, *more, "--cache", cache, "--device", "cpu")
        assert status == 0, said
        assert old.read_bytes() == content
        told = lines_about_an_older_version(said)
        assert len(told) == (run == "first")  # then this version has its own
        assert all(str(cache) in one for one in told)
        assert all("`zsvg cache prune --unused`" in one for one in told)
    assert len(list(cache.glob("*.safetensors"))) == 2


def test_finished_videos_are_used_or_labelled_again(run_zsvg, tmp_path: Path):
    out, parts = tmp_path / "pseudo.jsonl", tmp_path / "pseudo.jsonl.parts"
    shutil.copytree(OLD / "pseudo.jsonl.parts", parts)
    line = ["pseudo-label", VIDEO, "--backbone", "micro", "--captioner", "micro", "-o", out]
    line += ["--cache", tmp_path / "cache", "--device", "cpu"]
    _, _, forecast = run_zsvg(*line, "--dry-run")
    assert re.findall(r"^(\d) are labelled already", forecast, re.MULTILINE) == ["0"]
    old = {path.name: path.read_bytes() for path in parts.iterdir()}
    status, _, said = run_zsvg(*line)
    assert status == 0, said
    (told,) = lines_about_an_older_version(said)
    assert "labelled again" in told
    labels = read_annotations(out)
    assert labels
    check_trainable(labels)
    assert len(list(parts.iterdir())) == len(old) + 1
    assert all((parts / name).exists() for name in old)
