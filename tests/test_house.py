"""The house: rooms that say what is in them, of modules that can be read at one sitting."""

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "zsvg"
if not PACKAGE.is_dir():
    pytest.skip("there is no checkout around these tests", allow_module_level=True)

MODULES = sorted(
    file for room in ("zsvg", "demo", "scripts") for file in (ROOT / room).rglob("*.py")
)


def test_few_modules_stand_outside_the_rooms():
    assert len(list(PACKAGE.glob("*.py"))) <= 8


def test_modules_are_short():
    long = {
        str(file.relative_to(ROOT)): lines
        for file in MODULES
        if (lines := len(file.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert not long


def test_every_room_and_module_says_what_is_in_it():
    for file in MODULES:
        said = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
        assert said, file
        if file.parent != PACKAGE and file.is_relative_to(PACKAGE):
            assert (file.parent / "__init__.py").is_file(), file.parent


def test_contributors_find_every_room():
    table = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Rules")[0]
    rooms = {folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").is_file()}
    assert {room for room in rooms if f"`{room}/`" not in table} == set()


def test_nothing_else_lies_in_the_yard():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    folders = {line.split("/")[0] for line in listed.stdout.splitlines() if "/" in line}
    houses = {"zsvg", "prompts", "scripts", "demo", "tests", "docs", "assets"}
    assert {name for name in folders if not name.startswith(".")} == houses
