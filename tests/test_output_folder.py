"""A model folder is replaced whole, whatever happens; what else lies there stays."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from zsvg.errors import ZsvgError
from zsvg.features.processes import Processes
from zsvg.files import sha256_file
from zsvg.training.checkpoint import remove_checkpoint
from zsvg.training.output_folder import folder_of, only_run, replace_folder, staged

CHANGES = ("os.rename", "os.remove", "os.rmdir")


def write_model(folder: Path, what: str, *, card: str | None = None) -> None:
    """Write a folder as a tuning run leaves it; `card` stands in place of the card later on."""
    folder.mkdir()
    for name in ("head.safetensors", "adapter_config.json", "adapter_model.safetensors",
                 "history.json", "README.md"):  # fmt: skip
        (folder / name).write_text(what)
    manifest = {"made": what, "card": sha256_file(folder / "README.md")}
    (folder / "zsvg.json").write_text(json.dumps(manifest))
    if card is not None:
        (folder / "README.md").write_text(card)


def keep_things(folder: Path) -> None:
    (folder / "results").mkdir()
    (folder / "results" / "zsvg.json").write_text("mine")
    (folder / "notes.txt").write_text("mine")
    (folder / ".git").mkdir()
    (folder / "film").symlink_to("/nowhere")


def tree(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): os.readlink(path) if path.is_symlink()
        else path.read_text() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }  # fmt: skip


KEPT = {"results": "", "results/zsvg.json": "mine", "notes.txt": "mine", ".git": "",
        "film": "/nowhere"}  # fmt: skip


def whole(folder: Path, what: str) -> bool:
    """Return whether the model in a folder is this one, and nothing of another."""
    own = {n: t for n, t in tree(folder).items() if n not in {*KEPT, "README.md", "README.md.old"}}
    return json.loads(own.pop("zsvg.json"))["made"] == what and set(own.values()) == {what}


def killed_after(changes: int, work) -> bool:
    """Work in a process that ends abruptly before its n-th change; return if it got there."""
    child = os.fork()
    if child == 0:
        left = changes

        def hook(event, arguments):
            nonlocal left
            if event in CHANGES:
                left -= 1
                if left < 0:
                    os._exit(9)

        sys.addaudithook(hook)
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def test_a_kill_at_any_point_loses_nothing(tmp_path):
    for changes in range(100):
        place = tmp_path / str(changes)
        place.mkdir()
        model = place / "model"
        write_model(model, "old", card="my own words")
        keep_things(model)
        write_model(staged(model), "new")
        killed = killed_after(changes, lambda model=model: replace_folder(model))
        # Between two renames there is no folder for a moment; otherwise one of the two, whole.
        assert not model.exists() or whole(model, "old") or whole(model, "new")
        with only_run(model, Processes()):
            pass
        made = "new" if whole(model, "new") else "old"
        assert whole(model, made)
        found = tree(model)
        assert KEPT.items() <= found.items()
        assert "my own words" in (found["README.md"], found.get("README.md.old"))
        assert os.listdir(place) == ["model"]
        if not killed:
            break
    assert made == "new"
    assert changes >= 12  # two renames, five things of mine, six files and the folder


def test_a_card_that_was_not_edited_is_replaced_and_others_get_free_names(tmp_path):
    model = tmp_path / "model"
    for card, expected in ((None, {}), ("one", {"README.md.old": "one"}),
                           ("two", {"README.md.old": "one", "README.md.old2": "two"})):  # fmt: skip
        if not model.exists():
            write_model(model, "old")
        if card is not None:
            (model / "README.md").write_text(card)
        write_model(staged(model), "new")
        replace_folder(model)
        assert {n: t for n, t in tree(model).items() if n.startswith("README.md.old")} == expected
        assert (model / "README.md").read_text() == "new"
    assert os.listdir(tmp_path) == ["model"]


def test_a_link_stays_and_modes_too(tmp_path):
    (tmp_path / "disk").mkdir()
    write_model(tmp_path / "disk" / "model", "old")
    (tmp_path / "disk" / "model").chmod(0o700)
    (tmp_path / "model").symlink_to("disk/model")
    folder = folder_of(tmp_path / "model")
    assert folder == Path(os.path.realpath(tmp_path)) / "disk" / "model"
    write_model(staged(folder), "new")
    replace_folder(folder)
    assert os.readlink(tmp_path / "model") == "disk/model"
    assert whole(tmp_path / "model", "new")
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", [".model.old", ".model.tmp"])
def test_what_is_in_the_way_is_not_deleted(tmp_path, name):
    write_model(tmp_path / "model", "old")
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.tex").write_text("mine")
    with (
        pytest.raises(ZsvgError, match=f"{name}: is in the way"),
        only_run(tmp_path / "model", Processes()),
    ):
        pass
    assert (tmp_path / name / "thesis.tex").read_text() == "mine"
    assert whole(tmp_path / "model", "old")


def test_the_folder_one_is_in_is_not_replaced_under_ones_feet(tmp_path, monkeypatch):
    write_model(tmp_path / "model", "old")
    (tmp_path / "model" / "results").mkdir()
    (tmp_path / "link").symlink_to("model")
    monkeypatch.chdir(tmp_path / "model")
    for output in (".", "../model", tmp_path / "link", "results/.."):
        with pytest.raises(ZsvgError, match="is the folder you are in"):
            folder_of(output)
    assert whole(tmp_path / "model", "old")
    monkeypatch.chdir(tmp_path / "model" / "results")  # which moves over, so one stays in it
    folder = folder_of("..")
    write_model(staged(folder), "new")
    replace_folder(folder)
    assert os.getcwd() == str(tmp_path / "model" / "results")
    assert whole(tmp_path / "model", "new")


def test_half_a_folder_of_a_killed_run_is_cleared(tmp_path):
    staged(tmp_path / "model").mkdir()
    for name in ("head.safetensors", ".zsvg.json.12-34.tmp.json"):
        (staged(tmp_path / "model") / name).touch()
    with only_run(tmp_path / "model", Processes()):
        assert os.listdir(tmp_path) == [".model.lock"]


def test_a_checkpoint_folder_keeps_what_is_not_ours(tmp_path):
    for name in ("checkpoint.json", "step-00000020.safetensors", "step-best.safetensors",
                 ".checkpoint.json.12-34.tmp.json"):  # fmt: skip
        (tmp_path / name).touch()
    remove_checkpoint(tmp_path)
    assert os.listdir(tmp_path) == ["step-best.safetensors"]
