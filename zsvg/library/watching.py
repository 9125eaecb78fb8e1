"""Follow folders: call for an update whenever something in them has changed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from zsvg.errors import ZsvgError

_QUIET = 1000  # milliseconds without a change that end a burst of them
_LONGEST = 10_000


def watch(
    roots: Iterable[str | Path],
    update: Callable[[], None],
    *,
    stop: threading.Event | None = None,
) -> None:
    """Update at every change below some folders, until `stop` is set or Ctrl-C is pressed.

    Args:
        roots: The folders.
        update: Called once for a burst of changes, such as the writing of a file; and once after
            the watching has begun, for what changed before.
        stop: Ends it.

    Raises:
        ZsvgError: watchfiles is not installed.
    """
    try:
        import watchfiles
    except ImportError:
        raise ZsvgError("--watch needs watchfiles: pip install 'zsvg[library]'") from None
    changes = watchfiles.watch(
        *roots,
        watch_filter=None,
        debounce=_LONGEST,
        step=_QUIET,
        stop_event=stop,
        raise_interrupt=True,
        rust_timeout=_QUIET,
        yield_on_timeout=True,
    )
    begun = False
    for some in changes:
        shown = [path for _, path in some if not Path(path).name.startswith(".")]
        if shown or not begun:
            update()
        begun = True
