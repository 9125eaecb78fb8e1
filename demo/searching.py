"""Searching the library: the work behind the Library tab."""

from __future__ import annotations

import secrets
import time
from base64 import b64encode
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zsvg import ZsvgError
from zsvg.library.feedback import judged
from zsvg.library.pictures import pictures

from .asking import ask, features_key, forget, questions
from .previews import open_clip
from .shelf import Shelf
from .timeline import Bar, Lane, thin
from .tuning import model_folder
from .visit import Site, Visit

if TYPE_CHECKING:
    from zsvg.library.hits import By, Hit
    from zsvg.library.known import Part
    from zsvg.library.library import Library
    from zsvg.library.search import Question
    from zsvg.library.tables import Video

PAGE = 60  # moments that are shown at once
MOST = 300
READ = 150
"""Videos that are read whole for a wall: the engine puts them in the same order, and of very many
videos a tenth would take seconds."""
SEEN: By = "seen"
SAID: By = "said"
BOTH: By = "both"
_DAY = 86400.0


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a visitor looks for.

    Attributes:
        text: The sentence; "" where a moment is the example.
        like: Content, start and end of the example, seconds.
        name: What the example is called.
        yes: Moments that the sentence is moved towards, by `zsvg.library.feedback`.
        no: Moments that it is moved away from.
        folder: Only videos of this folder, one of `Shelf.folders`; "": of all.
        days: Only videos that were changed in so many last days; 0: of any date.
        length: Only videos of so many seconds or more.
        by: "seen", "said" or "both".
    """

    text: str = ""
    like: tuple[str, float, float] | None = None
    name: str = ""
    yes: tuple[Part, ...] = ()
    no: tuple[Part, ...] = ()
    folder: str = ""
    days: float = 0.0
    length: float = 0.0
    by: By = BOTH

    @property
    def plain(self) -> Wanted:
        """The same, by the words as they are."""
        return replace(self, yes=(), no=())

    @property
    def judgeable(self) -> bool:
        """Whether yes and no can be said: they are about what is seen, and a sentence."""
        return bool(self.text) and self.by != SAID


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Moments on the wall.

    Attributes:
        wanted: What they answer.
        hits: The best comes first.
        learned: Whether the visitor's own model ranks them.
        before: Where each stood by the page's own model and the words as they are, from 1, 0
            beyond; None: those rank them.
        more: Whether there may be others.
        token: Tells this wall from every other one.
    """

    wanted: Wanted
    hits: tuple[Hit, ...] = ()
    learned: bool = False
    before: tuple[int, ...] | None = None
    more: bool = False
    token: str = field(default_factory=lambda: secrets.token_hex(8))


def shelf_of(site: Site) -> Shelf:
    """Return the library of the page.

    Raises:
        ZsvgError: It has none.
    """
    if site.shelf is None:
        raise ZsvgError("this page has no library; start it with `zsvg demo --library FOLDER`")
    return site.shelf


def search(site: Site, visit: Visit, wanted: Wanted, top: int | None = None) -> Shown:
    """Look for moments, by the visitor's own model where there is one and it is to be asked.

    A sentence that yes and no have moved is compared with what is seen as a whole, and without a
    head: of the visitor's model it has the prompts alone.

    Args:
        site: The page.
        visit: Whose wall it will be.
        wanted: What to look for.
        top: Most moments; None: `PAGE`.

    Raises:
        ZsvgError: There is nothing to look for, or a filter is out of range.
    """
    shelf = shelf_of(site)
    if wanted.like is None:
        (text,) = questions(wanted.text, 1, site.limits.characters)
        wanted = replace(wanted, text=text)
    if wanted.by not in (SEEN, SAID, BOTH):
        raise ZsvgError(f"{wanted.by!r}: choose one of {SEEN}, {SAID} and {BOTH}")
    if not (wanted.days >= 0 and wanted.length >= 0):
        raise ZsvgError("days and seconds are 0 or more")
    top = min(max(top or PAGE, 1), MOST)
    own = visit.learned if visit.by_learned and wanted.like is None else None
    if own is None:
        found = _hits(shelf, shelf.library, wanted, top)
    else:
        found = _hits(shelf, _asked_by(site, own), wanted, top)
    before = None
    if own is not None or wanted != wanted.plain:
        places = [(hit.video.key, hit) for hit in _hits(shelf, shelf.library, wanted.plain, MOST)]
        before = tuple(_place(hit, places) for hit in found)
    visit.shown = Shown(
        wanted=wanted,
        hits=tuple(found),
        learned=own is not None,
        before=before,
        more=len(found) == top < MOST,
    )
    return visit.shown


