"""Who a visitor is: a browser that brings the name it was given, and the folder of its work.

The name is a cookie that nobody guesses and no script reads, so a visitor is known again after a
reload, and after a restart too where the page keeps a project. On disk stands only its hash.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import TYPE_CHECKING

from zsvg.files import write_text

if TYPE_CHECKING:
    from .visit import Visit

COOKIE = "zsvg-visitor"
FORGOTTEN = 86400.0  # seconds after which nobody expects a visitor back
_NAME = re.compile(r"[\w-]{43}")
_OWNERS = "owners.txt"


def named(cookies: str) -> str:
    """Return the name in a `Cookie` header, "" where there is none that this page gives."""
    with suppress(CookieError):
        found = SimpleCookie(cookies).get(COOKIE)
        if found is not None and _NAME.fullmatch(found.value):
            return found.value
    return ""


def new_cookie() -> str:
    """Return a `Set-Cookie` header with a new name."""
    name = secrets.token_urlsafe(32)
    return f"{COOKIE}={name}; Path=/; HttpOnly; SameSite=Lax; Max-Age=31536000"


class Visitors:
    """The visitors of a page by name.

    The project is the work of whoever opens the page first. Others who come meanwhile get folders
    of their own below it, so that no two people ever write into one. On a page that this machine
    alone can open, a browser that nobody knows takes the project up where it was left.

    Args:
        project: Folder that keeps their work; None: it goes with the page.
        begin: Makes an empty visit.
        end: Clears up after one.
    """

    def __init__(
        self,
        project: Path | None,
        begin: Callable[[Path | None], Visit],
        end: Callable[[Visit], None],
    ) -> None:
        self.project = project
        self._begin, self._end = begin, end
        self._visits: dict[str, Visit] = {}
        self._seen: dict[str, float] = {}
        self._lock = threading.Lock()
        self._opened = False  # the project, since the page began

    def of(self, name: str, *, alone: bool) -> Visit:
        """Return the visit of a visitor, and make it on the first call.

        Args:
            name: From the cookie.
            alone: Whether this machine alone can open the page.
        """
        key = hashlib.sha256(name.encode()).hexdigest()[:32]
        with self._lock:
            now = time.monotonic()
            for old in [key for key, seen in self._seen.items() if now - seen > FORGOTTEN]:
                self._end(self._visits.pop(old))
                del self._seen[old]
            if key not in self._visits:
                self._visits[key] = self._begin(self._folder(key, alone))
            self._seen[key] = now
            return self._visits[key]

    def _folder(self, key: str, alone: bool) -> Path | None:
        if self.project is None:
            return None
        own = self.project / "visitors" / key
        if own.is_dir():
            return own
        file = self.project / _OWNERS
        owners = file.read_text(encoding="utf-8").split() if file.exists() else []
        if key not in owners:
            if self._opened or (owners and not alone):
                own.mkdir(parents=True)
                return own
            write_text(file, "".join(f"{owner}\n" for owner in [*owners, key]))
        self._opened = True
        return self.project
