"""Settings of the scorers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Kind = Literal[
    "max_sum",
    "inside_outside",
    "correlation",
    "threshold_runs",
    "watershed",
    "coherent",
    "consensus",
]
"""Which scorers there are."""


@dataclass(frozen=True, kw_only=True)
class ScorerOptions:
    """Settings of a training-free scorer.

    Attributes:
        kind: one of `Kind`; `zsvg.scorers.scorers` says what each does.
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

    kind: Kind = "threshold_runs"
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
        if self.kind not in get_args(Kind):
            known = sorted(get_args(Kind))
            raise ValueError(f"scorer kind {self.kind!r} is unknown; use one of {known}")
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
