"""The library of a page: what of it visitors see, and which folders may join it."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Collection, Iterable, Sequence
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from zsvg import EncodedVideo, ZsvgError
from zsvg.errors import ITEM_ERRORS
from zsvg.library.rows import unpacked
from zsvg.library.said import Said
from zsvg.video.writing import cut

if TYPE_CHECKING:
    from zsvg.library.library import Library
    from zsvg.library.tables import Video

MOST_FOLDERS = 300  # that the list of folders names
PLAYED = 8.0  # seconds of a moment that are played on the wall
PLAYED_SIDE = 320  # pixels of the longer side
_AT_ONCE = 2  # moments that are cut out for the wall
_PATIENCE = 0.5  # seconds that one waits for its turn: meanwhile it holds a thread of the page
_KEPT = 32  # films of moments


class Shelf:
    """A library, and the folders that it may be shown of and grow by.

    Shown are videos below the folders that the library had when the page began, and below those of
    `index`: what another program adds to the library from elsewhere meanwhile is not.

    Args:
        library: What is searched.
        index: Folders below which a visitor may have a folder indexed; none: the page only reads.

    Attributes:
        library: The same.
        index: The same, by the names that the page gives them.
        roots: Below which a video has to be.
    """

    def __init__(self, library: Library, index: Sequence[Path] = ()) -> None:
        self.library = library
        self.index = _named(path.resolve() for path in index)
        begun = {video.root for video in library.videos()}
        self.roots = sorted({*map(Path, begun), *map(Path, map(os.path.abspath, index))})
        self.roots += [path for path in self.index.values() if path not in self.roots]
        self._index = [(Path(os.path.abspath(place)), place.resolve()) for place in index]
        self._index += [(place, place) for place in self.index.values()]
        self._real: dict[Path, Path] = {}  # where files really are, until the library changes
        self._turns = threading.Semaphore(_AT_ONCE)
        self._films: dict[tuple[str, float, float], bytes] = {}  # the last one asked for is last
        self._films_lock = threading.Lock()
        self._said: Said | None = None
        self._listed: list[Video] = []
        self._by_content: dict[str, Video] = {}

    def shows(self, video: Video) -> bool:
        """Whether visitors may see a video."""
        return self.covers(video.file)

    def covers(self, file: Path) -> bool:
        """Whether a file is below one of the folders.

        Below those of `index` no link may lead out of it: other programs add what they like.
        """
        if not any(file.is_relative_to(root) for root in self.roots):
            return False
        allowed = [real for place, real in self._index if file.is_relative_to(place)]
        if not allowed:
            return True
        if file not in self._real:
            try:
                self._real[file] = file.resolve()
            except (OSError, RuntimeError):  # links in a circle
                self._real[file] = Path()
        return any(self._real[file].is_relative_to(real) for real in allowed)

    def videos(self) -> dict[str, Video]:
        """Return content -> the first video with it, of all that can be searched and shown."""
        listed = self.library.videos()  # the same list, until the library changes
        if listed is not self._listed:
            found: dict[str, Video] = {}
            self._real = {}
            for video in listed:
                if video.usable and self.shows(video):
                    found.setdefault(video.content, video)
            self._listed, self._by_content = listed, found
        return self._by_content

    def video(self, content: str) -> Video:
        """Return the video with a content.

        Raises:
            ZsvgError: None is shown here that has it.
        """
        found = self.videos().get(content)
        if found is not None:
            self._real.pop(found.file, None)  # it may be a link by now
        if found is None or not self.shows(found):
            raise ZsvgError("there is no such video in this library")
        return found

    def worded(self) -> bool:
        """Whether anything is known of what is said in the videos."""
        if self._said is None:  # another program may be listening to them by now
            self._said = Said.there(self.library.tables.folder, self.library.space.width)
        if self._said is None:
            return False
        heard = {one.key for one in self._said.heard() if one.count}
        return any(video.key in heard for video in self.library.videos() if self.shows(video))

    def folders(self) -> dict[str, Path]:
        """Return the folders of the videos by name: those that were indexed, and those in them."""
        videos = self.videos().values()
        names = self._names({Path(video.root) for video in videos})
        found = {name: root for root, name in names.items()}
        for video in videos:
            top, _, rest = video.path.partition("/")
            if rest and len(found) < MOST_FOLDERS:
                root = Path(video.root)
                found.setdefault(f"{names[root]}/{top}", root / top)
        return dict(sorted(found.items()))

    def _names(self, roots: set[Path]) -> dict[Path, str]:
        """Return folder -> name; those that were indexed from the page by their place there."""
        names = {folder: name for name, folder in self.index.items()}
        for root in sorted(roots - names.keys()):
            places = [
                "/".join((name, *root.relative_to(folder).parts))
                for name, folder in self.index.items()
                if root.is_relative_to(folder)
            ]
            names[root] = _name(root, names.values(), places)
        return {root: names[root] for root in roots}

    def folder(self, name: str) -> Path | None:
        """Return a folder by its name, None for "".

        Raises:
            ZsvgError: It has no such folder.
        """
        if not name:
            return None
        found = self.folders().get(name)
        if found is None:
            raise ZsvgError(f"there is no folder {name!r} in this library")
        return found

    def place(self, name: str, below: str) -> Path:
        """Return a folder that may be indexed.

        Args:
            name: One of `index`.
            below: Path from there to the folder; "": all of it.

        Raises:
            ZsvgError: It is not there or leads elsewhere: which of the two is nobody's business.
        """
        root = self.index.get(name)
        if root is None:
            raise ZsvgError("this page indexes no such folder; see `zsvg demo --index`")
        try:
            folder = (root / below.strip().lstrip("/")).resolve()
            allowed = folder.is_relative_to(root) and folder.is_dir()
        except (OSError, ValueError, RuntimeError):  # no path, or links in a circle
            allowed = False
        if not allowed:
            raise ZsvgError(f"there is no such folder in {name}; leave it empty for all of it")
        return folder

    def encoded(self, video: Video) -> EncodedVideo:
        """Return the features of a video, which lie in the library.

        Raises:
            ZsvgError: They do not any more.
        """
        rows = self.library.tables.features([video.content])
        if video.content not in rows:
            raise ZsvgError(f"{video.vid} is not in the library any more")
        frames = unpacked(rows[video.content], video.vid)
        return EncodedVideo(vid=video.vid, frames=frames, encoder=self.library.grounder.encoder)

    def played(self, content: str, start: float, end: float) -> bytes:
        """Return the first seconds of a moment as a small mp4.

        It is b"" where others are being cut out; the browser asks again.

        Raises:
            ZsvgError: There is no such video or moment, its file is gone, or cannot be read.
        """
        video = self.video(content)
        if not 0 <= start < end <= video.duration + 1:  # not true of what is no number
            raise ZsvgError("there is no such moment")
        key = (content, start, end)
        if film := self._film(key):
            return film
        if not video.file.is_file():
            raise ZsvgError("this video is not there any more")
        if not self._turns.acquire(timeout=_PATIENCE):
            return b""
        try:
            with tempfile.TemporaryDirectory(prefix="zsvg-moment-") as folder:
                file = Path(folder) / "moment.mp4"
                cut(video.file, start, min(end, start + PLAYED), file, longest=PLAYED_SIDE)
                return self._film(key, file.read_bytes())
        except ITEM_ERRORS as error:
            raise ZsvgError("this video cannot be played") from error
        finally:
            self._turns.release()

    def _film(self, key: tuple[str, float, float], film: bytes = b"") -> bytes:
        """Return a film that is kept, or keep it; b"" where there is none."""
        with self._films_lock:
            film = self._films.pop(key, b"") or film
            if film:
                self._films[key] = film
            if len(self._films) > _KEPT:
                del self._films[next(iter(self._films))]
        return film


def _named(folders: Iterable[Path]) -> dict[str, Path]:
    """Return folders by short names that tell them apart, and tell little else."""
    found: dict[str, Path] = {}
    for folder in dict.fromkeys(folders):
        found[_name(folder, found)] = folder
    return found


def _name(folder: Path, taken: Collection[str], better: Sequence[str] = ()) -> str:
    """Return a name of a folder that no other has."""
    names = (*better, folder.name or "/", "/".join(folder.parts[-2:]))
    numbered = (f"{folder.name} ({number})" for number in count(2))
    return next(name for name in chain(names, numbered) if name not in taken)
