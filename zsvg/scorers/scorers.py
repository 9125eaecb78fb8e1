"""Ways to cut moments out of one relevance curve, each a small function.

Every scorer takes a curve (T,) that is not flat, clip borders (T + 1,) in seconds, the options and,
where there are any, the clips' features (T, D) as rows of unit length. It returns moments (K, 2) in
seconds, K >= 1, and scores (K,), higher is better, in any order and with near-duplicates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zsvg.moments import Spans, iou, mask_to_spans, nms
from zsvg.scorers.transforms import Curve, smooth

if TYPE_CHECKING:
    from zsvg.scorers.options import Kind, ScorerOptions

Answers = tuple[Spans, Curve]
Rows = NDArray[np.float32]
Places = NDArray[np.int64]

# How many windows of one length are laid out along the video, relative to that length.
_WINDOWS_PER_LENGTH = 8
# Up to this many clips every window is tried; beyond it lengths grow by a constant factor.
_EXHAUSTIVE_CLIPS = 96
# Standard deviations around `bias` at which curves are cut.
_THRESHOLDS = (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5)
_RUNS_PER_THRESHOLD = 20
# Shares of a stretch that must lie above the threshold for runs to be taken together.
_GROUPED = (0.6, 0.8, 1.0)
_CLUSTERED = 256  # points of a long video
# Scorers that vote, none of them a mixture, and the exponent of the IoU that TFVTG's vote has.
_VOTERS: tuple[Kind, ...] = (
    "max_sum", "inside_outside", "correlation", "threshold_runs", "watershed", "coherent",
)  # fmt: skip
_VOTE = 0.6


def max_sum(curve: Curve, edges: Curve, options: ScorerOptions, features: Rows | None) -> Answers:
    """Maximum-sum segments of the curve after removing mean + bias * std.

    REZE's decoder is of this class; it removes the mean.

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


def best_segment(
    values: NDArray[np.floating],
) -> tuple[Places, Places, Curve]:
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


def inside_outside(
    curve: Curve, edges: Curve, options: ScorerOptions, features: Rows | None
) -> Answers:
    """Windows scored by (inner mean - outer mean) * (length / video) ** length_weight.

    With weight 0 this is the plain difference, as in TFVTG, which masks the curve before and tries
    few windows (`zsvg.scorers.tfvtg`). The whole video has no outside and scores 0.
    Long videos try lengths that grow by an eighth, shifted by an eighth of the length.
    """
    return _by_contrast(curve, edges, options, *_windows(len(curve)))


def correlation(
    curve: Curve, edges: Curve, options: ScorerOptions, features: Rows | None
) -> Answers:
    """The map of all windows, each by the correlation of the curve with "inside the window".

    Its square is the share of the curve's variance that the window explains: Otsu's criterion for
    one stretch of time. It needs no setting, and is 0 for the whole video.
    """
    starts, stops = _windows(len(curve))
    share = (stops - starts) / len(curve)
    scores = _contrast(curve, starts, stops) * np.sqrt(share * (1 - share)) / curve.std()
    return _spans(edges, starts, stops), scores


def threshold_runs(
    curve: Curve, edges: Curve, options: ScorerOptions, features: Rows | None
) -> Answers:
    """Runs above several thresholds of several smoothings; the most agreed-upon run wins.

    Thresholds lie around mean + bias * std. A run's score is its mean IoU with all candidate runs,
    so a moment that many thresholds and smoothings find beats one that only a single one finds.
    """
    clips_per_second = len(curve) / (edges[-1] - edges[0])
    found = []
    for octave in range(options.octaves):
        # The curve is smooth already; variances of Gaussians applied one after the other add up.
        further = options.smooth * np.sqrt(4.0**octave - 1)
        found += _runs_above(smooth(curve, further * clips_per_second), options.bias)
    moments = edges[np.concatenate(found)]
    if not len(moments):
        return max_sum(curve, edges, options, features)
    agreement = iou(moments, moments).mean(axis=1)
    distinct = _first_of_each(moments)
    return moments[distinct], agreement[distinct]


def segment_first(
    curve: Curve, edges: Curve, options: ScorerOptions, features: Rows | None
) -> Answers:
    """The segment of `max_sum`, which a dip does not end, before all of `threshold_runs`.

    The first answer is better where curves are noisy, and the others are not only what lies beside
    it. Its score is 1, of the others the mean IoU with all runs.
    """
    best, _ = max_sum(curve, edges, options, features)
    runs, agreement = threshold_runs(curve, edges, options, features)
    # Where there are no runs, those are the segments of `max_sum` with their own scores.
    agreement = np.minimum(agreement / max(float(agreement.max()), 1.0), 1.0)
    return np.concatenate((best[:1], runs)), np.concatenate(([1.0], agreement))


