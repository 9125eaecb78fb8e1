"""Sentences that are turned towards the looks of their moments."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import zsvg
from zsvg.backbones.clip import load_backbone
from zsvg.errors import ModelFolderError
from zsvg.evaluation.intervals import gain
from zsvg.features.encoder import FrameFeatures
from zsvg.features.extract import extract
from zsvg.features.from_files import FeatureFiles
from zsvg.grounding.alignment import (
    ALIGNMENT_FILE,
    fit_alignment,
    load_alignment,
    look_of_windows,
    looks_of_best_clips,
)
from zsvg.records import FROM_FRAMES, Annotation
from zsvg.training.aligning import alignment_of

WIDTH = 24


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture
def pairs() -> tuple[np.ndarray, np.ndarray]:
    """Sentences, and looks that are another linear map of them each, with some noise."""
    draw = np.random.default_rng(0)
    sentences = unit(draw.normal(size=(4000, WIDTH)) + 3)
    turn = np.linalg.qr(draw.normal(size=(WIDTH, WIDTH)))[0]
    looks = (sentences - sentences.mean(0)) @ turn + 0.02 * draw.normal(size=(4000, WIDTH))
    return sentences, unit(looks)


def video(vid: str, features: np.ndarray, fps: float = 2.0) -> FrameFeatures:
    count = len(features)
    return FrameFeatures(
        vid=vid,
        features=unit(features),
        times=(np.arange(count) + 0.5) / fps,
        duration=count / fps,
        fps=fps,
        framing="crop",
        fingerprint="f",
        content=vid,
    )


def test_looks_are_told_from_sentences(pairs):
    sentences, looks = pairs
    alignment = fit_alignment(sentences[:3000], looks[:3000])
    unseen = np.array([alignment.look(sentence) for sentence in sentences[3000:]])
    np.testing.assert_allclose(np.linalg.norm(unseen, axis=1), 1, atol=1e-5)
    assert (unseen * looks[3000:]).sum(1).mean() > 0.9
    others = looks[np.roll(np.arange(3000, 4000), 1)]
    assert abs((unseen * others).sum(1).mean()) < 0.1
    # The more sentences, the more is believed: of a few, about the mean look is told.
    few = fit_alignment(sentences[:20], looks[:20])
    assert np.linalg.norm(few.turn) < 0.2 * np.linalg.norm(alignment.turn)


def test_an_amount_of_nothing_is_the_sentence(pairs):
    sentences, looks = pairs
    alignment = fit_alignment(sentences, looks)
    np.testing.assert_allclose(alignment.aligned(sentences[5], 0.0), sentences[5], atol=1e-6)
    near = [float(alignment.aligned(sentences[5], amount) @ looks[5]) for amount in (0, 0.2, 0.4)]
    assert near == sorted(near)
    assert near[2] > near[0] + 0.1


def test_a_look_is_what_a_moment_has_and_its_video_has_not():
    scene, event = np.eye(WIDTH)[0], np.eye(WIDTH)[1]
    rows = np.tile(scene, (20, 1))
    rows[6:10] += event
    found = look_of_windows(video("a", rows), [(3.0, 5.0)])
    assert found @ event > 0.8
    assert abs(found @ scene) < 0.6
    np.testing.assert_array_equal(look_of_windows(video("a", rows), [(30.0, 50.0)]), 0)


def test_sentences_without_times_look_like_their_best_clips():
    draw = np.random.default_rng(1)
    events = np.eye(WIDTH)[:6]
    videos = []
    for number in range(60):
        rows = np.tile(np.eye(WIDTH)[10 + number % 10], (40, 1)) + 0.1 * draw.normal(
            size=(40, WIDTH)
        )
        rows[12:28] += events[number % 6]
        videos.append(video(f"v{number}", rows))
    # Sentences point at events, and at something that is in no video.
    sentences = unit(events + np.eye(WIDTH)[20])
    found = looks_of_best_clips(sentences, videos)
    assert ((found @ events.T).argmax(1) == np.arange(6)).all()
    assert (np.diag(found @ events.T) > 0.7).all()
    assert (np.abs(found @ np.eye(WIDTH)[20]) < 0.2).all()
    # One short video is enough to answer something.
    short = looks_of_best_clips(sentences, [video("s", draw.normal(size=(3, WIDTH)))])
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), 1, atol=1e-5)


def test_it_is_read_as_it_was_saved_or_refused(pairs, tmp_path: Path):
    alignment = fit_alignment(*pairs)
    alignment.save(tmp_path)
    again = load_alignment(tmp_path, WIDTH)
    for name, value in vars(alignment).items():
        np.testing.assert_allclose(getattr(again, name), value, atol=2e-3)
    with pytest.raises(ModelFolderError, match="is not of rows of 25 numbers"):
        load_alignment(tmp_path, WIDTH + 1)
    file = tmp_path / ALIGNMENT_FILE
    whole = load_file(file)
    for change, said in (
        ({"turn": whole["turn"] * np.nan}, "not finite"),
        ({"turn": whole["mean"]}, "not of rows"),
        ({"more": whole["mean"]}, "cannot be read"),
    ):
        save_file(whole | change, file)
        with pytest.raises(ModelFolderError, match=said) as caught:
            load_alignment(tmp_path, WIDTH)
        assert ALIGNMENT_FILE in str(caught.value)
        assert "\n" not in str(caught.value)
    file.write_bytes(b"nothing")
    with pytest.raises(ModelFolderError, match="cannot be read"):
        load_alignment(tmp_path, WIDTH)
    file.unlink()
    with pytest.raises(ModelFolderError, match="cannot be read"):
        load_alignment(tmp_path, WIDTH)


def test_intervals_draw_videos_and_not_queries():
    draw = np.random.default_rng(2)
    base = draw.random(400)
    by_video = np.repeat(draw.normal(0.1, 0.2, 40), 10)  # all queries of a video gain alike
    vids = [f"v{n}" for n in range(40) for _ in range(10)]
    mean, low, high = gain(base + by_video, base, vids)
    assert mean == pytest.approx(by_video.mean())
    assert low < mean < high
    _, narrow, wide = gain(base + by_video, base, [str(n) for n in range(400)])
    assert high - low > 2 * (wide - narrow)
    assert gain(base, base, vids) == (0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def turned(tiny_clip_folder: Path, tmp_path_factory):
    """Labels and features of 40 videos, whose moments look like another map of their sentences."""
    name = f"local-dir:{tiny_clip_folder}"
    colours, things = ("red", "blue", "green", "amber"), ("square", "circle", "star", "line", "dog")
    queries = [f"a {colour} {thing}" for colour in colours for thing in things]
    backbone = load_backbone(name, "cpu")
    texts = backbone.encode_text([f"{backbone.template} {query}" for query in queries])
    vectors = texts.pooled.numpy()
    draw = np.random.default_rng(3)
    turn = np.linalg.qr(draw.normal(size=(vectors.shape[1],) * 2))[0]
    around = unit(vectors - vectors.mean(0))
    folder, labels = tmp_path_factory.mktemp("features"), []
    for number in range(40):
        rows = 2 * unit(draw.normal(size=vectors.shape[1])) + 0.02 * draw.normal(
            size=(40, vectors.shape[1])
        )
        first, other = int(draw.integers(1, 14)), int(draw.integers(21, 34))
        rows[first : first + 5] += around[number % 20] @ turn + 0.1 * around[number % 20]
        rows[other : other + 5] += around[(number + 7) % 20] @ turn
        np.save(folder / f"v{number:02}.npy", rows.astype(np.float32))
        labels.append(
            Annotation(
                qid=number, query=queries[number % 20], vid=f"v{number:02}", duration=80.0,
                relevant_windows=((2.0 * first, 2.0 * first + 10),),
            )
        )  # fmt: skip
    return name, labels, FeatureFiles(folder, seconds=2.0)


def test_it_is_fitted_chosen_kept_and_used(turned, tmp_path: Path):
    name, labels, files = turned
    recipe = zsvg.load_recipe("head-only").with_training(steps=2, batch_size=8)
    model = tmp_path / "model"
    outcome = zsvg.tune(labels, files, name, model, recipe=recipe, validation=labels)
    assert outcome.alignment > 0
    assert outcome.aligned > outcome.training_free + 0.1
    assert outcome.gain[1] > 0
    said = "\n".join(outcome.summary())
    assert "of it by aligned sentences" in said
    assert f"similarity of aligned sentences ({outcome.alignment:g})" in said
    assert (model / ALIGNMENT_FILE).is_file()
    assert "of aligned sentences" in (model / "README.md").read_text()
    found, failures = zsvg.predict(model, labels, files)
    assert not failures
    score = zsvg.evaluate(found, labels)["mIoU"]
    grounder = zsvg.load(model)
    grounder.manifest["alignment"] = 0.0
    without, _ = zsvg.predict(grounder, labels, files)
    assert score > zsvg.evaluate(without, labels)["mIoU"] + 0.1
    # Written over by another run: all in it is ours. Blind to sentences there is nothing to align.
    blind = zsvg.tune(
        labels, files, name, model, recipe=recipe, validation=labels, query_blind=True
    )
    assert blind.alignment == 0
    assert blind.aligned is None
    assert not (model / ALIGNMENT_FILE).exists()


def test_a_model_whose_alignment_is_gone_is_refused(turned, tmp_path: Path):
    name, labels, files = turned
    recipe = zsvg.load_recipe("head-only").with_training(steps=1, batch_size=8)
    zsvg.tune(labels, files, name, tmp_path / "model", recipe=recipe, validation=labels)
    (tmp_path / "model" / ALIGNMENT_FILE).unlink()
    with pytest.raises(ModelFolderError, match=f"{ALIGNMENT_FILE}: cannot be read"):
        zsvg.load(tmp_path / "model")


def test_windows_that_a_machine_found_are_not_believed(turned):
    name, labels, files = turned
    backbone = load_backbone(name, "cpu")
    backbone.files = files
    videos = {a.vid: extract(files[a.vid], backbone) for a in labels}
    true = alignment_of(labels, videos, backbone, told="full")
    wrong = [replace(a, relevant_windows=((0.0, 2.0),)) for a in labels]
    pseudo = [replace(a, extra={"source": {"captioner": "x"}}) for a in wrong]
    by_clips = alignment_of(pseudo, videos, backbone, told="full")
    glance = alignment_of(wrong, videos, backbone, told="glance")
    np.testing.assert_array_equal(glance.turn, by_clips.turn)
    assert not np.allclose(true.turn, by_clips.turn)
    by_events = alignment_of(wrong, videos, backbone, told="weak")
    weak = alignment_of(labels, videos, backbone, told="weak")
    np.testing.assert_array_equal(weak.turn, by_events.turn)
    assert not np.allclose(weak.turn, by_clips.turn)
    assert alignment_of(labels[:1], videos, backbone, told="full") is None
    frames = [replace(a, query=FROM_FRAMES) for a in labels]
    assert alignment_of(frames, videos, backbone, told="full") is None
