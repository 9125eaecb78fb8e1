"""The Label tab: pseudo labels of a folder of videos, to be accepted, fixed or rejected."""

from __future__ import annotations

from typing import Any

import gradio as gr

from . import jobs
from .label_view import choices, label_lanes, names, similarity, tally
from .labelling import FOLDER, SAMPLES, UPLOADS, begin, bench_of, export, finish, sources
from .previews import Clip, open_clip
from .runs import bar, buttons, enabled
from .timeline import component, timeline
from .visit import Site, Visit, short

PLAYER = "label-player"
WORDS = {SAMPLES: "Samples", FOLDER: "The folder of this page", UPLOADS: "My uploads"}


def label_tab(site: Site, visit: gr.State) -> None:
    """Lay out the tab inside a `gr.Tab`."""
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
            said = gr.HTML("", elem_id="label-said", apply_default_css=False)
    clock = gr.Timer(1, active=False)
    with gr.Row(elem_classes="stage", visible=False) as work:
        with gr.Column(scale=7, min_width=320):
            vid = gr.Dropdown([], label="Video", elem_id="label-video", filterable=False)
            player = gr.Video(
                label="Video", elem_id=PLAYER, height=340, interactive=False, buttons=[]
            )
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
            tallied = gr.HTML("", elem_id="label-tally", apply_default_css=False)
            exported = gr.DownloadButton("Export JSONL", size="sm", elem_id="label-export")
            with gr.Accordion("How alike the moments of the video are", open=True):
                figure = gr.HTML("", apply_default_css=False, elem_id="label-figure")

    def start_run(source: str, files: list[str] | None, visit: Visit) -> tuple[Any, ...]:
        begin(site, visit, source, files)
        return *follow(visit), gr.Timer(active=True), visit

    def follow(visit: Visit) -> tuple[Any, ...]:
        """Return how far the run is, and which buttons work."""
        return bar(site, visit.labelling, "Write labels"), *enabled(visit.labelling)

    def tick(visit: Visit) -> tuple[Any, ...]:
        timer = gr.Timer(active=not jobs.over(visit.labelling))  # before its labels are taken
        rest = show(visit) if finish(site, visit) else tuple(gr.skip() for _ in shown)
        return *follow(visit), timer, *rest

    def halt(visit: Visit) -> tuple[Any, ...]:
        jobs.stop(visit.labelling)
        return follow(visit)

    def clip_of(visit: Visit) -> Clip:
        bench = bench_of(visit)
        if bench.vid not in visit.clips:
            file = bench.videos[bench.vid]
            visit.clips[bench.vid] = open_clip(file, site.home(visit) / "shown", site.limits)
        return visit.clips[bench.vid]

    def show(visit: Visit) -> tuple[Any, ...]:
        """Return everything that shows the present video and its labels."""
        return (
            gr.Row(visible=True),
            gr.Video(value=str(clip_of(visit).shown)),
            *detail(visit),
        )

    def detail(visit: Visit) -> tuple[Any, ...]:
        """Return what shows the present label, and the others around it."""
        bench, clip = bench_of(visit), clip_of(visit)
        entry = bench.entry
        start, end = entry.window if entry else (0.0, 0.0)
        return (
            gr.Dropdown(choices=names(bench), value=bench.vid),
            timeline(clip, PLAYER, label_lanes(site, bench, clip)),
            gr.Radio(choices=choices(bench), value=bench.number),
            entry.label.query if entry else "",
            round(start, 2),
            round(end, 2),
            gr.DownloadButton(value=str(export(site, visit))),
            similarity(site, bench, clip),
            tally(bench),
        )

    def turn_to(vid: str, visit: Visit) -> tuple[Any, ...]:
        bench_of(visit).show(vid)
        return show(visit)

    def pick(number: float, visit: Visit) -> tuple[Any, ...]:
        bench_of(visit).pick(int(number))
        return detail(visit)

    def clicked(event: gr.EventData, visit: Visit) -> tuple[Any, ...]:
        return pick(event.number, visit)

    def moved(event: gr.EventData) -> tuple[Any, ...]:
        return round(float(event.start), 2), round(float(event.end), 2)

    def take(query: str, start: float, end: float, visit: Visit) -> tuple[Any, ...]:
        bench_of(visit).accept(query, start or 0.0, end or 0.0)
        return detail(visit)

    def drop(visit: Visit) -> tuple[Any, ...]:
        bench_of(visit).reject()
        return detail(visit)

    polite, watched = site.polite, [said, start, stop]
    about = [vid, lanes, chosen, query, first, last, exported, figure, tallied]
    shown = [work, player, *about]
    hidden: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    source.input(lambda name: gr.File(visible=name == UPLOADS), source, uploads, **hidden)
    start.click(polite(start_run), [source, uploads, visit], [*watched, clock, visit], **hidden)
    stop.click(polite(halt), visit, watched, **hidden)
    clock.tick(polite(tick), visit, [*watched, clock, *shown], queue=False, **hidden)
    quick: dict[str, Any] = {**hidden, "concurrency_limit": 4}
    vid.input(polite(turn_to), [vid, visit], shown, **quick)
    chosen.input(polite(pick), [chosen, visit], about, **quick)
    lanes.pick(polite(clicked), visit, about, **quick)
    lanes.ends(polite(moved), None, [first, last], **quick)
    accept.click(polite(take), [query, first, last, visit], about, **quick)
    reject.click(polite(drop), visit, about, **quick)


def about_models(backbone: str, captioner: str) -> str:
    """Return who writes the labels, and what is left to the visitor."""
    who, words = short(backbone), short(captioner)
    writer = "" if who == words else f"{words} "
    return f"{who} finds events and {writer}puts them into words. You accept, fix or reject them."
