"""Settings of the scorers, and which are usual where nobody chooses.

What is usual was chosen on film and captions, see `scripts/benchmark_charades.py` and
`scripts/benchmark_qvhighlights.py`; for microworld on its own development videos.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass as checked

Kind = Literal[
    "max_sum",
    "inside_outside",
    "correlation",
    "threshold_runs",
    "segment_first",
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
        octaves: how many smoothings vote ("threshold_runs", "segment_first"): `smooth`, twice that,
            four times, ...
        bias: standard deviations above the curve's mean from which a clip speaks for a moment, for
            scorers with a threshold. Higher gives shorter moments.
        length_weight: exponent of a window's share of the video ("inside_outside", "watershed",
            "coherent"). 0 is the plain difference of means, which favours short windows.
        clusters: how many parts a video is cut into ("coherent"; TAG: 9).
        extend: whether starts move back to where the relevance began to rise, as TFVTG's do.
        nms: IoU above which the worse of two moments is dropped, in [0, 1].
        top_k: most moments to return.
    """

    kind: Kind = "segment_first"
    spread: float = Field(default=0.0, ge=0)
    box_cox: bool = False
    smooth: float = Field(default=3.0, ge=0)
    octaves: int = Field(default=3, ge=1, le=10)
    bias: float = 0.25
    length_weight: float = 0.35
    clusters: int = Field(default=9, ge=1)
    extend: bool = False
    nms: float = Field(default=0.5, ge=0, le=1)
    top_k: int = Field(default=5, ge=1)


COARSE = ScorerOptions(kind="threshold_runs", spread=0.2, smooth=2.0, octaves=2, bias=0.5)
"""Usual for clips of a second or more, such as captions and many published features."""
DRAWINGS = ScorerOptions(kind="threshold_runs", smooth=0.25, octaves=2, bias=0.5)
"""Usual for microworld, whose pictures change at once and have little noise."""


def usual_scorer(rate: float, *, drawn: bool) -> ScorerOptions:
    """Return the settings for a video of so many clips a second.

    Args:
        rate: clips per second.
        drawn: whether it is one of microworld's.
    """
    if drawn:
        return DRAWINGS
    return COARSE if rate <= 1 else ScorerOptions()
