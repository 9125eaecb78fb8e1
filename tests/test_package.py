"""The package as users get it: cheap to import, complete as a wheel, usable as a checkout."""

from __future__ import annotations

import ast
import json
import sys
import zipfile
from importlib import metadata
from itertools import chain
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import typer
from conftest import CHECKOUT, environment, run_python
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.testing import CliRunner

import zsvg
from zsvg.cli.app import app
from zsvg.resources import shipped

HEAVY = ("torch", "open_clip", "transformers", "peft", "accelerate", "sklearn", "av", "gradio")
SHIPPED = (".py", ".typed", ".css", ".js", ".html", ".yaml", ".json", ".txt", ".safetensors")
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
LEAVES = [
    (name, *sub) for name, command in COMMANDS.items()
    for sub in ([(s,) for s in command.commands] if hasattr(command, "commands") else [()])
]  # fmt: skip


def elsewhere(*arguments: str, path: Path, cwd: Path) -> CompletedProcess[str]:
    """Run this interpreter elsewhere with one folder in front of its import path."""
    done = run_python(*arguments, cwd=cwd, env=environment(PYTHONPATH=str(path)))
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize(
    "statement", ["import zsvg; zsvg.__version__; dir(zsvg)", "import zsvg.cli.app"]
)
def test_import_is_lazy(statement: str, tmp_path: Path):
    code = f"import sys, json; {statement}; print(json.dumps(sorted(sys.modules)))"
    loaded = set(json.loads(elsewhere("-c", code, path=CHECKOUT, cwd=tmp_path).stdout))
    assert not loaded & set(HEAVY)


def test_what_is_imported_is_declared():
    tomllib = pytest.importorskip("tomllib")  # of Python 3.11 and newer
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    names = ("captions", "cluster", "editors", "endpoint", "hdf5", "library")
    optional = (extras[name] for name in names)
    asked = [*project["dependencies"], *chain.from_iterable(optional)]
    declared = {canonicalize_name(Requirement(line).name) for line in asked}
    distributions, undeclared = metadata.packages_distributions(), {}
    for path in chain.from_iterable((CHECKOUT / room).rglob("*.py") for room in ("zsvg", "demo")):
        for package in imported(path) - {"zsvg", *sys.stdlib_module_names}:
            owners = {canonicalize_name(name) for name in distributions.get(package, [package])}
            if not owners & declared:
                undeclared[path.relative_to(CHECKOUT).as_posix()] = package
    assert undeclared == {}


