"""Paths as people read them, and as addresses that terminals and browsers open."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from zsvg.places.urls import Url, address_of, met


def near(path: str | Path) -> str:
    """Return a path from the working directory where that is shorter, else as it is."""
    given = str(path)
    if isinstance(met(given), Url):
        return given
    try:
        return min(given, os.path.relpath(given), key=len)
    except (OSError, ValueError):  # on another drive, or the working directory is gone
        return given


def file_url(path: str | Path, page: str | Path | None = None) -> str:
    """Return the address of a file: a URL as it is, a path percent-encoded byte by byte.

    Args:
        path: The file.
        page: The page that the address is to stand in. Where the file lies beside it or below, the
            address begins there, so that the folder of both can be moved.
    """
    target = met(path)
    if page is not None and not isinstance(target, Url) and not isinstance(page, Url):
        folder, target = Path(os.path.abspath(page)).parent, Path(os.path.abspath(path))
        if target.is_relative_to(folder):
            return quote(os.fsencode(target.relative_to(folder).as_posix()))
    return address_of(target)
