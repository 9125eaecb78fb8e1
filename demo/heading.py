"""The head of the page: which models answer."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from zsvg import Grounder

from .visit import short

MICRO_NOTE = (
    "<b><code>micro</code> understands only microworld</b>, small rendered videos: coloured shapes "
    "and digits that enter, move, spin, grow, shrink, blink or bounce. Its answers about any other "
    "video mean nothing."
)


def describe(grounder: Grounder) -> str:
    """Return the backbone of a model, and what of it is trained."""
    how = "nothing trained, similarity alone"
    if grounder.head is not None:
        how = "tuned prompts and head" if grounder.adapter else "a tuned head, no prompts"
    return f"on {short(grounder.backbone.name)}: {how}, {grounder.fps:g} frames a second"


def heading(models: Mapping[str, Grounder]) -> str:
    """Return the head: the models by name, and what is to be known about `micro`."""
    who = "".join(
        f"<li><b>{escape(name)}</b> {escape(describe(grounder))}</li>"
        for name, grounder in models.items()
    )
    micro = any(grounder.backbone.name == "micro" for grounder in models.values())
    note = f'<p class="note">{MICRO_NOTE}</p>' if micro else ""
    return (
        '<header class="zh"><h1>zsvg</h1><p>Find moments in videos by sentence.</p>'
        f'<ul>{who}</ul><button type="button" data-keys>Keys: ?</button></header>{note}'
    )
