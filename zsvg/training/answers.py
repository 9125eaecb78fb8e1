"""What a network answers while it is trained: to held-out labels, and to its own for denoising."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from zsvg.moments import iou
from zsvg.training.examples import Example, collate
from zsvg.training.network import GroundingNetwork
from zsvg.training.options import TrainingOptions


def _answers(
    network: GroundingNetwork,
    examples: Sequence[Example],
    texts: Mapping[str, Tensor],
    options: TrainingOptions,
    accelerator: Accelerator,
    visual: bool,
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Answer this process's share of the examples in eval mode, as they are.

    Yields:
        Index of the example, its moments (k, 2) as fractions of the duration, and scores (k,).
    """
    network.eval()
    device = network.backbone.device
    mine = range(accelerator.process_index, len(examples), accelerator.num_processes)
    shown = [examples[i] for i in mine]
    if visual:
        shown = encoded(network, shown)
    for start in range(0, len(mine), options.batch_size):
        part = slice(start, start + options.batch_size)
        with torch.no_grad():
            output = network(collate([(example, 0) for example in shown[part]], texts, device))
        yield from zip(mine[part], output.moments.cpu(), output.scores.cpu(), strict=True)


def encoded(network: GroundingNetwork, examples: Sequence[Example]) -> list[Example]:
    """Return the examples with frame features as the visual prompts make them now."""
    device = network.backbone.device
    made: dict[int, NDArray[np.float32]] = {}  # examples of one video share its features
    for example in examples:
        if id(example.features) not in made:
            with torch.no_grad():
                features = network.encode_frames(example.load_frames().to(device))
            made[id(example.features)] = features.cpu().numpy()
    return [replace(example, features=made[id(example.features)]) for example in examples]


def validate(
    network: GroundingNetwork,
    examples: Sequence[Example],
    texts: Mapping[str, Tensor],
    options: TrainingOptions,
    accelerator: Accelerator,
    visual: bool,
) -> float:
    """Return the mIoU of the first answers with the best-fitting true window."""
    total = 0.0
    for index, moments, _ in _answers(network, examples, texts, options, accelerator, visual):
        answer = moments[:1].double().numpy() * examples[index].duration
        total += float(iou(answer, examples[index].windows).max())
    device = network.backbone.device
    summed = accelerator.reduce(torch.tensor(total, device=device, dtype=torch.float32), "sum")
    return float(summed) / len(examples)


def all_answers(
    network: GroundingNetwork,
    examples: Sequence[Example],
    texts: Mapping[str, Tensor],
    options: TrainingOptions,
    accelerator: Accelerator,
    visual: bool,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the answers to all n examples, (n, k, 2) and (n, k), alike in every process."""
    rows = torch.zeros(len(examples), network.head.config.answers, 3)
    for index, moments, scores in _answers(network, examples, texts, options, accelerator, visual):
        rows[index, : len(moments)] = torch.cat((moments, scores[:, None]), -1).float()
    # Every row was filled in by one process only: adding zeros changes no bit.
    summed = accelerator.reduce(rows.to(network.backbone.device), "sum").cpu().numpy()
    return summed[..., :2], summed[..., 2]
