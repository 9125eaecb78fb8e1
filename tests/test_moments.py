"""Span arithmetic: examples worked by hand, and laws that hold for any spans."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zsvg.moments import as_spans, iou, mask_to_spans, nms, peaks, spans_to_mask

seconds = st.floats(min_value=-1e4, max_value=1e4, allow_nan=False)
any_spans = st.lists(st.tuples(seconds, seconds), max_size=12)
proper_spans = any_spans.map(lambda pairs: [tuple(sorted(pair)) for pair in pairs])


def test_iou_by_hand() -> None:
    overlap = iou([[0, 10], [2, 4]], [[5, 15], [2, 4], [10, 20]])
    assert overlap.shape == (2, 3)
    np.testing.assert_allclose(overlap, [[5 / 15, 0.2, 0.0], [0.0, 1.0, 0.0]])


def test_empty_and_inverted_spans_overlap_nothing() -> None:
    assert iou([[3, 3], [7, 2]], [[0, 10], [3, 3]]).max() == 0.0
    assert iou([], [[0, 1]]).shape == (0, 1)
    assert iou([[0, 1]], []).shape == (1, 0)


def test_iou_reaches_one_exactly() -> None:
    assert iou([[24.3, 30.4]], [[24.3, 30.4]])[0, 0] == 1.0


@pytest.mark.parametrize("bad", [[1.0, 2.0], [[1.0, 2.0, 3.0]], [[0.0, float("nan")]]])
def test_what_is_not_a_span_is_refused(bad: list) -> None:
    with pytest.raises(ValueError, match="spans"):
        as_spans(bad)


@given(any_spans, any_spans)
def test_iou_is_symmetric_and_bounded(a: list, b: list) -> None:
    overlap = iou(a, b)
    np.testing.assert_array_equal(overlap, iou(b, a).T)
    assert ((overlap >= 0) & (overlap <= 1)).all()


@given(proper_spans)
def test_a_span_that_is_not_empty_equals_itself(spans: list) -> None:
    long = [span for span in spans if span[1] > span[0]]
    assert (np.diag(iou(long, long)) == 1.0).all()


def test_nms_by_hand() -> None:
    moments = [[0, 10], [1, 11], [20, 30], [0, 10]]
    assert nms(moments, [0.5, 0.9, 0.5, 0.5], 0.5).tolist() == [1, 2]
    assert nms(moments, [0.5, 0.5, 0.5, 0.5], 0.5).tolist() == [0, 2]
    assert nms(moments, [0.5, 0.9, 0.5, 0.5], 0.5, top_k=1).tolist() == [1]
    assert nms(moments, [0.5, 0.9, 0.5, 0.4], 1.0).tolist() == [1, 0, 2, 3]
    assert nms([], [], 0.5).tolist() == []


@pytest.mark.parametrize("top_k", [1, 3, 50])
@pytest.mark.parametrize("levels", [2, 1000])  # few levels: many ties
def test_nms_of_many_spans_is_that_of_all_at_once(monkeypatch, top_k, levels) -> None:
    rng = np.random.default_rng(top_k)
    for many in (5, 40, 150):
        spans = np.sort(rng.uniform(0, 30, (200, 2)), axis=1)
        scores = rng.integers(0, levels, 200) / levels
        expected = nms(spans, scores, 0.5)[:top_k]
        monkeypatch.setattr("zsvg.moments._MANY", many)
        np.testing.assert_array_equal(nms(spans, scores, 0.5, top_k), expected)


def test_nms_refuses_options_out_of_range() -> None:
    with pytest.raises(ValueError, match="scores"):
        nms([[0, 1]], [0.1, 0.2], 0.5)
    with pytest.raises(ValueError, match="finite"):
        nms([[0, 1]], [float("nan")], 0.5)
    with pytest.raises(ValueError, match="threshold"):
        nms([[0, 1]], [0.1], 30)
    with pytest.raises(ValueError, match="top_k"):
        nms([[0, 1]], [0.1], 0.5, top_k=0)


@given(any_spans, st.floats(0, 1), st.randoms(use_true_random=False))
def test_nms_is_idempotent_and_keeps_the_best(spans: list, threshold: float, random) -> None:
    scores = [random.choice([0.1, 0.2, 0.3]) for _ in spans]
    kept = nms(spans, scores, threshold)
    if not spans:
        return
    chosen, values = as_spans(spans)[kept], np.array(scores)[kept]
    assert nms(chosen, values, threshold).tolist() == list(range(len(kept)))
    assert (np.diff(values) <= 0).all()
    assert kept[0] == int(np.argmax(scores))
    overlap = iou(chosen, chosen)
    assert (overlap[~np.eye(len(kept), dtype=bool)] <= threshold).all()


def test_what_lies_on_the_slope_of_a_better_moment_is_no_peak() -> None:
    moments, scores = [[0, 10], [4, 14], [8, 18], [30, 40]], [0.9, 0.8, 0.7, 0.1]
    assert nms(moments, scores, 0.4).tolist() == [0, 2, 3]  # [4, 14] hid nothing
    assert peaks(moments, scores, 0.4).tolist() == [0, 3]
    assert peaks(moments, scores, 0.4, top_k=1).tolist() == [0]
    assert peaks([], [], 0.4).tolist() == []


@given(any_spans, st.floats(0, 1), st.randoms(use_true_random=False))
def test_peaks_are_what_no_better_moment_overlaps_by_much(
    spans: list, threshold: float, random
) -> None:
    scores = [random.choice([0.1, 0.2, 0.3]) for _ in spans]
    overlap = iou(spans, spans)
    order = sorted(range(len(spans)), key=lambda index: -scores[index])
    expected = [
        index
        for place, index in enumerate(order)
        if all(overlap[index, better] <= threshold for better in order[:place])
    ]
    kept = peaks(spans, scores, threshold).tolist()
    assert kept == expected
    assert set(kept) <= set(nms(spans, scores, threshold).tolist())


def test_masks_and_spans() -> None:
    edges = [0.0, 0.5, 1.0, 1.5, 1.8]
    mask = [True, True, False, True]
    spans = mask_to_spans(mask, edges)
    assert spans.tolist() == [[0.0, 1.0], [1.5, 1.8]]
    assert spans_to_mask(spans, [0.25, 0.75, 1.25, 1.65]).tolist() == mask
    assert spans_to_mask([[0.0, 0.25]], [0.0, 0.25]).tolist() == [True, False]
    assert spans_to_mask([], [0.25, 0.75]).tolist() == [False, False]
    assert mask_to_spans([False], [0.0, 1.0]).shape == (0, 2)
    with pytest.raises(ValueError, match="edges"):
        mask_to_spans(mask, edges[:-1])


@given(st.lists(st.booleans(), max_size=40), st.floats(0.1, 30))
def test_a_mask_survives_the_way_through_spans(mask: list, fps: float) -> None:
    edges = np.arange(len(mask) + 1) / fps
    centres = (edges[1:] + edges[:-1]) / 2
    assert spans_to_mask(mask_to_spans(mask, edges), centres).tolist() == mask
