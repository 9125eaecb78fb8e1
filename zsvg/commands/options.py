"""Options that several commands share, and how a batch ends."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zsvg.terminal import say

if TYPE_CHECKING:
    from zsvg.pseudo.label import LabelReport

Videos = Annotated[Path, typer.Argument(help="A video, or a folder of videos.")]
Backbone = Annotated[
    str | None,
    typer.Option(help="Frozen CLIP: micro, ARCH/TAG, hf-hub:ORG/NAME or local-dir:PATH."),
]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="Tuned model folder, a backbone, or captions:ENCODER (both training-free).",
    ),
]
Templates = Annotated[
    str | None,
    typer.Option(help="Ask a bare backbone with all these at once: video, or a .yaml file."),
]
Domain = Annotated[
    str | None,
    typer.Option(help="Domain of the videos, for a model tuned on several [default: their mean]."),
]
Fps = Annotated[float, typer.Option(help="Frames looked at per second.")]
Framing = Annotated[str, typer.Option(help="How frames become squares: crop, pad or squash.")]
Cache = Annotated[
    Path | None, typer.Option(help="Folder of frame features [default: $ZSVG_CACHE or ~/.cache].")
]
Truncated = Annotated[
    bool, typer.Option("--allow-truncated", help="Use the readable part of damaged videos.")
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, mps [default: the best there is].")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Where to write.")]
Seed = Annotated[int, typer.Option(help="Same seed, same result.")]


def finish(failures: list[str]) -> None:
    """Report what failed in a batch; the exit status tells that something did."""
    for failure in failures:
        say(f"error: {failure}")
    if failures:
        raise typer.Exit(1)


def tell(report: LabelReport, given: int, output: Path) -> None:
    """Say what became of the videos that were to get pseudo labels."""
    done = given - len(report.failures)
    say(f"{len(report.labels)} pseudo labels of {done} videos: {output}")
    if report.silent:
        say(f"no event became a label in: {', '.join(report.silent)}")
    for failure in report.failures.values():
        say(f"error: {failure}")
