"""Moments as files that other programs read."""

import csv

import av
import pytest

from zsvg.errors import ZsvgError
from zsvg.grounding.writers import hms, write_moments
from zsvg.records import Annotation, Prediction, read_annotations, read_predictions

PREDICTIONS = [
    Prediction(
        qid=1,
        query='a "red" <circle>,\n\nspins --> left',
        vid="a",
        pred_relevant_windows=((61.25, 3723.5, 0.5), (0.0, 2.0004, 0.1)),
    ),
    Prediction(qid=2, query="a star", vid="b.0", pred_relevant_windows=((1, 2, 1),)),
]


def test_subtitles_are_in_order_and_are_read_by_ffmpeg(tmp_path):
    for suffix, mark in ((".srt", ","), (".vtt", ".")):
        (path,) = write_moments(tmp_path / f"one{suffix}", PREDICTIONS[:1])
        text = path.read_text()
        assert text.index("00:00:00") < text.index(f"00:01:01{mark}250 --> 01:02:03{mark}500")
        with av.open(str(path)) as container:
            packets = [p for p in container.demux() if p.size]
            times = [(float(p.pts * p.time_base), float(p.duration * p.time_base)) for p in packets]
        assert times == [(0.0, 2.0), (61.25, pytest.approx(3662.25))]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0:00:00.0"),
        (12.5, "0:00:12.5"),
        (59.94, "0:00:59.9"),
        (59.96, "0:01:00.0"),
        (3599.96, "1:00:00.0"),
        (3723.25, "1:02:03.2"),
        (360_000, "100:00:00.0"),
        (-0.04, "0:00:00.0"),
        (-61.5, "-0:01:01.5"),
        (float("inf"), "inf"),
    ],
)
def test_times_for_people(seconds, shown):
    assert hms(seconds) == shown


def test_several_videos_are_several_subtitle_files(tmp_path):
    files = write_moments(tmp_path / "all.srt", PREDICTIONS)
    assert [file.name for file in files] == ["all.a.srt", "all.b.0.srt"]
    assert "a star" in files[1].read_text()


def test_csv_and_jsonl_hold_every_window(tmp_path):
    (path,) = write_moments(tmp_path / "all.csv", PREDICTIONS)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["qid"], row["start"], row["score"]) for row in rows] == [
        ("1", "61.25", "0.5"),
        ("1", "0.0", "0.1"),
        ("2", "1.0", "1.0"),
    ]
    assert rows[0]["query"] == PREDICTIONS[0].query
    write_moments(tmp_path / "all.jsonl", PREDICTIONS)
    assert read_predictions(tmp_path / "all.jsonl") == PREDICTIONS
    truth = [Annotation(qid=1, query="q", vid="v", duration=9, relevant_windows=((1, 2), (3, 4)))]
    write_moments(tmp_path / "truth.jsonl", truth)
    assert read_annotations(tmp_path / "truth.jsonl") == truth
    (path,) = write_moments(tmp_path / "truth.csv", truth)
    assert path.read_text().splitlines()[2] == "1,v,q,3.0,4.0,"
    with pytest.raises(ZsvgError, match=r"\.jsonl, .*, \.srt, \.vtt, \.otio, \.edl or \.fcpxml$"):
        write_moments(tmp_path / "all.txt", PREDICTIONS)
