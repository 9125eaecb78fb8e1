"""A grid of runs: what it lays out, what it writes, and that one failure does not stop the rest."""

import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from conftest import run_python
from hypothesis import given
from hypothesis import strategies as st
from test_cli import refused  # noqa: F401  (fixture)
from test_tune_processes import world  # noqa: F401  (fixture)

from zsvg.backbones.clip import load_backbone
from zsvg.errors import ZsvgError
from zsvg.evaluation.baselines import another_video, exchanged
from zsvg.experiments import compare as comparison
from zsvg.experiments.compare import Material, Run, compare, grid
from zsvg.experiments.compare_report import HEADER, Row, figure, markdown, rows_of
from zsvg.records import Annotation, Prediction, read_annotations
from zsvg.training.recipes import load_recipe
from zsvg.video.finding import find_videos

COOP, VPT = load_recipe("coop"), load_recipe("vpt")
DEEP = "prompts: {text: true, text_depth: 50}\n"  # more layers than any text tower has


# ---- the grid -----------------------------------------------------------------------------------


def test_a_grid_goes_from_the_least_supervision_to_the_most():
    runs = grid(
        [COOP, VPT],
        supervision=("full", "weak", "language-free", "training-free"),
        shot_counts=(2, None),
        seeds=(0, 1),
        blind=True,
    )
    names = [run.name for run in runs]
    assert names[:2] == ["training-free", "coop_regression_full_blind_seed-0"]
    assert len(set(names)) == len(names) == 1 + 4 + 4 + 8 + 8
    levels = [run.supervision for run in runs if not run.blind]
    assert levels == ["training-free", *["language-free"] * 4, *["weak"] * 8, *["full"] * 8]
    assert "coop_regression_weak_2-videos_seed-1" in names
    assert "vpt_regression_language-free_seed-0" in names
    assert {run.supervision for run in runs if run.blind} == {"full"}


def test_a_grid_without_sense_is_refused():
    for values, why in (
        ({"supervision": ("some",)}, "'some' is unknown.*glance"),
        ({"supervision": ()}, "nothing to compare"),
        ({"recipes": [COOP, COOP]}, "two recipes are called 'coop'"),
        ({"heads": ["nonsense"]}, "head 'nonsense'; choose one of regression"),
    ):
        with pytest.raises(ZsvgError, match=why):
            grid(**{"recipes": [COOP], **values})


# ---- answers of other videos --------------------------------------------------------------------


@given(vids=st.sets(st.text(min_size=1), min_size=2, max_size=9), seed=st.integers(0, 9))
def test_no_video_stays_with_itself(vids, seed):
    other = another_video(vids, seed)
    assert set(other) == set(other.values()) == vids
    assert all(vid != found for vid, found in other.items())


def test_exchanged_answers_are_stretched_to_the_other_video():
    def record(vid, number, duration):
        return Annotation(qid=f"{vid}{number}", query=f"q{number}", vid=vid, duration=duration,
                          relevant_windows=((0, 1),))  # fmt: skip

    asked = [record("a", 0, 10.0), record("a", 1, 10.0), record("b", 0, 40.0)]
    answers = [
        Prediction(qid=r.qid, query=r.query, vid=r.vid,
                   pred_relevant_windows=((r.duration / 10, r.duration / 2, 0.5 + number / 10),))
        for number, r in enumerate(asked)
    ]  # fmt: skip
    found = exchanged(answers, asked)
    assert [(p.qid, p.query, p.vid) for p in found] == [(r.qid, r.query, r.vid) for r in asked]
    windows = [p.pred_relevant_windows for p in found]
    assert windows == [((1.0, 5.0, 0.7),), ((1.0, 5.0, 0.7),), ((4.0, 20.0, 0.5),)]
    assert [p.qid for p in exchanged(answers[2:], asked)] == ["a0", "a1"]
    stranger = replace(answers[0], qid="c0", vid="c")  # nobody asks of that video
    assert exchanged([stranger, *answers], asked) == found


# ---- table and picture --------------------------------------------------------------------------


def metrics(value):
    return {"R1@0.3": value, "R1@0.5": value, "R1@0.7": value, "R5@0.5": None, "mIoU": value}


