"""The Label tab: pseudo labels of a folder of videos, to be accepted, fixed or rejected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from zsvg import ZsvgError
from zsvg.errors import VideoError

from . import jobs
from .bench import Bench
from .label_view import choices, label_lanes, moments_of, names, similarity, tally
from .labelling import (
    FOLDER,
    LIBRARY,
    SAMPLES,
    UPLOADS,
    begin,
    bench_of,
    choose,
    export,
    finish,
    keep_work,
    sources,
    take_export,
)
from .previews import Clip, open_clip, show
from .runs import bar, buttons, converting, enabled, refusals, told
from .timeline import component, timeline
from .visit import Site, Visit, short

PLAYER = "label-player"
PROGRESS = gr.Progress()
PLAYER_TIME = f"""(_, visit) => [
  document.querySelector("#{PLAYER} video")?.currentTime ?? 0, visit]"""
WORDS = {
    LIBRARY: "Judged in the library",
    SAMPLES: "Samples",
    FOLDER: "The folder of this page",
    UPLOADS: "My uploads",
}


def label_tab(site: Site, visit: gr.State, page: gr.Blocks) -> None:
    """Lay out the tab inside a `gr.Tab` of a page."""
    if site.captioner is None:
        gr.Markdown(
            "Nobody here can put events into words. Whoever runs this page can name a captioner: "
            "`zsvg demo --captioner Salesforce/blip-image-captioning-base ...`"
        )
        return
    given = sources(site)
    with gr.Row(elem_classes="stage"):
        with gr.Column(scale=7, min_width=320):
            source = gr.Radio(
                [(WORDS[name], name) for name in given],
                value=given[-2],
                label="Which videos?",
                info=about_models(site.first.backbone.name, site.captioner),
                elem_classes="chips",
            )
            uploads = gr.File(
                label="Videos",
                file_count="multiple",
                visible=False,
                height=140,
                elem_id="label-uploads",
            )
        with gr.Column(scale=5, min_width=320):
            start, stop = buttons("label", "Write labels")
            take_file = gr.UploadButton(
                "Import JSONL", size="sm", file_types=[".jsonl"], elem_id="label-import"
            )
            said = gr.HTML("", elem_id="label-said", apply_default_css=False)
            refusals()
    clock = gr.Timer(1, active=False)
    with gr.Row(elem_classes="stage", visible=False) as work:
        with gr.Column(scale=7, min_width=320):
            vid = gr.Dropdown([], label="Video", elem_id="label-video", filterable=False)
            player = gr.Video(
                label="Video", elem_id=PLAYER, height=340, interactive=False, buttons=[]
            )
            note = gr.HTML("", elem_id="label-note", apply_default_css=False)
            lanes = component("label-timeline")
        with gr.Column(scale=5, min_width=320):
            chosen = gr.Radio([], label="Labels", elem_id="label-list", elem_classes="list")
            query = gr.Textbox(label="Sentence", max_length=300, elem_id="label-sentence")
            with gr.Row(elem_classes="pair"):
                first, last = (
                    gr.Number(label=f"{edge} (s)", minimum=0, step=0.1, elem_id=f"label-{place}")
                    for edge, place in (("Start", "first"), ("End", "last"))
                )
            with gr.Row(elem_classes="pair"):
                accept = gr.Button(
                    "Accept", variant="primary", size="md", min_width=90, elem_id="label-accept"
                )
                reject = gr.Button("Reject", size="md", min_width=90, elem_id="label-reject")
            with gr.Row(elem_classes="files"):
                following, undo, redo, add, split, merge = (
                    gr.Button(words, size="sm", elem_id=f"label-{words.lower()}")
                    for words in ("Next", "Undo", "Redo", "Add", "Split", "Merge")
                )
            tallied = gr.HTML("", elem_id="label-tally", apply_default_css=False)
            refusals()
            exported = gr.DownloadButton("Export JSONL", size="sm", elem_id="label-export")
            with gr.Accordion("How alike the moments of the video are", open=True):
                figure = gr.HTML("", apply_default_css=False, elem_id="label-figure")
    # What the browser shows when it asks: the server may have turned to another label meanwhile.
    facing = gr.Textbox("", visible="hidden")
    playing = gr.Textbox("", visible="hidden")
    # The player's time, which scripts put in.
    now = gr.Number(0, visible="hidden")

    def start_run(source: str, files: list[str] | None, visit: Visit) -> tuple[Any, ...]:
        begin(site, visit, source, files)
        return *follow(visit), gr.Timer(active=True), visit

    def follow(visit: Visit) -> tuple[Any, ...]:
        """Return how far the run is, and which buttons work."""
        return bar(site, visit.labelling, "Write labels"), *enabled(visit.labelling)

    def tick(visit: Visit) -> tuple[Any, ...]:
        over = jobs.over(visit.labelling)  # before its labels are taken
        finish(site, visit)
        rest = detail(visit) if over and visit.bench else skipped()
        return *follow(visit), gr.Timer(active=not over), *rest

    def halt(visit: Visit) -> tuple[Any, ...]:
        jobs.stop(visit.labelling)
        return follow(visit)

    def arrive(visit: Visit) -> tuple[Any, ...]:
        """Return what a browser gets that comes back: the work, and the run if there is one."""
        name = visit.source if visit.source in given else given[-2]
        rest = detail(visit) if visit.bench else skipped()
        timer = gr.Timer(active=not jobs.over(visit.labelling))
        return name, gr.File(visible=name == UPLOADS), *follow(visit), timer, *rest

    def turn_source(name: str, visit: Visit) -> tuple[Any, ...]:
        known = choose(site, visit, name)
        rest = detail(visit) if known else (gr.Row(visible=False), *skipped()[1:])
        return gr.File(visible=name == UPLOADS), *rest

    def import_file(file: str, name: str, visit: Visit) -> tuple[Any, ...]:
        return told([take_export(site, visit, name, file)]), *detail(visit)

    def clip_of(visit: Visit) -> Clip:
        bench = bench_of(visit)
        file = bench.videos[bench.vid]
        if file not in visit.clips:
            visit.clips[file] = open_clip(file, site.limits, bench.vid)
        return visit.clips[file]

    def skipped() -> tuple[Any, ...]:
        return tuple(gr.skip() for _ in about)

    def detail(visit: Visit) -> tuple[Any, ...]:
        """Return what shows the present label, and the others around it; save them all."""
        bench = bench_of(visit)
        keep_work(site, visit)
        try:
            clip = clip_of(visit)
            lanes = timeline(clip, PLAYER, label_lanes(site, visit, bench, clip))
            drawn = similarity(site, visit, bench, clip)
        except VideoError:  # of this one alone; `look` says why, and others can be turned to
            lanes = drawn = ""
        entry = bench.entry
        start, end = entry.window if entry else (0.0, 0.0)
        return (
            gr.Row(visible=True),
            gr.Dropdown(choices=names(bench), value=bench.vid),
            lanes,
            gr.Radio(choices=choices(bench), value=bench.number),
            entry.label.query if entry else "",
            round(start, 2),
            round(end, 2),
            gr.DownloadButton(value=str(export(site, visit))),
            drawn,
            tally(bench),
            str(entry.label.qid) if entry else "",
        )

    def look(playing: str, visit: Visit, progress: Any = PROGRESS) -> tuple[Any, ...]:
        """Put the present video into the player, where it is not there already."""
        if visit.bench is None:
            return gr.skip(), gr.skip(), gr.skip()
        try:
            clip = clip_of(visit)
            moments = moments_of(site, visit, visit.bench, clip) if clip.thinned else ()
            shown = show(clip, site.home(visit) / "shown", moments, converting(progress))
        except VideoError as error:
            return None, told([site.without_folders(str(error))]), ""
        if str(shown.path) == playing:
            return gr.skip(), gr.skip(), gr.skip()
        return gr.Video(value=str(shown.path)), told([shown.note]), str(shown.path)

    def turn_to(vid: str, visit: Visit) -> tuple[Any, ...]:
        bench_of(visit).show(vid)
        return detail(visit)

    def pick(number: float, visit: Visit) -> tuple[Any, ...]:
        bench_of(visit).pick(int(number))
        return detail(visit)

    def clicked(event: gr.EventData, visit: Visit) -> tuple[Any, ...]:
        return pick(event.number, visit)

    def moved(event: gr.EventData) -> tuple[Any, ...]:
        return round(float(event.start), 2), round(float(event.end), 2)

    def faced(facing: str, visit: Visit) -> Bench:
        """Return the labels, if the picked one is what the browser shows."""
        bench = bench_of(visit)
        entry = bench.entry
        if entry is not None and str(entry.label.qid) != facing:
            raise ZsvgError("another label was picked meanwhile; look at it, then decide")
        return bench

    def take(facing: str, query: str, start: float, end: float, visit: Visit) -> tuple[Any, ...]:
        faced(facing, visit).accept(query, start or 0.0, end or 0.0)
        return detail(visit)

    def drop(facing: str, visit: Visit) -> tuple[Any, ...]:
        faced(facing, visit).reject()
        return detail(visit)

    def change(do: Callable[[Bench, float, float], None]) -> Callable[..., tuple[Any, ...]]:
        """Return a handler that changes the labels at the time of the player."""

        def changed(now: float, visit: Visit) -> tuple[Any, ...]:
            do(bench_of(visit), float(now or 0.0), clip_of(visit).info.duration)
            return detail(visit)

        return changed

    polite, watched = site.polite, [said, start, stop]
    about = [work, vid, lanes, chosen, query, first, last, exported, figure, tallied, facing]
    hidden: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    quick: dict[str, Any] = {**hidden, "concurrency_limit": 4}
    slow: dict[str, Any] = {"api_visibility": "private", "show_progress_on": note}

    def then_look(event: Any) -> None:
        event.success(polite(look), [playing, visit], [player, note, playing], **slow)

    start.click(polite(start_run), [source, uploads, visit], [*watched, clock, visit], **hidden)
    stop.click(polite(halt), visit, watched, **hidden)
    then_look(clock.tick(polite(tick), visit, [*watched, clock, *about], queue=False, **hidden))
    then_look(page.load(polite(arrive), visit, [source, uploads, *watched, clock, *about], **quick))
    then_look(source.input(polite(turn_source), [source, visit], [uploads, *about], **quick))
    then_look(
        take_file.upload(polite(import_file), [take_file, source, visit], [said, *about], **hidden)
    )
    then_look(vid.input(polite(turn_to), [vid, visit], about, **quick))
    chosen.input(polite(pick), [chosen, visit], about, **quick)
    lanes.pick(polite(clicked), visit, about, **quick)
    lanes.ends(polite(moved), None, [first, last], **quick)
    taken = [facing, query, first, last, visit]
    accepted = [accept.click, query.submit]
    then_look(gr.on(accepted, polite(take), taken, about, trigger_mode="once", **quick))
    then_look(reject.click(polite(drop), [facing, visit], about, **quick))
    # Presses that are faster than the answers: each of undo and redo counts, one after another.
    each = {**quick, "trigger_mode": "multiple", "concurrency_id": "undo", "concurrency_limit": 1}
    for button, do, how in (
        (following, lambda bench, *_: bench.next(), quick),
        (undo, lambda bench, *_: bench.undo(), each),
        (redo, lambda bench, *_: bench.redo(), each),
        (add, lambda bench, at, duration: bench.add(at, duration), quick),
        (split, lambda bench, at, _: bench.split(at), quick),
        (merge, lambda bench, *_: bench.merge(), quick),
    ):
        then_look(button.click(polite(change(do)), [now, visit], about, js=PLAYER_TIME, **how))


def about_models(backbone: str, captioner: str) -> str:
    """Return who writes the labels, and what is left to the visitor."""
    who, words = short(backbone), short(captioner)
    writer = "" if who == words else f"{words} "
    return f"{who} finds events and {writer}puts them into words. You accept, fix or reject them."
