"""What training may see of labels: what is hidden stays hidden, to the byte."""

import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import run_python
from hypothesis import given
from hypothesis import strategies as st
from test_cli import refused  # noqa: F401  (fixture)
from test_training import TEMPLATE, make_examples
from test_tune_processes import world  # noqa: F401  (fixture)

from zsvg.backbones.clip import load_backbone
from zsvg.errors import RecordError, ZsvgError
from zsvg.features.extract import extract
from zsvg.grounding.alignment import USUAL_AMOUNT
from zsvg.grounding.grounder import Grounder
from zsvg.records import Annotation, read_annotations
from zsvg.training.denoising import denoised
from zsvg.training.examples import concatenate, crop
from zsvg.training.options import TuneOptions
from zsvg.training.recipes import load_recipe
from zsvg.training.supervision import (
    LEVELS,
    aligned_by_events,
    encoded_sentences,
    glance,
    hide,
    level_of,
    located,
)
from zsvg.training.tune import plan, tune
from zsvg.video.finding import find_videos

WINDOW = st.tuples(st.floats(0, 18), st.floats(0.01, 2)).map(lambda w: (w[0], w[0] + w[1]))


def label(number=0, windows=((1.0, 2.0), (5.0, 9.0)), query="a red ball moves", **extra):
    return Annotation(qid=f"q{number}", query=query, vid="v", duration=20.0,
                      relevant_windows=windows, extra=extra)  # fmt: skip


# ---- hiding -------------------------------------------------------------------------------------


def test_weak_keeps_sentences_and_weights_alone():
    kept = {"weight": 2.0, "domain": "kitchen"}
    seen = label(glance=1.5, saliency_scores=[[1, 2]], relevant_clip_ids=[3], **kept)
    assert hide([seen], "weak") == [label(windows=(), **kept)]
    assert hide([seen], "glance") == [label(windows=(), glance=1.5, **kept)]
    assert hide([seen], "full") == [seen]


def test_pseudo_labels_know_no_truth_and_stay():
    pseudo = label(source={"captioner": "x", "score": 0.5}, weight=0.5)
    for level in LEVELS:
        assert hide([pseudo], level) == [pseudo]


@given(windows=st.lists(WINDOW, min_size=1, max_size=4), seed=st.integers(0, 99))
def test_an_instant_is_drawn_from_the_windows_and_hiding_twice_changes_nothing(windows, seed):
    once = hide([label(windows=windows)], "glance", seed)
    instant = once[0].extra["glance"]
    assert any(start <= instant <= end for start, end in windows)
    assert hide(once, "glance", seed + 1) == once


def test_instants_are_uniform_in_the_windows_and_depend_on_seed_and_qid_alone():
    instants = np.array([glance(label(number)) for number in range(4000)])
    shares, _ = np.histogram(instants, [0, 1, 2, 5, 6, 7, 8, 9, 20])
    np.testing.assert_allclose(shares / 4000, [0, 0.2, 0, 0.2, 0.2, 0.2, 0.2, 0], atol=0.03)
    assert glance(label(3), seed=1) != glance(label(3), seed=2)
    assert hide([label(2), label(3)], "glance")[1] == hide([label(3)], "glance")[0]


def test_what_cannot_be_hidden_is_refused_by_name():
    with pytest.raises(ZsvgError, match=r"supervision 'none' is unknown.*weak"):
        hide([label()], "none")
    for bad in ("soon", True, -1.0, 20.5, float("nan"), None):
        with pytest.raises(RecordError, match=r"q0.*glance .* from 0 to 20"):
            hide([label(glance=bad)], "glance")
    for windows in ((), ((3.0, 3.0),), ((25.0, 30.0),)):
        with pytest.raises(RecordError, match=r"q0.*no glance"):
            hide([label(windows=windows)], "glance")


def test_levels_are_named_in_the_words_of_the_field():
    true, pseudo = label(), label(source={})
    assert level_of([true], "weak") == "weakly supervised"
    assert level_of([true, pseudo], "glance") == "glance supervised, and pseudo labels"
    assert level_of([pseudo], "full") == "language-free / pseudo-supervised"
    told = replace(pseudo, extra={"source": {"form": "subtitles"}})
    assert level_of([pseudo, told], "full") == "pseudo-supervised by what is said"


