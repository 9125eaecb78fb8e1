"""zsvg: from a folder of unlabelled videos to a model that finds moments by sentence.

Importing the package is cheap; torch and the backbones are imported by the functions that need
them. `import zsvg.tuners` registers the prompt tuner with PEFT.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

logging.getLogger("zsvg").addHandler(logging.NullHandler())  # quiet unless a program listens

__version__ = "0.1.0"
_HOMES = {
    "EncodedVideo": "zsvg.grounding.answers",
    "FeatureFiles": "zsvg.features.from_files",
    "Grounder": "zsvg.grounding.grounder",
    "Grounding": "zsvg.grounding.answers",
    "Library": "zsvg.library.library",
    "Moment": "zsvg.grounding.answers",
    "ZsvgError": "zsvg.errors",
    "evaluate": "zsvg.evaluation.metrics",
    "load": "zsvg.grounding.load",
    "load_recipe": "zsvg.training.recipes",
    "predict": "zsvg.grounding.prediction",
    "pseudo_label": "zsvg.label.run",
    "read_annotations": "zsvg.records",
    "tune": "zsvg.training.tune",
}
__all__ = [
    "EncodedVideo",
    "FeatureFiles",
    "Grounder",
    "Grounding",
    "Library",
    "Moment",
    "ZsvgError",
    "evaluate",
    "load",
    "load_recipe",
    "predict",
    "pseudo_label",
    "read_annotations",
    "tune",
]

if TYPE_CHECKING:
    from zsvg.errors import ZsvgError
    from zsvg.evaluation.metrics import evaluate
    from zsvg.features.from_files import FeatureFiles
    from zsvg.grounding.answers import EncodedVideo, Grounding, Moment
    from zsvg.grounding.grounder import Grounder
    from zsvg.grounding.load import load
    from zsvg.grounding.prediction import predict
    from zsvg.label.run import pseudo_label
    from zsvg.library.library import Library
    from zsvg.records import read_annotations
    from zsvg.training.recipes import load_recipe
    from zsvg.training.tune import tune


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'zsvg' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
