"""How a labelling or tuning run is told: as HTML on the page, as data to programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import gradio as gr

from .jobs import Job, over
from .visit import Site


def bar(site: Site, job: Job | None, again: str) -> str:
    """Return how far a run is, as a bar and words.

    Args:
        site: The page.
        job: The run; None: there was none.
        again: Name of the button that continues a stopped run.
    """
    if job is None:
        return ""
    progress = job.look()
    far = f": {progress.done} of {progress.total}" if progress.total else ""
    words = {
        "waiting": "Waits for the runs of others.",
        "running": f"{progress.doing.capitalize()}{far}.",
        "stopping": "Stops.",
        "done": "Done.",
        "stopped": f"Stopped. {again} continues with what is finished.",
        "failed": f"Failed: {site.without_folders(progress.error)}",
    }[progress.state]
    results = [line[:1].upper() + line[1:] for line in progress.result.get("lines", ())]
    lines = [words, *results, *progress.result.get("failures", ())]
    text = "".join(f"<p>{escape(site.without_folders(line))}</p>" for line in lines)
    text = f'<div role="status">{text}</div>'
    if progress.over:
        return text
    value = progress.done / progress.total if progress.total else 0.0
    return f'<progress max="1" value="{value:.4f}" aria-label="How far it is"></progress>{text}'


def facts(job: Job | None) -> Mapping[str, Any]:
    """Return the same as JSON values: state, done, total, and the last loss where there is one."""
    if job is None:
        return {"state": "none"}
    progress = job.look()
    found: dict[str, Any] = {
        "state": progress.state,
        "done": progress.done,
        "total": progress.total,
    }
    if progress.losses:
        found["loss"] = progress.losses[max(progress.losses)]
    return found


def buttons(tab: str, words: str) -> tuple[gr.Button, gr.Button]:
    """Lay out the buttons that start and stop a run of a tab."""
    common: dict[str, Any] = {"size": "md", "min_width": 90}
    with gr.Row(elem_classes="ask"):
        start = gr.Button(words, variant="primary", elem_id=f"{tab}-start", **common)
        stop = gr.Button("Stop", interactive=False, elem_id=f"{tab}-stop", **common)
    return start, stop


def enabled(job: Job | None) -> tuple[gr.Button, gr.Button]:
    """Return which of the two can be clicked."""
    return gr.Button(interactive=over(job)), gr.Button(interactive=not over(job))


def converting(progress: Any) -> Callable[[float, float], None]:
    """Return what shows on Gradio's `Progress` how far the conversion of a video is."""

    def tell(done: float, total: float) -> None:
        progress(done / max(total, 1e-9), desc="Making a copy that browsers play")

    return tell


def told(lines: Sequence[str]) -> str:
    """Return sentences as HTML that screen readers announce; nothing where there are none."""
    text = " ".join(escape(line) for line in lines if line)
    return f'<p role="status">{text}</p>' if text else ""


def refusals() -> gr.HTML:
    """Lay out the place where a refusal stays after its toast; `page.js` fills it."""
    return gr.HTML('<p class="refused" role="status"></p>', apply_default_css=False)
