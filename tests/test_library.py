"""A library: what it answers, what it reads again, what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import coloured_frames, encode_video
from films import film

import zsvg
import zsvg.features.extract
import zsvg.library.candidates
import zsvg.library.indexing
import zsvg.library.looking
import zsvg.library.tables
import zsvg.library.vectors
import zsvg.video.hashes
from zsvg import FeatureFiles, Library, ZsvgError
from zsvg.features.encoder import FrameFeatures
from zsvg.grounding.ranking import asked, centred
from zsvg.library.candidates import choose, count, direction
from zsvg.library.manifest import FILE, read_manifest
from zsvg.library.rows import packed, runs, unpacked
from zsvg.library.sources import Source
from zsvg.library.upkeep import check, compact, info, prune
from zsvg.microworld.world import truth, write_world
from zsvg.training.options import TuneOptions
from zsvg.training.recipes import Recipe, load_recipe

HOUR = 3600.0
SPACE = {"model": "micro", "encoder": "e", "fps": 2.0, "framing": "crop", "width": 32}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five videos of studio, in two folders with spaces in their names."""
    base = tmp_path_factory.mktemp("library")
    write_world(base / "world", domain="studio", videos=5, seed=6)
    folder = base / "my videos"
    for number, file in enumerate(sorted((base / "world" / "videos").iterdir())):
        place = folder / ("last year" if number < 2 else "this year, at home")
        place.mkdir(parents=True, exist_ok=True)
        shutil.move(file, place / file.name)
    return folder


