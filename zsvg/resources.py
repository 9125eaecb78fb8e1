"""The files that ship beside the code: prompts, which users write too, and the demo."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeVar

from zsvg.errors import RecipeError, told
from zsvg.places.urls import local

_Checked = TypeVar("_Checked")
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


def read_yaml(
    name_or_path: str, kind: Literal["recipe", "template", "labeller"]
) -> tuple[Path, dict[str, Any]]:
    """Return a YAML file of a user, or a shipped one of `prompts/` by its name, and what it says.

    Args:
        name_or_path: A path ends with .yaml or .yml.
        kind: The folder of `prompts/`, in the singular.

    Raises:
        RecipeError: There is no such file, or it is no mapping.
        ZsvgError: It is a URL.
    """
    import yaml

    path = local(name_or_path, f"a {kind}")
    if path.suffix not in (".yaml", ".yml"):
        folder = shipped("prompts") / f"{kind}s"
        known = sorted(file.stem for file in folder.glob("*.yaml"))
        if name_or_path not in known:
            raise RecipeError(
                f"unknown {kind} {name_or_path!r}; choose one of {', '.join(known)}, or a .yaml"
            )
        path = folder / f"{name_or_path}.yaml"
    if not path.is_file():
        raise RecipeError(f"{path}: no such {kind} file")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(values, dict | None):
        raise RecipeError(f"{path}: a {kind} file is a mapping of keys to values")
    return path, values or {}


def checked_values(
    path: Path, check: Callable[[dict[str, Any]], _Checked], values: dict[str, Any]
) -> _Checked:
    """Return what a file says as `check` reads it: `model_validate` of a class of pydantic.

    Raises:
        RecipeError: A key is unknown or missing, or a value is out of range.
    """
    try:
        return check(values)
    except ValueError as error:  # pydantic's is one
        raise RecipeError(f"{path}: {told(error)}") from error
