"""Recipes that ship, and what learned prompts are near to."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from zsvg.cli.options import AllowDownload, Device
from zsvg.cli.results import AsFigures, AsNumbers, Table, show_result
from zsvg.errors import ZsvgError, visible

if TYPE_CHECKING:
    from zsvg.report.prompts import PromptsReport

prompts = typer.Typer(
    no_args_is_help=True,
    help="Inspect learned prompts.\n\nExample: zsvg prompts show model/",
)


@prompts.command("show")
def show_prompts(
    model: Annotated[str, typer.Argument(help="A tuned model folder, or hf://ORG/NAME.")],
    nearest: Annotated[int, typer.Option(min=1, help="Words to name per token.")] = 3,
    form: AsFigures = "table",
    allow_download: AllowDownload = False,
    device: Device = None,
) -> None:
    """Show the nearest words of learned text tokens, and the norms of all prompts.

    Example: zsvg prompts show model/

    Nearest words are a hint, not a translation.
    """
    from zsvg.backbones.names import MANIFEST
    from zsvg.grounding.hub import folder_of
    from zsvg.grounding.load import load
    from zsvg.grounding.model_folder import has_adapter
    from zsvg.report.prompts import prompts_report

    folder = folder_of(model)
    if folder is None:
        raise ZsvgError(f"{model}: no {MANIFEST} in it; give a folder that zsvg tune wrote")
    if not has_adapter(folder):
        raise ZsvgError(f"{model}: this model has no prompts, it was tuned with a head alone")
    report = prompts_report(load(folder, device, allow_download=allow_download), nearest)
    show_result(form, asdict(report), *_tables(report))


@prompts.command("list")
def list_recipes(form: AsNumbers = "table") -> None:
    """List the recipes that ship with zsvg, for `zsvg tune --recipe`.

    Example: zsvg prompts list
    """
    from zsvg.training.recipes import load_recipe, recipe_names

    sources = {name: load_recipe(name).source for name in recipe_names()}
    if form == "table":  # lines: sources are too long for a column
        for name, source in sources.items():
            typer.echo(visible(f"{name}: {source}"))
        return
    listed = [{"recipe": name, "source": source} for name, source in sources.items()]
    show_result(form, listed, Table(header=("recipe", "source"), rows=list(sources.items())))


def _tables(report: PromptsReport) -> list[Table]:
    tables = []
    named = [(str(number), token) for number, token in enumerate(report.tokens, 1)]
    for domain, own in report.domains.items():
        named += [(f"{domain} {i}", token) for i, token in enumerate(own, 1 + len(report.tokens))]
    named += [(f"[{mark}]", token) for mark, token in report.suffix]
    if named:
        rows = [
            (
                name,
                token.start or "random",
                "-" if token.start_cosine is None else f"{token.start_cosine:.3f}",
                f"{token.norm:.3f}",
                ", ".join(f"{word} {cosine:.2f}" for word, cosine in token.nearest),
            )
            for name, token in named
        ]
        title = f"text tokens; the vocabulary's mean norm is {report.vocabulary_norm:.3f}"
        if report.conditional:
            title += "; without what is added for a video"
        header: tuple[str, ...] = ("token", "started from", "cosine to it", "norm", "nearest words")
        tables.append(Table(header=header, rows=rows, title=title))
    blocks = [("text", i, norms) for i, norms in enumerate(report.text_norms, 2)]
    blocks += [("vision", i, norms) for i, norms in enumerate(report.vision_norms, 1)]
    if blocks:
        title = "prompts of blocks" + (", vision made of text" if report.coupled else "")
        sizes = [
            (f"{side} {i}", str(len(norms)), *(f"{f(norms):.3f}" for f in (min, _mean, max)))
            for side, i, norms in blocks
        ]
        header = ("block", "prompts", "least norm", "mean norm", "largest norm")
        tables.append(Table(header=header, rows=sizes, title=title))
    if report.border:
        edge = report.border
        row = (str(edge.pixels), f"{edge.mean:.3f}", f"{edge.largest:.3f}")
        title = "border, in normalised pixels"
        tables.append(Table(header=("pixels", "mean size", "largest"), rows=[row], title=title))
    return tables


def _mean(values: tuple[float, ...]) -> float:
    return sum(values) / len(values)
