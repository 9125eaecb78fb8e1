"""How commands give results: `--format` shows them on stdout, `-o` writes a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from zsvg.cli.places import REMOTE
from zsvg.cli.terminal import say, table
from zsvg.errors import ITEM_ERRORS, failure
from zsvg.files import STANDARD, check_output, json_text, write_json, write_text
from zsvg.grounding.editors import TIMELINES, check_editors
from zsvg.grounding.writers import (
    SUBTITLES,
    Records,
    csv_text,
    form_of,
    hms,
    moments_text,
    windows,
    write_moments,
)
from zsvg.places.urls import Url

AsMoments = Annotated[
    Literal["table", "jsonl", "json", "csv", "srt", "vtt", "otio", "edl", "fcpxml"] | None,
    typer.Option("--format", help="Show the moments on stdout in this form."),
]
AsNumbers = Annotated[
    Literal["table", "json", "jsonl", "csv"],
    typer.Option("--format", help="How to show the result; jsonl: on one line, for a log."),
]
AsFigures = Annotated[
    Literal["table", "json", "jsonl"],
    typer.Option("--format", help="How to show the result; jsonl: on one line, for a log."),
]
MomentsOutput = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Write .jsonl, .json, .csv, .srt, .vtt, or for editors .otio, .edl, .fcpxml; `-` is "
        "stdout, as JSONL.",
    ),
    REMOTE,
]
AnswersOutput = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Write .jsonl, .json, .csv, .srt, .vtt, for editors .otio, .edl, .fcpxml, or .html, a "
        "page to look at the moments; `-` is stdout, as JSONL.",
    ),
    REMOTE,
]
NumbersOutput = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Write the numbers as JSON; `-` is stdout."),
    REMOTE,
]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows to show, the first column to the left; `links` are what its cells lead to."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str | None = None
    links: Sequence[str] = ()


def show_result(form: str, value: Any, *tables: Table) -> None:
    """Show numbers on stdout.

    Args:
        form: "table" or "csv" show the tables; "json" the value; "jsonl" each item of a list on
            its own line, or the whole value on one.
        value: What the tables are made of, as plain JSON.
        tables: For people. CSV can hold one.
    """
    if form == "table":
        for one in tables:
            table(one.header, one.rows, one.title, one.links)
    elif form == "csv":
        write_text(STANDARD, "".join(csv_text((one.header, *one.rows)) for one in tables))
    elif form == "json":
        write_json(STANDARD, value)
    else:
        write_text(STANDARD, "".join(map(json_text, value if isinstance(value, list) else [value])))


def give_numbers(form: str, value: Any, output: Path | None, *tables: Table) -> None:
    """Show numbers as `--format` says, and write them where `-o` says."""
    if str(output) == STANDARD:
        show_result("json" if form == "table" else form, value, *tables)
        return
    show_result(form, value, *tables)
    if output is not None:
        write_json(output, value)
        say(f"wrote {output}")


def leave(output: Path | None) -> None:
    """Say that an output is not replaced: everything failed, and what is there is worth more."""
    if output is not None and str(output) != STANDARD:
        lies = output.exists() if isinstance(output, Url) else os.path.lexists(output)
        there = "left as it was" if lies else "not written"
        say(f"everything failed: {output} is {there}")


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where records go: a file, stdout in a form, or both."""

    file: Path | None
    form: str | None

    @property
    def page(self) -> bool:
        """Whether the file is a page, which the command writes that was told to."""
        return self.file is not None and form_of(self.file, "html") == "html"

    @property
    def timeline(self) -> bool:
        """Whether a timeline of clips is among what is wanted, which refers to video files."""
        form = None if self.file is None else form_of(self.file, "html")
        return form in TIMELINES or self.form in TIMELINES

    def give(
        self,
        records: Records,
        tables: Sequence[Table] | None = None,
        *,
        read: Records | None = None,
        shots: Records | None = None,
        write_page: Callable[[Path], None] | None = None,
        failed: bool = False,
        failures: list[str] | None = None,
    ) -> str:
        """Write and show records; return the names of where they are now.

        Args:
            records: Annotations or predictions.
            tables: What to show as tables instead of every moment.
            read: What subtitles hold instead, which people read as they do tables.
            shots: What timelines of editors hold instead, in that order.
            write_page: Writes the file that is a `page`.
            failed: Not one could be made: the file is left as it was.
            failures: Takes why the file cannot be written, or what a timeline lacks, for a batch
                that has more to say.
        """
        places: list[str] = []
        if failed and self.form == "table":
            pass  # there is nothing to show
        elif self.form == "table" and tables is not None:
            show_result(self.form, None, *tables)
        elif self.form == "table":
            rows = [
                (str(record.qid), record.vid, hms(start), hms(end), _number(score), sentence)
                for record in records
                for start, end, score, sentence in windows(record)
            ]
            table(("query", "video", "start", "end", "score", "sentence"), rows)
        elif self.form is not None:
            own = _of(self.form, records, read, shots)
            write_text(STANDARD, moments_text(own, self.form, failures))
        if failed:
            leave(self.file)
        elif self.file is not None:  # last: what is shown is not lost where this fails
            try:
                if write_page is not None and self.page:
                    write_page(self.file)
                    places = [str(self.file)]
                else:
                    own = _of(form_of(self.file), records, read, shots)
                    places = [str(path) for path in write_moments(self.file, own, failures)]
            except ITEM_ERRORS as error:
                if failures is None:
                    raise
                failures.append(failure(self.file, error))
        return ", ".join([*places, *(["stdout"] if self.form else [])])


def destination(
    output: Path | None, form: str | None, default: str | None = None, *, page: bool = False
) -> Destination:
    """Return where `-o` and `--format` want records, before any work is done for them.

    Args:
        output: A file, `-`, or none.
        form: For stdout; `-o -` alone means "jsonl".
        default: The file where neither is given; None for a command that always shows something,
            a table unless it is told otherwise.
        page: The command can write the file as a page, too.

    Raises:
        ZsvgError: The name of the file says no form, or is that of a folder, or packages are
            missing that a form needs.
    """
    if str(output) == STANDARD:
        output, form = None, form or "jsonl"
    if output is not None:
        form_of(output, *(("html",) if page else ()))
        check_output(output)
    if output is None and form is None and default is not None:
        output = Path(default)
    to = Destination(file=output, form=form or ("table" if default is None else None))
    if to.timeline:
        check_editors(f"--format {form}" if form in TIMELINES else f"-o {output}")
    return to


def _number(score: float | None) -> str:
    return "-" if score is None else f"{score:.3f}"


def _of(form: str, records: Records, read: Records | None, shots: Records | None) -> Records:
    given = read if form in SUBTITLES else shots if form in TIMELINES else None
    return records if given is None else given
