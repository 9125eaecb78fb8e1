"""Features from files in place of videos, and of sentences in place of a text tower."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import run_python
from safetensors.numpy import save_file

import zsvg
from zsvg.backbones.base import TEMPLATE
from zsvg.backbones.clip import load_backbone
from zsvg.errors import BackboneError, RecipeError, VideoError, ZsvgError
from zsvg.features import from_files
from zsvg.features.from_files import FeatureFiles, read_sentence
from zsvg.label.run import default_options
from zsvg.records import Annotation, read_predictions, write_annotations

PAGE = Path(__file__).parent.parent / "docs" / "own-features.md"
WIDTH = 32  # of the tiny CLIP's joint space


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the page's Python makes: 100 videos in the layout of Moment-DETR."""
    folder = tmp_path_factory.mktemp("own")
    (code, *_) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    done = run_python("-c", code, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def zsvg_in(folder: Path, line: str) -> Any:
    return run_python("-m", "zsvg", *line.split(), cwd=folder)


def test_the_page_is_true(own: Path, tmp_path: Path):
    """Its commands and its Python run as they stand, and find what was planted."""
    (shell,) = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    cd, *lines = shell.replace("\\\n", " ").strip().splitlines()
    folder = own / cd.removeprefix("cd ")
    for line in lines:
        done = zsvg_in(folder, line.removeprefix("zsvg "))
        assert done.returncode == 0, done.stderr
    about = json.loads((folder / "model" / "zsvg.json").read_text())
    assert about["features"] == {"width": 512, "clip_seconds": 2.0, "window_seconds": None}
    assert about["backbone"]["name"] == "features"
    assert about["sampling"]["fps"] == 0.5
    assert "rows of 512 numbers, one each 2 s" in (folder / "model" / "README.md").read_text()
    truth = zsvg.read_annotations(folder / "val.jsonl")
    tuned = zsvg.evaluate(read_predictions(folder / "tuned.jsonl"), truth)
    assert tuned["R1@0.5"] >= 0.8
    *_, code = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    done = run_python("-c", code, cwd=own)
    assert float(done.stdout) == tuned["R1@0.5"]
    # Without training, and without the sentences' features.
    given = "predict val.jsonl --features clip_features --clip-seconds 2"
    done = zsvg_in(folder, f"{given} --text-features clip_text_features -m features -o free.jsonl")
    assert done.returncode == 0, done.stderr
    free = zsvg.evaluate(read_predictions(folder / "free.jsonl"), truth)
    assert free["R1@0.5"] >= 0.5
    done = zsvg_in(folder, f"{given} --model model/ -o no.jsonl")
    assert done.returncode == 1
    assert "give --text-features (in Python" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.fixture
def rows() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    return {f"v{n}": draw.normal(size=(10 + n, WIDTH)).astype(np.float16) for n in range(3)}


def stored(folder: Path, rows: dict[str, np.ndarray], form: str) -> Path:
    """Write features in one of the forms; return what `--features` takes."""
    folder.mkdir(exist_ok=True)
    if form == "one npz":
        np.savez(folder / "all.npz", **rows)
        return folder / "all.npz"
    if form == "one safetensors":
        save_file(rows, folder / "all.safetensors")
        return folder / "all.safetensors"
    if form.startswith("one hdf5"):
        h5py = pytest.importorskip("h5py")
        with h5py.File(folder / "all.hdf5", "w") as file:
            for vid, values in rows.items():
                file[f"{vid}/c3d_features" if form.endswith("groups") else vid] = values
        return folder / "all.hdf5"
    for vid, values in rows.items():
        if form == "npy":
            np.save(folder / f"{vid}.npy", values)
        elif form == "npz":
            np.savez(folder / f"{vid}.npz", features=values, other=np.zeros(3))
        elif form == "safetensors":
            save_file({"whatever": values}, folder / f"{vid}.safetensors")
        else:
            h5py = pytest.importorskip("h5py")
            with h5py.File(folder / f"{vid}.h5", "w") as file:
                file["features"] = values
    return folder


@pytest.mark.parametrize(
    "form",
    ["npy", "npz", "safetensors", "h5", "one npz", "one safetensors", "one hdf5",
     "one hdf5 of groups"],
)  # fmt: skip
def test_every_form_holds_the_same(form: str, rows: dict[str, np.ndarray], tmp_path: Path):
    files = FeatureFiles(stored(tmp_path / "f", rows, form), seconds=2.0)
    assert list(files) == ["v0", "v1", "v2"]
    for vid, path in files.items():
        found = files.read(path, width=WIDTH, fingerprint="x")
        exact = rows[vid].astype(np.float32)
        np.testing.assert_allclose(
            found.features, exact / np.linalg.norm(exact, axis=1, keepdims=True), rtol=1e-6
        )
        assert (found.vid, found.duration, found.fps) == (vid, 2.0 * len(exact), 0.5)
        np.testing.assert_array_equal(found.edges, np.arange(len(exact) + 1) * 2.0)


def read(place: Path, vid: str = "v0", **options: Any) -> Any:
    files = FeatureFiles(place, **options)
    return files.read(files[vid], width=WIDTH, fingerprint="x")


def test_rows_lie_in_time_as_they_are_said_to(rows: dict[str, np.ndarray], tmp_path: Path):
    place = stored(tmp_path, rows, "npy")
    spread = read(place, durations={"v0": 25.0})
    np.testing.assert_allclose(spread.edges, np.linspace(0, 25, 11))
    assert spread.fps == 0.4
    # Ten rows of 2 s; the video may end a step before or after them.
    for duration in (18.5, 20.0, 21.9):
        found = read(place, seconds=2.0, durations={"v0": duration})
        assert found.edges[-1] == duration
        assert np.all(np.diff(found.edges) > 0)
        assert len(found.features) == len(found.edges) - 1
    assert len(read(place, seconds=2.0, durations={"v0": 18.0}).features) == 9  # one begins there
    # Windows of 4 s every 2 s: a row stands for the middle of its window.
    found = read(place, seconds=2.0, window=4.0, durations={"v0": 22.0})
    np.testing.assert_allclose(found.edges, [0, *np.arange(3.0, 21.0, 2.0), 22])
    np.testing.assert_allclose(found.centres[1:-1], np.arange(4.0, 19.0, 2.0))
    for duration in (17.9, 22.1):
        with pytest.raises(VideoError, match=r"v0.npy: 10 rows of 2 s last 20 s, but the video"):
            read(place, seconds=2.0, durations={"v0": duration})
    with pytest.raises(VideoError, match="nobody tells how long the video is; give --clip-seconds"):
        read(place)


def broken(name: str, good: np.ndarray) -> Any:
    values = good.astype(np.float32).copy()
    if name == "nan":
        values[3, 5] = np.nan
    elif name == "infinite":
        values[3, 5] = np.inf
    elif name == "zeros":
        values[[3, 4]] = 0
    elif name == "flat":
        values = values[0]
    elif name == "empty":
        values = values[:0]
    elif name == "wide":
        values = np.hstack([values, values])
    elif name == "text":
        return np.array([["a", "b"]])
    return values


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nan", r"row 3 is not finite \(1 of 10\)"),
        ("infinite", "row 3 is not finite"),
        ("zeros", r"row 3 is all zeros \(2 of 10\)"),
        ("flat", r"an array of shape \(32,\)"),
        ("empty", r"an array of shape \(0, 32\)"),
        ("wide", "rows of 64 numbers, but the backbone's sentences have 32"),
        ("text", "type <U1; features are"),
    ],
)
def test_rows_that_are_none_are_one_clear_line(
    name: str, why: str, rows: dict[str, np.ndarray], tmp_path: Path
):
    np.save(tmp_path / "v0.npy", broken(name, rows["v0"]))
    with pytest.raises(VideoError, match=why) as caught:
        read(tmp_path, seconds=1.0)
    assert str(caught.value).startswith(f"{tmp_path / 'v0.npy'}: ")
    assert "\n" not in str(caught.value)


