"""Work that several processes share: who they are, and how they wait for each other."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta

from zsvg.errors import ZsvgError

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
