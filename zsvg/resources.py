"""Where the files that ship beside the code are: prompts and the demo."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

_PACKAGE = Path(__file__).parent


def shipped(name: str) -> Path:
    """Return the folder `prompts` or `demo`: inside a wheel as `_NAME`, in a checkout beside it.

    Raises:
        FileNotFoundError: The installation lacks it.
    """
    for folder in (_PACKAGE / f"_{name}", _PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"the {name!r} folder is missing from this installation of zsvg")


def demo_module(name: str) -> ModuleType:
    """Import a module of the demo, a program beside the package, under the name it has in a wheel.

    Raises:
        FileNotFoundError: The installation lacks it.
    """
    if "zsvg._demo" not in sys.modules:
        folder = shipped("demo")
        spec = spec_from_file_location(
            "zsvg._demo", folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        if spec is None or spec.loader is None:
            raise FileNotFoundError(f"{folder}: the demo cannot be imported from there")
        package = sys.modules["zsvg._demo"] = module_from_spec(spec)
        spec.loader.exec_module(package)
    return import_module(f"zsvg._demo.{name}")