def test_rows_say_mean_and_spread_over_seeds():
    several = Row(method="coop", level="weak", videos="5", metrics=[metrics(0.4), metrics(0.6)])
    assert several.cells() == ("coop", "weak", "5", "2", *["50.0 ± 14.1"] * 3, "-", "50.0 ± 14.1")
    alone = Row(method="random", metrics=[metrics(0.1)], yardstick=True)
    assert alone.cells()[:5] == ("random", "-", "-", "-", "10.0")
    lines = markdown([alone, replace(several, method="a|b")], ["note"]).splitlines()
    assert lines[0] == "note"
    assert [line.replace("\\|", "").count("|") for line in lines[2:]] == [len(HEADER) + 1] * 4
    picture = figure([alone, several])
    assert picture == figure([alone, several])
    tree = ElementTree.fromstring(picture)
    dots = [e for e in tree.iter() if e.tag.endswith("circle")]
    assert tree.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(dots) == 3


# ---- runs ---------------------------------------------------------------------------------------


@pytest.fixture
def material(world, tiny_clip_folder, tmp_path):  # noqa: F811
    records = read_annotations(world / "labels.jsonl")
    videos = find_videos(world / "videos")
    return Material(
        labels=[a for a in records if a.vid in "abcd"],
        annotations=[a for a in records if a.vid in "ef"],
        videos=videos,
        test_videos=videos,
        backbone=load_backbone(f"local-dir:{tiny_clip_folder}", device="cpu"),
        cache=tmp_path / "cache",
    )


@pytest.fixture
def own(world):  # noqa: F811
    return load_recipe(str(world / "own.yaml"))


def test_a_failing_run_is_reported_and_tried_again(material, own, tmp_path, monkeypatch):
    runs, told = grid([own], supervision=("training-free", "weak", "full")), []
    tune, calls = comparison.tune, []

    def broken(labels, *rest, **options):
        calls.append(options["options"].supervision)
        if options["options"].supervision == "weak" and len(calls) == 1:
            raise RuntimeError("out of\nmemory")
        return tune(labels, *rest, **options)

    monkeypatch.setattr(comparison, "tune", broken)
    results, failures = compare(runs, material, tmp_path, on_run=lambda *all: told.append(all))
    assert [run.supervision for run, _ in results] == ["training-free", "full"]
    why = "internal error, -v shows more: RuntimeError: out of memory"
    assert failures == {"own_regression_weak_seed-0": why}
    assert [(run.supervision, why) for run, _, why in told] == [
        ("training-free", ""), ("weak", why), ("full", ""),
    ]  # fmt: skip
    assert material.backbone.adapters is None
    again, failures = compare(runs, material, tmp_path)
    assert calls == ["weak", "full", "weak"]
    assert not failures
    assert [result["level"] for _, result in again] == [
        "training-free", "weakly supervised", "fully supervised",
    ]  # fmt: skip
    assert again[2][1]["metrics"] == results[1][1]["metrics"]
    rows = rows_of(again, material.annotations, permuted=True)
    assert [row.method for row in rows[4:]] == [
        "permuted training-free", "permuted own + regression", "permuted own + regression",
        "training-free", "own + regression", "own + regression",
    ]  # fmt: skip
    assert rows[-1].videos == "4"


def test_results_belong_to_what_decides_them(material, own, tmp_path):
    run = Run(supervision="weak", recipe=own)
    others = [
        (replace(run, seed=1), material),
        (replace(run, shots=2), material),
        (replace(run, blind=True), material),
        (replace(run, recipe=own.model_copy(update={"template": "a"})), material),
        (run, replace(material, labels=material.labels[1:])),
        (run, replace(material, annotations=material.annotations[1:])),
        (run, replace(material, options=replace(material.options, fps=1.0))),
    ]
    names = {comparison.result_file(*pair, tmp_path) for pair in [(run, material), *others]}
    assert len(names) == len(others) + 1
    assert comparison.result_file(run, replace(material, cache=None), tmp_path) in names


