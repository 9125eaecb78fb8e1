"""JSON lists of rows: DiDeMo, and PSVL's pseudo labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from os.path import splitext
from pathlib import Path
from typing import Any

from zsvg.datasets.reading import fields, listed, number, pair, required, string, whole
from zsvg.datasets.rules import Row
from zsvg.strict_json import parse_json

SEGMENT_SECONDS = 5.0
"""Length of the segments in which DiDeMo was annotated; the last one of a video may be shorter."""


def didemo(text: str, path: str | Path) -> Iterator[Row]:
    """Read rows with `times`, one pair of segment numbers (first, last) from each annotator.

    (a, b) becomes 5a to 5(b + 1) seconds. The windows are the different answers, the most chosen
    first, then by time; `times` and `num_segments` are kept. The duration is 5 `num_segments`.
    The name of the video loses its extension, by which some files differ that are one video.

    DiDeMo (Hendricks et al., "Localizing Moments in Video with Natural Language", ICCV 2017;
    LisaAnne/LocalizingMoments): train_data.json, val_data.json, test_data.json.
    """
    for where, row in _rows(text, path):
        votes: Counter[tuple[int, int]] = Counter()
        for answer in required(row, "times", where, listed):
            pair(answer, "times", where)
            votes[whole(answer[0], "times", where), whole(answer[1], "times", where)] += 1
        ranked = sorted(votes, key=lambda answer: (-votes[answer], answer))
        count = required(row, "num_segments", where, whole)
        yield Row(
            where=where,
            vid=splitext(required(row, "video", where, string))[0],
            qid=required(row, "annotation_id", where, whole),
            query=required(row, "description", where, string),
            windows=tuple(
                (first * SEGMENT_SECONDS, (last + 1) * SEGMENT_SECONDS) for first, last in ranked
            ),
            duration=number(count, "num_segments", where) * SEGMENT_SECONDS,
            extra=_without(row, "video", "annotation_id", "description"),
        )


def psvl(text: str, path: str | Path) -> Iterator[Row]:
    """Read rows with `vid`, `duration`, `timestamp` (fractions of the duration) and `tokens`.

    Without a `sentence` a row is a pseudo label: its query is the tokens joined by spaces, and
    `source` and `weight` are added. With one (PSVL's test file) it is a plain annotation. `tokens`
    and other keys are kept.

    PSVL (Nam et al., "Zero-shot Natural Language Video Localization", ICCV 2021;
    gistvision/PSVL): charades_train_pseudo_supervision_TEP_PS.json and its like.
    """
    for where, row in _rows(text, path):
        duration = required(row, "duration", where, number)
        start, end = required(row, "timestamp", where, pair)
        extra = _without(row, "vid", "duration", "timestamp", "sentence")
        if "sentence" in row:
            query = string(row["sentence"], "sentence", where)
        else:
            tokens = required(row, "tokens", where, listed)
            query = " ".join(string(token, "token", where) for token in tokens)
            extra = {"source": {"proposals": "psvl"}, "weight": 1.0, **extra}
        yield Row(
            where=where,
            vid=required(row, "vid", where, string),
            query=query,
            windows=((start * duration, end * duration),),
            duration=duration,
            extra=extra,
        )


def _rows(text: str, path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for index, row in enumerate(listed(parse_json(text, path), "the file", path), start=1):
        where = f"{path}: row {index}"
        yield where, fields(row, where)


def _without(row: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in keys}