def imported(path: Path) -> set[str]:
    """Return the packages that a module imports anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


def test_public_names_resolve():
    for name in zsvg.__all__:
        assert getattr(zsvg, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        zsvg.nonsense  # noqa: B018


def test_help_loads_little(tmp_path: Path):
    """Its time is that of its imports: 341 modules here, and 0.2 s; torch has 1400 of its own."""
    line = ("-X", "importtime", "-m", "zsvg", "--help")
    told = elsewhere(*line, path=CHECKOUT, cwd=tmp_path).stderr.splitlines()
    names = [row.rpartition("|")[2].strip() for row in told if row.startswith("import time:")]
    assert not {name.partition(".")[0] for name in names} & {*HEAVY, "numpy", "pydantic", "PIL"}
    assert "zsvg.cli.app" in names
    assert len(names) < 700


def test_help_lists_every_command():
    shown = CliRunner().invoke(app, ["--help"])
    assert shown.exit_code == 0
    assert [name for name in COMMANDS if name not in shown.output] == []
    assert {"pseudo-label", "tune", "ground", "evaluate", "quickstart", "demo"} <= set(COMMANDS)


@pytest.mark.parametrize("name", [(), *LEAVES, ("prompts",), ("cache",)], ids=" ".join)
def test_every_command_shows_one_example(name: tuple[str, ...]):
    shown = CliRunner().invoke(app, [*name, "--help"])
    assert shown.exit_code == 0
    text = " ".join(shown.output.split())
    assert text.count("Example: ") == 1
    assert f"Example: {' '.join(('zsvg', *name))} " in text
    assert "--verbose" in text or name in {("prompts",), ("cache",)}


@pytest.mark.parametrize("name", LEAVES, ids=" ".join)
def test_no_help_text_is_swallowed(name: tuple[str, ...]):
    command = COMMANDS[name[0]]
    for part in name[1:]:
        command = command.commands[part]
    # rich reads brackets as markup: "[default: 1]" would not be shown.
    assert [p.name for p in command.params if "[" in (getattr(p, "help", None) or "")] == []


def test_help_tells_the_exit_codes():
    text = " ".join(CliRunner().invoke(app, ["--help"]).output.split())
    assert all(f"{code} " in text.partition("Exit status:")[2] for code in (0, 1, 2, 130))


def test_a_checkout_finds_its_own_files():
    if Path(zsvg.__file__).parent != CHECKOUT / "zsvg":
        pytest.skip("the tests run against an installed wheel")
    assert shipped("prompts") == CHECKOUT / "prompts"
    assert shipped("demo") == CHECKOUT / "demo"
    with pytest.raises(FileNotFoundError, match="nonsense"):
        shipped("nonsense")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout; hatchling comes with the `test` extra, so no network is used."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    build = ("-m", "pip", "wheel", "--no-deps", "--no-build-isolation")
    more = ("--no-index", "--disable-pip-version-check", "-w", folder, CHECKOUT)
    done = run_python(*build, *more)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("zsvg-*.whl")
    return built


def test_wheel_holds_everything_and_nothing_else(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {"zsvg/py.typed", "zsvg/report/report.css", "zsvg/_demo/app.py"}
    expected.add("zsvg/report/templates/page.html")
    for folder, inside in (
        ("zsvg", "zsvg"),
        ("prompts", "zsvg/_prompts"),
        ("demo", "zsvg/_demo"),
    ):
        for path in (CHECKOUT / folder).rglob("*"):
            if path.suffix in SHIPPED:
                expected.add(f"{inside}/{path.relative_to(CHECKOUT / folder).as_posix()}")
    assert "zsvg/_prompts/recipes/coop.yaml" in expected
    assert expected <= names
    tops = {name.split("/")[0] for name in names}
    assert tops == {"zsvg", f"zsvg-{zsvg.__version__}.dist-info"}
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
    assert zipfile.ZipFile(wheel).testzip() is None


def test_installed_wheel_works_without_the_checkout(wheel: Path, tmp_path: Path):
    target = tmp_path / "site"
    install = ("-m", "pip", "install", "--no-deps", "--no-index", "--quiet")
    done = run_python(*install, "--target", target, wheel)
    assert done.returncode == 0, done.stderr
    code = """
import json
import zsvg
from zsvg.training.recipes import load_recipe, recipe_names
from zsvg.resources import demo_module, shipped
print(json.dumps({
    "package": zsvg.__file__,
    "prompts": str(shipped("prompts")),
    "demo": demo_module("jobs").__file__,
    "recipes": {name: load_recipe(name).name for name in recipe_names()},
}))
"""
    found = json.loads(elsewhere("-c", code, path=target, cwd=tmp_path).stdout)
    assert Path(found["package"]) == target / "zsvg" / "__init__.py"
    assert Path(found["prompts"]) == target / "zsvg" / "_prompts"
    assert Path(found["demo"]) == target / "zsvg" / "_demo" / "jobs.py"
    assert Path(found["demo"]).is_file()
    assert found["recipes"]["coop"] == "coop"
    assert set(found["recipes"]) == {p.stem for p in (CHECKOUT / "prompts/recipes").glob("*.yaml")}
    shown = elsewhere("-m", "zsvg", "tune", "--help", path=target, cwd=tmp_path).stdout
    assert "Example: zsvg tune" in shown
