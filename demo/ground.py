"""The Ground tab: a video, sentences, and the moments that they describe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from zsvg.grounding.editors import TIMELINES

from .asking import (
    ask,
    cut_out,
    forget,
    open_sample,
    open_video,
    reopen,
    write_files,
    write_timelines,
)
from .asking import shown as put
from .previews import Clip, thumbnails
from .runs import converting, refusals, told
from .samples import SAMPLES
from .timeline import Answer, answer_lanes, cards, component, timeline
from .visit import Site, Visit

PLAYER = "ground-player"
MICRO_EXAMPLE = "a red star spins\na blue star leaves"
EXAMPLE = "a person opens the fridge\na dog runs to the door"
PROGRESS = gr.Progress()
FILES = ("srt", "vtt", "json", *TIMELINES)
PICTURES = 40  # on cards; decoding more takes longer than answering


def ground_tab(site: Site, visit: gr.State, page: gr.Blocks, arriving: gr.Textbox) -> None:
    """Lay out the tab inside a `gr.Tab`.

    Args:
        site: The page.
        visit: The visitor's state.
        page: The whole page.
        arriving: Changes when another tab has opened a video here.
    """
    limits = site.limits
    with gr.Row(elem_classes="stage"):
        with gr.Column(scale=7, min_width=320):
            video = gr.Video(
                label="Video", sources=["upload"], elem_id=PLAYER, height=380, buttons=[]
            )
            lanes = component("ground-timeline")
        with gr.Column(scale=5, min_width=320):
            sample = gr.Radio(
                list(SAMPLES), label="Upload a video, or take a sample", elem_classes="chips"
            )
            sentences = gr.Textbox(
                label="What happens in the moments you look for? One sentence per line.",
                placeholder=MICRO_EXAMPLE if site.first.backbone.name == "micro" else EXAMPLE,
                lines=3,
                max_lines=limits.sentences,
                elem_id="ground-sentences",
            )
            with gr.Row(elem_classes="ask"):
                top_k = gr.Slider(1, limits.answers, value=3, step=1, label="Most answers")
                button = gr.Button(
                    "Find the moments",
                    variant="primary",
                    size="md",
                    min_width=90,
                    elem_id="ground-ask",
                )
            said = gr.HTML("", elem_id="ground-said", apply_default_css=False)
            refusals()
            found = component("ground-cards")
            with gr.Row(elem_classes="files", elem_id="ground-files"):
                files = [gr.DownloadButton(f".{kind}", size="sm", visible=False) for kind in FILES]
                clip = gr.DownloadButton("clip", size="sm", visible=False, elem_id="ground-clip")

    playing = gr.Textbox("", visible="hidden")  # what is in the player

    def nothing() -> list[Any]:
        """Return empty cards, and no files."""
        return ["", *(gr.DownloadButton(visible=False) for _ in (*FILES, "clip"))]

    def opened(clip: Clip) -> list[Any]:
        return [timeline(clip, PLAYER, ()), told([facts(clip), clip.note]), *nothing()]

    def upload(file: str | None, visit: Visit) -> tuple[Any, ...]:
        clip = open_video(site, visit, file)
        return None, str(clip.path) if clip.plays else "", *opened(clip), visit

    def take_sample(name: str, visit: Visit) -> tuple[Any, ...]:
        clip, lines = open_sample(site, visit, name)
        return "\n".join(lines), "", *opened(clip), visit

    def look(playing: str, visit: Visit, progress: Any = PROGRESS) -> tuple[Any, ...]:
        """Put the video into the player, where it is not there already."""
        clip = visit.clip
        if clip is None or (clip.plays and playing == str(clip.path)):
            return gr.skip(), gr.skip(), gr.skip()
        shown = put(site, visit, clip, converting(progress))
        if str(shown.path) == playing:
            return gr.skip(), gr.skip(), gr.skip()
        lines = summary(clip, visit.answers) if visit.answers else [facts(clip)]
        return gr.Video(value=str(shown.path)), told([*lines, shown.note]), str(shown.path)

    def clear(visit: Visit) -> tuple[Any, ...]:
        forget(site, visit)
        return None, "", "", "", *nothing(), visit

    def arrive(visit: Visit) -> tuple[Any, ...]:
        """Return what a browser gets that comes back: its video, and the last answers."""
        clip = reopen(site, visit)
        if clip is None:
            return tuple(gr.skip() for _ in (sentences, *results))
        lines = dict.fromkeys(answer.grounding.query for answer in visit.answers)
        rest = answered(clip, visit) if visit.answers or visit.found else (*opened(clip), visit)
        return "\n".join(lines), *rest

    def ground(text: str, top_k: float, visit: Visit) -> tuple[Any, ...]:
        ask(site, visit, text, int(top_k))
        clip = visit.clip
        if clip is None:  # cleared meanwhile, in the same tab
            return clear(visit)[2:]
        return answered(clip, visit)

    def answered(clip: Clip, visit: Visit) -> tuple[Any, ...]:
        answers = visit.answers
        lanes = timeline(
            clip, PLAYER, [*([visit.found] if visit.found else []), *answer_lanes(answers)]
        )
        if not answers:  # of a moment that was found without a sentence
            return lanes, told([facts(clip), clip.note]), *nothing(), visit
        written = [*write_files(site, visit), *write_timelines(site, visit)]
        return (
            lanes,
            told([*summary(clip, answers), clip.note]),
            cards(PLAYER, clip.aspect, answers, pictures(clip, answers)),
            *(gr.DownloadButton(value=str(file), visible=True) for file in written),
            *(gr.DownloadButton(visible=False) for _ in (*FILES[len(written) :], "clip")),
            visit,
        )

    def cut_clicked(event: gr.EventData, visit: Visit) -> Any:
        file = cut_out(site, visit, int(event.answer), int(event.rank))
        return gr.DownloadButton(f"Download {file.name}", value=str(file), visible=True)

    results = [lanes, said, found, *files, clip, visit]
    heavy: dict[str, Any] = {
        "concurrency_id": "heavy",
        "show_progress_on": said,
        "api_visibility": "private",
    }
    polite = site.polite

    def then_look(event: Any) -> None:
        event.success(polite(look), [playing, visit], [video, said, playing], **heavy)

    then_look(video.upload(polite(upload), [video, visit], [sample, playing, *results], **heavy))
    video.clear(polite(clear), visit, [sample, playing, *results], **heavy)
    then_look(
        sample.input(polite(take_sample), [sample, visit], [sentences, playing, *results], **heavy)
    )
    asked = gr.on(
        [button.click, sentences.submit],
        polite(ground),
        [sentences, top_k, visit],
        results,
        **heavy,
    )
    then_look(asked)
    then_look(page.load(polite(arrive), visit, [sentences, *results], **heavy))
    # What is in the player is another video, also where its name is the same.
    then_look(
        arriving.change(
            polite(lambda visit: (*arrive(visit), None, "")),
            visit,
            [sentences, *results, sample, playing],
            **heavy,
        )
    )
    found.cut(polite(cut_clicked), visit, clip, **heavy)


def pictures(clip: Clip, answers: Sequence[Answer]) -> dict[tuple[int, int], str]:
    """Return a small picture from the middle of each moment, by answer and rank."""
    places = {
        (index, rank): 0.5 * (moment.start + moment.end)
        for index, answer in enumerate(answers)
        for rank, moment in enumerate(answer.grounding.moments)
    }
    chosen = dict(list(places.items())[:PICTURES])
    return dict(zip(chosen, thumbnails(clip.path, list(chosen.values())), strict=True))


def facts(clip: Clip) -> str:
    """Return length and size of a video, in a sentence."""
    info = clip.info
    return f"{clip.vid}: {info.duration:.1f} s, {info.width} x {info.height}."


def summary(clip: Clip, answers: Sequence[Answer]) -> list[str]:
    """Return what came out, in a sentence or two."""
    count = sum(len(answer.grounding.moments) for answer in answers)
    who = " and ".join(dict.fromkeys(answer.model for answer in answers))
    lines = [f"{count} moments in {clip.info.duration:.1f} s of {clip.vid}, found by {who}."]
    missing = sum(answer.absent for answer in answers)
    if missing:
        lines.append(f"{missing} of {len(answers)} answers: perhaps no such moment.")
    return lines
