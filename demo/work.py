"""A visitor's work on disk: labels, verdicts and the picked video, as plain JSONL and JSON.

    FOLDER/state.json            which source is open, and the video of the Ground tab
    FOLDER/SOURCE/labels.jsonl   the export: what `zsvg tune` takes
    FOLDER/SOURCE/work.jsonl     every label with its `verdict`, the rejected ones too
    FOLDER/SOURCE/written.jsonl  the pseudo labels as they were written
    FOLDER/SOURCE/videos.json    the files of the videos, and which one is shown

Each file is renamed into place, so a server that is killed leaves the last state of all of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from zsvg import ZsvgError
from zsvg.files import write_json
from zsvg.records import Annotation, check_trainable, read_annotations, write_annotations
from zsvg.training.labels import is_pseudo

from .bench import VERDICTS, Bench, Entry, labels_of, verdict_on


def save(folder: Path, bench: Bench, hidden: Sequence[Entry] = ()) -> None:
    """Write the labels of one source.

    Args:
        folder: Of the source.
        bench: The labels.
        hidden: More of them, of videos that the page does not show.
    """
    entries = [*bench.entries, *hidden]
    written = [entry.written for entry in entries if entry.written is not None]
    write_annotations(folder / "written.jsonl", written)
    write_annotations(folder / "work.jsonl", map(_row, entries))
    write_annotations(folder / "labels.jsonl", labels_of(entries))
    videos = {vid: str(path) for vid, path in bench.videos.items()}
    write_json(folder / "videos.json", {"shown": bench.vid, "videos": videos})


def load(folder: Path) -> Bench | None:
    """Return the labels of one source as they were saved; None where there are none.

    Raises:
        ZsvgError: A file is not what `save` writes.
    """
    about = read_json(folder / "videos.json")
    if about is None:
        return None
    written = {label.qid: label for label in read_annotations(folder / "written.jsonl")}
    entries = []
    for label in read_annotations(folder / "work.jsonl"):
        verdict = label.extra.get("verdict")
        if verdict not in VERDICTS:
            raise ZsvgError(
                f"{folder / 'work.jsonl'}: label {label.qid} has verdict {verdict!r}; it is one of "
                f"{', '.join(VERDICTS)}"
            )
        file = label.extra.get("file")
        entries.append(
            Entry(
                label=_without(label),
                written=written.get(label.qid),
                verdict=verdict,
                file=Path(file) if file else None,
            )
        )
    videos = {vid: Path(path) for vid, path in about["videos"].items()}
    return Bench(videos, entries, about["shown"])


def read_json(file: Path) -> Any:
    """Return what a file of this folder holds; None where there is none.

    Raises:
        ZsvgError: It is not JSON.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ZsvgError(f"{file}: not JSON ({error}); repair it, or move it away") from error


def take_in(bench: Bench, labels: Sequence[Annotation]) -> str:
    """Take an export in: of the videos that it names, its labels replace those on the bench.

    An export holds all labels but the rejected ones, so those that it lacks are rejected.

    Args:
        bench: The labels that are there.
        labels: Those of the export.

    Returns:
        What has been done, in words.

    Raises:
        ZsvgError: There is none, none of its videos is here, or training could not use a label.
    """
    if not labels:
        raise ZsvgError("this file is empty; give an export of labels")
    known = [label for label in labels if label.vid in bench.videos]
    if not known:
        raise ZsvgError("none of the videos of this file is here; choose their source first")
    check_trainable(known)
    old = {entry.label.qid: entry for entry in bench.entries}
    entries: list[Entry] = []
    for label in _apart(known):
        before = old.pop(label.qid, None)
        written = before.written if before else None
        verdict = "open" if is_pseudo(label) else verdict_on(label, written)
        entries.append(Entry(label=label, written=written, verdict=verdict))
    named = {label.vid for label in known}
    missing = [entry for entry in old.values() if entry.label.vid in named]
    entries += [replace(entry, verdict="rejected") for entry in missing]
    entries += [entry for entry in old.values() if entry.label.vid not in named]
    bench.change(sorted(entries, key=lambda entry: (entry.label.vid, entry.window[0])))
    text = f"{len(known)} labels of {len(named)} videos taken in"
    if missing:
        text += f"; {len(missing)} that the file lacks are rejected"
    if len(known) < len(labels):
        text += f"; {len(labels) - len(known)} are of videos that are not here"
    return text + "."


def _apart(labels: Sequence[Annotation]) -> list[Annotation]:
    """Return labels of one window each, which is what the page can show."""
    return [
        replace(
            label,
            qid=label.qid if number == 0 else f"{label.qid}-{number + 1}",
            relevant_windows=(window,),
        )
        for label in labels
        for number, window in enumerate(label.relevant_windows)
    ]


def _row(entry: Entry) -> Annotation:
    file = {"file": str(entry.file)} if entry.file else {}
    return replace(entry.label, extra={**entry.label.extra, "verdict": entry.verdict, **file})


def _without(label: Annotation) -> Annotation:
    extra = {key: value for key, value in label.extra.items() if key not in ("verdict", "file")}
    return replace(label, extra=extra)
