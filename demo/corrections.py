"""What a correction makes of a label: other words and ends, two of one, one of two.

Messages are for whoever sits before the page, not for whoever writes files of labels.
"""

from __future__ import annotations

from dataclasses import replace

from zsvg import ZsvgError
from zsvg.errors import RecordError
from zsvg.records import Annotation, check_trainable

SHORTEST = 0.1  # seconds of a label


def checked(old: Annotation, query: str, start: float, end: float) -> Annotation:
    """Return a label with other words and ends, which then counts as a true one.

    Args:
        old: The label.
        query: Its words.
        start: Seconds.
        end: Seconds.

    Raises:
        ZsvgError: Training could not use it.
    """
    query = " ".join(query.split())
    window = (round(float(start), 3), round(float(end), 3))
    if not query:
        raise ZsvgError("the label has no sentence; write what happens in the moment")
    if window[0] < 0:
        raise ZsvgError(f"the moment cannot start at {window[0]:g} s; the video starts at 0")
    if window[1] <= window[0]:
        raise ZsvgError(
            f"the moment does not end after it starts; choose an end after {window[0]:g} s"
        )
    if window[1] > old.duration + 0.05:
        raise ZsvgError(
            f"the moment cannot end at {window[1]:g} s; the video ends at {old.duration:.1f} s"
        )
    # Labels without `source` are true ones for everything in zsvg.
    extra = {key: value for key, value in old.extra.items() if key != "source"}
    label = replace(old, query=query, relevant_windows=(window,), extra=extra)
    if alike(label, old):  # the page shows hundredths of seconds, and the label may have more
        label = replace(label, relevant_windows=old.relevant_windows)
    try:
        check_trainable([label], tolerance=0.05)
    except RecordError as error:
        reason = str(error).rpartition(": ")[2]
        raise ZsvgError(f"the label cannot be used for training: {reason}") from error
    return label


def alike(label: Annotation, other: Annotation) -> bool:
    """Return whether two labels have the same words and ends, as far as the page shows these."""
    ends = zip(label.relevant_windows[0], other.relevant_windows[0], strict=True)
    return label.query == other.query and all(abs(a - b) < 0.0051 for a, b in ends)


def split(label: Annotation, at: float, qid: str) -> tuple[Annotation, Annotation]:
    """Return the two parts of a label.

    Args:
        label: The label.
        at: Seconds; where that is not inside, its middle is taken.
        qid: Of the second part.

    Raises:
        ZsvgError: It is too short for two.
    """
    start, end = label.relevant_windows[0]
    if end - start < 2 * SHORTEST:
        raise ZsvgError(f"the label lasts {end - start:.1f} s, too short for two")
    if not start + SHORTEST <= at <= end - SHORTEST:
        at = 0.5 * (start + end)
    at = round(at, 3)
    first = replace(label, relevant_windows=((start, at),))
    return first, replace(label, qid=qid, relevant_windows=((at, end),))


def merged(label: Annotation, other: Annotation) -> Annotation:
    """Return a label over the moments of two, with the words of the first."""
    (start, end), (begin, until) = label.relevant_windows[0], other.relevant_windows[0]
    words = label.query or other.query
    return replace(label, query=words, relevant_windows=((min(start, begin), max(end, until)),))
