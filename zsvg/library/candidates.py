"""The first step of a search: which videos are worth reading whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zsvg.grounding.grounder import Grounder
from zsvg.grounding.ranking import asked
from zsvg.library.tables import Tables

FEWEST = 50
SHARE = 0.1
MOST = 500
"""Candidates: a share of the videos, but not fewer nor more than so many."""
_ROWS = 8  # of frames looked at for each video that is wanted


def count(videos: int) -> int:
    """Return how many of so many videos are read whole for one sentence."""
    return min(max(FEWEST, int(SHARE * videos)), max(FEWEST, MOST))


def direction(grounder: Grounder, query: str) -> NDArray[np.float32]:
    """Return the (D,) vector that rows of frames are compared with.

    Its largest product with the rows of a video is `zsvg.grounding.ranking.fit`, which sorts the
    videos in the end, or the part of it that needs no trained head. Prompts that depend on the
    video (CoCoOp) cannot be at work here: the sentence is read without them.
    """
    if grounder.prompts is not None and grounder.prompts.conditional:
        states = grounder.backbone.encode_text([f"{grounder.template} {query}".strip()])
    else:
        states = grounder.encode_query(query)
    return asked(states.pooled[0].cpu().numpy(), grounder.usual)


def choose(
    tables: Tables,
    vector: NDArray[np.float32],
    among: Sequence[str],
    most: int,
    *,
    exact: bool = False,
    narrow: bool = False,
) -> list[str]:
    """Return the contents that fit a sentence best, the best first.

    Args:
        tables: Where they are.
        vector: As of `direction`.
        among: The contents that may be chosen.
        most: How many.
        exact: Compare all rows, also where there is an index.
        narrow: `among` are few of those that there are: others are not looked at.
    """
    if len(among) <= most:
        return list(among)
    allowed, limit = set(among), _ROWS * most
    while True:
        rows = tables.nearest(vector, limit, exact=exact, among=among if narrow else None)
        chosen = [content for content in dict.fromkeys(rows) if content in allowed]
        if len(chosen) >= most:
            return chosen[:most]
        if len(rows) < limit:
            if exact or not tables.indexed:
                return chosen
            exact = True  # the parts of the index that were looked at hold too few
        else:
            limit *= 4
