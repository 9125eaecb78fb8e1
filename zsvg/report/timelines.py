"""Timelines of videos: their moments with the sentences, frames of them, and both together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsvg.records import Annotation
from zsvg.report import page
from zsvg.report.figures import LabelledSpan, TimelineFigure

_DRAWN = 40  # labels of one video, beyond which a drawing is no longer read


def source(label: Annotation) -> Mapping[str, Any]:
    """Return where a pseudo label came from; empty where it does not say."""
    given = label.extra.get("source")
    return given if isinstance(given, Mapping) else {}


def score(label: Annotation) -> float | None:
    """Return how well a pseudo label's sentence is said to fit, or None."""
    value = source(label).get("score")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e9:
        return None  # a number that no scorer gives would only widen the scale of the others
    return float(value)


def moments(records: Iterable[Annotation], *, scored: bool = False) -> list[LabelledSpan]:
    """Return the windows of one video's records in order of time, seconds, with their sentences.

    Args:
        records: Annotations or pseudo labels of one video.
        scored: Put the score, where there is one, in front of the sentence.
    """
    found = []
    for record in records:
        value = score(record) if scored else None
        words = record.query if value is None else f"{value:.2f} {record.query}"
        found += [(start, end, words) for start, end in record.relevant_windows]
    return sorted(found)


def middle_frames(
    path: str | Path, duration: float, count: int, size: int | None = None
) -> list[NDArray[np.uint8]]:
    """Return frames from the middles of `count` equal parts of a video of `duration` seconds.

    Args:
        path: The video.
        duration: Its length in seconds.
        count: How many frames.
        size: Side of centre squares in pixels; None returns whole frames in their own size.

    Returns:
        (H, W, 3) uint8 RGB frames.

    Raises:
        VideoError: As in `zsvg.video.sampling.load_frames_at`.
    """
    from zsvg.video.sampling import load_frames_at

    times = (np.arange(count) + 0.5) * duration / count
    return list(load_frames_at(path, times, size))


def video_card(
    vid: str,
    duration: float,
    frames: Sequence[NDArray[np.uint8]],
    labels: Sequence[Annotation],
    truth: Sequence[Annotation] | None,
    failure: str | None = None,
) -> dict[str, Any]:
    """Return what a page shows of a video: its timeline as SVG, and its moments as text.

    Args:
        vid: Name of the video.
        duration: Its length in seconds.
        frames: (H, W, 3) uint8 RGB frames from `middle_frames`; none draws none.
        labels: Its pseudo labels.
        truth: Its annotations; None where nobody knows them.
        failure: Why there are no frames.
    """
    own = moments(labels, scored=True)
    true = None if truth is None else moments(truth)
    figure = TimelineFigure(
        vid=vid,
        duration=duration,
        thumbnails=frames,
        truth=None if true is None else _some(true),
        pseudo=_some(own),
    )
    notes = [f"No pictures: {failure}"] if failure else []
    if max(len(own), len(true or [])) > _DRAWN:
        notes.append(f"No more than {_DRAWN} moments are drawn; the text below has all of them.")
    return {
        "vid": vid,
        "duration": duration,
        "own": _as_text(own),
        "true": _as_text(true or []),
        "drawing": figure.svg(),
        "notes": notes,
    }


def _as_text(given: Sequence[LabelledSpan]) -> list[page.Row]:
    return [page.Row(page.words(w), [f"{start:.1f} to {end:.1f}"]) for start, end, w in given]


def _some(given: Sequence[LabelledSpan]) -> list[LabelledSpan]:
    """Thin out moments evenly, so that the drawing keeps a height that one can look at."""
    chosen = np.unique(np.linspace(0, len(given) - 1, min(_DRAWN, len(given))).round().astype(int))
    return [given[index] for index in chosen]
