"""Other people's annotations, metrics, trivial answers, audits and a look at pseudo labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from zsvg.cli import completion
from zsvg.cli import options as opts
from zsvg.cli.options import cache_folder, finish, footage, name_unusable, one_stdin
from zsvg.cli.places import REMOTE
from zsvg.cli.results import (
    AsFigures,
    AsMoments,
    AsNumbers,
    MomentsOutput,
    NumbersOutput,
    Table,
    destination,
    give_numbers,
    leave,
)
from zsvg.cli.terminal import progress, say
from zsvg.errors import ZsvgError, ours


def _show_protocols(value: str) -> str:
    if value == "list":
        from zsvg.evaluation.protocols.by_name import PROTOCOLS

        for known in PROTOCOLS:
            count = f"{known.queries} queries; " if known.queries else ""
            typer.echo(f"{known.name}: {known.rule}\n    ({count}{known.source})")
        raise typer.Exit
    return value


def _show_forms(value: str) -> str:
    if value == "list":
        from zsvg.datasets import NAMES

        for name, form in {**NAMES, "results": "predictions of TGN and others"}.items():
            typer.echo(f"{name}: {form}")
        raise typer.Exit
    return value


def convert(
    name: Annotated[
        str,
        typer.Argument(
            help="Whose form it is; `list` shows all.",
            callback=_show_forms,
            autocompletion=completion.datasets,
        ),
    ],
    file: Annotated[
        Path | None, typer.Argument(help="The file, .gz or not; `-` is stdin."), REMOTE
    ] = None,
    output: MomentsOutput = None,
    form: AsMoments = None,
    durations: Annotated[
        Path | None, typer.Option(help="Lengths of the videos, where the form has none."), REMOTE
    ] = None,
    questions: Annotated[
        Path | None, typer.Option(help="NExT-GQA's table of questions (.csv)."), REMOTE
    ] = None,
    lengths: Annotated[
        Path | None, typer.Option(help="Frames of the videos of video-reloc (length.json)."), REMOTE
    ] = None,
    as_is: Annotated[bool, typer.Option("--as-is", help="Repair and drop nothing.")] = False,
    prefix: Annotated[
        str, typer.Option(help="In front of every qid, so that files can be joined.")
    ] = "",
    report: Annotated[
        Path | None,
        typer.Option(help="Write every row that was changed as JSON; `-` is stdout."),
        REMOTE,
    ] = None,
) -> None:
    """Turn an annotation file of a published dataset into records, and say what was changed.

    Without -o and --format they are written to annotations.jsonl.

    Example: zsvg convert charades-sta charades_sta_test.txt --durations Charades_v1_test.csv
    """
    from zsvg.datasets import convert as read
    from zsvg.datasets.results import read_results
    from zsvg.files import STANDARD, write_json

    if file is None:
        raise typer.BadParameter("name the file to convert")
    one_stdin(file, durations, questions, lengths)
    to = destination(output, form, "annotations.jsonl")
    if to.form is not None and str(report) == STANDARD:
        raise ZsvgError("records and --report cannot both go to stdout; give one of them a file")
    if name == "results":
        predictions = read_results(file)
        say(f"{len(predictions)} predictions: {to.give(predictions)}")
        return
    result = read(
        name, file, durations=durations, questions=questions, lengths=lengths, as_is=as_is
    )
    records = [replace(record, qid=f"{prefix}{record.qid}") for record in result.records]
    places = to.give(records if prefix else result.records)
    for change, rows in result.changes.items():
        shown = ", ".join(rows[:3]) + (", ..." if len(rows) > 3 else "")
        say(f"{change}: {len(rows)} ({shown})")
    if report is not None:
        write_json(report, {change: list(rows) for change, rows in result.changes.items()})
        say(f"all of these rows: {report}")
    videos = len({record.vid for record in result.records})
    say(f"{len(result.records)} of {result.rows} queries, {videos} videos: {places}")


def evaluate(
    predictions: Annotated[Path, typer.Argument(help="Predictions (JSONL); `-` is stdin."), REMOTE],
    annotations: opts.Truth,
    protocol: Annotated[
        str,
        typer.Option(
            help="How to count; `list` shows all.",
            callback=_show_protocols,
            is_eager=True,
            autocompletion=completion.protocols,
        ),
    ] = "zsvg",
    output: NumbersOutput = None,
    form: AsNumbers = "table",
    trivial: Annotated[
        bool, typer.Option(help="Show what answers without video and query score.")
    ] = True,
) -> None:
    """Score predictions under a named protocol, beside the trivial answers.

    Example: zsvg evaluate predictions.jsonl test.jsonl --protocol charades-sta -o metrics.json
    """
    from zsvg.evaluation.baselines import trivial_answers
    from zsvg.evaluation.protocols.by_name import protocol as named
    from zsvg.records import read_annotations, read_predictions

    one_stdin(predictions, annotations)
    rules = named(protocol)
    truth = read_annotations(annotations)
    try:
        result = rules.score(read_predictions(predictions), truth)
    except ValueError as error:
        if not ours(error):
            raise
        raise ZsvgError(f"{annotations}: {error}") from error
    groups = {"all": result, **result.get("kinds", {})}
    names = _columns(result)
    if trivial and not rules.corpus and not all(name.startswith("HL-") for name in names):
        groups |= {
            f"[{name}]": rules.score(answers, truth)
            for name, answers in trivial_answers(truth).items()
        }
    rows = [
        (group, str(numbers.get("queries", len(truth))), *(_cell(numbers, n) for n in names))
        for group, numbers in groups.items()
    ]
    give_numbers(form, result, output, Table(header=("queries", "n", *names), rows=rows))
    for what, count in _problems(result).items():
        say(f"{what}: {count}")
    if warning := rules.warning(truth):
        say(warning)


def baseline(
    kind: Annotated[
        str,
        typer.Argument(
            help="whole, window, uniform or random.",
            autocompletion=completion.offer("whole", "window", "uniform", "random"),
        ),
    ],
    annotations: opts.Truth,
    output: MomentsOutput = None,
    form: AsMoments = None,
    window: Annotated[
        tuple[float, float], typer.Option(help="Start and end as fractions of the video.")
    ] = (0.25, 0.75),
    fit: Annotated[
        Path | None, typer.Option(help="Labels to choose the best window on, instead."), REMOTE
    ] = None,
    parts: Annotated[int, typer.Option(help="Equal parts of a uniform answer.")] = 3,
    seed: opts.Seed = 0,
) -> None:
    """Answer queries without looking at video or sentence: what every method must beat.

    Without -o and --format the answers are written to predictions.jsonl.

    Example: zsvg baseline window test.jsonl --fit train.jsonl -o window.jsonl
    """
    from zsvg.evaluation import baselines
    from zsvg.records import read_annotations

    one_stdin(annotations, fit)
    to = destination(output, form, "predictions.jsonl")
    truth = read_annotations(annotations)
    if kind == "whole":
        answers = baselines.whole_video(truth)
    elif kind == "window":
        if fit is not None:
            window = baselines.fit_fixed_window(read_annotations(fit))
            say(f"best window on {fit}: {window[0]:.2f} to {window[1]:.2f} of the video")
        answers = baselines.fixed_window(truth, *window)
    elif kind == "uniform":
        answers = baselines.uniform_part(truth, parts=parts, seed=seed)
    elif kind == "random":
        answers = baselines.random_windows(truth, seed=seed)
    else:
        raise ZsvgError(f"unknown baseline {kind!r}; choose whole, window, uniform or random")
    say(f"wrote {len(answers)} answers to {to.give(answers)}")


def audit(
    pseudo: opts.Pseudo,
    annotations: opts.Truth,
    output: NumbersOutput = None,
    form: AsFigures = "table",
    seed: opts.Seed = 0,
) -> None:
    """Measure pseudo labels against the truth, and against the labels of other videos.

    Example: zsvg audit pseudo.jsonl train.jsonl -o audit.json
    """
    from zsvg.evaluation.audit import audit as measure
    from zsvg.records import read_annotations

    one_stdin(pseudo, annotations)
    result = measure(read_annotations(pseudo), read_annotations(annotations), seed=seed)
    give_numbers(
        form,
        result.values,
        output,
        Table(header=("best IoU", "mean", ">= .5", ">= .7"), rows=result.rows()),
        Table(
            header=("share of labels", *result.bins),
            rows=result.histograms(),
            title="tenths of the video",
        ),
    )
    for line in result.notes():
        say(line)


def inspect(
    pseudo: opts.Pseudo,
    videos: Annotated[
        list[str] | None, typer.Option(help="Folder of the videos, to show pictures of them.")
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="Annotations (JSONL) to compare the labels with."), REMOTE
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write."), REMOTE] = Path(
        "inspect.html"
    ),
    most: Annotated[int, typer.Option(min=0, help="Most videos to draw, chosen at random.")] = 30,
    seed: opts.Seed = 0,
) -> None:
    """Show what pseudo-labelling made as one HTML page: numbers, and timelines of some videos.

    Example: zsvg inspect pseudo.jsonl --videos videos/ --truth train.jsonl -o inspect.html
    """
    from zsvg.records import read_annotations
    from zsvg.report.inspect import draw_videos, write_inspection
    from zsvg.video.finding import find_videos

    one_stdin(pseudo, truth)
    labels = read_annotations(pseudo)
    true = None if truth is None else read_annotations(truth)
    files = find_videos(*videos) if videos else None
    shown = len(draw_videos(labels, most, seed))
    with progress("drawing", shown) as advance:
        failures = write_inspection(
            output,
            labels,
            name=pseudo.name,
            videos=files,
            truth=true,
            most=most,
            seed=seed,
            on_progress=advance,
        )
    if failures and len(failures) == shown:
        leave(output)
    else:
        say(f"wrote {output}")
    finish(list(failures.values()))


def probe(
    annotations: opts.Truth,
    model: opts.Model,
    videos: opts.VideoFolders = None,
    seconds: Annotated[
        list[float] | None, typer.Option(help="Noise in front (default: 10 and 15).")
    ] = None,
    output: NumbersOutput = None,
    form: AsNumbers = "table",
    seed: opts.Seed = 0,
    features: opts.Features = None,
    clip_seconds: opts.ClipSeconds = None,
    window_seconds: opts.WindowSeconds = None,
    durations: opts.Durations = None,
    cache: opts.Cache = None,
    rehash: opts.Rehash = False,
    allow_download: opts.AllowDownload = False,
    device: opts.Device = None,
) -> None:
    """Put noise in front of videos and see whether a model's answers follow their content.

    Example: zsvg probe test.jsonl --videos videos/ --model model/ --seconds 10
    """
    from zsvg.backbones.base import videos_for
    from zsvg.evaluation.metrics import as_percent
    from zsvg.evaluation.probe import SECONDS
    from zsvg.evaluation.probe import probe as measure
    from zsvg.grounding.load import load
    from zsvg.records import read_annotations

    records = read_annotations(annotations)
    found = footage(videos, features, clip_seconds, window_seconds, durations)
    name_unusable(found)
    grounder = load(model, device, allow_download=allow_download)
    found = videos_for(grounder.backbone, found, records)
    with progress("probing", len(records)) as advance:
        results, failures = measure(
            grounder,
            records,
            found,
            seconds=seconds or SECONDS,
            seed=seed,
            cache=cache_folder(cache, rehash),
            on_progress=advance,
        )
    if not results:
        leave(output)
        finish(list(failures.values()))
    columns = ("R1@0.3", "R1@0.5", "R1@0.7", "mIoU")
    rows = [
        (
            f"{row['seconds']:g} s",
            *(as_percent(row["metrics"][name]) for name in columns),
            f"{row['followed']:.3f}",
            f"{row['stayed']:.3f}",
        )
        for row in results
    ]
    header = ("noise in front", *columns, "answers that follow", "that stay")
    give_numbers(form, results, output, Table(header=header, rows=rows))
    finish(list(failures.values()))


def _columns(result: Mapping[str, Any]) -> list[str]:
    """Return the numbers that a table has room for."""
    numbers = result.get("brief", result)
    names = [n for n, value in numbers.items() if value is None or isinstance(value, float)]
    return [name for name in names if not name.startswith(("HL-min-Fair", "HL-min-Good"))]


def _cell(result: Mapping[str, Any], name: str) -> str:
    from zsvg.evaluation.metrics import as_percent

    if "brief" not in result:
        return as_percent(result.get(name))
    value = result["brief"].get(name)  # in percent already
    return "-" if value is None else f"{value:.2f}"


def _problems(result: Mapping[str, Any]) -> dict[str, int]:
    names = ("missing", "unknown", "invalid", "moved")
    return result.get("problems") or {n: result[n] for n in names if result.get(n)}
