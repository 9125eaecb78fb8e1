"""How good predictions are: R@n at IoU thresholds and mean IoU, from records to plain numbers.

The rules, because "mIoU" and "R@1" are not one thing in the literature:

* plain temporal IoU in seconds, no rounding, no epsilon; a hit is IoU >= threshold;
* a query with several true windows is scored on the one that overlaps most;
* answers are ranked as the record lists them (best first), not sorted again by score;
* true windows are used as written: one that ends after its video is not cut;
* all numbers are fractions in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsvg.errors import RecordError
from zsvg.moments import paired_iou
from zsvg.records import Annotation, Prediction

IOUS = (0.3, 0.5, 0.7)
TOP = (1, 5)


def evaluate(
    predictions: Iterable[Prediction],
    annotations: Iterable[Annotation],
    *,
    ious: Sequence[float] = IOUS,
    top: Sequence[int] = TOP,
) -> dict[str, Any]:
    """Score predictions against annotations with the rules of this module.

    Args:
        predictions: One record per query. A query without a record, or without a window, is a miss.
        annotations: The truth; every record needs a window, and qids must be unique.
        ious: IoU thresholds in (0, 1].
        top: How many of a query's first answers may hit, for each R@n.

    Returns:
        `R{n}@{iou}` (such as `R1@0.5`) and `mIoU` (of the first answers), fractions in [0, 1];
        R@n with n > 1 is None when no query has more than one answer. Then the counts `queries`,
        `missing` (queries without an answer), `unknown` (predictions for qids that are not
        annotated) and `invalid` (windows that are not finite, start before 0 or do not end after
        their start: misses at their rank). `kinds` maps each `extra["kind"]` of the annotations to
        the same numbers, without `unknown`; it is empty when no annotation has a kind.

    Raises:
        ValueError: an option is out of range, or there are no annotations.
        RecordError: a qid occurs twice, an annotation has no window, or a prediction names another
            video than the annotation of its qid.
    """
    truth = list(annotations)
    if not truth:
        raise ValueError("there are no annotations to evaluate against")
    _check_options(ious, top)
    known = _by_qid(truth, "annotations")
    given = _by_qid(predictions, "predictions")
    ranked = [_answer(given, record) for record in truth]
    overlaps, invalid = best_overlaps(ranked, [r.relevant_windows for r in truth], max(top))
    sizes = np.array([len(windows) for windows in ranked])

    def numbers(chosen: NDArray[np.bool_]) -> dict[str, Any]:
        return {
            **_recalls(overlaps[chosen], ious, top, several=bool((sizes > 1).any())),
            "mIoU": math.fsum(overlaps[chosen, 0].tolist()) / int(chosen.sum()),
            "queries": int(chosen.sum()),
            "missing": int((sizes[chosen] == 0).sum()),
            "invalid": int(invalid[chosen].sum()),
        }

    result = numbers(np.ones(len(truth), dtype=bool))
    result["unknown"] = sum(qid not in known for qid in given)
    kinds = [record.extra.get("kind") for record in truth]
    result["kinds"] = {
        name: numbers(np.array([kind is not None and str(kind) == name for kind in kinds]))
        for name in sorted({str(kind) for kind in kinds if kind is not None})
    }
    return result


def best_overlaps(
    ranked: Sequence[Sequence[Sequence[float]]],
    truth: Sequence[Sequence[Sequence[float]]],
    depth: int,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Best IoU over a query's true windows, for each of its first answers.

    Args:
        ranked: Per query its answers, best first: sequences that begin with start and end.
        truth: Per query its true (start, end) windows, at least one.
        depth: How many answers to look at.

    Returns:
        (Q, depth) float64 IoU, 0 where there is no such answer or it is invalid; and (Q,) the
        number of invalid windows among all answers of each query.
    """
    width = max(depth, max(len(windows) for windows in ranked))
    answers = _padded(ranked, width)
    starts, ends = answers[..., 0], answers[..., 1]
    # Padding is NaN as well, so it is told from invalid answers by its place.
    with np.errstate(invalid="ignore"):
        usable = np.isfinite(answers).all(axis=-1) & (starts >= 0) & (starts < ends)
    sizes = np.array([[len(windows)] for windows in ranked])
    invalid = (~usable & (np.arange(width) < sizes)).sum(axis=1)
    answers = np.where(usable[..., None], answers, 0.0)[:, :depth]
    windows = np.nan_to_num(_padded(truth, max(len(windows) for windows in truth)), nan=0.0)
    overlaps = paired_iou(answers[:, :, None, :], windows[:, None, :, :])
    return overlaps.max(axis=-1), invalid


def as_percent(value: float | None) -> str:
    """Return a fraction as tables print it: `0.3465` is "34.65", and None is "-"."""
    return "-" if value is None else f"{100 * value:.2f}"


def _recalls(
    overlaps: NDArray[np.float64], ious: Sequence[float], top: Sequence[int], *, several: bool
) -> dict[str, float | None]:
    recalls: dict[str, float | None] = {}
    for n in top:
        best = overlaps[:, :n].max(axis=1)
        for threshold in ious:
            hits = int((best >= threshold).sum())
            recalls[f"R{n}@{threshold:g}"] = hits / len(best) if n == 1 or several else None
    return recalls


def _answer(given: dict[int | str, Any], record: Annotation) -> Sequence[Sequence[float]]:
    prediction = given.get(record.qid)
    if prediction is None:
        return ()
    if prediction.vid != record.vid:
        raise RecordError(
            f"qid {record.qid!r} is about video {record.vid!r}, but its prediction is about "
            f"{prediction.vid!r}; give the predictions that were made for these annotations"
        )
    windows: Sequence[Sequence[float]] = prediction.pred_relevant_windows
    return windows


def _by_qid(records: Iterable[Annotation | Prediction], what: str) -> dict[int | str, Any]:
    found: dict[int | str, Any] = {}
    for record in records:
        if record.qid in found:
            raise RecordError(f"qid {record.qid!r} occurs twice in the {what}; make qids unique")
        if isinstance(record, Annotation) and not record.relevant_windows:
            raise RecordError(f"qid {record.qid!r} has no relevant_windows to evaluate against")
        found[record.qid] = record
    return found


def _padded(windows: Sequence[Sequence[Sequence[float]]], width: int) -> NDArray[np.float64]:
    """Lay windows of unequal number into (Q, width, 2), NaN where there is none."""
    padded = np.full((len(windows), width, 2), np.nan)
    rows = [row for row, some in enumerate(windows) for _ in some]
    columns = [column for some in windows for column in range(len(some))]
    if rows:
        padded[rows, columns] = [window[:2] for some in windows for window in some]
    return padded


def _check_options(ious: Sequence[float], top: Sequence[int]) -> None:
    for threshold in ious:
        if not 0.0 < threshold <= 1.0:
            raise ValueError(f"IoU threshold {threshold} must be in (0, 1], such as 0.5")
    for n in top:
        if n < 1:
            raise ValueError(f"top {n} looks at no answer; give 1 or more")
    if not ious or not top:
        raise ValueError("give at least one IoU threshold and one n for R@n")