def test_files_that_are_none_are_one_clear_line(rows: dict[str, np.ndarray], tmp_path: Path):
    def refused(place: Path, **options: Any) -> str:
        with pytest.raises(ZsvgError) as caught:
            read(place, seconds=1.0, **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no such file or folder" in refused(tmp_path / "no")
    assert "no file in this folder (.npy" in refused(tmp_path)
    for suffix in (".npy", ".npz", ".safetensors", ".h5"):
        file = tmp_path / f"v0{suffix}"
        file.write_bytes(b"nothing of that kind")
        assert "read" in refused(tmp_path)
        file.unlink()
    np.savez(tmp_path / "v0.npz", one=rows["v0"], two=rows["v1"])
    assert "which of ['one', 'two'] holds the features? Call it 'features'" in refused(tmp_path)
    np.savez(tmp_path / "v0.npz", features=np.array([{}], dtype=object))
    assert "Object arrays cannot be loaded" in refused(tmp_path)  # nothing is unpickled
    with pytest.raises(ValueError, match=r"clip seconds 0 must lie in \[0.001, 1e\+06\]"):
        FeatureFiles(tmp_path, seconds=0)
    with pytest.raises(ValueError, match="give both"):
        FeatureFiles(tmp_path, window=2.0)


def test_strange_files_are_read_or_one_line(rows: dict[str, np.ndarray], tmp_path: Path):
    """What a stranger found: other content than the suffix says, and names that are paths."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_torch

    values = torch.from_numpy(rows["v0"].astype(np.float32))
    save_torch({"x": values.bfloat16()}, tmp_path / "half.safetensors")
    np.testing.assert_allclose(
        read(tmp_path, "half", seconds=1.0).features,
        values / values.norm(dim=1, keepdim=True),
        atol=0.01,
    )
    np.save(tmp_path / "a.npy", rows["v0"])
    (tmp_path / "a.npy").rename(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", rows["v0"], rows["v1"])
    (tmp_path / "c.npz").rename(tmp_path / "c.npy")
    (tmp_path / "d.npy").write_bytes(b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f4', ")
    for vid in ("b", "c", "d"):
        with pytest.raises(VideoError, match=rf"{vid}.np.: (cannot be read|no array)") as caught:
            read(tmp_path, vid, seconds=1.0)
        assert "\n" not in str(caught.value)
    for vid in ("x", "y"):
        np.save(tmp_path / f"{vid}.npy", rows["v0"])
    np.savez(tmp_path / "x.npz", features=rows["v1"])  # two of one stem keep their suffix
    (tmp_path / ".hidden").mkdir()
    np.save(tmp_path / ".hidden" / "h.npy", rows["v0"])
    (tmp_path / "lost.npy").symlink_to(tmp_path / "nowhere")
    files = FeatureFiles(tmp_path)
    assert set(files) == {"half", "b", "c", "d", "x.npy", "x.npz", "y"}
    (line,) = files.unusable
    assert "a link to nothing" in line
    # Names of arrays are names, whatever a path would make of them.
    np.save(tmp_path / "secret.npy", np.ones((3, WIDTH)))
    names = ["a//b", "a/b", "./c", str(tmp_path / "secret.npy"), "d/", "."]
    place = tmp_path / "all.safetensors"
    save_file({name: rows["v0"] + n for n, name in enumerate(names)}, place)
    for n, name in enumerate(names):
        exact = (rows["v0"] + n).astype(np.float32)
        np.testing.assert_allclose(
            read(place, name, seconds=1.0).features,
            exact / np.linalg.norm(exact, axis=1, keepdims=True),
            atol=1e-6,
        )
    for seconds in (1e-320, 1e308, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="clip seconds"):
            FeatureFiles(tmp_path, seconds=seconds)
    for duration in (0.0, -3.0):
        with pytest.raises(VideoError, match="its duration must be above 0"):
            read(tmp_path, "y", durations={"y": duration})


def test_groups_of_hdf5_that_hold_nothing_end(rows: dict[str, np.ndarray], tmp_path: Path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file["good"] = rows["v0"]
        file["empty"] = h5py.Empty("f")
        file["dangling"] = h5py.SoftLink("/nowhere")
        file.create_group("itself")["again"] = h5py.SoftLink("/itself")
    assert len(read(tmp_path / "all.h5", "good", seconds=1.0).features) == 10
    for vid in ("empty", "dangling", "itself"):
        with pytest.raises(VideoError, match=r"all\.h5"):
            read(tmp_path / "all.h5", vid, seconds=1.0)


def test_names_match_in_any_unicode_form(rows: dict[str, np.ndarray], tmp_path: Path):
    np.save(tmp_path / "na\u00efve.npy", rows["v0"])
    assert read(tmp_path, "nai\u0308ve", durations={"nai\u0308ve": 5.0}).duration == 5


def test_a_bad_sentence_costs_its_record_alone(rows: dict[str, np.ndarray], tmp_path: Path):
    from zsvg.backbones.stored import StoredBackbone

    good = rows["v0"].astype(np.float64)
    for qid in (1, 2):
        np.savez(tmp_path / f"qid{qid}.npz", last_hidden_state=good[qid : qid + 3])
    (tmp_path / "qidjunk.npz").write_bytes(b"junk")
    np.savez(tmp_path / "qidzero.npz", last_hidden_state=np.zeros((3, WIDTH)))
    np.savez(tmp_path / "qidtwo.npz", last_hidden_state=np.ones((2, 3, WIDTH)))
    np.savez(tmp_path / "qidwide.npz", last_hidden_state=np.ones((3, 2 * WIDTH)))
    np.savez(tmp_path / "qidodd.npz", last_hidden_state=good[:3], pooler_output=np.ones(7))
    np.save(tmp_path.parent / "secret.npy", np.ones(WIDTH))
    bad = ["wide", "junk", "zero", "two", "odd", "x" * 300, "../secret"]
    records = [
        Annotation(qid=qid, query=f"sentence {number}", vid="v0", duration=10.0)
        for number, qid in enumerate([*bad, 1, 2])
    ]
    backbone = StoredBackbone(tmp_path, records, "cpu")
    assert backbone.embed_dim == WIDTH
    np.save(tmp_path / "v0.npy", rows["v0"])
    folder = tmp_path / "clips"
    folder.mkdir()
    np.save(folder / "v0.npy", rows["v0"])
    grounder = zsvg.load("features", backbone=backbone)
    found, failures = zsvg.predict(grounder, records, FeatureFiles(folder, seconds=1.0))
    assert [prediction.qid for prediction in found] == [1, 2]
    assert len(failures) == len(bad)
    assert any("64 numbers" in line for line in failures.values())
    assert any("junk.npz: cannot be read" in line for line in failures.values())
    twice = [records[-1], replace(records[-2], duration=500.0)]
    with pytest.raises(ZsvgError, match=r"lasts 500 s here and 10 s in another record"):
        zsvg.predict(grounder, twice, FeatureFiles(folder, seconds=1.0))


def test_sentences_lie_in_the_forms_of_the_field(tmp_path: Path):
    tokens = np.random.default_rng(0).normal(size=(5, WIDTH))
    unit = tokens / np.linalg.norm(tokens, axis=1, keepdims=True)
    mean = unit.mean(axis=0) / np.linalg.norm(unit.mean(axis=0))
    np.savez(tmp_path / "qid1.npz", last_hidden_state=tokens[None], pooler_output=tokens[2])
    np.savez(tmp_path / "2.npz", last_hidden_state=tokens)
    np.savez(tmp_path / "3.npz", pooler_output=tokens[2][None])
    np.save(tmp_path / "4.npy", tokens[2])
    for qid, pooled, states in ((1, unit[2], unit), (2, mean, unit), ("3", unit[2], unit[2:3]),
                                (4, unit[2], unit[2:3])):  # fmt: skip
        found = read_sentence(tmp_path, qid)
        np.testing.assert_allclose(found.pooled, pooled, atol=1e-6)
        np.testing.assert_allclose(found.tokens, states, atol=1e-6)
    np.savez(tmp_path / "5.npz", other=tokens)
    for qid, why in ((5, "neither last_hidden_state nor pooler_output"), (6, r"\(qid6.npz\)")):
        with pytest.raises(ZsvgError, match=why):
            read_sentence(tmp_path, qid)


@pytest.fixture
def material(tiny_clip_folder: Path, tmp_path: Path) -> tuple[str, list[Annotation], Path]:
    """A backbone, labels and features of six videos, in which every query has its moment."""
    name = f"local-dir:{tiny_clip_folder}"
    backbone = load_backbone(name, "cpu")
    queries = ["a person opens the door", "red square", "the dog sits", "who throws a ball"]
    texts = backbone.encode_text(
        [f"{TEMPLATE} {query}".strip() for query in queries]
    ).pooled.numpy()
    draw = np.random.default_rng(0)
    labels = []
    for number in range(6):
        values = draw.normal(size=(60, WIDTH)) * 0.05
        for index in range(4):
            values[15 * index + 3 : 15 * index + 13] += texts[index]
            labels.append(
                Annotation(qid=4 * number + index, query=queries[index], vid=f"v{number}",
                           duration=120.0,
                           relevant_windows=((30.0 * index + 6, 30.0 * index + 26),))
            )  # fmt: skip
        np.save(tmp_path / f"v{number}.npy", values)
    return name, labels, tmp_path


def test_a_model_is_tuned_and_asked_without_a_video(
    material: tuple[str, list[Annotation], Path], tmp_path_factory, small_video: Path, caplog
):
    name, labels, folder = material
    model = tmp_path_factory.mktemp("tuned") / "model"
    recipe = zsvg.load_recipe("coop").with_training(steps=5, batch_size=8)
    zsvg.tune(labels, FeatureFiles(folder), name, model, recipe=recipe, validation=labels[:4])
    about = json.loads((model / "zsvg.json").read_text())
    assert about["features"] == {"width": WIDTH, "clip_seconds": None, "window_seconds": None}
    assert about["sampling"]["fps"] == 0.5
    for asked in (model, name):
        found, failures = zsvg.predict(asked, labels, FeatureFiles(folder, seconds=2.0))
        assert not failures
        assert len(found) == len(labels)
    assert zsvg.evaluate(found, labels)["R1@0.5"] > 0.8  # what was planted
    assert not caplog.records
    # The same model on a video needs the named backbone, and says so.
    grounder = zsvg.load(model)
    assert grounder.ground(small_video, "a red square").moments
    assert grounder.ground(small_video, "a blue square").moments
    (line,) = [record.getMessage() for record in caplog.records]
    assert "rows of 32 numbers, spread evenly over the video" in line
    assert line.endswith("must be what made those")
    vpt = zsvg.load_recipe("vpt").with_training(steps=1)
    with pytest.raises(RecipeError, match="see pictures, and features have none"):
        zsvg.tune(labels, FeatureFiles(folder), name, model, recipe=vpt)


def test_features_are_looked_for_once(
    material: tuple[str, list[Annotation], Path], monkeypatch: pytest.MonkeyPatch
):
    name, labels, folder = material
    looked: list[Path] = []
    find = from_files.find_videos
    monkeypatch.setattr(
        from_files, "find_videos", lambda *a, **k: looked.append(a[0]) or find(*a, **k)
    )
    files = FeatureFiles(folder)
    found, failures = zsvg.predict(name, labels, files)
    assert len(found) == len(labels)
    assert not failures
    assert looked == [folder]
    # Nobody's durations are changed, and what is given is believed before what records say.
    assert not files.durations
    known = FeatureFiles(folder, durations={"v0": 60.0}).lasting({"v0": 120.0, "v1": 120.0})
    assert known.durations == {"v0": 60.0, "v1": 120.0}
    assert known.read(folder / "v0.npy", width=WIDTH, fingerprint="f").duration == 60
    assert known.read(folder / "v1.npy", width=WIDTH, fingerprint="f").duration == 120


def test_a_dry_run_looks_into_features(
    material: tuple[str, list[Annotation], Path], tmp_path_factory
):
    name, labels, folder = material
    work = tmp_path_factory.mktemp("dry")
    write_annotations(work / "labels.jsonl", labels)
    line = f"tune labels.jsonl --features {folder} --backbone {name} -o model --dry-run"
    done = zsvg_in(work, line)
    assert done.returncode == 0, done.stderr
    np.save(folder / "v2.npy", np.ones((60, WIDTH + 1)))
    (folder / "v4.npy").write_bytes(b"nothing")
    done = zsvg_in(work, line)
    assert done.returncode == 1
    assert "steps of" in done.stderr
    for vid in ("v2", "v4"):
        (told,) = [said for said in done.stderr.splitlines() if f"{vid}.npy" in said]
        assert told.startswith("error: ")
    assert not (work / "model").exists()


def test_events_without_sentences_are_labelled_and_resumed(
    material: tuple[str, list[Annotation], Path], tmp_path_factory
):
    name, _, folder = material
    work = tmp_path_factory.mktemp("work")
    options = default_options(form="features")
    report = zsvg.pseudo_label(
        FeatureFiles(folder, seconds=2.0), name, None, options=options, work_dir=work
    )
    assert not report.failures
    assert {label.vid for label in report.labels} == {f"v{n}" for n in range(6)}
    assert {label.duration for label in report.labels} == {120.0}
    kept = {path: path.stat().st_mtime_ns for path in work.iterdir()}
    again = zsvg.pseudo_label(
        FeatureFiles(folder, seconds=2.0), name, None, options=options, work_dir=work
    )
    assert again == report
    assert {path: path.stat().st_mtime_ns for path in work.iterdir()} == kept
    other = zsvg.pseudo_label(
        FeatureFiles(folder, seconds=1.0), name, None, options=options, work_dir=work
    )
    assert {label.duration for label in other.labels} == {60.0}  # the rows are those of another


def test_the_command_line_goes_on_past_bad_items(
    material: tuple[str, list[Annotation], Path], tmp_path_factory, run_zsvg
):
    name, labels, folder = material
    out = tmp_path_factory.mktemp("out")
    write_annotations(out / "labels.jsonl", labels)
    np.save(folder / "v1.npy", np.zeros((30, WIDTH)))
    (folder / "v2.npy").unlink()
    given = ["--features", folder, "--cache", out / "cache"]
    status, _, errors = run_zsvg(
        "predict", out / "labels.jsonl", *given, "-m", name, "-o", out / "p.jsonl"
    )
    assert status == 1
    assert len(read_predictions(out / "p.jsonl")) == 4 * 4
    assert f"error: {folder / 'v1.npy'}: row 0 is all zeros (30 of 30)" in errors
    assert "v2: no such video" in errors
    status, shown, _ = run_zsvg("ground", "red square", *given, "--clip-seconds", "2", "-m", name)
    assert status == 1
    assert "v0.npy" in shown
    status, _, errors = run_zsvg(
        "tune", out / "labels.jsonl", *given, "--backbone", name, "--steps", "2", "-o", out / "m"
    )
    assert status == 1
    assert "error: v2: no such video" in errors.replace("\n", " ") or "v2" in errors
    assert (out / "m" / "zsvg.json").is_file()
    status, _, errors = run_zsvg(
        "compare", out / "labels.jsonl", out / "labels.jsonl", *given, "--backbone", name,
        "--supervision", "training-free", "-o", out / "c",
    )  # fmt: skip
    assert (out / "c" / "table.md").is_file()
    for line, why in (
        (["predict", out / "labels.jsonl", "-m", name], "no videos are named"),
        (["predict", out / "labels.jsonl", *given, "--videos", folder, "-m", name], "give one"),
        (["pseudo-label", *given, "--backbone", name], "features show a captioner nothing"),
        (["ground", "red", *given, "-m", name, "--cut", out / "clips"], "features have none"),
        (["probe", out / "labels.jsonl", "--videos", folder, "--clip-seconds", "2", "-m", name],
         "--clip-seconds is about --features"),
    ):  # fmt: skip
        status, _, errors = run_zsvg(*line)
        assert status in (1, 2)
        assert why in errors
        assert len(errors.strip().splitlines()) == 1


def test_stored_sentences_have_their_limits(own: Path):
    from zsvg.backbones.stored import StoredBackbone

    folder = own / "qvhighlights"
    records = zsvg.read_annotations(folder / "val.jsonl")
    backbone = StoredBackbone(folder / "clip_text_features", records)
    grounder = zsvg.load("features", backbone=backbone)
    files = FeatureFiles(folder / "clip_features", seconds=2.0)
    zsvg.predict(grounder, records[:1], files)
    video = grounder.encode(files[records[0].vid])
    with pytest.raises(BackboneError, match="only sentences that were encoded can be asked"):
        grounder.ground(video, "something else")
    with pytest.raises(RecipeError, match=r"no tower to prompt; take --recipe head-only"):
        zsvg.tune(records, files, backbone, own / "no", recipe="coop")
    with pytest.raises(BackboneError, match="no sentence has features"):
        StoredBackbone(folder / "clip_features", records)
