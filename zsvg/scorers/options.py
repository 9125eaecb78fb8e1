"""Settings of the scorers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass as checked

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


@checked(frozen=True, kw_only=True, config={"extra": "forbid", "allow_inf_nan": False})
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
    spread: float = Field(default=0.0, ge=0)
    box_cox: bool = False
    smooth: float = Field(default=0.25, ge=0)
    octaves: int = Field(default=2, ge=1, le=10)
    bias: float = 0.5
    length_weight: float = 0.35
    clusters: int = Field(default=9, ge=1)
    extend: bool = False
    nms: float = Field(default=0.5, ge=0, le=1)
    top_k: int = Field(default=5, ge=1)
