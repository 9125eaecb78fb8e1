"""Paths as options: text, since pathlib makes "s3:/" of "s3://", and then a path or a URL."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from copy import copy
from pathlib import Path
from typing import Annotated, Any

from typer.models import OptionInfo

from zsvg.places.urls import local, place_of

REMOTE = "may be a URL"
"""In the `Annotated` of a path, that its command can use one; it is refused for all others."""

_AS_TEXT: dict[Any, Any] = {
    Path: str,
    Path | None: str | None,
    list[Path]: list[str],
    list[Path] | None: list[str] | None,
}


def as_text(
    parameters: Iterable[inspect.Parameter],
) -> tuple[list[inspect.Parameter], dict[str, str]]:
    """Return parameters that take text instead of paths.

    Returns:
        They, and name -> what messages call it, or "" for one that may be a URL.
    """
    made, paths = [], {}
    for one in parameters:
        kind: Any = one.annotation.__origin__
        more: tuple[Any, ...] = one.annotation.__metadata__
        if kind in _AS_TEXT:
            info = copy(more[0])
            shown = one.name.upper()
            if isinstance(info, OptionInfo):
                shown = f"--{one.name.replace('_', '-')}"
                info.metavar = info.metavar or "PATH"
            default = str(one.default) if isinstance(one.default, Path) else one.default
            one = one.replace(annotation=Annotated[_AS_TEXT[kind], info], default=default)
            paths[one.name] = "" if REMOTE in more else shown
        made.append(one)
    return made, paths


def as_places(options: Mapping[str, Any], paths: Mapping[str, str]) -> dict[str, Any]:
    """Return options whose text became paths or URLs.

    Args:
        options: Of a command.
        paths: As of `as_text`.

    Raises:
        ZsvgError: A URL where it cannot be used, or of no kind that is known.
    """

    def place(text: str, shown: str) -> Path:
        return local(text, f"what {shown} names") if shown else place_of(text)

    found = dict(options)
    for name, shown in paths.items():
        if isinstance(given := found.get(name), str):
            found[name] = place(given, shown)
        elif given:
            found[name] = [place(text, shown) for text in given]
    return found
