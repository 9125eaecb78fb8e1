"""Whether a sentence is in a video: what is learned from, the probability, and who hears of it."""

from __future__ import annotations

import importlib
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from zsvg.backbones.clip import load_backbone
from zsvg.errors import ModelFolderError, RecordError, ZsvgError
from zsvg.grounding.calibration import brier_score, calibration_error, logits_of, scale_of
from zsvg.grounding.presence import (
    ENOUGH,
    LOST,
    TRUE,
    Presence,
    _weights,
    calibrate,
    checked_sure,
    least_of,
)
from zsvg.heads.presence import PresenceJudge, describe, load_judge
from zsvg.microworld.language import action_in, with_action
from zsvg.microworld.near_misses import with_near_misses
from zsvg.microworld.world import plan_video, truth
from zsvg.records import FROM_FRAMES, Annotation
from zsvg.training.absent import ABSENT, absent_sentences, asked_of
from zsvg.training.examples import Example
from zsvg.training.presence import learn_presence
from zsvg.training.supervision import encoded_sentences


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "scripts"))
    return importlib.import_module


def label(vid, query, **extra):
    return Annotation(
        qid=f"{vid}-{query}", query=query, vid=vid, duration=10.0,
        relevant_windows=((1.0, 2.0),), extra=extra,
    )  # fmt: skip


def test_brier_score_and_calibration_error_by_hand():
    assert brier_score([0.8, 0.4, 0.3], [True, False, True], [1, 1, 2]) == pytest.approx(0.295)
    assert brier_score([0.25] * 4, [True, False, False, False], [1] * 4) == pytest.approx(0.1875)
    # Bins: .15 and .15 with one of two true, .85 with one of one, .95 and 1 with one of two.
    said, true = [0.15, 0.15, 0.85, 0.95, 1.0], [False, True, True, True, False]
    assert calibration_error(said, true, [1] * 5) == pytest.approx((0.7 + 0.15 + 0.95) / 5)
    assert calibration_error(said, true, [0, 0, 3, 0, 0]) == pytest.approx(0.15)
    assert calibration_error([0.5, 0.5], [True, False], [1, 1]) == 0.0


def test_a_scale_makes_logits_the_shares_that_are_true():
    # Of logit 0 one in four is true, of logit 1 three in four: offset -log 3, slope 2 log 3.
    logits, true = [0, 0, 0, 0, 1, 1, 1, 1], [1, 0, 0, 0, 1, 1, 1, 0]
    scale = scale_of(logits, true, [1] * 8)
    assert scale.offset == pytest.approx(-math.log(3), abs=0.01)
    assert scale.slope == pytest.approx(2 * math.log(3), abs=0.01)
    assert scale.probability([0, 1]).tolist() == pytest.approx([0.25, 0.75], abs=0.002)
    # The true one of logit 0 counts three times: then three of six are true.
    weighed = scale_of(logits, true, [3, 1, 1, 1, 1, 1, 1, 1])
    assert weighed.probability(0.0) == pytest.approx(0.5, abs=0.002)
    assert scale_of([0, 1, 2, 3], [1, 1, 0, 0], [1] * 4) is None  # the surer, the rarer
    assert scale_of([0, 1], [1, 1], [1, 1]) is None
    rising = scale.probability(np.linspace(-50, 50, 300))
    assert (np.diff(rising) >= 0).all()
    assert rising[0] < 1e-9
    assert rising[-1] > 1 - 1e-9


def test_logits_are_taken_back_from_probabilities_and_stay_finite():
    assert logits_of([0.5, 0.75]).tolist() == pytest.approx([0.0, math.log(3)])
    assert np.isfinite(logits_of([0.0, 1.0])).all()


def test_true_sentences_count_as_much_as_all_others_whose_kinds_count_alike():
    weight = _weights(np.array([TRUE, TRUE, "near", "far", "far"]))
    assert weight.tolist() == pytest.approx([0.25, 0.25, 0.25, 0.125, 0.125])


def sample(seed, labels, apart):
    """Presences of labels, and of as many sentences of two kinds that are not there."""
    rng = np.random.default_rng(seed)
    logits = np.concatenate((rng.normal(apart, 1, labels), rng.normal(0, 1, 2 * labels)))
    kinds = [TRUE] * labels + ["near"] * labels + ["far"] * labels
    return (1 / (1 + np.exp(-logits))).tolist(), kinds, [f"v{i % 30}" for i in range(3 * labels)]


