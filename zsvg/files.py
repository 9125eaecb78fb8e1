"""Atomic writes, locks, bounded reading, stable JSON, content hashes, and files of `prompts/`."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import sys
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar

from zsvg.errors import RecipeError, RecordError, ZsvgError, told
from zsvg.resources import shipped
from zsvg.strict_json import escaped

_Checked = TypeVar("_Checked")

STANDARD = "-"
"""The path that means standard input, or standard output, as everywhere in a shell."""


_LONGEST = 143
"""Bytes that a file name may have on every file system in use (eCryptfs); most take 255."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path; what is written there becomes `path` when the block succeeds.

    A reader therefore sees the old file or the whole new one, never a part of it. A link stays one:
    the file that it leads to is replaced. A pipe or a device cannot be replaced, so it gets the
    bytes when they are complete. The permissions of a file that was there are kept.

    Raises:
        ZsvgError: `path` is a folder, or a link into a folder that is not there.
        OSError: It cannot be written; the error names `path`.
    """
    path = Path(path)
    check_target(path)
    with _pour(path) if is_stream(path) else _replace(path) as temporary:
        try:
            yield temporary
        except OSError as error:
            # Name the target instead of the temporary file; a full disk has no name at all.
            names = (None, str(temporary), f"file:{temporary}")
            if error.errno is None or error.filename not in names:
                raise
            raise OSError(error.errno, error.strerror, str(path)) from error


def check_target(path: str | Path) -> None:
    """Refuse a folder where a file is to be written.

    Raises:
        ZsvgError: It is one.
    """
    if str(path) != STANDARD and Path(path).is_dir():
        raise ZsvgError(f"{path}: is a folder; name a file to write")


def check_output(path: str | Path) -> None:
    """Refuse a file that cannot be made; ask before hours of work go into it.

    Raises:
        ZsvgError: It is a folder, or that in which it would be made cannot be written.
    """
    check_target(path)
    if is_stream(path):
        return
    folder = Path(os.path.realpath(path)).parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise ZsvgError(f"{path}: {folder} cannot be written; choose another folder")


@contextmanager
def _pour(stream: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="zsvg-") as folder:
        whole = Path(folder) / f"whole{stream.suffix}"
        yield whole
        with open(whole, "rb") as source, _open_stream(stream) as sink:
            shutil.copyfileobj(source, sink)


@contextmanager
def _replace(path: Path) -> Iterator[Path]:
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    if target.is_symlink():
        raise ZsvgError(f"{path}: is a link that leads back to itself; write somewhere else")
    if path.is_symlink() and not target.parent.is_dir():
        raise ZsvgError(
            f"{path}: is a link to {target}, and there is no folder {target.parent}; make it, or "
            "write somewhere else"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(_temporary_name(target))
    try:
        yield temporary
        with suppress(OSError):  # there is no file yet, or the file system knows no permissions
            temporary.chmod(target.stat().st_mode & 0o777)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary_name(target: Path) -> str:
    """Return a hidden name that no other process or thread uses; long names are shortened."""
    suffix = target.suffix if len(target.suffix) < 16 else ""
    end = f".{os.getpid()}-{threading.get_ident()}.tmp{suffix}"
    room = max(_LONGEST, len(os.fsencode(target.name))) - len(os.fsencode(f".{end}"))
    return f".{os.fsencode(target.name)[:room].decode('utf-8', 'ignore')}{end}"


def is_temporary(name: str) -> str | None:
    """Return the target of a temporary name of `atomic_path`; None for other names."""
    match = re.fullmatch(r"\.(.+)\.\d+-\d+\.tmp(\.[^.]*)?", name, re.DOTALL)
    return match[1] if match else None


def is_stream(path: str | Path) -> bool:
    """Whether a path is standard output, a pipe or a device: what can be written, not replaced."""
    if str(path) == STANDARD or _descriptor(Path(path)) is not None:
        return True
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _open_stream(path: Path) -> BinaryIO:
    number = _descriptor(path)
    if number is None:
        return open(path, "wb")
    # A copy of the open file itself: opened by its name, what is in it would be cut off.
    sys.stdout.flush()
    try:
        return os.fdopen(os.dup(number), "wb")
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def _descriptor(path: Path) -> int | None:
    """Return the number of the open file that a path like /dev/stdout or /dev/fd/3 means."""
    for _ in range(40):  # links at most, as the system has it
        folder = os.path.realpath(path.parent)
        if folder in ("/dev/fd", f"/proc/{os.getpid()}/fd") and path.name.isdecimal():
            return int(path.name)
        if not path.is_symlink():
            return None
        path = Path(folder, os.readlink(path))
    return None


def remove_own(folder: Path, own: Callable[[str], bool]) -> bool:
    """Remove our files from a folder, and the folder itself if that leaves it empty.

    Args:
        folder: Need not exist.
        own: Whether we write files of this name; their temporary files go too.

    Returns:
        Whether the folder is gone.
    """
    if folder.is_symlink() or not folder.is_dir():
        return not os.path.lexists(folder)
    for path in folder.iterdir():
        name = is_temporary(path.name) or path.name
        if own(name) and path.is_file() and not path.is_symlink():
            with suppress(OSError):
                path.unlink()
    with suppress(OSError):  # it is not empty
        folder.rmdir()
    return not folder.exists()


@contextmanager
def locked(path: str | Path) -> Iterator[bool]:
    """Hold the file `path` as a lock; yield False where another process or thread holds it.

    The system frees the lock when its process ends, however it ends. The file is removed at the
    end unless it has content; one left by a killed process does not lock.
    """
    from filelock import FileLock, Timeout

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP):
            raise
        # A file system without locks: better unprotected than unusable.
    try:
        yield True
    finally:
        # While it is held, so that it is not another holder's; Windows removes it by itself.
        with suppress(OSError):
            if not path.stat().st_size:
                path.unlink()
        lock.release()


def file_stem(name: str, most: int = 100) -> str:
    """Return the name of a video as a part of a file's name, at most so many bytes long.

    Folders in it become parts, and unprintable characters are replaced. A name that is cut gets a
    hash, which keeps it unique.
    """
    text = "".join("-" if c in "/\\" else c if c.isprintable() else "_" for c in name)
    data = text.encode("utf-8", "replace")
    if len(data) > most:
        mark = hashlib.sha256(data).hexdigest()[:8]
        return data[: most - 9].decode("utf-8", "ignore") + "~" + mark
    return data.decode()


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
                    from rich.filesize import decimal  # which the first words do not wait for

                    raise RecordError(
                        f"{path}: more than {decimal(most)} unpacked, too much for annotations or "
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
    """Write UTF-8 text as `atomic_path` does; the path `-` is standard output."""
    if str(path) == STANDARD:
        if sys.stdout.isatty():  # it would obey control characters
            from zsvg.errors import visible

            text = "\n".join(map(visible, text.split("\n")))
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


def read_yaml(
    name_or_path: str, kind: Literal["recipe", "template", "labeller"]
) -> tuple[Path, dict[str, Any]]:
    """Return a YAML file of a user, or a shipped one of `prompts/` by its name, and what it says.

    Args:
        name_or_path: A path ends with .yaml or .yml.
        kind: The folder of `prompts/`, in the singular.

    Raises:
        RecipeError: There is no such file, or it is no mapping.
    """
    import yaml

    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        folder = shipped("prompts") / f"{kind}s"
        known = sorted(file.stem for file in folder.glob("*.yaml"))
        if name_or_path not in known:
            raise RecipeError(
                f"unknown {kind} {name_or_path!r}; choose one of {', '.join(known)}, or a .yaml"
            )
        path = folder / f"{name_or_path}.yaml"
    if not path.is_file():
        raise RecipeError(f"{path}: no such {kind} file")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(values, dict | None):
        raise RecipeError(f"{path}: a {kind} file is a mapping of keys to values")
    return path, values or {}


def checked_values(
    path: Path, check: Callable[[dict[str, Any]], _Checked], values: dict[str, Any]
) -> _Checked:
    """Return what a file says as `check` reads it: `model_validate` of a class of pydantic.

    Raises:
        RecipeError: A key is unknown or missing, or a value is out of range.
    """
    try:
        return check(values)
    except ValueError as error:  # pydantic's is one
        raise RecipeError(f"{path}: {told(error)}") from error
