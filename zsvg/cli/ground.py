"""`zsvg ground`: retrieve the moments that sentences describe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zsvg.cli import options as opts
from zsvg.cli.options import (
    cache_folder,
    finish,
    footage,
    load_grounder,
    split_sentences,
)
from zsvg.cli.results import AnswersOutput, AsMoments, Table, destination
from zsvg.cli.terminal import loading, progress, say
from zsvg.errors import ITEM_ERRORS, ZsvgError, failure
from zsvg.files import file_stem

if TYPE_CHECKING:
    from zsvg.grounding.answers import EncodedVideo
    from zsvg.grounding.grounder import Grounder
    from zsvg.records import Prediction
    from zsvg.report.results_page import Curve, Shown


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
    templates: opts.Templates = None,
    features: opts.Features = None,
    clip_seconds: opts.ClipSeconds = None,
    window_seconds: opts.WindowSeconds = None,
    durations: opts.Durations = None,
    cache: opts.Cache = None,
    rehash: opts.Rehash = False,
    allow_truncated: opts.Truncated = False,
    domain: opts.Domain = None,
    allow_download: opts.AllowDownload = False,
    device: opts.Device = None,
) -> None:
    """Find the moments that sentences describe, in one video or across a folder.

    Example: zsvg ground videos/ "a red circle spins" --model model/

    What exists before the first sentence is a video (videos/*.mp4 "a dog").
    A file after it is refused.

    Videos are sorted by fit, which compares them for one sentence; moments
    inside by score, which does not. The table, .html and --cut take --top-k
    moments in all: the best of each video, and more of any where that leaves
    room. Other forms hold up to --top-k of every video. Near duplicates are
    left out of all but JSON and CSV.
    """
    from zsvg.backbones.names import check_model, files_read
    from zsvg.grounding.writers import check_fits

    to = destination(output, form, page=True)
    videos, queries = _arguments(video, queries or (), features)
    wrong = {number: _wrong(query) for number, query in enumerate(queries, 1)}
    asked = [_Asked(n, query) for n, query in enumerate(queries, 1) if not wrong[n]]
    if not asked:
        raise ZsvgError(f"the sentence {wrong[1]}")
    if cut is not None and cut.exists() and not cut.is_dir():
        raise ZsvgError(f"--cut {cut}: is a file; name a folder for the clips")
    if features is not None and (to.page or cut is not None):
        raise ZsvgError("a page of moments and --cut show pictures, and features have none")
    check_model(model)
    found = footage(
        videos, features, clip_seconds, window_seconds, durations, reads=files_read(model)
    )
    check_fits(to.form, len(found))
    with loading(model):
        from zsvg.backbones.base import videos_for
        from zsvg.grounding.ranking import best_moments, by_fit, distinct
        from zsvg.report.results_page import write_results

        grounder = load_grounder(model, device, domain, templates, allow_download, clip_seconds)
    failures = [
        *getattr(found, "unusable", ()),
        *(f"sentence {number} {why}" for number, why in wrong.items() if why),
    ]
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
    predictions: list[Prediction] = []
    read: list[Prediction] = []  # for tables and subtitles: without near duplicates
    tables, clips, seen = [], [], []
    for one in asked:
        predictions += (ranked := by_fit(one.answers))
        shown = ranked if everything else [distinct(answer) for answer in ranked]
        read += shown
        best = best_moments(shown, top_k)
        seen.append((one.query, best, one.curves))
        tables.append(_table(one.query, best))
        clips += [
            (f"{one.number:02d}-{rank}-{file_stem(a.vid)}.mp4", found[a.vid], start, end)
            for rank, (a, (start, end, _)) in enumerate(best, 1)
        ]

    def write_page(file: Path) -> None:
        with progress("pictures", sum(len(best) for _, best, _ in seen)) as advance:
            failures.extend(write_results(file, seen, model=model, on_progress=advance))

    places = to.give(
        predictions,
        tables,
        read=read,
        write_page=write_page,
        failed=not predictions,
        failures=failures,
    )
    somewhere = {one.query for one in asked if one.somewhere}
    for query in dict.fromkeys(one.query for one in asked):
        if predictions and query not in somewhere:
            say(f"{query!r}: perhaps no such moment, every score is low for this model")
    if to.file is not None and places:
        say(f"wrote {len(predictions)} answers to {places}")
    if cut is not None:  # last: answers do not wait for clips, nor fail with them
        failures += _cut(cut, clips)
    finish(failures)


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


@dataclass
class _Asked:
    """A query, its number on the command line, and its predictions by video."""

    number: int
    query: str
    answers: list[Prediction] = field(default_factory=list)
    curves: dict[str, Curve] = field(default_factory=dict)
    somewhere: bool = False


def _ask(
    grounder: Grounder,
    encoded: EncodedVideo,
    vid: str,
    path: Path,
    asked: Sequence[_Asked],
    top_k: int,
    page: bool,
) -> list[str]:
    """Predict the moments of all queries in one video; return the failures."""
    from zsvg.records import to_jsonl
    from zsvg.report.results_page import Curve

    failures = []
    for one in asked:
        try:
            answer = grounder.ground(encoded, one.query, top_k=top_k)
            found = answer.prediction(
                f"{vid}-{one.number - 1}", vid, fit=answer.fit, path=str(path)
            )
            to_jsonl((found,))  # what cannot be written should not take the others
        except ITEM_ERRORS as error:
            failures.append(failure(f"{path}: {one.query!r}", error))
            continue
        one.answers.append(found)
        if page:
            one.curves[vid] = Curve.of(answer, encoded.duration)
        one.somewhere |= not answer.absent
    return failures


def _table(query: str, best: Sequence[Shown]) -> Table:
    """Return the table of a query's moments, each with a link to its video."""
    from zsvg.grounding.writers import hms
    from zsvg.report.links import file_url, near

    files = [answer.extra["path"] for answer, _ in best]
    rows = [
        (near(file), f"{a.extra['fit']:.3f}", hms(start), hms(end), f"{score:.3f}")
        for file, (a, (start, end, score)) in zip(files, best, strict=True)
    ]
    header, links = ("video", "fit", "start", "end", "score"), [*map(file_url, files)]
    return Table(header=header, rows=rows, title=query, links=links)


def _wrong(sentence: str) -> str:
    """Return why a sentence is no query, as the end of a message; "" if it is one."""
    if not sentence.strip():
        return "is blank; describe the moment in a few words"
    try:
        sentence.encode("utf-8")
    except UnicodeEncodeError:
        return "is not UTF-8; write it in this encoding"
    return ""


def _cut(folder: Path, clips: Sequence[tuple[str, Path, float, float]]) -> list[str]:
    """Save moments (name, video, start, end) as clips; return the failures."""
    from av.error import FFmpegError

    from zsvg.video.writing import cut

    failures = []
    for name, video, start, end in clips:
        try:
            cut(video, start, end, folder / name)
        except (*ITEM_ERRORS, FFmpegError) as error:
            failures.append(failure(folder / name, error))
        else:
            say(f"cut {folder / name}")
    return failures
