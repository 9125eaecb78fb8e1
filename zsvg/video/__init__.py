"""Video files: finding and opening them, their time, their frames, and writing clips.

The names below are for users; the package itself imports the modules.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zsvg.video.finding import find_videos
    from zsvg.video.reading import decode_summary, probe
    from zsvg.video.sampling import FrameSampler, load_frames_at, sample_frames
    from zsvg.video.writing import cut

__all__ = [
    "FrameSampler",
    "cut",
    "decode_summary",
    "find_videos",
    "load_frames_at",
    "probe",
    "sample_frames",
]
_HOMES = {
    "find_videos": "finding",
    "decode_summary": "reading",
    "probe": "reading",
    "FrameSampler": "sampling",
    "load_frames_at": "sampling",
    "sample_frames": "sampling",
    "cut": "writing",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"zsvg.video.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'zsvg.video' has no attribute {name!r}")