@pytest.fixture(scope="module")
def sentences() -> list[str]:
    """What is said of three of the videos."""
    return [record.query for record in truth("studio", "train", 6, 5)[::7]][:3]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def tuned(videos: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with prompts in front of sentences, and a head, after a few steps."""
    model = tmp_path_factory.mktemp("models") / "tuned"
    found = {Path(vid).name: file for vid, file in zsvg.load("micro").find(videos).items()}
    few = {"steps": 4, "batch_size": 4, "validate_every": 2, "warmup": 1}
    recipe = Recipe.model_validate({**load_recipe("coop").model_dump(), "training": few})
    labels = truth("studio", "train", 6, 5)
    backbone = zsvg.load("micro").backbone
    options = TuneOptions(seed=0)
    zsvg.tune(labels, found, backbone, model, recipe=recipe, options=options, cache=cache)
    return model


@pytest.fixture(scope="module")
def made(videos: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of the videos; to be read, not written to."""
    folder = tmp_path_factory.mktemp("made") / "library"
    report = Library.open(folder, "micro").add(videos, cache=cache)
    assert len(report.added) == 5
    return folder


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Three small films in a folder."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(3):
        film(folder / f"film {number}.mp4", range(number, number + 4), title=f"No. {number}")
    return folder


@pytest.fixture
def tiny(tiny_clip_folder: Path, tmp_path: Path) -> Library:
    return Library.open(tmp_path / "library", f"local-dir:{tiny_clip_folder}")


@pytest.fixture
def aged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all files be old enough for their times to be trusted."""
    now = time.time
    monkeypatch.setattr("zsvg.library.sources.time.time", lambda: now() + HOUR)


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were hashed or opened."""
    names: list[str] = []

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def call(path: str | Path, *more: object, **options: object) -> object:
            names.append(Path(path).name)
            return real(path, *more, **options)

        return call

    for module, name in (
        (zsvg.video.hashes, "sha256_file"),
        (zsvg.features.extract, "FrameSampler"),
        (zsvg.library.looking, "open_container"),
        (zsvg.library.looking, "load_frames_at"),
    ):
        monkeypatch.setattr(module, name, counted(getattr(module, name)))
    return names


def answering(library: Library) -> set[str]:
    return {answer.video.vid for answer in library.answers("a person", group=False)}


@pytest.mark.numeric
@pytest.mark.parametrize("kind", ["training-free", "tuned"])
def test_moments_borders_and_scores_are_those_of_ground(
    kind: str, videos: Path, cache: Path, made: Path, tuned: Path, sentences, tmp_path, run_zsvg
):
    model = "micro" if kind == "training-free" else tuned
    common = (*sentences, "--model", model, "--format", "jsonl")
    status, out, error = run_zsvg("ground", videos, *common, "--cache", cache, "--top-k", 15)
    assert status == 0, error
    grounded = list(map(json.loads, out.splitlines()))
    status, out, error = run_zsvg("search", made, *common, "--all", "--per-video", 9)
    assert status == 0, error
    searched = list(map(json.loads, out.splitlines()))
    # All are candidates: the same videos in the same order.
    assert [(r["query"], r["vid"]) for r in searched] == [(r["query"], r["vid"]) for r in grounded]
    for mine, other in zip(searched, grounded, strict=True):
        assert Path(mine["path"]).samefile(other["path"])
        assert mine["fit"] == other["fit"]
        assert mine.get("presence") == other.get("presence")
        assert mine["pred_relevant_windows"]
        assert [
            w for w in mine["pred_relevant_windows"] if w not in other["pred_relevant_windows"]
        ] == []
        assert mine["pred_relevant_windows"][0] == other["pred_relevant_windows"][0]


def test_features_come_back_without_a_bit_of_difference(videos: Path, cache: Path):
    grounder = zsvg.load("micro")
    frames = grounder.encode(next(iter(grounder.find(videos).values())), cache=cache).frames
    row = packed(frames)
    assert row["kind"] == "float16"  # half the place
    back = unpacked(row, frames.vid)
    for name in ("features", "times", "edges"):
        assert getattr(back, name).tobytes() == getattr(frames, name).tobytes()
    draw = np.random.default_rng(0).normal(size=frames.features.shape).astype(np.float32)
    other = replace(frames, features=draw / np.linalg.norm(draw, axis=1, keepdims=True))
    row = packed(other)
    assert row["kind"] == "float32"
    assert unpacked(row, "v").features.tobytes() == other.features.tobytes()


def test_rows_of_frames_choose_as_fit_does(made: Path, sentences):
    library = Library.open(made)
    for sentence in sentences:
        ranked = [answer.video.content for answer in library.answers(sentence, group=False)]
        vector = direction(library.grounder, sentence)
        contents = [video.content for video in library.videos()]
        assert choose(library.tables, vector, contents, 1) == ranked[:1]
        assert set(choose(library.tables, vector, contents, 4)) == set(ranked[:4])
        assert choose(library.tables, vector, contents[:2], 2) == contents[:2]
        narrow = choose(library.tables, vector, contents[:3], 1, narrow=True)
        assert narrow == [c for c in ranked if c in contents[:3]][:1]


def test_runs_of_nearly_equal_clips_are_one_row():
    rows = np.eye(4, dtype=np.float32)[[0, 0, 0, 1, 1, 2, 0]]
    vectors, borders = runs(rows)
    assert borders.tolist() == [0, 3, 5, 6, 7]
    assert vectors.tolist() == centred(rows)[[0, 3, 5, 6]].astype(np.float16).tolist()
    # The best of them is what the video's fit is.
    sentence, usual = np.eye(4, dtype=np.float32)[[2, 3]]
    best = float((vectors.astype(np.float32) @ asked(sentence, usual)).max())
    assert best == pytest.approx(zsvg.grounding.ranking.fit(rows, sentence, usual), abs=2e-3)


@pytest.mark.parametrize(
    ("videos", "read"), [(3, 50), (499, 50), (667, 66), (3000, 300), (10**6, 500)]
)
def test_how_many_videos_are_read_whole(videos: int, read: int):
    assert count(videos) == read <= max(50, videos / 10)


def test_what_has_not_changed_is_neither_hashed_nor_decoded(
    tiny: Library, clips: Path, aged, looked_at: list[str]
):
    report = tiny.add(clips)
    assert report.added == ["film 0", "film 1", "film 2"]
    assert {*looked_at} == {"film 0.mp4", "film 1.mp4", "film 2.mp4"}
    assert [video.title for video in tiny.videos()] == ["No. 0", "No. 1", "No. 2"]
    looked_at.clear()
    version = tiny.tables.version
    report = tiny.add(clips)
    assert (report.unchanged, report.changed, looked_at) == (3, False, [])
    assert tiny.tables.version == version
    assert Library.open(tiny.folder).add().unchanged == 3  # it knows its folders
    assert looked_at == []
    tiny.add(clips, rehash=True)
    assert sorted(looked_at)[0] == "film 0.mp4"


def test_a_file_that_may_still_change_unseen_is_read_again(
    tiny: Library, clips: Path, looked_at: list[str], monkeypatch: pytest.MonkeyPatch
):
    file = clips / "film 1.mp4"
    written = file.stat().st_mtime
    monkeypatch.setattr("zsvg.library.sources.time.time", lambda: written + 0.5)
    tiny.add(clips)
    looked_at.clear()
    monkeypatch.setattr("zsvg.library.sources.time.time", lambda: written + HOUR)
    assert not tiny.add(clips).added
    assert "film 1.mp4" in looked_at
    looked_at.clear()
    tiny.add(clips)
    assert looked_at == []


def test_what_moves_is_recognised(tiny: Library, clips: Path, aged, looked_at: list[str]):
    tiny.add(clips)
    sizes = tiny.tables.sizes()
    (clips / "sub").mkdir()
    (clips / "film 1.mp4").rename(clips / "sub" / "other name.mp4")
    shutil.copy(clips / "film 2.mp4", clips / "copy.mp4")
    looked_at.clear()
    report = tiny.add(clips)
    assert (report.added, report.moved, report.copies, report.vanished) == (
        [], ["sub/other name"], ["copy"], [],
    )  # fmt: skip
    assert report.unchanged == 2
    assert tiny.tables.sizes() == {**sizes, "videos": 4}
    assert [video.vid for video in tiny.videos()] == ["copy", "film 0", "film 2", "sub/other name"]
    assert check(tiny.folder) == []
    answers = {a.video.vid: a.alike for a in tiny.answers("a grey picture", group=False)}
    assert answers == {"copy": (str(clips / "film 2.mp4"),), "film 0": (), "sub/other name": ()}


def test_what_vanishes_is_marked_and_forgotten_on_demand(tiny: Library, clips: Path, aged):
    tiny.add(clips)
    hidden = (clips / "film 0.mp4").rename(clips.parent / "elsewhere.mp4")
    report = tiny.add(clips)
    assert (report.vanished, report.unchanged) == (["film 0"], 2)
    assert "film 0" not in answering(tiny)
    assert tiny.add(clips).vanished == []  # said once
    hidden.rename(clips / "film 0.mp4")
    assert not tiny.add(clips).added
    assert "film 0" in answering(tiny)
    (clips / "film 0.mp4").unlink()
    tiny.add(clips)
    assert info(tiny.folder)["vanished"] == 1
    assert [video.vid for video in prune(tiny.folder)] == ["film 0"]
    assert info(tiny.folder)["rows"]["features"] == 2
    assert len({e["content"] for e in tiny.tables.events(tiny.videos()[0].content)}) == 1
    assert check(tiny.folder) == []
    (clips / "film 1.mp4").unlink()
    assert tiny.add(clips, prune=True).vanished == ["film 1"]
    assert [video.vid for video in tiny.videos()] == ["film 2"]


def test_what_changes_is_made_again_and_the_old_goes(tiny: Library, clips: Path, aged):
    tiny.add(clips)
    before = {video.vid: video for video in tiny.videos()}
    film(clips / "film 1.mp4", range(6), title="new")
    report = tiny.add(clips)
    assert (report.added, report.unchanged) == (["film 1"], 2)
    (now,) = (video for video in tiny.videos() if video.vid == "film 1")
    assert (now.duration, now.title) == (pytest.approx(6, abs=0.2), "new")
    assert tiny.tables.contents().isdisjoint({before["film 1"].content})
    assert check(tiny.folder) == []


def test_what_is_no_video_is_said_again_but_not_tried_again(
    tiny: Library, clips: Path, aged, looked_at: list[str]
):
    (clips / "bad.mp4").write_bytes(b"no video at all")
    report = tiny.add(clips)
    assert list(report.failures) == ["bad"]
    assert "bad.mp4" in report.failures["bad"]
    looked_at.clear()
    assert tiny.add(clips).failures == report.failures
    assert looked_at == []
    film(clips / "bad.mp4", range(3))
    assert tiny.add(clips).added == ["bad"]


def test_a_file_found_by_two_ways_is_one(tiny: Library, clips: Path, aged):
    (clips / "sub").mkdir()
    (clips / "film 1.mp4").rename(clips / "sub" / "film 1.mp4")
    tiny.add(clips / "sub")
    tiny.add(clips)
    assert [video.vid for video in tiny.videos()] == ["film 0", "film 1", "film 2"]
    other = clips.parent / "more"
    other.mkdir()
    film(other / "film 1.mp4", range(7))
    tiny.add(other)  # another video of that name
    assert [video.vid for video in tiny.videos()][-1] == "more/film 1.mp4"
    assert len(tiny.videos()) == 4
    (clips / "film 0.mp4").unlink()
    assert tiny.add(other).vanished == []  # nobody looked there
    assert tiny.add().vanished == ["film 0"]


def test_features_are_indexed_as_videos_are(tiny_clip_folder: Path, tmp_path: Path, aged):
    draw = np.random.default_rng(1)
    folder = tmp_path / "features"
    folder.mkdir()
    for number in range(4):
        np.save(folder / f"v{number}.npy", draw.normal(size=(20, 32)).astype(np.float32))
    lengths = {f"v{number}": 40.0 + number for number in range(4)}
    library = Library.open(tmp_path / "library", f"local-dir:{tiny_clip_folder}")
    assert len(library.add(FeatureFiles(folder, durations=lengths)).added) == 4
    assert library.add(FeatureFiles(folder, durations=lengths)).unchanged == 4
    # How rows lie in time is part of what they are.
    assert library.add(FeatureFiles(folder, durations={**lengths, "v2": 50.0})).added == ["v2"]
    (folder / "v3.npy").unlink()
    report = library.add(FeatureFiles(folder, durations={**lengths, "v2": 50.0}))
    assert (report.vanished, report.unchanged) == (["v3"], 3)
    together = tmp_path / "all.npz"
    np.savez(together, **{name: draw.normal(size=(9, 32)) for name in ("a", "b/c")})
    files = FeatureFiles(together, 1.0)
    assert library.add(files).added == ["a", "b/c"]
    assert library.add(files).unchanged == 2
    assert check(library.folder) == []
    answers = {a.video.vid: a for a in library.answers("a red ball", group=False)}
    assert set(answers) == {"v0", "v1", "v2", "a", "b/c"}
    grounder = zsvg.load(f"local-dir:{tiny_clip_folder}")
    grounder.backbone.files = files
    said = grounder.ground(grounder.encode(files["a"]), "a red ball", top_k=15)
    assert (said.moments, said.fit) == (answers["a"].grounding.moments, answers["a"].grounding.fit)


def test_filters_and_most_per_video(made: Path, videos: Path, sentences, run_zsvg):
    library = Library.open(made)
    vids = {video.vid for video in library.videos()}
    year = {vid for vid in vids if vid.startswith("last year/")}
    assert {r.vid for r in library.search(sentences[0], folder="last year")} == year
    assert {r.vid for r in library.search(sentences[0], folder=videos / "last year")} == year
    longest = max(library.videos(), key=lambda video: video.duration)
    found = library.search(sentences[0], min_length=longest.duration)
    assert longest.vid in {r.vid for r in found}
    assert all(v.duration >= longest.duration for v in library.videos() if v.vid in found)
    assert library.search(sentences[0], since=time.time() + HOUR) == []
    best, second = (hit.video.vid for hit in library.hits(sentences[0], top=2, per_video=1))
    (found,) = library.hits(sentences[0], top=1, most=1, among=lambda video: video.vid != best)
    assert found.video.vid == second
    for most in (1, 2):
        records = library.search(sentences[0], per_video=most)
        assert max(len(r.pred_relevant_windows or ()) for r in records) <= most
    assert sum(len(r.pred_relevant_windows or ()) for r in library.search("red", top=3)) == 3
    status, out, _ = run_zsvg("search", made, sentences[0], "--folder", "last year", "--top", 1)
    assert (status, out.count("last year/")) == (0, 1)
    status, _, error = run_zsvg("search", made, sentences[0], "--since", "2999-01-01")
    assert status == 0
    status, _, error = run_zsvg("search", made, " ")
    assert (status, "blank" in error) == (1, True)


def test_near_duplicates_are_named_with_the_better_one(tmp_path: Path):
    frames = coloured_frames(60)
    folder = tmp_path / "clips"
    folder.mkdir()
    encode_video(folder / "a.mp4", frames)
    encode_video(folder / "b.mp4", np.clip(frames.astype(int) + 2, 0, 255).astype(np.uint8))
    encode_video(folder / "other.mp4", frames[::-1][:, ::-1].transpose(0, 1, 2, 3) // 2)
    library = Library.open(tmp_path / "library", "micro")
    library.add(folder)
    every = library.answers("a red ring", group=False)
    assert len(every) == 3
    first = next(answer for answer in every if answer.video.vid in "ab")
    second = ({"a": "b", "b": "a"})[first.video.vid]
    grouped = {answer.video.vid: answer.alike for answer in library.answers("a red ring")}
    assert str(folder / f"{second}.mp4") in grouped[first.video.vid]
    assert second not in grouped


def test_an_index_of_the_engine_finds_what_all_rows_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(zsvg.library.vectors, "INDEXED_FROM", 2000)
    tables = zsvg.library.tables.Tables(tmp_path / "t", 32)
    draw = np.random.default_rng(2)
    rows = draw.normal(size=(3000, 32))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    contents = [f"c{number // 10}" for number in range(3000)]
    spans = np.zeros((3000, 2), np.int32)
    tables.add_frames(contents, rows, spans)
    assert not tables.indexed
    tables.optimise()
    assert tables.indexed
    vector = rows[70].astype(np.float32)
    every = [f"c{number}" for number in range(300)]
    assert choose(tables, vector, every, 1) == choose(tables, vector, every, 1, exact=True)
    # More than the parts of the index that are looked at hold.
    assert len(choose(tables, vector, every, 299)) == 299
    few = ["c7", "c1", "c2"]
    assert choose(tables, vector, few, 1, narrow=True) == ["c7"]
    more = ["new"] * 10
    tables.add_frames(more, np.tile(rows[70], (10, 1)), spans[:10])
    assert "new" in choose(tables, vector, [*every, "new"], 2)  # not in the index yet


def test_another_encoder_is_refused_and_made_beside(
    tiny: Library, clips: Path, aged, run_zsvg, looked_at: list[str]
):
    tiny.add(clips)
    folder = tiny.folder
    with pytest.raises(ZsvgError, match=r"made with local-dir:.* sees frames otherwise"):
        Library.open(folder, "micro")
    status, _, error = run_zsvg("search", folder, "a dog", "--model", "micro")
    assert (status, error.count("\n")) == (1, 1)
    film(clips / "film 1.mp4", range(9))  # the new model is interrupted by what it cannot read
    beside = Library.open(folder, "micro", reembed=True)
    beside.add(clips / "film 0.mp4", roots=[])
    assert beside.searched  # it took all that the old one has
    status, _, error = run_zsvg("library", "info", folder)
    assert status == 0, error
    assert read_manifest(folder).space.model == "micro"
    before = {path.name for path in folder.iterdir() if path.is_dir()}
    compact(folder)
    assert before - {path.name for path in folder.iterdir()} == {tiny.space.name}
    assert check(folder) == []


def test_the_old_is_searched_until_the_new_is_done(tiny: Library, clips: Path, aged, monkeypatch):
    tiny.add(clips)
    folder, real = tiny.folder, zsvg.library.looking._events
    monkeypatch.setattr(zsvg.library.indexing, "_VIDEOS", 1)

    def broken(source: Source, frames: FrameFeatures) -> list[dict[str, object]]:
        if source.vid == "film 2":
            raise KeyboardInterrupt
        return real(source, frames)

    monkeypatch.setattr(zsvg.library.looking, "_events", broken)
    beside = Library.open(folder, "micro", reembed=True)
    with pytest.raises(KeyboardInterrupt):
        beside.add(clips)
    assert not beside.searched
    assert len(beside.videos()) == 2
    assert info(folder)["coming"] == ["micro"]
    assert answering(Library.open(folder)) == {"film 0", "film 1", "film 2"}  # by the old
    compact(folder)  # leaves both
    monkeypatch.setattr(zsvg.library.looking, "_events", real)
    report = Library.open(folder, "micro", reembed=True).add(clips)
    assert (report.added, report.unchanged) == (["film 2"], 2)  # it went on
    assert Library.open(folder).grounder.backbone.name == "micro"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, r"a library of format 2, and this zsvg reads 1; update zsvg"),
        ({"current": "0" * 16}, r"no space"),
        ({"spaces": {}}, r"no space"),
        ({"roots": 3}, r"roots"),
        ({"current": "../x", "spaces": {"../x": SPACE}}, r"space '../x' is not called so"),
    ],
)
def test_a_manifest_that_does_not_fit_is_one_line(
    made: Path, tmp_path: Path, change: dict[str, object], said: str, run_zsvg
):
    value = json.loads((made / FILE).read_text())
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / FILE).write_text(json.dumps({**value, **change}))
    with pytest.raises(ZsvgError, match=said):
        Library.open(folder)
    status, _, error = run_zsvg("search", folder, "a dog")
    assert (status, error.count("\n")) == (1, 1)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"spaces": 1}'])
