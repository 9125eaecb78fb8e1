"""Moments of related parts: combined by hand, and asked of a grounder."""

import json
import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from benchmark_relations import joined

from zsvg.backbones.clip import load_backbone
from zsvg.features.encoder import FrameFeatures
from zsvg.grounding.answers import EncodedVideo, Grounding, Moment, Part
from zsvg.grounding.grounder import Grounder
from zsvg.grounding.parts import Parts
from zsvg.grounding.relations import in_time, nth, related, spanning
from zsvg.microworld.world import write_world
from zsvg.records import Annotation
from zsvg.scorers.options import ScorerOptions

SCORER = ScorerOptions(kind="max_sum", smooth=0.0, bias=0.5)


def test_chances_by_hand():
    # Of two clips the standardised values are 1 and -1: chances e / (e + 1/e) and the rest.
    high = np.e / (np.e + 1 / np.e)
    low = 1 - high
    up, down = np.array([3.0, 1.0]), np.array([-1.0, 7.0])
    here, there = related("before", up, down)
    np.testing.assert_allclose(here, [high * high, 0], rtol=1e-6)
    np.testing.assert_allclose(there, [0, high * high], rtol=1e-6)
    # The same the other way round: what is after comes second.
    here, there = related("after", up, down)
    np.testing.assert_allclose(here, [0, low * low], rtol=1e-6)
    np.testing.assert_allclose(there, [low * low, 0], rtol=1e-6)
    for one, other in zip(related("then", up, down), related("before", up, down), strict=True):
        np.testing.assert_array_equal(one, other)
    here, there = related("while", up, down)
    np.testing.assert_allclose(here, [0.5, 0.5], rtol=1e-6)
    np.testing.assert_allclose(there, [low, high], rtol=1e-6)
    here, there = related("not", up, down)
    np.testing.assert_allclose(here, [high * (1 - low / high), 0], rtol=1e-6)
    np.testing.assert_allclose(there, [low, high], rtol=1e-6)


TWICE = np.array([0, 0, 5, 5, 0, 0, 0, 0, 6, 6, 0, 0], dtype=np.float32)
ONCE = np.array([0, 0, 0, 0, 0, 5, 5, 0, 0, 0, 0, 0], dtype=np.float32)


@pytest.mark.parametrize(("kind", "peak"), [("before", (2, 4)), ("after", (8, 10))])
def test_order_chooses_which_of_two_times(kind, peak):
    here, _ = related(kind, TWICE, ONCE)
    assert set(np.argsort(-here)[:2]) == set(range(*peak))
    # The higher of both times alone is the second.
    assert set(np.argsort(-TWICE)[:2]) == {8, 9}


def test_a_part_that_says_nothing_only_leans():
    flat = np.full(12, 0.3, dtype=np.float32)
    here, _ = related("before", TWICE, flat)
    chances, _ = related("while", TWICE, TWICE)
    # The chance that it is at one of the later of 12 clips.
    np.testing.assert_allclose(here, chances * np.arange(11, -1, -1) / 12, rtol=1e-5)
    for kind in ("before", "after", "then", "while", "not"):
        assert all(np.isfinite(curve).all() for curve in related(kind, flat, flat))
        assert all(np.isfinite(curve).all() for curve in related(kind, flat[:1], flat[:1]))


def moments(*rows):
    return tuple(Moment(start=start, end=end, score=score) for start, end, score in rows)


def test_both_parts_of_then_are_spanned():
    first = moments((2, 4, 0.9), (0, 1, 0.5), (6, 7, 0.1))
    second = moments((8, 9, 0.7), (3, 5, 0.3))
    assert spanning(first, second) == moments((2, 9, 0.8), (0, 5, 0.4))


def test_times_are_counted_among_good_moments_that_share_nothing():
    found = moments((20, 24, 1.0), (4, 8, 0.8), (3, 25, 0.7), (12, 14, 0.6), (30, 31, 0.4))
    first, second, third = ((4, 8), (12, 14), (20, 24))
    for ordinal, window in ((1, first), (2, second), (3, third), (4, third)):
        chosen = nth(found, ordinal)
        assert (chosen[0].start, chosen[0].end) == window
        assert [moment.score for moment in chosen] == [1.0, 0.8, 0.7, 0.6, 0.4]
        assert {(m.start, m.end) for m in chosen} == {(m.start, m.end) for m in found}
    worse = moments((5, 6, -0.2), (1, 2, -0.3))
    assert nth(worse, 1) == worse


def test_a_whole_sentence_is_read_as_its_curve():
    def read(curve):
        return moments((float(curve.argmax()), 12, 1.0))

    told = in_time(Parts(kind="whole", main="a"), {"a": ONCE}, read)
    assert (told.moments, told.parts) == (moments((5, 12, 1.0)), ())
    np.testing.assert_array_equal(told.curve, ONCE)


