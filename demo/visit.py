"""The state of a page and of one visitor, and the limits of both."""

from __future__ import annotations

import functools
import re
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import gradio as gr
from gradio.context import LocalContext

from zsvg import EncodedVideo, Grounder, ZsvgError
from zsvg.errors import ours
from zsvg.features.extract import default_cache
from zsvg.files import write_json

from .jobs import Job, Turns
from .origins import loopback
from .tuned import Tuned
from .visitors import Visitors, named

if TYPE_CHECKING:
    from zsvg.features.encoder import FrameFeatures

    from .bench import Bench, Entry
    from .previews import Clip
    from .searching import Shown
    from .shelf import Shelf
    from .timeline import Lane

Result = TypeVar("Result")
STATE = "state.json"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits for one visitor, so that the others are served too.

    Attributes:
        upload_mb: Size of one uploaded file.
        minutes: Length of one video.
        pixels: Width times height of one video.
        videos: Videos that are labelled at once.
        sentences: Queries per request.
        characters: Letters per sentence.
        answers: Most answers per sentence.
        steps: Most steps of a tuning run.
        running: Labelling and tuning runs at a time, of all visitors; beside them one that indexes.
        waiting: Runs that wait for their turn.
        asking: Requests of Ground at a time.
        queue: Requests that wait.
    """

    upload_mb: int = 500
    minutes: float = 60.0
    pixels: int = 8192 * 4320
    videos: int = 50
    sentences: int = 8
    characters: int = 300
    answers: int = 20
    steps: int = 2000
    running: int = 1
    waiting: int = 4
    asking: int = 2
    queue: int = 32


@dataclass(eq=False, kw_only=True)
class Visit:
    """What one visitor has; Gradio keeps one per session and shows it to nobody else.

    Attributes:
        desk: Where labels, uploads and what is open are kept; None: nowhere, as for programs.
        folder: The visitor's other files; the server hands out none of them, only copies.
        clip: The video of the Ground tab.
        open: Name of its file at the desk; "": none.
        encoded: Its features, by encoder and sampling.
        answers: The predictions of the last queries.
        source: Where the videos of the Label tab come from.
        benches: Its labels, by source.
        hidden: What was judged of videos that the page's library does not show.
        clips: The videos of those that were shown, by file.
        frames: Their features, None where there are none yet.
        labelling: The run that writes them.
        taken: The same, once its labels are on the bench.
        tuning: The run that tunes on them.
        tuned: The folder of its model.
        shown: What is on the wall of the Library tab.
        found: The moment of the library that is open in Ground; None: another video is.
        learned: The folder of a model that was tuned for the library.
        lesson: The run that tuned it.
        by_learned: Whether that one ranks the wall.
        indexing: The run that indexes a folder.
    """

    desk: Path | None = None
    folder: Path | None = None
    clip: Clip | None = None
    open: str = ""
    encoded: dict[str, EncodedVideo] = field(default_factory=dict)
    answers: list[Any] = field(default_factory=list)
    source: str = ""
    benches: dict[str, Bench] = field(default_factory=dict)
    hidden: list[Entry] = field(default_factory=list)
    clips: dict[Path, Clip] = field(default_factory=dict)
    frames: dict[Path, FrameFeatures | None] = field(default_factory=dict)
    labelling: Job | None = None
    taken: Job | None = None
    tuning: Job | None = None
    tuned: Path | None = None
    shown: Shown | None = None
    found: Lane | None = None
    learned: Path | None = None
    lesson: Job | None = None
    by_learned: bool = False
    indexing: Job | None = None

    @property
    def bench(self) -> Bench | None:
        """The labels of the present source."""
        return self.benches.get(self.source)


class Site:
    """One page, and what all its visitors share.

    Attributes:
        models: The models, by the name that the page shows; they may share a backbone.
        captioner: The captioner of the Label tab; None: none.
        videos: A folder that the Label tab offers; None: none.
        project: A folder that keeps visitors' work when the page ends; None: none.
        shelf: The library of the Library tab; None: there is none.
        limits: See `Limits`.
        tuned: The models that visitors have tuned.
        turns: Of labelling and tuning runs.
        index_turns: Of runs that index: they take hours, and nobody waits for them.
        folder: What the page writes for itself; it goes with the page.
        visitors: Whom browsers belong to.
        page: The `gr.Blocks`, which learns at launch where it is served.
    """

    def __init__(
        self,
        models: Mapping[str, Grounder],
        *,
        captioner: str | None,
        videos: Path | None,
        device: str | None,
        limits: Limits,
        project: Path | None = None,
        shelf: Shelf | None = None,
    ) -> None:
        self.models = dict(models)
        self.captioner = captioner
        self.videos = videos
        self.device = device
        self.shelf = shelf
        self.limits = limits
        self.tuned = Tuned(self.models.values())
        self.turns = Turns(running=limits.running, waiting=limits.waiting)
        self.index_turns = Turns(running=1, waiting=limits.waiting)  # a library has one writer
        self.folder = Path(tempfile.mkdtemp(prefix="zsvg-demo-"))
        turns = (self.turns, self.index_turns)
        weakref.finalize(self, _end, turns, self.folder)  # with the program at the latest
        self.drawing = threading.Lock()  # of samples: two visitors draw none twice
        self.lasting = project or self.folder  # what is worth to be there after a restart
        self.visitors = Visitors(project, self.arrive, self.leave)
        self.page: Any = None

    @property
    def first(self) -> Grounder:
        """The grounder whose backbone and sampling the other tabs use."""
        return next(iter(self.models.values()))

    @property
    def features(self) -> Path:
        """The folder of frame features; they are found by content, and tell nothing else."""
        return default_cache()

    @property
    def alone(self) -> bool:
        """Whether this machine alone can open the page."""
        page = self.page
        return page is not None and loopback(page.server_name or "") and not page.share_url

    def work(self) -> dict[str, Any]:
        """Return what every run in a process of its own has to know."""
        first = self.first
        return {
            "backbone": first.backbone.name,
            "device": self.device,
            "fps": first.fps,
            "framing": first.framing,
            "cache": str(self.features),
        }

    def arrive(self, desk: Path | None) -> Visit:
        """Return a new visit, with the work that lies at its desk."""
        visit = Visit(desk=desk)
        visit.desk = desk or self.home(visit) / "desk"
        restore(visit)
        hide(visit, self.shelf.covers if self.shelf else lambda _: False)
        return visit

    def known(self, given: Any) -> Any:
        """Return the visit of the browser that asks, in the place of Gradio's own for one load."""
        request = LocalContext.request.get(None)
        if not isinstance(given, Visit) or request is None:
            return given
        name = named(request.headers.get("cookie", ""))
        return self.visitors.of(name, alone=self.alone) if name else given

    def desk(self, visit: Visit) -> Path:
        """Return the folder of a visitor's work."""
        return visit.desk or self.home(visit) / "desk"

    def home(self, visit: Visit) -> Path:
        """Return the visitor's folder, made on first use under a name that nobody guesses."""
        if visit.folder is None or not visit.folder.is_dir():
            visits = self.folder / "visits"
            visits.mkdir(exist_ok=True)
            visit.folder = Path(tempfile.mkdtemp(dir=visits))
        return visit.folder

    def forget(self, visit: Visit) -> None:
        """End a session; browsers come back, so what belongs to one stays."""
        if visit.desk is None:
            self.leave(visit)

    def leave(self, visit: Visit) -> None:
        """Stop what a visitor left running and delete the visitor's files, in a thread.

        The desk stays where it is not among those.
        """

        def clear() -> None:
            for job in (visit.labelling, visit.tuning, visit.indexing):
                if job is not None:
                    job.stop()
                    job.wait()
            if visit.folder is not None:
                shutil.rmtree(visit.folder, ignore_errors=True)

        threading.Thread(target=clear, name="zsvg-leave", daemon=True).start()

    def polite(self, function: Callable[..., Result]) -> Callable[..., Result]:
        """Wrap a handler: it gets the visit of whoever asks, and fails in words.

        Errors that a visitor can act on become one line without folders.

        Any other exception goes to the log; the visitor learns no more than that there was one.
        """

        @functools.wraps(function)
        def handler(*given: Any) -> Result:
            try:
                return function(*map(self.known, given))
            except (ZsvgError, ValueError) as error:
                if not ours(error):
                    raise
                raise refusal(self.without_folders(str(error))) from error

        return handler

    def without_folders(self, text: str) -> str:
        """Return the first line of a message without the server's folders."""
        line = (text.splitlines() or [""])[0]
        inner = r"[/\\](?:[^/\\:\s]+[/\\])*"
        roots: tuple[Path, ...] = ()
        if self.shelf:
            library = self.shelf.library.folder
            roots = (*self.shelf.roots, library, library.absolute(), library.resolve())
        for folder in (*roots, self.videos, self.folder, Path.cwd(), Path.home()):
            if folder is not None and len(folder.parts) > 1:
                line = re.sub(re.escape(str(folder)) + inner, "", line)
                line = folder.name.join(re.split(rf"{re.escape(str(folder))}(?!\w)", line))
        # What is left of other absolute paths is their last part.
        return re.sub(r"(?<![\w.])(?:[A-Za-z]:)?(?:[/\\][^\s/\\:'\"]+)*[/\\](?=[^\s/\\])", "", line)


