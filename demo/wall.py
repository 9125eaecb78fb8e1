"""The wall of moments as HTML: a picture each, what it is, and what can be done with it.

`wall.js` plays a moment under the pointer and moves between them by keys.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr

from zsvg.report.svg import shorten

from .searching import BOTH, SAID, SEEN, Shown, called, clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from zsvg.library.hits import Hit

SCRIPT = Path(__file__).with_name("wall.js").read_text(encoding="utf-8")
WORDS = 110  # letters of what is said
BY = {SEEN: "seen", SAID: "said", BOTH: "seen and said"}


def component(play: Callable[[object], dict[str, str]]) -> gr.HTML:
    """Return an empty wall.

    Args:
        play: Returns a moment's film; see `zsvg.demo.searching.played`.
    """
    return gr.HTML(
        "",
        js_on_load=SCRIPT,
        apply_default_css=False,
        elem_id="library-wall",
        server_functions=[play],
    )


def wall(shown: Shown, pictures: Sequence[str], verdicts: Sequence[str]) -> str:
    """Return the moments, the best first.

    Args:
        shown: They.
        pictures: Of each, as a data address; "" where there is none.
        verdicts: What was said of each: "yes", "no" or "".
    """
    cards = []
    for number, hit in enumerate(shown.hits):
        before = None if shown.before is None else shown.before[number]
        judged = verdicts[number] if shown.wanted.text and hit.by != SAID else None
        cards.append(_card(number, hit, pictures[number], judged, before))
    more = '<button type="button" class="zw-more" data-more>More</button>' if shown.more else ""
    if not cards:
        return (
            '<p class="quiet zw-none">Nothing is found: search otherwise, or by fewer filters.</p>'
        )
    # `drawn` differs each time, so that a browser draws anew what it has changed by itself.
    return (
        f'<ol class="zw" aria-label="Moments, the best first" data-wall="{shown.token}" '
        f'data-drawn="{secrets.token_hex(4)}">{"".join(cards)}</ol>{more}'
    )


def _card(number: int, hit: Hit, picture: str, judged: str | None, before: int | None) -> str:
    rank, span = number + 1, f"{clock(hit.start)} to {clock(hit.end)}"
    name = called(hit.video)
    image = f'<img src="{picture}" alt="" loading="lazy">' if picture else ""
    words = f'<q class="zw-said">{escape(shorten(hit.words, WORDS))}</q>' if hit.words else ""
    copies = f"<small>{len(hit.alike)} more like it</small>" if hit.alike else ""
    moved = "" if before is None else _moved(rank, before)
    verdicts = ""
    if judged is not None:
        verdicts = "".join(
            f'<button type="button" data-verdict="{said}" aria-pressed="{_true(judged == said)}" '
            f'aria-label="{said.capitalize()}, moment {rank}" title="{said[0].upper()}">'
            f"{said.capitalize()}</button>"
            for said in ("yes", "no")
        )
    says = f"Moment {rank}, {BY[hit.by]} in {name}, {span}. Open in Ground."
    return (
        f'<li class="zw-card {judged or ""}" data-number="{number}" '
        f'data-content="{hit.video.content}" data-start="{hit.start:.3f}" '
        f'data-end="{hit.end:.3f}"><button type="button" class="zw-open" '
        f'tabindex="{0 if number == 0 else -1}" aria-label="{escape(says)}">{image}'
        f'<span class="zw-time" aria-hidden="true">{clock(hit.start)}–{clock(hit.end)}</span>'
        '</button><button type="button" class="zw-play" data-play tabindex="-1" '
        f'aria-pressed="false" aria-label="Play moment {rank} here" title="Space"></button>'
        f'<div class="zw-about"><b>{rank}</b> <span class="zw-name" title="{escape(name)}">'
        f"{escape(Path(name).name)}</span>{_by(hit)}{moved}</div>{words}{copies}"
        f'<div class="zw-do">{verdicts}<button type="button" data-like '
        f'aria-label="More like moment {rank}" title="M">More like this</button></div></li>'
    )


def _by(hit: Hit) -> str:
    return "" if hit.by == SEEN else f'<span class="zw-by">{BY[hit.by]}</span>'


def _moved(rank: int, before: int) -> str:
    """Return where a moment stood before the wall was ranked otherwise."""
    if before == rank:
        return ""
    was = f"was {before}" if before else "new"
    up = before == 0 or rank < before
    arrow, style = ("▲", "up") if up else ("▼", "down")
    return f'<span class="zw-moved {style}">{arrow} {was}</span>'


def _true(value: bool) -> str:
    return "true" if value else "false"
