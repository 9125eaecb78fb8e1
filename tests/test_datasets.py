"""Other people's annotation files: every row kept or accounted for, in hand-made and real files."""

import gzip
import json
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from zsvg.cli.app import app
from zsvg.datasets import NAMES, Converted, convert, read_durations
from zsvg.errors import RecordError, ZsvgError
from zsvg.records import Annotation, check_trainable, read_annotations, write_annotations

VIDEO_MAP = {
    "AB12C": {
        "duration": 20.5,
        "timestamps": [[0, 4.5], [6.25, 20.5]],
        "sentences": ["someone waters a fern.", " the fern falls over."],
        "framestamps": [[0, 72], [100, 328]],
        "decode_fps": 16.0,
        "words": ["fern"],
    },
    "DE34F": {"video_duration": 9, "timestamps": [[1, 2]], "sentences": ["a lamp"], "words": [1]},
}
FRAME_MAP = {
    "s01-d02.avi": {
        "timestamps": [[147, 294], [0, 588]],
        "sentences": ["He peels a pear", "He cooks"],
        "fps": 29.4,
        "num_frames": 588,
    }
}
DETR = [
    {
        "qid": 3,
        "query": "a kite above the beach",
        "vid": "_x_1.0_2.0",
        "duration": 150,
        "relevant_windows": [[2, 8], [10, 20]],
        "relevant_clip_ids": [1, 2, 3],
    },
    {"qid": 4, "query": "no windows", "vid": "_x_1.0_2.0", "duration": 150},
    {"qid": 5, "query": "null", "vid": "b", "duration": 9.5, "relevant_windows": None},
]
TVR = [
    {"vid_name": "c_01", "duration": 61.5, "ts": [1, 2.5], "desc": "Ana nods.", "desc_id": 8},
    {"vid_name": "c_01", "duration": 61.5, "desc": "Ana waves.", "desc_id": 9, "type": "v"},
]
TVSUM = [
    {
        "qid": "a",
        "query": "How to fold a boat",
        "vid": "a",
        "duration": 3,
        "relevant_windows": None,
        "label": [[1.0, 2.0], [3.0, 1.0], [5.0, 4.0]],
    }
]
DIDEMO = [
    {
        "num_segments": 6,
        "description": "the duck dives\n",
        "dl_link": "nowhere",
        "times": [[4, 4], [1, 2], [1, 1], [1, 1]],
        "video": "7@N0_123_abc.mov",
        "annotation_id": 71,
    }
]
TEMPO = (
    "video_id,conjugate,event1_description,event2_description,caption,distractor_caption,"
    "event1_start,event1_end,event2_start,event2_end\r\n"
    '7@N0_1.mp4,before,a duck dives,"it swims, then rests",'
    '"a duck dives before it swims, then rests",x,0,5,5,30\r\n'
    "7@N0_1.mp4,after,a duck dives,a boat comes,a boat comes after a duck dives,x,0,5,10,20\r\n"
)
PSVL = [
    {"vid": "AB12C", "duration": 20.0, "timestamp": [0.25, 0.5], "tokens": ["pour", "tea", "cup"]}
]
PSVL_TEST = [{**PSVL[0], "sentence": "tea is poured.", "pos": ["VERB", "NOUN", "NOUN"]}]
NEXTGQA = {
    "990": {"duration": 30, "location": {"2": [[1.5, 4], [8, 9.5]], "10": [[0, 30]]}, "fps": 25},
    "991": {"duration": 12, "location": {}, "fps": 25},
}
QUESTIONS = (
    "video_id,qid,question,answer\n"
    '990,10,"why did he, of all, wave",to say hello\n'
    "990,2,what jumps,a frog\n"
)
RELOC = [
    {"id": "aa", "label": 7, "location": [10, 40], "groundtruth": [5, 15]},
    {"id": "aa", "label": 7, "location": [40, 60], "groundtruth": [0, 4]},
    {"id": "bb", "label": 9, "location": [0, 9], "groundtruth": [1, 2]},
    {"id": "bb", "label": 7, "location": [0, 8], "groundtruth": [2, 4]},
    {"id": "cc", "label": 7, "location": [1, 100], "groundtruth": [0, 99]},
    {"id": "dd", "label": 9, "location": [0, 2], "groundtruth": [0, 2]},
    {"id": "dd", "label": 7, "location": [0, 100], "groundtruth": [7, 8]},
]
# A feature is 16 frames: half a second of aa, a second of bb, and so on.
FRAMES = {vid: {"n_feat": 100, "n_frames": 1600} for vid in ("aa", "bb", "cc", "dd")}
SECONDS = {"aa": 50, "bb": 100, "cc": 200, "dd": 400}
LENGTHS = 'id,script,length\r\nAB12C,a person waits,20.50\r\nDE34F,"one, two\nthree",9\r\n'
CHARADES = "AB12C 0.0 4.5##someone waters a fern.\nDE34F 1 2##a lamp\nAB12C 6.2 20.5##it falls.\n"
SEGMENTS = "s01-d02.avi_147_294:He peels a pear.#He peels: slowly,, then fast.#\n"


def json_lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


