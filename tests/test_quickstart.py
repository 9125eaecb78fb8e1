"""The whole path with the shipped micro backbones, small: what it writes and what it never sees."""

import json
from contextlib import contextmanager

import pytest

from zsvg.cli.app import main
from zsvg.experiments import quickstart
from zsvg.microworld.world import truth
from zsvg.training.recipes import load_recipe

DOMAIN, SEED, VIDEOS, TEST_VIDEOS = "chalk", 41, 6, 6


@contextmanager
def stage(name, total):
    yield lambda done: None


def short_recipe(name):
    return load_recipe(name).with_training(steps=6, validate_every=3, batch_size=8)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run it once; note which files were on disk whenever labels were made or tuned on."""
    out = tmp_path_factory.mktemp("quickstart") / "out"
    seen = []

    def watched(name, function):
        def wrapper(*args, **options):
            before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
            result = function(*args, **options)
            after = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
            seen.append((name, before | after))
            return result

        return wrapper

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quickstart, "load_recipe", short_recipe)
        patch.setattr(quickstart, "pseudo_label", watched("label", quickstart.pseudo_label))
        patch.setattr(quickstart, "tune", watched("tune", quickstart.tune))
        result = quickstart.run(
            out, domain=DOMAIN, seed=SEED, videos=VIDEOS, test_videos=TEST_VIDEOS, stage=stage
        )
    return out, result, seen


def test_no_annotation_is_on_disk_while_labels_are_made_and_tuned_on(run):
    _out, _result, seen = run
    assert [name for name, _ in seen[:2]] == ["label", "tune"]
    true = truth(DOMAIN, "train", SEED, VIDEOS) + truth(DOMAIN, "test", SEED, TEST_VIDEOS)
    windows = [json.dumps(list(map(list, a.relevant_windows))).encode() for a in true]
    ids = [str(a.qid).encode() for a in truth(DOMAIN, "test", SEED, TEST_VIDEOS)]
    for _name, files in seen[:2]:
        for path, content in files.items():
            assert path.name not in ("annotations.jsonl", "scenes.jsonl")
            if path.suffix in (".json", ".jsonl") and path.parent.name != "pseudo.parts":
                assert not any(qid in content for qid in ids), path
        labels = (
            next(c for p, c in files.items() if p.name == "pseudo.jsonl")
            if (_name == "tune")
            else b""
        )
        # A pseudo label may meet a true window by chance, but not most of them.
        assert sum(w in labels for w in windows) <= 0.2 * len(windows)


def test_a_folder_is_for_one_run(run, run_zsvg, tmp_path):
    out, _result, _seen = run
    same = {"--domain": DOMAIN, "--seed": SEED, "--videos": VIDEOS, "--test-videos": TEST_VIDEOS}
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    changes = {"--domain": "paper", "--seed": 3, "--videos": 8, "--test-videos": 7, "--steps": 9}
    for name, value in changes.items():
        options = [str(word) for pair in {**same, "--steps": 6, name: value}.items()
                   for word in pair]  # fmt: skip
        status, _, said = run_zsvg("quickstart", "-o", out, *options)
        assert (status, said.count("\n")) == (1, 1)
        assert f"{out}: holds a quickstart of domain {DOMAIN}, seed {SEED}, videos 6" in said
        assert "choose another -o" in said
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    # Version 0.1.0 left no note: its results tell, or the names of its videos.
    old = tmp_path / "old"
    (old / "unlabelled" / "videos").mkdir(parents=True)
    (old / "unlabelled" / "videos" / "night-train-0-0000.mp4").touch()
    status, _, said = run_zsvg("quickstart", "-o", old)
    assert (status, "holds night-train-0-0000.mp4" in said) == (1, True)
    assert [p.name for p in old.iterdir()] == ["unlabelled"]
    (old / "results.json").write_text(json.dumps({"domain": "night", "seed": 0, "videos": 180}))
    status, _, said = run_zsvg("quickstart", "-o", old)
    assert (status, "holds a quickstart of domain night, seed 0, videos 180" in said) == (1, True)


def test_a_run_with_the_same_settings_continues(run):
    out, result, _seen = run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quickstart, "load_recipe", short_recipe)
        again = quickstart.run(
            out, domain=DOMAIN, seed=SEED, videos=VIDEOS, test_videos=TEST_VIDEOS, stage=stage
        )
    assert again.values["methods"].keys() == result.values["methods"].keys()


def test_results_are_what_evaluate_says_of_the_saved_predictions(run, tmp_path, monkeypatch):
    out, _result, _seen = run
    results = json.loads((out / "results.json").read_text())
    assert results["domain"] == DOMAIN
    assert results["seed"] == SEED
    assert set(results["methods"]) == set(quickstart.METHODS)
    for name in quickstart.METHODS:
        metrics = tmp_path / f"{name}.json"
        argv = ["zsvg", "evaluate", str(out / "predictions" / f"{name}.jsonl")]
        argv += [str(out / "test" / "annotations.jsonl"), "-o", str(metrics)]
        monkeypatch.setattr("sys.argv", argv)
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code in (0, None)
        assert json.loads(metrics.read_text()) == results["methods"][name]
    free, ours, full = (
        results["methods"][n]["mIoU"] for n in ("training-free", "zero-labels", "supervised")
    )
    if full > free:
        assert results["gap_closed"] == pytest.approx((ours - free) / (full - free), abs=1e-4)


def test_the_table_has_every_method_and_kind(run):
    _out, result, _seen = run
    header, rows = result.table()
    assert [row[0] for row in rows] == list(quickstart.METHODS)
    assert {len(row) for row in rows} == {len(header)}
    header, rows = result.kinds()
    assert len(header) >= 4
    assert [row[0] for row in rows] == list(quickstart.METHODS)
    assert result.notes()


def test_the_report_is_one_file_that_needs_nothing_else(run):
    out, _result, _seen = run
    page = (out / "report.html").read_text()
    assert page.count("<svg") >= 8
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert "<script" not in page
    for name in quickstart.METHODS:
        assert name in page
