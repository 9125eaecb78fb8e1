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
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsvg.errors import RecordError
from zsvg.moments import paired_iou
from zsvg.records import Annotation, Prediction, video_key

IOUS = (0.3, 0.5, 0.7)
TOP = (1, 5)


def evaluate(
    predictions: Iterable[Prediction],
    annotations: Iterable[Annotation],
    *,
    ious: Sequence[float] = IOUS,
    top: Sequence[int] = TOP,
    strict: bool = False,
    epsilon: float = 0.0,
    discounted: bool = False,
) -> dict[str, Any]:
    """Score predictions against annotations with the rules of this module, or others stated here.

    Args:
        predictions: One record per query. A query without a record, or without a window, is a miss.
        annotations: The truth; every record needs a window, and qids must be unique.
        ious: IoU thresholds in (0, 1].
        top: How many of a query's first answers may hit, for each R@n.
        strict: A hit is IoU > threshold instead of >=.
        epsilon: Seconds added to the union, as some evaluators do to avoid a division by zero.
        discounted: Give `dR{n}@{iou}` too: a hit counts (1 - |start error|) (1 - |end error|),
            errors as fractions of the video, not below 0; of several hits the best counts (Yuan et
            al., "A Closer Look at Temporal Sentence Grounding in Videos").

    Returns:
        `R{n}@{iou}` (such as `R1@0.5`) and `mIoU` (of the first answers), fractions in [0, 1];
        R@n with n > 1 is None when no query has more than one answer. Then the counts `queries`,
        `missing` (queries without an answer), `unknown` (predictions for qids that are not
        annotated) and `invalid` (windows that are not finite, start before 0 or do not end after
        their start: misses at their rank). `kinds` maps each `extra["kind"]` of the annotations to
        the same numbers, without `unknown`; it is empty when no annotation has a kind.

    Raises:
        ValueError: an option is out of range, or there are no annotations.
        RecordError: the records do not fit together, see `paired_records`.
    """
    _check_options(ious, top)
    pairs, unknown = paired_records(predictions, annotations)
    truth = [record for record, _ in pairs]
    ranked = [(found and found.pred_relevant_windows) or () for _, found in pairs]
    windows = [record.relevant_windows for record in truth]
    overlaps, invalid, errors = best_overlaps(ranked, windows, max(top), epsilon)
    sizes = np.array([len(windows) for windows in ranked])
    several = bool((sizes > 1).any())
    # The next number below, so that reaching it means exceeding the threshold before it.
    limits = {iou: float(np.nextafter(iou, 2)) if strict else iou for iou in ious}
    lengths = np.array([record.duration for record in truth])
    worth = np.clip(1 - errors / lengths[:, None, None], 0, 1).prod(axis=-1)

    def numbers(chosen: NDArray[np.bool_]) -> dict[str, Any]:
        discounts = _recalls(overlaps[chosen], worth[chosen], limits, top, several=several)
        return {
            **_recalls(overlaps[chosen], None, limits, top, several=several),
            **({f"d{name}": value for name, value in discounts.items()} if discounted else {}),
            "mIoU": math.fsum(overlaps[chosen, 0].tolist()) / int(chosen.sum()),
            "queries": int(chosen.sum()),
            "missing": int((sizes[chosen] == 0).sum()),
            "invalid": int(invalid[chosen].sum()),
        }

    result = numbers(np.ones(len(truth), dtype=bool))
    result["unknown"] = unknown
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
    epsilon: float = 0.0,
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Compare each query's first answers with its true windows.

    Returns:
        (Q, depth) float64 best IoU over the true windows, 0 where there is no such answer or it is
        invalid; (Q,) the number of invalid windows among all answers; and (Q, depth, 2) the errors
        of start and end in seconds, to the true window that overlaps most.
    """
    width = max(depth, max(len(windows) for windows in ranked))
    answers = pad_windows(ranked, width)
    starts, ends = answers[..., 0], answers[..., 1]
    # Padding is NaN as well, so it is told from invalid answers by its place.
    with np.errstate(invalid="ignore"):
        usable = np.isfinite(answers).all(axis=-1) & (starts >= 0) & (starts < ends)
    sizes = np.array([[len(windows)] for windows in ranked])
    invalid = (~usable & (np.arange(width) < sizes)).sum(axis=1)
    answers = np.where(usable[..., None], answers, 0.0)[:, :depth]
    windows = np.nan_to_num(pad_windows(truth, max(len(windows) for windows in truth)), nan=0.0)
    overlaps = paired_iou(answers[:, :, None, :], windows[:, None, :, :], epsilon)
    best = overlaps.argmax(axis=-1)
    nearest = np.take_along_axis(windows, best[..., None], axis=1)
    return overlaps.max(axis=-1), invalid, np.abs(answers - nearest)


def as_percent(value: float | None) -> str:
    """Return a fraction as tables print it: `0.3465` is "34.65", and None is "-"."""
    return "-" if value is None else f"{100 * value:.2f}"


def _recalls(
    overlaps: NDArray[np.float64],
    worth: NDArray[np.float64] | None,
    limits: Mapping[float, float],
    top: Sequence[int],
    *,
    several: bool,
) -> dict[str, float | None]:
    """Return the share of queries with a hit, each hit weighed by its (Q, depth) worth."""
    recalls: dict[str, float | None] = {}
    for n in top:
        for threshold, limit in limits.items():
            hits = overlaps[:, :n] >= limit
            best = (hits if worth is None else hits * worth[:, :n]).max(axis=1)
            value = math.fsum(best.tolist()) / len(best)
            recalls[f"R{n}@{threshold:g}"] = value if n == 1 or several else None
    return recalls


def paired_records(
    predictions: Iterable[Prediction],
    annotations: Iterable[Annotation],
    *,
    moments: bool = True,
    same_video: bool = True,
) -> tuple[list[tuple[Annotation, Prediction | None]], int]:
    """Return each annotation with its prediction, and how many predictions belong to none.

    A qid 7 is also found as "7", since tools turn one into the other, unless a file has both.

    Args:
        predictions: Of which each qid has one at most; none at all is allowed, and scores nothing.
        annotations: The truth.
        moments: Whether both are to have windows.
        same_video: Whether a prediction must be about its annotation's video.

    Raises:
        ValueError: there are no annotations.
        RecordError: a qid occurs twice, a record has no windows, no prediction is for any of the
            annotations, or one names another video than the annotation of its qid.
    """
    known = _by_qid(annotations, "annotations", moments)
    if not known:
        raise ValueError("there are no annotations to evaluate against")
    given = _by_qid(predictions, "predictions", moments)
    if all(len(set(map(str, records))) == len(records) for records in (known, given)):
        known, given = _by_text(known), _by_text(given)
    if given and known.keys().isdisjoint(given):
        ours, theirs = next(iter(known.values())).qid, next(iter(given.values())).qid
        raise RecordError(
            f"no qid of the predictions (such as {theirs!r}) is one of the annotations (such as "
            f"{ours!r}); give the predictions that were made for these annotations"
        )
    pairs = []
    for qid, record in known.items():
        found = given.get(qid)
        if same_video and found is not None and video_key(found.vid) != video_key(record.vid):
            raise RecordError(
                f"qid {qid!r} is about video {record.vid!r}, but its prediction is about "
                f"{found.vid!r}; give the predictions that were made for these annotations"
            )
        pairs.append((record, found))
    return pairs, sum(qid not in known for qid in given)


def _by_qid(
    records: Iterable[Annotation | Prediction], what: str, moments: bool
) -> dict[int | str, Any]:
    found: dict[int | str, Any] = {}
    for record in records:
        if record.qid in found:
            raise RecordError(f"qid {record.qid!r} occurs twice in the {what}; make qids unique")
        if moments and isinstance(record, Annotation) and not record.relevant_windows:
            raise RecordError(f"qid {record.qid!r} has no relevant_windows to evaluate against")
        if moments and isinstance(record, Prediction) and record.pred_relevant_windows is None:
            raise RecordError(
                f"qid {record.qid!r} has highlight scores and no pred_relevant_windows; only the "
                "protocol qvhighlights scores those"
            )
        found[record.qid] = record
    return found


def _by_text(records: dict[int | str, Any]) -> dict[int | str, Any]:
    return {str(qid): record for qid, record in records.items()}


def pad_windows(
    windows: Sequence[Sequence[Sequence[float]]], width: int, size: int = 2
) -> NDArray[np.float64]:
    """Lay windows of unequal number into (Q, width, size) float64, NaN where there is none."""
    padded = np.full((len(windows), width, size), np.nan)
    rows = [row for row, some in enumerate(windows) for _ in some]
    columns = [column for some in windows for column in range(len(some))]
    if rows:
        padded[rows, columns] = [window[:size] for some in windows for window in some]
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
