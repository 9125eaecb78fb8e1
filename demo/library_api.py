"""The named endpoints of the Library tab, on pages that have a library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from . import indexing, learning, searching
from .api import adding, describe, number, text
from .jobs import stop
from .runs import facts
from .searching import Wanted
from .visit import Site, Visit

if TYPE_CHECKING:
    from zsvg.library.hits import By


def library_endpoints(site: Site, visit: gr.State) -> None:
    """Add the endpoints to a `gr.Blocks`; none of their components is seen."""
    add = adding(site, visit)

    def library_search(
        sentence: str,
        folder: str,
        days: float,
        length: float,
        by: By,
        most: float,
        visit: Visit,
    ) -> list[Any]:
        """Search the library; returns moments, by the tuned model once there is one."""
        learning.take(site, visit)
        wanted = Wanted(
            text=sentence, folder=folder, days=days, length=length, by=by or searching.BOTH
        )
        return searching.to_json(searching.search(site, visit, wanted, int(most)))

    def library_like(moment: float, visit: Visit) -> list[Any]:
        """Search for moments that look like one of the last answer, by its number from 0."""
        return searching.to_json(
            searching.like(site, visit, searching.shown_of(visit), int(moment))
        )

    def library_open(moment: float, visit: Visit) -> Mapping[str, Any]:
        """Make the video of a moment the session's video; returns what is known about it."""
        searching.open_hit(site, visit, searching.shown_of(visit), int(moment))
        if visit.clip is None:  # taken away meanwhile, in the same session
            return {}
        return describe(visit.clip)

    def library_judge(moment: float, verdict: str, visit: Visit) -> Mapping[str, int]:
        """Say yes or no to a moment, or nothing; returns how many have which verdict."""
        learning.judge(visit, searching.shown_of(visit), int(moment), verdict)
        yes, no = learning.counts(visit)
        return {"yes": yes, "no": no}

    def library_learn(visit: Visit) -> Mapping[str, Any]:
        """Begin to tune on the verdicts; /tune_progress says how far it is. Returns the state."""
        learning.begin(site, visit)
        return facts(visit.tuning)

    def library_index(folder: str, below: str, visit: Visit) -> Mapping[str, Any]:
        """Begin to index a folder of the page, or one below it; returns the state."""
        indexing.begin(site, visit, folder, below)
        return facts(visit.indexing)

    def library_index_progress(visit: Visit) -> Mapping[str, Any]:
        """Return the state of the indexing run."""
        return facts(visit.indexing)

    def library_index_stop(visit: Visit) -> Mapping[str, Any]:
        """Stop the indexing run; the same call continues it. Returns the state."""
        stop(visit.indexing)
        return facts(visit.indexing)

    filters = [text("folder"), number("days"), number("length"), text("by")]
    most = number("most", searching.PAGE)
    add(library_search, [text("sentence"), *filters, most], heavy=True)
    add(library_like, [number("moment")], heavy=True)
    add(library_open, [number("moment")], heavy=True)
    add(library_judge, [number("moment"), text("verdict")])
    add(library_learn)
    add(library_index, [text("folder"), text("below")])
    add(library_index_progress)
    add(library_index_stop)
