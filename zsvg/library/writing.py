"""Only one process writes to a library at a time; any number read it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir

from zsvg.errors import ZsvgError
from zsvg.files import locked, sha256_json
from zsvg.places.urls import Url

LOCK = "index.lock"


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Hold the lock of a library; that of one behind a URL excludes processes of this machine.

    Raises:
        ZsvgError: Another process holds it.
    """
    lock = folder / LOCK
    if isinstance(folder, Url):
        lock = Path(gettempdir(), f"zsvg-{sha256_json(str(folder))[:16]}.lock")
    with locked(lock) as mine:
        if not mine:
            raise ZsvgError(f"{folder}: another zsvg is writing to it; try again when it is done")
        yield
