"""A running mean of the weights: it answers, while the weights themselves go on learning.

The last step of a short training on noisy labels is one draw of many; a mean of the last steps is
steadier (Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

_EARLY = 10  # steps over which the mean lets go of where it began


class RunningMean:
    """Exponential mean of weights.

    Attributes:
        values: name -> mean, on the weights' device; empty where nothing is averaged.
    """

    def __init__(self, weights: Mapping[str, Tensor], decay: float) -> None:
        """Average from now on; `decay` in [0, 1) is what the mean keeps per step, 0 for none."""
        self.values: dict[str, Tensor] = {}
        self._weights, self._decay = weights, decay

    @torch.no_grad()
    def take_in(self, step: int) -> None:
        """Take in the weights after step 0, 1, ...; before many steps the mean is of fewer."""
        if not self._decay:
            return
        decay = min(self._decay, (step + 1) / (step + _EARLY))
        for name, weight in self._weights.items():
            if name in self.values:
                self.values[name].lerp_(weight, 1 - decay)
            else:
                self.values[name] = weight.detach().clone()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Let the mean stand in the weights' place for a while."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, mean in self.values.items():
            weight = self._weights[name]
            kept = weight.detach().clone()
            weight.copy_(mean)
            mean.copy_(kept)
