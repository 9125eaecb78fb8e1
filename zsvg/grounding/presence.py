"""Whether a sentence is in a video at all: how likely it is, and from where on it counts.

A model always has a best answer. How likely it is that there is any is learned from sentences that
are not true of a video (`zsvg.heads.presence`), and made a probability by held-out labels and
sentences of other videos. A threshold on it loses a stated share of the held-out labels (`LOST`),
and what it refuses of the others is known, not hoped for.

The probability is of a sentence that is as often true as not, and where it is not, as often of the
same thing as of another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zsvg.errors import ZsvgError
from zsvg.grounding.calibration import (
    Scale,
    brier_score,
    calibration_error,
    logits_of,
    scale_of,
)

if TYPE_CHECKING:
    from zsvg.features.encoder import FrameFeatures
    from zsvg.heads.long_videos import Seen
    from zsvg.heads.presence import PresenceJudge

LOST = 0.05
"""Share of true sentences whose moments a threshold may refuse."""
ENOUGH = 40
"""Held-out labels from which on a threshold is set: a twentieth of fewer is noise."""
LEAST_VIDEOS = 2
"""Held-out videos that anything is chosen by: what suits one need not suit another."""
TRUE = "true"
"""Kind of the sentences that are true of their video."""
_FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class Presence:
    """From where on a sentence counts as present, and how likely it is.

    Attributes:
        threshold: The least presence of a moment that is there.
        lost: Share of held-out labels below it.
        refused: Share of sentences below it that are not there.
        labels: How many held-out labels there were.
        slope: Of the logits, see `zsvg.grounding.calibration.Scale`; None of a model that learned
            of nothing that is not there. Its presence is no probability, but how well the best
            answer fits.
        offset: Of the logits likewise.
        wrong: Share of the held-out labels that look wrong, and are left out of all these shares;
            None of true labels.
        brier: Brier score of the probabilities, each by a scale that was fitted on other videos.
        error: Expected calibration error, likewise.
    """

    threshold: float
    lost: float
    refused: float
    labels: int
    slope: float | None = None
    offset: float | None = None
    wrong: float | None = None
    brier: float | None = None
    error: float | None = None

    @staticmethod
    def of(manifest: Mapping[str, Any]) -> Presence | None:
        """Return what a model folder tells; None of one that was not measured."""
        told = manifest.get("presence")
        return Presence(**told) if told else None

    @property
    def told(self) -> dict[str, Any]:
        """What the manifest keeps of it."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @property
    def scale(self) -> Scale | None:
        """What makes probabilities of logits; None of a model whose presence is none."""
        if self.slope is None or self.offset is None:
            return None
        return Scale(slope=self.slope, offset=self.offset)


def presence_of(
    judge: PresenceJudge | None,
    frames: FrameFeatures,
    seen: Seen,
    text: NDArray[np.float32] | None,
    manifest: Mapping[str, Any],
) -> float:
    """Return how likely it is that a sentence is in a video; of older models, how well it fits.

    Args:
        judge: What was learned of sentences that are not there; None of older models.
        frames: The video.
        seen: What the head says of it: the likeliest of its moments counts.
        text: (D,) frozen embedding of the sentence; None without a judge.
        manifest: What the model folder tells; a scale of 1 stands in for it.
    """
    if judge is None or text is None:
        return round(seen.presence, 6)
    there = judge.best(frames.features, frames.centres, seen.moments, text)
    measured = Presence.of(manifest)
    scale = (measured and measured.scale) or Scale(slope=1.0, offset=0.0)
    return round(float(scale.probability(there)), 6)


def least_of(sure: float | None, manifest: Mapping[str, Any]) -> float:
    """Return the presence from which on a moment is taken to be there: `sure`, if given."""
    if sure is not None:
        return sure
    measured = Presence.of(manifest)
    return -math.inf if measured is None else measured.threshold


