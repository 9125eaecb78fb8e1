"""Only one process writes to a library at a time; any number read it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zsvg.errors import ZsvgError
from zsvg.files import locked

LOCK = "index.lock"


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Hold the lock of a library.

    Raises:
        ZsvgError: Another process holds it.
    """
    with locked(folder / LOCK) as mine:
        if not mine:
            raise ZsvgError(f"{folder}: another zsvg is writing to it; try again when it is done")
        yield
