"""Moments from one relevance curve, without any training: what is done to it, then a scorer.

TFVTG is a scorer of its own, with all that it does before and after: `zsvg.scorers.tfvtg`. Near to
TAG are `kind="coherent", box_cox=True, extend=True, length_weight=0`: its clusters and its windows'
scores, and a transform, and no mask, of our own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zsvg.moments import nms
from zsvg.scorers.options import ScorerOptions
from zsvg.scorers.scorers import SCORERS, Answers
from zsvg.scorers.tfvtg import Tfvtg, answer
from zsvg.scorers.transforms import (
    FLAT,
    box_cox,
    rise_starts,
    smooth,
    spread_relevance,
)


def find_moments(
    curve: ArrayLike,
    edges: ArrayLike,
    options: ScorerOptions | Tfvtg,
    features: NDArray[np.float32] | None = None,
) -> Answers:
    """Transform the curve, run the scorer of `options.kind`, and drop near-duplicates.

    With `Tfvtg` nothing is done but what TFVTG does.

    Args:
        curve: (T,) relevance, any scale, T >= 1, higher where the video fits the query.
        edges: (T + 1,) increasing clip borders in seconds.
        options: which scorer, and its settings.
        features: (T, D) clips as rows of unit length; without them nothing is spread, and
            "coherent" has nothing to cluster.

    Returns:
        Moments (K, 2) in seconds and scores (K,), best first, 1 <= K <= top_k (`Tfvtg`: 3). Scores
        order the moments of one curve; their unit depends on the scorer.

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
    if isinstance(options, ScorerOptions):
        if options.spread and features is not None:
            values = spread_relevance(values, features, options.spread)
        if options.box_cox:
            values = box_cox(values)
        sigma = options.smooth * len(values) / (borders[-1] - borders[0])
        values = smooth(values, sigma)
    if np.ptp(values) <= FLAT:
        # Nothing stands out: the whole video is the only honest answer.
        return borders[[0, -1]][None], np.zeros(1)
    if isinstance(options, Tfvtg):
        return answer(values, borders, options)
    moments, scores = SCORERS[options.kind](values, borders, options, features)
    kept = nms(moments, scores, options.nms, options.top_k)
    moments, scores = moments[kept], scores[kept]
    if options.extend:
        begun = rise_starts(values)[np.searchsorted(borders, moments[:, 0])]
        moments = np.stack((borders[begun], moments[:, 1]), axis=1)
        kept = nms(moments, scores, options.nms)
        moments, scores = moments[kept], scores[kept]
    return moments, scores
