"""Small file habits shared by every stage: atomic writes, stable JSON, content hashes."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it into place when the block succeeds.

    A reader therefore sees the old file or the whole new one, never a part of it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unique = f"{os.getpid()}-{threading.get_ident()}"
    temporary = path.with_name(f".{path.name}.{unique}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: str | Path) -> Iterator[bool]:
    """Hold the file `path` as a lock; yield False where another process or thread holds it.

    The system frees the lock when its process ends, however it ends. The file is removed at the
    end; one that a killed process left behind locks nobody out.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = _open_locked(path)
    try:
        yield handle is not None
    finally:
        if handle is not None:
            _remove_locked(path, handle)


if sys.platform == "win32":
    import msvcrt

    def _open_locked(path: Path) -> int | None:
        handle = os.open(path, os.O_RDWR | os.O_CREAT)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            os.close(handle)
            return None
        return handle

    def _remove_locked(path: Path, handle: int) -> None:
        os.close(handle)
        with suppress(OSError):  # somebody has it open by now, and keeps it
            path.unlink()

else:
    import fcntl

    def _open_locked(path: Path) -> int | None:
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                return None
            except OSError:
                pass  # a file system without locks: better unprotected than unusable
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), path.stat()):
                    return handle
            os.close(handle)  # its holder removed it after we had opened it: it locks nothing

    def _remove_locked(path: Path, handle: int) -> None:
        path.unlink(missing_ok=True)
        os.close(handle)


def file_stem(name: str, most: int = 100) -> str:
    """Return the name of a video as a part of a file's name, at most so many bytes long.

    Folders in it become parts, and what a terminal or a disk would not take is replaced. A name
    that is cut keeps apart from others by its hash.
    """
    text = "".join("-" if c in "/\\" else c if c.isprintable() else "_" for c in name)
    data = text.encode("utf-8", "replace")
    if len(data) > most:
        mark = hashlib.sha256(data).hexdigest()[:8]
        return data[: most - 9].decode("utf-8", "ignore") + "~" + mark
    return data.decode()


STANDARD = "-"
"""The path that means standard input, or standard output, as everywhere in a shell."""


def read_bytes(path: str | Path) -> bytes:
    """Return the content of a file; of standard input for the path `-`."""
    return sys.stdin.buffer.read() if str(path) == STANDARD else Path(path).read_bytes()


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically; the path `-` is standard output."""
    if str(path) == STANDARD:
        data = memoryview(text.encode("utf-8"))  # the bytes of a file, whatever the locale
        while data:  # all at once, unless PYTHONUNBUFFERED is set and the reader has gone
            data = data[sys.stdout.buffer.write(data) :]
        sys.stdout.buffer.flush()
        return
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | Path, value: Mapping[str, Any] | list[Any]) -> None:
    """Write JSON atomically, with sorted keys so that equal values give equal bytes."""
    write_text(path, json_text(value, indent=2))


def json_text(value: Any, indent: int | None = None) -> str:
    """Return JSON with sorted keys and a line end; on one line without an indent."""
    text = json.dumps(value, indent=indent, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return text + "\n"


def in_bytes(size: float) -> str:
    """Return a size for people, such as "1.5 GB" (of 1000 MB)."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def sha256_file(path: str | Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content, read in bounded memory."""
    with open(path, "rb") as handle:
        digest = hashlib.sha256()
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_tensors(tensors: Mapping[str, Any]) -> str:
    """Return the hexadecimal SHA-256 of named torch tensors: names, types, shapes and bytes."""
    import torch

    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        tensor = value.detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(memoryview(tensor.reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()


def sha256_json(value: Any) -> str:
    """Return the hexadecimal SHA-256 of a JSON-serialisable value (key order does not matter)."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