# ---- a window for what has none -----------------------------------------------------------------


@pytest.fixture(scope="module")
def backbone(tiny_clip_folder):
    return load_backbone(f"local-dir:{tiny_clip_folder}", device="cpu")


@pytest.fixture(scope="module")
def material(world, backbone):  # noqa: F811
    videos = find_videos(world / "videos")
    labels = read_annotations(world / "labels.jsonl")
    return labels, videos, {vid: extract(path, backbone) for vid, path in videos.items()}


def test_without_any_times_the_window_is_the_training_free_answer(material, backbone):
    """That of the sentence as it is, where there is only one; else that of the aligned one."""
    labels, videos, encoded = material
    hidden = hide(labels, "weak")
    texts = encoded_sentences(sorted({a.query for a in hidden}), backbone, TEMPLATE)
    alignment = aligned_by_events(hidden, encoded, texts)
    free = Grounder(backbone, template=TEMPLATE)
    for asked, amount in ((hidden[:1], 0.0), (hidden, USUAL_AMOUNT)):
        for record in located(asked, encoded, backbone, TEMPLATE):
            turned = alignment.aligned(texts[record.query], amount)
            video = free.encode(videos[record.vid])
            best = free.read(video, backbone.relevance(video.frames.features, turned), 1)[0]
            assert record.relevant_windows[0] == pytest.approx((best.start, best.end))
    assert located(labels, encoded, backbone, TEMPLATE) == labels


@pytest.mark.parametrize("share", [0.0, 0.01, 0.25, 0.5, 0.77, 1.0])
def test_a_glance_lies_in_its_window(material, backbone, share):
    labels, _, encoded = material
    instant = share * encoded["a"].duration
    hidden = hide([replace(labels[0], extra={"glance": instant})], "glance")
    ((start, end),) = located(hidden, encoded, backbone, TEMPLATE)[0].relevant_windows
    assert 0 <= start <= instant <= end <= encoded["a"].duration
    assert start < end


# ---- training -----------------------------------------------------------------------------------


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def tuned(world, material, backbone, tmp_path):  # noqa: F811
    labels, videos, _ = material

    def make(name, level, labels=labels, **options):
        recipe, seen = load_recipe(str(world / "own.yaml")), TuneOptions(supervision=level)
        return tune(labels, videos, backbone, tmp_path / name, recipe=recipe, options=seen,
                    cache=tmp_path / "cache", **options)  # fmt: skip

    return make


def moved(labels, **extra):
    """Other windows than the true ones, and other keys that tell times."""
    return [
        replace(a, relevant_windows=((0.25, 0.75), (4.0, 5.5)), extra={**a.extra, **extra})
        for a in labels
    ]


def test_weak_training_never_sees_a_window(tuned, material, tmp_path):
    labels, _, _ = material
    outcome = tuned("true", "weak")
    tuned("other", "weak", moved(labels, relevant_clip_ids=[7], glance=3.0))
    tuned("none", "weak", [replace(a, relevant_windows=()) for a in labels])
    assert files(tmp_path / "true") == files(tmp_path / "other") == files(tmp_path / "none")
    manifest = json.loads((tmp_path / "true" / "zsvg.json").read_text())
    assert manifest["labels"]["level"] == "weakly supervised"
    assert manifest["labels"]["selected_by"] == "nothing: the last step"
    assert manifest["options"]["supervision"] == "weak"
    assert outcome.history.best_step == 30  # nothing to select by
    assert outcome.summary()[0] == "trained weakly supervised"
    assert "--validation" in outcome.summary()[1]


def test_glance_training_sees_the_instant_alone(tuned, material, tmp_path):
    labels, _, _ = material
    given = [replace(a, extra={"glance": a.relevant_windows[0][0] + 0.5}) for a in labels]
    tuned("true", "glance", given)
    tuned("other", "glance", moved(given))
    assert files(tmp_path / "true") == files(tmp_path / "other")
    tuned("later", "glance", moved(given, glance=5.0))
    assert files(tmp_path / "true") != files(tmp_path / "later")


def test_full_training_does_see_windows(tuned, material, tmp_path):
    labels, _, _ = material
    tuned("true", "full")
    tuned("other", "full", moved(labels))
    head = "head.safetensors"
    assert files(tmp_path / "true")[head] != files(tmp_path / "other")[head]


