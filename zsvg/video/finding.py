"""Finding and naming videos, or captions of them."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from zsvg.errors import VideoError
from zsvg.places.urls import Url, absolute, place_of
from zsvg.records import video_key

VIDEO_SUFFIXES = (
    *(".3g2", ".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)


class Videos(dict[str, Path]):
    """Videos by name, in the order of their names.

    A name is found in whatever Unicode form it is asked for: disks of Macs take accents apart.

    Attributes:
        unusable: One line each on what was found and is no video that can be used: dangling links,
            folders that cannot be read, names that are not text.
    """

    def __init__(self, files: Mapping[str, Path], unusable: Iterable[str] = ()) -> None:
        super().__init__(sorted((video_key(vid), path) for vid, path in files.items()))
        self.unusable = tuple(unusable)

    def __missing__(self, vid: str) -> Path:
        if (form := video_key(vid)) == vid:
            raise KeyError(vid)
        return self[form]

    def __contains__(self, vid: object) -> bool:
        return super().__contains__(video_key(vid) if isinstance(vid, str) else vid)


def find_videos(*places: str | Path, suffixes: Sequence[str] = VIDEO_SUFFIXES) -> Videos:
    """Return the videos of files, folders and patterns such as "videos/*.mp4"; each may be a URL.

    Folders are searched with all that is below them, links included; what is hidden is left out. A
    video is called by its path below the given folder, with "/" between folders and without its
    suffix; files that would be called the same keep theirs, or are called by their path below the
    folder above all places.

    Args:
        places: At least one. A file that is named itself may have any suffix.
        suffixes: Of files in folders, lower case: of videos, or what stands in their place.

    Raises:
        VideoError: A place does not exist, or there is no video at all.
        RemoteError: A URL cannot be reached.
    """
    found: dict[str, tuple[Path, Path]] = {}
    unusable: list[str] = []
    for given in _expand(places):
        if given.is_dir():
            below = _objects if isinstance(given, Url) else _below
            files = list(below(given, unusable, suffixes))
            base = given
        elif isinstance(given, Url) and given.exists() and given.is_page:
            raise VideoError(f"{given}: a page; web servers list no folders, so name each video")
        elif given.is_file():
            files, base = [given], given.parent
        else:
            raise VideoError(f"{given}: no such file or folder; give a video or a folder of videos")
        for path in files:
            first, _ = found.setdefault(absolute(path), (path, base))
            if isinstance(first, Url) and first != path:
                unusable.append(f"{path}: is named twice, with other queries; name it once")
    named: dict[str, Path] = {}
    for vid, path in _named(found.values()):
        if vid is None:
            shown = os.fsencode(path).decode("utf-8", "backslashreplace")
            unusable.append(f"{shown}: the name is not UTF-8; rename the file")
        elif vid in named:
            unusable.append(f"{path}: would be called {vid!r}, as {named[vid]} is; rename one")
        else:
            named[vid] = path
    if not named:
        where = ", ".join(str(place_of(given)) for given in places)
        what, such = "video", ".mp4, .mkv, .webm, .avi, .mov, ..."
        if suffixes is not VIDEO_SUFFIXES:
            what, such = "file", ", ".join(suffixes)
        more = f"; {unusable[0]}" if unusable else f" ({such})"
        kind = f"no {what} in this folder" if len(places) == 1 else f"no {what} there"
        raise VideoError(f"{where}: {kind}{more}")
    return Videos(named, unusable)


def find_captions(folder_or_file: str | Path) -> dict[str, Path]:
    """Map video names to caption files (.jsonl), sorted; empty where there are none."""
    return _with_suffix(folder_or_file, (".jsonl",))


def find_readable(*places: str | Path, reads: Sequence[str]) -> dict[str, Path]:
    """Return vid -> file of videos, or of other files that a model reads where there are any.

    Args:
        places: As of `find_videos`.
        reads: Suffixes of those other files; `Backbone.reads`.

    Raises:
        VideoError: There is nothing of that kind.
    """
    ready = {vid: file for given in places for vid, file in _with_suffix(given, reads).items()}
    return ready or find_videos(*places)


def _with_suffix(folder_or_file: str | Path, suffixes: Sequence[str]) -> dict[str, Path]:
    given = place_of(folder_or_file)
    files = [given]
    if suffixes and given.is_dir():
        seen = [file for file in given.iterdir() if not file.name.startswith(".")]
        files = sorted(seen, key=lambda file: file.name)
    return {file.stem: file for file in files if file.suffix in suffixes}


def _expand(places: Iterable[str | Path]) -> Iterator[Path]:
    """Yield paths, and for patterns that no shell has expanded the paths that fit."""
    for given in places:
        if isinstance(known := place_of(given), Url):
            if not (objects := known.expand()):
                raise VideoError(f"{known}: nothing fits this pattern; give a video or a folder")
            yield from (place_of(one) for one in objects)
            continue
        text = os.fspath(known)
        if not os.path.lexists(text) and glob.has_magic(text):
            if not (fitting := sorted(glob.glob(text, recursive=True))):
                raise VideoError(f"{text}: no file fits this pattern; give a video or a folder")
            yield from map(Path, fitting)
        else:
            yield Path(text)


def _below(folder: Path, unusable: list[str], suffixes: Sequence[str]) -> Iterator[Path]:
    """Yield the files below a folder; links that lead in circles are walked once."""
    seen: set[tuple[int, int]] = set()

    def refused(error: OSError) -> None:
        unusable.append(f"{error.filename}: cannot be read ({error.strerror}); check its rights")

    for here, folders, files in os.walk(folder, onerror=refused, followlinks=True):
        status = os.stat(here)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(here, name)
            if name.startswith(".") or path.suffix.lower() not in suffixes:
                continue
            if path.is_file():
                yield path
            elif path.is_symlink():
                unusable.append(f"{path}: a link to nothing; fetch its file, or remove it")


def _objects(folder: Url, unusable: list[str], suffixes: Sequence[str]) -> Iterator[Path]:
    """Yield the objects below a URL."""
    for url in folder.below():
        hidden = any(part.startswith(".") for part in url.relative_to(folder).parts)
        if not hidden and url.suffix.lower() in suffixes:
            yield place_of(url)


def _named(files: Iterable[tuple[Path, Path]]) -> Iterator[tuple[str | None, Path]]:
    """Yield (name, path) in order of names, None for what cannot be written as text."""
    forms: dict[Path, list[str]] = {}
    known = list(files)
    above = os.path.commonpath([_pure(base) for _, base in known] or ["/"])
    for path, base in known:
        below = video_key(path.relative_to(base).as_posix())
        try:
            below.encode("utf-8")
        except UnicodeEncodeError:
            yield None, path
            continue
        far = video_key(Path(os.path.relpath(_pure(path), above)).as_posix())
        bare = (name[: len(name) - len(path.suffix)] for name in (below, far))
        forms[path] = [next(bare), below, next(bare), far]
    chosen = dict.fromkeys(forms, 0)
    while clashing := _clashing({path: forms[path][form] for path, form in chosen.items()}):
        # A suffix tells files of one folder apart; files of several places, the way to them.
        moved = False
        for group in clashing:
            least = 3
            if all(chosen[path] < 2 for path in group):
                least = 1 if len({forms[path][1] for path in group}) == len(group) else 2
            for path in group:
                moved = moved or chosen[path] < least
                chosen[path] = max(chosen[path], least)
        if not moved:
            break  # one name, written in two ways
    for path in sorted(forms, key=lambda path: forms[path][chosen[path]]):
        yield forms[path][chosen[path]], path


def _pure(path: Path) -> str:
    return str(path.pure) if isinstance(path, Url) else os.path.abspath(path)


def _clashing(names: Mapping[Path, str]) -> list[list[Path]]:
    groups: dict[str, list[Path]] = {}
    for path, name in names.items():
        groups.setdefault(name, []).append(path)
    return [group for group in groups.values() if len(group) > 1]
