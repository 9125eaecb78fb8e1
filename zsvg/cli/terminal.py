"""What commands show: lines, tables, progress, logs. Imports of rich wait until it is needed."""

from __future__ import annotations

import gc
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from zsvg.errors import visible
from zsvg.places.patience import without_secrets

if TYPE_CHECKING:
    from rich.console import Console


class Advance(Protocol):
    """What `progress` yields."""

    def __call__(self, done: int, *, resumed: bool = False) -> None:
        """Show that `done` are done; `resumed`: by an earlier run, so the clock starts here."""


def console(stderr: bool = True) -> Console:
    """Return a console that does not cut what goes to a file."""
    from rich.console import Console

    shown = Console(stderr=stderr, soft_wrap=True, highlight=False, emoji=False)
    if not shown.is_terminal:
        shown.width = 200  # a file or pipe has no width that a table should be cut to
    return shown


def say(text: str) -> None:
    """Print a message on stderr, as one line; results alone go to stdout."""
    from rich.markup import escape

    console().print(escape(visible(without_secrets(text))))


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    title: str | None = None,
    links: Sequence[str] = (),
) -> None:
    """Print a table on stdout, the first column to the left.

    Args:
        header: Names of the columns.
        rows: Cells.
        title: Printed above.
        links: What the first cell of each row leads to, in terminals that know links (OSC 8).
    """
    from rich import box
    from rich.markup import escape
    from rich.style import Style
    from rich.table import Table
    from rich.text import Text

    def shown(text: str, link: str | None = None) -> Text:
        return Text().append(visible(text), Style(link=link) if link else None)

    above = escape(visible(title)) if title else None
    table = Table(title=above, box=box.SIMPLE, title_justify="left")
    for index, name in enumerate(header):
        table.add_column(shown(name), justify="left" if index == 0 else "right", no_wrap=index > 0)
    for index, (first, *others) in enumerate(rows):
        table.add_row(shown(first, links[index] if links else None), *map(shown, others))
    console(stderr=False).print(table)


class _OneLine(logging.Formatter):
    """Formats a message as one line; a traceback keeps its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return visible(without_secrets(super().formatMessage(record)))

    def formatException(self, ei: Any) -> str:
        text = without_secrets(super().formatException(ei))
        return "\n".join(map(visible, text.split("\n")))


class _Lines(logging.Handler):
    """Writes to the current `sys.stderr`: rich replaces it while it shows a bar."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(self.format(record) + "\n")


class _Form(_OneLine):
    """Formats records with time and place, warnings without."""

    def format(self, record: logging.LogRecord) -> str:
        if record.levelno < logging.WARNING:
            return super().format(record)
        return visible(without_secrets(f"{record.levelname.lower()}: {record.getMessage()}"))


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Print on a terminal what a block imports and loads: that takes seconds.

    The garbage collector rests meanwhile, and leaves out later what was made. Imports make a
    million objects that stay, and to look through them again and again takes a fifth of the time.
    """
    # Of processes that torchrun started, one speaks; rich would come later than this line.
    if sys.stderr.isatty() and os.environ.get("RANK", "0") == "0":
        sys.stderr.write(f"loading {visible(without_secrets(name))} ...\n")
        sys.stderr.flush()
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collecting:
            gc.enable()


@contextmanager
def logs() -> Iterator[None]:
    """Show warnings of the library on stderr meanwhile, and what `show_logs` adds to them."""
    logger = logging.getLogger("zsvg")
    before = logger.level, logger.propagate
    handler = _Lines()
    handler.setFormatter(_Form("%(asctime)s %(name)s: %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)
    logger.propagate = False  # a package that sets up the root logger would show them again
    # open_clip logs to the root, and Python's `logging` sets it up for that where nobody has: from
    # then on libraries with handlers of their own are heard twice. What open_clip says of a failure
    # is in the error too; -v shows it.
    others = _Lines()
    others.setFormatter(_Form())
    others.addFilter(lambda record: record.name == "root" and logger.isEnabledFor(logging.INFO))
    logging.getLogger().addHandler(others)
    shown, warnings.showwarning = warnings.showwarning, _show_warning
    try:
        yield
    finally:
        warnings.showwarning = shown
        logging.getLogger().removeHandler(others)
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]


def _show_warning(message: Warning | str, *_place: Any, **_more: Any) -> None:
    """Show a warning of Python as one line; where in a library it was raised is left out."""
    say(f"warning: {' '.join(str(message).split())}")


def show_logs(verbosity: int) -> None:
    """Show within `logs` also other lines: 1 what is done, 2 or more every detail."""
    if verbosity > 0:
        os.environ.setdefault("HF_HUB_VERBOSITY", "warning")
        level = logging.INFO if verbosity == 1 else logging.DEBUG
        logging.getLogger("zsvg").setLevel(level)


@contextmanager
def progress(name: str, total: int, *, hidden: bool = False) -> Iterator[Advance]:
    """Show a bar with the time left on stderr; yield a function that takes how many are done.

    Args:
        name: Stands before the bar.
        total: How many there are.
        hidden: Show nothing, as where stderr is no terminal.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    shown = console()
    hidden = hidden or not shown.is_terminal
    # rich's own 30 seconds would forget the last video before a long one is done.
    hour = 3600.0
    with Progress(*columns, console=shown, disable=hidden, speed_estimate_period=hour) as bar:
        task = bar.add_task(visible(name), total=total)

        def advance(done: int, *, resumed: bool = False) -> None:
            if resumed:
                bar.reset(task, completed=done)
            else:
                bar.update(task, completed=done)

        yield advance