def narrowed(before: Wanted, asked: Wanted) -> Wanted:
    """Return what is looked for once a filter has changed.

    An example stays one, and a sentence that yes and no have moved stays where it is.

    Args:
        before: What the wall answers.
        asked: What the tab's fields hold.
    """
    if before.like:
        return replace(before, folder=asked.folder, days=asked.days, length=asked.length)
    if asked.judgeable and " ".join(asked.text.split()) == before.text:
        return replace(asked, yes=before.yes, no=before.no)
    return asked


def more(site: Site, visit: Visit, shown: Shown) -> Shown:
    """Look for more of what is on a wall."""
    return search(site, visit, shown.wanted, len(shown.hits) + PAGE)


def like(site: Site, visit: Visit, shown: Shown, number: int) -> Shown:
    """Look for moments that look like one on a wall.

    Raises:
        ZsvgError: There is no such moment.
    """
    hit, wanted = hit_of(shown, number), shown.wanted
    name = f"{called(hit.video)}, {clock(hit.start)} to {clock(hit.end)}"
    place = (hit.video.content, hit.start, hit.end)
    return search(site, visit, replace(wanted.plain, text="", like=place, name=name, by=BOTH))


def shown_of(visit: Visit) -> Shown:
    """Return what is on a visitor's wall.

    Raises:
        ZsvgError: Nothing is.
    """
    if visit.shown is None:
        raise ZsvgError("search for something first")
    return visit.shown


def hit_of(shown: Shown, number: int) -> Hit:
    """Return a moment on a wall by its number, from 0.

    Raises:
        ZsvgError: There is no such moment.
    """
    if not 0 <= number < len(shown.hits):
        raise ZsvgError("there is no such moment; search again")
    return shown.hits[number]


def open_hit(site: Site, visit: Visit, shown: Shown, number: int) -> Hit:
    """Make the video of a moment the visitor's video in Ground, and ask it the same there.

    Its features are those of the library: nothing is encoded.

    Raises:
        ZsvgError: The video is not there any more, or the page does not take it.
    """
    shelf, hit, wanted = shelf_of(site), hit_of(shown, number), shown.wanted
    video = shelf.video(hit.video.content)
    if shelf.shows(hit.video) and hit.video.file.is_file():
        video = hit.video  # not a copy of it
    if not video.file.is_file():
        raise ZsvgError(f"{called(video)} is not there any more")
    clip = open_clip(video.file, site.limits, called(video))
    encoded, grounder = shelf.encoded(video), shelf.library.grounder
    forget(site, visit)  # the video that was open; of this one the page keeps no copy
    visit.clip = clip
    visit.encoded = {features_key(grounder): encoded}
    curve = None
    if wanted.like is not None:
        curve = thin(shelf.library.like(*wanted.like).ask(grounder, encoded, 1))
    elif hit.by != SAID:
        ask(site, visit, wanted.text, 3)
    what = wanted.text or f"like {wanted.name}"
    bar = Bar(
        start=hit.start,
        end=hit.end,
        name="found",
        says=f"{what}, found in the library: {clock(hit.start)} to {clock(hit.end)}. Go there.",
        style="picked",  # the player goes there, and P plays it
        label=f"{hit.start:.3f} {hit.end:.3f}",
    )
    visit.found = Lane(name=what, note="found in the library", style="c", bars=[bar], curve=curve)
    return hit


