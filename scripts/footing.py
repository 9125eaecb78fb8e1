"""Trivial answers that benchmarks on real footage stand beside, and folds."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import replace

from zsvg.evaluation import baselines
from zsvg.records import Annotation, Prediction


def fold(vid: str) -> int:
    """Return 0 or 1 by name: no video is in both folds."""
    return zlib.crc32(vid.encode()) % 2


def elsewhere(
    answers: Sequence[Prediction], records: Sequence[Annotation], seed: int
) -> list[Prediction]:
    """Return windows of the same lengths at places that are drawn."""
    lengths = {record.vid: record.duration for record in records}
    moved = []
    for answer in answers:
        start, end, score = (answer.pred_relevant_windows or ())[0]
        draw = random.Random(f"{seed}:{answer.qid!r}").random()
        first = draw * (lengths[answer.vid] - (end - start))
        window = (first, first + end - start, score)
        moved.append(replace(answer, pred_relevant_windows=(window,)))
    return moved


def other_sentences(records: Sequence[Annotation], seed: int) -> list[Annotation]:
    """Return the records with the sentences of another video each."""
    other = baselines.another_video({record.vid for record in records}, seed)
    asked: dict[str, list[str]] = {}
    for record in records:
        asked.setdefault(record.vid, []).append(record.query)
    count: dict[str, int] = {}
    changed = []
    for record in records:
        theirs = asked[other[record.vid]]
        place = count[record.vid] = count.get(record.vid, -1) + 1
        changed.append(replace(record, query=theirs[place % len(theirs)]))
    return changed
