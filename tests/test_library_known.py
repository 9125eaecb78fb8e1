"""What training gets of a library's features, and which picture stands for a moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lancedb", reason="pip install -e '.[library]'")

from zsvg.errors import VideoError
from zsvg.features.encoder import FrameFeatures
from zsvg.library.known import Known, KnownFeatures, joined
from zsvg.library.pictures import nearest, pictures
from zsvg.library.rows import packed
from zsvg.library.tables import Tables


def video(name: str, rows: list[int], duration: float) -> FrameFeatures:
    """Features of two clips a second, each the axis of that number."""
    return FrameFeatures(
        vid=name,
        features=np.eye(8, dtype=np.float32)[rows],
        times=np.arange(len(rows)) / 2,
        duration=duration,
        fps=2.0,
        framing="crop",
        fingerprint="encoder",
        content=name * 64,
    )


def axes(frames: FrameFeatures) -> list[int]:
    return [int(axis) for axis in frames.features.argmax(axis=1)]


def test_moments_behind_a_video_leave_its_own_times_alone():
    first, second = video("a", [0, 1, 2], 1.4), video("b", [3, 4, 5, 6], 2.0)
    found = joined(first, [(second, 0.5, 1.5), (second, 1.9, 1.95)])
    assert axes(found) == [0, 1, 2, 4, 5, 6]  # of a moment within a clip, that clip
    assert found.edges.tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3]
    assert found.times.tolist() == [0, 0.5, 1, 1.75, 2.25, 2.75]
    assert found.duration == 3
    assert joined(first, []) is first


def test_features_are_read_from_the_tables(tmp_path: Path):
    tables = Tables(tmp_path, 8)
    a, b = video("a", [0, 1, 2], 1.5), video("b", [3, 4, 5], 1.5)
    tables.add(features=[packed(a), packed(b)])
    known = KnownFeatures(
        tables,
        {
            "alone": Known(content="a" * 64),
            "longer": Known(content="a" * 64, behind=[("b" * 64, 0, 1), ("c" * 64, 0, 1)]),
            "gone": Known(content="c" * 64),
        },
    )
    files = known.videos
    alone = known.read(files["alone"], width=8, fingerprint="encoder")
    assert (alone.vid, axes(alone)) == ("alone", [0, 1, 2])
    longer = known.read(files["longer"], width=8, fingerprint="encoder")
    assert (longer.vid, axes(longer), longer.duration) == ("longer", [0, 1, 2, 3, 4], 2.5)
    with pytest.raises(VideoError, match="gone: the library has no features of it any more"):
        known.read(files["gone"], width=8, fingerprint="encoder")
    with pytest.raises(VideoError, match="another frame encoder"):
        known.read(files["alone"], width=8, fingerprint="other")


def test_the_picture_of_a_moment_is_that_of_the_nearest_event(tmp_path: Path):
    tables = Tables(tmp_path, 8)
    events = [(0.0, 2.0, b"one"), (2.0, 4.0, None), (4.0, 9.0, b"three")]
    tables.add(
        events=[
            {"content": name, "start": start, "end": end, "picture": picture}
            for name in ("a", "b")
            for start, end, picture in reversed(events)
        ]
    )
    found = pictures(tables, [("b", 3.0), ("a", 9.0), ("c", 0.0), ("a", 4.0)])
    assert found == [b"one", b"three", None, b"three"]  # middles at 1 and 6.5 s
    assert nearest([], 0.0) is None
