"""Moments as JSON, CSV, subtitles or timelines; of a file, its name says which."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from zsvg.errors import CONTROLS, ZsvgError
from zsvg.files import file_stem, is_stream, sha256_json, write_text
from zsvg.grounding.editors import TIMELINES, Shot, timeline_text, write_timelines
from zsvg.places.urls import met, place_of
from zsvg.records import Annotation, Prediction, to_jsonl

Records = Sequence[Annotation] | Sequence[Prediction]
ScoredMoments = list[tuple[float, float, float | None, str]]
"""(start, end, score, sentence) of one video; seconds; annotations have no score."""


def write_moments(
    path: str | Path, records: Records, failures: list[str] | None = None
) -> list[Path]:
    """Write annotations or predictions as the suffix says: .jsonl, .json, .csv, .srt, .vtt, ...

    JSON holds everything; CSV one window per line; subtitles the windows of one video each, in
    order of time, so several videos give several files, NAME.VID.srt; .otio, .edl and .fcpxml the
    windows in their order as a timeline of clips, see `zsvg.grounding.editors`. The path `-` is
    standard output, as JSONL.

    Args:
        path: The file.
        records: For timelines, each with the `path` of its video in `extra`, as `zsvg ground` gives
            it, and `url` where editors are to be told another place.
        failures: Of timelines, as of `zsvg.grounding.editors.write_timelines`.

    Returns:
        The files written.

    Raises:
        ZsvgError: Another suffix, or what is asked for a timeline is missing.
    """
    target, form = place_of(path), form_of(path)
    if form in TIMELINES:
        return write_timelines(target, form, _shots(records), failures)
    if form not in SUBTITLES:
        write_text(target, FORMS[form](records))
        return [target]
    videos: dict[str, list[Annotation | Prediction]] = {record.vid: [] for record in records}
    for record in records:
        videos[record.vid].append(record)
    written: list[Path] = []
    for vid, own in videos.items():
        file = target
        if len(videos) > 1:
            file = target.with_name(f"{target.stem}.{file_stem(vid)}{target.suffix}")
            if file in written:  # another name that differs in what file names cannot hold
                mark = sha256_json(vid)[:8]
                file = target.with_name(f"{target.stem}.{file_stem(vid)}~{mark}{target.suffix}")
        write_text(file, FORMS[form](own))  # type: ignore[arg-type]
        written.append(file)
    return written


def form_of(path: str | Path, *more: str) -> str:
    """Return which of `FORMS` or `TIMELINES` the name of a file asks for.

    Args:
        path: The file.
        more: Names of other forms, which the caller writes itself.

    Raises:
        ZsvgError: None of them.
    """
    suffix = place_of(path).suffix
    form = suffix.lower().removeprefix(".")
    known = (*FORMS, *TIMELINES, *more)
    if form not in known and is_stream(path):
        return "jsonl"
    if form not in known:
        *first, last = (f".{name}" for name in known)
        raise ZsvgError(
            f"{path}: cannot write {suffix or 'this'}; end the name in {', '.join(first)} or {last}"
        )
    return form


def moments_text(records: Records, form: str, failures: list[str] | None = None) -> str:
    """Return what `write_moments` writes into one file.

    Args:
        records: Annotations or predictions.
        form: One of `FORMS` or `TIMELINES`.
        failures: As of `write_moments`.

    Raises:
        ZsvgError: Subtitles of several videos, or an EDL of several frame rates.
    """
    if form in TIMELINES:
        return timeline_text(form, _shots(records), failures)
    check_fits(form, len({record.vid for record in records}))
    return FORMS[form](records)


def check_fits(form: str | None, videos: int) -> None:
    """Refuse to show several videos as subtitles: their times have nothing to do with each other.

    Raises:
        ZsvgError: The form is one of subtitles, and there is more than one video.
    """
    if form in SUBTITLES and videos > 1:
        raise ZsvgError(
            f"{form} holds the moments of one video, not of {videos}; give one video, or "
            f"-o NAME.{form} for a file each"
        )


def windows(record: Annotation | Prediction) -> ScoredMoments:
    """Return the moments of one record, in its order."""
    if isinstance(record, Prediction):
        return [(s, e, p, record.query) for s, e, p in record.pred_relevant_windows or ()]
    return [(s, e, None, record.query) for s, e in record.relevant_windows]


def _shots(records: Records) -> Iterator[Shot]:
    for record in records:
        if not isinstance(path := record.extra.get("path"), str):
            raise ZsvgError(
                f"video {record.vid!r}: its file is not known, to which a timeline refers; give "
                "videos, or another form"
            )
        file, url = met(path), record.extra.get("url")
        for start, end, score, sentence in windows(record):
            yield Shot(path=file, start=start, end=end, sentence=sentence, score=score, url=url)


def _json(records: Records) -> str:
    lines = to_jsonl(records).split("\n")[:-1]  # splitlines would cut at U+2028 in a sentence
    return "[\n" + ",\n".join(lines) + "\n]\n" if lines else "[]\n"


def _in_order(records: Records) -> ScoredMoments:
    return sorted((m for record in records for m in windows(record)), key=lambda m: m[:2])


def _srt(records: Records) -> str:
    blocks = [
        f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{_line(sentence)}\n"
        for number, (start, end, _, sentence) in enumerate(_in_order(records), start=1)
    ]
    return "\n".join(blocks)


def _vtt(records: Records) -> str:
    blocks = ["WEBVTT\n"]
    for start, end, _, sentence in _in_order(records):
        text = _line(sentence).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        blocks.append(f"{_clock(start, '.')} --> {_clock(end, '.')}\n{text}\n")
    return "\n".join(blocks)


def _csv(records: Records) -> str:
    rows = [
        (record.qid, record.vid, sentence, start, end, "" if score is None else score)
        for record in records
        for start, end, score, sentence in windows(record)
    ]
    return csv_text([("qid", "vid", "query", "start", "end", "score"), *rows])


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Return rows, the names of the columns first, as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def hms(seconds: float) -> str:
    """Return a time for people, as h:mm:ss.s: "0:01:00.0" of 59.96 seconds."""
    if not math.isfinite(seconds):  # other people's records may hold 1e400
        return str(seconds)
    minutes, tenths = divmod(abs(round(10 * seconds)), 600)
    sign = "-" if round(10 * seconds) < 0 else ""
    return f"{sign}{minutes // 60}:{minutes % 60:02d}:{tenths // 10:02d}.{tenths % 10}"


def _clock(seconds: float, mark: str) -> str:
    milliseconds = max(0, round(1000 * seconds))
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{mark}{rest % 1000:03d}"


def _line(sentence: str) -> str:
    # A blank line would end the block, and "-->" would begin another.
    words = re.sub(f"[{CONTROLS}]", "", " ".join(sentence.split())).split()
    return " ".join(words).replace("-->", "->")


SUBTITLES = ("srt", "vtt")
FORMS: dict[str, Callable[[Records], str]] = {
    "jsonl": to_jsonl,
    "json": _json,
    "csv": _csv,
    "srt": _srt,
    "vtt": _vtt,
}
"""Name of each form, which is also the suffix of its files -> what writes it."""
