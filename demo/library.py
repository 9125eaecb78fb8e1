"""The Library tab: one search box over all videos, and a wall of moments."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import gradio as gr

from zsvg import ZsvgError

from . import jobs
from .asking import models
from .heading import heading
from .indexing import begin as begin_indexing
from .learning import begin, can_rank_anew, counts, is_ours, judge, rank_anew, take, verdicts
from .runs import bar, buttons, enabled, refusals, told
from .searching import (
    BOTH,
    SAID,
    SEEN,
    Shown,
    Wanted,
    like,
    more,
    narrowed,
    open_hit,
    played,
    search,
    shelf_of,
    shown_of,
    thumbnails,
)
from .visit import Site, Visit
from .wall import component, wall

if TYPE_CHECKING:
    from zsvg.library.hits import By

DATES = [("Any date", 0), ("Last day", 1), ("Last week", 7), ("Last month", 31), ("Last year", 366)]
LENGTHS = [("Any length", 0), ("10 s or more", 10), ("1 min or more", 60), ("10 min or more", 600)]
HOW = [("Seen or said", BOTH), ("Seen", SEEN), ("Said", SAID)]
MICRO_EXAMPLE = "a red star spins"
EXAMPLE = "a person opens the fridge"
LEARNED = "Tuning on them takes about a minute; then the wall is ranked by what you mean."
LACKING = "Tuning needs a yes, too: no alone does not tell it what you mean."
ANEW = "Ranking anew takes what you said by this sentence, at once."
PAGES, YOURS = "the page's model", "yours, tuned here"


def library_tab(
    site: Site, visit: gr.State, page: gr.Blocks, tabs: gr.Tabs, head: gr.HTML, arriving: gr.Textbox
) -> None:
    """Lay out the tab inside a `gr.Tab`.

    Args:
        site: The page, which has a library.
        visit: The visitor's state.
        page: The whole page.
        tabs: All tabs: moments are opened in another one.
        head: Of the page, which names the models that answer.
        arriving: Changes when a video is opened in Ground.
    """
    shelf = shelf_of(site)
    micro = site.first.backbone.name == "micro"
    with gr.Row(elem_classes="ask", elem_id="library-ask"):
        text = gr.Textbox(
            label="What happens in the moments you look for?",
            placeholder=MICRO_EXAMPLE if micro else EXAMPLE,
            max_length=site.limits.characters,
            scale=8,
            elem_id="library-search",
        )
        button = gr.Button("Search", variant="primary", size="md", min_width=90, scale=1)
    with gr.Row(elem_id="library-filters"):
        filters: list[Any] = [
            gr.Dropdown(
                choices, value=choices[0][1], label=label, filterable=False, min_width=130,
                elem_id=f"library-{label.lower()}", visible=label != "How" or shelf.worded(),
            )
            for label, choices in (
                ("Folder", folders(site)), ("Changed", DATES), ("Length", LENGTHS), ("How", HOW)
            )
        ]  # fmt: skip
    if shelf.index:
        with gr.Accordion("Index a folder", open=False, elem_id="library-index"):
            with gr.Row():
                names = list(shelf.index)
                root = gr.Dropdown(
                    names, value=names[0], label="Folder of this page", filterable=False
                )
                below = gr.Textbox(label="Only this folder in it", placeholder="all of it")
            add, halt_index = buttons("index", "Index")
            far = gr.HTML("", elem_id="index-said", apply_default_css=False)
    refusals()
    said = gr.HTML(about(site), elem_id="library-said", apply_default_css=False)
    with gr.Row(elem_id="library-learn", visible=False) as learn:
        with gr.Column(scale=3, min_width=240):
            judged = gr.HTML("", elem_id="library-judged", apply_default_css=False)
        with gr.Column(scale=3, min_width=240):
            ranked = gr.Radio(
                [(PAGES.capitalize(), False), (YOURS.capitalize(), True)],
                value=False,
                label="Ranked by",
                visible=False,
                elem_id="library-ranked",
                elem_classes="chips",
            )
        anew = gr.Button(
            "Rank anew", size="md", min_width=110, scale=0, visible=False, elem_id="library-anew"
        )
        with gr.Column(scale=3, min_width=200):
            start, halt = buttons("library", "Tune on them")

    def play(asked: Any) -> dict[str, str]:
        return played(site, asked)

    place = component(play)
    clock = gr.Timer(1, active=False)

    def put(shown: Shown, visit: Visit) -> tuple[Any, ...]:
        """Return moments as the wall, what is said of them, and how more can be learned."""
        moments = wall(shown, thumbnails(site, shown.hits), verdicts(visit, shown))
        return told([summary(shown)]), moments, *panel(visit), visit

    def find(text: str, *given: Any) -> tuple[Any, ...]:
        *filters, visit = given
        return put(search(site, visit, wanted(text, *filters)), visit)

    def narrow(text: str, *given: Any) -> tuple[Any, ...]:
        """Look for the same, by other filters."""
        *filters, visit = given
        if visit.shown is None and not text.strip():
            return gr.skip(), gr.skip(), *panel(visit), visit
        asked = wanted(text, *filters)
        if visit.shown is not None:
            asked = narrowed(visit.shown.wanted, asked)
        return put(search(site, visit, asked), visit)

    def alike(event: gr.EventData, visit: Visit) -> tuple[Any, ...]:
        return put(like(site, visit, *moment_of(event, visit)), visit)

    def further(event: gr.EventData, visit: Visit) -> tuple[Any, ...]:
        return put(more(site, visit, wall_of(event, visit)), visit)

    def take_verdict(event: gr.EventData, visit: Visit) -> tuple[Any, ...]:
        judge(visit, *moment_of(event, visit), str(said_by(event, "verdict")))
        return *panel(visit), visit

    def again(visit: Visit) -> Any:
        """Return the wall with what was said of it: a browser shows a verdict before it counts."""
        if visit.shown is None:
            return gr.skip()
        _, moments, *_ = put(visit.shown, visit)
        return moments

    def open_moment(event: gr.EventData, visit: Visit) -> tuple[Any, ...]:
        open_hit(site, visit, *moment_of(event, visit))
        return gr.Tabs(selected="ground"), str(time.monotonic_ns()), visit

    def panel(visit: Visit) -> tuple[Any, ...]:
        """Return what was judged, how far the run is, and which buttons work."""
        yes, no = counts(visit)
        offered = can_rank_anew(site, visit)
        run = visit.tuning if is_ours(visit.tuning) else None
        words = f"<p><b>{yes}</b> yes and <b>{no}</b> no.</p>"
        if run is None or run.look().state == "done":
            words += f'<p class="quiet">{ANEW if offered else ""} {LEARNED if yes else LACKING}</p>'
        else:
            words += bar(site, run, "Tune on them")
        row, button = gr.Row(visible=bool(yes or no or run)), gr.Button(visible=offered)
        return row, words, button, *enabled(visit.tuning)

    def follow(visit: Visit) -> tuple[Any, ...]:
        """Put the wall in the order that follows what was said of its moments."""
        return put(rank_anew(site, visit), visit)

    def start_run(visit: Visit) -> tuple[Any, ...]:
        begin(site, visit)
        return *panel(visit), gr.Timer(active=True), visit

    def stop_run(visit: Visit) -> tuple[Any, ...]:
        if is_ours(visit.tuning):  # not one of the Tune tab
            jobs.stop(visit.tuning)
        return panel(visit)

    def state(visit: Visit) -> tuple[Any, ...]:
        """Return how far the runs are; what has just been tuned ranks the wall."""
        tuned = not is_ours(visit.tuning) or jobs.over(visit.tuning)
        indexed = jobs.over(visit.indexing)
        if take(site, visit) and visit.shown is not None:  # which knows what was said
            found = put(search(site, visit, visit.shown.wanted.plain), visit)
        else:
            found = (gr.skip(), gr.skip(), *panel(visit), visit)
        clock = gr.Timer(active=not (tuned and indexed))
        return *found, *who(visit), clock, *index_panel(visit)

    def how(**more: Any) -> gr.Dropdown:
        """Return the choice of seen or said, which is none where nothing is said."""
        return gr.Dropdown(visible=shelf.worded(), **more)

    def tick(visit: Visit) -> tuple[Any, ...]:
        added = visit.indexing is not None and visit.indexing.over
        fields = (gr.Dropdown(choices=folders(site)), how()) if added else (gr.skip(), gr.skip())
        return *fields, *state(visit)

    def who(visit: Visit) -> tuple[Any, ...]:
        """Return which model ranks, and which ones answer on this page."""
        ranks = gr.Radio(value=visit.by_learned, visible=visit.learned is not None)
        return ranks, heading(models(site, visit))

    def rank_by(own: bool, visit: Visit) -> tuple[Any, ...]:
        visit.by_learned = own and visit.learned is not None
        return put(search(site, visit, shown_of(visit).wanted), visit)

    def index_panel(visit: Visit) -> tuple[Any, ...]:
        if not shelf.index:
            return ()
        return bar(site, visit.indexing, "Index"), *enabled(visit.indexing)

    def start_index(root: str, below: str, visit: Visit) -> tuple[Any, ...]:
        begin_indexing(site, visit, root, below)
        return *index_panel(visit), gr.Timer(active=True), visit

    def stop_index(visit: Visit) -> tuple[Any, ...]:
        jobs.stop(visit.indexing)
        return index_panel(visit)

    def arrive(visit: Visit) -> tuple[Any, ...]:
        """Return what a browser gets that comes back: what it looked for, and its runs."""
        shown = visit.shown
        found = state(visit)
        choices: dict[str, Any] = {"choices": folders(site)}
        if shown is None or visit.shown is None:  # what is looked for meanwhile stays
            fields = (gr.skip(), gr.Dropdown(**choices), gr.skip(), gr.skip(), how())
        else:
            asked = visit.shown.wanted
            folder = gr.Dropdown(value=asked.folder, **choices)
            fields = (asked.text, folder, asked.days, asked.length, how(value=asked.by))
            there = put(visit.shown, visit)
            found = (*there, *found[len(there) :])
        return *fields, *found

    polite = site.polite
    hidden: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    heavy = {"api_visibility": "private", "concurrency_id": "heavy", "show_progress_on": said}
    learning = [learn, judged, anew, start, halt]
    results = [said, place, *learning, visit]
    indexing = [far, add, halt_index] if shelf.index else []
    watched = [*results, ranked, head, clock, *indexing]
    given = [text, *filters, visit]
    # What is asked before the answer is there counts too, and the last of it stays.
    last = {**heavy, "trigger_mode": "always_last"}
    gr.on([button.click, text.submit], polite(find), given, results, **last)
    gr.on([one.input for one in filters], polite(narrow), given, results, **last)
    place.like(polite(alike), visit, results, **heavy)
    place.more(polite(further), visit, results, **heavy)
    # Presses may be faster than the answers: each counts, one after another.
    each = {**hidden, "trigger_mode": "multiple", "concurrency_id": "judge", "concurrency_limit": 1}
    pressed = place.judge(polite(take_verdict), visit, [*learning, visit], **each)
    pressed.failure(polite(again), visit, place, **hidden)
    anew.click(polite(follow), visit, results, **heavy)
    place.open(polite(open_moment), visit, [tabs, arriving, visit], **heavy)
    start.click(polite(start_run), visit, [*learning, clock, visit], **hidden)
    halt.click(polite(stop_run), visit, learning, **hidden)
    ranked.input(polite(rank_by), [ranked, visit], results, **heavy)
    clock.tick(polite(tick), visit, [filters[0], filters[-1], *watched], **hidden)
    page.load(polite(arrive), visit, [text, *filters, *watched], **hidden)
    if shelf.index:
        add.click(polite(start_index), [root, below, visit], [*indexing, clock, visit], **hidden)
        halt_index.click(polite(stop_index), visit, indexing, **hidden)


def said_by(event: gr.EventData, name: str) -> Any:
    """Return one thing that a browser says; None where it does not."""
    try:
        return getattr(event, name)
    except (AttributeError, TypeError):  # the second where it says no names at all
        return None


def wall_of(event: gr.EventData, visit: Visit) -> Shown:
    """Return the wall that a browser has.

    Raises:
        ZsvgError: There is another one by now, as another window of the browser has searched.
    """
    shown = shown_of(visit)
    if said_by(event, "wall") != shown.token:
        raise ZsvgError("the wall has changed in another window; search again")
    return shown


def moment_of(event: gr.EventData, visit: Visit) -> tuple[Shown, int]:
    """Return the wall that a browser has, and the number of the moment on it that it means.

    Raises:
        ZsvgError: As of `wall_of`, or there is no such moment.
    """
    shown, number = wall_of(event, visit), said_by(event, "number")
    if not isinstance(number, int):
        raise ZsvgError("there is no such moment; search again")
    return shown, number


def wanted(text: str, folder: str, days: float, length: float, by: By) -> Wanted:
    """Return what a visitor looks for, by what the tab's fields hold."""
    return Wanted(text=text, folder=folder, days=float(days), length=float(length), by=by)


def folders(site: Site) -> list[tuple[str, str]]:
    """Return the choices of the list of folders."""
    return [("All folders", ""), *((name, name) for name in shelf_of(site).folders())]


def about(site: Site) -> str:
    """Return how much there is to search."""
    videos = shelf_of(site).videos().values()
    hours = sum(video.duration for video in videos) / 3600
    length = f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes"
    return told([f"{len(videos)} videos, {length}. Write a sentence, and press Enter."])


def summary(shown: Shown) -> str:
    """Return what was found, in a sentence."""
    videos = len({hit.video.key for hit in shown.hits})
    what = f"“{shown.wanted.text}”" if shown.wanted.text else f"like {shown.wanted.name}"
    ranks = f", ranked by {YOURS}" if shown.learned else ""
    yes, no = len(shown.wanted.yes), len(shown.wanted.no)
    moved = f", ranked anew by {yes} yes and {no} no" if yes or no else ""
    return f"{len(shown.hits)} moments in {videos} videos, {what}{ranks}{moved}."
