"""The QVHighlights suite: moment retrieval and highlight detection as its evaluator counts them.

Choices, all of the published evaluator (`standalone_eval` of Moment-DETR, Lei et al. 2021):

* moment retrieval (MR) at IoU .5, .55, ..., .95, for all queries and for those with true windows of
  (0, 10], (10, 30] and (30, 150] seconds, where only the windows in the range are looked for;
* MR-R1: the first window as listed, against the true window that overlaps most, hit at IoU >=;
* MR-mAP: the first ten windows, sorted by score; each takes the best true window that is still
  free; precision is made monotone and summed over recall;
* highlight detection (HL) of 2-second clips: a clip is positive when a rater gave at least 2
  (Fair), 3 (Good) or 4 (VeryGood); HL-mAP is the mean over raters of the interpolated average
  precision, 1 where all clips are positive and 0 where none is; HL-Hit1 asks whether any rater
  likes the clip with the highest score;
* scores that are too few are filled with zeros, those too many are cut;
* of predictions that have highlight scores alone, only those are scored;
* percent, rounded to two digits.

Where the published evaluator stops or leaves a query out (no window, no record, no saliency scores
beside others that have them), the query counts as a miss here, and is counted. So does a window
that does not end after its start; there, where the lengths of it and of a true window sum to
exactly 0, the published division 0 / 0 counts a hit. Among true windows that a prediction overlaps
equally the last one is taken, as published where numpy's default sort happens to be stable (the
true windows of QVHighlights never overlap, so no number depends on it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsvg.errors import RecordError
from zsvg.evaluation.metrics import pad_windows, paired_records
from zsvg.moments import paired_iou
from zsvg.records import Annotation, Prediction

IOUS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
RANGES = {"full": (-np.inf, np.inf), "short": (0, 10), "middle": (10, 30), "long": (30, 150)}
LEVELS = {"Fair": 2, "Good": 3, "VeryGood": 4}
MOST_WINDOWS = 10
CLIP_SECONDS = 2
_MOST_CLIPS = 1_000_000  # a mistyped duration should not take all memory

Array = NDArray[np.float64]


def score(predictions: Sequence[Prediction], annotations: Sequence[Annotation]) -> dict[str, Any]:
    """Return the nested numbers of the published metrics file, in percent.

    MR numbers are there unless all predictions are without `pred_relevant_windows`; HL numbers when
    one has `pred_saliency_scores` and the annotations have `saliency_scores`. When something was
    wrong there is also `problems`: how many queries have no window (`missing`), windows that do not
    end after their start (`invalid`), predictions whose qid is not annotated (`unknown`), and
    queries without saliency scores beside others that have them (`without saliency`).

    Raises:
        RecordError: saliency is malformed; there is nothing to compare; or as in
            `zsvg.evaluation.metrics.paired_records`.
        ValueError: there are no annotations.
    """
    moments = not predictions or any(p.pred_relevant_windows is not None for p in predictions)
    given = [replace(p, pred_relevant_windows=p.pred_relevant_windows or ()) for p in predictions]
    pairs, unknown = paired_records(given, annotations, moments=moments)
    # The published evaluator adds up in the order of the predictions.
    place = {id(prediction): index for index, prediction in enumerate(given)}
    pairs.sort(key=lambda pair: place.get(id(pair[1]), len(place)))
    listed = [_first_windows(p) for _, p in pairs]
    result: dict[str, Any] = {}
    problems = {"unknown": unknown}
    if moments:
        truth = [annotation for annotation, _ in pairs]
        result = {name: _retrieval(listed, truth, *limits) for name, limits in RANGES.items()}
        problems = {
            "missing": sum(not windows for windows in listed),
            "invalid": sum(not w[0] < w[1] for windows in listed for w in windows),
            **problems,
        }
    rated = [_saliency(annotation, prediction) for annotation, prediction in pairs]
    if any(predicted is not None for _, predicted in rated) and any(
        ratings is not None for ratings, _ in rated
    ):
        result.update(_highlights(rated))
        problems["without saliency"] = sum(predicted is None for _, predicted in rated)
    elif not moments:
        raise RecordError(
            "the predictions have highlight scores and no pred_relevant_windows, but the "
            "annotations have no saliency_scores to compare them with"
        )
    result = {"brief": _brief(result), **dict(sorted(result.items()))}
    if found := {name: count for name, count in problems.items() if count}:
        result["problems"] = found
    return result


def per_query(
    predictions: Sequence[Prediction], annotations: Sequence[Annotation]
) -> NDArray[np.float64]:
    """Return (Q,) the average precision of each annotated query, mean over the IoU thresholds.

    Their mean is MR-full-mAP as a fraction; single ones are for paired comparisons.
    """
    pairs, _ = paired_records(predictions, annotations)
    truth = [annotation.relevant_windows for annotation, _ in pairs]
    given = [_first_windows(prediction) for _, prediction in pairs]
    padded = pad_windows(truth, max(map(len, truth)))
    return np.asarray(
        _average_precision(pad_windows(given, MOST_WINDOWS, size=3), padded).mean(axis=1)
    )


def _first_windows(prediction: Prediction | None) -> tuple[tuple[float, float, float], ...]:
    return ((prediction and prediction.pred_relevant_windows) or ())[:MOST_WINDOWS]


def _brief(result: dict[str, Any]) -> dict[str, float]:
    brief = {}
    if full := result.get("full"):
        brief = {
            "MR-full-R1@0.5": full["MR-R1"]["0.5"],
            "MR-full-R1@0.7": full["MR-R1"]["0.7"],
            "MR-full-mAP": full["MR-mAP"]["average"],
            "MR-full-mAP@0.5": full["MR-mAP"]["0.5"],
            "MR-full-mAP@0.75": full["MR-mAP"]["0.75"],
        }
        for name in ("long", "middle", "short"):
            brief[f"MR-{name}-mAP"] = result[name]["MR-mAP"]["average"]
    for name in LEVELS:
        for key, value in result.get(f"HL-min-{name}", {}).items():
            brief[f"HL-min-{name}-{key.removeprefix('HL-')}"] = value
    return brief


def _percent(value: float) -> float:
    return float(f"{100 * value:.2f}")


def _retrieval(
    listed: Sequence[Sequence[Sequence[float]]],
    annotations: Sequence[Annotation],
    shortest: float,
    longest: float,
) -> dict[str, dict[str, float | None]]:
    """Return MR-mAP and MR-R1 of the queries that have true windows in (shortest, longest]."""
    answers, truth = [], []
    for windows, annotation in zip(listed, annotations, strict=True):
        inside = [w for w in annotation.relevant_windows if shortest < w[1] - w[0] <= longest]
        if inside:
            answers.append(windows)
            truth.append(inside)
    names = [str(threshold) for threshold in IOUS]
    if not truth:
        nothing = dict.fromkeys(names)
        return {"MR-mAP": {**nothing, "average": None}, "MR-R1": nothing}
    given = pad_windows(answers, MOST_WINDOWS, size=3)
    true = pad_windows(truth, max(map(len, truth)))
    hits = _first_overlaps(given[:, 0, :2], true)[:, None] >= np.array(IOUS)
    precisions = _average_precision(given, true).mean(axis=0)
    return {
        "MR-mAP": {
            **{name: _percent(value) for name, value in zip(names, precisions, strict=True)},
            "average": _percent(float(np.mean(precisions))),
        },
        "MR-R1": {
            name: _percent(value) for name, value in zip(names, hits.mean(axis=0), strict=True)
        },
    }


def _first_overlaps(first: Array, true: Array) -> Array:
    """IoU of (Q, 2) windows with the best of (Q, G, 2) true ones; NaN is no window.

    As published: the true window is chosen with the union as sum of lengths, and then compared with
    the union as hull, which can differ in the last bit.
    """
    chosen = _area_iou(first[:, None, :], true).argmax(axis=1)
    best = np.take_along_axis(true, chosen[:, None, None], axis=1)[:, 0]
    return paired_iou(np.nan_to_num(first), np.nan_to_num(best))


def _average_precision(given: Array, true: Array) -> Array:
    """Return (Q, thresholds) average precision.

    Args:
        given: (Q, P, 3) start, end and score; NaN where there are fewer.
        true: (Q, G, 2) start and end; NaN where there are fewer.
    """
    order = np.argsort(-given[..., 2], axis=1, kind="stable")  # NaN goes to the end
    given = np.take_along_axis(given, order[..., None], axis=1)
    counts = (~np.isnan(true[..., 0])).sum(axis=1)
    # Among equal overlaps the published evaluator takes the last true window.
    overlaps = _area_iou(given[:, :, None, :2], true[:, None, ::-1, :])
    thresholds = np.array(IOUS)
    free = np.ones((len(given), len(thresholds), true.shape[1]), dtype=bool)
    right = np.zeros((len(given), len(thresholds), given.shape[1]))
    for rank in range(given.shape[1]):
        open_overlaps = np.where(free, overlaps[:, None, rank, :], -1.0)
        best = open_overlaps.argmax(axis=-1)[..., None]
        hit = np.take_along_axis(open_overlaps, best, axis=-1) >= thresholds[:, None]
        right[:, :, rank] = hit[..., 0]
        np.put_along_axis(free, best, np.take_along_axis(free, best, axis=-1) & ~hit, axis=-1)
    found = right.cumsum(axis=-1)
    precision = found / np.arange(1, given.shape[1] + 1)
    monotone = np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]
    recall = found / counts[:, None, None]
    gained = np.diff(recall, axis=-1, prepend=0.0)
    # One after the other, as published: another order may round to another second digit.
    return np.asarray((gained * monotone).cumsum(axis=-1)[..., -1])


def _area_iou(a: Array, b: Array) -> Array:
    """IoU with the union as sum of lengths: its last bit may differ from that of the hull."""
    with np.errstate(invalid="ignore"):
        shared = np.minimum(a[..., 1], b[..., 1]) - np.maximum(a[..., 0], b[..., 0])
        union = (a[..., 1] - a[..., 0]) + (b[..., 1] - b[..., 0]) - shared
        valid = (shared > 0) & (a[..., 1] > a[..., 0])
    return np.asarray(np.divide(shared, union, out=np.zeros(shared.shape), where=valid))


def _saliency(
    annotation: Annotation, prediction: Prediction | None
) -> tuple[Array | None, Array | None]:
    """Return (clips, raters) ratings and the (any,) predicted scores; None where not given."""
    ratings = predicted = None
    name = f"qid {annotation.qid!r}"
    try:
        if annotation.extra.get("saliency_scores") is not None:
            given = np.array(annotation.extra["saliency_scores"], dtype=np.float64)
            ids = np.array(annotation.extra["relevant_clip_ids"], dtype=np.int64)
            clips = int(annotation.duration / CLIP_SECONDS)
            if given.ndim != 2 or given.shape[1] < 1 or ids.shape != given.shape[:1]:
                raise ValueError
            if clips > _MOST_CLIPS:
                raise ValueError
            if len(ids) and (ids.min() < 0 or ids.max() >= clips):
                raise ValueError
            ratings = np.zeros((clips, given.shape[1]))
            ratings[ids] = given
    except (KeyError, TypeError, ValueError, OverflowError):
        raise RecordError(
            f"{name}: saliency_scores must be one list of ratings for each of relevant_clip_ids, "
            f"which number the {CLIP_SECONDS}-second clips of the video from 0"
        ) from None
    if prediction is not None and prediction.extra.get("pred_saliency_scores") is not None:
        try:
            predicted = np.array(prediction.extra["pred_saliency_scores"], dtype=np.float64)
            if predicted.ndim != 1 or not np.isfinite(predicted).all():
                raise ValueError
        except (TypeError, ValueError, OverflowError):
            raise RecordError(
                f"{name}: pred_saliency_scores must be a list of finite numbers"
            ) from None
    return ratings, predicted


def _highlights(rated: Sequence[tuple[Array | None, Array | None]]) -> dict[str, dict[str, float]]:
    """Return HL-mAP and HL-Hit1 per level, over the queries that have ratings."""
    rows = [(ratings, predicted) for ratings, predicted in rated if ratings is not None]
    clips = max(len(ratings) for ratings, _ in rows)
    raters = max(ratings.shape[1] for ratings, _ in rows)
    labels = np.full((len(rows), raters, clips), np.nan)
    scores = np.full((len(rows), clips), -np.inf)
    tops = np.full(len(rows), -1)
    answered = np.array([predicted is not None for _, predicted in rows])
    for row, (ratings, predicted) in enumerate(rows):
        labels[row, : ratings.shape[1], : len(ratings)] = ratings.T
        if predicted is not None:
            scores[row, : len(ratings)] = 0.0
            kept = predicted[: len(ratings)]
            scores[row, : len(kept)] = kept
            if len(predicted) and predicted.argmax() < len(ratings):
                tops[row] = predicted.argmax()
    order = np.argsort(-scores, axis=1, kind="stable")
    ranked = np.take_along_axis(scores, order, axis=1)
    labels = np.take_along_axis(labels, order[:, None, :], axis=2)
    # The precision of tied clips is read after the last of them.
    last = np.ones(ranked.shape, dtype=bool)
    last[:, :-1] = ranked[:, 1:] != ranked[:, :-1]
    place = np.argmax(order == tops[:, None], axis=1)
    at_top = labels[np.arange(len(rows)), :, place]
    result = {}
    for name, level in LEVELS.items():
        precisions = _interpolated(labels >= level, last & np.isfinite(ranked))
        # Where every clip of a video has the same label, the order says nothing.
        real = ~np.isnan(labels)
        alike = (labels >= level).sum(axis=2) == real.sum(axis=2)
        precisions = np.where(alike, 1.0, precisions) * answered[:, None]
        hits = (at_top >= level).any(axis=1) & (tops >= 0)
        result[f"HL-min-{name}"] = {
            "HL-mAP": _percent(float(precisions[real.any(axis=2)].mean())),
            "HL-Hit1": _percent(float(hits.mean())),
        }
    return result


def _interpolated(positive: NDArray[np.bool_], last: NDArray[np.bool_]) -> Array:
    """Mean interpolated precision over the levels of recall.

    Args:
        positive: (Q, raters, clips) labels in the order of falling scores.
        last: (Q, clips) the clips after which precision and recall are read.

    Returns:
        (Q, raters), 0 where there is no positive clip.
    """
    found = positive.cumsum(axis=-1)
    precision = np.where(last[:, None, :], found / np.arange(1, positive.shape[-1] + 1), 0.0)
    best = np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]
    read = np.where(last[:, None, :], found, 0)
    before = np.zeros_like(read)
    before[..., 1:] = np.maximum.accumulate(read, axis=-1)[..., :-1]
    new = read > before  # a level of recall that was not reached before
    levels = new.sum(axis=-1)
    return np.asarray((best * new).sum(axis=-1) / np.maximum(levels, 1))
