"""Training on labels that may be wrong: doubtful ones count less, nearly right ones move.

The network that is being trained judges its own labels (SPL: Zheng et al., "Generating Structured
Pseudo Labels for Noise-resistant Zero-shot Video Sentence Localization", ACL 2023).
SPL does so in every batch of the second half of the training; here it happens in rounds over the
labels that are drawn until the next one, between which nothing changes, so that a run can be
continued from any step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zsvg.moments import as_spans, iou, paired_iou
from zsvg.training.examples import Example

# 1 / (1 - x) grows without bound; with this floor no label counts more than ten times another.
LEAST_DOUBT = 0.1
# SPL's 0.75 chooses among a grid of proposals, where small moves abound. Among five answers it
# moved none of 824 labels of microworld's development domain (30 % of them planted wrong, half with
# blurred borders); 0.25 moved 326 and raised the mean IoU of labels and truth from 0.61 to 0.66.
LABEL_SHARE = 0.25


def noise_weights(overlap: ArrayLike, score: ArrayLike, alpha: float = 0.75) -> NDArray[np.float64]:
    """Weigh labels by how well the network's best answers agree with them, after SPL.

    alpha * a + (1 - alpha) * b, where a = 1 / (1 - overlap) and b = 1 / (1 - score), each divided
    by its mean. `1 - x` is raised to at least `LEAST_DOUBT`: SPL's 1e-9 lets one label take all.
    The means are those over the labels; SPL takes them over the proposals of one sentence, which
    compares a sentence's proposals with each other and not one label with the next.

    Args:
        overlap: (n,) IoU of each label with the best-scored answer to its sentence, in [0, 1].
        score: (n,) the scores of these answers, in [0, 1].
        alpha: Share of the overlaps, in [0, 1].

    Returns:
        (n,) positive weights of mean 1.

    Raises:
        ValueError: The shapes disagree, there are no labels, or a value is outside [0, 1].
    """
    values = [np.asarray(x, dtype=np.float64) for x in (overlap, score)]
    if values[0].ndim != 1 or not len(values[0]) or values[0].shape != values[1].shape:
        raise ValueError(f"overlaps {values[0].shape} and scores {values[1].shape} must be (n,)")
    if not all(((x >= 0) & (x <= 1)).all() for x in (*values, np.asarray(alpha))):
        raise ValueError("overlaps, scores and alpha must lie in [0, 1]")
    loc, cls = (1 / np.maximum(1 - x, LEAST_DOUBT) for x in values)
    weights = alpha * loc / loc.mean() + (1 - alpha) * cls / cls.mean()
    return np.asarray(weights / weights.mean())


def refined(
    label: ArrayLike, candidates: ArrayLike, scores: ArrayLike, beta: float = 0.75
) -> NDArray[np.float64]:
    """Move a label to the answer that is both near it and well scored, after SPL.

    The result maximises beta * IoU(label, .) + (1 - beta) * score. SPL's proposals cover a grid, so
    the label is as good as one of them; here there are few answers, and the label itself is a
    candidate with the IoU 1 and the score of the answer that overlaps it most (0 where none does).
    Where the label and an answer tie, the answer is taken. At beta = 0.75 a label moves only where
    (1 - IoU) is at most a third of what the score gains; rounds use `LABEL_SHARE`.

    Args:
        label: (2,) the present window in seconds.
        candidates: (n, 2) answers in seconds; none keeps the label.
        scores: (n,) their scores in [0, 1].
        beta: Share of the overlap, in [0, 1].

    Returns:
        (2,) one of the candidates, or the label.
    """
    present, spans = np.asarray(label, dtype=np.float64), as_spans(candidates)
    values = np.asarray(scores, dtype=np.float64)
    if not len(spans):
        return present
    overlap = iou(present[None], spans)[0]
    nearest = int(overlap.argmax())
    merits = beta * overlap + (1 - beta) * values
    own = beta + (1 - beta) * (values[nearest] if overlap[nearest] > 0 else 0.0)
    best = int(merits.argmax())
    return spans[best] if merits[best] >= own else present


def denoised(
    examples: Sequence[Example],
    originals: Sequence[Example],
    moments: NDArray[np.floating],
    scores: NDArray[np.floating],
    *,
    move: bool,
    weigh: bool,
) -> list[Example]:
    """Return the examples of the steps after a round.

    Only `doubtful` ones change. Windows are refined from the present ones; examples of several
    windows keep theirs. Weights are `noise_weights` times the labels' own, with the same sum, so
    that the loss keeps its size. They compare answers with the original windows: one that has
    moved to an answer agrees with it, right or wrong. Answers with the score 0 do not exist
    (`zsvg.heads.base.HeadOutput`); those that miss a label's glance are known to be wrong, and are
    left out.

    Args:
        examples: The present examples, n of them.
        originals: The examples before the first round.
        moments: (n, k, 2) the network's answers as fractions of the durations, best first.
        scores: (n, k) in [0, 1].
        move: Refine windows.
        weigh: Replace weights.
    """
    moved, overlaps, best_scores = [], np.zeros(len(examples)), np.zeros(len(examples))
    for row, (example, original) in enumerate(zip(examples, originals, strict=True)):
        real = (scores[row] > 0) & (moments[row, :, 0] < moments[row, :, 1])
        spans = moments[row][real].astype(np.float64) * example.duration
        values = scores[row][real].astype(np.float64)
        if example.glance is not None:
            holds = (spans[:, 0] <= example.glance) & (example.glance <= spans[:, 1])
            spans, values = spans[holds], values[holds]
        if move and example.doubtful and len(example.windows) == 1:
            window = refined(example.windows[0], spans, values, LABEL_SHARE)
            example = replace(example, windows=window[None])
        if len(spans):
            overlaps[row] = iou(spans[:1], original.windows).max()
            best_scores[row] = values[0]
        moved.append(example)
    if not weigh:
        return moved
    weights = np.array([original.weight for original in originals])
    doubtful = np.array([original.doubtful for original in originals])
    if not weights[doubtful].any():
        return moved
    own = weights[doubtful]
    fresh = own * noise_weights(overlaps[doubtful], best_scores[doubtful])
    weights[doubtful] = fresh * (own.sum() / fresh.sum())
    return [replace(e, weight=float(w)) for e, w in zip(moved, weights, strict=True)]


def describe_round(before: Sequence[Example], after: Sequence[Example]) -> dict[str, float]:
    """Summarise a round in numbers that show whether it did nothing or too much.

    Returns:
        "label_iou": mean IoU of the new windows with those before. "effective_share": the share of
        the labels that as many equal weights would have, (sum w)^2 / (n sum w^2), in (0, 1].
    """
    pairs = [(old.windows, new.windows) for old, new in zip(before, after, strict=True)]
    kept = [paired_iou(old, new).mean() for old, new in pairs]
    weights = np.array([example.weight for example in after])
    share = weights.sum() ** 2 / (len(weights) * (weights**2).sum())
    return {"label_iou": float(np.mean(kept)), "effective_share": float(share)}