def checked_sure(probability: float | None, manifest: Mapping[str, Any]) -> float | None:
    """Return the least probability that is asked for, if a model can tell.

    Raises:
        ZsvgError: It is no probability, or the model knows none.
    """
    if probability is None:
        return None
    measured = Presence.of(manifest)
    if not 0 <= probability <= 1:
        raise ZsvgError(f"sure {probability:g}: it is a probability, from 0 to 1")
    if measured is None or measured.scale is None:
        raise ZsvgError(
            f"sure {probability:g}: this model does not know how likely its answers are; it takes "
            f"one that `zsvg tune` made with {ENOUGH} held-out labels or more"
        )
    return probability


def calibrate(
    presence: Sequence[float],
    kinds: Sequence[str],
    vids: Sequence[str],
    *,
    doubtful: bool = False,
) -> Presence | None:
    """Fit the scale and set the threshold; None of too few labels or videos, or where it is no use.

    Args:
        presence: (n,) of held-out labels, and of sentences that are not true of their videos, as
            the model says it before it is calibrated: the sigmoid of its logits.
        kinds: `TRUE` of the former, and of the latter what kind they are; all kinds weigh alike.
        vids: Name of the video that each was asked of.
        doubtful: Some of the labels may be wrong, as pseudo labels are; those that look it count
            less in all that is measured (`zsvg.grounding.calibration.scale_of`).
    """
    sort, values = np.asarray(kinds), logits_of(presence)
    there = sort == TRUE
    labels = int(there.sum())
    if labels < ENOUGH or len(set(vids)) < LEAST_VIDEOS or there.all():
        return None
    weight = _weights(sort)
    scale = scale_of(values, there, weight, doubtful=doubtful)
    if scale is None:
        return None
    probability = scale.probability(values)
    told, right = probability[there], scale.right(values[there])
    threshold = _quantile(told, right, LOST)
    across, counted = _across(values, there, weight, np.asarray(vids), doubtful)
    return Presence(
        threshold=round(threshold, 6),
        lost=round(float(np.average(told < threshold, weights=right)), 6),
        refused=round(
            float(np.average(probability[~there] < threshold, weights=weight[~there])), 6
        ),
        labels=labels,
        slope=round(scale.slope, 6),
        offset=round(scale.offset, 6),
        wrong=round(scale.wrong, 6) if doubtful else None,
        brier=round(brier_score(across, there, counted), 6),
        error=round(calibration_error(across, there, counted), 6),
    )


def _weights(kinds: NDArray[np.str_]) -> NDArray[np.float64]:
    """Return what each counts: true sentences as much as all others, whose kinds count alike."""
    weight = np.empty(len(kinds))
    others = sorted(set(kinds.tolist()) - {TRUE})
    for kind in (TRUE, *others):
        own = kinds == kind
        weight[own] = 0.5 / own.sum() / (1 if kind == TRUE else len(others))
    return weight


def _quantile(values: NDArray[np.float64], weight: NDArray[np.float64], share: float) -> float:
    """Return the largest of the values (n,) that at most `share` of the weight is below."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weight[order]) - weight[order]
    return float(values[order][below <= share * weight.sum()].max())


def _across(
    logits: NDArray[np.float64],
    there: NDArray[np.bool_],
    weight: NDArray[np.float64],
    vids: NDArray[np.str_],
    doubtful: bool,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return probabilities (n,), each by a scale that was fitted on other videos, and weights."""
    fold = np.unique(vids, return_inverse=True)[1] % _FOLDS
    found, right = np.full(len(logits), 0.5), np.ones(len(logits))
    for number in range(_FOLDS):
        own = fold == number
        scale = scale_of(logits[~own], there[~own], weight[~own], doubtful=doubtful)
        if scale is not None:  # else nothing is known: as likely as not
            found[own] = scale.probability(logits[own])
            right[own & there] = scale.right(logits[own & there])
    counted = weight * right
    counted[there] *= weight[there].sum() / counted[there].sum()
    return found, counted