def test_a_damaged_manifest_is_one_line(tmp_path: Path, text: str):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ZsvgError, match=r"library\.json: cannot be read"):
        Library.open(tmp_path)


@pytest.mark.parametrize("table", ["videos", "features", "frames", "events"])
def test_a_damaged_table_is_one_line(tiny: Library, clips: Path, table: str, run_zsvg):
    tiny.add(clips)
    for file in (tiny.tables.folder / f"{table}.lance" / "data").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    status, _, error = run_zsvg("library", "check", tiny.folder)
    assert (status, error.count("\n")) == (1, 1)
    assert "LanceDB cannot read it" in error
    if table in ("videos", "features"):  # of so few videos, all are asked
        status, _, error = run_zsvg("search", tiny.folder, "a dog", "a cat")
        assert status == 1
        assert all(line.startswith("error: ") for line in error.splitlines())


def test_three_folders_of_one_name(tiny: Library, tmp_path: Path):
    for place in ("a", "b", "c"):
        folder = tmp_path / place / "clips"
        folder.mkdir(parents=True)
        film(folder / "x.mp4", range(ord(place) - 94))
        tiny.add(folder)
    last = tmp_path / "c" / "clips" / "x.mp4"
    assert {video.vid for video in tiny.videos()} == {"x", "clips/x.mp4", str(last)}