def test_runs_of_other_settings_have_models_of_their_own(material, own, tmp_path, monkeypatch):
    runs = grid([own], supervision=("full",))
    half = replace(material, options=replace(material.options, fps=1.0))
    compare(runs, material, tmp_path)
    (first,) = (tmp_path / "models").iterdir()
    kept = (first / "head.safetensors").read_bytes()
    # What an interrupted run of these settings left is not continued by others.
    (tmp_path / "models" / f"{runs[0].name}.checkpoint").mkdir()
    _, failures = compare(runs, half, tmp_path)
    assert not failures
    models = {p.name for p in (tmp_path / "models").iterdir() if not p.name.endswith("checkpoint")}
    assert models == {comparison.result_file(runs[0], m, tmp_path).stem for m in (material, half)}
    assert len(models) == 2
    assert (first / "head.safetensors").read_bytes() == kept


def test_shots_and_language_free_labels_are_the_ones_asked_for(material, own, tmp_path):
    pseudo = [replace(a, qid=f"p{a.qid}", extra={"source": {}}) for a in material.labels]
    material = replace(material, pseudo=pseudo[:6])
    runs = grid([own], supervision=("language-free", "full"), shot_counts=(2,))
    results, failures = compare(runs, material, tmp_path)
    assert not failures
    assert [(r["level"], r["labels"], r["labelled_videos"]) for _, r in results] == [
        ("language-free / pseudo-supervised", 6, 3), ("fully supervised", 4, 2),
    ]  # fmt: skip
    with pytest.raises(ZsvgError, match="--pseudo"):
        compare(runs, replace(material, pseudo=()), tmp_path)


def test_tested_videos_that_are_trained_on_are_said(material, own):
    (line,) = comparison.check([Run()], replace(material, annotations=material.labels))
    assert "4 of 4 tested videos are also trained on" in line
    assert comparison.check([Run()], material) == []


def test_the_command_compares_skips_and_fails_where_a_run_does(
    world,  # noqa: F811
    tiny_clip_folder,
    tmp_path,
):
    labels = (world / "labels.jsonl").read_text().splitlines()
    for name, vids in (("train", "abcd"), ("test", "ef")):
        kept = [line for line in labels if json.loads(line)["vid"] in vids]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(kept) + "\n")
    (tmp_path / "deep.yaml").write_text(DEEP)

    def run(*more):
        return run_python(
            "-m", "zsvg", "compare", tmp_path / "train.jsonl",
            tmp_path / "test.jsonl", "--videos", world / "videos", "-o", tmp_path / "out",
            "--recipe", f"{world / 'own.yaml'},{tmp_path / 'deep.yaml'}", "--seeds", "0,1",
            "--supervision", "glance", "--supervision", "training-free", "--head", "regression",
            "--controls", "query-blind,permuted", "--cache", tmp_path / "cache", "--device", "cpu",
            "--backbone", f"local-dir:{tiny_clip_folder}", *more,
        )  # fmt: skip

    first = run()
    assert first.returncode == 1, first.stderr
    assert len(re.findall(r"^error: deep_.*50", first.stderr, re.M)) == 4, first.stderr
    table = (tmp_path / "out" / "table.md").read_text()
    for words in ("whole video", "random", "query-blind own + regression", "glance supervised",
                  "permuted training-free"):  # fmt: skip
        assert words in first.stdout
        assert words in table
    written = {p: p.read_bytes() for p in (tmp_path / "out" / "runs").iterdir()}
    assert len(written) == 5
    result = json.loads(
        next(v for p, v in written.items() if "own_regression_glance_seed-1" in p.name)
    )
    assert result["labels"] == 8
    assert result["metrics"]["queries"] == 4
    models = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "models").rglob("*.safetensors")}
    second = run("--format", "json")
    assert all(row["method"] in first.stdout for row in json.loads(second.stdout))
    assert (tmp_path / "out" / "table.md").read_text() == table
    assert {p: p.stat().st_mtime_ns for p in models} == models
    assert {p: p.read_bytes() for p in written} == written


def test_the_command_refuses_in_one_line(refused, world):  # noqa: F811
    line = ("compare", world / "labels.jsonl", world / "labels.jsonl", "--videos", world / "videos")
    assert "query-blind, permuted" in refused(*line, "--controls", "none")
    assert "'x' must be a whole number" in refused(*line, "--seeds", "0,x")
    assert "'some' is unknown" in refused(*line, "--supervision", "some")
    assert "605 MB" in refused(*line)
    # Before a backbone is looked for.
    told = refused(*line, "-o", world / "labels.jsonl")
    assert "labels.jsonl cannot be written; choose another folder" in told
