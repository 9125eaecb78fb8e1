"""Training-free scorers and what is done to curves before them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from zsvg.moments import iou
from zsvg.scorers.find import find_moments
from zsvg.scorers.options import COARSE, DRAWINGS, ScorerOptions, usual_scorer
from zsvg.scorers.scorers import SCORERS, best_segment
from zsvg.scorers.transforms import (
    box_cox,
    rise_starts,
    smooth,
    spread_relevance,
)

pytestmark = pytest.mark.numeric

KINDS = sorted(SCORERS)
METHODS = [  # as little smoothing as these clear curves need
    *(replace(DRAWINGS, kind=kind) for kind in KINDS),
    replace(DRAWINGS, kind="inside_outside", length_weight=0.2, extend=True),
    replace(DRAWINGS, kind="coherent", box_cox=True, extend=True),
    replace(DRAWINGS, kind="max_sum", box_cox=True, spread=0.1),
]


def bump(clips=60, start=20, stop=32, noise=0.0, seed=0):
    curve = np.random.default_rng(seed).normal(0, noise, clips)
    curve[start:stop] += 1.0
    return curve


def scenes(clips=60, start=20, stop=32, width=8):
    """Clips (T, D) that look one way inside and another outside, with noise."""
    rows = np.random.default_rng(0).normal(0, 0.2, (clips, width)).astype(np.float32)
    rows[:, 0] += 1.0
    rows[start:stop, 1] += 2.0
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("options", METHODS, ids=str)
def test_every_scorer_finds_a_clear_moment(options):
    edges = np.arange(61) / 2.0
    moments, scores = find_moments(bump(noise=0.1), edges, options, scenes())
    assert moments.shape == (len(scores), 2)
    # Clusters of averaged clips end beside the change; extension adds the noise before it.
    least = 0.5 if options.extend else 0.8 if options.kind == "coherent" else 0.9
    assert iou(moments[:1], [[10.0, 16.0]])[0, 0] > least
    assert (np.diff(scores) <= 0).all()


@pytest.mark.parametrize("options", METHODS, ids=str)
@given(
    curve=hnp.arrays(np.float64, st.integers(1, 150), elements=st.floats(-1, 1, width=32)),
    top_k=st.integers(1, 6),
    smooth=st.sampled_from([0.0, 0.7, 5.0]),
)
@settings(max_examples=40, deadline=None)
def test_scorers_give_moments_inside_the_video(options, curve, top_k, smooth):
    edges = np.linspace(0.0, 0.5 * len(curve), len(curve) + 1)
    options = replace(options, top_k=top_k, smooth=smooth)
    moments, scores = find_moments(curve, edges, options, scenes(len(curve)))
    assert 1 <= len(moments) == len(scores) <= top_k
    assert (moments[:, 0] < moments[:, 1]).all()
    assert moments.min() >= 0
    assert moments.max() <= edges[-1]
    assert np.isfinite(scores).all()
    assert (np.diff(scores) <= 0).all()


@pytest.mark.parametrize("options", METHODS, ids=str)
def test_scorers_ignore_the_scale_of_the_curve(options):
    edges = np.arange(61.0)
    first, _ = find_moments(bump(noise=0.3), edges, options, scenes())
    again, _ = find_moments(0.01 * bump(noise=0.3) + 0.2, edges, options, scenes())
    np.testing.assert_allclose(first, again)


@pytest.mark.parametrize("options", METHODS, ids=str)
def test_a_flat_curve_is_answered_by_the_whole_video(options):
    moments, scores = find_moments(np.full(9, 0.3), np.arange(10.0), options, scenes(9))
    np.testing.assert_array_equal(moments, [[0.0, 9.0]])
    assert scores[0] == 0


@pytest.mark.timeout(120)  # 0.1 s on an idle machine; all windows would be hours
@pytest.mark.parametrize("kind", KINDS)
def test_scorers_take_an_hour_of_clips(kind):
    # Nine clusters of an hour cannot end within a minute of a moment.
    stop = 4000 if kind == "coherent" else 3100
    curve, rows = bump(7200, 3000, stop, noise=0.5), scenes(7200, 3000, stop)
    options = ScorerOptions(kind=kind, smooth=1.0)
    moments, _ = find_moments(curve, np.arange(7201) / 2, options, rows)
    assert iou(moments[:1], [[1500.0, stop / 2]])[0, 0] > 0.6


@given(
    hnp.arrays(
        np.int64,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12),
        elements=st.integers(-5, 5),
    )
)
@settings(max_examples=100, deadline=None)
def test_best_segment_equals_trying_all(values):
    start, stop, total = best_segment(values)
    for row, first, last, found in zip(values, start, stop, total, strict=True):
        n = len(row)
        sums = [row[i:j].sum() for i in range(n) for j in range(i + 1, n + 1)]
        assert found == max(sums) == row[first:last].sum()
        assert first < last


@given(hnp.arrays(np.float64, st.integers(3, 16), elements=st.integers(-8, 8).map(float)))
@settings(max_examples=30, deadline=None)
def test_correlation_is_that_of_the_curve_with_inside(curve):
    options = ScorerOptions(kind="correlation", smooth=0.0, top_k=1)
    moments, scores = find_moments(curve, np.arange(len(curve) + 1.0), options)
    if np.ptp(curve) == 0:
        return
    boxes = [
        (np.arange(len(curve)) >= i) & (np.arange(len(curve)) < j)
        for i in range(len(curve))
        for j in range(i + 1, len(curve) + 1)
        if j - i < len(curve)
    ]
    best = max(float(np.corrcoef(curve, box)[0, 1]) for box in boxes)
    assert scores[0] == pytest.approx(best, abs=1e-9)
    start, stop = moments[0].astype(int)
    inside = (np.arange(len(curve)) >= start) & (np.arange(len(curve)) < stop)
    assert np.corrcoef(curve, inside)[0, 1] == pytest.approx(best, abs=1e-9)


def test_the_watershed_joins_what_a_short_gap_parts():
    edges = np.arange(61.0)
    curve = bump(start=20, stop=40)
    curve[28:31] = 0.0  # a hole of 3 in a moment of 20
    curve[50:52] = 0.4  # too far away to be joined
    options = ScorerOptions(kind="watershed", smooth=0.0, length_weight=1.0)
    assert find_moments(curve, edges, options)[0][0].tolist() == [20.0, 40.0]
    # Without joining, the sum of squares decides for one of the two pieces.
    runs = ScorerOptions(kind="threshold_runs", smooth=0.0, octaves=1)
    assert find_moments(curve, edges, runs)[0][0].tolist() == [31.0, 40.0]


def test_coherent_windows_end_where_the_picture_changes():
    edges = np.arange(61.0)
    # Relevance misses the last third of what looks alike.
    curve = bump(start=20, stop=28, noise=0.05)
    options = ScorerOptions(kind="coherent", clusters=3, smooth=0.0)
    start, end = find_moments(curve, edges, options, scenes())[0][0]
    assert (start, end) == (pytest.approx(20, abs=1), pytest.approx(32, abs=1))
    with pytest.raises(ValueError, match="give it features"):
        find_moments(curve, edges, options)


def test_a_vote_outdoes_one_scorer_that_errs():
    edges = np.arange(121) / 2
    curve = bump(120, 40, 64, noise=0.1)
    curve[100] = 4.0  # one bad frame, which the plain difference of means falls for
    static = ScorerOptions(kind="inside_outside", length_weight=0.0, smooth=0.0)
    assert find_moments(curve, edges, static)[0][0].tolist() == [50.0, 50.5]
    vote = ScorerOptions(kind="consensus", length_weight=0.0, smooth=0.0, bias=0.0)
    moments, scores = find_moments(curve, edges, vote)
    assert iou(moments[:1], [[20.0, 32.0]])[0, 0] > 0.8
    assert 0 < scores[0] <= 1


def test_extended_starts_lie_where_relevance_began_to_rise():
    curve = np.concatenate((np.zeros(20), np.linspace(0, 1, 11), np.ones(9), np.zeros(20)))
    starts = rise_starts(curve)
    assert starts[30] == pytest.approx(20, abs=2)  # smoothing blurs the corner
    assert starts[50:].tolist() == list(range(50, 60))
    assert (starts <= np.arange(60)).all()
    edges = np.arange(61.0)
    plain = ScorerOptions(kind="inside_outside", smooth=0.0, length_weight=0.1)
    late = find_moments(curve, edges, plain)[0][0, 0]
    early = find_moments(curve, edges, replace(plain, extend=True))[0][0, 0]
    assert early == pytest.approx(20, abs=2)
    assert late > early + 3


def test_box_cox_finds_scipys_power_up_to_its_grid():
    from scipy.stats import boxcox

    skewed = np.random.default_rng(0).lognormal(0, 0.6, 700)
    laid = 0.01 + 0.99 * (skewed - skewed.min()) / np.ptp(skewed)
    _, power = boxcox(laid)
    ours = box_cox(skewed)
    np.testing.assert_allclose(ours, boxcox(laid, round(power, 1)), atol=1e-9)
    assert (np.argsort(ours) == np.argsort(skewed)).all()
    np.testing.assert_array_equal(box_cox(np.full(5, 0.2)), np.full(5, 0.2))


def test_relevance_spreads_over_what_looks_alike():
    alike = np.eye(3, 8, dtype=np.float32)[[0, 0, 0, 1, 1, 0, 2]]
    curve = np.array([0.9, 0.0, 0.6, 0.2, 0.4, 0.5, 1.0])
    found = spread_relevance(curve, alike, 0.01)
    np.testing.assert_allclose(found, [0.5, 0.5, 0.5, 0.3, 0.3, 0.5, 1.0], atol=1e-6)
    everywhere = spread_relevance(curve, alike, 1e6)
    np.testing.assert_allclose(everywhere, curve.mean(), atol=1e-4)
    # The moment 0 to 3 s has a hole in its relevance; its clips look alike.
    options = ScorerOptions(kind="max_sum", smooth=0.0, bias=0.5)
    edges = np.arange(8.0)
    holed = np.array([0.9, 0.0, 0.9, 0.1, 0.1, 0.1, 0.1])
    first = [find_moments(holed, edges, o, alike)[0][0].tolist() for o in (
        options, replace(options, spread=0.1))]  # fmt: skip
    assert first == [[0.0, 1.0], [0.0, 3.0]]


def test_long_videos_spread_in_parts_to_the_same_curve(monkeypatch):
    random = np.random.default_rng(0)
    rows = random.normal(size=(100, 6)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    curve = random.normal(size=100)
    whole = spread_relevance(curve, rows, 0.2)
    monkeypatch.setattr("zsvg.scorers.transforms._ROWS_AT_ONCE", 7)
    np.testing.assert_allclose(spread_relevance(curve, rows, 0.2), whole, atol=1e-6)


def test_what_is_usual_depends_on_the_clips():
    assert usual_scorer(2.0, drawn=False) == ScorerOptions()
    assert usual_scorer(0.5, drawn=False) == usual_scorer(1.0, drawn=False) == COARSE
    assert usual_scorer(2.0, drawn=True) == usual_scorer(0.5, drawn=True) == DRAWINGS


def test_octaves_find_a_moment_that_one_smoothing_breaks_up():
    edges = np.arange(201) / 2
    broken = bump(200, 60, 140, noise=1.2, seed=3)
    first = [
        find_moments(broken, edges, replace(DRAWINGS, smooth=0.5, octaves=octaves))[0][:1]
        for octaves in (1, 4)
    ]
    one, four = (float(iou(moment, [[30.0, 70.0]])[0, 0]) for moment in first)
    assert four > 0.8 > one
    # Smoothing twice is smoothing once with the root of the sum of squares.
    twice = smooth(smooth(broken, 3.0), 4.0)
    np.testing.assert_allclose(twice[40:160], smooth(broken, 5.0)[40:160], atol=0.02)


def test_wrong_scorer_input_is_explained():
    with pytest.raises(ValueError, match="spread"):
        ScorerOptions(spread=-1)
    with pytest.raises(ValueError, match="octaves"):
        ScorerOptions(octaves=0)
    with pytest.raises(ValueError, match="clusters"):
        ScorerOptions(clusters=0)
    with pytest.raises(ValueError, match="max_sum"):
        ScorerOptions(kind="best")
    with pytest.raises(ValueError, match="nms"):
        ScorerOptions(nms=2)
    with pytest.raises(ValueError, match="T \\+ 1 borders"):
        find_moments(np.ones(3), np.arange(3.0), ScorerOptions())
    with pytest.raises(ValueError, match="not finite"):
        find_moments([0.0, np.nan], np.arange(3.0), ScorerOptions())
