"""Pseudo labels of what is said: lines over the events in which they are seen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from zsvg.microworld.world import truth, write_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos in which somebody tells what happens, while it does, and talks of other videos."""
    folder = tmp_path_factory.mktemp("told")
    write_world(folder, domain="studio", videos=12, seed=4, annotations=False)
    told: dict[str, list[tuple[float, float, str]]] = {}
    records = [r for r in truth("studio", "train", 4, 12) if len(r.relevant_windows) == 1]
    for place, record in enumerate(records):
        ((start, end),) = record.relevant_windows
        told.setdefault(record.vid, []).append((start, end, record.query))
        other = records[(place + len(records) // 2) % len(records)]
        told[record.vid].append((start, end, f"{other.query} somewhere else"))
    for vid, lines in told.items():
        cues = [f"{_time(s)} --> {_time(e)}\n{text}\n" for s, e, text in sorted(lines)]
        (folder / "videos" / f"{vid}.vtt").write_text("WEBVTT\n\n" + "\n".join(cues))
    return folder / "videos"


def _time(seconds: float) -> str:
    whole, milli = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}.{milli:03}"


@pytest.mark.numeric
def test_lines_that_are_seen_become_labels(world: Path, tmp_path: Path, run_zsvg):
    labels = tmp_path / "labels.jsonl"
    status, _, error = run_zsvg(
        "pseudo-label", world, "--backbone", "micro", "--form", "subtitles", "-o", labels
    )
    assert status == 0, error
    made = [json.loads(line) for line in labels.read_text().splitlines()]
    said = {record["query"] for record in made}
    assert made
    assert {record["source"]["form"] for record in made} == {"subtitles"}
    # Half of the lines are about other videos; of those that are kept, few.
    elsewhere = [query for query in said if query.endswith("somewhere else")]
    assert len(elsewhere) < len(said) / 4
    for record in made:
        ((start, end),) = record["relevant_windows"]
        assert 0 <= start < end <= record["duration"]


def test_without_words_there_are_no_labels(tmp_path: Path, run_zsvg):
    write_world(tmp_path / "world", domain="studio", videos=1, seed=1, annotations=False)
    label = (
        "pseudo-label",
        "--backbone",
        "micro",
        "--form",
        "subtitles",
        "-o",
        tmp_path / "l.jsonl",
    )
    status, _, error = run_zsvg(*label, tmp_path / "world" / "videos")
    assert status == 1
    assert "there are no words to label with" in error
    assert "no subtitles beside or in it" in error
    status, _, error = run_zsvg(
        *label[:4], "vocabulary", "--speech", "x/y", tmp_path / "world" / "videos"
    )
    assert status == 1
    assert "--speech x/y has no meaning for this form" in error
    (tmp_path / "f").mkdir()
    np.save(tmp_path / "f" / "v.npy", np.eye(4, 64, dtype=np.float32))
    status, _, error = run_zsvg(*label, "--features", tmp_path / "f", "--clip-seconds", "1")
    assert status == 1
    assert "--form subtitles reads videos" in error
