"""Modules without the random numbers that their weights would overwrite at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

_RANDOM = (
    *("kaiming_normal_", "kaiming_uniform_", "normal_", "orthogonal_", "trunc_normal_"),
    *("uniform_", "xavier_normal_", "xavier_uniform_"),
)
# Attention has some of these functions under names of its own.
_PLACES: tuple[Any, ...] = (nn.init, nn.modules.activation)
_lock = threading.Lock()


@contextmanager
def unfilled() -> Iterator[None]:
    """Let modules that this thread makes in a block keep what lay in their memory.

    For modules whose whole state is loaded in the same block, strictly: what random numbers cost
    there is more than to read the weights. Constants are filled in as always, and other threads
    notice nothing. Modules that torch does not fill by `torch.nn.init` get their numbers anyhow.
    """
    thread = threading.get_ident()

    def skipping(fill: Callable[..., Any]) -> Callable[..., Any]:
        def skip(tensor: Any, *args: Any, **options: Any) -> Any:
            if threading.get_ident() == thread:
                return tensor
            return fill(tensor, *args, **options)

        return skip

    with _lock:  # of two at once, the one that ends last would put back the skips of the other
        found = [
            (p, name, getattr(p, name)) for p in _PLACES for name in _RANDOM if hasattr(p, name)
        ]
        try:
            for place, name, fill in found:
                setattr(place, name, skipping(fill))
            yield
        finally:
            for place, name, fill in found:
                setattr(place, name, fill)
