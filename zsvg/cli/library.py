"""`zsvg index`, `search`, `serve` and `library`: many videos, indexed once."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zsvg.cli import completion
from zsvg.cli import options as opts
from zsvg.cli.answers import Asked, asked_of, check_cut, give_answers
from zsvg.cli.options import finish, footage, load_grounder
from zsvg.cli.results import AnswersOutput, AsFigures, AsMoments, Table, destination, show_result
from zsvg.cli.terminal import loading, progress, say
from zsvg.errors import ITEM_ERRORS, ZsvgError, failure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from zsvg.grounding.grounder import Grounder
    from zsvg.library.example import Example
    from zsvg.library.indexing import Report

Folder = Annotated[Path, typer.Argument(metavar="LIBRARY", help="Folder of the library.")]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="Tuned model folder or backbone (default: what the library was made with).",
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
        Path, typer.Option("--output", "-o", help="Folder of the library; a new one is made.")
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
    rehash: opts.Rehash = False,
    allow_truncated: opts.Truncated = False,
    allow_download: opts.AllowDownload = False,
    device: opts.Device = None,
) -> None:
    """Index videos, so that all of them can be searched at once.

    Example: zsvg index videos/ -o library/ --model ViT-B-32/laion2b_s34b_b79k

    Only what is new or changed is decoded. Without videos, the folders of
    earlier calls are looked at again. Another --model makes the library anew
    beside the old one, which is searched until all videos are done.
    """
    from zsvg.library.manifest import FILE, read_manifest

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
    if watch and features is not None:
        raise ZsvgError("--watch follows videos; index features again where they change")
    found = footage(videos, features, clip_seconds, window_seconds, durations)
    with loading(name or (manifest.space.model if manifest else "")):
        from zsvg.library.library import Library

        library = Library.open(
            output, name, device=device, allow_download=allow_download, reembed=True
        )

    def update(found: Mapping[str, Path]) -> list[str]:
        with progress("indexing", len(found)) as advance:
            report = library.add(
                found,
                roots=list(videos or ()),
                cache=cache,
                allow_truncated=allow_truncated,
                rehash=rehash,
                prune=prune,
                on_progress=advance,
            )
        _tell(report, output)
        return [*getattr(found, "unusable", ()), *report.failures.values()]

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


def search(
    library: Folder,
    sentences: Annotated[
        list[str] | None, typer.Argument(metavar="[SENTENCE...]", help="What to find.")
    ] = None,
    clip: Annotated[
        list[str] | None,
        typer.Option(metavar="VIDEO@START-END", help="Find what looks like a part of a video."),
    ] = None,
    image: Annotated[
        list[Path] | None, typer.Option(help="Find what looks like a picture.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Most moments per sentence.")] = 20,
    per_video: Annotated[int, typer.Option(min=1, help="Most moments of one video.")] = 3,
    folder: Annotated[
        Path | None, typer.Option(help="Only videos in this folder, or below it.")
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M"], help="Only videos changed then or later."
        ),
    ] = None,
    min_length: Annotated[
        float, typer.Option(min=0, help="Only videos of so many seconds or more.")
    ] = 0.0,
    exact: Annotated[
        bool, typer.Option("--exact", help="Look at every row, also where there is an index.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Show near duplicates of better answers too.")
    ] = False,
    model: Model = None,
    output: AnswersOutput = None,
    form: AsMoments = None,
    cut: Annotated[Path | None, typer.Option(help="Save the moments as clips here.")] = None,
    templates: opts.Templates = None,
    domain: opts.Domain = None,
    allow_download: opts.AllowDownload = False,
    device: opts.Device = None,
) -> None:
    """Find moments by sentence or by example in all videos of a library.

    Example: zsvg search library/ "a person opens the fridge" --top 10
    Example: zsvg search library/ --clip "my film.mp4@12.0-15.5"

    A tuned model that sees frames as the library's does may answer (--model).
    Videos are sorted by fit; their moments and scores are those of zsvg ground.
    """
    from zsvg.library.manifest import read_manifest

    to = destination(output, form, page=True)
    asked, failures = asked_of(sentences or ()) if sentences or not (clip or image) else ([], [])
    check_cut(cut)
    name = model or read_manifest(library).space.model
    with loading(name):
        from zsvg.library.hits import records
        from zsvg.library.library import Library, own_grounder
        from zsvg.training.recipes import load_templates

        if model is None:
            texts = load_templates(templates) if templates else ()
            grounder = own_grounder(
                library, device, allow_download=allow_download, domain=domain, templates=texts
            )
        else:
            grounder = load_grounder(model, device, domain, templates, allow_download, None)
        opened = Library.open(library, grounder)
    wanted: list[tuple[Asked, str | Example]] = [(one, one.query) for one in asked]
    wanted += _examples(clip or (), image or (), grounder, len(sentences or ()), failures)
    for one, query in wanted:
        try:
            found = opened.hits(
                query,
                top=top,
                per_video=per_video,
                folder=folder,
                since=None if since is None else since.timestamp(),
                min_length=min_length,
                exact=exact,
                group=not everything,
            )
        except ITEM_ERRORS as error:
            failures.append(failure(repr(one.query), error))
            continue
        answers = list({hit.video.key: hit.answer for hit in found}.values())
        for place, (record, answer) in enumerate(zip(records(found), answers, strict=True)):
            record = replace(record, qid=f"{place}-{one.number - 1}")
            one.add(record, answer.grounding, answer.video.duration, to.page)
    give_answers(
        to,
        [one for one, _ in wanted],
        model=name,
        top_k=top,
        everything=True,  # hits are distinct
        cut=cut,
        failures=failures,
    )


def _examples(
    clips: Sequence[str],
    pictures: Sequence[Path],
    grounder: Grounder,
    before: int,
    failures: list[str],
) -> list[tuple[Asked, str | Example]]:
    """Read what moments are to look like; what cannot be read is told."""
    from zsvg.library.example import read_clip, read_picture

    made: list[tuple[Asked, str | Example]] = []
    readers = [partial(read_clip, clip) for clip in clips]
    readers += [partial(read_picture, picture) for picture in pictures]
    for number, read in enumerate(readers, before + 1):
        try:
            example = read(grounder)
        except ITEM_ERRORS as error:
            failures.append(failure((*clips, *map(str, pictures))[number - before - 1], error))
        else:
            made.append((Asked(number, example.name), example))
    return made


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
    }
    told = [f"{count} {what}" for what, count in numbers.items() if count]
    say(f"{output}: {', '.join(told)}")