@pytest.fixture(scope="module")
def asked(tiny_clip_folder):
    """A grounder, and a video where a dog barks in clips 2, 3, 8, 9 and a cat runs in 5 and 6."""
    grounder = Grounder(load_backbone(f"local-dir:{tiny_clip_folder}", "cpu"), fps=1.0)
    grounder.scorer = SCORER
    texts = [
        grounder.encode_query(text).pooled[0].numpy() for text in ("a dog barks", "a cat runs")
    ]
    # Directions that are similar to one of both texts and to the other not at all; then neither.
    dog, cat = np.linalg.pinv(np.stack(texts)).T
    rest = np.linalg.svd(np.stack(texts))[2][-1]
    rows = np.stack([rest] * 12)
    rows[[2, 3, 8, 9]], rows[[5, 6]] = dog, cat
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    frames = FrameFeatures(
        vid="pets",
        features=rows.astype(np.float32),
        times=np.arange(12.0),
        duration=12.0,
        fps=1.0,
        framing="crop",
        fingerprint="f",
        content="pets",
    )
    return grounder, EncodedVideo(vid="pets", frames=frames, encoder=grounder.encoder)


def best(answer: Grounding):
    return (answer.moments[0].start, answer.moments[0].end)


def test_a_grounder_reads_parts_and_tells_where_they_are(asked):
    grounder, video = asked
    ask = partial(grounder.ground, video)
    dog, cat = "a dog barks", "a cat runs"
    assert best(ask(cat)) == (5, 7)
    before, after = ask(f"{dog} before {cat}"), ask(f"{dog} after {cat}")
    assert (best(before), best(after)) == ((2, 4), (8, 10))
    assert before.parts == (Part(text=dog, start=2, end=4), Part(text=cat, start=5, end=7))
    assert best(ask(f"{dog}, then {cat}")) == (2, 7)
    assert best(ask(f"{cat}, then {dog}")) == (5, 10)
    assert best(ask(f"the second time {dog}")) == (8, 10)
    assert best(ask(f"{dog} for the first time")) == (2, 4)
    assert before.query == f"{dog} before {cat}"
    assert before.prediction(1, "pets").extra == {
        "parts": [
            {"text": dog, "start": 2.0, "end": 4.0},
            {"text": cat, "start": 5.0, "end": 7.0},
        ]
    }
    # As many answers as are asked for are the first of more.
    few = ask(f"the second time {dog}", top_k=1)
    assert few.moments == ask(f"the second time {dog}").moments[:1]


def test_sentences_are_wholes_where_nobody_asks_for_parts(asked):
    grounder, video = asked
    sentence = "a dog barks before a cat runs"
    whole = grounder._ground(video, sentence, 5, None)
    read = grounder.ground(video, sentence)
    assert (read.fit, read.presence) == (whole.fit, whole.presence)  # videos are ranked as before
    try:
        grounder.reads_time = False
        assert grounder.parts(sentence) == Parts(kind="whole", main=sentence)
        plain = grounder.ground(video, sentence)
    finally:
        grounder.reads_time = True
    assert plain.parts == ()
    assert plain.moments == whole.moments
    assert replace(plain, curve=None, centres=None) == replace(whole, curve=None, centres=None)


def test_a_blind_model_reads_no_parts(asked):
    grounder, video = asked
    blind = Grounder(grounder.backbone, fps=1.0, scorer=SCORER, manifest={"query_blind": True})
    assert blind.ground(video, "a dog barks before a cat runs").parts == ()


def test_the_command_shows_where_parts_are(run_zsvg, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    write_world(tmp_path, domain="studio", videos=1, seed=1, workers=1)
    sentence = "the red circle before the blue square"
    asked = ("ground", tmp_path / "videos", sentence, "the red circle", "-m", "micro",
             "--cache", tmp_path / "cache")  # fmt: skip
    status, out, _ = run_zsvg(*asked)
    assert status == 0
    assert re.search(r"the red circle [0-9.]+–[0-9.]+ s; the blue square [0-9.]+–[0-9.]+ s", out)
    status, out, _ = run_zsvg(*asked, "--output", "-")
    assert status == 0
    related, plain = (json.loads(line) for line in out.splitlines())
    assert [part["text"] for part in related["parts"]] == ["the red circle", "the blue square"]
    assert "parts" not in plain


def test_the_benchmark_joins_what_does_not_overlap():
    records = [
        Annotation(
            qid=f"{vid}{place}", query=query, vid=vid, duration=30, relevant_windows=(window,)
        )
        for vid, place, query, window in (
            ("a", 0, "he sits.", (0.0, 8.0)),
            ("a", 1, "he reads .", (8.0, 20.0)),
            ("a", 2, "he sings", (9.0, 20.0)),  # with the one above an IoU of 11 / 12
            ("b", 0, "it rains.", (3.0, 4.0)),
        )
    ]
    asked = [(one.group, one.sentence, *one.windows) for one in joined(records)]
    assert asked == [
        ("before", "he sits before he reads.", (0, 8)),
        ("after", "he reads after he sits.", (8, 20)),
        ("then", "he sits, then he reads.", (0, 20)),
        ("before", "he sits before he sings.", (0, 8)),
        ("after", "he sings after he sits.", (9, 20)),
        ("then", "he sits, then he sings.", (0, 20)),
        ("while", "he reads while he sings.", (8, 20)),
        ("while", "he sings while he reads.", (9, 20)),
    ]
    assert {one.foreign for one in joined(records)} == {"it rains."}