# Name of the form, its file, and the file with durations or questions that it needs.
EXAMPLES: dict[str, tuple[str, str, dict[str, str]]] = {
    "charades-sta": ("charades-sta", CHARADES, {"durations": LENGTHS}),
    "viga": ("viga", CHARADES.replace("##", "##1.5##"), {"durations": LENGTHS}),
    "spl": ("spl", CHARADES, {"durations": LENGTHS}),
    "video map": ("activitynet", json.dumps(VIDEO_MAP), {}),
    "frames": ("tacos", json.dumps(FRAME_MAP), {}),
    "segments": ("tacos", SEGMENTS, {"durations": json.dumps(FRAME_MAP)}),
    "didemo": ("didemo", json.dumps(DIDEMO), {}),
    "tempo": ("tempo", TEMPO, {}),
    "qvhighlights": ("qvhighlights", json_lines(DETR), {}),
    "tvr": ("tvr", json_lines(TVR), {}),
    "tvsum": ("tvsum", json_lines(TVSUM), {}),
    "youtube-highlights": ("youtube-highlights", json_lines(DETR[2:]), {}),
    "psvl": ("psvl", json.dumps(PSVL), {}),
    "psvl test": ("psvl", json.dumps(PSVL_TEST), {}),
    "nextgqa": ("nextgqa", json.dumps(NEXTGQA), {"questions": QUESTIONS}),
    "video-reloc": (
        "video-reloc",
        json.dumps(RELOC),
        {"lengths": json.dumps(FRAMES), "durations": json.dumps(SECONDS)},
    ),
}
on_files = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None
)
Convert = Callable[..., Converted]


@pytest.fixture
def converted(tmp_path: Path) -> Convert:
    """Return a function that converts a text; `durations` and `questions` are texts too."""

    def run(name: str, text: str | bytes, *, as_is: bool = False, **others: str | bytes):
        paths = {}
        for key, content in {"file": text, **others}.items():
            paths[key] = tmp_path / key
            paths[key].write_bytes(content.encode() if isinstance(content, str) else content)
        result = convert(name, paths.pop("file"), as_is=as_is, **paths)
        assert len(result.records) + result.dropped == result.rows
        assert len({record.qid for record in result.records}) == len(result.records)
        return result

    return run


def example(converted: Convert, key: str, **options: Any) -> Converted:
    name, text, others = EXAMPLES[key]
    return converted(name, text, **others, **options)


def contents(result: Converted) -> list[tuple[Any, ...]]:
    return [(r.qid, r.query, r.duration, r.relevant_windows) for r in result.records]


def refusal(run: Callable[[], Converted]) -> str:
    with pytest.raises(ZsvgError) as info:
        run()
    assert "\n" not in str(info.value)
    return str(info.value)


# Forms


def test_charades_sta(converted: Convert) -> None:
    result = example(converted, "charades-sta")
    assert contents(result) == [
        ("AB12C-0", "someone waters a fern.", 20.5, ((0, 4.5),)),
        ("DE34F-0", "a lamp", 9, ((1, 2),)),
        ("AB12C-1", "it falls.", 20.5, ((6.2, 20.5),)),
    ]
    assert {record.vid for record in result.records} == {"AB12C", "DE34F"}
    assert result.changes == {}


def test_line_ends_and_bom_are_not_part_of_rows(converted: Convert) -> None:
    plain = example(converted, "charades-sta")
    windows = "\ufeff" + CHARADES.replace("\n", "\r\n")
    assert converted("charades-sta", windows, durations=LENGTHS) == plain
    zipped = gzip.compress(CHARADES.encode())
    assert converted("charades-sta", zipped, durations=gzip.compress(LENGTHS.encode())) == plain


def test_viga_and_spl_keep_what_is_theirs(converted: Convert) -> None:
    plain = contents(example(converted, "charades-sta"))
    viga, spl = example(converted, "viga"), example(converted, "spl")
    assert contents(viga) == contents(spl) == plain
    assert [record.extra for record in viga.records] == [{"glance": 1.5}] * 3
    label = {"source": {"proposals": "spl"}, "weight": 1.0}
    assert [record.extra for record in spl.records] == [label] * 3
    check_trainable(spl.records)


def test_the_wrong_one_of_two_text_forms_is_named(converted: Convert) -> None:
    for name, text, right in [
        ("charades-sta", EXAMPLES["viga"][1], "viga"),
        ("viga", CHARADES, "charades-sta"),
    ]:
        message = refusal(lambda n=name, t=text: converted(n, t, durations=LENGTHS))
        assert message.endswith(f"use the form {right}")
        assert "file:1: " in message


def test_video_map(converted: Convert) -> None:
    result = example(converted, "video map")
    assert contents(result) == [
        ("AB12C-0", "someone waters a fern.", 20.5, ((0, 4.5),)),
        ("AB12C-1", "the fern falls over.", 20.5, ((6.25, 20.5),)),
        ("DE34F-0", "a lamp", 9, ((1, 2),)),
    ]
    # "words" has one item per sentence in one video only, so it is not one of the parallel lists.
    assert result.records[1].extra == {
        "framestamps": [100, 328],
        "decode_fps": 16.0,
        "words": ["fern"],
    }
    assert result.records[2].extra == {"words": [1]}
    assert list(result.changes.values()) == [("qid AB12C-1",)]


@pytest.mark.parametrize(
    "name", ["charades-cd", "charades-cg", "activitynet-cd", "activitynet-cg", "tfvtg"]
)
def test_names_with_the_same_form(converted: Convert, name: str) -> None:
    assert converted(name, json.dumps(VIDEO_MAP)) == example(converted, "video map")


def test_tacos_frames_become_seconds(converted: Convert) -> None:
    result = example(converted, "frames")
    assert [record.vid for record in result.records] == ["s01-d02"] * 2
    assert result.records[0].relevant_windows[0] == pytest.approx((5, 10))
    assert result.records[1].relevant_windows[0] == pytest.approx((0, 20))
    assert result.records[1].duration == pytest.approx(20)
    assert result.records[0].extra == {"fps": 29.4, "num_frames": 588}
    assert "use the form tacos" in refusal(lambda: converted("activitynet", json.dumps(FRAME_MAP)))


def test_tacos_segments_share_their_sentences(converted: Convert) -> None:
    result = example(converted, "segments")
    assert [r.query for r in result.records] == [
        "He peels a pear.",
        "He peels: slowly,, then fast.",
    ]
    assert [r.qid for r in result.records] == ["s01-d02-0", "s01-d02-1"]
    for record in result.records:
        assert record.relevant_windows[0] == pytest.approx((5, 10))
        assert record.duration == pytest.approx(20)
    lengths = json.dumps(FRAME_MAP)
    hole = converted("tacos", "s01-d02.avi_1_2:one##two", durations=lengths)
    assert (hole.rows, len(hole.records)) == (3, 2)


