"""Video re-localization: one answer for each clip, in one stretch of a video.

Choices, of the published evaluator (Feng et al., "Video Re-localization", ECCV 2018):

* the first answer counts alone, and there is one true segment, so that the paper's mAP@1 is the
  share of queries whose answer overlaps it enough, over all queries, not class by class;
* enough is IoU > threshold, at .5, .6, .7, .8 and .9: one that is exactly on it is a miss;
* their mean is the number to compare.

A query is asked of a stretch of the video, in which the action is shown once: answers are cut to
it, and those outside of it are not there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from zsvg.errors import RecordError
from zsvg.evaluation.metrics import best_overlaps, paired_records
from zsvg.records import Annotation, Prediction

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
_TIE = 1e-9  # what segments that are counted in features lose by becoming seconds


def score(predictions: Sequence[Prediction], annotations: Sequence[Annotation]) -> dict[str, Any]:
    """Return `mAP@0.5` to `mAP@0.9`, their mean `mAP` (fractions) and counts.

    Args:
        predictions: Windows in seconds of the whole video; the first in the stretch counts.
        annotations: With `location`, the stretch in seconds, as `zsvg convert video-reloc` writes
            them; without, all of the video is asked.

    Returns:
        These numbers; `queries`, `missing` (no answer in the stretch), `invalid` (windows that are
        not finite, start before 0 or do not end after their start: misses at their rank), `unknown`
        (predictions for qids that are not annotated).

    Raises:
        RecordError: A `location` is no [start, end], or as in
            `zsvg.evaluation.metrics.paired_records`.
        ValueError: There are no annotations.
    """
    pairs, unknown = paired_records(predictions, annotations)
    given = [(found and found.pred_relevant_windows) or () for _, found in pairs]
    first = [
        _first(windows, *_stretch(pair[0])) for windows, pair in zip(given, pairs, strict=True)
    ]
    truth = [record.relevant_windows for record, _ in pairs]
    overlaps = best_overlaps(first, truth, 1)[0][:, 0]
    shares = {f"mAP@{iou:g}": float((overlaps > iou + _TIE).mean()) for iou in THRESHOLDS}
    return {
        **shares,
        "mAP": float(np.mean(list(shares.values()))),
        "queries": len(pairs),
        "missing": sum(not windows for windows in first),
        "invalid": sum(not _valid(start, end) for some in given for start, end, _ in some),
        "unknown": unknown,
    }


def _stretch(record: Annotation) -> tuple[float, float]:
    location = record.extra.get("location", [0.0, math.inf])
    try:
        start, end = map(float, location)
        if not start < end:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise RecordError(
            f"qid {record.qid!r}: location {location!r} must be [start, end] in seconds"
        ) from None
    return start, end


def _first(
    windows: Sequence[tuple[float, float, float]], first: float, last: float
) -> list[tuple[float, float]]:
    """Return the answer that counts, cut to the stretch; none where there is none."""
    for start, end, _ in windows:
        if not _valid(start, end):
            return [(start, end)]
        if start < last and end > first:
            return [(max(start, first), min(end, last))]
    return []


def _valid(start: float, end: float) -> bool:
    return 0 <= start < end < math.inf
