"""How sure a difference between two rows of answers is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000


def gain(
    found: NDArray[np.floating], base: NDArray[np.floating], vids: Sequence[str]
) -> tuple[float, float, float]:
    """Return the mean difference of paired values (n,) and its 95 % interval, videos drawn anew.

    Args:
        found: (n,) value of each query.
        base: (n,) what it is compared with.
        vids: The n queries' videos: queries of one video are no independent draws.
    """
    names, owner = np.unique(vids, return_inverse=True)
    total, count = np.bincount(owner, found - base), np.bincount(owner)
    picks = np.random.default_rng(0).integers(0, len(names), (DRAWS, len(names)))
    means = total[picks].sum(axis=1) / count[picks].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float((found - base).mean()), float(low), float(high)