def test_didemo_windows_are_ordered_by_votes(converted: Convert) -> None:
    result = example(converted, "didemo")
    (record,) = result.records
    assert record.relevant_windows == ((5, 10), (5, 15), (20, 25))
    assert (record.vid, record.qid, record.duration) == ("7@N0_123_abc", 71, 30)
    assert record.query == "the duck dives"
    assert record.extra["times"] == DIDEMO[0]["times"]
    assert record.extra["num_segments"] == 6
    (exact,) = example(converted, "didemo", as_is=True).records
    assert exact.query == "the duck dives\n"


def test_tempo_means_the_main_clause(converted: Convert) -> None:
    before, after = example(converted, "tempo").records
    assert before.query == "a duck dives before it swims, then rests"
    assert (before.vid, before.qid, before.duration) == ("7@N0_1", "7@N0_1-0", 30)
    assert before.relevant_windows == ((0, 5),)
    assert before.extra == {
        "conjugate": "before",
        "event1_description": "a duck dives",
        "event2_description": "it swims, then rests",
        "event1": [0, 5],
        "event2": [5, 30],
    }
    assert after.query == "a boat comes after a duck dives"
    assert after.relevant_windows == ((10, 20),)


def test_detr_lines_are_kept(converted: Convert) -> None:
    result = example(converted, "qvhighlights")
    assert contents(result) == [
        (3, "a kite above the beach", 150, ((2, 8), (10, 20))),
        (4, "no windows", 150, ()),
        (5, "null", 9.5, ()),
    ]
    assert result.records[0].vid == "_x_1.0_2.0"
    assert result.records[0].extra == {"relevant_clip_ids": [1, 2, 3]}
    assert result.changes == {}


def test_tvr_names_and_tvsum_durations(converted: Convert) -> None:
    tvr = example(converted, "tvr").records
    assert [(r.qid, r.vid, r.relevant_windows) for r in tvr] == [
        (8, "c_01", ((1, 2.5),)),
        (9, "c_01", ()),
    ]
    assert [r.extra for r in tvr] == [{}, {"type": "v"}]
    for as_is in (False, True):
        tvsum = example(converted, "tvsum", as_is=as_is)
        assert [r.duration for r in tvsum.records] == [6]
        assert tvsum.changes == {"duration doubled: it counted clips of 2 s": ("qid a",)}
    seconds = [{**TVSUM[0], "duration": 6.1}]
    assert converted("tvsum", json_lines(seconds)).changes == {}


def test_psvl_tokens_make_the_query(converted: Convert) -> None:
    (label,) = example(converted, "psvl").records
    assert (label.query, label.relevant_windows) == ("pour tea cup", ((5, 10),))
    assert label.extra["source"] == {"proposals": "psvl"}
    assert label.extra["weight"] == 1.0
    assert label.extra["tokens"] == ["pour", "tea", "cup"]
    (record,) = example(converted, "psvl test").records
    assert record.query == "tea is poured."
    assert set(record.extra) == {"tokens", "pos"}


def test_nextgqa_takes_its_questions_from_a_table(converted: Convert) -> None:
    result = example(converted, "nextgqa")
    assert contents(result) == [
        ("990-2", "what jumps", 30, ((1.5, 4), (8, 9.5))),
        ("990-10", "why did he, of all, wave", 30, ((0, 30),)),
    ]
    assert result.records[0].extra == {"answer": "a frog", "fps": 25}
    text = json.dumps(NEXTGQA)
    assert "give that table as `questions`" in refusal(lambda: converted("nextgqa", text))
    lacking = QUESTIONS.splitlines(keepends=True)[0]
    message = refusal(lambda: converted("nextgqa", text, questions=lacking))
    assert 'video "990": no question "2" in ' in message
    assert "nextgqa only" in refusal(lambda: converted("psvl", json.dumps(PSVL), questions="x"))


def test_video_reloc_asks_for_each_segment_in_the_next_video_of_its_action(
    converted: Convert,
) -> None:
    result = example(converted, "video-reloc")
    assert contents(result) == [
        # Neither aa itself nor bb, whose stretch is 8 features long; cc.
        (0, "aa@7.5-12.5", 200, ((2, 200),)),
        (1, "aa@20.0-22.0", 100, ((2, 4),)),
        (2, "bb@1.0-2.0", 400, ((0, 8),)),
        (3, "bb@2.0-4.0", 200, ((2, 200),)),
        (4, "cc@2.0-200.0", 400, ((28, 32),)),
        (5, "dd@0.0-8.0", 100, ((1, 2),)),
        (6, "dd@28.0-32.0", 50, ((7.5, 12.5),)),
    ]
    assert result.records[6].extra == {"label": 7, "location": [5, 20]}
    text, others = json.dumps(RELOC), EXAMPLES["video-reloc"][2]
    own = {"database": {vid: {"duration": n, "subset": "x"} for vid, n in SECONDS.items()}}
    assert converted("video-reloc", text, **{**others, "durations": json.dumps(own)}) == result
    files = {f"v_{vid}": seconds for vid, seconds in SECONDS.items()}
    named = converted("video-reloc", text, **{**others, "durations": json.dumps(files)}).records
    assert (named[0].vid, named[0].query) == ("v_cc", "v_aa@7.5-12.5")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"groundtruth": [5, 31]}, "row 1: groundtruth [5, 31] must lie in location [10, 40]"),
        ({"groundtruth": [5, 5]}, "row 1: groundtruth [5, 5] must lie"),
        ({"id": "ee"}, 'row 1: video "ee" is not in the durations file'),
        ({"label": 8}, "row 1: no other video with label 8 is as long"),
        ({"label": None}, "row 1: label null must be"),
    ],
)
def test_video_reloc_names_rows(converted: Convert, change: dict[str, Any], problem: str) -> None:
    text = json.dumps([{**RELOC[0], **change}, *RELOC[1:]])
    others = EXAMPLES["video-reloc"][2]
    assert problem in refusal(lambda: converted("video-reloc", text, **others))


