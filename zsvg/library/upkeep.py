"""What is in a library, whether it fits together, and how it gets smaller; no model is needed."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zsvg.library.manifest import Manifest, read_manifest
from zsvg.library.sentences import said_there
from zsvg.library.tables import Tables, Video
from zsvg.library.writing import writing
from zsvg.places.urls import Url, place_of

_SPACE = re.compile(r"[0-9a-f]{16}")
_SENTENCES = re.compile(r"sentences-[0-9a-f]{16}")


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
    said = said_there(folder, manifest, manifest.current)
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
        "sentence_model": manifest.sentences.model if manifest.sentences else None,
        "with_words": 0 if said is None else sum(heard.count > 0 for heard in said.heard()),
        "rows": tables.sizes(),
        "indexed": tables.indexed,
        "coming": [space.model for space in coming],
        "bytes": _size(folder),
    }


def check(folder: str | Path) -> list[str]:
    """Return what does not fit together, a line each."""
    manifest, tables = read_manifest(place_of(folder)), tables_of(folder)
    said = said_there(place_of(folder), manifest, manifest.current)
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
            if (said := said_there(folder, manifest, name)) is not None:
                said.sweep(tables.videos())
                said.optimise(alone=alone)
        for old in () if isinstance(folder, Url) else _unused(folder, manifest):
            shutil.rmtree(old)
        return Freed(before=before, after=_size(folder))


def prune(folder: str | Path) -> list[Video]:
    """Forget the videos that vanished, with their features and pictures; return them.

    Raises:
        ZsvgError: Another process is writing to it.
    """
    with writing(place_of(folder)):
        vanished = forget_vanished(tables := tables_of(folder))
        manifest = read_manifest(place_of(folder))
        if (said := said_there(place_of(folder), manifest, manifest.current)) is not None:
            said.sweep(tables.videos())
        return vanished


def forget_vanished(tables: Tables) -> list[Video]:
    """Forget the videos that vanished, but not what was said; the caller holds the lock."""
    vanished = [video for video in tables.videos() if video.vanished]
    tables.forget(vanished)
    tables.sweep()
    return vanished


def _unused(folder: Path, manifest: Manifest) -> list[Path]:
    """Return the folders of ours in a library that nothing reads any more."""
    own = manifest.sentences.name if manifest.sentences else ""
    unused = [old for old in folder.iterdir() if old.name not in manifest.spaces and _is_space(old)]
    for space in (folder / name for name in manifest.spaces):
        unused += [old for old in space.iterdir() if old.name != own and _is_said(old)]
        if own:  # what the text tower was used for
            unused += [place for place in _said_tables(space) if place.is_dir()]
    return sorted(unused)


def _is_space(folder: Path) -> bool:
    """Whether a folder holds tables of ours, and nothing else."""
    if folder.is_symlink() or not folder.is_dir() or not _SPACE.fullmatch(folder.name):
        return False
    ours = {f"{name}.lance" for name in ("videos", "features", "frames", "events")}
    ours |= {place.name for place in _said_tables(folder)}
    return all(path.name in ours or _is_said(path) for path in folder.iterdir())


def _is_said(folder: Path) -> bool:
    """Whether a folder holds what is said, by a model of sentences, and nothing else."""
    if folder.is_symlink() or not folder.is_dir() or not _SENTENCES.fullmatch(folder.name):
        return False
    return set(folder.iterdir()) <= set(_said_tables(folder))


def _said_tables(folder: Path) -> list[Path]:
    return [folder / "heard.lance", folder / "lines.lance"]


def _size(folder: Path) -> int:
    if isinstance(folder, Url):
        return sum(file.stat().st_size for file in folder.below())
    files = (Path(here, name) for here, _, names in os.walk(folder) for name in names)
    return sum(file.stat().st_size for file in files if file.exists())