def restore(visit: Visit) -> None:
    """Put what lies at the visitor's desk where the tabs look for it."""
    from .work import load, read_json

    if visit.desk is None or not visit.desk.is_dir():
        return
    for folder in sorted(visit.desk.iterdir()):
        bench = load(folder) if folder.is_dir() else None
        if bench is not None:
            visit.benches[folder.name] = bench
    state = read_json(visit.desk / STATE) or {}
    visit.source, visit.open = state.get("source", ""), state.get("ground", "")


def hide(visit: Visit, covers: Callable[[Path], bool]) -> None:
    """Set aside what was judged of videos that the page's library does not show: it is kept."""
    from .bench import Bench

    judged = visit.benches.pop("library", None)
    if judged is None:
        return
    videos = {vid: file for vid, file in judged.videos.items() if covers(file)}
    entries = []
    for entry in judged.entries:
        file = entry.file or judged.videos[entry.label.vid]
        if covers(file):
            entries.append(replace(entry, file=None))
            videos[entry.label.vid] = file
        else:
            visit.hidden.append(replace(entry, file=file))
    if videos:
        visit.benches["library"] = Bench(videos, entries, judged.vid)


def note_state(visit: Visit) -> None:
    """Write down what is open."""
    if visit.desk is not None:
        write_json(visit.desk / STATE, {"source": visit.source, "ground": visit.open})


def _end(turns: Sequence[Turns], folder: Path) -> None:
    for each in turns:
        each.close()  # a run would go on to write into the folder
    shutil.rmtree(folder, ignore_errors=True)


def short(name: str) -> str:
    """Return a model's name without the folders that it may lie in: the page may be public."""
    if name.startswith("local-dir:"):
        return f"local-dir:{Path(name.removeprefix('local-dir:')).name}"
    return Path(name).name if Path(name).is_dir() else name


def refusal(message: str) -> gr.Error:
    """Return an error whose message the visitor reads; nothing of it is logged."""
    return gr.Error(message, title="Not done", print_exception=False)