def use_learned(site: Site, visit: Visit) -> None:
    """Let the model that the visitor has just tuned search the library, and Ground ask it.

    Raises:
        ZsvgError: The run has not finished, or the library's frames were encoded otherwise.
    """
    folder = model_folder(visit)
    _asked_by(site, folder)
    visit.tuned = visit.learned = folder
    visit.by_learned = True


def thumbnails(site: Site, hits: tuple[Hit, ...]) -> list[str]:
    """Return a small picture of each moment as a data address, "" where there is none."""
    places = [(hit.video.content, (hit.start + hit.end) / 2) for hit in hits]
    return [
        "" if picture is None else f"data:image/jpeg;base64,{b64encode(picture).decode()}"
        for picture in pictures(shelf_of(site).library.tables, places)
    ]


def played(site: Site, asked: Any) -> dict[str, str]:
    """Return a moment as "film", the base64 of a small mp4.

    It is "" where others are being cut out, so that a browser asks again, and where it cannot be
    played: then "says" is why.

    Args:
        site: The page.
        asked: What a browser says: content, start and end in seconds.
    """
    try:
        content, start, end = asked
        film = shelf_of(site).played(str(content), float(start), float(end))
    except ZsvgError as error:
        return {"film": "", "says": site.without_folders(str(error))}
    except (ValueError, TypeError, OverflowError):
        return {"film": "", "says": "there is no such moment"}
    return {"film": b64encode(film).decode()}


def to_json(shown: Shown) -> list[dict[str, Any]]:
    """Return moments as the endpoints do."""
    return [
        {
            "video": called(hit.video),
            "content": hit.video.content,
            "start": round(hit.start, 3),
            "end": round(hit.end, 3),
            "score": round(hit.score, 4),
            "by": hit.by,
            "words": hit.words,
        }
        for hit in shown.hits
    ]


def called(video: Video) -> str:
    """Return the name of a video, without the server's folders where it is called by its path."""
    return Path(video.vid).name if Path(video.vid).is_absolute() else video.vid


def clock(seconds: float) -> str:
    """Return a time as people write it: 1:02:03, 2:03.4."""
    tenths = round(10 * seconds)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02d}:{rest // 10:02d}"
    return f"{minutes}:{rest // 10:02d}.{rest % 10}"


def _hits(shelf: Shelf, library: Library, wanted: Wanted, top: int) -> list[Hit]:
    query: str | Question = wanted.text
    if wanted.like is not None:
        query = library.like(*wanted.like)
    elif wanted != wanted.plain:
        query = judged(library.tables, library.grounder, wanted.text, wanted.yes, wanted.no)
    return library.hits(
        query,
        top=top,
        by=wanted.by,
        folder=shelf.folder(wanted.folder),
        since=time.time() - _DAY * wanted.days if wanted.days else None,
        min_length=wanted.length,
        among=shelf.shows,  # not sorted out of the answer: hidden ones would take places there
        most=max(READ, top),
    )


def _asked_by(site: Site, folder: Path) -> Library:
    """Return the library asked by a visitor's model; tables and what was read of them are shared.

    Raises:
        ZsvgError: Its frames were encoded otherwise.
    """
    library = copy(shelf_of(site).library)
    model = site.tuned.of(folder)
    if model.encoder != library.grounder.encoder:
        raise ZsvgError("this model sees frames otherwise than the library; tune another one")
    library.grounder = model
    return library


def _place(hit: Hit, places: list[tuple[str, Hit]]) -> int:
    """Return where a moment stood, from 1; 0: nowhere."""
    for place, (key, other) in enumerate(places, 1):
        if key == hit.video.key and min(hit.end, other.end) > max(hit.start, other.start):
            return place
    return 0
