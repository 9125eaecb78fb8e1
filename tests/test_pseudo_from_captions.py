"""Pseudo labels from ready captions: real small caption files in, labels out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfTransformer
from typer.testing import CliRunner

from zsvg.backbones.captions import encode_captions, load_caption_backbone, read_captions
from zsvg.cli.app import app
from zsvg.label.from_captions import central, label_captions
from zsvg.label.queries import fit
from zsvg.label.run import default_options
from zsvg.moments import iou, spans_to_mask
from zsvg.records import check_trainable, read_annotations, write_annotations
from zsvg.video.finding import find_captions

KITCHEN = ["A man cuts onions in the kitchen.", "A man in the kitchen cuts an onion."] * 4
GARDEN = ["A dog digs in the garden.", "The dog runs around the garden."] * 5
CAR = ["A woman drives a red car.", "A woman sits in a car and drives."] * 3
SEA = ["Waves roll onto the beach.", "The beach with waves and a boat."] * 4


def write_track(path: Path, captions: list[str]) -> None:
    lines = [json.dumps({"clip": i, "caption": text}) for i, text in enumerate(captions)]
    path.write_text("\n".join(lines))


@pytest.fixture
def folder(tmp_path):
    captions = tmp_path / "captions"
    captions.mkdir()
    write_track(captions / "one.jsonl", [*KITCHEN, *GARDEN, *CAR])
    write_track(captions / "two.jsonl", [*SEA, "", *KITCHEN, *GARDEN])
    write_track(captions / "three.jsonl", [*CAR, *SEA, *GARDEN])
    return captions


@pytest.fixture(scope="module")
def tfidf():
    return load_caption_backbone("captions:tfidf")


def as_bytes(report, path: Path) -> bytes:
    write_annotations(path, report.labels)
    return path.read_bytes()


def test_scenes_become_labels_that_say_what_their_captions_say(folder, tfidf):
    report = label_captions(find_captions(folder), tfidf)
    assert not report.failures
    assert not report.silent
    labels = [label for label in report.labels if label.vid == "one"]
    scenes = {(0, 16): KITCHEN, (16, 36): GARDEN, (36, 48): CAR}
    for span, captions in scenes.items():
        best = max(labels, key=lambda label: iou([span], label.relevant_windows)[0, 0])
        assert best.relevant_windows == (span,)
        assert f"{best.query}." in captions
    assert all(label.duration == 48 for label in labels)
    source = labels[0].extra["source"]
    assert source["backbone"] == "captions:tfidf"
    assert source["captioner"] == "ready captions"
    assert source["proposals"] == "blocks"
    assert source["caption"] == labels[0].query
    assert 0 < source["score"] <= 1
    check_trainable(report.labels)


def test_scores_are_made_of_the_relevance_that_answers_queries(folder, tfidf):
    """tf-idf: what a word counts depends on the video."""
    path = folder / "two.jsonl"
    video = encode_captions(tfidf, read_captions(path))
    rows = tfidf.encoder.weigh(video.features, video.features)
    for label in label_captions({"two": path}, tfidf).labels:
        inside = spans_to_mask(label.relevant_windows, video.centres)
        (text,) = tfidf.encode_text([label.query]).pooled.numpy()
        said = fit(tfidf.relevance(video.features, text)[None], inside)[0]
        alone = fit((rows @ rows[inside].mean(axis=0))[None], inside)[0]
        assert label.extra["source"]["score"] == pytest.approx((said + alone) / 2, abs=1e-5)


def test_tfidf_weighs_words_as_scikit_learn_does(folder, tfidf):
    clips = tfidf.encoder.encode(read_captions(folder / "one.jsonl").captions)
    (query,) = tfidf.encoder.encode(["a dog in a red kitchen"])
    reference = TfidfTransformer().fit(clips > 0)
    expected = reference.transform(clips) @ reference.transform(query[None]).toarray()[0]
    np.testing.assert_allclose(tfidf.relevance(clips, query), expected, atol=1e-6)


def test_equal_seeds_agree_in_any_order_of_files_and_without_the_others(folder, tfidf, tmp_path):
    files = find_captions(folder)
    options = default_options(kind="random", count=4, min_score=-1.0)
    first = label_captions(files, tfidf, options=options, seed=3)
    backwards = dict(reversed(files.items()))
    again = label_captions(
        backwards, load_caption_backbone("captions:tfidf"), options=options, seed=3
    )
    assert as_bytes(first, tmp_path / "a.jsonl") == as_bytes(again, tmp_path / "b.jsonl")
    alone = label_captions({"two": files["two"]}, tfidf, options=options, seed=3)
    assert alone.labels == tuple(label for label in first.labels if label.vid == "two")
    (tmp_path / "copy.jsonl").write_bytes(files["two"].read_bytes())
    copy = label_captions({"copy": tmp_path / "copy.jsonl"}, tfidf, options=options, seed=3)
    windows = [label.relevant_windows for label in copy.labels]
    assert windows == [label.relevant_windows for label in alone.labels]
    other = label_captions(files, tfidf, options=options, seed=4)
    assert as_bytes(first, tmp_path / "a.jsonl") != as_bytes(other, tmp_path / "c.jsonl")


def test_a_damaged_or_missing_file_fails_alone(folder, tfidf):
    whole = label_captions(find_captions(folder), tfidf)
    (folder / "bad.jsonl").write_text('{"clip": 0, "caption": "A dog."}\n{"clip": 0')
    files = {**find_captions(folder), "gone": folder / "gone.jsonl"}
    seen = []
    report = label_captions(files, tfidf, on_progress=lambda *done: seen.append(done))
    assert report.labels == whole.labels
    assert list(report.failures) == ["bad", "gone"]
    assert "bad.jsonl:2" in report.failures["bad"]
    assert "gone.jsonl" in report.failures["gone"]
    assert seen == [(i, 5, vid) for i, vid in enumerate(files, start=1)]


@pytest.mark.parametrize("captions", [["", "", ""], ["", "This is an image of", ""], ["A cat."]])
def test_hardly_any_captions_are_no_failure(tmp_path, tfidf, captions):
    write_track(tmp_path / "v.jsonl", captions)
    report = label_captions({"v": tmp_path / "v.jsonl"}, tfidf)
    assert not report.failures
    assert {label.query for label in report.labels} <= {"A cat", "This is an image of"}
    assert report.silent == (() if report.labels else ("v",))


def test_the_odd_caption_of_an_event_is_not_its_sentence():
    rows = np.eye(3)[[0, 0, 1, 0, 2]] + 0.1
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    said = ["dog", "a dog", "cake", "", "tree"]
    assert central(said, rows, np.array([1, 1, 1, 1, 0], bool)) == ["a dog", "dog"]
    assert central(said, rows, np.array([0, 0, 0, 1, 0], bool)) == []


def test_captions_that_differ_in_capitals_are_one():
    said = ["a dog", "A dog", "A DOG", "cake", "tree"]
    for noise in (0.0, 1e-3):
        rows = np.eye(3)[[0, 0, 0, 1, 2]] + noise * np.arange(5)[:, None]
        assert central(said, rows, np.ones(5, bool))[0] == "A DOG"
        assert not {"a dog", "A dog"} & set(central(said, rows, np.ones(5, bool)))


@given(
    said=st.lists(st.sampled_from(["", "a", "b", "c", "C", "d"]), min_size=1, max_size=8),
    seed=st.integers(0, 99),
)
def test_half_of_the_captions_stay_in_whatever_order_the_clips_are(said, seed):
    draw = np.random.default_rng(seed)
    rows = draw.normal(size=(len(said), 4))
    inside = draw.random(len(said)) < 0.7
    kept = central(said, rows, inside)
    different = {text for text, here in zip(said, inside, strict=True) if here} - {""}
    assert set(kept) <= different
    count = len({text.casefold() for text in different})
    assert count / 2 <= len(kept) <= count
    order = draw.permutation(len(said))
    assert central([said[i] for i in order], rows[order], inside[order]) == kept


class TestCommand:
    def run(self, *arguments):
        return CliRunner().invoke(app, ["pseudo-label", *map(str, arguments)])

    def test_a_folder_and_a_single_file(self, folder, tmp_path, tfidf):
        out = tmp_path / "pseudo.jsonl"
        done = self.run(folder, "--backbone", "captions:tfidf", "-o", out)
        assert done.exit_code == 0, done.output
        assert tuple(read_annotations(out)) == label_captions(find_captions(folder), tfidf).labels
        one = folder / "one.jsonl"
        done = self.run(one, "--backbone", "captions:tfidf", "--per-video", 1, "-o", out)
        assert done.exit_code == 0, done.output
        assert [label.vid for label in read_annotations(out)] == ["one"]

    def test_what_could_be_read_is_written_and_the_rest_named(self, folder, tmp_path):
        (folder / "bad.jsonl").write_text("nonsense")
        (folder / ".hidden.jsonl").write_text("nonsense")
        out = tmp_path / "pseudo.jsonl"
        done = self.run(folder, "--backbone", "captions:tfidf", "-o", out)
        assert done.exit_code == 1
        assert "bad.jsonl:1" in done.output
        assert "hidden" not in done.output
        assert {label.vid for label in read_annotations(out)} == {"one", "two", "three"}

    def test_options_without_meaning_and_dry_runs_write_nothing(self, folder, tmp_path):
        out = tmp_path / "pseudo.jsonl"
        given = [folder, "--backbone", "captions:tfidf", "-o", out]
        done = self.run(*given, "--captioner", "micro")
        assert done.exit_code != 0
        assert "--captioner micro" in str(done.exception) + done.output
        done = self.run(*given, "--dry-run")
        assert done.exit_code == 0
        assert "3 files" in done.output
        assert not out.exists()

    def test_caption_files_are_not_overwritten(self, folder):
        before = (folder / "one.jsonl").read_bytes()
        done = self.run(folder, "--backbone", "captions:tfidf", "-o", folder / "one.jsonl")
        assert done.exit_code != 0
        assert (folder / "one.jsonl").read_bytes() == before

    def test_a_folder_without_captions_is_refused(self, tmp_path):
        (tmp_path / "a.mp4").write_bytes(b"")
        done = self.run(tmp_path, "--backbone", "captions:tfidf", "-o", tmp_path / "p.jsonl")
        assert done.exit_code != 0
        assert "captions" in str(done.exception) + done.output
