"""Sentences that are not true of a video: what training learns from that something is not there.

Sentences of other videos are at hand without anybody's word for it. Most are of other things, and
told apart at a glance; those next to a label's own sentence share the thing and differ in what it
does, or the other way round. Some may be true of this video too: those that say about the same as
one of its own sentences are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from zsvg.errors import RecordError
from zsvg.records import FROM_FRAMES, Annotation, called

ABSENT = "absent"
"""Key of a record's sentences that somebody says are not true of its video."""
ALIKE = 0.9
"""Cosine of two sentences from which on they may say the same."""
NEAR, FAR = 8, 8  # sentences of either sort that a label is told apart from

Kinds = Mapping[str, tuple[str, ...]]
"""Kind of sentences -> those of it, at least one: "told", "near" and "far"."""


def absent_sentences(
    labels: Sequence[Annotation], vectors: Mapping[str, NDArray[np.float32]], seed: int
) -> list[Kinds]:
    """Return what is not true of each label's video.

    "told" are the sentences that the label itself has under `ABSENT`; "near" those of other videos
    that are nearest to its own, and "far" any others.

    Args:
        labels: Of any number of videos.
        vectors: sentence -> (D,) of unit length, of all that labels have.
        seed: Of the draw of others.

    Raises:
        RecordError: What a label has under `ABSENT` is no list of sentences.
    """
    queries = sorted({label.query for label in labels} - {FROM_FRAMES})
    place = {query: row for row, query in enumerate(queries)}
    table = np.stack([vectors[query] for query in queries]) if queries else np.zeros((0, 1))
    rng = np.random.default_rng([seed, 79])
    by_video: dict[str, list[int]] = {}
    for number, label in enumerate(labels):
        by_video.setdefault(label.vid, []).append(number)
    found: dict[int, Kinds] = {}
    for vid in sorted(by_video):
        known = [n for n in by_video[vid] if labels[n].query != FROM_FRAMES]
        own = table[[place[labels[n].query] for n in known]] @ table.T  # (n, Q)
        free = np.flatnonzero(own.max(axis=0, initial=-1.0) < ALIKE)
        cosines = dict(zip(known, own, strict=True))
        for number in by_video[vid]:
            order = free
            if number in cosines:
                order = free[np.argsort(-cosines[number][free], kind="stable")]
            near = order[: NEAR if number in cosines else 0]
            rest = order[len(near) :]
            far = np.sort(rng.choice(rest, size=min(FAR, len(rest)), replace=False))
            kinds = {
                "told": told_absent(labels[number]),
                "near": tuple(queries[i] for i in near),
                "far": tuple(queries[i] for i in far),
            }
            found[number] = {kind: some for kind, some in kinds.items() if some}
    return [found[number] for number in range(len(labels))]


def asked_of(labels: Sequence[Annotation], absent: Sequence[Kinds]) -> list[Annotation]:
    """Return a record per label and kind that asks one of its sentences, the kind in `extra`."""
    return [
        Annotation(
            qid=f"{number}-{kind}",
            query=sentences[number % len(sentences)],
            vid=label.vid,
            duration=label.duration,
            extra={"kind": kind, **{k: label.extra[k] for k in ("domain",) if k in label.extra}},
        )
        for number, (label, kinds) in enumerate(zip(labels, absent, strict=True))
        for kind, sentences in kinds.items()
    ]


def told_absent(label: Annotation) -> tuple[str, ...]:
    """Return the sentences that a label has under `ABSENT`.

    Raises:
        RecordError: It is no list of sentences.
    """
    given = label.extra.get(ABSENT, ())
    if not isinstance(given, list | tuple) or not all(isinstance(x, str) and x for x in given):
        raise RecordError(
            f'{called(label)}: "{ABSENT}" {given!r} must be a list of sentences, or left out'
        )
    return tuple(given)
