"""The Tune tab: from the labels of the Label tab to a model that the Ground tab can ask."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr
import numpy as np

from zsvg.report.figures import LearningFigure
from zsvg.training.labels import is_pseudo
from zsvg.training.recipes import load_recipe

from . import jobs
from .asking import models
from .heading import heading
from .runs import bar, buttons, enabled, refusals
from .tuning import ALL, TRUE, begin, heads, history, packed, recipes, take
from .visit import Site, Visit

WORDS = {ALL: "Pseudo labels, and yours", TRUE: "Only those that you accepted or fixed"}
BEFORE = (
    '<p class="quiet">While it tunes, loss and validation are drawn here. The result can then be '
    "asked in Ground.</p>"
)
ASK_AGAIN = """() => {
  const ask = document.querySelector("#ground-ask");
  if (document.querySelector("#ground-player video")) ask.click();
}"""


def tune_tab(
    site: Site, visit: gr.State, page: gr.Blocks, tab: gr.Tab, tabs: gr.Tabs, head: gr.HTML
) -> None:
    """Lay out the tab inside a `gr.Tab`.

    Args:
        site: The page.
        visit: The visitor's state.
        page: The whole page.
        tab: The tab itself.
        tabs: All of them: the result is tried out in another one.
        head: Of the page, which names the models that answer.
    """
    limits = site.limits
    with gr.Row(elem_classes="stage"):
        with gr.Column(scale=5, min_width=320):
            have = gr.HTML(about_labels(None), apply_default_css=False, elem_id="tune-labels")
            recipe = gr.Dropdown(
                recipes(),
                value="coop",
                label="Recipe",
                filterable=False,
                elem_id="tune-recipe",
            )
            source = gr.HTML(about_recipe("coop"), apply_default_css=False)
            kind = gr.Dropdown(
                head_choices("coop"), value="", label="Head", filterable=False, elem_id="tune-head"
            )
            steps = gr.Slider(
                10, limits.steps, value=200, step=10, label="Steps", elem_id="tune-steps"
            )
            which = gr.Radio(
                [(words, name) for name, words in WORDS.items()],
                value=ALL,
                label="Labels to tune on",
            )
            weight = gr.Slider(
                1, 20, value=5, step=1, label="One of your labels counts as this many pseudo labels"
            )
            start, stop = buttons("tune", "Tune")
            refusals()
        with gr.Column(scale=7, min_width=320):
            said = gr.HTML(BEFORE, elem_id="tune-said", apply_default_css=False)
            curves = gr.HTML("", elem_id="tune-curves", apply_default_css=False)
            with gr.Row(elem_classes="files"):
                attempt = gr.Button(
                    "Ask it in Ground", size="md", visible=False, elem_id="tune-try"
                )
                download = gr.DownloadButton(
                    "Model folder (.zip)", size="md", visible=False, elem_id="tune-download"
                )
    clock = gr.Timer(1, active=False)

    def start_run(
        recipe: str, head: str, steps: float, which: str, weight: float, visit: Visit
    ) -> tuple[Any, ...]:
        settings = {"recipe": recipe, "head": head, "which": which}
        begin(site, visit, **settings, steps=int(steps), true_weight=float(weight))
        return *follow(visit), gr.Timer(active=True), visit

    def follow(visit: Visit) -> tuple[Any, ...]:
        """Return the run in words and pictures, and which buttons work."""
        job = visit.tuning
        done = job is not None and job.look().state == "done"
        return (
            bar(site, job, "Tune"),
            learning(job),
            *enabled(job),
            gr.Button(visible=done),
            gr.DownloadButton(visible=done, value=str(packed(visit)) if done else None),
        )

    def tick(visit: Visit) -> tuple[Any, ...]:
        timer = gr.Timer(active=not jobs.over(visit.tuning))
        return *follow(visit), timer

    def halt(visit: Visit) -> tuple[Any, ...]:
        jobs.stop(visit.tuning)
        return follow(visit)

    def arrive(visit: Visit) -> tuple[Any, ...]:
        """Return what a browser gets that comes back: its run, if there is one."""
        return about_labels(visit), heading(models(site, visit)), *tick(visit)

    def try_it(visit: Visit) -> tuple[Any, ...]:
        take(site, visit)
        return gr.Tabs(selected="ground"), heading(models(site, visit)), visit

    def use(recipe: str) -> tuple[Any, ...]:
        chosen = load_recipe(recipe)
        return (
            about_recipe(recipe),
            gr.Dropdown(choices=head_choices(recipe), value=""),
            min(chosen.training.steps, limits.steps),
        )

    polite, watched = site.polite, [said, curves, start, stop, attempt, download]
    hidden: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    tab.select(polite(about_labels), visit, have, **hidden)
    page.load(polite(arrive), visit, [have, head, *watched, clock], **hidden)
    recipe.input(polite(use), recipe, [source, kind, steps], **hidden)
    start.click(
        polite(start_run),
        [recipe, kind, steps, which, weight, visit],
        [*watched, clock, visit],
        **hidden,
    )
    stop.click(polite(halt), visit, watched, **hidden)
    clock.tick(polite(tick), visit, [*watched, clock], queue=False, **hidden)
    attempt.click(polite(try_it), visit, [tabs, head, visit], **hidden).success(
        js=ASK_AGAIN, api_visibility="private"
    )


def about_labels(visit: Visit | None) -> str:
    """Return what there is to tune on."""
    if visit is None or visit.bench is None:
        return "<p>No labels yet: the Label tab writes them.</p>"
    labels = visit.bench.labels()
    pseudo = sum(map(is_pseudo, labels))
    return (
        f"<p><b>{pseudo}</b> pseudo labels and <b>{len(labels) - pseudo}</b> of yours, of "
        f"{len({a.vid for a in labels})} videos. Some videos are held out to see whether tuning "
        "helps.</p>"
    )


def about_recipe(name: str) -> str:
    """Return where a recipe comes from."""
    return f'<p class="quiet">{escape(load_recipe(name).source)}</p>'


def head_choices(recipe: str) -> list[tuple[str, str]]:
    """Return the heads that go with a recipe; its own, which has no name here, comes first."""
    own = load_recipe(recipe).head.kind
    others = [(kind, kind) for kind in heads(recipe) if kind != own]
    return [(f"{own}, the recipe's own", ""), *others]


def learning(job: jobs.Job | None) -> str:
    """Return the curves of loss and validation so far."""
    losses, validation = ({}, []) if job is None else history(job)
    if not losses:
        return ""
    steps = sorted(losses)
    figure = LearningFigure(
        title="Tuning",
        steps=steps,
        losses=np.array([losses[step] for step in steps]),
        validation=validation,
    )
    return '<div class="pair">' + "".join(f"<div>{svg}</div>" for svg in figure.svg()) + "</div>"
