"""LanceDB: how it is found, and its errors in one line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zsvg.errors import ZsvgError, reason


def engine() -> tuple[Any, Any]:
    """Return the modules of LanceDB and of Arrow.

    Raises:
        ZsvgError: They are not installed.
    """
    try:
        import lancedb
        import pyarrow
    except ImportError:
        raise ZsvgError("a library needs LanceDB: pip install 'zsvg[library]'") from None
    return lancedb, pyarrow


@contextmanager
def engine_of(folder: Path) -> Iterator[None]:
    """Turn what LanceDB raises over damaged files into an error of one line."""
    try:
        yield
    except (RuntimeError, ValueError, OSError) as error:
        raise ZsvgError(
            f"{folder}: LanceDB cannot read it ({reason(error)[:300]}); index the videos into a "
            "new folder"
        ) from error


def quoted(text: str) -> str:
    """Return a text as it stands in a condition."""
    return "'" + text.replace("'", "''") + "'"


def condition_of(column: str, values: Sequence[str]) -> str:
    """Return the condition that a column has one of some values."""
    return f"{column} IN ({', '.join(map(quoted, values))})"
