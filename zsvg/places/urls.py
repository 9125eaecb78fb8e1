"""URLs of files as values that answer what the package asks of a `pathlib.Path`.

`place_of` is the one door: text that a user gave becomes a path on a disk, or a `Url`. Nothing else
makes one, so that what looks like a URL in other people's files is never fetched.

Why not universal_pathlib: its paths show passwords and signatures wherever they are written, and
ask for every listed object once more.
"""

from __future__ import annotations

import glob
import os
import posixpath
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Any, cast
from urllib.parse import unquote

from zsvg.errors import ZsvgError
from zsvg.places.patience import MissingError, RemoteError, patiently, without_secrets
from zsvg.places.ranges import BLOCK, RangeFile

State = tuple[int | str, ...]
"""Of a file size, mtime_ns, inode and ctime_ns; of an object size and ETag. While it stays, so does
the content."""

_URL = re.compile(r"([^/\\]{2,}?)://")
_WEB = ("http", "https")
_VERSIONS = ("ETag", "etag", "md5Hash", "Digest", "Content-MD5", "blob_id")
_MODIFIED = ("LastModified", "last_modified", "Last-Modified", "updated", "mtime", "modified")
_met: dict[str, Url] = {}


def is_url(text: object) -> bool:
    """Whether text begins as a URL does, `file://` too."""
    return isinstance(text, str) and _URL.match(text) is not None


def place_of(given: str | os.PathLike[str] | Url) -> Path:
    """Return where something lies: a path on a disk, or a `Url`, which is used like one.

    Args:
        given: Text of a user: a path, or a URL of any kind that fsspec knows; `file://` is a path.
            What is a `Path` or a `Url` stays what it is: pathlib makes "s3:/" of "s3://".

    Raises:
        RemoteError: fsspec knows no such kind of URL.
    """
    if isinstance(given, Url):
        return cast(Path, given)  # it has of a path what this package asks for
    found = _URL.match(given) if isinstance(given, str) else None
    if found is None:
        return Path(given)
    scheme, rest = found[1].lower(), str(given)[found.end() :]
    if scheme in ("file", "local"):
        host, mark, path = rest.partition("/")
        if host not in ("", "localhost"):
            raise RemoteError(f"{given}: a path on another machine; write file:///PATH")
        return Path(unquote(mark + path))
    from fsspec import available_protocols

    if scheme not in available_protocols():
        raise RemoteError(
            f"{without_secrets(str(given))}: no kind of URL that fsspec knows; give a path, or "
            "s3://, gs://, https:// or file://"
        )
    return cast(Path, Url(f"{scheme}://{rest.rstrip('/')}"))


def met(shown: str | Path) -> Path:
    """Return what a path or URL as it was written stands for, if the user named it in this process.

    A URL that only stands in a file is not followed: the path that is returned leads to nothing.
    """
    return cast(Path, _met.get(str(shown)) or Path(shown))


def local(given: str | os.PathLike[str] | Url, what: str = "this") -> Path:
    """Return a path on a disk, for what cannot lie anywhere else.

    Raises:
        ZsvgError: It is a URL.
    """
    if isinstance(found := place_of(given), Url):
        raise ZsvgError(f"{found}: {what} must lie on a disk; copy it there, and give its path")
    return found


def absolute(path: str | os.PathLike[str] | Url) -> str:
    """Return what no other file is called: the absolute path, or the URL."""
    return str(path) if isinstance(path, Url) else os.path.abspath(path)


def address_of(path: str | os.PathLike[str] | Url) -> str:
    """Return the URL of a file: of a path `file://`, percent-encoded byte by byte."""
    return str(path) if isinstance(path, Url) else Path(os.path.abspath(path)).as_uri()


def state_of(path: str | os.PathLike[str] | Url) -> State:
    """Return the state of a file or an object.

    Raises:
        OSError: There is no such file.
        RemoteError: There is no such object, or it cannot be reached.
    """
    if isinstance(found := place_of(path), Url):
        return found.state
    status = os.stat(found)
    return status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns


