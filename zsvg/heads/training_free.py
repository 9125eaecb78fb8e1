"""Moments from one relevance curve, without any training.

Every scorer takes a curve (T,), higher where the video fits the query, and clip borders (T + 1,) in
seconds, and returns moments (K, 2) in seconds with scores (K,), best first. K is at least 1 and at
most `top_k`. Scores order the moments of one curve; their unit depends on the scorer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zsvg.moments import Spans, iou, mask_to_spans, nms

Curve = NDArray[np.float64]
Answers = tuple[Spans, Curve]

# How many windows of one length are laid out along the video, relative to that length.
_WINDOWS_PER_LENGTH = 8
# Up to this many clips every window is tried; beyond it lengths grow by a constant factor.
_EXHAUSTIVE_CLIPS = 96
# Standard deviations around `bias` that `threshold_runs` lets vote.
_THRESHOLDS = (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5)
_RUNS_PER_THRESHOLD = 20
_ROWS_AT_ONCE = 1024  # of a video's self-similarity matrix


@dataclass(frozen=True, kw_only=True)
class ScorerOptions:
    """Settings of a training-free scorer.

    Attributes:
        kind: "max_sum", "inside_outside" or "threshold_runs".
        spread: temperature at which a clip takes over the relevance of clips that look like it, in
            units of cosine similarity; 0 leaves every clip alone. See `spread_relevance`.
        smooth: standard deviation in seconds of a Gaussian applied to the curve; 0 leaves it alone.
        octaves: how many smoothings vote ("threshold_runs"): `smooth`, twice that, four times, ...
        bias: standard deviations above the curve's mean from which a clip speaks for a moment
            ("max_sum", "threshold_runs"). Higher gives shorter moments.
        length_weight: exponent of a window's share of the video ("inside_outside"). 0 is the plain
            difference of means, which favours short windows.
        nms: IoU above which the worse of two moments is dropped, in [0, 1].
        top_k: most moments to return.
    """

    kind: str = "threshold_runs"
    spread: float = 0.0
    smooth: float = 0.25
    octaves: int = 2
    bias: float = 0.5
    length_weight: float = 0.35
    nms: float = 0.5
    top_k: int = 5

    def __post_init__(self) -> None:
        if self.kind not in SCORERS:
            raise ValueError(f"scorer kind {self.kind!r} is unknown; use one of {sorted(SCORERS)}")
        if not (np.isfinite(self.spread) and self.spread >= 0):
            raise ValueError(f"spread {self.spread} must be 0 or more")
        if not (np.isfinite(self.smooth) and self.smooth >= 0):
            raise ValueError(f"smooth {self.smooth} must be 0 or more seconds")
        if not 1 <= self.octaves <= 10:
            raise ValueError(f"octaves {self.octaves} must be from 1 to 10")
        if not (np.isfinite(self.bias) and np.isfinite(self.length_weight)):
            raise ValueError("bias and length_weight must be finite numbers")
        if not 0 <= self.nms <= 1:
            raise ValueError(f"nms {self.nms} is not an IoU; give a value in [0, 1]")
        if self.top_k < 1:
            raise ValueError(f"top_k {self.top_k} must be at least 1")


def find_moments(
    curve: ArrayLike,
    edges: ArrayLike,
    options: ScorerOptions,
    features: NDArray[np.float32] | None = None,
) -> Answers:
    """Spread and smooth the curve, run the scorer of `options.kind`, and drop near-duplicates.

    Args:
        curve: (T,) relevance, any scale, T >= 1.
        edges: (T + 1,) increasing clip borders in seconds.
        options: which scorer, and its settings.
        features: (T, D) clips as rows of unit length; without them nothing is spread.

    Returns:
        Moments (K, 2) in seconds and scores (K,), best first, 1 <= K <= top_k.

    Raises:
        ValueError: the curve is empty or not finite, or the number of borders is not T + 1.
    """
    values = np.asarray(curve, dtype=np.float64)
    borders = np.asarray(edges, dtype=np.float64)
    if values.ndim != 1 or not len(values) or borders.shape != (len(values) + 1,):
        raise ValueError(
            f"a curve of shape (T,), T >= 1, needs T + 1 borders; got {values.shape} and "
            f"{borders.shape}"
        )
    if not np.isfinite(values).all():
        raise ValueError("the relevance curve holds values that are not finite")
    if options.spread and features is not None:
        values = spread_relevance(values, features, options.spread)
    values = smooth(values, options.smooth * len(values) / (borders[-1] - borders[0]))
    if values.max() - values.min() <= 1e-12:
        # Nothing stands out: the whole video is the only honest answer.
        return borders[[0, -1]][None], np.zeros(1)
    moments, scores = SCORERS[options.kind](values, borders, options)
    kept = nms(moments, scores, options.nms, options.top_k)
    return moments[kept], scores[kept]


def spread_relevance(curve: Curve, features: NDArray[np.float32], temperature: float) -> Curve:
    """Average relevance over the clips that look alike, wherever in the video they are.

    Each clip's relevance becomes the mean of all, weighted by softmax(similarity / temperature):
    non-local means (Buades et al., CVPR 2005) on the video's self-similarity. What one clip's
    caption or picture misses, the others of the same scene tell; borders between scenes stay.

    Args:
        curve: (T,) relevance.
        features: (T, D) clips as rows of unit length.
        temperature: above 0.
    """
    found = np.empty(len(curve))
    for first in range(0, len(curve), _ROWS_AT_ONCE):
        alike = features[first : first + _ROWS_AT_ONCE] @ features.T
        weight = np.exp((alike - alike.max(axis=1, keepdims=True)) / temperature)
        found[first : first + _ROWS_AT_ONCE] = weight @ curve / weight.sum(axis=1)
    return found


def smooth(curve: Curve, sigma: float) -> Curve:
    """Convolve a curve (T,) with a Gaussian of `sigma` clips, mirrored at both ends."""
    radius = min(int(np.ceil(3 * sigma)), len(curve) - 1)
    if radius < 1:
        return curve
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    padded = np.pad(curve, radius, mode="symmetric")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")


def best_segment(
    values: NDArray[np.floating],
) -> tuple[NDArray[np.int64], NDArray[np.int64], Curve]:
    """Find the contiguous, non-empty segment of the largest sum in every row (Kadane's problem).

    Prefix sums and a running minimum solve it in O(T) without a loop over clips.

    Args:
        values: (B, T) finite, T >= 1.

    Returns:
        First index (B,), index after the last (B,), and the sum (B,).
    """
    rows = np.arange(len(values))
    prefix = np.zeros((values.shape[0], values.shape[1] + 1))
    np.cumsum(values, axis=1, dtype=np.float64, out=prefix[:, 1:])
    lowest = np.minimum.accumulate(prefix[:, :-1], axis=1)
    gain = prefix[:, 1:] - lowest
    last = gain.argmax(axis=1)
    start = (prefix[:, :-1] == lowest[rows, last][:, None]).argmax(axis=1)
    return start.astype(np.int64), (last + 1).astype(np.int64), gain[rows, last]


def max_sum_segment(curve: Curve, edges: Curve, options: ScorerOptions) -> Answers:
    """Maximum-sum segments of the curve after removing mean + bias * std (as in REZE's decoder).

    Later answers come from the curve with the earlier ones cut out, so answers never overlap.
    The score is the sum in standard deviations times clips; it falls from answer to answer.
    """
    values = ((curve - curve.mean()) / curve.std() - options.bias)[None].copy()
    # A clip this negative is never worth crossing.
    wall = -(np.abs(values).sum() + 1.0)
    moments: list[tuple[float, float]] = []
    scores: list[float] = []
    for _ in range(min(options.top_k, len(curve))):
        (start,), (stop,), (total,) = best_segment(values)
        if moments and total <= 0:
            break
        moments.append((edges[start], edges[stop]))
        scores.append(total)
        values[0, start:stop] = wall
    return np.array(moments), np.array(scores)


def inside_outside(curve: Curve, edges: Curve, options: ScorerOptions) -> Answers:
    """Windows scored by (inner mean - outer mean) * (length / video) ** length_weight.

    With weight 0 this is TFVTG's static score. The whole video has no outside and scores 0.
    Long videos try lengths that grow by an eighth, shifted by an eighth of the length.
    """
    clips = len(curve)
    starts, stops = _windows(clips)
    prefix = np.concatenate(([0.0], np.cumsum(curve - curve.mean())))
    total, length = prefix[stops] - prefix[starts], (stops - starts).astype(np.float64)
    inner = total / length
    outer = (prefix[-1] - total) / np.maximum(clips - length, 1.0)
    share = (edges[stops] - edges[starts]) / (edges[-1] - edges[0])
    scores = np.where(length < clips, inner - outer, 0.0) * share**options.length_weight
    return np.stack((edges[starts], edges[stops]), axis=1), scores


def threshold_runs(curve: Curve, edges: Curve, options: ScorerOptions) -> Answers:
    """Runs above several thresholds of several smoothings; the most agreed-upon run wins.

    Thresholds lie around mean + bias * std. A run's score is its mean IoU with all candidate runs,
    so a moment that many thresholds and smoothings find beats one that only a single one finds.
    """
    clips_per_second = len(curve) / (edges[-1] - edges[0])
    found = []
    for octave in range(options.octaves):
        # The curve is smooth already; variances of Gaussians applied one after the other add up.
        further = options.smooth * np.sqrt(4.0**octave - 1)
        level = smooth(curve, further * clips_per_second)
        mean, deviation = level.mean(), level.std()
        for offset in _THRESHOLDS:
            runs = mask_to_spans(level > mean + (options.bias + offset) * deviation, edges)
            longest = np.argsort(runs[:, 0] - runs[:, 1], kind="stable")
            found.append(runs[longest[:_RUNS_PER_THRESHOLD]])
    moments = np.concatenate(found)
    if not len(moments):
        return max_sum_segment(curve, edges, options)
    agreement = iou(moments, moments).mean(axis=1)
    distinct = np.sort(np.unique(moments, axis=0, return_index=True)[1])
    return moments[distinct], agreement[distinct]


def _windows(clips: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if clips <= _EXHAUSTIVE_CLIPS:
        rows, columns = np.triu_indices(clips)
        return rows.astype(np.int64), columns.astype(np.int64) + 1
    starts, lengths = [], []
    length = 1
    while length <= clips:
        step = max(1, length // _WINDOWS_PER_LENGTH)
        # The last window ends with the video, whatever the step.
        starts.append(np.append(np.arange(0, clips - length, step), clips - length))
        lengths.append(np.full(len(starts[-1]), length))
        length = max(length + 1, length + length // _WINDOWS_PER_LENGTH)
    first = np.concatenate(starts).astype(np.int64)
    return first, first + np.concatenate(lengths)


Scorer = Callable[[Curve, Curve, ScorerOptions], Answers]
SCORERS: Mapping[str, Scorer] = {
    "max_sum": max_sum_segment,
    "inside_outside": inside_outside,
    "threshold_runs": threshold_runs,
}
