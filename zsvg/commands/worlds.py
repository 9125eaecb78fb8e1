"""Rendered worlds, the quickstart and the demo."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from zsvg.commands.options import Device, Model, Seed
from zsvg.errors import ZsvgError
from zsvg.terminal import progress, say, table


def microworld(
    out: Annotated[Path, typer.Argument(help="Folder to write into.")],
    domain: Annotated[str, typer.Option(help="studio, chalk, paper, night or fabric.")],
    videos: Annotated[int, typer.Option(help="How many videos.")] = 10,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "train",
    seed: Seed = 0,
    unlabelled: Annotated[bool, typer.Option(help="Write no annotations.")] = False,
) -> None:
    """Render a small labelled world of real mp4 files to play and measure with.

    Example: zsvg microworld world/ --domain chalk --videos 10 --split test
    """
    from zsvg.microworld.world import write_world

    with progress("rendering", videos) as advance:
        write_world(
            out,
            domain=domain,
            videos=videos,
            split=split,
            seed=seed,
            annotations=not unlabelled,
            workers=os.cpu_count() or 1,
            on_progress=lambda done, _: advance(done),
        )
    say(f"wrote {videos} videos to {out / 'videos'}")


def quickstart(
    domain: Annotated[str, typer.Option(help="A microworld domain.")] = "paper",
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path("quickstart"),
    videos: Annotated[int, typer.Option(min=10, help="Unlabelled videos.")] = 180,
    test_videos: Annotated[int, typer.Option(min=10, help="Test videos.")] = 50,
) -> None:
    """Run the whole path on a rendered domain nobody labelled, and measure it.

    Example: zsvg quickstart --domain night --out night/
    """
    from zsvg.quickstart import run

    def stage(name: str, total: int) -> Any:
        return progress(name, total)

    result = run(out, domain=domain, seed=seed, videos=videos, test_videos=test_videos, stage=stage)
    table(*result.table(), title=f"{domain}, seed {seed}: {result.queries} test queries")
    table(*result.kinds(), title="mIoU by kind of query")
    for line in result.notes():
        say(line)
    say(f"wrote {out / 'results.json'} and {out / 'report.html'}")


def demo(
    model: Model = "micro",
    share: Annotated[bool, typer.Option(help="Open a public link.")] = False,
    port: Annotated[int | None, typer.Option(help="Port on this machine.")] = None,
    device: Device = None,
) -> None:
    """Open the demo in a browser: upload a video, ask, see the moments.

    Example: zsvg demo --model model/
    """
    from importlib.util import module_from_spec, spec_from_file_location

    from zsvg.grounder import load
    from zsvg.resources import shipped

    # The demo is a program beside the package, not a module of it.
    spec = spec_from_file_location("zsvg_demo", shipped("demo") / "app.py")
    if spec is None or spec.loader is None:
        raise ZsvgError("the demo is missing from this installation of zsvg")
    page = module_from_spec(spec)
    spec.loader.exec_module(page)
    page.build_demo(load(model, device)).launch(
        share=share, server_port=port, max_file_size="500mb"
    )
