"""Whether a sentence is in a video at all: a threshold, with what it costs measured.

A model always has a best answer. How well it fits (`HeadOutput.presence`) for held-out labels, and
for the same sentences asked of other videos, tells from where on an answer is worth the name: the
threshold loses a stated share of the former (`LOST`), and what it refuses of the latter is known,
not hoped for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from zsvg.records import Annotation

LOST = 0.05
"""Share of true sentences whose moments a threshold may refuse."""
ENOUGH = 40
"""Held-out labels from which on a threshold is set: a twentieth of fewer is noise."""


@dataclass(frozen=True, kw_only=True)
class Presence:
    """From where on a sentence counts as present.

    Attributes:
        threshold: The least presence of a moment that is there.
        lost: Share of held-out labels below it.
        refused: Share of the same sentences that do when they are asked of other videos.
        labels: How many held-out labels there were.
    """

    threshold: float
    lost: float
    refused: float
    labels: int


def calibrate(present: Sequence[float], absent: Sequence[float]) -> Presence | None:
    """Set the threshold; None where there is too little to set it by, or nothing would be refused.

    Args:
        present: Presence of held-out labels in their own videos.
        absent: That of the same sentences in other videos.
    """
    if len(present) < ENOUGH or not len(absent):
        return None
    threshold = float(np.sort(present)[int(LOST * len(present))])
    lost, refused = (float((np.asarray(x) < threshold).mean()) for x in (present, absent))
    # A sentence may fit another video too, so this counts too little rather than too much.
    if refused <= lost:
        return None
    return Presence(threshold=threshold, lost=lost, refused=refused, labels=len(present))


def elsewhere(labels: Sequence[Annotation]) -> list[Annotation]:
    """Ask every sentence of another labelled video, in a fixed order; none of a single video."""
    vids = sorted({label.vid for label in labels})
    if len(vids) < 2:
        return []
    own = {vid: {label.query for label in labels if label.vid == vid} for vid in vids}
    durations = {label.vid: label.duration for label in labels}
    asked = []
    for number, label in enumerate(labels):
        at = vids.index(label.vid)
        for step in range(len(vids) - 1):
            vid = vids[(at + 1 + (number + step) % (len(vids) - 1)) % len(vids)]
            if label.query not in own[vid]:  # the very words are said of that video too
                asked.append(replace(label, vid=vid, duration=durations[vid], relevant_windows=()))
                break
    return asked
