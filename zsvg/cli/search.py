"""`zsvg search`: find moments in a library by sentence or by example."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from zsvg.cli import options as opts
from zsvg.cli.answers import Asked, asked_of, check_cut, give_answers
from zsvg.cli.library import Folder, Model
from zsvg.cli.options import at_revision, load_grounder
from zsvg.cli.places import REMOTE
from zsvg.cli.results import AnswersOutput, AsMoments, destination
from zsvg.cli.terminal import loading, say
from zsvg.errors import ITEM_ERRORS, ZsvgError, failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zsvg.grounding.grounder import Grounder
    from zsvg.library.example import Example


def search(
    library: Folder,
    sentences: Annotated[
        list[str] | None, typer.Argument(metavar="SENTENCE...", help="What to find.")
    ] = None,
    clip: Annotated[
        list[str] | None,
        typer.Option(metavar="VIDEO@START-END", help="Find what looks like a part of a video."),
    ] = None,
    image: Annotated[
        list[Path] | None, typer.Option(metavar="PICTURE", help="Find what looks like a picture.")
    ] = None,
    by: Annotated[
        Literal["seen", "said", "both"],
        typer.Option(help="Look at what is seen, at what is said, or at both."),
    ] = "both",
    top: Annotated[int, typer.Option(min=1, help="Most moments per sentence.")] = 20,
    per_video: Annotated[int, typer.Option(min=1, help="Most moments of one video.")] = 3,
    folder: Annotated[
        Path | None, typer.Option(help="Only videos in this folder, or below it."), REMOTE
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
    sure: opts.Sure = None,
    templates: opts.Templates = None,
    domain: opts.Domain = None,
    revision: opts.Revision = None,
    allow_download: opts.AllowDownload = False,
    device: opts.Device = None,
) -> None:
    """Find moments by sentence or by example in all videos of a library.

    Example: zsvg search library/ "a person opens the fridge" --top 10

    A tuned model that sees frames as the library's does may answer (--model).
    Moments and scores are those of zsvg ground. Lines of subtitles in which the
    words are said, or what they mean, stand among them.
    """
    from zsvg.library.manifest import read_manifest

    to = destination(output, form, page=True)
    if not (sentences or clip or image):
        raise ZsvgError("nothing to search for; give a sentence, --clip or --image")
    asked, failures = asked_of(sentences) if sentences else ([], [])
    check_cut(cut)
    if model is not None:
        model = at_revision(model, revision)
    elif revision is not None:
        raise ZsvgError("--revision is that of a model of the hub; name it with --model")
    name = model or read_manifest(library).space.model
    with loading(name):
        from zsvg.features.from_files import holds_features
        from zsvg.library.hits import records
        from zsvg.library.library import Library
        from zsvg.library.spaces import own_grounder
        from zsvg.training.recipes import load_templates

        if model is None:
            texts = load_templates(templates) if templates else ()
            grounder = own_grounder(
                library, device, allow_download=allow_download, domain=domain, templates=texts
            )
        else:
            grounder = load_grounder(model, device, domain, templates, allow_download, None)
        grounder.sure = sure
        opened = Library.open(library, grounder, device=device, allow_download=allow_download)
    if to.page or to.timeline or cut is not None:
        films = [video for video in opened.videos() if video.usable]
        if films and all(holds_features(video.file) for video in films):
            raise ZsvgError(
                f"a page of moments, a timeline and --cut show pictures, and {library} holds "
                "features alone; give another form"
            )
    wanted: list[tuple[Asked, str | Example]] = [(one, one.query) for one in asked]
    wanted += _examples(clip or (), image or (), grounder, len(sentences or ()), failures)
    for one, query in wanted:
        try:
            found = opened.hits(
                query,
                by=by,
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
        if not found:
            say(f"{one.query!r}: nothing was found")
        one.ranked = True
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
