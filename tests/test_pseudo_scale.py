"""Pseudo labels of many videos: several processes, looking ahead, resuming, and the forecast."""

from __future__ import annotations

import io
import re
import shutil
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import HANG, encode_video, two_processes

from zsvg.backbones.captioner import load_captioner
from zsvg.backbones.clip import load_backbone
from zsvg.cli import app, terminal
from zsvg.errors import VideoError, ZsvgError
from zsvg.features.ahead import ahead
from zsvg.features.processes import Processes
from zsvg.label.parts import gather
from zsvg.label.run import LabelReport, default_options, pseudo_label
from zsvg.video.finding import find_videos

# What a worker of torchrun runs in place of `zsvg`: the second one dies after its first video.
DYING = """
import os, signal
from zsvg.cli import app as cli
from zsvg.label import run as label

def write_and_die(*args, write=label.write_json):
    write(*args)
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)

label.write_json = write_and_die
cli.main()
"""


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five videos of 6 s, two of them equal, and one that is none."""
    folder = tmp_path_factory.mktemp("many")
    for number, name in enumerate("abcd"):
        colours = np.random.default_rng(number).integers(0, 255, (3, 1, 6, 8, 3), np.uint8)
        scenes = colours.repeat(8, 2).repeat(8, 3).repeat(20, 1).reshape(60, 48, 64, 3)
        encode_video(folder / f"{name}.mp4", scenes)
    shutil.copy(folder / "b.mp4", folder / "copy.mp4")
    (folder / "broken.mp4").write_bytes((folder / "a.mp4").read_bytes()[:700])
    return folder


@pytest.fixture(scope="module")
def models():
    return load_backbone("micro", "cpu"), load_captioner("micro", "cpu")


def arguments(videos: Path, out: Path, *more: str) -> list[str]:
    line = ["pseudo-label", str(videos), "--backbone", "micro", "--captioner", "micro"]
    cache = str(out.parent / "cache")
    return [*line, "--min-score", "-1", "--cache", cache, "--device", "cpu", "-o", str(out), *more]


@pytest.fixture(scope="module")
def alone(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, str]:
    """What one process writes and says."""
    out = tmp_path_factory.mktemp("alone") / "out.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["zsvg", *arguments(videos, out)])
        said = io.StringIO()
        patch.setattr(sys, "stderr", said)
        with pytest.raises(SystemExit) as left:
            app.main()
    assert left.value.code == 1
    made = sorted(path.name for path in out.parent.iterdir() if path.name != "cache")
    assert made == ["out.jsonl", "out.jsonl.parts"]
    return out.read_bytes(), said.getvalue()


def dry_run(monkeypatch, capsys, *line: str) -> list[str]:
    monkeypatch.setattr(sys, "argv", ["zsvg", *line, "--dry-run"])
    with pytest.raises(SystemExit) as left:
        app.main()
    assert left.value.code == 0
    return capsys.readouterr().err.splitlines()


def tree(folder: Path) -> dict[str, bytes]:
    """All files but the hashes of videos, which any look at one may add to."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "hashes.jsonl")
    return {str(p): p.read_bytes() for p in files}


