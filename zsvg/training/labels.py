"""Few labels, and true labels beside pseudo labels: what `zsvg tune` is given to train on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from zsvg.errors import ZsvgError
from zsvg.records import Annotation, check_trainable


def is_pseudo(label: Annotation) -> bool:
    """Whether a label was made by a machine: pseudo labels say in `source` how."""
    return "source" in label.extra


def shots(labels: Sequence[Annotation], count: int, seed: int) -> list[Annotation]:
    """Keep the labels of `count` videos, drawn by seed, in their order.

    Draws of one seed are nested: the videos of `count` are among those of `count + 1`, so that
    curves over the number of videos differ by what was added alone.

    Args:
        labels: Labels of any number of videos.
        count: Videos to keep, at least 1.
        seed: Of the draw.

    Raises:
        ZsvgError: `count` is below 1, or more than there are videos.
    """
    vids = sorted({label.vid for label in labels})
    if not 1 <= count <= len(vids):
        raise ZsvgError(
            f"--shots {count}: the labels are of {len(vids)} videos; choose a number from 1 to that"
        )
    order = np.random.default_rng([seed, 78]).permutation(len(vids))
    kept = {vids[i] for i in order[:count]}
    return [label for label in labels if label.vid in kept]


def weigh_true(labels: Sequence[Annotation], weight: float) -> list[Annotation]:
    """Multiply the `weight` of every true label; pseudo labels stay as they are.

    Args:
        labels: True and pseudo labels.
        weight: How much more a true label counts in training than a pseudo label, above 0.

    Raises:
        ZsvgError: `weight` is not a finite number above 0.
        RecordError: A label cannot be trained on.
    """
    if not (math.isfinite(weight) and weight > 0):
        raise ZsvgError(f"--also-weight {weight:g}: it must be a finite number above 0")
    check_trainable(labels, timed=False)  # a weight that is no number could not be multiplied
    return [
        label
        if is_pseudo(label)
        else replace(
            label, extra={**label.extra, "weight": weight * float(label.extra.get("weight", 1.0))}
        )
        for label in labels
    ]


def choose_labels(
    labels: Sequence[Annotation],
    *,
    also: Sequence[Annotation] = (),
    also_weight: float = 1.0,
    shot_count: int | None = None,
    seed: int = 0,
) -> tuple[list[Annotation], list[str]]:
    """Return the labels to tune on, and lines that say what was taken.

    Args:
        labels: Labels of any kind.
        also: More labels, usually a few true ones beside pseudo labels.
        also_weight: What a true label of either file counts, where a pseudo label counts 1.
        shot_count: Keep the labels of that many videos: of `also` where it is given, which is then
            the scarce part, or else of `labels`.
        seed: Of the draw of videos.

    Raises:
        ZsvgError: A number is out of range.
        RecordError: A label cannot be trained on.
    """
    lines = []
    if shot_count is not None:
        scarce = also or labels
        kept = shots(scarce, shot_count, seed)
        lines.append(
            f"{len(kept)} of {len(scarce)} {'annotations' if also else 'labels'} taken: those of "
            f"{shot_count} of {len({a.vid for a in scarce})} videos, drawn by seed {seed}"
        )
        labels, also = (labels, kept) if also else (kept, also)
    if not also:
        return list(labels), lines
    mixed = weigh_true([*labels, *also], also_weight)
    pseudo = sum(map(is_pseudo, mixed))
    lines.append(
        f"{len(mixed) - pseudo} true and {pseudo} pseudo labels, a true one weighing "
        f"{also_weight:g} times a pseudo one"
    )
    return mixed, lines
