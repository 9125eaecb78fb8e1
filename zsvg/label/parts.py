"""Finished videos of a labelling run: one JSON file each, named by settings and by content.

Processes take disjoint shares and meet in the folder of these files. What they tell each other are
small JSON files there, one per process, written anew by every run: no tensor and no pickle travels,
and nothing in a finished video's file depends on how many processes there are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from zsvg.errors import ITEM_ERRORS, ZsvgError
from zsvg.features.processes import Processes
from zsvg.files import sha256_json, write_json

_NAME = "?" * 64 + ".json"
_NOTE = "captioner.json"


def part_file(work_dir: str | Path, settings: Mapping[str, Any], content: str) -> Path:
    """Return where a finished video is kept.

    Args:
        work_dir: Folder of finished videos.
        settings: As `zsvg.label.run.label_settings` gives them.
        content: SHA-256 of the video.
    """
    return Path(work_dir) / f"{_prefix(settings)}{content[:32]}.json"


def _prefix(settings: Mapping[str, Any]) -> str:
    return sha256_json(settings)[:32]


def other_parts(work_dir: str | Path, settings: Mapping[str, Any]) -> int:
    """Return how many finished videos are of no use, where all are of other settings; else 0."""
    names = [path.name for path in Path(work_dir).glob(_NAME)]
    return 0 if any(name.startswith(_prefix(settings)) for name in names) else len(names)


def read_part(path: Path | None, *, lost: bool = False) -> dict[str, Any] | None:
    """Return a finished video's file, or None if there is none that can be read.

    Args:
        path: The file; None is none.
        lost: Take a video, too, of which an endpoint did not answer all: it is not finished.
    """
    if path is None:
        return None
    try:
        part = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None  # Not done yet, or damaged by something else than us: do it again.
    try:
        whole = part["duration"] > 0 and all(
            isinstance(label["query"], str) and label["window"][0] < label["window"][1]
            for label in part["labels"]
        )
    except (KeyError, TypeError, IndexError):  # of somebody else
        return None
    return part if whole and (lost or "lost" not in part) else None


def any_part(work_dir: str | Path | None) -> bool:
    """Return whether the folder holds a finished video, of whatever settings."""
    return work_dir is not None and any(Path(work_dir).glob(_NAME))


def finished_contents(
    vids: Iterable[str],
    videos: Mapping[str, Path],
    work_dir: str | Path | None,
    settings: Mapping[str, Any],
    hashed: Callable[[str | Path], str],
) -> dict[str, str]:
    """Return vid -> content of the videos that are finished; a fresh run hashes nothing for it.

    Args:
        vids: Which videos to look for.
        videos: vid -> file. Unreadable ones are not finished.
        work_dir: Folder of finished videos.
        settings: As `zsvg.label.run.label_settings` gives them.
        hashed: Returns the content of a file; raises for an unreadable one.
    """
    contents: dict[str, str] = {}
    if work_dir is None or not any_part(work_dir):
        return contents
    for vid in vids:
        try:
            content = hashed(videos[vid])
        except ITEM_ERRORS:
            continue
        if read_part(part_file(work_dir, settings, content)) is not None:
            contents[vid] = content
    return contents


def note_captioner(work_dir: str | Path, name: str, fingerprint: str) -> None:
    """Leave word of which captioner works here, for a forecast that does not load it."""
    write_json(Path(work_dir) / _NOTE, {"name": name, "fingerprint": fingerprint})


def noted_captioner(work_dir: str | Path, name: str | None) -> str | None:
    """Return the fingerprint of the captioner that worked here last, None if it was another."""
    try:
        note = json.loads((Path(work_dir) / _NOTE).read_text(encoding="utf-8"))
        return str(note["fingerprint"]) if note["name"] == name else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def gather(
    processes: Processes, folder: Path, finished: Mapping[str, str], failures: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Tell what became of one's own videos, wait for the others, and return the same of all.

    Args:
        processes: All of them call this, each once.
        folder: That all of them see.
        finished: vid -> name of its file in `folder`.
        failures: vid -> why there is none.

    Raises:
        ZsvgError: What another process wrote is not there.
    """
    own = {"finished": dict(finished), "failures": dict(failures)}
    write_json(folder / _list_name(processes.index, processes.count), own)
    processes.wait()
    all_finished: dict[str, str] = {}
    all_failures: dict[str, str] = {}
    for index in range(processes.count):
        path = folder / _list_name(index, processes.count)
        try:
            told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ZsvgError(
                f"{path}: process {index + 1} of {processes.count} left nothing readable here; "
                "all processes must write to the same folder"
            ) from error
        all_finished |= told["finished"]
        all_failures |= told["failures"]
    return all_finished, all_failures


def _list_name(index: int, count: int) -> str:
    return f"process-{index + 1}-of-{count}.json"
