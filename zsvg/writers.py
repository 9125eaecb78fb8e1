"""Moments as JSONL, CSV or subtitles: the name of the file says which."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

from zsvg.errors import ZsvgError
from zsvg.files import write_text
from zsvg.records import Annotation, Prediction, write_annotations, write_predictions

Moments = list[tuple[float, float, float | None, str]]
"""(start, end, score, sentence) of one video; seconds; annotations have no score."""


def write_moments(
    path: str | Path, records: Sequence[Annotation] | Sequence[Prediction]
) -> list[Path]:
    """Write annotations or predictions as the suffix says: .jsonl, .csv, .srt or .vtt.

    JSONL holds everything; CSV one window per line; subtitles the windows of one video each, in
    order of time, so several videos give several files, NAME.VID.srt.

    Returns:
        The files written.

    Raises:
        ZsvgError: Another suffix.
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix in (".jsonl", ".json"):
        predictions = [record for record in records if isinstance(record, Prediction)]
        if predictions:
            write_predictions(target, predictions)
        else:
            write_annotations(target, [r for r in records if isinstance(r, Annotation)])
        return [target]
    if suffix == ".csv":
        write_text(target, _csv(records))
        return [target]
    formats: dict[str, Callable[[Moments], str]] = {".srt": srt, ".vtt": vtt}
    if suffix not in formats:
        raise ZsvgError(f"{path}: cannot write {suffix or 'this'}; end the name in .jsonl, .csv, "
                        ".srt or .vtt")  # fmt: skip
    videos: dict[str, Moments] = {record.vid: [] for record in records}
    for record in records:
        videos[record.vid] += _windows(record)
    written = []
    for vid, moments in videos.items():
        file = target if len(videos) == 1 else target.with_suffix(f".{vid}{suffix}")
        write_text(file, formats[suffix](sorted(moments, key=lambda m: m[:2])))
        written.append(file)
    return written


def srt(moments: Moments) -> str:
    """Return SubRip text."""
    blocks = [
        f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{_line(sentence)}\n"
        for number, (start, end, _, sentence) in enumerate(moments, start=1)
    ]
    return "\n".join(blocks)


def vtt(moments: Moments) -> str:
    """Return WebVTT text."""
    blocks = ["WEBVTT\n"]
    for start, end, _, sentence in moments:
        text = _line(sentence).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        blocks.append(f"{_clock(start, '.')} --> {_clock(end, '.')}\n{text}\n")
    return "\n".join(blocks)


def _csv(records: Sequence[Annotation] | Sequence[Prediction]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("qid", "vid", "query", "start", "end", "score"))
    for record in records:
        for start, end, score, sentence in _windows(record):
            shown = "" if score is None else score
            writer.writerow((record.qid, record.vid, sentence, start, end, shown))
    return text.getvalue()


def _windows(record: Annotation | Prediction) -> Moments:
    if isinstance(record, Prediction):
        return [(s, e, p, record.query) for s, e, p in record.pred_relevant_windows]
    return [(s, e, None, record.query) for s, e in record.relevant_windows]


def _clock(seconds: float, mark: str) -> str:
    milliseconds = max(0, round(1000 * seconds))
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{mark}{rest % 1000:03d}"


def _line(sentence: str) -> str:
    # A blank line would end the block, and "-->" would begin another.
    return " ".join(sentence.split()).replace("-->", "->")
