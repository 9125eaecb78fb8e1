"""What is asked of another machine: again where the connection was lost, with one line at the end.

Every library behind fsspec has errors of its own, so they are told apart by what they say of the
status; what stands in URLs that nobody else should read is left out of all that is said.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import TypeVar

from zsvg.errors import ZsvgError, reason

WAITS = (0.5, 2.0, 8.0)
"""Seconds between tries."""

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")
_USER = re.compile(r"(?<=://)[^/\s]*@")
_QUERY = re.compile(r"(https?://[^\s?'\"]*)\?[^\s'\">]*", re.IGNORECASE)
_FINAL = (FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError, ValueError)


class RemoteError(ZsvgError):
    """What lies behind a URL cannot be reached, read or written."""


class MissingError(RemoteError):
    """There is nothing behind a URL."""


def without_secrets(text: str) -> str:
    """Return a text in which URLs have no user, no password and no query (of signed URLs)."""
    return _QUERY.sub(r"\1", _USER.sub("", text)) if "://" in text else text


def patiently(name: str, attempt: Callable[[], _Result]) -> _Result:
    """Return what an attempt returns; one that lost its connection is made again, after `WAITS`.

    Args:
        name: Of the URL, as it may be shown.
        attempt: Asks for something.

    Raises:
        RemoteError: It failed to the end, or in a way that no waiting changes.
    """
    for wait in (*WAITS, None):
        try:
            return attempt()
        except ZsvgError:
            raise
        except ImportError as error:
            raise RemoteError(
                f"{name}: {_said(error)}; `pip install 'zsvg[remote]'` brings what s3:// and "
                "https:// need, gcsfs what gs:// does"
            ) from error
        except Exception as error:
            status = _status(error)
            if status in (404, 410) or (status is None and _is_missing(error)):
                raise MissingError(f"{name}: no such file; check the URL") from error
            refused = status is not None and 400 <= status < 500 and status not in (408, 429)
            if refused or isinstance(error, _FINAL) or "Credentials" in type(error).__name__:
                raise RemoteError(
                    f"{name}: refused ({_said(error)}); check the URL, and the credentials that "
                    "its service takes from the environment or its own files"
                ) from error
            if wait is None:
                raise RemoteError(
                    f"{name}: the connection was lost {len(WAITS) + 1} times ({_said(error)}); "
                    "run the command again when it holds"
                ) from error
            _log.info("%s: %s; once more in %g s", name, _said(error), wait)
            time.sleep(wait)
    raise AssertionError  # the last try returns or raises


def _said(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # of a web server
    return without_secrets(reason(error))[:200]


def _status(error: BaseException) -> int | None:
    """Return the status of HTTP that an error or its cause tells of."""
    for one in (error, error.__cause__):
        found = getattr(one, "status", None)
        if isinstance(found, int):
            return found
    return None


def _is_missing(error: BaseException) -> bool:
    """Whether nothing is there; fsspec says so too of a web server that does not answer."""
    lost = isinstance(error.__cause__, OSError) or "aiohttp" in type(error.__cause__).__module__
    return isinstance(error, FileNotFoundError) and not lost
