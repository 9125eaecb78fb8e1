"""What is said in a video, as lines with times: subtitles beside it, inside it, or its speech.

    sidecar files ─ subtitles ─┐
    streams inside ─ streams ──┼─ cues ─ lines ─ `said_in`
    sound ─ speech ────────────┘

The names below are for users; the package itself imports the modules.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zsvg.transcripts.lines import Line, Lines
    from zsvg.transcripts.said import said_in
    from zsvg.transcripts.speech import Recogniser, load_recogniser
    from zsvg.transcripts.streams import read_streams
    from zsvg.transcripts.subtitles import read_subtitles, sidecars

__all__ = [
    "Line",
    "Lines",
    "Recogniser",
    "load_recogniser",
    "read_streams",
    "read_subtitles",
    "said_in",
    "sidecars",
]
_HOMES = {
    "Line": "lines",
    "Lines": "lines",
    "Recogniser": "speech",
    "load_recogniser": "speech",
    "read_streams": "streams",
    "read_subtitles": "subtitles",
    "said_in": "said",
    "sidecars": "subtitles",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"zsvg.transcripts.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'zsvg.transcripts' has no attribute {name!r}")
