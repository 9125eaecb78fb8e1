"""Hashes of videos that are remembered: when they are trusted, and when a file is read again."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import coloured_frames, encode_video, run_python
from typer.testing import CliRunner

import zsvg.video.clock
import zsvg.video.decoding
from zsvg.cli.app import app
from zsvg.errors import VideoError
from zsvg.video import hashes
from zsvg.video.containers import open_container
from zsvg.video.hashes import FILE, forget, video_hash

HOUR = 3600.0


@pytest.fixture
def aged(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let the clock that judges the age of files run ahead by so many seconds."""
    now = time.time

    def ahead(seconds: float) -> None:
        monkeypatch.setattr(hashes.time, "time", lambda: now() + seconds)

    ahead(HOUR)
    return ahead


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were read whole."""
    names: list[str] = []
    whole = hashes.sha256_file

    def counted(path: str | Path) -> str:
        names.append(Path(path).name)
        return whole(path)

    monkeypatch.setattr(hashes, "sha256_file", counted)
    return names


def other_process(cache: Path) -> None:
    """What was read of a cache in this process is read again."""
    hashes._tables.pop(cache, None)


def of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_file_is_read_once(tmp_path: Path, aged: object, hashed: list[str]):
    video, cache = tmp_path / "a.mp4", tmp_path / "cache"
    video.write_bytes(b"one")
    for _ in range(3):
        assert video_hash(video, cache) == of(b"one")
        other_process(cache)
    assert hashed == ["a.mp4"]
    assert len((cache / FILE).read_text().splitlines()) == 1
    forget(cache)
    assert [video_hash(video, cache) for _ in range(2)] == [of(b"one")] * 2
    assert hashed == ["a.mp4"] * 2
    assert video_hash(video) == of(b"one")  # without a cache nothing is remembered
    assert hashed == ["a.mp4"] * 3


def test_a_change_is_seen_whatever_the_times_say(tmp_path: Path, aged: object):
    video, cache = tmp_path / "a.mp4", tmp_path / "cache"
    video.write_bytes(b"one")
    status = video.stat()
    assert video_hash(video, cache) == of(b"one")
    time.sleep(0.05)  # so that the file system's own time of the change moves on
    video.write_bytes(b"two")  # the same size and file, and then the same time
    os.utime(video, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert video_hash(video, cache) == of(b"two")
    (tmp_path / "b").write_bytes(b"six")
    os.utime(tmp_path / "b", ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(tmp_path / "b", video)  # another file in its place
    assert video_hash(video, cache) == of(b"six")
    other_process(cache)
    assert video_hash(video, cache) == of(b"six")


def test_young_files_are_not_remembered(
    tmp_path: Path, aged: Callable[[float], None], hashed: list[str]
):
    video, cache = tmp_path / "a.mp4", tmp_path / "cache"
    video.write_bytes(b"one")
    aged(1.0)
    video_hash(video, cache)
    video_hash(video, cache)
    assert hashed == ["a.mp4"] * 2
    assert not (cache / FILE).exists()
    aged(3.0)
    video_hash(video, cache)
    video_hash(video, cache)
    assert hashed == ["a.mp4"] * 3


def test_damage_costs_time_alone(tmp_path: Path, aged: object, hashed: list[str]):
    """Torn lines, lines of others, odd names; a line behind a torn one is whole."""
    cache = tmp_path / "cache"
    names = ["a.mp4", "line\nend.mp4", os.fsdecode(b"latin-\xe9.mp4"), "ж.mp4"]
    for name in names[:2]:
        (tmp_path / name).write_bytes(name.encode())
        video_hash(tmp_path / name, cache)
    with open(cache / FILE, "ab") as file:
        file.write(b'{"a": 1}\n[1, 2]\n\xff\n["/x", "y", 1, 1, 1, 1]\n["/torn", 1, 2')
    other_process(cache)
    for name in names:
        (tmp_path / name).write_bytes(os.fsencode(name)) if name in names[2:] else None
        assert video_hash(tmp_path / name, cache) == of(os.fsencode(name))
    assert hashed == names
    other_process(cache)
    assert [video_hash(tmp_path / name, cache) for name in names] == [
        of(os.fsencode(name)) for name in names
    ]
    assert hashed == names


def test_a_cache_that_cannot_be_written(tmp_path: Path, aged: object, hashed: list[str]):
    video, cache = tmp_path / "a.mp4", tmp_path / "file"
    video.write_bytes(b"one")
    cache.write_text("no folder")
    for _ in range(2):
        assert video_hash(video, cache) == of(b"one")
        other_process(cache)
    assert hashed == ["a.mp4"] * 2
    with pytest.raises(VideoError, match=r"b\.mp4: cannot be read"):
        video_hash(tmp_path / "b.mp4", cache)


def test_a_file_of_many_changes_becomes_short_again(tmp_path: Path, aged: object):
    video, cache = tmp_path / "a.mp4", tmp_path / "cache"
    for size in range(120):
        video.write_bytes(b"x" * size)
        video_hash(video, cache)
    assert len((cache / FILE).read_text().splitlines()) == 120
    other_process(cache)
    assert video_hash(video, cache) == of(b"x" * 119)
    assert len((cache / FILE).read_text().splitlines()) == 1


def test_processes_share_a_cache(tmp_path: Path):
    """Four at once: every line is whole, and every file is there."""
    for number in range(40):
        (tmp_path / f"{number}.mp4").write_bytes(b"%d" % number)
        os.utime(tmp_path / f"{number}.mp4", (0, 0))
    code = """if True:
    import os, sys
    from zsvg.video import hashes
    now = hashes.time.time
    hashes.time.time = lambda: now() + 9
    parent = all(os.fork() for _ in range(3))
    for number in range(40):
        hashes.video_hash(f"{number}.mp4", "cache")
    if parent:
        assert [os.wait()[1] for _ in range(3)] == [0, 0, 0]
    """
    done = run_python("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    # A blank line stands where one process saw the half of another's, which became whole.
    lines = filter(None, (tmp_path / "cache" / FILE).read_bytes().splitlines())
    found = {(Path(name).name, content) for name, *_, content in map(json.loads, lines)}
    assert found == {(f"{n}.mp4", of(b"%d" % n)) for n in range(40)}


def test_a_second_question_opens_no_video(
    tmp_path: Path,
    tiny_clip_folder: Path,
    aged: object,
    hashed: list[str],
    monkeypatch: pytest.MonkeyPatch,
):
    opened: set[str] = set()

    def counted(path: str | Path) -> Any:
        opened.add(Path(path).name)
        return open_container(path)

    for module in (zsvg.video.clock, zsvg.video.decoding):
        monkeypatch.setattr(module, "open_container", counted)
    names = ["a.mp4", "b.mp4", "c.mp4"]
    (tmp_path / "videos").mkdir()
    for index, name in enumerate(names):
        encode_video(tmp_path / "videos" / name, coloured_frames(8 + index))
    asked = [
        *("ground", str(tmp_path / "videos"), "a dog", "a cat", "--format", "jsonl"),
        *("--model", f"local-dir:{tiny_clip_folder}", "--cache", str(tmp_path / "cache")),
    ]

    def ask(*more: str) -> str:
        opened.clear()
        hashed.clear()
        other_process(tmp_path / "cache")
        done = CliRunner().invoke(app, [*asked, *more])
        assert done.exit_code == 0, done.output
        return done.stdout

    first = ask()
    assert (hashed, opened) == (names, set(names))
    assert ask() == first
    assert (hashed, opened) == ([], set())
    assert ask("--rehash") == first
    assert (hashed, opened) == (names, set())
