"""What is in a library, whether it fits together, and how it gets smaller; no model is needed."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zsvg.library.manifest import read_manifest
from zsvg.library.said import Said
from zsvg.library.tables import Tables, Video
from zsvg.library.writing import writing
from zsvg.places.urls import Url, place_of

_SPACE = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, kw_only=True)
class Freed:
    """What `compact` did: bytes before and after."""

    before: int
    after: int


def tables_of(folder: str | Path) -> Tables:
    """Return the tables of the space that is searched.

    Raises:
        ZsvgError: There is no library, or it cannot be read.
    """
    manifest = read_manifest(place_of(folder))
    return Tables(place_of(folder) / manifest.current, manifest.space.width)


def info(folder: str | Path) -> dict[str, Any]:
    """Return what a library holds, as plain JSON."""
    folder = place_of(folder)
    manifest, tables = read_manifest(folder), tables_of(folder)
    videos = tables.videos()
    usable = [video for video in videos if video.usable]
    said = Said.there(folder / manifest.current, manifest.space.width)
    coming = [space for name, space in manifest.spaces.items() if name != manifest.current]
    return {
        "folder": str(folder),
        "model": manifest.space.model,
        "encoder": manifest.space.encoder,
        "fps": manifest.space.fps,
        "roots": list(manifest.roots),
        "videos": len(usable),
        "hours": round(sum(video.duration for video in usable) / 3600, 3),
        "vanished": sum(video.vanished for video in videos),
        "failed": sum(bool(video.failure) for video in videos),
        "with_words": 0 if said is None else sum(heard.count > 0 for heard in said.heard()),
        "rows": tables.sizes(),
        "indexed": tables.indexed,
        "coming": [space.model for space in coming],
        "bytes": _size(folder),
    }


def check(folder: str | Path) -> list[str]:
    """Return what does not fit together, a line each."""
    manifest, tables = read_manifest(place_of(folder)), tables_of(folder)
    said = Said.there(place_of(folder) / manifest.current, manifest.space.width)
    return tables.problems() + ([] if said is None else said.problems())


def compact(folder: str | Path, *, alone: bool = False) -> Freed:
    """Merge small files, remove what nothing reads any more, and bring the index up to date.

    Args:
        folder: The library.
        alone: Nobody searches it now: what readers of the last minutes might need goes too.

    Raises:
        ZsvgError: Another process is writing to it.
    """
    folder = place_of(folder)
    with writing(folder):
        manifest = read_manifest(folder)
        before = _size(folder)
        for name, space in manifest.spaces.items():
            tables = Tables(folder / name, space.width)
            tables.sweep()
            tables.optimise(alone=alone)
            if (said := Said.there(folder / name, space.width)) is not None:
                said.sweep(tables.videos())
                said.optimise(alone=alone)
        for old in () if isinstance(folder, Url) else sorted(folder.iterdir()):
            if old.name not in manifest.spaces and _is_space(old):
                shutil.rmtree(old)
        return Freed(before=before, after=_size(folder))


def prune(folder: str | Path) -> list[Video]:
    """Forget the videos that vanished, with their features and pictures; return them.

    Raises:
        ZsvgError: Another process is writing to it.
    """
    with writing(place_of(folder)):
        return forget_vanished(tables_of(folder))


def forget_vanished(tables: Tables) -> list[Video]:
    """Forget the videos that vanished; the caller holds the lock."""
    vanished = [video for video in tables.videos() if video.vanished]
    tables.forget(vanished)
    tables.sweep()
    if (said := Said.there(tables.folder, tables.width)) is not None:
        said.sweep(tables.videos())
    return vanished


def _is_space(folder: Path) -> bool:
    """Whether a folder holds tables of ours, and nothing else."""
    if folder.is_symlink() or not folder.is_dir() or not _SPACE.fullmatch(folder.name):
        return False
    names = ("videos", "features", "frames", "events", "heard", "lines")
    ours = {f"{name}.lance" for name in names}
    return {path.name for path in folder.iterdir()} <= ours


def _size(folder: Path) -> int:
    if isinstance(folder, Url):
        return sum(file.stat().st_size for file in folder.below())
    files = (Path(here, name) for here, _, names in os.walk(folder) for name in names)
    return sum(file.stat().st_size for file in files if file.exists())