def test_pseudo_labels_beside_weak_ones_select_the_step(tuned, material, tmp_path):
    labels, _, _ = material
    mixed = [*labels, *(replace(a, qid=f"p{a.qid}", extra={"source": {}}) for a in labels)]
    outcome = tuned("mixed", "weak", mixed)
    about = json.loads((tmp_path / "mixed" / "zsvg.json").read_text())["labels"]
    assert about["level"] == "weakly supervised, and pseudo labels"
    assert about["selected_by"] == "held-out labels"
    assert about["true"] == len(labels)
    assert outcome.held_out is not None


def test_annotations_to_select_by_are_said(tuned, material, tmp_path):
    labels, _, _ = material
    outcome = tuned("selected", "weak", labels[:8], validation=labels[8:])
    about = json.loads((tmp_path / "selected" / "zsvg.json").read_text())["labels"]
    assert about["selected_by"] == "annotations"
    assert outcome.held_out is not None


def test_a_plan_names_the_level_and_refuses_what_makes_no_sense(world, material, backbone):  # noqa: F811
    labels, videos, _ = material
    recipe, weak = load_recipe(str(world / "own.yaml")), TuneOptions(supervision="weak")
    lines = plan(labels, videos, backbone, recipe, weak)
    assert "weakly supervised" in lines
    assert "12 labels of 6 videos to train on, 0 of 0 to select by" in lines
    untimed = [replace(a, relevant_windows=()) for a in labels]
    assert plan(untimed, videos, backbone, recipe, weak) == lines
    with pytest.raises(RecordError, match="--supervision weak"):
        plan(untimed, videos, backbone, recipe, TuneOptions())
    pseudo = [replace(a, extra={"source": {}}) for a in labels]
    with pytest.raises(ZsvgError, match="all labels are pseudo labels"):
        plan(pseudo, videos, backbone, recipe, weak)


def test_an_answer_that_misses_the_glance_moves_no_label(backbone):
    example = replace(make_examples(backbone, count=1)[0], windows=np.array([[2.0, 4.0]]))
    answers = np.array([[[0.0, 1.0], [2.5, 4.0]]]) / example.duration
    scores = np.array([[1.0, 0.1]])

    def window(instant):
        seen = replace(example, glance=instant)
        (after,) = denoised([seen], [seen], answers, scores, move=True, weigh=False)
        return after.windows[0].tolist()

    assert window(None) == pytest.approx([0.0, 1.0])
    assert window(3.0) == pytest.approx([2.0, 4.0])


@given(seed=st.integers(0, 1000), before=st.booleans())
def test_augmentation_takes_the_glance_along(backbone, seed, before):
    one, other = make_examples(backbone, count=2)
    start, end = one.windows[0]
    one = replace(one, glance=start + 0.3 * (end - start))
    cut, _ = crop(one, 0, np.random.default_rng(seed))
    for shown in (cut, concatenate(cut, other, before=before)):
        assert shown.glance - shown.windows[0, 0] == pytest.approx(0.3 * (end - start))


# ---- the command --------------------------------------------------------------------------------


def test_the_command_trains_on_sentences_alone(world, tiny_clip_folder, tmp_path):  # noqa: F811
    labels = tmp_path / "sentences.jsonl"
    lines = (world / "labels.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    for record in records:
        del record["relevant_windows"]
    labels.write_text("".join(json.dumps(record) + "\n" for record in records))
    done = run_python(
        "-m", "zsvg", "tune", labels, "--videos", world / "videos", "--recipe",
        world / "own.yaml", "--backbone", f"local-dir:{tiny_clip_folder}", "--supervision", "weak",
        "--shots", "4", "--cache", tmp_path / "cache", "--device", "cpu", "-o", tmp_path / "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "8 of 12 labels taken" in done.stderr
    assert "trained weakly supervised" in done.stderr
    assert (tmp_path / "out" / "head.safetensors").is_file()


def test_the_command_refuses_in_one_line(refused, world, tiny_clip_folder):  # noqa: F811
    line = ("tune", world / "labels.jsonl", "--videos", world / "videos", "--supervision", "none")
    assert "full, glance, weak" in refused(*line)