def test_video_reloc_needs_lengths(converted: Convert) -> None:
    text, others = json.dumps(RELOC), EXAMPLES["video-reloc"][2]
    for key, value in others.items():
        alone = partial(converted, "video-reloc", text, **{key: value})
        assert "(length.json) and" in refusal(alone)
    message = refusal(lambda: converted("video-reloc", text, **{**others, "lengths": "{}"}))
    assert 'lengths: video "aa": null must be a JSON object' in message
    refused = refusal(lambda: converted("psvl", json.dumps(PSVL), lengths="{}"))
    assert "video-reloc only" in refused


# Durations


@pytest.mark.parametrize(
    "text",
    [
        LENGTHS,
        '{"AB12C": 20.5, "DE34F": 9, "unused": 0}',
        json.dumps(VIDEO_MAP),
        json.dumps({"AB12C.avi": {"num_frames": 410, "fps": 20}, "DE34F": {"duration": 9}}),
        json_lines([{"vid": "AB12C", "duration": 20.5}] * 2 + [{"vid": "DE34F", "duration": 9}]),
        json_lines([{"vid_name": "AB12C", "duration": 20.5}, {"vid_name": "DE34F", "duration": 9}]),
        json.dumps([{"vid": "AB12C", "duration": 20.5}, {"vid": "DE34F", "duration": 9}], indent=1),
    ],
)
def test_durations_come_in_many_forms(converted: Convert, text: str) -> None:
    assert converted("charades-sta", CHARADES, durations=text) == example(converted, "charades-sta")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"AB12C": 20.5}', '"DE34F" is not in the durations file; add its seconds'),
        ('{"AB12C": 20.5, "DE34F": 0}', 'duration 0 of video "DE34F" must be more than 0'),
        ('{"AB12C": "25"}', 'video "AB12C": duration "25" must be a number'),
        ('{"AB12C": 1, "AB12C": 2}', 'the key "AB12C" is there twice'),
        ('{"AB12C": {"n_frames": 9}}', 'the keys are ["n_frames"]'),
        ('{"AB12C": {"num_frames": 9, "fps": 0}}', "fps 0 must be more than 0"),
        ('{"vid": "a", "duration": 1}\n{"vid": "a", "duration": 2}', "two durations, 1 and 2 s"),
        ("id,length\nAB12C,nan", 'length "nan" must be a finite number'),
        ("id,length\nAB12C", "not 2 fields as in the header"),
        ("id,length\nAB12C,1,2", "not 2 fields as in the header"),
        ('id,length\n"AB12C,1', "not CSV"),
        ("name,seconds\nAB12C,20", "must have id, length, each once"),
        ("", "must have id, length, each once"),
    ],
)
def test_bad_durations(converted: Convert, text: str, problem: str) -> None:
    assert problem in refusal(lambda: converted("charades-sta", CHARADES, durations=text))


def test_missing_durations_say_what_to_pass(converted: Convert) -> None:
    for name, text in [("charades-sta", CHARADES), ("tacos", SEGMENTS)]:
        assert "pass a file of them as durations" in refusal(lambda n=name, t=text: converted(n, t))


def test_given_durations_replace_those_of_the_file(converted: Convert) -> None:
    text = json.dumps(VIDEO_MAP)
    result = converted("activitynet", text, durations='{"AB12C": 18.5, "DE34F": 9.0}')
    assert [record.duration for record in result.records] == [18.5, 18.5, 9]
    names = result.changes["duration replaced by the one of the durations file"]
    assert names == ("qid AB12C-0", "qid AB12C-1")
    assert result.changes["end cut to the duration"] == ("AB12C 6.25 20.5 (18.5 s)",)


# Rules

ODD = [  # vid, start, end, sentence; the video has 10 s
    ("a", -1, 4, "early"),
    ("a", 4, 12, "late"),
    ("a", 5, 5, "empty"),
    ("a", 7, 6, "backwards"),
    ("a", 10, 12, "outside"),
    ("a", -3, 0, "before"),
    ("a", 1, 2, " two  words\n"),
    ("a", 1, 2, " \n "),
    ("a", 1, 2, "two words"),
    ("a", 1, 10.0000000001, "rounding"),
]


def odd_lines(rows: list[tuple[str, float, float, str]], duration: float = 10) -> str:
    return json_lines(
        [
            {"qid": n, "query": q, "vid": v, "duration": duration, "relevant_windows": [[s, e]]}
            for n, (v, s, e, q) in enumerate(rows)
        ]
    )


def test_rows_are_repaired_or_dropped_and_named(converted: Convert) -> None:
    result = converted("qvhighlights", odd_lines(ODD))
    assert [(r.query, r.relevant_windows) for r in result.records] == [
        ("early", ((0, 4),)),
        ("late", ((4, 10),)),
        ("two words", ((1, 2),)),
        ("two words", ((1, 2),)),
        ("rounding", ((1, 10.0000000001),)),
    ]
    assert result.changes == {
        "start raised to 0": ("a -1 4 (10 s)",),
        "end cut to the duration": ("a 4 12 (10 s)",),
        "dropped: start is not before end": ("a 5 5 (10 s)", "a 7 6 (10 s)"),
        "dropped: window is outside the video": ("a 10 12 (10 s)", "a -3 0 (10 s)"),
        "white space of the sentence made single spaces": ("qid 6",),
        "dropped: sentence is blank": ("qid 7",),
        "noticed: same video, sentence and windows as an earlier row": ("qid 8 as 6",),
    }
    assert (result.rows, result.dropped) == (10, 5)


