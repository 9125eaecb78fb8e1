"""`zsvg ground`: retrieve the moments that sentences describe."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zsvg.cli import options as opts
from zsvg.cli.answers import Asked, asked_of, check_cut, give_answers
from zsvg.cli.options import (
    at_revision,
    cache_folder,
    footage,
    load_grounder,
    split_sentences,
)
from zsvg.cli.results import AnswersOutput, AsMoments, destination
from zsvg.cli.terminal import loading, progress
from zsvg.errors import ITEM_ERRORS, ZsvgError, failure

if TYPE_CHECKING:
    from zsvg.grounding.answers import EncodedVideo
    from zsvg.grounding.grounder import Grounder


def ground(
    video: Annotated[
        str, typer.Argument(help="A video, a folder (searched with all below it), or a pattern.")
    ],
    model: opts.Model,
    queries: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[VIDEO]... SENTENCE...",
            help="More of them, then one or more sentences. With --features, sentences alone.",
            show_default=False,
        ),
    ] = None,
    top_k: Annotated[
        int, typer.Option(min=1, help="Most answers per sentence: in the table, or of a video.")
    ] = 5,
    output: AnswersOutput = None,
    form: AsMoments = None,
    cut: Annotated[Path | None, typer.Option(help="Save the moments as clips here.")] = None,
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Show near duplicates too: moments that overlap a better one of the same video "
            "by half or more (IoU 0.5).",
        ),
    ] = False,
    sure: opts.Sure = None,
    templates: opts.Templates = None,
    features: opts.Features = None,
    clip_seconds: opts.ClipSeconds = None,
    window_seconds: opts.WindowSeconds = None,
    durations: opts.Durations = None,
    cache: opts.Cache = None,
    rehash: opts.Rehash = False,
    allow_truncated: opts.Truncated = False,
    domain: opts.Domain = None,
    revision: opts.Revision = None,
    allow_download: opts.AllowDownload = False,
    device: opts.Device = None,
) -> None:
    """Find the moments that sentences describe, in one video or across a folder.

    Example: zsvg ground videos/ "a red circle spins" --model model/

    What exists before the first sentence is a video (videos/*.mp4 "a dog").
    A file after it is refused.

    Videos are sorted by fit, which compares them for one sentence; moments
    inside by score, which does not. The table, .html, timelines of editors
    and --cut take --top-k moments in all: the best of each video, and more of
    any where that leaves room. Other forms hold up to --top-k of every video. Near duplicates are
    left out of all but JSON and CSV.
    """
    from zsvg.backbones.names import check_model, files_read
    from zsvg.grounding.writers import check_fits

    to = destination(output, form, page=True)
    videos, queries = _arguments(video, queries or (), features)
    asked, wrong = asked_of(queries)
    check_cut(cut)
    if features is not None and (to.page or to.timeline or cut is not None):
        raise ZsvgError(
            "a page of moments, a timeline and --cut show pictures, and features have none"
        )
    model = at_revision(model, revision)
    check_model(model)
    found = footage(
        videos, features, clip_seconds, window_seconds, durations, reads=files_read(model)
    )
    check_fits(to.form, len(found))
    with loading(model):
        from zsvg.backbones.base import videos_for

        grounder = load_grounder(model, device, domain, templates, allow_download, clip_seconds)
        grounder.sure = sure
    failures = [*getattr(found, "unusable", ()), *wrong]
    found = videos_for(grounder.backbone, found)
    encode = partial(
        grounder.encode, cache=cache_folder(cache, rehash), allow_truncated=allow_truncated
    )
    with progress("grounding", len(found)) as advance:
        for done, (vid, path) in enumerate(found.items(), 1):
            try:
                encoded = encode(path)
            except ITEM_ERRORS as error:
                failures.append(failure(path, error))
            else:
                failures += _ask(grounder, encoded, vid, path, asked, top_k, to.page)
            advance(done)
    give_answers(
        to, asked, model=model, top_k=top_k, everything=everything, cut=cut, failures=failures
    )


def _arguments(
    video: str, more: Sequence[str], features: Path | None
) -> tuple[list[str], list[str]]:
    """Return (videos, sentences); with features all are sentences."""
    if features is not None:
        return [], [video, *more]
    if not more:
        raise typer.BadParameter("Missing argument '[VIDEO]... SENTENCE...'.")
    others, sentences = split_sentences(more)
    return [video, *others], sentences


def _ask(
    grounder: Grounder,
    encoded: EncodedVideo,
    vid: str,
    path: Path,
    asked: Sequence[Asked],
    top_k: int,
    page: bool,
) -> list[str]:
    """Predict the moments of all queries in one video; return the failures."""
    failures = []
    for one in asked:
        try:
            answer = grounder.ground(encoded, one.query, top_k=top_k)
            found = answer.prediction(
                f"{vid}-{one.number - 1}", vid, fit=answer.fit, path=str(path)
            )
            one.add(found, answer, encoded.duration, page)
        except ITEM_ERRORS as error:
            failures.append(failure(f"{path}: {one.query!r}", error))
    return failures