def test_a_threshold_loses_what_it_may_and_says_what_it_refuses():
    presence, kinds, vids = sample(0, 400, 3.0)
    found = calibrate(presence, kinds, vids)
    said = found.scale.probability(logits_of(presence))
    there = np.array(kinds) == TRUE
    assert found.lost == pytest.approx(LOST) == (said[there] < found.threshold - 1e-6).mean()
    assert found.refused == pytest.approx((said[~there] < found.threshold).mean(), abs=2e-3)
    assert found.refused > 0.8
    assert found.labels == 400
    # Two normal distributions 3 apart: logits are 3 x - 4.5 of as many true ones as others.
    assert found.slope == pytest.approx(3.0, rel=0.2)
    assert found.offset == pytest.approx(-4.5, rel=0.2)
    assert found.brier < 0.1
    assert found.error < 0.06


def test_half_of_the_labels_may_be_wrong():
    presence, kinds, vids = sample(0, 400, 3.0)
    absent, _, _ = sample(5, 400, 0.0)
    presence = presence[:200] + absent[:200] + presence[400:]
    found = calibrate(presence, kinds, vids, doubtful=True)
    assert found.wrong == pytest.approx(0.5, abs=0.1)
    assert found.slope == pytest.approx(3.0, rel=0.25)
    assert found.offset == pytest.approx(-4.5, rel=0.25)
    # What is lost is lost of the right half alone.
    said = found.scale.probability(logits_of(presence))
    assert (said[:200] < found.threshold).mean() == pytest.approx(LOST, abs=0.04)
    assert (said[200:400] < found.threshold).mean() > 0.8
    assert found.brier < 0.1
    assert found.error < 0.06
    trusted = calibrate(presence, kinds, vids)
    assert trusted.wrong is None
    assert trusted.slope < 1.0  # whoever trusts all of them is sure of nothing


def test_a_presence_that_tells_nothing_is_as_likely_as_not():
    found = calibrate(*sample(1, 400, 0.0))
    if found is not None:  # chance may make it a little better than nothing
        assert found.brier == pytest.approx(0.25, abs=0.01)
        assert found.error < 0.1
    assert calibrate(*sample(2, 400, -1.0)) is None
    assert calibrate(*sample(0, ENOUGH - 1, 3.0)) is None
    presence, kinds, vids = sample(0, 400, 3.0)
    assert calibrate(presence[:400], kinds[:400], vids[:400]) is None
    # One video would set the threshold of all others, and there is nothing to measure it on.
    assert calibrate(presence, kinds, ["v0"] * len(vids)) is None
    two = calibrate(presence, kinds, [f"v{i % 2}" for i in range(len(vids))])
    assert two.brier < 0.2


def test_what_a_folder_tells_comes_back_and_older_ones_are_read():
    found = calibrate(*sample(0, 100, 3.0))
    assert Presence.of({"presence": found.told}) == found
    assert Presence.of({}) is Presence.of({"presence": None}) is None
    older = Presence.of(
        {"presence": {"threshold": 0.2, "lost": 0.05, "refused": 0.4, "labels": 90}}
    )
    assert older.scale is None
    assert set(older.told) == {"threshold", "lost", "refused", "labels"}

    scaled = replace(older, slope=2.0, offset=-1.0)
    assert scaled.scale.probability([0.5, 1.0]).tolist() == pytest.approx(
        [0.5, 1 / (1 + math.exp(-1))]
    )
    older, scaled = {"presence": older.told}, {"presence": scaled.told}
    assert least_of(None, older) == 0.2
    assert least_of(0.9, scaled) == 0.9
    assert least_of(None, {}) == -math.inf
    assert checked_sure(0.9, scaled) == 0.9
    assert checked_sure(None, {}) is None
    for measured in ({}, older):
        with pytest.raises(ZsvgError, match="does not know how likely"):
            checked_sure(0.9, measured)
    for wrong in (-0.1, 1.1, math.nan):
        with pytest.raises(ZsvgError, match="from 0 to 1"):
            checked_sure(wrong, scaled)


