"""What is in a folder of cached frame features, and how to make it smaller.

Only files that are ours are ever touched: features, and answers of endpoints, which are named by
the SHA-256 of a key and hold that key, and the hashes of videos beside them (`zsvg.video.hashes`).
Anything else in the folder is counted, and left alone.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from zsvg.features.answers import SUFFIX, read_answer
from zsvg.features.extract import FORMAT, file_name
from zsvg.video import hashes

_NAME = re.compile(r"[0-9a-f]{64}\.safetensors")
_ANSWER = re.compile(rf"[0-9a-f]{{64}}{re.escape(SUFFIX)}")
_HASHES = re.escape(hashes.FILE)
_TEMPORARY = re.compile(
    r"\.(?:[0-9a-f]{64}(\.safetensors|\.json)\.\d+-\d+\.tmp\1|"
    rf"{_HASHES}\.\d+-\d+\.tmp\.jsonl)"
)
_ABANDONED = 86_400.0
"""Seconds after which a temporary file belongs to no running process: one video takes less."""

State = Literal["features", "answer", "hashes", "in work", "old", "damaged", "left behind"]
_USED = ("features", "answer", "hashes", "in work")


@dataclass(frozen=True, kw_only=True)
class CachedFile:
    """One of our files.

    Attributes:
        path: The file.
        state: "features" of one video; "answer" of an endpoint; "hashes" of many videos; "in work",
            being written now; "old", of a format that nothing reads any more; "damaged", also read
            by nothing; or "left behind" by a process that was killed while writing.
        size: Bytes.
        used: When it was last written or read, seconds since 1970.
        details: What the features are of: `seconds`, `frames`, `width`, and of newer files `fps`,
            `framing` and the backbone's `fingerprint`; how many `videos` have hashes; empty for
            other states.
    """

    path: Path
    state: State
    size: int
    used: float
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CacheContent:
    """A folder of cached features.

    Attributes:
        folder: The folder, which need not exist.
        files: Ours, the one that was used last at the end.
        foreign: How many files there are not ours.
    """

    folder: Path
    files: tuple[CachedFile, ...]
    foreign: int

    @property
    def size(self) -> int:
        """Bytes of our files."""
        return sum(file.size for file in self.files)


def cache_content(folder: str | Path) -> CacheContent:
    """Return what is in a folder of cached features; of these, only heads are read."""
    folder = Path(folder).expanduser()
    files: list[CachedFile] = []
    foreign = 0
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if (found := _recognise(path)) is None:
            foreign += 1
        else:
            files.append(found)
    files.sort(key=lambda file: (file.used, file.path.name))
    return CacheContent(folder=folder, files=tuple(files), foreign=foreign)


def prune(
    folder: str | Path,
    *,
    older_than: float | None = None,
    unused: bool = False,
    dry_run: bool = False,
) -> list[CachedFile]:
    """Remove cached features; a file is removed whole or not at all, and can be made again.

    Args:
        folder: Folder of cached features.
        older_than: Remove what was neither written nor read for so many seconds.
        unused: Remove what nothing reads any more: "old", "damaged" and "left behind".
        dry_run: Remove nothing.

    Returns:
        The files that are (or would be) removed.
    """
    removed = []
    now = time.time()
    for file in cache_content(folder).files:
        aged = older_than is not None and now - file.used > older_than
        if file.state == "in work" or not (aged or (unused and file.state not in _USED)):
            continue
        if not dry_run:
            file.path.unlink(missing_ok=True)  # another process may be pruning too
        removed.append(file)
    return removed


def _recognise(path: Path) -> CachedFile | None:
    """Return one of our files, None for others."""
    if path.is_symlink() or not path.is_file():
        return None
    status = path.stat()
    known: dict[str, Any] = {"path": path, "size": status.st_size, "used": status.st_mtime}
    if _TEMPORARY.fullmatch(path.name):
        abandoned = time.time() - status.st_mtime > _ABANDONED
        return CachedFile(state="left behind" if abandoned else "in work", **known)
    if path.name == hashes.FILE:
        return _hashes(path, known)
    if _ANSWER.fullmatch(path.name):
        return None if read_answer(path) is None else CachedFile(state="answer", **known)
    if not _NAME.fullmatch(path.name):
        return None
    try:
        with safe_open(path, framework="numpy") as handle:
            meta = json.loads((handle.metadata() or {})["zsvg"])
            frames, width = handle.get_slice("features").get_shape()
        details = {"seconds": float(meta["duration"]), "frames": frames, "width": width}
        key = meta.get("key", {"format": 1})  # the first files held no key
    except SafetensorError:
        return CachedFile(state="damaged", **known)
    except (OSError, KeyError, ValueError, TypeError, AttributeError):
        return None  # safetensors of somebody else, under a name like ours
    state: State = "features" if key["format"] == FORMAT else "old"
    if len(key) > 1 and file_name(key) != path.name:
        state = "damaged"
    details |= {name: key[name] for name in ("fps", "framing", "fingerprint") if name in key}
    return CachedFile(state=state, details=details, **known)


def _hashes(path: Path, known: dict[str, Any]) -> CachedFile | None:
    try:
        table, lines = hashes.read(path)
    except OSError:
        return None
    if lines and not table:
        return None  # somebody else's, under our name
    return CachedFile(state="hashes", details={"videos": len(table)}, **known)