def test_as_is_keeps_everything_and_names_what_is_odd(converted: Convert) -> None:
    result = converted("qvhighlights", odd_lines(ODD), as_is=True)
    kept = [(r.vid, *r.relevant_windows[0], r.query) for r in result.records]
    assert kept == ODD
    assert {key: len(names) for key, names in result.changes.items()} == {
        "noticed: start is before 0": 2,
        "noticed: end is after the video": 2,
        "noticed: start is not before end": 2,
        "noticed: window is outside the video": 2,
        "noticed: sentence has white space around it, doubled, or a line feed": 1,
        "noticed: sentence is blank": 1,
    }


def test_one_bad_window_of_several_is_left_out(converted: Convert) -> None:
    row = {**DETR[0], "relevant_windows": [[2, 8], [9, 9], [140, 160], [150, 151]]}
    result = converted("qvhighlights", json_lines([row]))
    assert result.records[0].relevant_windows == ((2, 8), (140, 150))
    assert result.changes == {
        "window left out: start is not before end": ("_x_1.0_2.0 9 9 (150 s)",),
        "end cut to the duration": ("_x_1.0_2.0 140 160 (150 s)",),
        "window left out: window is outside the video": ("_x_1.0_2.0 150 151 (150 s)",),
    }
    hopeless = {**DETR[0], "relevant_windows": [[9, 9], [150, 151]]}
    result = converted("qvhighlights", json_lines([hopeless]))
    assert result.changes == {"dropped: start is not before end": ("_x_1.0_2.0 9 9 (150 s)",)}


times = st.floats(-5, 40) | st.integers(-5, 40) | st.sampled_from([0, 30, 30.0000001])
sentences = st.text(st.sampled_from("ab \n\u2028\u00a0"), max_size=6)
videos = st.dictionaries(
    st.sampled_from(["a", "a-1", "v_b", "ä\n"]),
    st.lists(st.tuples(times, times, sentences), max_size=5),
    min_size=1,
)


@on_files
@given(videos=videos)
def test_every_row_is_kept_or_named(converted: Convert, tmp_path: Path, videos) -> None:
    rows = [(vid, *row) for vid, entries in videos.items() for row in entries]
    text = json.dumps(
        {
            vid: {
                "duration": 30,
                "timestamps": [row[:2] for row in entries],
                "sentences": [row[2] for row in entries],
            }
            for vid, entries in videos.items()
        }
    )
    if not rows:
        assert "no queries" in refusal(lambda: converted("activitynet", text))
        return
    exact = converted("activitynet", text, as_is=True)
    assert [(r.vid, *r.relevant_windows[0], r.query) for r in exact.records] == rows
    assert all(key.startswith("noticed: ") for key in exact.changes)
    result = converted("activitynet", text)
    assert result.rows == exact.rows == len(rows)
    written = {record.qid: record for record in exact.records}
    for record in result.records:
        ((start, end),), ((first, last),) = (
            record.relevant_windows,
            written[record.qid].relevant_windows,
        )
        assert first <= start < end <= last
        assert (start, end) == (max(first, 0), end if end == last else 30)
        assert record.query == " ".join(written[record.qid].query.split())
    check_trainable(result.records)
    if result.records:
        write_annotations(tmp_path / "out.jsonl", result.records)
        again = convert("qvhighlights", tmp_path / "out.jsonl")
        assert (
            list(again.records) == list(result.records) == read_annotations(tmp_path / "out.jsonl")
        )
        assert all(key.startswith("noticed: same") for key in again.changes)


# Malformed files


def damaged(text: bytes, draw: Callable[..., Any]) -> bytes:
    """Cut a file off, or replace a part of it."""
    start = draw(st.integers(0, len(text)))
    end = draw(st.sampled_from([len(text), start, start + 1, start + 5]))
    junk = st.sampled_from([b"", b"null", b"NaN", b"-", b"1e999", b"9" * 400, b'"', b"[[", b"\xff"])
    rest = b"" if draw(st.booleans()) else text[end:]
    return text[:start] + draw(junk | st.binary(max_size=4)) + rest


values = st.sampled_from(
    [
        None,
        True,
        -1,
        0,
        10**400,
        1e308,
        5e-324,
        "",
        "x\ny",
        [],
        [[]],
        {},
        [1, 2],
        [[1, 2]],
        "\ud800",
    ]
)


def replaced(value: Any, draw: Callable[..., Any]) -> Any:
    """Return JSON with one value somewhere in it replaced, or one key renamed."""
    if not isinstance(value, (dict, list)) or not value or draw(st.integers(0, 5)) == 0:
        return draw(values)
    if isinstance(value, list):
        spot = draw(st.integers(0, len(value) - 1))
        return [replaced(v, draw) if n == spot else v for n, v in enumerate(value)]
    key = draw(st.sampled_from(sorted(value)))
    if draw(st.integers(0, 5)) == 0:
        names = st.sampled_from(["qid", "query", "vid", "duration", "x\ny", "num_frames", "\ud800"])
        return {draw(names) if name == key else name: v for name, v in value.items()}
    return {name: replaced(v, draw) if name == key else v for name, v in value.items()}


@pytest.mark.parametrize("key", EXAMPLES)
@on_files
@given(data=st.data())
def test_damage_gives_one_line_or_records(converted: Convert, key: str, data) -> None:
    name, text, others = EXAMPLES[key]
    files = {"text": text.encode(), **{key: other.encode() for key, other in others.items()}}
    victim = data.draw(st.sampled_from(sorted(files)))
    kind = data.draw(st.sampled_from(["bytes", "gzip", "json"]))
    if kind == "json" and files[victim][:1] in (b"{", b"["):
        lines = [json.loads(line) for line in files[victim].splitlines()]
        files[victim] = b"".join(json.dumps(replaced(line, data.draw)).encode() for line in lines)
    elif kind == "gzip":
        files[victim] = damaged(gzip.compress(files[victim], mtime=0), data.draw)
    else:
        files[victim] = damaged(files[victim], data.draw)
    for as_is in (False, True):
        message = ""
        try:
            converted(name, as_is=as_is, **files)
        except RecordError as error:
            message = str(error)
        assert "\n" not in message
        assert len(message) < 600


