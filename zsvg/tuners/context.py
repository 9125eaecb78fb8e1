"""What prompts may depend on besides the text, set for one thread: an image, a domain.

Context variables, not attributes: threads that share the model do not see each other's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

Domains = str | Sequence[str | None] | None

_condition: ContextVar[Tensor | None] = ContextVar("zsvg_prompt_condition", default=None)
_domains: ContextVar[Domains] = ContextVar("zsvg_prompt_domains", default=None)


@contextmanager
def condition_on(image_features: Tensor) -> Iterator[None]:
    """Set what conditional (CoCoOp) context tokens depend on, for this thread and this block.

    Args:
        image_features: (D,) for all texts, or (B, D) for B texts; L2-normalised features of the
            joint space. One text pass per image: prefer a video's mean over its single frames.
    """
    token = _condition.set(image_features)
    try:
        yield
    finally:
        _condition.reset(token)


@contextmanager
def in_domain(names: Domains) -> Iterator[None]:
    """Set whose domain-specific (DAPL) context tokens speak, for this thread and this block.

    Args:
        names: One domain for all texts, or one for each of B texts. A name that the adapter does
            not know, and None, stand for the mean of all its domains.
    """
    token = _domains.set(names)
    try:
        yield
    finally:
        _domains.reset(token)


def condition() -> Tensor | None:
    """Return what `condition_on` has set for this thread, or None."""
    return _condition.get()


def domains() -> Domains:
    """Return what `in_domain` has set for this thread, or None."""
    return _domains.get()
