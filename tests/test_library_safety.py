"""A library that is killed, shared by processes, and followed for long."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import run_python, started, wait_for
from films import film

import zsvg.library.engine
from zsvg import Library, ZsvgError
from zsvg.library.upkeep import check, compact, info
from zsvg.library.watching import watch
from zsvg.library.writing import LOCK, writing

# As `zsvg`, but what is done is written after every video, so that there is more to tear apart.
ONE_BY_ONE = (
    "import zsvg.library.indexing as indexing\n"
    "indexing._VIDEOS = 1\n"
    "from zsvg.cli import main\n"
    "main()"
)


def clips_in(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        first = number % 20
        film(folder / f"film {number:02d}.mp4", range(first, first + 3 + number // 20))
    return folder


def content(folder: Path) -> dict[str, Any]:
    """Return all that a library holds, but for when it was made."""
    tables = Library.open(folder).tables
    videos = [(v.vid, v.root, v.path, v.content, v.duration, v.title) for v in tables.videos()]
    features = tables.features(sorted(tables.contents()))
    frames = tables._tables["frames"].to_arrow().to_pylist()
    return {
        "videos": videos,
        "features": features,
        "frames": sorted((f["content"], f["start"], f["stop"], tuple(f["vector"])) for f in frames),
        "events": {name: tables.events(name) for name in features},
    }


def lake_files(folder: Path) -> int:
    """Return how many files the tables have: each step of writing makes some."""
    return sum(len(names) for _, _, names in os.walk(folder))


def test_ten_kills_leave_what_an_undisturbed_run_makes(tmp_path: Path, tiny_clip_folder: Path):
    clips, library = clips_in(tmp_path / "clips", 24), tmp_path / "killed"
    model = ("--model", f"local-dir:{tiny_clip_folder}")
    line = ("-c", ONE_BY_ONE, "index", clips, "-o", library, *model)
    killed = 0
    for number in range(10):
        before = lake_files(library)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with started(*line, **quiet) as process:
            wait_for(
                lambda p=process, least=before + 3 + 5 * (number % 3): (
                    p.poll() is not None or lake_files(library) >= least
                )
            )
            killed += process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.wait()
        if (library / "library.json").exists():
            Library.open(library).search("a dog")  # it opens, and answers from what there is
    assert killed >= 5
    done = run_python("-m", "zsvg", "index", clips, "-o", library, *model)
    assert done.returncode == 0, done.stderr
    assert check(library) == []
    assert not (library / LOCK).exists()
    undisturbed = tmp_path / "undisturbed"
    Library.open(undisturbed, f"local-dir:{tiny_clip_folder}").add(clips)
    assert content(library) == content(undisturbed)
    # What torn writes left on the disk goes too.
    compact(library, alone=True)
    compact(undisturbed, alone=True)
    assert info(library)["bytes"] < 1.5 * info(undisturbed)["bytes"]


def test_of_two_that_index_at_once_one_says_why(tmp_path: Path, tiny_clip_folder: Path):
    clips, library = clips_in(tmp_path / "clips", 6), tmp_path / "library"
    line = ("-m", "zsvg", "index", clips, "-o", library, "--model", f"local-dir:{tiny_clip_folder}")
    pipes: dict[str, Any] = {"stderr": subprocess.PIPE, "text": True}
    with started(*line, **pipes) as one, started(*line, **pipes) as other:
        told = [process.communicate()[1] for process in (one, other)]
        codes = [one.returncode, other.returncode]
    assert 0 in codes, told
    for code, said in zip(codes, told, strict=True):
        assert code == 0 or "another zsvg is writing to it" in said
    Library.open(library).add(clips)
    assert check(library) == []
    assert len(content(library)["videos"]) == 6


def test_readers_go_on_while_one_writes(tmp_path: Path, tiny_clip_folder: Path):
    clips = clips_in(tmp_path / "clips", 2)
    writer = Library.open(tmp_path / "library", f"local-dir:{tiny_clip_folder}")
    writer.add(clips)
    reader = Library.open(tmp_path / "library")
    with writing(writer.folder):
        assert len(reader.answers("a dog", group=False)) == 2
        with pytest.raises(ZsvgError, match="another zsvg is writing to it"):
            reader.add(clips)
    film(clips / "new.mp4", range(5))
    writer.add(clips)
    assert len(reader.answers("a dog", group=False)) == 3  # without being opened again
    (clips / "film 00.mp4").unlink()
    writer.add(clips, prune=True)
    compact(writer.folder)
    assert len(reader.answers("a dog", group=False)) == 2


def test_a_followed_folder_keeps_the_library_small(
    tmp_path: Path, tiny_clip_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    """200 rounds of adding, changing and deleting; one video stays."""
    monkeypatch.setattr(zsvg.library.engine, "KEPT", zsvg.library.engine.timedelta(0))
    clips = clips_in(tmp_path / "clips", 1)
    shown = [film(tmp_path / f"{n}.mp4", range(n, n + 3)) for n in range(12)]
    library = Library.open(tmp_path / "library", f"local-dir:{tiny_clip_folder}")
    library.add(clips)
    sizes = []
    for number in range(200):
        file = clips / "changing.mp4"
        if number % 4 == 3:
            file.unlink()
        else:
            shutil.copy(shown[number % 12], file)
        library.add(clips, prune=True)
        sizes.append(info(library.folder)["bytes"])
    assert max(sizes[100:]) < 1.5 * max(sizes[:20])
    assert [video.vid for video in library.videos()] == ["film 00"]
    assert check(library.folder) == []
    rows = info(library.folder)["rows"]
    assert rows["features"] == 1
    assert rows["events"] == len(library.tables.events(library.videos()[0].content))


def test_watching_indexes_what_comes(tmp_path: Path, tiny_clip_folder: Path):
    clips, library = clips_in(tmp_path / "clips", 1), tmp_path / "library"
    model = f"local-dir:{tiny_clip_folder}"
    line = ("-m", "zsvg", "index", clips, "-o", library, "--model", model, "--watch", "--prune")
    with started(*line, stderr=subprocess.PIPE, text=True) as process:
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(process.stderr), daemon=True)
        reader.start()
        wait_for(lambda: any("watching" in line for line in lines))

        def vids() -> list[str]:
            return [video.vid for video in opened.videos()]

        opened = Library.open(library)
        film(clips / "new.mp4", range(4))
        wait_for(lambda: vids() == ["film 00", "new"])
        (clips / "sub").mkdir()
        (clips / "new.mp4").rename(clips / "sub" / "moved.mp4")
        wait_for(lambda: vids() == ["film 00", "sub/moved"])
        (clips / "film 00.mp4").unlink()
        wait_for(lambda: vids() == ["sub/moved"])
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        reader.join()
    assert "stopped" in lines[-1]
    Library.open(library).add(clips, prune=True)  # it may have been stopped amid the last update
    assert check(library) == []


def test_what_changed_before_the_watching_began_is_not_missed(tmp_path: Path):
    calls: list[int] = []
    stop = threading.Event()

    def update() -> None:
        calls.append(1)
        stop.set()

    thread = threading.Thread(
        target=watch, args=([tmp_path], update), kwargs={"stop": stop}, daemon=True
    )
    thread.start()
    thread.join(60)  # without any change from now on
    assert not thread.is_alive()
    assert calls == [1]


def test_watching_ends_when_it_is_told_to(tmp_path: Path):
    calls: list[int] = []
    stop = threading.Event()

    def update() -> None:
        calls.append(1)
        if len(calls) > 1:  # the first one is of what changed before
            stop.set()

    thread = threading.Thread(
        target=watch, args=([tmp_path], update), kwargs={"stop": stop}, daemon=True
    )
    thread.start()
    number = iter(range(10**6))

    def changed() -> bool:
        (tmp_path / f"{next(number)}.txt").write_text("x")
        return len(calls) > 1

    wait_for(changed)
    thread.join(60)
    assert not thread.is_alive()
