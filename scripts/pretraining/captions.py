"""What pre-training says about rendered frames and events, in the words of every domain."""

from __future__ import annotations

import numpy as np

from zsvg.microworld.language import (
    TEMPLATE_WORDS,
    WORDINGS,
    action_sentence,
    noun_phrase,
    phrase_sentence,
    place_words,
)
from zsvg.microworld.script import IN_PLACE, Event, Scene, Thing


def frame_caption(
    rng: np.random.Generator, scene: Scene, visible: list[tuple[Thing, float, float, str | None]]
) -> str:
    """Describe one frame for pre-training, in any domain's words.

    Args:
        rng: Source of the wording.
        scene: The script (unused parts of it stay unsaid).
        visible: What is seen: thing, x, y and, when it is told, the size.
    """
    wording = WORDINGS[str(rng.choice(list(WORDINGS)))]
    if not visible:
        return phrase_sentence(rng, str(rng.choice(("nothing", "an empty scene"))), wording)
    order = rng.permutation(len(visible))
    thing, x, y, size = visible[int(order[0])]
    noun = noun_phrase(rng, thing, wording, size if rng.random() < 0.4 else None)
    tail = ""
    roll = rng.random()
    if len(order) > 1 and roll < 0.45:
        other, ox, oy, _ = visible[int(order[1])]
        second = noun_phrase(rng, other, wording)
        dx, dy = x - ox, y - oy
        if roll < 0.2:
            tail = f"and {second}"
        elif abs(dx) > abs(dy):
            tail = f"{'left of' if dx < 0 else 'right of'} {second}"
        else:
            tail = f"{'above' if dy < 0 else 'below'} {second}"
    elif roll < 0.85:
        tail = place_words(x, y)
    text = phrase_sentence(rng, noun, wording, tail)
    return f"{TEMPLATE_WORDS} {text}" if rng.random() < 0.3 else text


def event_caption(rng: np.random.Generator, scene: Scene, event: Event) -> str:
    """Describe one event for pre-training, in any domain's words."""
    wording = WORDINGS[str(rng.choice(list(WORDINGS)))]
    size = event.size if rng.random() < 0.35 else None
    noun = noun_phrase(rng, event.thing, wording, size)
    tail = ""
    if event.action in IN_PLACE and rng.random() < 0.35:
        tail = place_words(event.x, event.y)
    text = action_sentence(rng, noun, event.action, wording, tail)
    return f"{TEMPLATE_WORDS} {text}" if rng.random() < 0.2 else text
