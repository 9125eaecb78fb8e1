"""The named endpoints of the page: the same work as behind its tabs, as data.

Everything that one client does belongs to its own session, like a visitor's tab:

    from gradio_client import Client, handle_file

    page = Client("http://127.0.0.1:7860")
    page.predict(handle_file("cam1.mp4"), api_name="/open")
    answers, *files = page.predict("a person opens the fridge", 3, api_name="/ground")

`/label` and `/tune` begin a run and return at once; `/label_progress` and `/tune_progress` say how
far it is. A run that nobody asks about for three minutes is stopped; the same call continues it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gradio as gr

from . import asking, labelling, tuning
from .jobs import stop
from .previews import Clip
from .runs import facts
from .samples import SAMPLES
from .visit import Site, Visit

Add = Callable[..., None]
HIDDEN: dict[str, Any] = {"visible": False}


def adding(site: Site, visit: gr.State) -> Add:
    """Return what adds an endpoint to a `gr.Blocks`: its function, inputs and outputs.

    The last argument of the function is the visit, its first line documents it.
    """
    data = gr.JSON(**HIDDEN)

    def add(
        function: Callable[..., Any],
        inputs: Sequence[gr.components.Component] = (),
        outputs: gr.components.Component | Sequence[gr.components.Component] = data,
        *,
        heavy: bool = False,
    ) -> None:
        described = (function.__doc__ or "").splitlines()[0]
        results = outputs if isinstance(outputs, Sequence) else [outputs]

        @functools.wraps(function)  # clients see its parameters by name
        def call(*given: Any) -> Any:
            result = site.polite(function)(*given)
            return (*result, given[-1]) if isinstance(result, tuple) else (result, given[-1])

        gr.Button(visible=False).click(
            call,
            [*inputs, visit],
            [*results, visit],
            api_name=function.__name__,
            api_description=described,
            concurrency_id="heavy" if heavy else None,
        )

    return add


def text(label: str) -> gr.Textbox:
    """Return an input of an endpoint: a text."""
    return gr.Textbox(label=label, **HIDDEN)


def number(label: str, value: float = 0) -> gr.Number:
    """Return an input of an endpoint: a number."""
    return gr.Number(label=label, value=value, **HIDDEN)


def endpoints(site: Site, visit: gr.State) -> None:
    """Add the endpoints of Ground, Label and Tune; none of their components is seen."""
    add, hidden = adding(site, visit), HIDDEN
    data, file = gr.JSON(**hidden), gr.File(**hidden)

    def open(video: str | None, visit: Visit) -> Mapping[str, Any]:
        """Make a file the session's video; returns its name, seconds and size in pixels."""
        return describe(asking.open_video(site, visit, video))

    def sample(name: str, visit: Visit) -> Mapping[str, Any]:
        """Make a sample (paper, night or fabric) the session's video; also returns sentences."""
        clip, sentences = asking.open_sample(site, visit, name)
        return {**describe(clip), "sentences": sentences}

    def ground(sentences: str, answers: float, visit: Visit) -> tuple[Any, ...]:
        """Answer sentences, one per line; returns the answers, and .srt, .vtt and .json files."""
        asking.ask(site, visit, sentences, int(answers))
        files = [str(file) for file in asking.write_files(site, visit)]
        return asking.to_json(visit), *files

    def clip(answer: float, rank: float, visit: Visit) -> str:
        """Cut out a moment of the last answers, both numbers from 0; returns an mp4 file."""
        return str(asking.cut_out(site, visit, int(answer), int(rank)))

    def label(source: str, videos: list[str] | None, visit: Visit) -> Mapping[str, Any]:
        """Begin to label videos of a source: samples, folder, or uploads; returns the state."""
        labelling.begin(site, visit, source, videos)
        return facts(visit.labelling)

    def label_progress(visit: Visit) -> Mapping[str, Any]:
        """Return the state of the labelling run, and the names of the videos once it is done."""
        labelling.finish(site, visit)
        videos = sorted(visit.bench.videos) if visit.bench else []
        return {**facts(visit.labelling), "videos": videos}

    def label_stop(visit: Visit) -> Mapping[str, Any]:
        """Stop the labelling run; returns the state."""
        stop(visit.labelling)
        return facts(visit.labelling)

    def labels(video: str, visit: Visit) -> list[Any]:
        """Turn to a video; returns its labels, one of them picked."""
        bench = labelling.bench_of(visit)
        bench.show(video)
        return bench.to_json()

    def label_pick(number: float, visit: Visit) -> list[Any]:
        """Pick a label of the video by its number; returns all of them."""
        bench = labelling.bench_of(visit)
        bench.pick(int(number))
        return bench.to_json()

    def label_accept(sentence: str, start: float, end: float, visit: Visit) -> list[Any]:
        """Accept the picked label with these words and seconds, and pick the next; returns all."""
        bench = labelling.bench_of(visit)
        bench.accept(sentence, start, end)
        return bench.to_json()

    def label_reject(visit: Visit) -> list[Any]:
        """Reject the picked label, and pick the next; returns all."""
        bench = labelling.bench_of(visit)
        bench.reject()
        return bench.to_json()

    def label_export(visit: Visit) -> str:
        """Return all labels but the rejected ones as a JSONL file."""
        return str(labelling.export(site, visit))

    def tune(
        recipe: str, head: str, steps: float, which: str, true_weight: float, visit: Visit
    ) -> Mapping[str, Any]:
        """Begin to tune on the labels, all or true; head may be empty. Returns the state."""
        tuning.begin(
            site,
            visit,
            recipe=recipe,
            head=head,
            steps=int(steps),
            which=which,
            true_weight=float(true_weight),
        )
        return facts(visit.tuning)

    def tune_progress(visit: Visit) -> Mapping[str, Any]:
        """Return the state of the tuning run, its last loss, and its validations."""
        job = visit.tuning
        return {**facts(job), "validation": tuning.history(job)[1] if job else []}

    def tune_stop(visit: Visit) -> Mapping[str, Any]:
        """Stop the tuning run; `/tune` with equal settings continues it. Returns the state."""
        stop(visit.tuning)
        return facts(visit.tuning)

    def tune_use(visit: Visit) -> tuple[str]:
        """Let `/ground` ask the tuned model too; returns the model folder as a zip file."""
        tuning.take(site, visit)
        return (str(tuning.packed(visit)),)

    one_file = [gr.File(**hidden) for _ in range(3)]
    add(open, [gr.Video(label="video", **hidden)], heavy=True)
    add(sample, [gr.Radio(list(SAMPLES), label="name", **hidden)], heavy=True)
    add(ground, [text("sentences"), number("answers", 3)], [data, *one_file], heavy=True)
    add(clip, [number("answer"), number("rank")], file, heavy=True)
    add(label, [text("source"), gr.File(label="videos", file_count="multiple", **hidden)])
    add(label_progress)
    add(label_stop)
    add(labels, [text("video")])
    add(label_pick, [number("number", 1)])
    add(label_accept, [text("sentence"), number("start"), number("end")])
    add(label_reject)
    add(label_export, outputs=file)
    settings = [text("recipe"), text("head"), number("steps", 200), text("which")]
    add(tune, [*settings, number("true_weight", 1)])
    add(tune_progress)
    add(tune_stop)
    add(tune_use, outputs=file)


def describe(clip: Clip) -> dict[str, Any]:
    """Return what is known about a video."""
    info = clip.info
    return {
        "video": clip.vid,
        "duration": round(info.duration, 3),
        "width": info.width,
        "height": info.height,
        "note": clip.note,
    }
