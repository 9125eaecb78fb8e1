"""A module as if nothing had ever been attached to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def adapters_asleep(model: nn.Module) -> Iterator[None]:
    """Switch off all adapters of PEFT inside a module for a block, whoever put them there.

    Hold what keeps other threads off the module. PEFT's own `disable_adapter` needs the `PeftModel`
    around it, and switches gradients on when it ends.
    """
    awake: list[Any] = [
        m for m in model.modules() if getattr(m, "_disable_adapters", None) is False
    ]
    try:
        for layer in awake:
            layer._disable_adapters = True
        yield
    finally:
        for layer in awake:
            layer._disable_adapters = False