HOPELESS = [
    b"",
    b"\n \n",
    b"{}",
    b"[]",
    b"null",
    b"\xff\xfe",
    b"\x1f\x8b",
    b"\x00" * 9,
    b"1" * 5000,
]
HOPELESS += [b"[" * 100_000, b'{"a":' * 100_000, b'{"a": NaN}', b'"\\ud800"']


@pytest.mark.parametrize("key", EXAMPLES)
def test_hopeless_files(converted: Convert, key: str) -> None:
    name, text, others = EXAMPLES[key]
    for content in HOPELESS:
        for victim in ("text", *others):
            files = {"text": text, **others, victim: content}
            assert refusal(lambda f=files: converted(name, **f))


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("charades-sta", "AB12C 0.0##no end", 'file:1: "AB12C 0.0##no end" is not "VID start end'),
        ("charades-sta", CHARADES + "AB12C 1_0 20##x", 'file:4: start "1_0" must be a finite numb'),
        ("charades-sta", "AB12C 1 1e999##x", 'end "1e999" must be a finite number'),
        ("viga", "AB12C 1 2##nan##x", 'file:1: glance "nan" must be a finite number'),
        ("tacos", "s01_1_2 no colon", 'file:1: "s01_1_2 no colon" is not "VIDEO_start_end:'),
        ("qvhighlights", '{"qid": true}', "file:1: qid true must be a whole number or a string"),
        ("qvhighlights", json_lines([DETR[0], DETR[0]]), "file:2: the identifier 3 is used before"),
        ("tvr", '{"qid": 1, "pred_relevant_windows": []}', "file:1: this is a prediction"),
        ("tempo", TEMPO.replace("before,", "during,"), 'file:2: conjugate "during" must be one of'),
        ("tempo", TEMPO.replace("event1_end", "end"), "file:1: the header "),
        ("tempo", TEMPO.replace(",0,5,5", ",0,x,5"), 'file:2: event1_end "x" must be a finite'),
        ("didemo", '[{"times": [[0.5, 1]]}]', "file: row 1: times 0.5 must be a whole number"),
        (
            "activitynet",
            '{"v": {"duration": 3, "sentences": ["a"], "timestamps": []}}',
            'file: video "v": 0 timestamps for 1 sentences',
        ),
        (
            "activitynet",
            '{"v": {"duration": 3, "sentences": [4], "timestamps": [[1, 2]]}}',
            'file: video "v", row 1: sentence 4 must be a string',
        ),
        (
            "activitynet",
            '{"v": {"duration": 3, "sentences": [], "timestamps": []}, "v": {}}',
            'the key "v" is there twice',
        ),
        (
            "activitynet",
            '{"v": {"duration": 3, "qid": 1, "sentences": ["a"], "timestamps": [[1, 2]]}}',
            'extra has the key "qid", which is a field of the record; rename the key',
        ),
        (
            "tacos",
            '{"v": {"fps": 1e-9, "num_frames": 1e300, "sentences": ["a"], "timestamps": [[1, 2]]}}',
            "a time is too large for a number of seconds",
        ),
        (
            "psvl",
            '[{"vid": "a", "duration": 1}]',
            'file: row 1: no "timestamp"; the keys are ["dur',
        ),
        ("mad", "", "unknown annotation form 'mad'; the forms are charades-sta, viga,"),
    ],
)
def test_messages_name_file_row_and_value(
    converted: Convert, name: str, text: str, problem: str
) -> None:
    assert problem in refusal(lambda: converted(name, text, durations=LENGTHS))


def test_missing_files(tmp_path: Path) -> None:
    for name in NAMES:
        with pytest.raises(FileNotFoundError):
            convert(name, tmp_path / "no", questions=tmp_path / "no" if name == "nextgqa" else None)
    (tmp_path / "yes").write_text(CHARADES)
    with pytest.raises(FileNotFoundError):
        convert("charades-sta", tmp_path / "yes", durations=tmp_path / "no")


def test_work_grows_with_the_rows(converted: Convert) -> None:
    def calls(rows: int) -> int:
        lines = "".join(f"AB12C {n % 10} {n % 10 + 5}##sentence number {n}\n" for n in range(rows))
        seen: Counter[str] = Counter()
        sys.setprofile(lambda frame, event, _: seen.update([event]))
        try:
            records = converted("spl", lines, durations=LENGTHS).records
        finally:
            sys.setprofile(None)
        assert len(records) == rows
        return seen["call"] + seen["c_call"]

    calls(10)  # imports
    assert calls(4_000) < 25 * calls(200)  # 20 times the rows; a look at every pair would be 400


# Real files: counts and oddities as the README of the test data states them

