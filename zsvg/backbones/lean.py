"""What open_clip and torch do while they load a model, and nobody needs: left out.

Importing open_clip imports torchvision's detection operators, which import torch's compiler, and
timm with all its models: more than half of the time, for functions that few backbones call. They
are imported when they are called. And weights are not drawn at random before a file replaces them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

# Modules of which open_clip and torchvision take functions and classes, only to call them.
_CALLED_LATER = ("torch._dynamo", "torch._dynamo.utils", "timm", "timm.layers")


class _Deferred:
    """Stands for a function or class of a module that is imported with the first call."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return getattr(import_module(self._module), self._name)(*arguments, **options)


class _StandIn(ModuleType):
    __path__: Sequence[str] = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Deferred(self.__name__, name)


@contextmanager
def _later(*names: str) -> Iterator[None]:
    """Let imports of these modules wait for the first call; those that are there stay."""
    missing = {name for name in names if find_spec(name.partition(".")[0]) is None}
    made = {name: _StandIn(name) for name in {*names} - {*sys.modules} - missing}
    for name, module in made.items():  # others ask by it whether a package is there
        module.__spec__ = find_spec(name) if "." not in name else ModuleSpec(name, None)
    sys.modules.update(made)
    try:
        yield
    finally:
        for name, module in made.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def import_open_clip() -> Any:
    """Import open_clip, and what it needs of other packages, but no more."""
    if "open_clip" not in sys.modules:
        import torch  # noqa: F401  (itself as it is)

        try:
            with _later(*_CALLED_LATER):
                return import_module("open_clip")
        except (TypeError, AttributeError, ImportError, ValueError):
            # Another version, which needs more of them than to call it.
            for name in [name for name in sys.modules if name.partition(".")[0] == "open_clip"]:
                del sys.modules[name]
    return import_module("open_clip")


@contextmanager
def unfilled() -> Iterator[None]:
    """Leave new weights as the memory was, in this thread; a file has to replace them all."""
    from torch import Tensor
    from torch.nn import init
    from torch.overrides import TorchFunctionMode

    drawn = {Tensor.normal_, Tensor.uniform_, init.normal_, init.uniform_, init.trunc_normal_}
    drawn |= {init.xavier_normal_, init.xavier_uniform_}
    drawn |= {init.kaiming_normal_, init.kaiming_uniform_}

    class Unfilled(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = kwargs or {}
            if func in drawn:
                return args[0] if args else kwargs["tensor"]
            return func(*args, **kwargs)

    with Unfilled():
        yield
