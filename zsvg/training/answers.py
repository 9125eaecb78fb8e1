"""What a network answers while it is trained: to held-out labels, and to its own for denoising."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from zsvg.moments import iou
from zsvg.training.examples import Example, collate
from zsvg.training.network import GroundingNetwork


@dataclass(frozen=True)
class Asked:
    """A network that is asked while it is trained, in eval mode, as it is; processes share that.

    Attributes:
        network: It.
        texts: query -> token ids (L,) of all that it can be asked.
        batch_size: Examples per pass.
        accelerator: What joins the processes.
    """

    network: GroundingNetwork
    texts: Mapping[str, Tensor]
    batch_size: int
    accelerator: Accelerator

    def score(self, examples: Sequence[Example], visual: bool) -> float:
        """Return the mIoU of the first answers with the best-fitting true window.

        Args:
            examples: At least one.
            visual: Encode frames anew, with the visual prompts as they are now.
        """
        total = 0.0
        for index, moments, _ in self._share(examples, visual):
            answer = moments[:1].double().numpy() * examples[index].duration
            total += float(iou(answer, examples[index].windows).max())
        device = self.network.backbone.device
        own = torch.tensor(total, device=device, dtype=torch.float32)
        return float(self.accelerator.reduce(own, "sum")) / len(examples)

    def answers(
        self, examples: Sequence[Example], visual: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the answers to all n examples, (n, k, 2) and (n, k), alike in every process."""
        rows = torch.zeros(len(examples), self.network.head.config.answers, 3)
        for index, moments, scores in self._share(examples, visual):
            rows[index, : len(moments)] = torch.cat((moments, scores[:, None]), -1).float()
        # Every row was filled in by one process only: adding zeros changes no bit.
        rows = rows.to(self.network.backbone.device)
        summed = self.accelerator.reduce(rows, "sum").cpu().numpy()
        return summed[..., :2], summed[..., 2]

    def _share(
        self, examples: Sequence[Example], visual: bool
    ) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Answer this process's share of the examples.

        Yields:
            Index of the example, its moments (k, 2) as fractions of the duration, and scores (k,).
        """
        network, device = self.network, self.network.backbone.device
        network.eval()
        mine = range(self.accelerator.process_index, len(examples), self.accelerator.num_processes)
        shown = [examples[i] for i in mine]
        if visual:
            shown = encoded(network, shown)
        for start in range(0, len(mine), self.batch_size):
            part = slice(start, start + self.batch_size)
            batch = collate([(example, 0) for example in shown[part]], self.texts, device)
            with torch.no_grad():
                output = network(batch)
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
