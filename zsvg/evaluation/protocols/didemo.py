"""DiDeMo's Rank@1, Rank@5 and mIoU with its rule for annotators who disagree.

Choices, all of the published evaluator (Hendricks et al., "Localizing Moments in Video with Natural
Language", ICCV 2017):

* a video is 5 or 6 segments of 5 seconds; an answer is a run of whole segments, and windows in
  seconds are moved to the nearest borders (at least one segment long);
* each annotator's run has a rank in the list of answers; the mean of the three best ranks must be
  <= 1 or <= 5 (with four annotators: the one who disagrees most is left out);
* a run that is not among the answers has no rank; where fewer than three are, the mean is over
  those, and a query none of whose runs is answered is a miss;
* mIoU is the mean over queries of the three best IoU of the first answer, counted in segments;
* answers that become the same run of segments count once, at their best rank.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from zsvg.errors import RecordError
from zsvg.evaluation.metrics import paired_records
from zsvg.records import Annotation, Prediction

SEGMENT_SECONDS = 5
BEST = 3

Run = tuple[int, int]


def score(predictions: Sequence[Prediction], annotations: Sequence[Annotation]) -> dict[str, Any]:
    """Return `Rank@1`, `Rank@5`, `mIoU` (fractions) and counts.

    Args:
        predictions: Windows in seconds.
        annotations: With DiDeMo's `times` (one [first, last] segment per annotator) and, where
            known, `num_segments` beside the windows, as `zsvg convert didemo` writes them.

    Returns:
        The three numbers; `queries`, `missing` (no answer), `invalid` (windows that do not end
        after their start: no answer), `moved` (windows that were not on segment borders), `unknown`
        (predictions for qids that are not annotated).

    Raises:
        RecordError: an annotation has no `times`, or as in
            `zsvg.evaluation.metrics.paired_records`.
        ValueError: there are no annotations.
    """
    pairs, unknown = paired_records(predictions, annotations)
    ranks: list[float] = []
    overlaps: list[float] = []
    missing = invalid = moved = 0
    for annotation, prediction in pairs:
        times = _times(annotation)
        last = math.ceil(annotation.duration / SEGMENT_SECONDS) - 1
        answers: list[Run] = []
        for start, end, _ in (prediction and prediction.pred_relevant_windows) or ():
            if not 0 <= start < end:
                invalid += 1
                continue
            run = _segments(start, end, last)
            moved += (run[0] * SEGMENT_SECONDS, (run[1] + 1) * SEGMENT_SECONDS) != (start, end)
            if run not in answers:
                answers.append(run)
        missing += not answers
        found = sorted(answers.index(run) + 1 for run in times if run in answers)[:BEST]
        ranks.append(sum(found) / len(found) if found else math.inf)
        ious = sorted((_iou(answers[0], run) for run in times), reverse=True) if answers else [0.0]
        overlaps.append(sum(ious[:BEST]) / len(ious[:BEST]))
    count = len(pairs)
    return {
        "Rank@1": sum(rank <= 1 for rank in ranks) / count,
        "Rank@5": sum(rank <= 5 for rank in ranks) / count,
        "mIoU": math.fsum(overlaps) / count,
        "queries": count,
        "missing": missing,
        "invalid": invalid,
        "moved": moved,
        "unknown": unknown,
    }


def _times(annotation: Annotation) -> list[Run]:
    times = annotation.extra.get("times")
    runs = []
    if isinstance(times, Sequence) and not isinstance(times, str):
        for run in times:
            if not (isinstance(run, Sequence) and len(run) == 2):
                break
            first, last = run
            if not (isinstance(first, int) and isinstance(last, int) and 0 <= first <= last):
                break
            runs.append((first, last))
        if runs and len(runs) == len(times):
            return runs
    raise RecordError(
        f"qid {annotation.qid!r} has no usable `times`, the [first, last] segments of each "
        "annotator; convert DiDeMo's file with `zsvg convert didemo`"
    )


def _segments(start: float, end: float, last: int) -> Run:
    """Return the run of segments whose borders are nearest to a window."""
    first = min(math.floor(start / SEGMENT_SECONDS + 0.5), last)
    return first, max(first, min(math.floor(end / SEGMENT_SECONDS + 0.5) - 1, last))


def _iou(a: Run, b: Run) -> float:
    shared = min(a[1], b[1]) + 1 - max(a[0], b[0])
    return max(0, shared) / (max(a[1], b[1]) + 1 - min(a[0], b[0]))
