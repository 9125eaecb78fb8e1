"""TFVTG's scorer: by hand, and equal to what its code returned where ZSVG_TEST_DATA is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from zsvg.moments import paired_iou
from zsvg.scorers.find import find_moments
from zsvg.scorers.tfvtg import Tfvtg, answer, propose, rise_starts, score_windows, vote

# Ten clips, one masked, which stand for a second each.
CURVE = np.array([0.3, 0.3, 0.1, 0.3, 0.5, 0.7, 0.7, 0.7, 0.3, 0.3])
EDGES = np.arange(11.0)


class TestByHand:
    def test_windows_are_whole_strides_up_to_the_longest(self):
        found = propose(CURVE, 2, Tfvtg(nms=1.0))
        # Of 2 clips nine, of 4 seven; half of the video is the most. Ten are kept.
        assert len(found.windows) == 10
        assert set(np.diff(found.windows).ravel()) == {2, 4}
        everything = propose(CURVE[:6], 2, Tfvtg(nms=1.0, longest=1.0))
        # 5 of 2, 3 of 4; the whole video has nothing outside.
        assert len(everything.windows) == 8
        assert [0, 6] not in everything.windows.tolist()

    def test_the_score_is_a_sum_over_the_length_less_the_mean_of_what_counts(self):
        found = propose(CURVE, 2, Tfvtg(nms=1.0))
        scores = {tuple(w): s for w, s in zip(found.windows.tolist(), found.scores, strict=True)}
        # Nine clips count and sum to 4.1.
        assert scores[5, 7] == pytest.approx(1.4 / 2 - (4.1 - 1.4) / 7)
        assert scores[4, 8] == pytest.approx(2.6 / 4 - (4.1 - 2.6) / 5)
        low = propose(np.array([0.3, 0.1, 0.3, 0.4]), 2, Tfvtg(nms=1.0))
        # The masked clip adds nothing, but is one of the two of [1, 3).
        scores = {tuple(w): s for w, s in zip(low.windows.tolist(), low.scores, strict=True)}
        assert scores[1, 3] == pytest.approx(0.3 / 2 - 0.7 / 2)

    def test_the_best_come_first_and_none_overlaps_a_better_one_by_much(self):
        found = propose(CURVE, 2, Tfvtg())
        # [6, 8) is as good as [5, 7), and a third of their union is both: it is dropped.
        assert found.windows[0].tolist() == [4, 8]
        assert found.confidence[0] == 1
        np.testing.assert_allclose(found.confidence, found.scores / (2.6 / 4 - 1.5 / 5))
        overlaps = paired_iou(found.windows[:, None] / 10, found.windows[None] / 10)
        assert np.triu(overlaps, 1).max() <= 0.3

    def test_starts_go_back_to_where_the_curve_began_to_rise(self):
        curve = np.array([0.4] * 6 + [0.5, 0.6, 0.7, 0.8] + [0.8] * 6)
        # A stride of two clips smooths nothing. A step belongs to the clip before it, as there is
        # one less; over three steps the rise outlasts itself by two.
        found = propose(curve, 2, Tfvtg(nms=1.0, longest=0.2))
        begun = dict(zip(found.windows[:, 0].tolist(), found.starts.tolist(), strict=True))
        assert {begun[first] for first in (8, 9, 10) if first in begun} == {4}
        assert begun[12] == 12

    def test_a_moment_that_others_confirm_wins_the_vote(self):
        votes = vote([[0, 4], [10, 14], [12, 16]], [1.0, 0.9, 0.8])
        third = (1 / 3) ** 0.6
        np.testing.assert_allclose(votes, [1.0, 0.9 + third * 0.8, 0.8 + third * 0.9])
        # What is worse than nothing does not vote.
        np.testing.assert_allclose(vote([[0, 4], [0, 4]], [1.0, -5.0]), [1.0, 1.0])

    def test_seconds_become_clips(self):
        curve = np.where((np.arange(60) >= 20) & (np.arange(60) < 30), 0.4, 0.3)
        # 20/3 s are ten clips at 1.5 a second. Over three clips and three steps of smoothing the
        # rise begins three clips early.
        moments, _ = answer(curve, np.arange(61) / 1.5, Tfvtg())
        np.testing.assert_allclose(moments[0], [17 / 1.5, 30 / 1.5])
        # At three a second they are 20, too many for this moment.
        moments, _ = answer(curve, np.arange(61) / 3, Tfvtg())
        assert np.diff(moments[0])[0] >= 20 / 3 - 1e-9

    @pytest.mark.parametrize("curve", [np.arange(9) / 50, [0.4]])
    def test_where_no_window_has_a_score_the_whole_video_is_the_answer(self, curve):
        moments, scores = find_moments(curve, np.arange(len(curve) + 1.0), Tfvtg())
        np.testing.assert_array_equal(moments, [[0, len(curve)]])
        assert scores.tolist() == [0]

    def test_a_flat_curve_is_answered_by_the_whole_video(self):
        moments, _ = find_moments(np.full(9, 0.3), np.arange(10.0), Tfvtg())
        np.testing.assert_array_equal(moments, [[0, 9]])

    def test_wrong_settings_are_refused(self):
        for wrong in ({"stride": 0}, {"longest": 1.5}, {"nms": -1}, {"smooth": 1.0}):
            with pytest.raises(ValueError, match=next(iter(wrong))):
                Tfvtg(**wrong)


@given(
    curve=hnp.arrays(np.float64, st.integers(1, 150), elements=st.floats(-1, 1, width=32)),
    longest=st.sampled_from([0.5, 1.0]),
    rate=st.sampled_from([0.5, 2.0, 3.0]),
)
@settings(max_examples=60, deadline=None)
def test_answers_lie_inside_the_video(curve, longest, rate):
    edges = np.arange(len(curve) + 1) / rate
    moments, scores = find_moments(curve, edges, Tfvtg(longest=longest))
    assert 1 <= len(moments) == len(scores) <= 3
    assert (moments[:, 0] < moments[:, 1]).all()
    assert moments.min() >= 0
    assert moments.max() <= edges[-1]
    assert np.isfinite(scores).all()
    assert (np.diff(scores) <= 0).all()


def expected(folder: Path, name: str) -> dict[str, np.ndarray]:
    with np.load(folder / "expected" / f"{name}.npz", allow_pickle=False) as stored:
        return dict(stored)


def rows(stored: dict[str, np.ndarray], name: str, case: int, starts: str = "") -> np.ndarray:
    places = stored[f"{starts or name}_start"]
    return stored[name][places[case] : places[case + 1]]


@pytest.mark.parametrize(
    ("name", "options", "firm", "infinite"),
    [
        ("tfvtg_charades", Tfvtg(), 144, 3),
        ("tfvtg_activitynet", Tfvtg(stride=40 / 3, longest=1.0), 46, 7),
    ],
)
def test_every_proposal_is_its_codes(data_folder, name, options, firm, infinite):
    """Windows and scores are equal in all cases, proposals where scores decide.

    Where they tie (not `firm`), the order in which the code takes windows is not known: each of its
    proposals must then be the best that is left, up to rounding. In few cases the code scores a
    window x/0 instead of 0/0, by rounding, and takes it first.
    """
    stored, seen = expected(data_folder, name), Counter()
    for case, duration in enumerate(stored["duration"]):
        curve = rows(stored, "curve", case).astype(np.float64)
        stride = round(options.stride * len(curve) / duration)
        counts = curve > options.least
        used = int(stored["stride_used"][case])
        windows, scores = score_windows(np.where(counts, curve, 0), counts, used, options.longest)
        scored = rows(stored, "window_outer_frames", case, "windows") > 0
        np.testing.assert_array_equal(windows, rows(stored, "windows", case)[scored])
        np.testing.assert_allclose(
            scores, rows(stored, "window_scores", case, "windows")[scored], atol=2e-5
        )
        if not scored.all():
            seen["infinite"] += 1
            continue
        found, theirs = propose(curve, stride, options), rows(stored, "proposals", case)
        spans = (windows.astype(np.float32) / np.float32(len(curve))).astype(np.float64)
        left = scores.copy()
        for window in theirs:
            (index,) = np.flatnonzero((windows == window).all(axis=1))
            assert left[index] >= left.max() - 4e-7
            left[paired_iou(spans[index], spans) > options.nms] = -np.inf
        assert len(theirs) == 10 or np.isneginf(left).all()
        if not (same := np.array_equal(found.windows, theirs)):
            assert not stored["firm"][case]
        seen["firm"] += int(stored["firm"][case])
        if same and len(theirs):
            told = rows(stored, "response", case)
            np.testing.assert_array_equal(
                found.starts, rows(stored, "proposal_dynamic_start", case, "proposals")
            )
            np.testing.assert_allclose(found.windows / 3, told[:, [0, 2]], atol=1e-4)
            np.testing.assert_allclose(found.starts / 3, told[:, 1], atol=1e-4)
            # A quotient of differences: only they are exact to so much.
            best = found.scores[0]
            np.testing.assert_allclose(found.confidence * best, told[:, 3] * best, atol=2e-5)
            seen["equal"] += 1
    assert (seen["firm"], seen["infinite"]) == (firm, infinite)
    assert seen["equal"] >= firm


def test_every_start_is_its_codes(data_folder):
    stored = expected(data_folder, "tfvtg_dynamic")
    for case, stride in enumerate(stored["stride"]):
        curve = rows(stored, "curve", case).astype(np.float64)
        starts = rise_starts(curve, rows(stored, "mask", case, "curve"), int(stride))
        np.testing.assert_array_equal(starts, rows(stored, "start_index", case, "curve"))


def test_every_vote_is_its_codes(data_folder):
    stored = expected(data_folder, "tfvtg_vote")
    for case, gamma in enumerate(stored["gamma"]):
        cast = rows(stored, "proposals", case)
        order = np.argsort(-vote(cast[:, :2], cast[:, 2], float(gamma)), kind="stable")
        np.testing.assert_array_equal(cast[order], rows(stored, "ordered", case, "proposals"))
