"""Paths as people read them, and as addresses that terminals and browsers open."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote


def near(path: str | Path) -> str:
    """Return a path from the working directory where that is shorter, else as it is."""
    given = os.fspath(path)
    try:
        return min(given, os.path.relpath(given), key=len)
    except (OSError, ValueError):  # on another drive, or the working directory is gone
        return given


def file_url(path: str | Path, page: str | Path | None = None) -> str:
    """Return the address of a local file, percent-encoded byte by byte.

    Args:
        path: The file.
        page: The page that the address is to stand in. Where the file lies beside it or below, the
            address begins there, so that the folder of both can be moved.
    """
    target = Path(os.path.abspath(path))
    if page is not None and target.is_relative_to(folder := Path(os.path.abspath(page)).parent):
        return quote(os.fsencode(target.relative_to(folder).as_posix()))
    return target.as_uri()