@dataclass(frozen=True, kw_only=True)
class Stat:
    """Of `os.stat_result` what an object has."""

    st_size: int
    st_mtime: float


@dataclass(frozen=True, order=True, repr=False)
class Url:
    """A file or a folder behind a URL.

    It is shown without user, password and query: what is signed is for who signed it.

    Attributes:
        address: The URL, without "/" at its end.
        listed: What a listing said of it; without one its server is asked, once.
    """

    address: str
    listed: Mapping[str, Any] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        shown = str(self)
        if self.address != shown or _met.get(shown, self).address == shown:
            _met[shown] = self  # with what it was signed with, if it ever was

    def __repr__(self) -> str:
        return f"Url({str(self)!r})"

    def __str__(self) -> str:
        shown = re.split("[?#]", self.address)[0] if self._web else self.address
        return re.sub(r"://[^/]*@", "://", shown, count=1)

    @property
    def scheme(self) -> str:
        """What stands before "://"."""
        return self.address.partition("://")[0]

    @property
    def _web(self) -> bool:
        return self.scheme in _WEB

    @property
    def pure(self) -> PurePosixPath:
        """Kind, host and path as one path, by which names of files are told apart."""
        scheme, _, rest = str(self).partition("://")
        return PurePosixPath("/", f"{scheme}:", unquote(rest) if self._web else rest)

    @property
    def name(self) -> str:
        """The last part."""
        return self.pure.name

    @property
    def stem(self) -> str:
        """The last part without its suffix."""
        return self.pure.stem

    @property
    def suffix(self) -> str:
        """The end of the last part, from its last dot on."""
        return self.pure.suffix

    @property
    def parent(self) -> Url:
        """The folder around it."""
        return Url(posixpath.dirname(str(self) if self._web else self.address))

    def with_name(self, name: str) -> Url:
        """Return another file of the same folder."""
        return Url(f"{self.parent.address}/{name}")

    def __truediv__(self, below: str) -> Url:
        known = _met.get(f"{self}/{below}")
        return Url(known.address if known else f"{self.address}/{below}")

    def relative_to(self, other: Url) -> PurePosixPath:
        """Return the way from a folder to it.

        Raises:
            ValueError: It is not below.
        """
        return self.pure.relative_to(other.pure)

    def is_relative_to(self, other: object) -> bool:
        """Whether it is below a folder, which may be given as text."""
        return str(self).startswith(f"{str(other).rstrip('/')}/") or str(self) == str(other)

    @cached_property
    def _there(self) -> tuple[Any, str]:
        """The file system of fsspec, and what it calls this; credentials are those it finds."""
        from fsspec.core import url_to_fs

        # What changed since the last listing is to be seen.
        there: tuple[Any, str] = patiently(
            str(self), lambda: url_to_fs(self.address, use_listings_cache=False)
        )
        return there

    @cached_property
    def _info(self) -> Mapping[str, Any]:
        if self.listed is not None:
            return self.listed
        fs, path = self._there
        info: Mapping[str, Any] = patiently(str(self), lambda: fs.info(path))
        return info

    def exists(self) -> bool:
        """Whether anything is there.

        Raises:
            RemoteError: It cannot be asked, as all that follows.
        """
        with suppress(MissingError):
            return bool(self._info)
        return False

    def is_file(self) -> bool:
        """Whether it is a file."""
        return self.exists() and self._info["type"] == "file"

    def is_dir(self) -> bool:
        """Whether something is below it; of web servers nobody can tell."""
        return self.exists() and self._info["type"] == "directory"

    @property
    def is_page(self) -> bool:
        """Whether it is a page of the web, such as those that list folders."""
        return self._web and self._info.get("mimetype") == "text/html"

    def stat(self) -> Stat:
        """Return its size and when it was changed; 0 where nobody knows."""
        size = self._info.get("size")
        if size is None:
            raise RemoteError(
                f"{self}: its server does not say how large it is; download it and give the file"
            )
        changed = next((self._info[key] for key in _MODIFIED if self._info.get(key)), 0.0)
        return Stat(st_size=int(size), st_mtime=_seconds(changed))

    @property
    def state(self) -> State:
        """Size and ETag; the time of its last change where there is none, then of no ETag's use."""
        status = self.stat()
        marks = (self._info[key] for key in _VERSIONS if self._info.get(key))
        return status.st_size, str(next(marks, status.st_mtime or ""))

    def _differs(self, other: Url) -> bool:
        """Whether another look shows another content; listings may tell less than a look."""
        both = ((self._info.get(key), other._info.get(key)) for key in _VERSIONS)
        changed = any(a and b and a != b for a, b in both)
        return changed or self.stat().st_size != other.stat().st_size

    def fresh(self) -> Url:
        """Return the same, to be asked anew."""
        return Url(self.address)

    def open(self, mode: str = "rb") -> BufferedReader:
        """Open it to read bytes; `zsvg.places.ranges` says which are fetched."""
        if mode != "rb":
            raise ValueError(f"{self}: is read as bytes, not in mode {mode!r}")
        fs, path = self._there
        size = self.stat().st_size

        def connect() -> Any:
            if self._differs(self.fresh()):
                raise RemoteError(f"{self}: changed since it was looked at; run the command again")
            return fs.open(path, "rb", block_size=BLOCK, cache_type="none")

        return BufferedReader(RangeFile(str(self), (self, self.state), size, connect))

    def read_bytes(self) -> bytes:
        """Return all of it."""
        with self.open() as file:
            return file.read()

    def read_text(self, encoding: str = "utf-8") -> str:
        """Return all of it as text."""
        return self.read_bytes().decode(encoding)

    def iterdir(self) -> Iterator[Url]:
        """Yield what lies in this folder, by name; nothing of web servers, which do not tell."""
        fs, path = self._there
        if not self._web:
            entries = patiently(str(self), lambda: fs.ls(path, detail=True))
            yield from self._children({entry["name"]: entry for entry in entries})

    def below(self) -> Iterator[Url]:
        """Yield the files below this folder, however deep, by name."""
        fs, path = self._there
        yield from self._children(patiently(str(self), lambda: fs.find(path, detail=True)))

    def expand(self) -> list[Url]:
        """Return what fits a pattern such as "s3://bucket/*.mp4"; itself if it is none."""
        fs, path = self._there
        if self._web or not glob.has_magic(path) or self.exists():
            return [self]
        return list(self._children(patiently(str(self), lambda: fs.glob(path, detail=True))))

    def _children(self, found: Mapping[str, Mapping[str, Any]]) -> Iterator[Url]:
        _, path = self._there
        base = self.address.removesuffix(path)
        for name in sorted(found):
            url = Url(f"{base}{name.rstrip('/')}", found[name])
            if url.address != self.address:
                yield url

    def check_writable(self) -> None:
        """Refuse what takes no files, such as a web server, or a service without credentials.

        Raises:
            ZsvgError: It is one.
        """
        if self._web:
            raise ZsvgError(f"{self}: nothing is written to web servers; give a path or s3://")
        try:
            self.fresh().exists()
        except RemoteError as error:
            if not isinstance(error.__cause__, PermissionError):  # who may write may not look
                raise

    def write(self, file: Path) -> None:
        """Put a file of this machine there, whole or not at all."""
        self.check_writable()
        fs, path = self._there
        patiently(str(self), lambda: fs.put_file(os.fspath(file), path))

    def copy_to(self, file: Path) -> None:
        """Copy it into a file of this machine."""
        with self.open() as source, open(file, "wb") as sink:
            shutil.copyfileobj(source, sink, BLOCK)


def _seconds(changed: Any) -> float:
    """Return a time as servers tell it in seconds since 1970."""
    if isinstance(changed, str):
        read = datetime.fromisoformat if changed[:1].isdigit() else parsedate_to_datetime
        try:
            changed = read(changed.replace("Z", "+00:00"))
        except ValueError:
            return 0.0
    return float(changed.timestamp() if isinstance(changed, datetime) else changed)
