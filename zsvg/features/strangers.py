"""Videos that `micro` cannot know: it has seen nothing but drawings of microworld, of one size."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_log = logging.getLogger(__name__)
# Path -> whether it is a stranger, in the order of their coming; None while nobody watches.
_seen: dict[str, bool] | None = None


def note(path: str | Path, backbone: str, size: Sequence[int] | None) -> None:
    """Take note of a video that a backbone looks at.

    Args:
        path: The video.
        backbone: Name of the backbone.
        size: (width, height) of its pictures, pixels; None where it is not known.
    """
    if _seen is not None and backbone == "micro":
        from zsvg.microworld.render import SIZE

        _seen[str(path)] = size is not None and tuple(size) != (SIZE, SIZE)


def watch() -> None:
    """Take note from now on; `taken` has what another process is to `add`."""
    global _seen
    _seen = {}


def taken() -> dict[str, bool]:
    """Return what was noted since the last time."""
    noted = dict(_seen or {})
    for path in noted:
        (_seen or {}).pop(path, None)
    return noted


def add(noted: Mapping[str, bool]) -> None:
    """Take note of what another process has noted."""
    if _seen is not None:
        _seen.update(noted)


@contextmanager
def watching() -> Iterator[None]:
    """Warn at the end of a block, in one line, of the videos in it that `micro` cannot know."""
    global _seen
    seen = _seen = {}
    try:
        yield
    finally:
        _seen = None
        strange = [path for path, so in seen.items() if so]
        if strange and os.environ.get("RANK", "0") == "0":  # one of several processes speaks
            _log.warning(
                "micro knows only the drawings of microworld; its answers about %d of %d videos "
                "(first: %s) mean nothing; name a CLIP with --model or --backbone",
                len(strange),
                len(seen),
                strange[0],
            )
