"""What the documentation says works: its commands are run, its pages and the package agree.

Every block of shell or Python in the README and in the tutorial runs in real processes, in order,
except installation, tests and the documentation's server. Instead of models that would be
downloaded stands `micro`, and for `videos/` two short rendered videos; numbers of videos and steps
are made small (see `SMALLER`). A command that stands in both pages runs once.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml
from conftest import HANG, environment

import zsvg
from zsvg.cli.app import app
from zsvg.events.proposals import KINDS
from zsvg.heads.by_name import HEADS
from zsvg.microworld.world import plan_video, write_video_file, write_world
from zsvg.scorers.scorers import SCORERS
from zsvg.training.recipes import recipe_names

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = runpy.run_path(str(ROOT / "scripts" / "docs_pages.py"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SMALLER = {
    "ViT-B-32/laion2b_s34b_b79k": "micro",
    "Salesforce/blip-image-captioning-base": "micro",
    "zsvg quickstart": "zsvg quickstart --videos 4 --test-videos 4 --steps 2",
    "--videos 100 ": "--videos 2 ",
    "--videos 20 ": "--videos 1 ",
    "zsvg tune": "zsvg tune --steps 2",
    "steps=50": "steps=2",
}


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return (language, text) of the blocks that can be run, made smaller."""
    found = []
    for language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        assert language in ("sh", "python", "text", "yaml"), page
        for large, small in SMALLER.items():
            text = text.replace(large, small)
        found.append((language, text))
    return found


