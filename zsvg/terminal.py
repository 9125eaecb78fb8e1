"""What commands show: lines, tables and progress. Imports of rich wait until something is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def console(stderr: bool = True) -> Console:
    """Return a console that does not cut what goes to a file."""
    from rich.console import Console

    shown = Console(stderr=stderr, soft_wrap=True, highlight=False)
    if not shown.is_terminal:
        shown.width = 200  # a file or pipe has no width that a table should be cut to
    return shown


def say(text: str) -> None:
    """Tell something on stderr; results alone go to stdout."""
    from rich.markup import escape

    console().print(escape(text))


def table(header: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """Print a table on stdout, the first column to the left."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title) if title else None, box=box.SIMPLE, title_justify="left")
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index == 0 else "right", no_wrap=index > 0)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console(stderr=False).print(table)


@contextmanager
def progress(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar with the time left on stderr; yield a function that takes how many are done."""
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
    with Progress(*columns, console=shown, disable=not shown.is_terminal) as bar:
        task = bar.add_task(name, total=total)
        yield lambda done: bar.update(task, completed=done)
