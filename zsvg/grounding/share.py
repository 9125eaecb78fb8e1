"""How much of a tuned model's answer is learned: its share beside the similarity it starts from.

A head says how probably each clip is inside, and the training-free scorer reads moments from

    (1 - share) * standardised similarity + share * standardised probability

so that a share of 0 is similarity alone. Labels that were made without an annotator have habits of
their own, which a head learns with the rest; the similarity has none.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zsvg.scorers.transforms import standardised

SHARES = (0.0, 0.25, 0.5, 0.65, 0.8, 0.9)
"""What is tried on held-out labels."""
USUAL_SHARE = 0.5
"""Where no held-out label tells."""


def mixed(
    similar: NDArray[np.floating], learned: NDArray[np.floating], share: float
) -> NDArray[np.float32]:
    """Return the curve that moments are read from.

    Args:
        similar: (T,) similarity of each clip and the sentence, see `Grounder.similarity`.
        learned: (T,) relevance by a head, see `zsvg.heads.base.HeadOutput`.
        share: of the head, in [0, 1].
    """
    curve = (1 - share) * standardised(similar) + share * standardised(learned)
    return curve.astype(np.float32)
