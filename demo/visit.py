"""The state of a page and of one visitor, and the limits of both."""

from __future__ import annotations

import functools
import re
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import gradio as gr

from zsvg import EncodedVideo, Grounder, ZsvgError
from zsvg.errors import ours

from .jobs import Job, Turns

if TYPE_CHECKING:
    from .bench import Bench
    from .previews import Clip

Result = TypeVar("Result")


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
        running: Labelling and tuning runs at a time, of all visitors.
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
        folder: The visitor's own files; the server hands out none of them.
        clip: The video of the Ground tab.
        encoded: Its features, by encoder and sampling.
        answers: The predictions of the last queries.
        bench: The labels of the Label tab.
        clips: The videos of those that were shown, by vid.
        labelling: The run that writes them.
        taken: The same, once its labels are on the bench.
        tuning: The run that tunes on them.
        tuned: Its model.
    """

    folder: Path | None = None
    clip: Clip | None = None
    encoded: dict[str, EncodedVideo] = field(default_factory=dict)
    answers: list[Any] = field(default_factory=list)
    bench: Bench | None = None
    clips: dict[str, Clip] = field(default_factory=dict)
    labelling: Job | None = None
    taken: Job | None = None
    tuning: Job | None = None
    tuned: Grounder | None = None


class Site:
    """One page, and what all its visitors share.

    Attributes:
        models: The models, by the name that the page shows; they may share a backbone.
        captioner: The captioner of the Label tab; None: none.
        videos: A folder that the Label tab offers; None: none.
        limits: See `Limits`.
        turns: Of labelling and tuning runs.
        folder: Everything that the page writes; it goes with the page.
    """

    def __init__(
        self,
        models: Mapping[str, Grounder],
        *,
        captioner: str | None,
        videos: Path | None,
        device: str | None,
        limits: Limits,
    ) -> None:
        self.models = dict(models)
        self.captioner = captioner
        self.videos = videos
        self.device = device
        self.limits = limits
        self.turns = Turns(running=limits.running, waiting=limits.waiting)
        self.folder = Path(tempfile.mkdtemp(prefix="zsvg-demo-"))
        weakref.finalize(self, _end, self.turns, self.folder)  # with the program at the latest
        self.drawing = threading.Lock()  # of samples: two visitors draw none twice

    @property
    def first(self) -> Grounder:
        """The grounder whose backbone and sampling the other tabs use."""
        return next(iter(self.models.values()))

    @property
    def features(self) -> Path:
        """The folder of frame features; they are found by content, and tell nothing else."""
        return self.folder / "features"

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

    def home(self, visit: Visit) -> Path:
        """Return the visitor's folder, made on first use under a name that nobody guesses."""
        if visit.folder is None or not visit.folder.is_dir():
            visits = self.folder / "visits"
            visits.mkdir(exist_ok=True)
            visit.folder = Path(tempfile.mkdtemp(dir=visits))
        return visit.folder

    def leave(self, visit: Visit) -> None:
        """Stop what a visitor left running and delete the visitor's files, in a thread."""

        def clear() -> None:
            for job in (visit.labelling, visit.tuning):
                if job is not None:
                    job.stop()
                    job.wait()
            if visit.folder is not None:
                shutil.rmtree(visit.folder, ignore_errors=True)

        threading.Thread(target=clear, name="zsvg-leave", daemon=True).start()

    def polite(self, function: Callable[..., Result]) -> Callable[..., Result]:
        """Wrap a handler: errors that a visitor can act on become one line without folders.

        Any other exception goes to the log; the visitor learns no more than that there was one.
        """

        @functools.wraps(function)
        def handler(*given: Any) -> Result:
            try:
                return function(*given)
            except (ZsvgError, ValueError) as error:
                if not ours(error):
                    raise
                raise refusal(self.without_folders(str(error))) from error

        return handler

    def without_folders(self, text: str) -> str:
        """Return the first line of a message without the server's folders."""
        line = (text.splitlines() or [""])[0]
        inner = r"[/\\](?:[^/\\:\s]+[/\\])*"
        for folder in (self.videos, self.folder, Path.cwd(), Path.home()):
            if folder is not None and len(folder.parts) > 1:
                line = re.sub(re.escape(str(folder)) + inner, "", line)
        # What is left of other absolute paths is their last part.
        return re.sub(r"(?<![\w.])(?:[A-Za-z]:)?(?:[/\\][^\s/\\:'\"]+)*[/\\](?=[^\s/\\])", "", line)


def _end(turns: Turns, folder: Path) -> None:
    turns.close()  # a run would go on to write into the folder
    shutil.rmtree(folder, ignore_errors=True)


def short(name: str) -> str:
    """Return a model's name without the folders that it may lie in: the page may be public."""
    if name.startswith("local-dir:"):
        return f"local-dir:{Path(name.removeprefix('local-dir:')).name}"
    return Path(name).name if Path(name).is_dir() else name


def refusal(message: str) -> gr.Error:
    """Return an error whose message the visitor reads; nothing of it is logged."""
    return gr.Error(message, title="Not done", print_exception=False)