def test_what_is_not_there_is_near_to_a_label_and_says_nothing_that_is():
    vectors = {
        "x": (1.0, 0.0), "y": (0.0, 1.0), "like x": (0.95, math.sqrt(1 - 0.95**2)),
        "near": (0.8, 0.6), "away": (-1.0, 0.0),
    }  # fmt: skip
    vectors = {text: np.array(row, dtype=np.float32) for text, row in vectors.items()}
    labels = [
        label("a", "x", **{ABSENT: ["told"]}), label("a", "y"), label("b", "like x"),
        label("b", "near"), label("c", "away"), label("a", FROM_FRAMES),
    ]  # fmt: skip
    found = absent_sentences(labels, vectors, 0)
    assert found[0] == {"told": ("told",), "near": ("near", "away")}
    assert found[1] == {"near": ("near", "away")}
    assert found[2] == {"near": ("y", "away")}
    assert found[4]["near"] == ("y", "near", "like x", "x")
    assert found[5] == {"far": ("away", "near")}  # there is no sentence to be near to
    asked = asked_of(labels[:2], found[:2])
    assert [(a.vid, a.query, a.extra["kind"]) for a in asked] == [
        ("a", "told", "told"), ("a", "near", "near"), ("a", "away", "near"),
    ]  # fmt: skip
    assert not any(a.relevant_windows for a in asked)
    assert absent_sentences([label("a", "x"), label("a", "y")], vectors, 0) == [{}, {}]
    for wrong in ("told", [1], [""]):
        with pytest.raises(RecordError, match="must be a list of sentences"):
            absent_sentences([label("a", "x", **{ABSENT: wrong})], vectors, 0)


def test_near_sentences_of_microworld_are_of_the_same_things_and_not_true(script):
    meaning = script("microworld_meaning")
    labels = truth("chalk", "train", 3, 60)
    scenes = {s.vid: s for s, _ in (plan_video("chalk", "train", 3, i) for i in range(60))}
    vectors = encoded_sentences(
        sorted({a.query for a in labels}), load_backbone("micro", "cpu"), "a video of"
    )
    near = [
        (meaning.read(one.query), meaning.read(text), scenes[one.vid])
        for one, kinds in zip(labels, absent_sentences(labels, vectors, 0), strict=True)
        if one.extra["kind"] == "action"
        for text in kinds["near"]
    ]
    wrong = [not meaning.holds(said, scene) for _, said, scene in near]
    assert np.mean(wrong) > 0.95
    looks = [(own.noun.shape, own.noun.colour) == (o.noun.shape, o.noun.colour)
             for own, o, _ in near]  # fmt: skip
    assert np.mean(looks) > 0.2  # by chance 3 %


def test_the_benchmark_counts_as_by_hand(script):
    bench = script("benchmark_absence")
    said = {
        "present": [("a", 0.9, False), ("a", 0.3, True), ("b", 0.6, False)],
        "hard": [("a", 0.6, False), ("b", 0.1, True)],
        "easy": [("a", 0.0, True), ("b", 0.2, True)],
    }
    run = bench.answers_of(said)
    whole, only_a = np.ones((1, 2)), np.array([[2.0, 0.0]])
    measured = run.measures(whole)
    assert measured["present: refused"] == pytest.approx(1 / 3)
    assert measured["hard: refused"] == pytest.approx(1 / 2)
    # .9, .3 and .6 against .6 and .1: won 2, 1 and 1.5 of 6.
    assert measured["hard: ROC area"] == pytest.approx(4.5 / 6)
    assert measured["easy: ROC area"] == pytest.approx(1.0)
    # The threshold is .36, a tenth of the way between the lowest two of three.
    assert measured["hard: refused at 10 % lost"] == pytest.approx(1 / 2)
    assert run.measures(only_a)["hard: ROC area"] == pytest.approx(1 / 2)
    sure = run.sureness(whole)
    brier = 0.5 * (0.01 + 0.49 + 0.16) / 3 + 0.25 * (0.36 + 0.01) / 2 + 0.25 * 0.04 / 2
    assert sure["Brier score"] == pytest.approx(brier)
    # Bin .6 has a present one (1/6 of the weight) and a hard one (1/8).
    bins = [0.25 / 2 * (0.0), 0.25 / 2 * 0.1, 0.25 / 2 * 0.2, 0.7 / 6, 0.6 / 8 - 0.4 / 6, 0.1 / 6]
    assert sure["calibration error"] == pytest.approx(sum(bins))


