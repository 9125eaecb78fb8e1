"""A remote file that is read where it is needed: parts of it are fetched, and some of them kept."""

from __future__ import annotations

import io
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from zsvg.places.patience import RemoteError, patiently

BLOCK = 4 << 20
"""Bytes that are fetched at once: less is asked for too often, more is not looked at."""
_KEPT = 16
_blocks: OrderedDict[tuple[object, int], bytes] = OrderedDict()
_lock = threading.Lock()


class RangeFile(io.RawIOBase):
    """A file to read, of which `BLOCK`s are fetched when they are needed.

    The last blocks of all files stay in memory, 64 MB of them: a video is read for its hash, for
    its clock and for its pictures, and one that is not larger is fetched once.

    Args:
        name: As it may be shown.
        version: What changes with its content.
        size: Bytes.
        connect: Opens it, as a file without a cache of its own.
    """

    def __init__(self, name: str, version: object, size: int, connect: Callable[[], Any]) -> None:
        self.name = name
        self._version = version
        self._size = size
        self._connect = connect
        self._file: Any = None
        self._place = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Return where the next byte is read."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, and return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"{self.name}: no byte {base + offset}")
        self._place = base + offset
        return self._place

    def readinto(self, target: Any) -> int:
        """Read until the end of a block at most."""
        if self._place >= self._size:
            return 0
        number, within = divmod(self._place, BLOCK)
        data = self._block(number)[within : within + len(target)]
        target[: len(data)] = data
        self._place += len(data)
        return len(data)

    def close(self) -> None:
        """Close it."""
        self._forget_connection()
        super().close()

    def _block(self, number: int) -> bytes:
        key = self._version, number
        with _lock:
            if key in _blocks:
                _blocks.move_to_end(key)
                return _blocks[key]
        data = patiently(self.name, lambda: self._fetch(number * BLOCK))
        with _lock:
            _blocks[key] = data
            while len(_blocks) > _KEPT:
                _blocks.popitem(last=False)
        return data

    def _fetch(self, start: int) -> bytes:
        wanted = min(BLOCK, self._size - start)
        try:
            if self._file is None:
                self._file = self._connect()
            self._file.seek(start)
            data: bytes = self._file.read(wanted)
            if len(data) != wanted:
                raise ConnectionError(f"{len(data)} of {wanted} bytes came")
        except Exception as error:
            self._forget_connection()
            if isinstance(error, ValueError) and re.search("range requests|streaming", str(error)):
                raise RemoteError(
                    f"{self.name}: its server gives no parts of files (range requests); download "
                    "it and give the file"
                ) from error
            raise
        return data

    def _forget_connection(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