LATE, CUT = "noticed: end is after the video", "end cut to the duration"
BACKWARDS, OUTSIDE = "start is not before end", "window is outside the video"
AGAIN = "noticed: same video, sentence and windows as an earlier row"
# form, file, rows, videos, windows that end after the video, rows dropped
REAL = """
charades-cd charades_cd/charades_train.json.gz 11071 4564 1652 0
charades-cd charades_cd/charades_val.json 859 333 135 0
charades-cd charades_cd/charades_test_iid.json 823 333 151 0
charades-cd charades_cd/charades_test_ood.json 3375 1442 348 3
charades-cg charades_cg/train.json 8281 3555 1255 0
charades-cg charades_cg/test_trivial.json 3096 1689 412 0
charades-cg charades_cg/novel_composition.json 3442 2480 452 0
activitynet activitynet_captions/train.json.gz 37421 10009 29 4
activitynet activitynet_captions/val.json.gz 17505 4917 5 0
activitynet activitynet_captions/test.json.gz 17031 4885 1 0
activitynet-cd activitynet_cd/anet_val.json 3521 746 4 0
activitynet-cd activitynet_cd/anet_test_iid.json 3443 746 2 0
activitynet-cg activitynet_cg/test_trivial.json.gz 15712 4775 3 0
activitynet-cg activitynet_cg/novel_composition.json.gz 12028 4202 3 0
activitynet-cg activitynet_cg/novel_word.json.gz 3920 1991 1 0
tfvtg charades_sta/tfvtg/charades_test.json 3720 1334 562 0
tfvtg charades_sta/tfvtg/llm_outputs.json.gz 3720 1334 562 0
tacos tacos/train.json 9790 75 43 0
tacos tacos/val.json 4436 27 0 0
tacos tacos/test.json 4001 25 5 0
didemo didemo/val_data.json.gz 4180 1065 0 0
didemo didemo/test_data.json.gz 4021 1004 0 0
tempo tempo/tempotl_didemo_test.csv 987 387 0 0
qvhighlights qvhighlights/highlight_train_release.jsonl.gz 7218 7100 0 0
qvhighlights qvhighlights/highlight_val_release.jsonl 1550 1519 0 0
qvhighlights qvhighlights/highlight_test_release.jsonl 1542 1529 0 0
qvhighlights tacos/tacos_test_release.jsonl.gz 4001 25 0 0
qvhighlights charades_sta/charades_train_release.jsonl.gz 12404 5336 0 0
qvhighlights charades_sta/charades_test_release.jsonl 3720 1334 0 0
tvr tvr/tvr_val_release.jsonl.gz 10895 2179 0 0
tvsum tvsum/tvsum_train_release.jsonl 40 40 0 0
tvsum tvsum/tvsum_val_release.jsonl 10 10 0 0
youtube-highlights youtube_highlights/youtube_highlight_train_release.jsonl 233 233 0 0
youtube-highlights youtube_highlights/youtube_highlight_val_release.jsonl 152 152 0 0
psvl charades_sta/psvl/charades_train_pseudo_supervision_TEP_PS.json.gz 12523 3170 0 0
psvl charades_sta/psvl/charades_sta_test_pos_original_simple_sent.json 3720 1334 562 0
"""


@pytest.fixture(scope="module")
def annotations_folder(data_folder: Path) -> Path:
    return data_folder / "annotations"


def both(name: str, path: Path, **others: Path) -> tuple[Converted, Converted]:
    """Return the rows as they are, and repaired, after checks that hold for all of them."""
    exact, result = (convert(name, path, as_is=as_is, **others) for as_is in (True, False))
    assert len(exact.records) == exact.rows == result.rows == len(result.records) + result.dropped
    check_trainable([record for record in result.records if record.relevant_windows])
    assert not any(record.query != " ".join(record.query.split()) for record in result.records)
    return exact, result


def count(result: Converted, change: str) -> int:
    return len(result.changes.get(change, ()))


def video_count(records: tuple[Annotation, ...]) -> int:
    return len({record.vid for record in records})


@pytest.mark.parametrize("line", REAL.strip().splitlines())
def test_real_files(annotations_folder: Path, line: str) -> None:
    name, file, *numbers = line.split()
    rows, videos, late, dropped = map(int, numbers)
    exact, result = both(name, annotations_folder / file)
    assert (exact.rows, video_count(exact.records)) == (rows, videos)
    assert count(exact, LATE) == late
    assert result.dropped == dropped
    for fault in (BACKWARDS, OUTSIDE):
        assert count(exact, f"noticed: {fault}") == count(result, f"dropped: {fault}")
    assert not any(key.startswith("window left out") for key in result.changes)
    if file.startswith("tacos/"):
        assert count(exact, AGAIN) == {9790: 1201, 4436: 516, 4001: 567}[rows]
        spaced = sum(record.query != record.query.strip() for record in exact.records)
        assert spaced == {9790: 21, 4436: 12, 4001: 20}[rows]