def test_there_is_no_library(tmp_path: Path, run_zsvg):
    for command in (("search", tmp_path, "a dog"), ("library", "info", tmp_path)):
        status, _, error = run_zsvg(*command)
        assert status == 1
        assert "no library is there" in error
    assert list(tmp_path.iterdir()) == []


def test_a_library_without_folders_asks_for_videos(tiny: Library):
    with pytest.raises(ZsvgError, match="no folder was indexed yet"):
        tiny.add()


def test_templates_and_domains_are_the_models(made: Path, sentences, run_zsvg):
    plain = run_zsvg("search", made, sentences[0], "--format", "csv")
    asked = run_zsvg("search", made, sentences[0], "--format", "csv", "--templates", "video")
    assert plain[0] == asked[0] == 0
    assert plain[1] != asked[1]
    assert "unknown domain" in run_zsvg("search", made, "a dog", "--domain", "kitchen")[2]


def test_captions_are_no_library(tmp_path: Path):
    with pytest.raises(ZsvgError, match="captions are not compared across videos"):
        Library.open(tmp_path / "library", "captions:tfidf")
    assert not (tmp_path / "library").exists()


def test_lancedb_is_asked_for_in_one_line(made: Path, monkeypatch: pytest.MonkeyPatch, run_zsvg):
    monkeypatch.setitem(sys.modules, "lancedb", None)
    status, _, error = run_zsvg("library", "check", made)
    assert (status, error) == (1, "error: a library needs LanceDB: pip install 'zsvg[library]'\n")


