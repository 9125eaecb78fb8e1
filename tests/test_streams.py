"""Pipes, forms, logs, completion and exit codes of the command line, mostly in real processes."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE

import pytest
from conftest import HANG, environment, run_python, started, wait_for

from zsvg.cli import completion
from zsvg.events.proposals import KINDS
from zsvg.heads.by_name import HEADS
from zsvg.records import read_annotations, read_predictions


def run(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return run_python("-m", "zsvg", *arguments, input=stdin, text=False)


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    path = tmp_path / "truth.jsonl"
    records = [
        {
            "qid": f"{vid}-{number}",
            "query": f"a red square\u2028moves, {number}",  # a line end to some, not to JSON
            "vid": vid,
            "duration": 4.0,
            "relevant_windows": [[1.0, 2.0 + number]],
        }
        for vid in ("one", "two")
        for number in range(2)
    ]
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def test_predict_and_evaluate_through_a_pipe(
    tiny_clip_folder: Path, small_video: Path, truth: Path, tmp_path: Path
):
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("one.mp4", "two.mp4"):
        (videos / name).write_bytes(small_video.read_bytes())
    asked = ["predict", "-", "--videos", videos, "--model", f"local-dir:{tiny_clip_folder}"]
    asked += ["--cache", tmp_path / "cache", "-v"]
    answered = run(*asked, "-o", "-", stdin=truth.read_bytes())
    assert answered.returncode == 0, answered.stderr
    assert b"frames encoded in" in answered.stderr  # -v
    file = tmp_path / "file.jsonl"
    again = run(*asked[:-1], "-o", file, stdin=truth.read_bytes())
    assert (again.stdout, again.returncode) == (b"", 0)
    assert b"zsvg." not in again.stderr  # quiet without -v
    assert file.read_bytes() == answered.stdout
    piped = run("evaluate", "-", truth, "--format", "json", stdin=answered.stdout)
    scored = run("evaluate", file, truth, "-o", tmp_path / "metrics.json")
    assert (tmp_path / "metrics.json").read_bytes() == piped.stdout
    assert json.loads(piped.stdout)["queries"] == 4
    assert b"whole video" in scored.stdout


def test_forms_of_moments(run_zsvg, truth: Path, tmp_path: Path):
    records = read_annotations(truth)
    made = {}
    for form in ("table", "jsonl", "json", "csv"):
        status, out, err = run_zsvg("baseline", "whole", truth, "--format", form)
        assert status == 0
        assert "wrote 4 answers to stdout" in err
        made[form] = out
    assert made["table"].count("0:00:04.0") == 4
    rows = list(csv.DictReader(io.StringIO(made["csv"])))
    assert [row["query"] for row in rows] == [record.query for record in records]
    for form in ("jsonl", "json"):
        file = tmp_path / f"piped.{form}"
        file.write_text(made[form], encoding="utf-8")
        assert [p.query for p in read_predictions(file)] == [r.query for r in records]
        assert run_zsvg("baseline", "whole", truth, "-o", tmp_path / f"file.{form}")[:2] == (0, "")
        assert (tmp_path / f"file.{form}").read_bytes() == file.read_bytes()
    assert len(json.loads(made["json"])) == 4
    status, out, err = run_zsvg("baseline", "whole", truth, "--format", "srt")
    assert (status, out) == (1, "")
    assert "not of 2" in err
    one = tmp_path / "one.jsonl"
    one.write_text("".join(line for line in truth.open(encoding="utf-8") if '"one"' in line))
    for form, start in (("srt", "1\n00:00:00,000 --> "), ("vtt", "WEBVTT\n")):
        assert run_zsvg("baseline", "whole", one, "--format", form)[1].startswith(start)


def test_a_file_and_stdout_at_once_and_a_default_file(
    run_zsvg, truth: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert run_zsvg("baseline", "whole", truth)[:2] == (0, "")
    assert len(read_predictions(tmp_path / "predictions.jsonl")) == 4
    (tmp_path / "predictions.jsonl").unlink()
    _, out, err = run_zsvg("baseline", "whole", truth, "-o", "both.csv", "--format", "jsonl")
    assert out.count("\n") == 4
    assert (tmp_path / "both.csv").read_text(encoding="utf-8").count("\n") == 5
    assert "both.csv, stdout" in err
    assert not (tmp_path / "predictions.jsonl").exists()


def test_forms_of_numbers(run_zsvg, truth: Path, tmp_path: Path):
    run_zsvg("baseline", "whole", truth, "-o", tmp_path / "p.jsonl")
    scored = ["evaluate", tmp_path / "p.jsonl", truth]
    value = json.loads(run_zsvg(*scored, "--format", "json")[1])
    status, line, _ = run_zsvg(*scored, "--format", "jsonl")
    assert (status, line.count("\n"), json.loads(line)) == (0, 1, value)
    assert json.loads(run_zsvg(*scored, "-o", "-")[1]) == value
    rows = list(csv.DictReader(io.StringIO(run_zsvg(*scored, "--format", "csv")[1])))
    assert rows[0]["mIoU"] == f"{100 * value['mIoU']:.2f}"
    assert "[whole video]" in [row["queries"] for row in rows]
    assert json.loads(run_zsvg("audit", truth, truth, "--format", "json")[1])["labels"] == 4
    assert len(json.loads(run_zsvg("prompts", "list", "--format", "json")[1])) >= 8


def test_convert_reads_stdin_and_reports_on_stdout(tmp_path: Path):
    lines = b"AB 1.0 9.0##a cat sits\nAB 3.0 2.0##a dog runs\n"
    lengths = tmp_path / "lengths.json"
    lengths.write_text('{"AB": 5.0}')
    asked = ["convert", "charades-sta", "-", "--durations", lengths]
    done = run(*asked, "-o", "-", stdin=lines)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert records[0]["relevant_windows"] == [[1.0, 5.0]]
    report = run(*asked, "-o", tmp_path / "a.jsonl", "--report", "-", stdin=lines)
    assert sum(len(rows) for rows in json.loads(report.stdout).values()) >= 2
    both = run(*asked, "-o", "-", "--report", "-", stdin=lines)
    assert (both.returncode, both.stdout) == (1, b"")
    assert b"cannot both go to stdout" in both.stderr


def test_stdin_serves_one_file_and_odd_names_are_refused_before_any_work(
    run_zsvg, truth: Path, tmp_path: Path
):
    for arguments in (
        ["evaluate", "-", "-"],
        ["audit", "-", "-"],
        ["inspect", "-", "--truth", "-"],
        ["tune", "-", "--also", "-", "--videos", tmp_path],
        ["baseline", "window", "-", "--fit", "-"],
    ):
        status, out, err = run_zsvg(*arguments)
        assert (status, out) == (1, "")
        assert "only one file can be `-`" in err
    status, _, err = run_zsvg(
        "predict", truth, "--videos", tmp_path, "-m", "nothing", "-o", "a.txt"
    )
    assert (status, err.count("error: ")) == (1, 1)
    assert "a.txt: cannot write .txt" in err
    asked = ["predict", truth, "--videos", tmp_path, "-m", "nothing", "--format", "vtt"]
    assert "vtt holds the moments of one video, not of 2" in run_zsvg(*asked)[2]
    assert run_zsvg("evaluate", truth, truth, "--format", "srt")[0] == 2


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_leaves_early_is_no_accident(truth: Path, tmp_path: Path, unbuffered: str):
    many = tmp_path / "many.jsonl"
    many.write_bytes(truth.read_bytes() * 2000)
    line = ("-m", "zsvg", "baseline", "whole", many, "-o", "-")
    variables = environment(PYTHONUNBUFFERED=unbuffered)
    with started(*line, env=variables, stdout=PIPE, stderr=PIPE) as writer:
        assert writer.stdout.readline()
        writer.stdout.close()
        assert writer.wait(HANG) == 1
        assert b"Traceback" not in writer.stderr.read()


def test_ctrl_c_says_what_to_do_and_ends_with_130(truth: Path, tmp_path: Path):
    slow = tmp_path / "slow.jsonl"
    os.mkfifo(slow)
    with started("-m", "zsvg", "evaluate", truth, slow, stdout=PIPE, stderr=PIPE) as waiting:

        def opened() -> int | None:
            assert waiting.poll() is None, waiting.communicate()
            with suppress(OSError):  # until the command has opened it, in which it then waits
                return os.open(slow, os.O_WRONLY | os.O_NONBLOCK)

        pipe = wait_for(opened)
        waiting.send_signal(signal.SIGINT)
        out, err = waiting.communicate(timeout=HANG)
        os.close(pipe)
    assert (waiting.returncode, out) == (130, b"")
    assert err.decode().strip() == "stopped; the same command continues"


def test_errors_of_the_system_are_one_line_too(run_zsvg, truth: Path, tmp_path: Path):
    status, _, err = run_zsvg("baseline", "whole", truth, "-o", truth / "in-a-file.jsonl")
    assert (status, err.count("\n")) == (1, 1)
    assert "in-a-file" in err or "truth.jsonl" in err
    assert run_zsvg("evaluate", tmp_path, truth)[0] == 1


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("zsvg tune --recipe ma", ["maple"]),
        ("zsvg evaluate a b --protocol charades", ["charades-sta", "charades-sta-cut"]),
        ("zsvg convert nex", ["nextgqa"]),
        ("zsvg features videos --backbone mi", ["micro"]),
        ("zsvg ground videos a --format js", ["jsonl", "json"]),
        ("zsvg quickstart --domain ni", ["night"]),
        ("zsvg cache pr", ["prune"]),
    ],
)
def test_completion(typed: str, offered: list[str]):
    code = "import sys; sys.argv[0] = 'zsvg'; from zsvg.cli.app import main; main()"
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    done = run_python("-c", code, env=environment(**words, _ZSVG_COMPLETE="complete_bash"))
    assert done.stdout.split() == offered, done.stderr


def test_completion_knows_every_way_to_propose_events_and_every_head():
    assert sorted(completion.proposals("")) == sorted(KINDS)
    assert sorted(completion.heads("")) == sorted(HEADS)


def test_version_and_where_an_error_was_raised(truth: Path):
    assert run("--version").stdout.split() == [b"0.1.0"]
    told = run("evaluate", "nowhere.jsonl", truth, "-vv")
    assert told.returncode == 1
    assert b"Traceback" in told.stderr
    assert b"Traceback" not in run("evaluate", "nowhere.jsonl", truth, "-v").stderr
