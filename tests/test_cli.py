"""What the command line says about bad input: one line on stderr, exit status 1, no traceback."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from zsvg.errors import RecordError, failure, ours


@pytest.fixture
def refused(run_zsvg):
    """Run a command that must fail; return its one line without `error: `."""

    def run(*arguments: str | Path) -> str:
        status, out, err = run_zsvg(*arguments)
        assert (status, out) == (1, ""), err
        assert "Traceback" not in err
        lines = [line for line in err.splitlines() if line.strip()]
        assert len(lines) == 1, err
        assert lines[0].startswith("error: ")
        return lines[0].removeprefix("error: ")

    return run


@pytest.fixture
def videos(tmp_path: Path, small_video: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("one.mp4", "two.mp4"):
        (folder / name).write_bytes(small_video.read_bytes())
    return folder


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.jsonl"
    records = [
        {
            "qid": f"{vid}-0",
            "query": "a red square moves right",
            "vid": vid,
            "duration": 4.0,
            "relevant_windows": [[1.0, 2.0]],
        }
        for vid in ("one", "two")
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def commands_with_a_backbone(videos: Path, labels: Path, out: Path) -> dict[str, list[str | Path]]:
    return {
        "features": ["features", videos],
        "pseudo-label": ["pseudo-label", videos, "--captioner", "micro", "-o", out],
        "tune": ["tune", labels, "--videos", videos, "-o", out],
    }


@pytest.mark.parametrize("command", ["features", "pseudo-label", "tune"])
def test_missing_backbone_names_both_ways_out(
    refused, command: str, videos: Path, labels: Path, tmp_path: Path
):
    line = refused(*commands_with_a_backbone(videos, labels, tmp_path / "out")[command])
    assert "ViT-B-32/laion2b_s34b_b79k" in line
    assert "605 MB" in line
    assert "`micro`" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["features", "pseudo-label", "tune"])
def test_unknown_backbone(refused, command: str, videos: Path, labels: Path, tmp_path: Path):
    arguments = commands_with_a_backbone(videos, labels, tmp_path / "out")[command]
    assert "ViT-B-33/nonsense" in refused(*arguments, "--backbone", "ViT-B-33/nonsense")


@pytest.mark.parametrize("name", ["nonsense", "local-dir:/nowhere/at/all", "local-dir:", "hf-hub:"])
def test_unknown_model(refused, name: str, videos: Path):
    assert name in refused("ground", videos, "a red square", "--model", name)


def test_folder_that_is_no_model(refused, videos: Path):
    line = refused("ground", videos, "a red square", "--model", videos)
    assert str(videos) in line
    assert "zsvg.json" in line


def test_missing_captioner_names_both_ways_out(refused, tiny_clip_folder: Path, videos: Path):
    line = refused("pseudo-label", videos, "--backbone", f"local-dir:{tiny_clip_folder}")
    assert "Salesforce/blip-image-captioning-base" in line
    assert "MB" in line
    assert "micro" in line


def test_unknown_captioner(refused, tiny_clip_folder: Path, videos: Path):
    backbone = f"local-dir:{tiny_clip_folder}"
    line = refused("pseudo-label", videos, "--backbone", backbone, "--captioner", "nonsense")
    assert "'nonsense'" in line


def test_unknown_recipe_lists_the_shipped_ones(refused, videos: Path, labels: Path):
    line = refused(
        "tune", labels, "--videos", videos, "--backbone", "micro", "--recipe", "nonsense"
    )
    assert "'nonsense'" in line
    assert "coop, " in line


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("training:\n  stepz: 5\n", "training.stepz"),
        ("training:\n  steps: many\n", "training.steps"),
        ("training:\n  steps: 0\n", "training.steps"),
        ("training: [\n", "not YAML"),
        ("- a\n- b\n", "mapping"),
        ("\udcff", "not YAML"),  # not UTF-8
    ],
)
def test_bad_recipe_file(
    refused, videos: Path, labels: Path, tmp_path: Path, text: str, named: str
):
    recipe = tmp_path / "own.yaml"
    recipe.write_text(text, encoding="utf-8", errors="surrogateescape")
    line = refused("tune", labels, "--videos", videos, "--backbone", "micro", "--recipe", recipe)
    assert line.startswith(str(recipe))
    assert named in line


def test_missing_recipe_file(refused, videos: Path, labels: Path, tmp_path: Path):
    line = refused(
        "tune", labels, "--videos", videos, "--backbone", "micro", "--recipe", tmp_path / "own.yaml"
    )
    assert str(tmp_path / "own.yaml") in line


@pytest.mark.parametrize("present", [False, True], ids=["missing", "empty"])
@pytest.mark.parametrize("command", ["features", "pseudo-label", "tune", "ground"])
def test_folder_without_videos(
    refused,
    tiny_clip_folder: Path,
    labels: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    present: bool,
):
    folder = tmp_path / "no-videos"
    if present:
        folder.mkdir()
    backbone = f"local-dir:{tiny_clip_folder}"
    arguments: dict[str, list[str | Path]] = {
        "features": ["features", folder, "--backbone", backbone],
        "tune": ["tune", labels, "--videos", folder, "--backbone", backbone],
        "ground": ["ground", folder, "a red square", "--model", backbone],
    }
    if command == "pseudo-label":
        # Which captioner it is does not matter to a folder without videos.
        monkeypatch.setattr("zsvg.backbones.endpoint.load_captioner", lambda *_: None)
        arguments[command] = [command, folder, "--backbone", backbone, "--captioner", "any"]
    assert str(folder) in refused(*arguments[command])


def test_damaged_video_in_a_batch_is_named_and_the_others_are_done(
    tiny_clip_folder: Path,
    videos: Path,
    tmp_path: Path,
    run_zsvg,
):
    (videos / "broken.mp4").write_bytes(b"this is not a video")
    out = tmp_path / "predictions.jsonl"
    arguments = ["ground", videos, "a red square", "-m", f"local-dir:{tiny_clip_folder}"]
    status, _, error = run_zsvg(*arguments, "-o", out, "--cache", tmp_path / "cache")
    assert status == 1
    assert error.count("error: ") == 1
    assert "Traceback" not in error
    assert f"error: {videos / 'broken.mp4'}" in error
    answered = [json.loads(line)["vid"] for line in out.read_text(encoding="utf-8").splitlines()]
    assert answered == ["one", "two"]


@pytest.mark.parametrize("command", ["microworld", "quickstart"])
def test_unknown_domain_lists_the_known_ones(refused, command: str, tmp_path: Path):
    out = tmp_path / "out"
    line = refused(command, "-o", str(out), "--domain", "nonsense")
    assert "'nonsense'" in line
    assert "studio, chalk, paper, night, fabric" in line
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("vid,query,start,end\none,a red square,1,2\n", "not JSON"),
        ('{"qid": 1, "vid": "one", "duration": 4, "relevant_windows": [[1, 2]]}\n', '"query"'),
        ("[1, 2]\n", "not a JSON object"),
    ],
)
def test_labels_that_are_no_records(refused, videos: Path, tmp_path: Path, text: str, named: str):
    path = tmp_path / "bad.jsonl"
    path.write_text(text, encoding="utf-8")
    line = refused("tune", path, "--videos", videos, "--backbone", "micro")
    assert line.startswith(f"{path}:1: ")
    assert named in line
    assert refused("predict", path, "--videos", videos, "--model", "micro").startswith(f"{path}:1")
    assert refused("evaluate", path, path).startswith(f"{path}:1: ")


def test_missing_labels(refused, videos: Path, tmp_path: Path):
    path = tmp_path / "none.jsonl"
    assert str(path) in refused("tune", path, "--videos", videos, "--backbone", "micro")
    assert str(path) in refused("evaluate", path, path)


def test_wrong_usage_has_its_own_exit_status(run_zsvg):
    status, _, error = run_zsvg("ground", "videos/", "a red square")
    assert status == 2
    assert "--model" in error


SENTENCES = ["-5 degrees", "-minus one", "-- he says", "-vv twice", "-5", "--weird", "-o=b c"]


@pytest.mark.parametrize("sentence", SENTENCES)
def test_a_sentence_with_a_dash_is_no_option(run_zsvg, videos: Path, sentence: str):
    status, out, error = run_zsvg("ground", videos, "plain", sentence, "--model", "micro")
    assert (status, out) == (2, "")
    told = " ".join(error.replace("│", " ").split())  # of the box, which wraps lines
    assert sentence in told
    assert 'zsvg ground VIDEO --model MODEL -- "-5 degrees"' in told


def test_sentences_with_dashes_stand_after_two(
    tiny_clip_folder: Path, videos: Path, tmp_path: Path, run_zsvg
):
    model = f"local-dir:{tiny_clip_folder}"
    common = ["--model", model, "--cache", tmp_path / "cache", "--format", "jsonl"]
    status, out, error = run_zsvg("ground", videos / "one.mp4", *common, "--", *SENTENCES)
    assert status == 0, error
    assert [json.loads(line)["query"] for line in out.splitlines()] == SENTENCES
    # Values of options may hold a space, and begin with a dash where they stand apart.
    odd = tmp_path / "-a b.jsonl"
    arguments = ["one.mp4", "red", f"--model={model} ", "-o", odd.name]
    assert "no option" not in run_zsvg("ground", *arguments)[2]
    status, _, error = run_zsvg("ground", videos / "one.mp4", "red", *common, "-o", "-a b")
    assert (status, "cannot write" in error) == (1, True)


def test_options_that_are_unknown_are_still_guessed(run_zsvg):
    status, _, error = run_zsvg("ground", "one.mp4", "red", "--modle", "micro")
    assert (status, "--model" in error) == (2, True)
    status, _, error = run_zsvg("evaluate", "a", "b", "--protocl", "tgn")
    assert (status, "--protocol" in error, "degrees" in error) == (2, True, False)


def raised(source: str, module: str) -> BaseException:
    """Return what this code raises as a part of a module of that name."""
    try:
        exec(compile(source, module, "exec"), {"__name__": module, "np": np, "own": RecordError})
    except Exception as error:
        return error
    raise AssertionError(source)


@pytest.mark.parametrize(
    ("source", "module", "expected"),
    [
        ("raise ValueError('fps 0')", "zsvg.video", True),
        ("raise ValueError", "demo.samples", True),
        (
            "try: int('x')\nexcept ValueError: raise ValueError('no number')",
            "zsvg",
            True,
        ),
        ("raise own('of a callback')", "elsewhere", True),
        ("open('/nowhere/at/all')", "zsvg.files", True),
        ("np.concatenate([])", "zsvg.events.proposals", False),  # in C: no frame of its own
        ("np.stack([])", "zsvg.events.proposals", False),
        ("np.zeros(2) + np.zeros(3)", "zsvg.evaluation.metrics", False),
        ("int('x')", "zsvg.records", False),
        ("raise ValueError('of a library')", "numpy.linalg", False),
        ("raise ValueError('of a namesake')", "zsvgplus", False),
        ("{}['x']", "zsvg.records", False),
    ],
)
def test_what_a_user_can_change_is_told_from_faults(source: str, module: str, expected: bool):
    error = raised(source, module)
    assert ours(error) is expected
    line = failure("a.mp4", error)
    assert line.startswith("a.mp4: ") or "a.mp4" not in line
    assert ("internal error" in line) is not expected
    assert "\n" not in line


def test_a_fault_of_a_library_is_one_line_and_verbose_shows_its_place(
    run_zsvg, labels: Path, monkeypatch: pytest.MonkeyPatch
):
    def whole_video(annotations):
        return np.concatenate([])

    monkeypatch.setattr("zsvg.evaluation.baselines.whole_video", whole_video)
    line = "error: internal error, -v shows more: ValueError: need at least one array to"
    status, out, err = run_zsvg("baseline", "whole", labels, "-o", "-")
    assert (status, out) == (1, "")
    assert err.startswith(line)
    assert "Traceback" not in err
    status, _, err = run_zsvg("baseline", "whole", labels, "-o", "-", "-v")
    assert status == 1
    assert "Traceback" in err
    assert "np.concatenate([])" in err
    assert f"\n{line}" in err
