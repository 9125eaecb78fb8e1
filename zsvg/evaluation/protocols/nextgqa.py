"""NExT-GQA's mIoP and mIoU: how much of an answer lies in a true moment, and how well they overlap.

Xiao et al., "Can I Trust Your Answer? Visually Grounded Video Question Answering", CVPR 2024. IoP
is the share of the first answer that lies within a true window, IoU as everywhere; of several true
windows each takes its best. A hit reaches the threshold. (Acc@GQA needs answers to questions, which
this project does not give.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from zsvg.evaluation.metrics import evaluate, pad_windows, paired_records
from zsvg.records import Annotation, Prediction

THRESHOLDS = (0.3, 0.5)


def score(predictions: Sequence[Prediction], annotations: Sequence[Annotation]) -> dict[str, Any]:
    """Return `mIoP`, `IoP@0.3`, `IoP@0.5`, `mIoU`, `IoU@0.3`, `IoU@0.5` (fractions) and counts.

    Args:
        predictions: Windows in seconds, of which the first counts.
        annotations: The truth.

    Raises:
        RecordError: As in `zsvg.evaluation.metrics.paired_records`.
        ValueError: There are no annotations.
    """
    counted = evaluate(predictions, annotations, ious=THRESHOLDS, top=(1,))
    pairs, _ = paired_records(predictions, annotations)
    answers = pad_windows(
        [((found and found.pred_relevant_windows) or ())[:1] for _, found in pairs], 1
    )
    most = max(len(record.relevant_windows) for record, _ in pairs)
    truth = pad_windows([record.relevant_windows for record, _ in pairs], most)
    with np.errstate(invalid="ignore", divide="ignore"):
        common = np.minimum(answers[..., 1], truth[..., 1]) - np.maximum(
            answers[..., 0], truth[..., 0]
        )
        shares = np.clip(common / (answers[..., 1] - answers[..., 0]), 0, 1)
        usable = np.isfinite(answers).all(-1) & (answers[..., 0] < answers[..., 1])
    best = np.where(usable & (answers[..., 0] >= 0), np.nan_to_num(shares), 0.0).max(axis=1)
    return {
        "mIoP": float(best.mean()),
        **{f"IoP@{limit:g}": float((best >= limit).mean()) for limit in THRESHOLDS},
        "mIoU": counted["mIoU"],
        **{f"IoU@{limit:g}": counted[f"R1@{limit:g}"] for limit in THRESHOLDS},
        **{name: counted[name] for name in ("queries", "missing", "invalid", "unknown")},
    }