@pytest.fixture(scope="module")
def official_lengths(annotations_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Durations of the 5338 training videos.

    The official table of the training videos is not in the folder. Lighthouse's file has its
    lengths but lacks two videos, whose rows it dropped; Charades-CD has those, to 0.1 s.
    """
    lengths = read_durations(annotations_folder / "charades_sta/charades_train_release.jsonl.gz")
    others = read_durations(annotations_folder / "charades_cd/charades_test_ood.json")
    lengths.update({vid: others[vid] for vid in ("AKKWU", "LEOL6")})
    path = tmp_path_factory.mktemp("lengths") / "train.json"
    path.write_text(json.dumps(lengths), encoding="utf-8")
    return path


def test_real_charades_sta_train(annotations_folder: Path, official_lengths: Path) -> None:
    path = annotations_folder / "charades_sta/charades_sta_train.txt"
    exact, result = both("charades-sta", path, durations=official_lengths)
    assert (exact.rows, video_count(exact.records)) == (12408, 5338)
    assert count(exact, LATE) == 1805
    assert count(result, CUT) == 1802  # three of the late ones are among the four dropped
    assert [name.rsplit(" (")[0] for name in result.changes[f"dropped: {BACKWARDS}"]] == [
        "LEOL6 8 7",
        "IOL8Q 20.9 12",
        "AKKWU 38 13",
        "AKKWU 38 13",
    ]
    release = convert(
        "qvhighlights", annotations_folder / "charades_sta/charades_train_release.jsonl.gz"
    )
    assert Counter((r.vid, r.query, r.duration, r.relevant_windows) for r in result.records) == (
        Counter((r.vid, r.query, r.duration, r.relevant_windows) for r in release.records)
    )
    repaired = annotations_folder / "charades_sta/vslnet_charades_sta_train.txt.gz"
    _, result = both("charades-sta", repaired, durations=official_lengths)
    assert len(result.records) == 12408


def test_real_charades_sta_test(annotations_folder: Path) -> None:
    folder = annotations_folder / "charades_sta"
    official, drn = folder / "Charades_v1_test.csv.gz", folder / "Charades_duration.json"
    exact, result = both("charades-sta", folder / "charades_sta_test.txt", durations=official)
    assert (exact.rows, video_count(exact.records), len(result.records)) == (3720, 1334, 3720)
    assert count(exact, LATE) == count(result, CUT) == 562
    assert sum(r.relevant_windows[0][1] > r.duration + 1 for r in exact.records) == 228
    other, _ = both("charades-sta", folder / "charades_sta_test.txt", durations=drn)
    assert count(other, LATE) == 543
    viga, _ = both("viga", folder / "glance/charades_sta_test.txt", durations=official)
    assert [(r.vid, r.query, r.relevant_windows) for r in viga.records] == [
        (r.vid, r.query, r.relevant_windows) for r in exact.records
    ]
    assert all(
        start - 0.051 <= record.extra["glance"] <= end + 0.051
        for record in viga.records
        for start, end in record.relevant_windows
    )
    tgn, _ = both("tfvtg", folder / "eval_samples/tgn/test.json", durations=official)
    assert tgn.rows == 3720


def test_real_spl(annotations_folder: Path) -> None:
    folder = annotations_folder / "charades_sta"
    path = folder / "spl/charades_sta_train_pseudo.txt.gz"
    result = convert("spl", path, durations=folder / "Charades_duration.json")
    assert (result.rows, video_count(result.records), len(result.records)) == (48342, 4842, 48342)


def test_real_tacos_text(annotations_folder: Path, tmp_path: Path) -> None:
    lengths = {}
    for part in ("train", "val", "test"):
        lengths.update(read_durations(annotations_folder / f"tacos/{part}.json"))
    (tmp_path / "lengths.json").write_text(json.dumps(lengths), encoding="utf-8")
    for file, rows, videos in [
        ("tacos_train_0_74.txt.gz", 10146, 75),
        ("tacos_val_75_99.txt", 4083, 25),
        ("tacos_test_100_126.txt", 4589, 27),
    ]:
        path = annotations_folder / "tacos/tall" / file
        exact, result = both("tacos", path, durations=tmp_path / "lengths.json")
        assert (exact.rows, video_count(exact.records), result.dropped) == (rows, videos, 0)


def test_real_nextgqa(annotations_folder: Path) -> None:
    folder = annotations_folder / "nextgqa"
    exact, result = both("nextgqa", folder / "gsub_val.json", questions=folder / "val.csv.gz")
    # 570 videos are in the file; three of them have no question.
    assert (exact.rows, video_count(exact.records)) == (3358, 567)
    assert count(exact, LATE) == count(result, CUT) == 3
    with pytest.raises(RecordError, match="no question"):
        convert("nextgqa", folder / "gsub_test.json", questions=folder / "val.csv.gz")


def test_real_video_reloc(annotations_folder: Path, tmp_path: Path) -> None:
    folder = annotations_folder / "video_reloc"
    lengths = folder / "length.json.gz"
    frames = json.loads(gzip.decompress(lengths.read_bytes()))
    # ActivityNet's file of durations is not here; at 25 frames a second they would be these.
    durations = {vid: of["n_frames"] / 25 for vid, of in frames.items()}
    (tmp_path / "durations.json").write_text(json.dumps(durations), encoding="utf-8")
    more = {"lengths": lengths, "durations": tmp_path / "durations.json"}
    for file, rows in (("train.json.gz", 7593), ("val.json", 829), ("test.json", 978)):
        result = convert("video-reloc", folder / file, **more)
        assert (result.rows, result.dropped) == (rows, 0)
        for record in result.records:
            ((start, end),) = record.relevant_windows
            first, last = record.extra["location"]
            assert first <= start < end <= last <= record.duration
            assert not record.query.startswith(f"{record.vid}@")
    # The first row of test.json: features 44 to 71 of 16 frames.
    assert result.records[0].query == "rs7er4e67ec@28.16-45.44"


def test_real_tvsum_durations_become_seconds(annotations_folder: Path) -> None:
    result = convert("tvsum", annotations_folder / "tvsum/tvsum_val_release.jsonl")
    durations = {record.vid: record.duration for record in result.records}
    assert durations["sTEELN-vY30"] == 148
    assert count(result, "duration doubled: it counted clips of 2 s") == 10


def test_real_fps_table_is_not_taken_for_durations(annotations_folder: Path) -> None:
    with pytest.raises(RecordError, match="must be a number"):
        read_durations(annotations_folder / "charades_sta/Charades_fps_dict.json")


def test_the_command_names_every_row_it_changed(tmp_path: Path) -> None:
    source, report = tmp_path / "test.txt", tmp_path / "report.json"
    source.write_text("".join(f"AB12C {n} {n + 1}##query {n}\n" for n in range(12)))
    (tmp_path / "lengths.json").write_text('{"AB12C": 6.5}')
    arguments = ["convert", "charades-sta", str(source), "--report", str(report)]
    arguments += ["--durations", str(tmp_path / "lengths.json"), "-o", str(tmp_path / "out.jsonl")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    changes = json.loads(report.read_text())
    kept = read_annotations(tmp_path / "out.jsonl")
    (cut,) = (rows for change, rows in changes.items() if change.startswith("end cut"))
    (gone,) = (rows for change, rows in changes.items() if change.startswith("dropped"))
    assert len(cut) == 1
    assert len(gone) == 12 - len(kept) == 5
    assert f"{len(gone)} (" in done.output
