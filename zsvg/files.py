"""Small file habits shared by every stage: atomic writes, stable JSON, content hashes."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from itertools import chain
from pathlib import Path
from typing import Any

from zsvg.errors import RecordError
from zsvg.strict_json import escaped


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


STANDARD = "-"
"""The path that means standard input, or standard output, as everywhere in a shell."""


MOST_BYTES = 512_000_000
"""Of one file of records, unpacked: more than a million predictions of ten windows each."""

_PIECE = 1 << 20
_GZIP = b"\x1f\x8b"


def read_bytes(path: str | Path, most: int = MOST_BYTES) -> bytes:
    """Return what `read_pieces` yields as a whole."""
    return b"".join(read_pieces(path, most))


def read_pieces(path: str | Path, most: int = MOST_BYTES) -> Iterator[bytes]:
    """Yield the content of a file in pieces, unpacked where its first bytes are those of gzip.

    Args:
        path: The file; `-` is standard input.
        most: Bytes it may have when it is unpacked.

    Raises:
        FileNotFoundError: there is no such file.
        RecordError: it is larger, or gzipped and damaged, or gzipped twice.
    """
    with nullcontext(sys.stdin.buffer) if str(path) == STANDARD else open(path, "rb") as handle:
        packed = iter(lambda: handle.read(_PIECE), b"")
        first = next(packed, b"")
        pieces = chain([first], packed)
        size = 0
        try:
            for piece in _unpacked(pieces) if first.startswith(_GZIP) else pieces:
                if first.startswith(_GZIP) and not size and piece.startswith(_GZIP):
                    raise RecordError(f"{path}: gzipped twice; unpack it once")
                size += len(piece)
                if size > most:
                    raise RecordError(
                        f"{path}: more than {in_bytes(most)} unpacked, too much for annotations or "
                        "predictions; if it is right, split it into several files"
                    )
                yield piece
        except (EOFError, zlib.error) as error:
            raise RecordError(f"{path}: damaged gzip file ({error}); fetch it again") from None


def _unpacked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Unpack gzip, of one member or several, in pieces of bounded size."""
    unpacker = zlib.decompressobj(wbits=31)
    for piece in pieces:
        while piece:
            if unpacker.eof:  # another member, after padding with zeros as tapes have it
                piece = piece.lstrip(b"\0")
                if not piece:
                    break
                unpacker = zlib.decompressobj(wbits=31)
            if unpacked := unpacker.decompress(piece, _PIECE):
                yield unpacked
            piece = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
    yield unpacker.flush()
    if not unpacker.eof:
        raise EOFError("it ends too early")


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
    return escaped(text) + "\n"


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
