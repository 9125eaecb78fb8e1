"""What runs in a worker of a cluster, and what it tells of an item."""

from __future__ import annotations

import logging
import os
import pickle
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from logging.handlers import QueueHandler
from queue import Empty, SimpleQueue
from typing import Any

from zsvg.errors import ITEM_ERRORS, EndpointError, ZsvgError, told
from zsvg.features import strangers
from zsvg.places.patience import RemoteError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a worker tells of an item.

    Attributes:
        result: What became of it.
        error: Why nothing did, on one line.
        remote: Whether that is because something behind a URL could not be had.
        fatal: Why nothing will become of any other one either.
        lines: What was logged since the last time.
        strange: Videos that `micro` cannot know, as of `zsvg.features.strangers`.
    """

    result: Any = None
    error: str | None = None
    remote: bool = False
    fatal: str | None = None
    lines: tuple[logging.LogRecord, ...] = ()
    strange: Mapping[str, bool] = field(default_factory=dict)

    def future(self) -> Future[Any]:
        """Log what the worker did, and return what became of the item.

        Raises:
            ZsvgError: Models cannot be loaded there.
            RuntimeError: An error of ours, with its traceback.
        """
        for line in self.lines:
            logging.getLogger(line.name).handle(line)
        strangers.add(self.strange)
        if self.fatal is not None:
            raise (RuntimeError if "\n" in self.fatal else ZsvgError)(self.fatal)
        found: Future[Any] = Future()
        if self.error is None:
            found.set_result(self.result)
        else:
            found.set_exception((RemoteError if self.remote else ZsvgError)(self.error))
        return found


class Worker:
    """Makes what takes items, once, and hands them to it, also two at a time."""

    def __init__(
        self,
        make: Callable[[str], Callable[[Any], Any]],
        device: str,
        folder: str,
        level: int,
    ) -> None:
        """Load models.

        Args:
            make: Takes the device, and returns what is called with items.
            device: Where models are loaded.
            folder: Where relative paths begin.
            level: From which on lines of the log are passed on. Those from INFO on are in Ray's log
                of this process too.
        """
        import ray

        self._node = ray.get_runtime_context().get_node_id()[:12]
        self._lines: SimpleQueue[logging.LogRecord] = SimpleQueue()
        logger = logging.getLogger("zsvg")
        logger.setLevel(min(level, logging.INFO))
        here = logging.StreamHandler()
        here.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s", "%H:%M:%S"))
        logger.addHandler(here)
        logger.propagate = False  # Ray has a handler at the root
        logger.addHandler(passing := QueueHandler(self._lines))
        passing.setLevel(level)
        strangers.watch()
        self._take: Callable[[Any], Any] | None = None
        self._fatal: str | None = None
        try:
            os.chdir(folder)
            self._take = make(device)
        except ITEM_ERRORS as error:
            self._fatal = f"worker on {os.uname().nodename}: {told(error)}"

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Take a pickled item; return its name and, pickled, what is told of it."""
        telling: dict[str, Any] = {"fatal": self._fatal}
        if self._take is not None:
            _log.info("%s: begun on node %s", row["name"], self._node)
            try:
                telling["result"] = self._take(pickle.loads(row["item"]))
            except EndpointError as error:
                telling["fatal"] = told(error)
            except ITEM_ERRORS as error:
                telling |= {"error": told(error), "remote": isinstance(error, RemoteError)}
            except Exception:  # ours: it ends the batch, and would only be tried again
                telling["fatal"] = traceback.format_exc()
        lines = []
        with suppress(Empty):  # the other thread takes some of them
            while True:
                lines.append(self._lines.get_nowait())
        answer = Told(**telling, lines=tuple(lines), strange=strangers.taken())
        return {"name": row["name"], "told": pickle.dumps(answer)}
