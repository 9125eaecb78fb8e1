"""Search in a corpus: which moment of which video (TVR's VCMR), and which video (PRVR).

A sentence may have several predictions here, one for each video that answers, such as `zsvg search`
writes: all of one qid, in the order of the file, are one list of moments. A hit is of the right
video, and overlaps the true window enough; places in the list are counted over all videos.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from zsvg.evaluation.metrics import best_overlaps, paired_records
from zsvg.records import Annotation, Prediction, video_key

TOP = (1, 5, 10, 100)
IOUS = (0.5, 0.7)

Moment = tuple[str, tuple[float, float]]


def score_moments(
    predictions: Sequence[Prediction], annotations: Sequence[Annotation]
) -> dict[str, Any]:
    """Return `R1@0.5` to `R100@0.7`: a moment of the right video is among so many first ones.

    Args:
        predictions: Any number for each qid, of any videos, best first.
        annotations: The truth.

    Raises:
        RecordError: As of `paired_records`, but predictions may be of any video.
        ValueError: There are no annotations.
    """
    lists, unknown = _lists(predictions, annotations)
    result: dict[str, Any] = {}
    ranks = np.array(
        [_first_hits(record, found) for record, found in zip(annotations, lists, strict=True)]
    )
    for top in TOP:
        for column, iou in enumerate(IOUS):
            result[f"R{top}@{iou:g}"] = float((ranks[:, column] <= top).mean())
    return {**result, **_counts(lists, unknown)}


def score_videos(
    predictions: Sequence[Prediction], annotations: Sequence[Annotation]
) -> dict[str, Any]:
    """Return `R@1` to `R@100`, the right video is among so many first ones, and their sum, `SumR`.

    Args:
        predictions: Any number for each qid; their videos are ranked as they come first.
        annotations: The truth.

    Raises:
        RecordError: As of `score_moments`.
        ValueError: There are no annotations.
    """
    lists, unknown = _lists(predictions, annotations)
    ranks = []
    for record, found in zip(annotations, lists, strict=True):
        order = list(dict.fromkeys(vid for vid, _ in found))
        right = video_key(record.vid)
        ranks.append(order.index(right) + 1 if right in order else np.inf)
    result: dict[str, Any] = {f"R@{top}": float((np.array(ranks) <= top).mean()) for top in TOP}
    return {**result, "SumR": float(sum(result.values())), **_counts(lists, unknown)}


def _first_hits(record: Annotation, found: Sequence[Moment]) -> list[float]:
    """Return the place, from 1, of the first moment that hits at each IoU."""
    right = video_key(record.vid)
    places = [place for place, (vid, _) in enumerate(found) if vid == right]
    if not places:
        return [np.inf] * len(IOUS)
    windows = [found[place][1] for place in places]
    overlaps, _, _ = best_overlaps([windows], [record.relevant_windows], len(windows))
    hits = [np.flatnonzero(overlaps[0] >= iou) for iou in IOUS]
    return [places[hit[0]] + 1 if len(hit) else np.inf for hit in hits]


def _lists(
    predictions: Sequence[Prediction], annotations: Sequence[Annotation]
) -> tuple[list[list[Moment]], int]:
    """Return the moments of each annotation, and how many qids are of no annotation."""
    found: dict[int | str, list[Moment]] = {}
    named: dict[int | str, Prediction] = {}
    for answer in predictions:
        if answer.qid not in named or answer.pred_relevant_windows is None:
            named[answer.qid] = answer  # one without windows is refused below
        vid, windows = video_key(answer.vid), answer.pred_relevant_windows or ()
        found.setdefault(answer.qid, []).extend((vid, window[:2]) for window in windows)
    pairs, unknown = paired_records(named.values(), annotations, same_video=False)
    return [found[answer.qid] if answer else [] for _, answer in pairs], unknown


def _counts(lists: Sequence[Sequence[Moment]], unknown: int) -> dict[str, int]:
    missing = sum(not found for found in lists)
    return {"queries": len(lists), "missing": missing, "unknown": unknown}
