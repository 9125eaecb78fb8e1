"""Indexing a folder from the page, where the command line allows it."""

from __future__ import annotations

import secrets

from .jobs import Job, check_over
from .searching import shelf_of
from .visit import Site, Visit


def begin(site: Site, visit: Visit, name: str, below: str) -> None:
    """Start to add a folder to the library; what is there already is not read again.

    Args:
        site: The page.
        visit: Whose run.
        name: One of the folders that the command line named, as the page calls it.
        below: Path from there; "": all of it.

    Raises:
        ZsvgError: The folder is not one of those or below them, or a run is under way.
    """
    check_over(visit.indexing)
    shelf = shelf_of(site)
    place = shelf.place(name, below)
    folder = site.home(visit) / f"index-{secrets.token_hex(8)}"  # made when the run begins
    visit.indexing = Job(
        {
            "task": "index",
            "folder": str(folder),
            "library": str(shelf.library.folder.resolve()),
            "place": str(place),
            "root": str(shelf.index[name]),
            "device": site.device,
            "cache": str(site.features),
        },
        site.index_turns,
    )
