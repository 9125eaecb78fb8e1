"""Sentences that are nearly true: microworld's grammar as a labeller that knows what is not there.

Of a video model somebody asks for one sentence that is nearly true but wrong: of the same thing,
with another action. Here the grammar says it, of any label, true or pseudo, and looks at no script.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from zsvg.microworld.language import ACTION_WORDS, action_in, with_action
from zsvg.records import Annotation

MISSES = 4  # of each label


def with_near_misses(labels: Sequence[Annotation], seed: int) -> list[Annotation]:
    """Give each label that tells an action sentences with others, under "absent".

    Actions that any label of the video tells are left out: the thing may do them as well.

    Args:
        labels: Of any number of videos, worded by `zsvg.microworld.language`.
        seed: Of the draw of actions.
    """
    done: dict[str, set[str | None]] = {}
    for label in labels:
        done.setdefault(label.vid, set()).add(action_in(label.query))
    rng = np.random.default_rng([seed, 80])
    found = []
    for label in labels:
        others = [action for action in ACTION_WORDS if action not in done[label.vid]]
        chosen = rng.permutation(others)[:MISSES].tolist() if action_in(label.query) else []
        if chosen:
            absent = [with_action(label.query, action) for action in chosen]
            label = replace(label, extra={**label.extra, "absent": absent})
        found.append(label)
    return found
