"""Training steps of several processes that add up to the step of one.

Every process holds a share of each batch. They see each other's negatives, average their gradients
and must start alike: but for dropout and rounding, and `set_loss` where queries have several
moments, a step is that of one process with the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from accelerate import Accelerator, DistributedType, PartialState
from accelerate.state import AcceleratorState
from torch import Tensor

from zsvg.files import sha256_json, sha256_tensors
from zsvg.heads.base import HeadOutput


@contextmanager
def accelerated(device: torch.device) -> Iterator[Accelerator]:
    """Yield what joins the processes of a run on a device.

    Accelerate remembers for ever which device a process used first. A run that is alone forgets it
    at the end, so that the next one, and `pick_device`, may choose again; what somebody else has
    set up stays.
    """
    first = not PartialState._shared_state
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="no")
    try:
        yield accelerator
    finally:
        if first and accelerator.distributed_type is DistributedType.NO:
            AcceleratorState._reset_state(reset_partial_state=True)


def samples_away(output: HeadOutput, accelerator: Accelerator) -> Tensor | None:
    """Return what the head exchanges (N, M, D) of the batch's samples in other processes.

    None where there are none. Gradients flow back to the process that a sample is in.
    """
    count, index, own = accelerator.num_processes, accelerator.process_index, output.exchanged
    if count == 1 or own is None:
        return None
    every = _of_all(own.float(), accelerator)
    others = [process for process in range(count) if process != index]
    return every[others].transpose(0, 1).flatten(1, 2)


def _of_all(value: Tensor, accelerator: Accelerator) -> Tensor:
    """Stack the values of all processes; a gradient flows back to the process of its row.

    A sum, in which each process fills one row, as not every backend gathers on every device.
    """
    from torch.distributed.nn.functional import all_reduce

    rows = [torch.zeros_like(value)] * accelerator.num_processes
    rows[accelerator.process_index] = value
    stacked: Tensor = all_reduce(torch.stack(rows))
    return stacked


def average_gradients(weights: Sequence[torch.nn.Parameter], accelerator: Accelerator) -> None:
    """Average gradients over processes; a weight that none of them used still has none."""
    if accelerator.num_processes == 1:
        return
    used = torch.tensor([w.grad is not None for w in weights], device=accelerator.device)
    gradients = [(torch.zeros_like(w) if w.grad is None else w.grad).flatten() for w in weights]
    # One message of the use of each weight and all gradients: their number costs more than size.
    summed = accelerator.reduce(torch.cat([used.float(), *gradients]), reduction="sum")
    parts = summed.split([len(weights), *(w.numel() for w in weights)])
    for weight, count, gradient in zip(weights, parts[0].tolist(), parts[1:], strict=True):
        mean = (gradient / accelerator.num_processes).to(weight.dtype).view_as(weight)
        weight.grad = mean if count else None


def start_alike(
    identity: Mapping[str, str], weights: Mapping[str, Tensor], accelerator: Accelerator
) -> bool:
    """Return whether all processes start from one state; gradients alone would not join them."""
    if accelerator.num_processes == 1:
        return True
    digest = int(sha256_json([dict(identity), sha256_tensors(weights)])[:15], 16)
    every = _of_all(torch.tensor(digest, device=accelerator.device), accelerator)
    return len(every.unique()) == 1
