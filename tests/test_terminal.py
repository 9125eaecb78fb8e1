"""What reaches a terminal: no control characters of other people's names and sentences."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import sys
from pathlib import Path

import pytest

from zsvg.cli import terminal
from zsvg.grounding.writers import moments_text
from zsvg.records import (
    Annotation,
    Prediction,
    read_predictions,
    to_jsonl,
    write_annotations,
    write_predictions,
)

EVIL = "a\x1b[31mred\x1b]0;title\x07\r\nerror: fake\x00\x7f\x9b2J\u202egnp\u2028\udcff\tz"
SHOWN = r"a\x1b[31mred\x1b]0;title\x07\r\nerror: fake\x00\x7f\x9b2J\u202egnp\u2028\udcff\tz"
CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e\ud800-\udfff]")


def test_what_is_visible_stays_as_it_is() -> None:
    text = "[bold]caf\u00e9[/] \u65e5\u672c \U0001f600 :fire: \\x1b 100%\u200d\u00a0"
    assert terminal.visible(text) == text
    assert terminal.visible(EVIL) == SHOWN


def test_lines_tables_logs_and_bars(capsys, monkeypatch) -> None:
    terminal.say(f"error: {EVIL} [red] :fire:")
    assert capsys.readouterr().err == f"error: {SHOWN} [red] :fire:\n"
    terminal.table(["video", f"n{EVIL}"], [[EVIL, "1"]], title=f"{EVIL}[x]")
    out = capsys.readouterr().out
    assert out.count(SHOWN) == 3
    assert not CONTROLS.search(out)
    handler = terminal._Lines()
    handler.setFormatter(terminal._OneLine("%(name)s: %(message)s"))
    log = logging.getLogger("zsvg.test_terminal")
    log.addHandler(handler)
    log.propagate = False
    try:
        raise ValueError(EVIL)
    except ValueError:
        log.exception("about %s", EVIL)
    err = capsys.readouterr().err
    assert err.startswith(f"zsvg.test_terminal: about {SHOWN}\nTraceback (most")
    assert not CONTROLS.search(err)
    with terminal.progress(EVIL, 1) as advance:
        advance(1)
    assert not CONTROLS.search(capsys.readouterr().err)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    name = EVIL.replace("\udcff", "")  # a file of records has no such halves
    records = [
        Annotation(qid=name, query=name, vid=name, duration=9, relevant_windows=((1, 2),)),
        Annotation(qid="plain", query="q", vid="w", duration=9, relevant_windows=((1, 2),)),
    ]
    paths = {"true": tmp_path / "true.jsonl", "given": tmp_path / "given.jsonl"}
    write_annotations(paths["true"], records)
    guesses = [
        Prediction(qid=r.qid, query=r.query, vid=r.vid, pred_relevant_windows=((1, 2, 0.5),))
        for r in records
    ]
    write_predictions(paths["given"], guesses)
    return paths


def test_commands_show_no_control_characters(files: dict[str, Path], tmp_path, run_zsvg) -> None:
    shown = []
    status, out, err = run_zsvg("baseline", "whole", files["true"], "--format", "table")
    assert status == 0
    shown += [out, err]
    status, out, err = run_zsvg("convert", "qvhighlights", files["true"], "-o", tmp_path / "o.csv")
    assert (status, "white space" in err) == (0, True)
    shown += [out, err]
    missing = tmp_path / EVIL.replace("\x00", "").replace("/", "")
    for arguments in (
        ["evaluate", missing, files["true"]],
        ["evaluate", files["given"], files["true"], "--protocol", EVIL],
        ["baseline", EVIL, files["true"]],
        ["audit", files["true"], missing],
    ):
        status, out, err = run_zsvg(*arguments)
        assert (status, out) == (1, "")
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        shown.append(err)
    for arguments in (
        ["evaluate", EVIL],
        ["evaluate", "a", "b", EVIL],
        [EVIL],
        ["audit", "--" + EVIL],
    ):
        status, out, err = run_zsvg(*arguments)
        assert status == 2
        shown += [out, err]
    assert not any(map(CONTROLS.search, shown))


def test_json_and_csv_keep_what_they_hold(files: dict[str, Path], run_zsvg) -> None:
    records = read_predictions(files["given"])
    assert not CONTROLS.search(to_jsonl(records).replace("\u2028", "").replace("\u202e", ""))
    for form in ("json", "jsonl", "csv"):
        text = moments_text(records, form)
        if form == "csv":
            rows = list(csv.DictReader(io.StringIO(text, newline="")))
        else:
            rows = (
                json.loads(text) if form == "json" else list(map(json.loads, text.split("\n")[:-1]))
            )
        assert [row["vid"] for row in rows] == [record.vid for record in records]
    status, out, _ = run_zsvg("baseline", "whole", files["true"], "--format", "json")
    assert (status, json.loads(out)[0]["vid"]) == (0, records[0].vid)


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_subtitles_lose_control_characters(form: str) -> None:
    record = Prediction(qid=0, query=EVIL, vid="v", pred_relevant_windows=((1, 2, 0.5),))
    text = moments_text([record], form)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]", text)
    assert "a[31mred]0;title error: fake2J\u202egnp z\n" in text


def test_stdout_of_a_narrow_encoding_is_no_obstacle_to_names(monkeypatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    monkeypatch.setattr(sys, "stdout", stream)
    terminal.table(["video"], [["\udcff.mp4"]])
    stream.flush()
    assert rb"\udcff.mp4" in stream.buffer.getvalue()