def test_the_command_tells_what_became_of_the_files(
    clips: Path, tiny_clip_folder: Path, tmp_path: Path, aged, run_zsvg, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ZSVG_MODEL", raising=False)
    status, _, error = run_zsvg("index", clips)
    assert (status, "no backbone is named" in error) == (1, True)
    assert not Path("library").exists()
    monkeypatch.setenv("ZSVG_MODEL", f"local-dir:{os.path.relpath(tiny_clip_folder)}")
    assert run_zsvg("index", clips)[2] == "library: 3 new\n"
    monkeypatch.chdir(clips)  # the model is found from elsewhere too
    assert run_zsvg("index", "-o", "../library")[2] == "../library: 3 unchanged\n"
    (clips / "bad.mp4").write_bytes(b"x")
    status, _, error = run_zsvg("index", clips, "-o", "../library")
    assert status == 1
    assert error.splitlines()[0] == "../library: 3 unchanged, 1 not usable"
    assert len(error.splitlines()) == 2
    status, out, _ = run_zsvg("search", "../library", "a dog", "--format", "csv", "--cut", "../cut")
    assert (status, len(out.splitlines())) == (0, 1 + len(list(Path("../cut").iterdir())))
    status, _, error = run_zsvg("search", "../library", "a dog", "-o", "page.html")
    assert status == 0, error
    assert "<video" in Path("page.html").read_text() or "film" in Path("page.html").read_text()
    assert run_zsvg("library", "check", "../library")[0] == 0
    (clips / "film 0.mp4").unlink()
    run_zsvg("index", clips, "-o", "../library")
    status, _, error = run_zsvg("library", "prune", "../library")
    assert error.splitlines()[-1] == "../library: 1 videos forgotten"
    assert run_zsvg("library", "compact", "../library", "--alone")[0] == 0
    assert (
        json.loads(run_zsvg("library", "info", "../library", "--format", "json")[1])["videos"] == 2
    )


def test_real_videos_in_folders_with_spaces(data_folder: Path, tmp_path: Path, run_zsvg):
    """What is called how, times, exit codes; `micro` knows nothing of them, and that is said."""
    known = {}
    for line in (data_folder / "videos" / "videos.jsonl").read_text().splitlines():
        record = json.loads(line)
        known[Path(record["file"]).stem] = record["duration"]
    root = tmp_path / "my archive"
    for number, file in enumerate(sorted((data_folder / "videos").iterdir())):
        if file.stem in known and file.suffix != ".json":
            place = root / f"tape {number % 3}" / "side A, B"
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place / file.name)
    library, cache = tmp_path / "a library", tmp_path / "cache"
    index = ("index", root, "-o", library, "-m", "micro", "--cache", cache)
    status, _, error = run_zsvg(*index)
    assert status == 0, error
    assert f"{library}: {len(known)} new, 1 with words\n" in error  # inside one of them
    assert "micro knows only the drawings of microworld" in error
    status, _, error = run_zsvg(*index)
    assert (status, error.splitlines()[0]) == (
        0, f"{library}: {len(known)} unchanged, 1 with words"
    )  # fmt: skip
    sentence = "a person rides a skateboard"
    by_eye = ("--by", "seen", "--format", "jsonl", "--top", 100)
    status, out, error = run_zsvg("search", library, sentence, *by_eye)
    assert status == 0, error
    found = list(map(json.loads, out.splitlines()))
    assert len({record["vid"] for record in found}) >= len(known) - 2
    for record in found:
        assert record["vid"].startswith("tape ")
        assert Path(record["path"]).is_file()
        longest = known[Path(record["path"]).stem] + 0.5
        for start, end, _ in record["pred_relevant_windows"]:
            assert 0 <= start < end <= longest
    assert [r["fit"] for r in found] == sorted((r["fit"] for r in found), reverse=True)
    status, out, error = run_zsvg("ground", root, sentence, "-m", "micro", "--cache", cache,
                                  "--format", "jsonl", "--top-k", 15)  # fmt: skip
    grounded = {r["vid"]: r for r in map(json.loads, out.splitlines())}
    for record in found:
        assert record["fit"] == grounded[record["vid"]]["fit"]
        windows = grounded[record["vid"]]["pred_relevant_windows"]
        assert all(window in windows for window in record["pred_relevant_windows"])
