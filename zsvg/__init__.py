"""zsvg: from a folder of unlabelled videos to a model that finds moments by sentence.

Importing the package is cheap; torch and the backbones are imported by the functions that need
them. `import zsvg.tuners` registers the prompt tuner with PEFT.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

logging.getLogger("zsvg").addHandler(logging.NullHandler())  # quiet unless a program listens

__version__ = "0.1.0"
__all__ = ["EncodedVideo", "Grounder", "Grounding", "ZsvgError", "load"]

if TYPE_CHECKING:
    from zsvg.errors import ZsvgError
    from zsvg.grounding.grounder import EncodedVideo, Grounder, Grounding, load


def __getattr__(name: str) -> Any:
    if name == "ZsvgError":
        from zsvg.errors import ZsvgError

        return ZsvgError
    if name in __all__:
        from zsvg.grounding import grounder

        return getattr(grounder, name)
    raise AttributeError(f"module 'zsvg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
