"""Arithmetic of moments: spans as (n, 2) float64 seconds, half-open [start, end).

Two spans that only touch share no time, so their IoU is 0; a span whose end is not after its start
is empty and overlaps nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Spans = NDArray[np.float64]

_MANY = 20_000  # spans beyond which suppression looks at the best ones first


def as_spans(values: ArrayLike) -> Spans:
    """Return spans as a float64 array of shape (n, 2); an empty input gives (0, 2).

    Raises:
        ValueError: the values do not have the shape (n, 2), or are not all finite.
    """
    spans = np.asarray(values, dtype=np.float64)
    if spans.size == 0 and spans.ndim <= 2:
        return np.zeros((0, 2))
    if spans.ndim != 2 or spans.shape[1] != 2:
        raise ValueError(f"spans have the shape (n, 2), but these have {spans.shape}")
    if not np.isfinite(spans).all():
        raise ValueError("spans must be finite numbers of seconds")
    return spans


def iou(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Temporal intersection over union of every span in `a` with every span in `b`.

    Args:
        a: (n, 2) spans in seconds.
        b: (m, 2) spans in seconds.

    Returns:
        (n, m) float64 in [0, 1]: intersection divided by union without an epsilon, 0 where either
        span is empty.
    """
    return paired_iou(as_spans(a)[:, None, :], as_spans(b)[None, :, :])


def paired_iou(
    a: NDArray[np.float64], b: NDArray[np.float64], epsilon: float = 0.0
) -> NDArray[np.float64]:
    """IoU of arrays of spans that broadcast together: (..., 2) and (..., 2) give (...).

    `epsilon` seconds are added to the union, for comparison with evaluators that do so.
    """
    intersection = np.minimum(a[..., 1], b[..., 1]) - np.maximum(a[..., 0], b[..., 0])
    # Where two spans overlap, their union is their hull: fewer roundings than adding the lengths.
    union = np.maximum(a[..., 1], b[..., 1]) - np.minimum(a[..., 0], b[..., 0])
    overlap = np.zeros(union.shape)
    np.divide(intersection, union + epsilon, out=overlap, where=intersection > 0)
    return overlap


def nms(
    moments: ArrayLike, scores: ArrayLike, threshold: float, top_k: int | None = None
) -> NDArray[np.int64]:
    """Greedy non-maximum suppression.

    Args:
        moments: (n, 2) spans in seconds.
        scores: (n,) finite scores; higher is better. Ties keep the order of the input.
        threshold: a moment is dropped when its IoU with a kept, better one is above this value.
        top_k: stop after so many moments; None keeps all that survive.

    Returns:
        Indices of the kept moments into the input, best first.

    Raises:
        ValueError: shapes disagree, a score is not finite, or `threshold` is outside [0, 1].
    """
    spans, values = _checked(moments, scores, threshold, top_k)
    if top_k is not None and len(spans) > _MANY:
        # Of a long video's windows few are kept, and nearly always they are among the best.
        best = np.flatnonzero(values > np.partition(values, -_MANY)[-_MANY])
        kept = best[_greedy(spans[best], values[best], threshold, top_k)]
        if len(kept) == top_k:
            return kept
    return _greedy(spans, values, threshold, top_k)


def _greedy(
    spans: Spans, values: NDArray[np.float64], threshold: float, top_k: int | None
) -> NDArray[np.int64]:
    waiting = values.copy()
    starts, ends = np.ascontiguousarray(spans.T)
    kept: list[int] = []
    for _ in range(len(spans) if top_k is None else min(top_k, len(spans))):
        best = int(waiting.argmax())
        if waiting[best] == -np.inf:
            break
        kept.append(best)
        start, end = spans[best]
        met = np.flatnonzero((starts < end) & (start < ends))
        waiting[met[paired_iou(spans[best], spans[met]) > threshold]] = -np.inf
        waiting[best] = -np.inf
    return np.array(kept, dtype=np.int64)


def peaks(
    moments: ArrayLike, scores: ArrayLike, threshold: float, top_k: int | None = None
) -> NDArray[np.int64]:
    """Keep moments that no better one overlaps by much, be that one kept or not.

    Stricter than `nms`, which also keeps what lies on the slope of a better moment once the moments
    between the two are dropped. Arguments, errors and order are those of `nms`.
    """
    spans, values = _checked(moments, scores, threshold, top_k)
    order = np.argsort(-values, kind="stable")
    ordered = spans[order]
    dropped = np.zeros(len(order), dtype=bool)
    kept: list[int] = []
    for place in range(len(order)):
        if dropped[place]:
            continue
        close = paired_iou(ordered[place], ordered) > threshold
        if not close[:place].any():
            kept.append(int(order[place]))
            if len(kept) == top_k:
                break
        dropped |= close  # what is worse and close to any other is no peak
    return np.array(kept, dtype=np.int64)


def _checked(
    moments: ArrayLike, scores: ArrayLike, threshold: float, top_k: int | None
) -> tuple[Spans, NDArray[np.float64]]:
    """Check the arguments of suppression; return spans and scores as arrays."""
    spans = as_spans(moments)
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != (len(spans),):
        raise ValueError(f"{len(spans)} moments need {len(spans)} scores, got shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("scores must be finite: non-maximum suppression orders by them")
    if not 0.0 <= threshold <= 1.0:
        raise ValueError(f"threshold {threshold} is not an IoU; give a value in [0, 1]")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k {top_k} keeps nothing; give at least 1, or None for all")
    return spans, values


def mask_to_spans(mask: ArrayLike, edges: ArrayLike) -> Spans:
    """Turn runs of True clips into spans.

    Args:
        mask: (T,) bool, one value per clip.
        edges: (T + 1,) clip borders in seconds; clip i covers [edges[i], edges[i + 1]).

    Returns:
        (k, 2) spans sorted by start, one per run.
    """
    chosen = np.asarray(mask, dtype=bool)
    borders = np.asarray(edges, dtype=np.float64)
    if chosen.ndim != 1 or borders.shape != (len(chosen) + 1,):
        raise ValueError(f"a mask of shape {chosen.shape} needs T + 1 edges, got {borders.shape}")
    steps = np.diff(np.concatenate(([0], chosen.astype(np.int8), [0])))
    return np.stack((borders[np.flatnonzero(steps == 1)], borders[np.flatnonzero(steps == -1)]), 1)


def spans_to_mask(spans: ArrayLike, centres: ArrayLike) -> NDArray[np.bool_]:
    """Mark the clips whose centre lies inside a span.

    Args:
        spans: (n, 2) spans in seconds.
        centres: (T,) clip centres in seconds.

    Returns:
        (T,) bool.
    """
    given = as_spans(spans)
    times = np.asarray(centres, dtype=np.float64)
    if times.ndim != 1:
        raise ValueError(f"centres have the shape (T,), but these have {times.shape}")
    inside = (given[:, :1] <= times) & (times < given[:, 1:])
    return np.asarray(inside.any(axis=0), dtype=bool)
