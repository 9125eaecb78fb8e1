"""Where results go: files are replaced whole, links stay links, pipes and devices get the bytes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import filelock
import pytest
from packaging.version import Version
from safetensors.numpy import load, save_file

from zsvg.errors import ZsvgError
from zsvg.files import atomic_path, is_temporary, locked, remove_own, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "old.txt").write_text("old")
    for name, target in (("out", "disk/old.txt"), ("dangling", "disk/new.txt"), ("far", "out")):
        (tmp_path / name).symlink_to(target)
        write_text(tmp_path / name, name)
        assert os.readlink(tmp_path / name) == target
        assert (tmp_path / name).read_text() == name
    assert names(tmp_path / "disk") == ["new.txt", "old.txt"]
    assert (tmp_path / "disk" / "old.txt").read_text() == "far"
    (tmp_path / "lost").symlink_to("nowhere/new.txt")
    with pytest.raises(ZsvgError, match="no folder"):
        write_text(tmp_path / "lost", "text")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ZsvgError, match="back to itself"):
        write_text(tmp_path / "loop", "text")
    assert (tmp_path / "lost").is_symlink()


def test_a_pipe_gets_the_bytes_and_stays_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    read: list[bytes] = []
    for write in (
        lambda: write_text(tmp_path / "pipe", "text"),
        lambda: tensors(tmp_path / "pipe"),
    ):
        reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
        reader.start()
        write()
        reader.join(20)
    assert read[0] == b"text"
    assert load(read[1])["a"].tolist() == [1, 2]
    assert (tmp_path / "pipe").is_fifo()
    assert names(tmp_path) == ["pipe"]


def tensors(path: Path) -> None:
    import numpy as np

    with atomic_path(path) as temporary:  # what wants to seek writes a file
        save_file({"a": np.array([1, 2])}, temporary)


@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/fd/1", "link", "/dev/null"])
def test_standard_output_by_its_other_names(path, tmp_path):
    (tmp_path / "link").symlink_to("/dev/stdout")
    code = (
        "import sys; from zsvg.files import write_text\n"
        f"sys.stdout.write('first '); write_text({path!r}, 'text '); sys.stdout.write('last')"
    )
    expected = "first last" if path == "/dev/null" else "first text last"
    out = tmp_path / "out.txt"
    out.write_text("above ")
    for sink in (subprocess.PIPE, out.open("ab")):  # also where it is a file that is added to
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, stdout=sink, check=True, timeout=60
        )
        assert done.stdout in (expected.encode(), None)
    assert out.read_text() == "above " + expected
    assert names(tmp_path) == ["link", "out.txt"]
    assert (tmp_path / "link").is_symlink()


def test_names_as_long_as_they_may_be(tmp_path):
    for name in ("a" * 246 + ".json", "ü" * 125, "a." + "b" * 253, "short"):
        write_text(tmp_path / name, name)
        assert (tmp_path / name).read_text() == name
        with atomic_path(tmp_path / name) as temporary:
            temporary.write_text("new")
            assert len(os.fsencode(temporary.name)) <= max(143, len(os.fsencode(name)))
        assert (tmp_path / name).read_text() == "new"
    assert len(names(tmp_path)) == 4


def test_permissions_are_kept_and_a_new_file_has_the_usual_ones(tmp_path):
    write_text(tmp_path / "new", "text")
    usual = 0o666 & ~mask()
    assert (tmp_path / "new").stat().st_mode & 0o777 == usual
    for mode in (0o600, 0o664, 0o444):
        (tmp_path / "new").chmod(mode)
        write_text(tmp_path / "new", "text")
        assert (tmp_path / "new").stat().st_mode & 0o777 == mode


def mask() -> int:
    known = os.umask(0)
    os.umask(known)
    return known


def test_what_cannot_be_written_is_named_by_its_own_name(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(ZsvgError, match="is a folder"):
        write_text(tmp_path / "folder", "text")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match="file") as caught:
        write_text(tmp_path / "file" / "out.txt", "text")
    assert ".tmp" not in str(caught.value)
    code = (
        "import resource; from zsvg.files import write_text\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "try: write_text('out.txt', 'x' * 1000)\n"
        "except OSError as error: print(error)"
    )
    (tmp_path / "out.txt").write_text("old")
    said = subprocess.run(
        [sys.executable, "-B", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert said.stdout.endswith(": 'out.txt'\n"), said.stderr
    assert (tmp_path / "out.txt").read_text() == "old"
    assert names(tmp_path) == ["file", "folder", "out.txt"]


def test_a_folder_only_to_read(tmp_path, as_nobody):
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "out.txt").write_text("old")
    closed.chmod(0o555)
    code = "from zsvg.files import write_text\nwrite_text('closed/out.txt', 'new')"
    done = as_nobody([sys.executable, "-c", code], cwd=tmp_path)
    assert done.stderr.splitlines()[-1].endswith("Permission denied: 'closed/out.txt'")
    assert (closed / "out.txt").read_text() == "old"


def test_only_own_files_are_removed(tmp_path):
    for name in ("own.json", "mine.txt", ".own.json.12-34.tmp.json", ".mine.txt.12-34.tmp.txt"):
        (tmp_path / name).write_text(name)
    assert is_temporary(".own.json.12-34.tmp.json") == "own.json"
    assert is_temporary("own.json") is None
    assert not remove_own(tmp_path, lambda name: name == "own.json")
    assert names(tmp_path) == [".mine.txt.12-34.tmp.txt", "mine.txt"]
    assert remove_own(tmp_path / "nowhere", lambda name: True)
    (tmp_path / "link").symlink_to(tmp_path)
    assert not remove_own(tmp_path / "link", lambda name: True)
    assert len(names(tmp_path)) == 3
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "own.json").touch()
    assert remove_own(tmp_path / "ours", lambda name: name == "own.json")


def test_a_lock_under_the_name_of_a_file_of_mine_leaves_it(tmp_path):
    (tmp_path / "lock").write_text("mine")
    with locked(tmp_path / "lock") as held:
        assert held
    if Version(filelock.__version__) < Version("4.2.12"):  # all that Python 3.10 can have
        pytest.skip("older filelocks empty it")
    assert (tmp_path / "lock").read_text() == "mine"
    with locked(tmp_path / "other"):
        pass
    assert names(tmp_path) == ["lock"]