def commands(text: str) -> list[str]:
    """Return the commands of a shell block, one line each, without installation and servers."""
    joined = re.sub(r"(\\|(?<=\|))\n\s*", " ", text)
    lines = (re.sub(r"^python -m pip install [^&]*(&& )?", "", ln) for ln in joined.splitlines())
    return [" ".join(line.split()) for line in lines if not line.startswith(("pytest", "mkdocs"))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages take for granted: videos, a `zsvg`, published files."""
    folder = tmp_path_factory.mktemp("newcomer")
    (folder / "videos").mkdir()
    for index in range(2):
        scene, _ = plan_video("paper", "train", 3, index)
        write_video_file(scene, folder / "videos" / f"cam{index + 1}.mp4")
    spoken = "1\n00:00:02,000 --> 00:00:04,000\nMind the red ball!\n"
    (folder / "videos" / "cam2.srt").write_text(spoken)
    (folder / "bin").mkdir()
    for name, start in (("zsvg", f"{sys.executable} -m zsvg"), ("python", sys.executable)):
        (folder / "bin" / name).write_text(f'#!/bin/sh\nexec {start} "$@"\n')
        (folder / "bin" / name).chmod(0o755)
    # Files of published datasets, in their forms and with two queries each.
    (folder / "charades_sta_test.txt").write_text(
        "AB 1.0 4.0##a cat sits\nCD 2.0 3.0##a dog runs\n"
    )
    (folder / "Charades_v1_test.csv").write_text("id,length\nAB,9.5\nCD,8.0\n")
    answer = {"qid": 1, "query": "a cat", "vid": "AB", "pred_relevant_windows": [[0.0, 4.0, 1.0]]}
    converted = {**answer, "qid": "AB-0"}
    (folder / "predictions.jsonl").write_text(json.dumps(converted) + "\n")
    (folder / "hl_val_submission.jsonl").write_text(json.dumps(answer) + "\n")
    windows = {"relevant_windows": [[0, 4]], "relevant_clip_ids": [0, 1]}
    windows["saliency_scores"] = [[4, 4, 4], [4, 4, 4]]
    record = {"qid": 1, "query": "a cat", "vid": "AB", "duration": 10, **windows}
    (folder / "highlight_val_release.jsonl").write_text(json.dumps(record) + "\n")
    return folder


def run(command: list[str], folder: Path) -> str:
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(PATH=path, ZSVG_CACHE=str(folder / "cache")),
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_shell(page: Path, folder: Path, ran: set[str]) -> list[str]:
    """Run what has not been run of a page's blocks; return what each block printed."""
    printed = []
    for language, text in blocks(page):
        if language == "sh":
            fresh = [command for command in commands(text) if command not in ran]
            printed.append(run(["bash", "-euo", "pipefail", "-c", "\n".join(fresh)], folder))
            ran.update(fresh)
    return printed


@pytest.fixture(scope="module")
def ran() -> set[str]:
    """Commands that have been run in the folder."""
    return set()


@pytest.fixture(scope="module")
def tutorial(folder: Path, ran: set[str]) -> list[str]:
    """What the blocks of the tutorial print."""
    return run_shell(DOCS / "tutorial.md", folder, ran)


def test_tutorial(tutorial: list[str], folder: Path):
    asked, labelled, tuned, answered = tutorial
    assert "broken" not in asked
    assert re.search(r"cam\d\.mp4 +-?0\.\d{3} +\d:\d\d:\d\d\.\d +\d:\d\d:\d\d\.\d", asked)
    assert "cam" in answered
    assert labelled == tuned == ""  # results go to files, and words to stderr
    assert all((folder / f"{n}.html").stat().st_size > 10_000 for n in ("inspect", "results"))
    assert " --> " in (folder / "cam1.srt").read_text()
    assert [path.suffix for path in (folder / "clips").iterdir()] == [".mp4"] * 5


def test_search_your_archive(tutorial: list[str], folder: Path, ran: set[str]):
    first, narrow, said, example, upkeep = run_shell(DOCS / "archive.md", folder, ran)
    assert re.search(r"videos/cam\d\.mp4 +-?0\.\d{3} +\d:\d\d:\d\d\.\d", first)
    assert narrow.count('"vid": "cam') == 2
    assert (folder / "moments.html").stat().st_size > 10_000
    assert len(list((folder / "moments").iterdir())) == 3
    assert "Mind the red ball!" in said
    assert re.search(r"cam1\.mp4 +1\.000 +0:00:02\.0 +0:00:05\.0", example)
    assert "2, 0." in upkeep  # videos and hours
    page = blocks(DOCS / "archive.md")
    python = "\n".join(text for language, text in page if language == "python")  # one goes on
    assert re.search(r"^cam\d \d+\.\d+ \d+\.\d+ ", run([sys.executable, "-c", python], folder))


def test_readme(tutorial: list[str], folder: Path, ran: set[str]):
    """Python comes first there, and is run last: it asks the model that the commands tune."""
    printed = "".join(run_shell(ROOT / "README.md", folder, ran))
    assert sum(command.startswith("zsvg ") for command in ran) >= 15
    assert "zero-labels" in printed  # quickstart
    assert "[whole video]" in printed  # evaluate
    assert (folder / "quickstart" / "report.html").is_file()
    assert json.loads((folder / "metrics.json").read_text())["brief"]["MR-full-R1@0.5"] == 100
    page = blocks(ROOT / "README.md")
    (python,) = [text for language, text in page if language == "python"]
    assert "Moment(start=" in run([sys.executable, "-c", python], folder)


def test_the_whole_job_in_python(tmp_path: Path):
    write_world(tmp_path, domain="studio", videos=3)
    (python,) = [text for language, text in blocks(DOCS / "python.md") if language == "python"]
    score, moment = run([sys.executable, "-c", python], tmp_path).strip().split("\n")
    assert re.fullmatch(r"0\.\d+ \{\}", score)
    assert moment.startswith("Moment(start=")
    named = set(re.findall(r"zsvg\.(\w+)\(", python))
    types = re.findall(r"`(?:zsvg\.)?(\w+)`", (DOCS / "python.md").read_text().split("\n## Ask")[0])
    assert named | {name for name in types if name in zsvg.__all__} == set(zsvg.__all__)
    assert all(getattr(zsvg, name) for name in zsvg.__all__)


def test_every_command_of_the_readme_is_one(folder: Path):
    names = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    for page in (ROOT / "README.md", *DOCS.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"(?:`|^|\| )zsvg ([a-z][a-z-]*)", text, re.MULTILINE):
            assert name in names, (page.name, name)


def test_pages_made_of_the_package_are_whole():
    commands, recipes = PAGES["commands_page"](), PAGES["recipes_page"]()
    for path, command, _ in PAGES["commands"]():
        section = commands.partition(f"## {path}\n")[2].partition("\n## ")[0]
        assert f"```sh\n{path}" in section
        for parameter in command.params:
            long = [name for name in parameter.opts if name.startswith("--")]
            assert all(name in section for name in long) or parameter.hidden
    for file in (ROOT / "prompts" / "recipes").glob("*.yaml"):
        assert file.read_text(encoding="utf-8").rstrip() in recipes


def test_the_page_of_methods_names_them_all():
    text = (DOCS / "methods.md").read_text(encoding="utf-8")
    for names in (KINDS, HEADS, SCORERS, recipe_names()):
        assert [name for name in names if f"`{name}`" not in text] == []


def test_what_the_page_of_methods_calls_equal_has_a_test():
    text = (DOCS / "methods.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.count("|") == 5]
    systems = [row for row in rows if row[3].strip() not in ("held against", "---")]
    assert sum("**equal**" in status for _, _, status, _ in systems) >= 10
    for system, _, status, against in systems:
        assert re.match(r" (\*\*equal\*\*|class of|not built)", status), system
        tests = re.findall(r"`(\w+)`", against)
        assert all((ROOT / "tests" / f"test_{name}.py").is_file() for name in tests), system
        assert tests or "**equal**" not in status, system


def test_every_page_is_in_the_navigation():
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r"^ +- (?:\w+: )?([\w-]+\.md)$", settings, re.MULTILINE))
    assert listed == {path.name for path in DOCS.glob("*.md")} | {"commands.md", "recipes.md"}


OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


def test_what_is_run_on_clusters_is_whole():
    """Nothing of it can be run here; its shell and YAML are read, its `zsvg` has such options."""
    sections = {
        name: set(OPTION.findall(section))
        for name, section in re.findall(
            r"^## zsvg ([\w-]+)\n(.*?)(?=^## |\Z)",
            PAGES["commands_page"](),
            re.MULTILINE | re.DOTALL,
        )
    }
    text, asked = (DOCS / "cluster.md").read_text(encoding="utf-8"), []
    for language, block in BLOCK.findall(text):
        if language == "yaml":
            asked.append(yaml.safe_load(block)["spec"]["entrypoint"])
        elif language == "sh":
            assert subprocess.run(["bash", "-n"], input=block, text=True).returncode == 0, block
            asked += commands(block)
    started = [re.search(r"(?:^|-- |-m )zsvg (.+)", line) for line in asked]
    ours = [line[1].split() for line in started if line]
    assert {words[0] for words in ours} == {"pseudo-label", "tune", "index"}
    for name, *words in ours:
        assert set(filter(OPTION.fullmatch, words)) <= sections[name], (name, words)


def test_every_option_that_is_named_exists():
    known = set(OPTION.findall(PAGES["commands_page"]()))
    known |= {"--groups", "--embedding"}  # of scripts, in README.md and docs/scale.md
    known |= {"--help", "--version", "--install-completion", "--nproc"}  # torchrun's
    for page in {ROOT / "README.md", *DOCS.glob("*.md")} - {DOCS / "results.md"}:
        text = page.read_text(encoding="utf-8")
        # Results come from scripts, which have options of their own.
        text = re.sub(r"<!-- results -->.*<!-- /results -->", "", text, flags=re.DOTALL)
        if page.name == "cluster.md":  # its blocks name those of Slurm and Ray too: see above
            text = BLOCK.sub("", text)
        assert set(OPTION.findall(text)) <= known, page.name


def test_files_that_are_written_are_explained(tutorial: list[str], folder: Path):
    explained = (DOCS / "files.md").read_text(encoding="utf-8")
    written = {path.name for path in (folder / "kitchen").iterdir()} | {
        "pseudo.jsonl",
        "inspect.html",
    }
    assert {"zsvg.json", "head.safetensors"} < written
    assert [name for name in sorted(written) if name not in explained] == []
    keys = json.loads((folder / "pseudo.jsonl").read_text().splitlines()[0])
    assert [key for key in (*keys, *keys["source"]) if f"`{key}`" not in explained] == []


def test_newcomers_walk_is_what_the_readme_asks_for():
    """The numbers of steps on the first page, counted in the README's own instructions."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    free, adapted = re.findall(
        r"```sh\n(.*?)```", text.partition("## Your own videos")[2], re.DOTALL
    )[:2]
    commands = [len(re.findall(r"^zsvg ", block, re.MULTILINE)) for block in (free, adapted)]
    before = 2  # a clone, and one line of pip
    page = (DOCS / "index.md").read_text(encoding="utf-8")
    claimed = re.findall(r"\| \*\*zsvg[^|]*\| \*\*(\d+)\*\* \|", page)
    assert claimed == [str(before + count) for count in commands]
