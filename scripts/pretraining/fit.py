"""The training loop of all micro backbones: AdamW, cosine decay, checkpoints, resume."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from pretraining.data import Batch, stream
from zsvg.files import atomic_path

SAVE_EVERY = 180  # seconds
REPORT_EVERY = 50  # steps


def fit(
    modules: nn.ModuleDict,
    make: Callable[[int], Batch],
    losses: Callable[[Batch, int], dict[str, torch.Tensor]],
    work: Path,
    *,
    steps: int,
    rate: float,
    workers: int = 1,
) -> None:
    """Train; what happens in a step depends on the weights and its number only.

    Args:
        modules: Everything that learns.
        make: Step number to batch, called in another process.
        losses: (batch, step) to named losses; their sum is minimised.
        work: Folder of the checkpoint, from which the same call continues.
        steps: Steps in all.
        rate: Peak learning rate.
        workers: Rendering processes.
    """
    work.mkdir(parents=True, exist_ok=True)
    named = [(n, p) for n, p in modules.named_parameters() if p.requires_grad]
    parameters = [p for _, p in named]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.02, betas=(0.9, 0.98),
                                  fused=True)  # fmt: skip
    first, spent = _resume(work, modules, optimizer)
    saved = started = time.monotonic()
    sums: dict[str, float] = {}
    modules.train()
    for step, batch in enumerate(stream(make, first, steps, workers), first):
        warm = min(1.0, (step + 1) / 150)
        decay = 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = rate * warm * (0.02 + 0.98 * decay)
        parts = losses(batch, step)
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(parts.values())).sum().backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + value.item() / REPORT_EVERY
        now = time.monotonic()
        if (step + 1) % REPORT_EVERY == 0:
            line = {"step": step + 1, "minutes": round((spent + now - started) / 60, 1)}
            print(json.dumps(line | {k: round(v, 3) for k, v in sums.items()}), flush=True)
            sums = {}
        if now - saved > SAVE_EVERY or step + 1 == steps:
            saved = now
            _save(work, modules, optimizer, step + 1, spent + now - started)


def _save(
    work: Path, modules: nn.ModuleDict, optimizer: torch.optim.Optimizer, step: int, spent: float
) -> None:
    tensors = {f"weight.{k}": v for k, v in modules.state_dict().items()}
    for name, parameter in modules.named_parameters():
        state = optimizer.state.get(parameter)
        if state:
            tensors[f"first.{name}"] = state["exp_avg"]
            tensors[f"second.{name}"] = state["exp_avg_sq"]
    unique = {k: v.contiguous().clone() for k, v in tensors.items()}  # tied weights share storage
    with atomic_path(work / "state.safetensors") as temporary:
        save_file(unique, temporary, {"progress": json.dumps({"step": step, "seconds": spent})})


def _resume(
    work: Path, modules: nn.ModuleDict, optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    """Load the last checkpoint, if any; return the step to go on from and the seconds spent."""
    path = work / "state.safetensors"
    if not path.exists():
        return 0, 0.0
    tensors = load_file(path)
    modules.load_state_dict(
        {k.removeprefix("weight."): v for k, v in tensors.items() if k.startswith("weight.")}
    )
    with safe_open(path, "pt") as handle:
        progress = json.loads(handle.metadata()["progress"])
    for name, parameter in modules.named_parameters():
        if f"first.{name}" in tensors:
            optimizer.state[parameter] = {
                "step": torch.tensor(float(progress["step"])),
                "exp_avg": tensors[f"first.{name}"],
                "exp_avg_sq": tensors[f"second.{name}"],
            }
    return int(progress["step"]), float(progress["seconds"])