def watershed(curve: Curve, edges: Curve, options: ScorerOptions, features: Rows | None) -> Answers:
    """Runs above several thresholds, joined across gaps, scored as in `inside_outside`.

    After actionness grouping (Zhao et al., "Temporal Action Detection with Structured Segment
    Networks", ICCV 2017): a run takes in the runs after it as long as a given share of the whole
    stretch lies above the threshold.
    """
    found = []
    for runs in _runs_above(curve, options.bias):
        ordered = runs[np.argsort(runs[:, 0])]
        above = np.concatenate(([0], np.cumsum(ordered[:, 1] - ordered[:, 0])))
        stretch = ordered[None, :, 1] - ordered[:, None, 0]
        share = (above[1:] - above[:-1, None]) / np.where(stretch > 0, stretch, 1)
        earlier = np.tri(len(ordered), k=-1, dtype=bool)
        for least in _GROUPED:
            # True up to the last run that is still taken in.
            joined = np.logical_and.accumulate(earlier | (share >= least), axis=1)
            last = joined.sum(axis=1) - 1
            found.append(np.column_stack((ordered[:, 0], ordered[last, 1])))
    places = np.unique(np.concatenate(found), axis=0)
    if not len(places):
        return max_sum(curve, edges, options, features)
    return _by_contrast(curve, edges, options, *places.T)


def coherent(curve: Curve, edges: Curve, options: ScorerOptions, features: Rows | None) -> Answers:
    """Windows from any border of temporally coherent k-means to any other (TAG's clusters).

    They are scored as in `inside_outside`, with length weight 0 as TAG's are but for the whole
    video. TAG's masking of what matches too little and its longest window are left out.

    Raises:
        ValueError: There are no features.
    """
    if features is None:
        raise ValueError("the scorer 'coherent' clusters what clips look like; give it features")
    from zsvg.events.cuts import Cutting, unit_rows
    from zsvg.events.cuts import coherent as cut
    from zsvg.events.proposals import grid

    walls, index = grid(len(features), _CLUSTERED)
    cutting = Cutting(clusters=options.clusters)
    parts = walls[cut(unit_rows(features[index]), cutting, np.random.default_rng(0))]
    first, last = np.triu_indices(len(parts))
    return _by_contrast(curve, edges, options, parts[first, 0], parts[last, 1])


def consensus(curve: Curve, edges: Curve, options: ScorerOptions, features: Rows | None) -> Answers:
    """The answers of scorers that are no mixture; all of them vote.

    A scorer gives a moment the largest IoU ** 0.6 / rank among its own answers; the score is the
    mean over scorers, in [0, 1]. TFVTG's own vote is `zsvg.scorers.tfvtg.vote`.
    """
    ballots = []
    for name in _VOTERS:
        if name != "coherent" or features is not None:
            moments, scores = SCORERS[name](curve, edges, options, features)
            ballots.append(moments[nms(moments, scores, options.nms, options.top_k)])
    moments = np.concatenate(ballots)
    moments = moments[_first_of_each(moments)]
    votes = [
        (iou(moments, ballot) ** _VOTE / np.arange(1, len(ballot) + 1)).max(axis=1)
        for ballot in ballots
    ]
    return moments, np.mean(votes, axis=0)


def _runs_above(curve: Curve, bias: float) -> list[Places]:
    """Return the longest runs (n, 2) of clips above each threshold around mean + bias * std."""
    clips = np.arange(len(curve) + 1)
    found = []
    for offset in _THRESHOLDS:
        above = curve > curve.mean() + (bias + offset) * curve.std()
        runs = mask_to_spans(above, clips).astype(np.int64)
        longest = np.argsort(runs[:, 0] - runs[:, 1], kind="stable")
        found.append(runs[longest[:_RUNS_PER_THRESHOLD]])
    return found


@lru_cache(maxsize=1)
def _windows(clips: int) -> tuple[Places, Places]:
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


def _by_contrast(
    curve: Curve, edges: Curve, options: ScorerOptions, starts: Places, stops: Places
) -> Answers:
    spans = _spans(edges, starts, stops)
    share = (spans[:, 1] - spans[:, 0]) / (edges[-1] - edges[0])
    return spans, _contrast(curve, starts, stops) * share**options.length_weight


def _contrast(curve: Curve, starts: Places, stops: Places) -> Curve:
    """Inner mean minus outer mean of windows [start, stop) of clips; 0 for the whole curve."""
    prefix = np.concatenate(([0.0], np.cumsum(curve - curve.mean())))
    total, length = prefix[stops] - prefix[starts], stops - starts
    # Of a centred curve, what lies outside sums to minus what lies inside.
    outside = len(curve) - length
    return np.where(outside > 0, total * len(curve) / (length * np.maximum(outside, 1)), 0.0)


def _spans(edges: Curve, starts: Places, stops: Places) -> Spans:
    return np.stack((edges[starts], edges[stops]), axis=1)


def _first_of_each(moments: Spans) -> Places:
    """Return where each distinct moment stands first, in order."""
    return np.sort(np.unique(moments, axis=0, return_index=True)[1])


Scorer = Callable[[Curve, Curve, "ScorerOptions", Rows | None], Answers]
SCORERS: Mapping[Kind, Scorer] = {
    "max_sum": max_sum,
    "inside_outside": inside_outside,
    "correlation": correlation,
    "threshold_runs": threshold_runs,
    "segment_first": segment_first,
    "watershed": watershed,
    "coherent": coherent,
    "consensus": consensus,
}
