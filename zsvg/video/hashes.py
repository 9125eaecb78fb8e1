"""Hashes of whole videos, cached beside the features, so that videos are read once.

One line of JSON a video in `hashes.jsonl` of the cache folder: its path or URL, its state, and the
hash. Processes only ever add whole lines,
so that they can share it without locks; a line that was lost, torn, or made for another file costs
one more reading of the video, nothing else. The same holds for a folder that cannot be written.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
from contextlib import suppress
from pathlib import Path

from zsvg.errors import VideoError, ZsvgError
from zsvg.files import atomic_path, sha256_file
from zsvg.places.urls import State, Url, absolute, place_of, state_of

FILE = "hashes.jsonl"

_YOUNG = 2.0
"""Seconds that a file's times must be old: file systems count in up to two, and a change within
one count leaves no trace."""

_log = logging.getLogger(__name__)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_STATES = ((int, int, int, int), (int, str))
_lock = threading.Lock()
_tables: dict[Path, dict[str, tuple[State, str]]] = {}


def video_hash(path: str | Path, cache: str | Path | None = None) -> str:
    """Return the hexadecimal SHA-256 of a video's content.

    Args:
        path: The file, or a URL: of that, what was listed or asked before is its state.
        cache: Folder in whose `hashes.jsonl` hashes are remembered; None reads every byte.

    Raises:
        VideoError: The file cannot be read.
        RemoteError: The URL cannot be.
    """
    path = place_of(path)
    try:
        if cache is None:
            return sha256_file(path)
        name, table = absolute(path), _table(Path(cache).expanduser())
        now, before = time.time(), state_of(path)
        with _lock:
            known = table.get(name)
        if known is not None and known[0] == before:
            return known[1]
        content = sha256_file(path)
        after = state_of(path.fresh() if isinstance(path, Url) else path)
        if settled(before, now) and after == before and known != (before, content):
            with _lock:
                table[name] = before, content
                _append(Path(cache).expanduser(), _line(name, before, content))
        return content
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise VideoError(f"{path}: cannot be read ({reason}); check the path") from error


def forget(cache: str | Path) -> None:
    """Ignore in this process the hashes that were cached in a folder before."""
    with _lock:
        _tables[Path(cache).expanduser()] = {}


def read(file: Path) -> tuple[dict[str, tuple[State, str]], int]:
    """Return what a file of hashes holds, by absolute path, and how many lines it has.

    Raises:
        OSError: It cannot be read.
    """
    table: dict[str, tuple[State, str]] = {}
    lines = file.read_bytes().splitlines()
    for line in lines:
        with suppress(ValueError, TypeError):  # torn, or by somebody else
            name, *state, content = json.loads(line)
            known = tuple(map(type, state)) in _STATES
            if isinstance(name, str) and known and _SHA256.fullmatch(content):
                table[name] = tuple(state), content
    return table, len(lines)


def settled(state: State, now: float) -> bool:
    """Return whether any change after `now`, seconds since 1970, will show in a file's state."""
    times = [time for time in state[1:] if isinstance(time, int)]
    if not times:  # of an object: its ETag tells, if it has one
        return state[1] != ""
    return now - max(times[0], times[2]) / 1e9 >= _YOUNG


def _line(name: str, state: State, content: str) -> bytes:
    return json.dumps([name, *state, content]).encode() + b"\n"  # ASCII, whatever the name


def _table(folder: Path) -> dict[str, tuple[State, str]]:
    """Return what is remembered in a folder; its file is read once in a process."""
    with _lock:
        if (known := _tables.get(folder)) is not None:
            return known
        table: dict[str, tuple[State, str]] = {}
        count = 0
        with suppress(OSError):
            table, count = read(folder / FILE)
            os.utime(folder / FILE)  # by which `zsvg cache prune` sees that it is used
        if count > 2 * len(table) + 100:  # files that changed again and again
            with suppress(OSError, ZsvgError), atomic_path(folder / FILE) as temporary:
                lines = (_line(name, *entry) for name, entry in table.items())
                temporary.write_bytes(b"".join(lines))
        _tables[folder] = table
        return table


def _append(folder: Path, line: bytes) -> None:
    """Add a line, by one call of the system, which no other process's can come between."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / FILE, "ab+", buffering=0) as file:
            if end := file.seek(0, os.SEEK_END):
                file.seek(end - 1)
                line = line if file.read(1) == b"\n" else b"\n" + line  # behind a torn one
            file.write(line)
    except OSError as error:  # only to read, or full: features say so where that matters
        _log.debug("the hash of a video is not remembered in %s (%s)", folder, error)
