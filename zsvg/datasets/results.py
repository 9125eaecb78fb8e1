"""Predictions of other projects, for `zsvg evaluate`."""

from __future__ import annotations

from pathlib import Path

from zsvg.datasets.reading import fields, listed, nested, number, pair, read_text, required
from zsvg.errors import RecordError
from zsvg.records import Prediction
from zsvg.strict_json import parse_json, quoted


def read_results(path: str | Path) -> list[Prediction]:
    """Read {"results": {"VID-N": [{"timestamp": [start, end], "score": p}, ...]}}, in seconds.

    N counts the queries of a video from 0, as the identifiers that `convert` makes do. The order of
    the windows is kept. TGN (JaywongWang/TGN) and others in ActivityNet's form of submission.

    Raises:
        FileNotFoundError: there is no such file.
        RecordError: the file has another form.
    """
    given = fields(parse_json(read_text(path), path), path)
    predictions = []
    for qid, answers in required(given, "results", path, nested).items():
        where = f"{path}: query {quoted(qid)}"
        vid, mark, index = qid.rpartition("-")
        if not mark or not index.isdecimal():
            raise RecordError(f'{where}: must be "VID-N", N counting the video\'s queries from 0')
        windows = []
        for answer in listed(answers, "answers", where):
            record = fields(answer, where)
            start, end = required(record, "timestamp", where, pair)
            score = required(record, "score", where, number)
            windows.append((start, end, score))
        predictions.append(
            Prediction(qid=qid, query="", vid=vid, pred_relevant_windows=tuple(windows))
        )
    return predictions