class TestProcesses:
    def test_a_killed_worker_and_two_processes_end_in_the_bytes_of_one(
        self, videos, alone, tmp_path, monkeypatch, capsys
    ):
        out, hook = tmp_path / "out.jsonl", tmp_path / "dying.py"
        hook.write_text(DYING)
        killed = two_processes(str(hook), *arguments(videos, out))
        assert killed.returncode != 0
        assert "Signal 9" in killed.stderr
        assert not out.exists()
        finished = len(list((tmp_path / "out.jsonl.parts").glob("?" * 64 + ".json")))
        assert finished >= 1

        before = tree(tmp_path)
        said = dry_run(monkeypatch, capsys, *arguments(videos, out))
        # Of the copy there is but one file, for two videos.
        done = int(re.match(r"(\d+) are labelled already", said[1])[1])
        assert finished <= done <= finished + 1
        assert tree(tmp_path) == before

        again = two_processes("-m", "zsvg", *arguments(videos, out))
        assert "process 1 of 2 takes 3 of 6 videos" in again.stderr
        assert "process 2 of 2 takes 3 of 6 videos" in again.stderr
        assert out.read_bytes() == alone[0]
        # The bad video is named once, by the main process, and each process exits with 1.
        assert len(re.findall("^error: ", again.stderr, re.MULTILINE)) == 1
        assert f"error: {videos / 'broken.mp4'}: " in again.stderr
        assert again.returncode == 1
        assert re.findall(r"^ +exitcode +: (-?\d+)", again.stderr, re.MULTILINE) == ["1", "1"]
        parts = list((tmp_path / "out.jsonl.parts").glob("?" * 64 + ".json"))
        assert len(parts) == 4
        assert f"{tmp_path / 'out.jsonl.parts'} lets the next run" in again.stderr

    def test_every_process_gets_the_report_of_all(self, videos, models, tmp_path):
        found = {**find_videos(videos), "gone": videos / "gone.mp4"}
        options = default_options(min_score=-1.0)
        expected = pseudo_label(found, *models, options=options)
        assert set(expected.failures) == {"broken", "gone"}
        folder, barrier = tmp_path / "parts", threading.Barrier(3)
        folder.mkdir()
        # Left by an earlier run: not believed.
        (folder / "process-2-of-3.json").write_text('{"finished": {"x": "y"}, "failures": {}}')
        reports: list[LabelReport] = [None] * 3

        def run(index: int) -> None:
            processes = Processes(index, 3, barrier.wait)
            reports[index] = pseudo_label(
                found, *models, options=options, work_dir=folder, processes=processes
            )

        threads = [threading.Thread(target=run, args=(index,)) for index in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(HANG)
        assert reports == [expected] * 3

    def test_processes_need_one_folder(self, models, tmp_path):
        with pytest.raises(ZsvgError, match="process 2 of 2"):
            gather(Processes(0, 2), tmp_path, {}, {})
        with pytest.raises(ValueError, match="work_dir"):
            pseudo_label({}, *models, processes=Processes(0, 2))


class TestAhead:
    def test_results_come_in_order_and_no_more_than_two_wait(self):
        begun: list[int] = []
        threads: set[str] = set()

        def work(item: int) -> int:
            begun.append(item)
            threads.add(threading.current_thread().name)
            if item == 3:
                raise VideoError("three")
            return item * item

        seen = []
        for item, result in ahead(range(7), work):
            time.sleep(0.02)
            assert len(begun) <= item + 3
            if item == 3:
                with pytest.raises(VideoError, match="three"):
                    result.result()
            else:
                seen.append(result.result())
        assert seen == [0, 1, 4, 16, 25, 36]
        assert begun == list(range(7))
        assert len(threads) == 1
        assert threading.current_thread().name not in threads

    def test_what_nobody_takes_is_not_begun(self):
        begun: list[int] = []
        items = ahead(range(100), begun.append)
        next(items)[1].result()
        items.close()
        time.sleep(0.05)
        assert len(begun) <= 3


class TestProgress:
    def test_time_left_counts_what_this_run_did(self, monkeypatch):
        from rich.console import Console

        now = [0.0]
        shown = Console(file=io.StringIO(), force_terminal=True, width=100, get_time=lambda: now[0])
        monkeypatch.setattr(terminal, "console", lambda: shown)
        with terminal.progress("labelling", 1000) as advance:
            for done in range(1, 401):  # finished before: a moment each
                now[0] += 0.001
                advance(done)
            advance(400, resumed=True)
            for done in range(401, 404):
                now[0] += 40.0
                advance(done)
        last = [line for line in shown.file.getvalue().splitlines() if "403/1000" in line][-1]
        assert "0:02:00" in last
        assert "6:38:00" in last  # 597 of 40 s each

    def test_videos_finished_before_come_first(self, videos, models, tmp_path):
        found = find_videos(videos)
        settings = {"work_dir": tmp_path / "parts", "cache": tmp_path / "cache"}
        pseudo_label({vid: found[vid] for vid in "cd"}, *models, **settings)
        steps, resumed = [], []
        pseudo_label(
            found,
            *models,
            **settings,
            on_progress=lambda *step: steps.append(step),
            on_resume=lambda count: resumed.append((count, len(steps))),
        )
        assert [vid for _, _, vid in steps] == ["c", "d", "a", "b", "broken", "copy"]
        assert resumed == [(2, 2)]


class TestDryRun:
    def test_it_counts_and_writes_nothing(self, videos, models, tmp_path, monkeypatch, capsys):
        out, captioners = tmp_path / "out" / "out.jsonl", []
        monkeypatch.setattr(
            "zsvg.backbones.endpoint.load_captioner", lambda *args: captioners.append(args)
        )
        line = arguments(videos, out)
        said = dry_run(monkeypatch, capsys, *line)
        assert said[:2] == ["5 videos of 30.0 s in all", "0 are labelled already, 5 are left"]
        assert said[2] == "60 frames to encode; features of 0 videos are cached"
        assert said[3] == "at most 60 images to caption"
        assert said[4].startswith(f"cannot be read: {videos / 'broken.mp4'}: ")
        assert said[5:] == ["nothing was written"]
        assert not captioners
        assert list(tmp_path.iterdir()) == []
        pseudo_label({"a": videos / "a.mp4"}, *models, cache=out.parent / "cache")
        said = dry_run(monkeypatch, capsys, *line, "--count", "4", "--samples", "3")
        assert said[2] == "48 frames to encode; features of 1 videos are cached"
        assert said[3] == "at most 20 images to caption, 3 sampled captions of each"
