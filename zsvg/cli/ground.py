"""`zsvg ground`: which moments of which videos sentences describe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from zsvg.cli.options import (
    AllowDownload,
    Cache,
    Device,
    Domain,
    Model,
    Rehash,
    Templates,
    Truncated,
    cache_folder,
    finish,
    split_sentences,
)
from zsvg.cli.results import AnswersOutput, AsMoments, Table, destination
from zsvg.cli.terminal import loading, progress, say
from zsvg.errors import ITEM_ERRORS, ZsvgError, failure
from zsvg.files import file_stem


def ground(
    video: Annotated[
        str, typer.Argument(help="A video, a folder (searched with all below it), or a pattern.")
    ],
    queries: Annotated[
        list[str],
        typer.Argument(
            metavar="[VIDEO]... SENTENCE...", help="More of them, then one or more sentences."
        ),
    ],
    model: Model,
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
    templates: Templates = None,
    cache: Cache = None,
    rehash: Rehash = False,
    allow_truncated: Truncated = False,
    domain: Domain = None,
    allow_download: AllowDownload = False,
    device: Device = None,
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
    from zsvg.backbones.names import PREFIX, check_model
    from zsvg.grounding.writers import check_fits, hms
    from zsvg.records import Prediction, to_jsonl
    from zsvg.report.links import file_url, near
    from zsvg.video.finding import find_readable

    to = destination(output, form, page=True)
    more, queries = split_sentences(queries)
    wrong = {number: _wrong(query) for number, query in enumerate(queries, 1)}
    asked = [(number, query) for number, query in enumerate(queries, 1) if not wrong[number]]
    if not asked:
        raise ZsvgError(f"the sentence {wrong[1]}")
    if cut is not None and cut.exists() and not cut.is_dir():
        raise ZsvgError(f"--cut {cut}: is a file; name a folder for the clips")
    check_model(model)
    found = find_readable(video, *more, captions=model.startswith(PREFIX))
    check_fits(to.form, len(found))
    with loading(model):
        from zsvg.grounding.load import load
        from zsvg.grounding.ranking import best_moments, by_fit, distinct
        from zsvg.report.results_page import Curve, write_results
        from zsvg.training.recipes import load_templates

        texts = load_templates(templates) if templates else ()
        grounder = load(
            model, device, domain=domain, templates=texts, allow_download=allow_download
        )
    folder = cache_folder(cache, rehash)
    answers: dict[int, list[Prediction]] = {number: [] for number, _ in asked}
    curves: dict[int, dict[str, Curve]] = {number: {} for number, _ in asked}
    somewhere: set[str] = set()
    failures = [
        *getattr(found, "unusable", ()),
        *(f"sentence {number} {why}" for number, why in wrong.items() if why),
    ]
    with progress("grounding", len(found)) as advance:
        for done, (vid, path) in enumerate(found.items(), 1):
            try:
                encoded = grounder.encode(path, cache=folder, allow_truncated=allow_truncated)
            except ITEM_ERRORS as error:
                failures.append(failure(path, error))
                advance(done)
                continue
            for number, query in asked:
                try:
                    answer = grounder.ground(encoded, query, top_k=top_k)
                    windows = tuple((m.start, m.end, m.score) for m in answer.moments)
                    prediction = Prediction(
                        qid=f"{vid}-{number - 1}",
                        query=query,
                        vid=vid,
                        pred_relevant_windows=windows,
                        extra={**answer.extra, "fit": answer.fit, "path": str(path)},
                    )
                    to_jsonl((prediction,))  # what cannot be written should not take the others
                except ITEM_ERRORS as error:
                    failures.append(failure(f"{path}: {query!r}", error))
                    continue
                answers[number].append(prediction)
                if to.page:
                    curves[number][vid] = Curve.of(answer, encoded.duration)
                somewhere |= set() if answer.absent else {query}
            advance(done)
    predictions: list[Prediction] = []
    read: list[Prediction] = []  # what people read: without near duplicates
    tables, clips, seen = [], [], []
    for number, query in asked:
        predictions += (ranked := by_fit(answers[number]))
        shown = ranked if everything else [distinct(answer) for answer in ranked]
        read += shown
        best = best_moments(shown, top_k)
        seen.append((query, best, curves[number]))
        files = [a.extra["path"] for a, _ in best]
        rows = [
            (near(file), f"{a.extra['fit']:.3f}", hms(start), hms(end), f"{score:.3f}")
            for file, (a, (start, end, score)) in zip(files, best, strict=True)
        ]
        header, links = ("video", "fit", "start", "end", "score"), [*map(file_url, files)]
        tables.append(Table(header=header, rows=rows, title=query, links=links))
        clips += [
            (f"{number:02d}-{rank}-{file_stem(a.vid)}.mp4", found[a.vid], start, end)
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
    for query in dict.fromkeys(query for _, query in asked):
        if predictions and query not in somewhere:
            say(f"{query!r}: perhaps no such moment, every score is low for this model")
    if to.file is not None and places:
        say(f"wrote {len(predictions)} answers to {places}")
    if cut is not None:  # last: answers do not wait for clips, nor fail with them
        failures += _cut(cut, clips)
    finish(failures)


def _wrong(sentence: str) -> str:
    """Return why a sentence cannot be asked, as the end of a message."""
    if not sentence.strip():
        return "is blank; describe the moment in a few words"
    try:
        sentence.encode("utf-8")
    except UnicodeEncodeError:
        return "is not UTF-8; write it in this encoding"
    return ""


def _cut(folder: Path, clips: Sequence[tuple[str, Path, float, float]]) -> list[str]:
    """Save moments (name, video, start, end) as clips; return what went wrong, by clip."""
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
