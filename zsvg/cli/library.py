"""`zsvg index`, `serve` and `library`: many videos, indexed once."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zsvg.cli import completion
from zsvg.cli import options as opts
from zsvg.cli.options import finish, footage
from zsvg.cli.places import REMOTE
from zsvg.cli.results import AsFigures, Table, show_result
from zsvg.cli.terminal import loading, progress, say
from zsvg.errors import ITEM_ERRORS, ZsvgError, failure
from zsvg.places.urls import is_url, place_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zsvg.library.indexing import Report

Folder = Annotated[Path, typer.Argument(metavar="LIBRARY", help="Folder of the library."), REMOTE]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="Tuned model folder, hf://ORG/NAME or backbone (default: what the library was made "
        "with).",
        autocompletion=completion.models,
    ),
]

libraries = typer.Typer(
    no_args_is_help=True,
    help="Look into a library of indexed videos, and keep it small.\n\n"
    "Example: zsvg library info library/",
)


def index(
    videos: opts.VideosOrNone = None,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder of the library; a new one is made."),
        REMOTE,
    ] = Path("library"),
    model: Model = None,
    features: opts.Features = None,
    clip_seconds: opts.ClipSeconds = None,
    window_seconds: opts.WindowSeconds = None,
    durations: opts.Durations = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on, and index what is added or changed.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Forget videos that are not there any more.")
    ] = False,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder of frame features to use too (default: none)."),
    ] = None,
    speech: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Let this recogniser (Whisper and others, a hub id or a folder) listen to videos "
            "without subtitles.",
        ),
    ] = None,
    sentence_model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Compare what is said by this model of sentence-transformers, a hub id or a "
            "folder (default: what the library was made with, at first the text tower).",
        ),
    ] = None,
    rehash: opts.Rehash = False,
    allow_truncated: opts.Truncated = False,
    allow_download: opts.AllowDownload = False,
    ray: opts.Ray = None,
    workers: opts.Workers = None,
    gpus_per_worker: opts.GpusPerWorker = None,
    device: opts.Device = None,
) -> None:
    """Index videos, so that all of them can be searched at once.

    Example: zsvg index videos/ -o library/ --model ViT-B-32/laion2b_s34b_b79k

    Only what is new or changed is decoded. Without videos, the folders of
    earlier calls are looked at again. Another --model makes the library anew
    beside the old one, which is searched until all videos are done.
    """
    from zsvg.library.manifest import FILE, read_manifest

    cluster = opts.cluster_of(ray, workers, gpus_per_worker, device)
    there = (output / FILE).is_file()
    manifest = read_manifest(output) if there else None
    name = model or (None if there else os.environ.get("ZSVG_MODEL"))
    if manifest is None or name is not None:
        from zsvg.backbones.names import check_model

        check_model(name)
    if not videos and features is None:
        videos = list(manifest.roots) if manifest else []
        if there and not videos:
            raise ZsvgError(f"{output}: its features have no folder; give --features again")
    if watch and (remote := [v for v in videos or () if is_url(v)]):
        raise ZsvgError(
            f"--watch follows folders on a disk, and nothing tells of changes at "
            f"{place_of(remote[0])}; run zsvg index again, from cron"
        )
    if watch and features is not None:
        raise ZsvgError("--watch follows videos; index features again where they change")
    if cluster is not None and features is not None:
        raise ZsvgError(f"--ray {ray} is for videos; features are indexed without it")
    if speech is not None:
        from zsvg.backbones.names import check_recogniser

        check_recogniser(speech)
    if sentence_model is not None:
        from zsvg.backbones.names import check_sentence_model

        check_sentence_model(sentence_model)
    found = footage(videos, features, clip_seconds, window_seconds, durations)
    with loading(name or (manifest.space.model if manifest else "")):
        from zsvg.library.library import Library

        library = Library.open(
            output,
            name,
            device=device,
            allow_download=allow_download,
            reembed=True,
            sentence_model=sentence_model,
        )
    recogniser = None
    if speech is not None:
        with loading(speech):
            from zsvg.transcripts.speech import load_recogniser

            recogniser = load_recogniser(speech, device, allow_download=allow_download)

    def update(found: Mapping[str, Path]) -> list[str]:
        with progress("indexing", len(found)) as advance, progress("words", len(found)) as heard:
            report = library.add(
                found,
                roots=list(videos or ()),
                cache=cache,
                allow_truncated=allow_truncated,
                rehash=rehash,
                prune=prune,
                recogniser=recogniser,
                cluster=cluster,
                on_progress=advance,
                on_heard=heard,
            )
        _tell(report, output)
        unheard = [line for heard in report.heard.values() for line in heard.failures]
        return [*getattr(found, "unusable", ()), *report.failures.values(), *unheard]

    failures = update(found)
    if not library.searched:
        say(f"{output}: the old model's features are searched until all videos are done")
    if watch:
        from zsvg.library.watching import watch as follow

        def again() -> None:
            try:
                for line in update(footage(videos, None)):
                    say(f"error: {line}")
            except ITEM_ERRORS as error:  # the folder may be empty for a moment
                say(f"error: {failure(output, error)}")

        say(f"watching {', '.join(videos or ())}; Ctrl-C ends it")
        follow([v for v in videos or () if os.path.isdir(v)], again)
    finish(failures)


def serve(
    library: Folder,
    model: Model = None,
    host: Annotated[
        str,
        typer.Option(help="Address or name of this machine to serve at; 0.0.0.0: at all of them."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 7870,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="ZSVG_TOKEN",
            help="What requests have to bring as `Authorization: Bearer TOKEN`; needed where other "
            "machines can ask. Other programs see a command line, not the variable.",
        ),
    ] = None,
    allow_download: opts.AllowDownload = False,
    device: opts.Device = None,
) -> None:
    """Serve a library to programs: JSON over HTTP, read-only.

    Example: zsvg serve library/

    /search, /videos, /events, /thumbnail, /health, and /openapi.json, which
    says what each takes; / shows it.
    """
    from zsvg.library.manifest import read_manifest

    if token is not None and not (token.isascii() and token.isprintable() and token.strip()):
        raise ZsvgError("--token takes printable ASCII")  # and is not repeated
    name = model or read_manifest(library).space.model
    with loading(name):
        import uvicorn

        from zsvg.library.gate import is_loopback
        from zsvg.library.library import Library
        from zsvg.library.server import build_app

        if not is_loopback(host) and token is None:
            raise ZsvgError(f"--host {host}: other machines can ask there; set a --token too")
        opened = Library.open(library, model, device=device, allow_download=allow_download)
        app = build_app(opened, host=host, token=token)
    bare = host.strip("[]")
    try:
        listening = socket.create_server(
            (bare, port), family=socket.AF_INET6 if ":" in bare else socket.AF_INET
        )
    except OSError as error:
        why = error.strerror or error
        raise ZsvgError(f"cannot serve at {host}, port {port} ({why}); give another") from None
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    place = f"[{bare}]" if ":" in bare else bare
    say(f"serving {library} at http://{place}:{listening.getsockname()[1]}; Ctrl-C ends it")
    with suppress(KeyboardInterrupt):  # the usual end
        server.run(sockets=[listening])


@libraries.command("info")
def library_info(library: Folder, form: AsFigures = "table") -> None:
    """Tell what is in a library.

    Example: zsvg library info library/ --format json
    """
    from rich.filesize import decimal

    from zsvg.library.upkeep import info

    value = info(library)
    rows = [
        ("model", value["model"]),
        ("videos", f"{value['videos']}, {value['hours']:g} hours"),
        ("vanished", str(value["vanished"])),
        ("not usable", str(value["failed"])),
        ("with words", str(value["with_words"])),
        *((("compared by", name),) if (name := value["sentence_model"]) else ()),
        ("rows of frames", f"{value['rows']['frames']}{', indexed' if value['indexed'] else ''}"),
        ("size", decimal(value["bytes"])),
        *(("being made with", name) for name in value["coming"]),
    ]
    show_result(form, value, Table(header=(str(library), ""), rows=rows))


@libraries.command("check")
def library_check(library: Folder) -> None:
    """Tell whether the tables of a library fit together.

    Example: zsvg library check library/

    Exit status 1 where they do not; the next zsvg index repairs it.
    """
    from zsvg.library.upkeep import check

    problems = check(library)
    if not problems:
        say(f"{library}: all is well")
    finish([f"{library}: {problem}" for problem in problems])


@libraries.command("compact")
def library_compact(
    library: Folder,
    alone: Annotated[
        bool,
        typer.Option("--alone", help="Nobody searches it now: free what they might need too."),
    ] = False,
) -> None:
    """Make a library smaller and faster: merge small files, drop old versions.

    Example: zsvg library compact library/
    """
    from rich.filesize import decimal

    from zsvg.library.upkeep import compact

    freed = compact(library, alone=alone)
    say(f"{library}: {decimal(freed.before)} before, {decimal(freed.after)} now")


@libraries.command("prune")
def library_prune(library: Folder) -> None:
    """Forget the videos that are not there any more, with their features and pictures.

    Example: zsvg library prune library/
    """
    from zsvg.library.upkeep import prune

    forgotten = prune(library)
    for video in forgotten:
        say(f"forgot {video.file}")
    say(f"{library}: {len(forgotten)} videos forgotten")


def _tell(report: Report, output: Path) -> None:
    numbers = {
        "new": len(report.added),
        "moved": len(report.moved),
        "copies": len(report.copies),
        "back": len(report.back),
        "unchanged": report.unchanged,
        "vanished": len(report.vanished),
        "not usable": len(report.failures),
        "with words": sum(heard.count > 0 for heard in report.heard.values()),
    }
    told = [f"{count} {what}" for what, count in numbers.items() if count]
    say(f"{output}: {', '.join(told)}")
