"""How the work on many videos is spread over processes.

Processes take disjoint shares and meet in the folder of finished videos. What they tell each other
are small JSON files there, one per process, written anew by every run: no tensor and no pickle
travels, and nothing in a finished video's file depends on how many processes there are.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from zsvg.errors import ZsvgError
from zsvg.files import write_json

# Shares of equal numbers of videos can take hours more or less; torch's own limit is 30 minutes.
_PATIENCE = timedelta(days=30)


def _alone() -> None:
    """Wait for no one."""


@dataclass(frozen=True)
class Processes:
    """The processes of one run, as one of them sees it.

    Attributes:
        index: Which one this is, from 0; 0 is the main process.
        count: How many there are.
        wait: Returns when all have called it.
    """

    index: int = 0
    count: int = 1
    wait: Callable[[], None] = _alone

    @property
    def main(self) -> bool:
        """Whether this one speaks and writes for all."""
        return self.index == 0

    def share(self, names: Iterable[str]) -> list[str]:
        """Return this process's part of the names: every `count`-th one in sorted order."""
        return sorted(names)[self.index :: self.count]

    def end(self) -> None:
        """Wait until all have said and written everything, and only have to exit.

        torchrun stops the others as soon as one exits with an error; each should keep its own.
        """
        if self.count > 1:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.wait()


def launched(device: str | None = None) -> Processes:
    """Join the processes that torchrun or `accelerate launch` started; without them, be alone.

    Call it before models are loaded: their default device is then this process's own.

    Args:
        device: As the user named it; "cpu" keeps to CPUs, as `ACCELERATE_USE_CPU=true` does.

    Raises:
        ZsvgError: Several processes were started, but they cannot be joined.
    """
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if "LOCAL_RANK" not in os.environ or started == 1:
        return Processes()
    import torch
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    cpu = (
        device == "cpu"
        or bool(parse_flag_from_env("ACCELERATE_USE_CPU"))
        or not torch.cuda.is_available()
    )
    # Gloo also where there are GPUs: only waiting is shared, and NCCL would wait with busy GPUs.
    state = PartialState(cpu=cpu, backend="gloo", timeout=_PATIENCE)
    if state.num_processes != started:
        raise ZsvgError(
            f"{started} processes were started, but Accelerate joined {state.num_processes}; "
            "set ACCELERATE_USE_CPU=true to run them on the CPU"
        )
    return Processes(state.process_index, state.num_processes, state.wait_for_everyone)


def everywhere(processes: Processes, so: bool) -> bool:
    """Return whether it is so in every process; all of them ask at the same place."""
    if processes.count == 1:
        return so
    import torch
    from accelerate import PartialState
    from accelerate.utils import reduce

    count = reduce(torch.tensor(float(so), device=PartialState().device), reduction="sum")
    return int(count) == processes.count


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
