"""Long work off the page: one process per run, a few at a time, stopped when nobody watches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import zsvg
from zsvg import ZsvgError
from zsvg.files import write_json

State = Literal["waiting", "running", "stopping", "done", "stopped", "failed"]

UNWATCHED = 180.0
"""Seconds without a look at a run after which it is stopped. Browsers slow the clocks of hidden
pages down to one look a minute."""


class Turns:
    """Lets a few runs work at a time, and a few more wait.

    Attributes:
        free: Held by a run while it works.
        closed: Whether the page ends, so that no run may begin or go on.
    """

    def __init__(self, *, running: int, waiting: int) -> None:
        self.free = threading.Semaphore(running)
        self._change = threading.Condition()
        self._places = running + waiting
        self._taken = 0
        self.closed = False

    def enter(self) -> None:
        """Take a place, to work or to wait.

        Raises:
            ZsvgError: All are taken, or the page ends.
        """
        with self._change:
            if self.closed or self._taken == self._places:
                raise ZsvgError("the machine has enough to do for others; try again in a while")
            self._taken += 1

    def leave(self) -> None:
        """Give the place back."""
        with self._change:
            self._taken -= 1
            self._change.notify_all()

    def close(self, seconds: float = 10.0) -> None:
        """Let nobody begin any more, stop those who have, and wait so long for their end."""
        with self._change:
            self.closed = True
            self._change.wait_for(lambda: self._taken == 0, seconds)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is.

    Attributes:
        state: What it is at.
        doing: The same in words.
        done: Of `total`.
        total: How much there is.
        losses: Step -> training loss.
        result: What the worker said at the end.
        error: Why it failed, one line.
    """

    state: State = "waiting"
    doing: str = ""
    done: int = 0
    total: int = 0
    losses: Mapping[int, float] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""

    @property
    def over(self) -> bool:
        """Whether it has ended, one way or another."""
        return self.state in ("done", "stopped", "failed")


class Job:
    """One run. It begins at once, or when its turn comes.

    Args:
        work: What `worker.py` is to do.
        turns: Whose turn it is.

    Raises:
        ZsvgError: Too many others wait already.
    """

    def __init__(self, work: Mapping[str, Any], turns: Turns) -> None:
        turns.enter()
        self.work = dict(work)
        self._turns = turns
        self._lock = threading.Lock()
        self._progress = Progress()
        self._seen = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="zsvg-job", daemon=True)
        self._thread.start()

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._progress.over

    def look(self) -> Progress:
        """Return its progress; a run that is not looked at for `UNWATCHED` seconds stops."""
        self._seen = time.monotonic()
        return self._progress

    def stop(self) -> None:
        """Ask it to stop; what is finished stays for the next run of the same work."""
        with self._lock:
            if not self._progress.over:
                self._progress = replace(self._progress, state="stopping")
        self._stop.set()

    def wait(self, seconds: float | None = None) -> None:
        """Wait for its end."""
        self._thread.join(seconds)

    def _unwanted(self) -> bool:
        stopped = self._stop.is_set() or self._turns.closed
        return stopped or time.monotonic() - self._seen > UNWATCHED

    def _run(self) -> None:
        try:
            while not self._turns.free.acquire(timeout=0.2):
                if self._unwanted():
                    self._update(state="stopped")
                    return
            try:
                self._work()
            finally:
                self._turns.free.release()
        except Exception:
            self._update(state="failed", error="the run could not be started")
            raise  # to the log of whoever runs the page
        finally:
            self._turns.leave()

    def _work(self) -> None:
        self._update(state="running", doing="starting")
        folder = Path(self.work["folder"])
        write_json(folder / "work.json", self.work)
        package = Path(zsvg.__file__).parent.parent
        paths = [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
        with subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("worker.py")), str(folder / "work.json")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,  # Ctrl-C is for the page, which then stops its runs
        ) as process:
            reader = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
            reader.start()
            while process.poll() is None:
                if self._unwanted():
                    process.kill()  # files are renamed into place, so no moment is a bad one
                time.sleep(0.05)
            reader.join()
        if self._unwanted() and process.returncode != 0:
            self._update(state="stopped")
        elif process.returncode == 0:
            self._update(state="done")
        else:
            error = self._progress.error or "the run ended unexpectedly"
            self._update(state="failed", error=error)

    def _read(self, pipe: Any) -> None:
        for line in pipe:
            event = json.loads(line)
            if "error" in event:
                self._update(error=event["error"])
            elif "doing" in event:
                if "loss" in event:
                    loss = {event["done"]: event.pop("loss")}
                    self._update(losses={**self._progress.losses, **loss})
                self._update(**event)
            else:
                self._update(result=event)

    def _update(self, **changes: Any) -> None:
        with self._lock:
            if self._progress.state == "stopping" and changes.get("state") == "running":
                del changes["state"]
            self._progress = replace(self._progress, **changes)


def over(job: Job | None) -> bool:
    """Return whether a visitor has no run under way."""
    return job is None or job.over


def check_over(job: Job | None) -> None:
    """Refuse a second run.

    Raises:
        ZsvgError: The first one is under way.
    """
    if not over(job):
        raise ZsvgError("a run is under way; stop it first")


def stop(job: Job | None) -> None:
    """Stop a run if there is one."""
    if job is not None:
        job.stop()
