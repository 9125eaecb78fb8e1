"""Checks of what is inside a tensor that torch.compile does not split its graph at."""

from __future__ import annotations

import torch
from torch import Tensor

# It waits for the device, which CUDA graphs must be told; PyTorch before 2.9 has no word for that.
_TAGS = [torch.Tag.cudagraph_unsafe] if hasattr(torch.Tag, "cudagraph_unsafe") else []
torch.library.define(
    "zsvg::checked", "(Tensor values, Tensor fine, str message) -> Tensor", tags=_TAGS
)


def checked(values: Tensor, fine: Tensor, message: str) -> Tensor:
    """Return a copy of `values`, which takes the check along wherever they are used.

    A decision on values would end a compiled graph; an operator that may fail is part of it.

    Args:
        values: Of any shape.
        fine: bool, of any shape.
        message: What is wrong where one of `fine` is False.

    Raises:
        ValueError: One of `fine` is False.
    """
    found: Tensor = torch.ops.zsvg.checked(values, fine, message)
    return found


@torch.library.impl("zsvg::checked", "default")
def _check(values: Tensor, fine: Tensor, message: str) -> Tensor:
    if not fine.all():
        raise ValueError(message)
    return values.clone()


torch.library.register_fake("zsvg::checked", lambda values, fine, message: torch.empty_like(values))
