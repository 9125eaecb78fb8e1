"""Moments from one relevance curve, without any training: what is done to it, then a scorer.

The published methods are settings: TFVTG's windows are `kind="inside_outside", length_weight=0,
extend=True`, TAG's `kind="coherent", box_cox=True, extend=True, length_weight=0`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zsvg.moments import nms
from zsvg.scorers.scorers import SCORERS, Answers
from zsvg.scorers.transforms import FLAT, box_cox, rise_starts, smooth, spread_relevance


@dataclass(frozen=True, kw_only=True)
class ScorerOptions:
    """Settings of a training-free scorer.

    Attributes:
        kind: a name of `zsvg.scorers.scorers.SCORERS`.
        spread: temperature at which a clip takes over the relevance of clips that look like it, in
            units of cosine similarity; 0 leaves every clip alone. See `spread_relevance`.
        box_cox: whether relevance is brought near to a normal distribution; see `box_cox`.
        smooth: standard deviation in seconds of a Gaussian applied to the curve; 0 leaves it alone.
        octaves: how many smoothings vote ("threshold_runs"): `smooth`, twice that, four times, ...
        bias: standard deviations above the curve's mean from which a clip speaks for a moment
            ("max_sum", "threshold_runs", "watershed"). Higher gives shorter moments.
        length_weight: exponent of a window's share of the video ("inside_outside", "watershed",
            "coherent"). 0 is the plain difference of means, which favours short windows.
        clusters: how many parts a video is cut into ("coherent"; TAG: 9).
        extend: whether starts move back to where the relevance began to rise (TFVTG).
        nms: IoU above which the worse of two moments is dropped, in [0, 1].
        top_k: most moments to return.
    """

    kind: str = "threshold_runs"
    spread: float = 0.0
    box_cox: bool = False
    smooth: float = 0.25
    octaves: int = 2
    bias: float = 0.5
    length_weight: float = 0.35
    clusters: int = 9
    extend: bool = False
    nms: float = 0.5
    top_k: int = 5

    def __post_init__(self) -> None:
        if self.kind not in SCORERS:
            raise ValueError(f"scorer kind {self.kind!r} is unknown; use one of {sorted(SCORERS)}")
        if not (np.isfinite(self.spread) and self.spread >= 0):
            raise ValueError(f"spread {self.spread} must be 0 or more")
        if not (np.isfinite(self.smooth) and self.smooth >= 0):
            raise ValueError(f"smooth {self.smooth} must be 0 or more seconds")
        if not 1 <= self.octaves <= 10:
            raise ValueError(f"octaves {self.octaves} must be from 1 to 10")
        if not (np.isfinite(self.bias) and np.isfinite(self.length_weight)):
            raise ValueError("bias and length_weight must be finite numbers")
        if self.clusters < 1:
            raise ValueError(f"clusters {self.clusters} must be at least 1")
        if not 0 <= self.nms <= 1:
            raise ValueError(f"nms {self.nms} is not an IoU; give a value in [0, 1]")
        if self.top_k < 1:
            raise ValueError(f"top_k {self.top_k} must be at least 1")


def find_moments(
    curve: ArrayLike,
    edges: ArrayLike,
    options: ScorerOptions,
    features: NDArray[np.float32] | None = None,
) -> Answers:
    """Transform the curve, run the scorer of `options.kind`, and drop near-duplicates.

    Args:
        curve: (T,) relevance, any scale, T >= 1, higher where the video fits the query.
        edges: (T + 1,) increasing clip borders in seconds.
        options: which scorer, and its settings.
        features: (T, D) clips as rows of unit length; without them nothing is spread, and
            "coherent" has nothing to cluster.

    Returns:
        Moments (K, 2) in seconds and scores (K,), best first, 1 <= K <= top_k. Scores order the
        moments of one curve; their unit depends on the scorer.

    Raises:
        ValueError: the curve is empty or not finite, the number of borders is not T + 1, or the
            scorer needs features.
    """
    values = np.asarray(curve, dtype=np.float64)
    borders = np.asarray(edges, dtype=np.float64)
    if values.ndim != 1 or not len(values) or borders.shape != (len(values) + 1,):
        raise ValueError(
            f"a curve of shape (T,), T >= 1, needs T + 1 borders; got {values.shape} and "
            f"{borders.shape}"
        )
    if not np.isfinite(values).all():
        raise ValueError("the relevance curve holds values that are not finite")
    if options.spread and features is not None:
        values = spread_relevance(values, features, options.spread)
    if options.box_cox:
        values = box_cox(values)
    values = smooth(values, options.smooth * len(values) / (borders[-1] - borders[0]))
    if np.ptp(values) <= FLAT:
        # Nothing stands out: the whole video is the only honest answer.
        return borders[[0, -1]][None], np.zeros(1)
    moments, scores = SCORERS[options.kind](values, borders, options, features)
    kept = nms(moments, scores, options.nms, options.top_k)
    moments, scores = moments[kept], scores[kept]
    if options.extend:
        begun = rise_starts(values)[np.searchsorted(borders, moments[:, 0])]
        moments = np.stack((borders[begun], moments[:, 1]), axis=1)
        kept = nms(moments, scores, options.nms)
        moments, scores = moments[kept], scores[kept]
    return moments, scores
