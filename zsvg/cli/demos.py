"""Rendered worlds, the quickstart and the demo."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zsvg.cli import completion
from zsvg.cli.options import AllowDownload, Device, Output, Revision, Seed, Steps, at_revision
from zsvg.cli.terminal import progress, say, table
from zsvg.errors import ZsvgError

if TYPE_CHECKING:
    from zsvg.library.library import Library


def microworld(
    domain: Annotated[
        str,
        typer.Option(
            help="studio, chalk, paper, night or fabric.", autocompletion=completion.domains
        ),
    ],
    output: Output = Path("microworld"),
    videos: Annotated[int, typer.Option(help="How many videos.")] = 10,
    split: Annotated[
        str,
        typer.Option(
            help="train, val or test.", autocompletion=completion.offer("train", "val", "test")
        ),
    ] = "train",
    seed: Seed = 0,
    unlabelled: Annotated[bool, typer.Option(help="Write no annotations.")] = False,
) -> None:
    """Render a small labelled world of real mp4 files to play and measure with.

    Example: zsvg microworld --domain chalk --videos 10 --split test -o world/
    """
    from zsvg.microworld.world import check_world, write_world

    check_world(output, domain=domain, split=split, seed=seed, videos=videos)
    with progress("rendering", videos) as advance:
        write_world(
            output,
            domain=domain,
            videos=videos,
            split=split,
            seed=seed,
            annotations=not unlabelled,
            workers=os.cpu_count() or 1,
            on_progress=lambda done, _: advance(done),
        )
    say(f"wrote {videos} videos to {output / 'videos'}")


def quickstart(
    domain: Annotated[
        str, typer.Option(help="A microworld domain.", autocompletion=completion.domains)
    ] = "paper",
    seed: Seed = 0,
    output: Output = Path("quickstart"),
    videos: Annotated[int, typer.Option(min=4, help="Unlabelled videos.")] = 180,
    test_videos: Annotated[int, typer.Option(min=4, help="Test videos.")] = 50,
    steps: Steps = None,
) -> None:
    """Run the whole path on an unlabelled rendered domain, and evaluate it.

    Example: zsvg quickstart --domain night -o night/
    """
    from zsvg.experiments.quickstart import run

    result = run(
        output,
        domain=domain,
        seed=seed,
        videos=videos,
        test_videos=test_videos,
        steps=steps,
        stage=progress,
    )
    table(*result.table(), title=f"{domain}, seed {seed}: {result.queries} test queries")
    table(*result.kinds(), title="mIoU by kind of query")
    for line in result.notes():
        say(line)
    say(f"wrote {output / 'results.json'} and {output / 'report.html'}")


def demo(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="Tuned model folder, hf://ORG/NAME or backbone; twice to see two side by side "
            "(default: $ZSVG_MODEL, or micro for the samples).",
        ),
    ] = None,
    videos: Annotated[
        Path | None, typer.Option(help="Folder of videos that every visitor may label.")
    ] = None,
    project: Annotated[
        Path | None,
        typer.Option(help="Folder that keeps labels and uploads (default: they go with the page)."),
    ] = None,
    library: Annotated[
        Path | None,
        typer.Option(help="A library of `zsvg index`, to search and to open videos from."),
    ] = None,
    index: Annotated[
        list[Path] | None,
        typer.Option(help="Folder below which visitors may have videos indexed; repeatable."),
    ] = None,
    captioner: Annotated[
        str | None,
        typer.Option(help="Writes labels: micro, a hub id, or a folder (default: micro's own)."),
    ] = None,
    share: Annotated[bool, typer.Option(help="Open a public link.")] = False,
    auth: Annotated[
        str | None,
        typer.Option(
            envvar="ZSVG_DEMO_AUTH",
            metavar="USER:PASSWORD",
            help="Require this login; other programs see a command line, not the variable.",
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            envvar="GRADIO_SERVER_NAME",
            help="Address or name of this machine to serve at; 0.0.0.0: at all of its own.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(help="Port on this machine (default: 7860, or the next free one).")
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    max_minutes: Annotated[float, typer.Option(min=0.1, help="Longest video, minutes.")] = 60.0,
    max_mb: Annotated[int, typer.Option(min=1, help="Largest upload, MB.")] = 500,
    revision: Revision = None,
    allow_download: AllowDownload = False,
    device: Device = None,
) -> None:
    """Serve the demo, a web page: query videos, label them, tune on the labels.

    Example: zsvg demo --library library/
    """
    import signal
    import tempfile

    from zsvg.resources import demo_module

    if videos is not None and not videos.is_dir():
        raise ZsvgError(f"--videos {videos}: no such folder")
    names = model or [os.environ.get("ZSVG_MODEL") or "micro"]  # which click would split at spaces
    if len(names) > 2:
        raise ZsvgError(f"--model is given {len(names)} times; two fit side by side")
    if revision is not None:
        if len(names) > 1:
            raise ZsvgError("--revision is that of one model; of two, give hf://ORG/NAME@REVISION")
        names = [at_revision(names[0], revision)]
    for folder in index or ():
        if library is None:
            raise ZsvgError("--index adds to a library; name one with --library")
        if not folder.is_dir():
            raise ZsvgError(f"--index {folder}: no such folder")
    user, _, password = (auth or "").partition(":")
    if auth is not None and not (user and password):
        raise ZsvgError("--auth takes USER:PASSWORD, neither of them empty")  # and is not repeated
    # Service managers end a server so; by itself Python would leave the folders behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        _claimed(project),
        tempfile.TemporaryDirectory(prefix="zsvg-demo-served-") as served,
    ):
        # Gradio serves this whole folder, and by default shares it with all its other programs.
        os.environ["GRADIO_TEMP_DIR"] = served
        limits = demo_module("visit").Limits(minutes=max_minutes, upload_mb=max_mb)
        models, opened = _opened(library, model, names, device, allow_download)
        page = demo_module("app").build_demo(
            models,
            captioner=captioner,
            videos=videos,
            project=project,
            device=device,
            limits=limits,
            library=opened,
            index=index or (),
        )
        options = demo_module("app").launch_options(limits)
        with suppress(KeyboardInterrupt):  # the usual end of a page, at whatever point it comes
            try:
                page.launch(
                    share=share,
                    server_name=demo_module("origins").bracketed(host),
                    server_port=port,
                    auth=(user, password) if auth else None,
                    inbrowser=open_browser,
                    **options,
                )
            except OSError as error:
                if "empty port" not in str(error):  # Gradio's words; it has no type for it
                    raise
                what = f"--port {port} is" if port else "ports 7860 to 7959 are"
                raise ZsvgError(
                    f"{what} taken by another program; name a free one, as --port 8000"
                ) from error


@contextmanager
def _claimed(project: Path | None) -> Iterator[None]:
    """Hold the folder of a project, so that no second page writes into it."""
    from zsvg.files import locked

    if project is None:
        yield
        return
    if project.exists() and not project.is_dir():
        raise ZsvgError(f"--project {project}: is a file; name a folder")
    with locked(project / ".lock") as free:
        if not free:
            raise ZsvgError(f"--project {project}: another page has it open; end that first")
        yield


def _opened(
    library: Path | None,
    given: list[str] | None,
    names: list[str],
    device: str | None,
    allow_download: bool,
) -> tuple[Any, Library | None]:
    """Load the models, and the library that the first of them asks; its own if none is given."""
    if library is None:
        return _models(names, device, allow_download), None
    from zsvg.library.library import Library
    from zsvg.library.manifest import read_manifest

    read_manifest(library)  # a page begins none
    if not given:
        opened = Library.open(library, device=device, allow_download=allow_download)
        return opened.grounder, opened
    models = _models(names, device, allow_download)
    first = next(iter(models.values())) if isinstance(models, dict) else models
    return models, Library.open(library, first)


def _models(names: list[str], device: str | None, allow_download: bool) -> Any:
    """Load one model, or two by their names, on one backbone where they have the same."""
    from zsvg.grounding.hub import folder_of
    from zsvg.grounding.load import load
    from zsvg.grounding.model_folder import read_manifest
    from zsvg.resources import demo_module

    first = load(names[0], device, allow_download=allow_download)
    if len(names) == 1:
        return first
    same = names[1] == first.backbone.name
    if (folder := folder_of(names[1])) is not None:
        wanted = read_manifest(folder)["backbone"]["fingerprint"]
        same = wanted == first.backbone.fingerprint
    second = load(
        names[1],
        device,
        backbone=first.backbone if same else None,  # type: ignore[arg-type]
        allow_download=allow_download,
    )
    labels = [demo_module("visit").short(name) for name in names]
    if labels[0] == labels[1]:
        labels = [f"{label} ({number})" for number, label in enumerate(labels, 1)]
    return dict(zip(labels, (first, second), strict=True))
