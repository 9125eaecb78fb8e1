"""Frame features as rows of tables, and back without a bit of difference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsvg.features.encoder import FrameFeatures
from zsvg.features.extract import unit_rows
from zsvg.grounding.ranking import centred

SAME = 0.985
"""Cosine with the first clip of a run from which on a clip belongs to it."""


def packed(frames: FrameFeatures) -> dict[str, Any]:
    """Return the row of one video in the table of features.

    Features that were rounded through float16, as those of videos are, take half the place. Others
    stay float32: borders and scores of moments are to be those of the features themselves.
    """
    half = frames.features.astype(np.float16)
    exact = np.array_equal(unit_rows(half), frames.features)
    rows = half if exact else np.ascontiguousarray(frames.features)
    return {
        "content": frames.content,
        "rows": rows.tobytes(),
        "kind": rows.dtype.name,
        "width": rows.shape[1],
        "times": frames.times.tobytes(),
        "duration": frames.duration,
        "fps": frames.fps,
        "framing": frames.framing,
        "fingerprint": frames.fingerprint,
        "first": frames.first,
    }


def unpacked(row: Mapping[str, Any], vid: str) -> FrameFeatures:
    """Return the features that `packed` was given, under the name of a video."""
    rows = np.frombuffer(row["rows"], dtype=row["kind"]).reshape(-1, row["width"])
    return FrameFeatures(
        vid=vid,
        features=unit_rows(rows) if row["kind"] == "float16" else rows.copy(),
        times=np.frombuffer(row["times"]).copy(),
        duration=row["duration"],
        fps=row["fps"],
        framing=row["framing"],
        fingerprint=row["fingerprint"],
        content=row["content"],
        first=row["first"],
    )


def runs(features: NDArray[np.float32]) -> tuple[NDArray[np.float16], NDArray[np.int32]]:
    """Return what of a video is looked at to choose it: one row for a run of nearly equal clips.

    Rows are `centred`, so that the largest product with `zsvg.grounding.ranking.asked` is the
    video's `fit`, but for what the others of a run differ.

    Args:
        features: (T, D) clips as rows of unit length.

    Returns:
        (N, D) the first clip of each run, and (N + 1,) where runs begin and the last one ends.
    """
    rows = centred(features)
    starts = [0]
    for place in range(1, len(rows)):
        if float(rows[place] @ rows[starts[-1]]) < SAME:
            starts.append(place)
    return rows[starts].astype(np.float16), np.array([*starts, len(rows)], dtype=np.int32)
