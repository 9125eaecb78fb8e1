"""Whether a sentence is in a video: the threshold, what it is set by, and who hears of it."""

from __future__ import annotations

import numpy as np
import pytest

from zsvg.grounding.presence_threshold import ENOUGH, LOST, calibrate, elsewhere
from zsvg.records import Annotation


def label(vid, query, number=0):
    return Annotation(
        qid=f"{vid}-{query}-{number}", query=query, vid=vid, duration=float(10 + ord(vid)),
        relevant_windows=((1.0, 2.0),),
    )  # fmt: skip


def test_a_threshold_loses_what_it_may_and_says_what_it_refuses():
    rng = np.random.default_rng(0)
    present, absent = rng.normal(1, 0.3, 400), rng.normal(0, 0.3, 300)
    found = calibrate(present.tolist(), absent.tolist())
    assert found.lost == pytest.approx(LOST)
    assert found.lost == (present < found.threshold).mean()
    assert found.refused == (absent < found.threshold).mean()
    assert found.refused > 0.8
    assert found.labels == 400


def test_without_enough_labels_or_a_score_that_tells_there_is_no_threshold():
    rng = np.random.default_rng(0)
    many, few = rng.random(400).tolist(), rng.random(ENOUGH - 1).tolist()
    assert calibrate(few, [-1.0] * 50) is None
    assert calibrate(many, []) is None
    assert calibrate(many, (np.array(many) + 0.5).tolist()) is None
    assert calibrate([0.5] * 100, [0.5] * 100) is None


def test_sentences_are_asked_of_other_videos_where_nobody_says_the_same():
    labels = [label("a", "x"), label("a", "y"), label("b", "x"), label("c", "z")]
    asked = elsewhere(labels)
    own = {(one.vid, one.query) for one in labels}
    durations = {one.vid: one.duration for one in labels}
    assert [one.query for one in asked] == ["x", "y", "x", "z"]
    for one in asked:
        assert (one.vid, one.query) not in own
        assert one.duration == durations[one.vid]
        assert not one.relevant_windows
    assert asked == elsewhere(labels)
    assert elsewhere([label("a", "x"), label("a", "y")]) == []
    assert elsewhere([label("a", "x"), label("b", "x")]) == []
