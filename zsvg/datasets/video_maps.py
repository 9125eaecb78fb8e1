"""JSON objects from video to its queries: ActivityNet Captions and its kin, 2D-TAN, NExT-GQA."""

from __future__ import annotations

from collections.abc import Iterator
from os.path import splitext
from pathlib import Path
from typing import Any

from zsvg.datasets.durations import counted_duration, duration_key, frame_rate
from zsvg.datasets.reading import (
    csv_rows,
    fields,
    listed,
    nested,
    number,
    pair,
    read_text,
    required,
    string,
)
from zsvg.datasets.rules import Row
from zsvg.errors import RecordError, ZsvgError
from zsvg.strict_json import parse_json, quoted


def video_map(text: str, path: str | Path) -> Iterator[Row]:
    """Read VID -> {duration or video_duration, timestamps, sentences, ...}, all in seconds.

    Lists under another key that have one item per sentence, in every video of the file that has
    the key, are cut up: each row keeps its item under that key. Other keys are kept whole. Names
    stay as they are; those of ActivityNet begin with `v_`.

    ActivityNet Captions (Krishna et al., ICCV 2017); Charades-CD and ActivityNet-CD (Yuan et al.,
    2021; yytzsy/grounding_changing_distribution); Charades-CG and ActivityNet-CG (Li et al., CVPR
    2022; YYJMJC/Compositional-Temporal-Grounding); TFVTG's copies (minghangz/TFVTG).
    """
    yield from _rows(_videos(text, path), frames=False)


def frame_map(text: str, path: str | Path) -> Iterator[Row]:
    """Read VIDEO -> {timestamps, sentences, fps, num_frames}: seconds are frames / fps.

    The name of the video loses its extension; `fps` and `num_frames` are kept.

    TACoS (Regneri et al., TACL 2013) as prepared by 2D-TAN (microsoft/VideoX).
    """
    yield from _rows(_videos(text, path), frames=True)


def nextgqa(text: str, path: str | Path, questions: str | Path | None) -> Iterator[Row]:
    """Read VID -> {duration, location: {question number -> windows}, ...}, in seconds.

    The sentence is the question, from a CSV table with `video_id`, `qid` (the number) and
    `question`; its other columns are kept as strings. Identifiers are "VID-number".

    NExT-GQA (Xiao et al., CVPR 2024; doc-doc/NExT-GQA): gsub_val.json with val.csv, and so on.
    """
    if questions is None:
        raise ZsvgError(
            f"{path}: NExT-GQA keeps its questions in another file; give that table as `questions` "
            "(val.csv for gsub_val.json, with columns video_id, qid, question)"
        )
    asked: dict[tuple[str, str], dict[str, str]] = {}
    for where, row in csv_rows(read_text(questions), questions, ("video_id", "qid", "question")):
        key = row.pop("video_id"), row.pop("qid")
        if key in asked:
            raise RecordError(
                f"{where}: question {quoted(key[1])} of video {quoted(key[0])} is there twice"
            )
        asked[key] = row
    for where, vid, entry in _videos(text, path):
        others = {k: v for k, v in entry.items() if k not in ("duration", "location")}
        for question, windows in required(entry, "location", where, nested).items():
            if (vid, question) not in asked:
                raise RecordError(f"{where}: no question {quoted(question)} in {questions}")
            columns = dict(asked[vid, question])
            yield Row(
                where=f"{where}, question {quoted(question)}",
                vid=vid,
                qid=f"{vid}-{question}",
                query=columns.pop("question"),
                windows=tuple(
                    pair(window, "window", where) for window in listed(windows, "location", where)
                ),
                duration=_seconds(entry, where),
                extra={**columns, **others},
            )


def _videos(text: str, path: str | Path) -> list[tuple[str, str, dict[str, Any]]]:
    videos = fields(parse_json(text, path), path)
    named = ((f"{path}: video {quoted(vid)}", vid, entry) for vid, entry in videos.items())
    return [(where, vid, fields(entry, where)) for where, vid, entry in named]


def _rows(videos: list[tuple[str, str, dict[str, Any]]], *, frames: bool) -> Iterator[Row]:
    split: dict[str, bool] = {}
    for where, _, entry in videos:
        sentences = required(entry, "sentences", where, listed)
        times = required(entry, "timestamps", where, listed)
        if len(times) != len(sentences):
            raise RecordError(f"{where}: {len(times)} timestamps for {len(sentences)} sentences")
        for key, value in entry.items():
            parallel = isinstance(value, list) and len(value) == len(sentences)
            split[key] = split.get(key, True) and parallel
    for where, vid, entry in videos:
        length = None if frames else duration_key(entry)
        others = {k: v for k, v in entry.items() if k not in ("timestamps", "sentences", length)}
        if frames:
            vid, rate = splitext(vid)[0], frame_rate(entry, where)
            duration: float | None = counted_duration(entry, where)
        elif length is None and "num_frames" in entry:
            raise RecordError(f"{where}: num_frames and no duration; use the form tacos for frames")
        else:
            rate, duration = 1.0, _seconds(entry, where)
        for index, (times, sentence) in enumerate(
            zip(entry["timestamps"], entry["sentences"], strict=True)
        ):
            here = f"{where}, row {index + 1}"
            start, end = pair(times, "timestamps", here)
            yield Row(
                where=here,
                vid=vid,
                query=string(sentence, "sentence", here),
                windows=((start / rate, end / rate),),
                duration=duration,
                extra={k: v[index] if split[k] else v for k, v in others.items()},
            )


def _seconds(entry: dict[str, Any], where: str) -> float | None:
    key = duration_key(entry)
    return None if key is None else number(entry[key], key, where)