def test_the_grammar_says_what_is_nearly_true(script):
    assert action_in("we see a red ring that stays still") == "stay"
    assert action_in("a red ring left of the blue star") is None
    assert with_action("the ring turns around", "up") == "the ring drifts upwards"
    assert with_action("look , the ring moving to the left", "grow") == "look , the ring growing"
    assert with_action("the ring on the left", "grow") == "the ring on the left"
    labels = [label("a", "the ring spins"), label("a", "a star hops"), label("a", "the star")]
    told = with_near_misses(labels, 0)
    assert [one.query for one in told] == [one.query for one in labels]
    assert told[2] == labels[2]  # it tells no action
    for one in told[:2]:
        assert len(set(one.extra[ABSENT])) == 4
        assert not {action_in(text) for text in one.extra[ABSENT]} & {"spin", "bounce"}
    assert all(text.startswith("the ring ") for text in told[0].extra[ABSENT])
    assert told == with_near_misses(labels, 0)

    meaning = script("microworld_meaning")
    scenes = {s.vid: s for s, _ in (plan_video("paper", "train", 3, i) for i in range(60))}
    true = truth("paper", "train", 3, 60)
    wrong = [
        (meaning.read(one.query), meaning.read(text), scenes[one.vid])
        for one in with_near_misses(true, 0)
        for text in one.extra.get(ABSENT, ())
    ]
    assert len(wrong) > 500
    assert all(own.noun == other.noun for own, other, _ in wrong)  # of the same thing
    assert not any(meaning.holds(other, scene) for _, other, scene in wrong)


def test_a_stretch_is_described_by_its_looks_and_what_changes():
    centres = np.arange(8) / 8 + 1 / 16
    rising = np.stack([centres, np.ones(8)], axis=1).astype(np.float32)
    row = describe(rising, centres, np.array([[0.25, 0.75]]))[0].reshape(7, 2)
    assert row[0].tolist() == pytest.approx([0.5, 1.0])  # mean
    assert row[1][0] > 0.1 > abs(row[1][1])  # it rises, the other stays
    assert row[3].tolist() == pytest.approx([1 / 8, 0.0])  # from clip to clip
    assert row[4][0] < row[6][0] < row[5][0]  # start, middle, end
    backwards = describe(rising[::-1].copy(), centres, np.array([[0.25, 0.75]]))[0].reshape(7, 2)
    assert backwards[1][0] == pytest.approx(-row[1][0])
    assert np.isfinite(describe(rising[:1], centres[:1], np.array([[0.0, 1.0]]))).all()


def test_a_judge_learns_what_is_there_and_comes_back_from_its_folder(tmp_path):
    axes = np.eye(8, dtype=np.float32)
    vectors = {f"t{i}": axes[i] for i in range(4)}
    centres = np.arange(12) / 12 + 1 / 24

    def example(number):
        rows = np.repeat(axes[4 + number % 4][None], 12, axis=0)
        return Example(
            vid=f"v{number}", features=rows, centres=centres, duration=12.0,
            query=f"t{number % 4}", windows=np.array([[3.0, 9.0]]),
        )  # fmt: skip

    examples = [example(number) for number in range(200)]
    absent = [{"far": tuple(t for t in vectors if t != e.query)} for e in examples]
    judge = learn_presence(examples, absent, vectors, 0)
    spans = np.array([[3.0, 9.0]]) / 12
    for number in range(4):
        said = [judge.best(examples[number].features, centres, spans, axes[t]) for t in range(4)]
        assert int(np.argmax(said)) == number
        assert said[number] > 0 > max(said[:number] + said[number + 1 :])
    assert load_judge(tmp_path, 8) is None
    judge.save(tmp_path)
    again = load_judge(tmp_path, 8)
    assert again.best(examples[0].features, centres, spans, axes[0]) == judge.best(
        examples[0].features, centres, spans, axes[0]
    )
    with pytest.raises(ModelFolderError, match="cannot be loaded"):
        load_judge(tmp_path, 16)
    assert isinstance(again, PresenceJudge)
