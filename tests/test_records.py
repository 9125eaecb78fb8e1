"""Records: what is written is read back, and whatever else a file holds gives one clear error."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zsvg.errors import RecordError
from zsvg.records import (
    Annotation,
    Prediction,
    check_trainable,
    read_annotations,
    read_predictions,
    write_annotations,
    write_predictions,
)

GOOD = {
    "qid": 7,
    "query": "a red circle appears",
    "vid": "a",
    "duration": 12,
    "relevant_windows": [[1, 4.5]],
}
GUESS = {"qid": "7", "query": "q", "vid": "a", "pred_relevant_windows": [[1, 4.5, 0.9]]}

finite = st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(codec="utf-8"), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
extras = st.dictionaries(text, json_values, max_size=4)
qids = st.integers() | text
known = {"qid", "query", "vid", "duration", "relevant_windows", "pred_relevant_windows"}
clean_extras = extras.map(lambda extra: {k: v for k, v in extra.items() if k not in known})
annotations = st.builds(
    Annotation,
    qid=qids,
    query=text,
    vid=text,
    duration=st.floats(min_value=1e-3, max_value=1e6),
    relevant_windows=st.lists(st.tuples(finite, finite), max_size=3),
    extra=clean_extras,
)
predictions = st.builds(
    Prediction,
    qid=qids,
    query=text,
    vid=text,
    pred_relevant_windows=st.lists(st.tuples(finite, finite, finite), max_size=3),
    extra=clean_extras,
)
on_files = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)


def write_lines(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def outcome(read: Callable[[Path], list], path: Path) -> list:
    """Return the records of a file, or none where it is refused with its name; else raise."""
    try:
        return read(path)
    except RecordError as error:
        if not str(error).startswith(f"{path}:"):
            raise
        return []


@on_files
@given(records=st.lists(annotations, max_size=4))
def test_annotations_round_trip(tmp_path: Path, records: list[Annotation]) -> None:
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    write_annotations(first, records)
    read = read_annotations(first)
    assert read == records
    write_annotations(second, read)
    assert first.read_bytes() == second.read_bytes()


@on_files
@given(records=st.lists(predictions, max_size=4))
def test_predictions_round_trip(tmp_path: Path, records: list[Prediction]) -> None:
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    write_predictions(first, records)
    read = read_predictions(first)
    assert read == records
    write_predictions(second, read)
    assert first.read_bytes() == second.read_bytes()


@on_files
@given(content=st.binary(max_size=200))
@pytest.mark.parametrize("read", [read_annotations, read_predictions])
def test_random_bytes_give_a_record_error_or_nothing(tmp_path: Path, read, content) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    assert outcome(read, path) == []


@on_files
@given(
    values=st.lists(
        json_values
        | st.fixed_dictionaries(
            {},
            optional={
                "qid": json_values,
                "query": json_values,
                "vid": json_values,
                "duration": json_values | st.just(5),
                "relevant_windows": json_values | st.lists(st.lists(json_values, max_size=3)),
                "pred_relevant_windows": json_values | st.lists(st.lists(json_values, max_size=4)),
            },
        ),
        max_size=3,
    )
)
def test_random_json_gives_a_record_error_or_valid_records(tmp_path: Path, values: list) -> None:
    path = write_lines(tmp_path / "x.jsonl", *values)
    for read, write in (
        (read_annotations, write_annotations),
        (read_predictions, write_predictions),
    ):
        records = outcome(read, path)
        write(tmp_path / "again.jsonl", records)
        assert read(tmp_path / "again.jsonl") == records


def test_unknown_keys_are_kept_and_order_is_fixed(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    record = {"zebra": [1, {"b": 2, "a": 1}], "kind": "verb", **GOOD}
    write_annotations(path, read_annotations(write_lines(path, record)))
    (line,) = path.read_text().splitlines()
    assert json.loads(line) == record
    assert list(json.loads(line)) == [*GOOD, "kind", "zebra"]
    assert read_annotations(path)[0].extra["kind"] == "verb"


def test_what_other_tools_write_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    lines = [json.dumps(GOOD), "", json.dumps({**GOOD, "query": "line\u2028separator \u0160"})]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    assert [r.query for r in read_annotations(path)] == [
        GOOD["query"],
        "line\u2028separator \u0160",
    ]
    hidden = {key: value for key, value in GOOD.items() if key != "relevant_windows"}
    write_lines(path, hidden, {**GOOD, "relevant_windows": None})
    assert [record.relevant_windows for record in read_annotations(path)] == [(), ()]
    path.write_text("")
    assert read_annotations(path) == []
    with pytest.raises(FileNotFoundError):
        read_annotations(tmp_path / "missing.jsonl")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"qid": 1.5}, "qid 1.5 must be"),
        ({"qid": True}, "qid true must be"),
        ({"query": None}, "query null must be a string"),
        ({"vid": 3}, "vid 3 must be a string"),
        ({"duration": "12"}, 'duration "12" must be a number'),
        ({"duration": 0}, "duration 0 must be more than 0"),
        ({"duration": 10**400}, "too large"),
        ({"relevant_windows": 3}, "must be a list of"),
        ({"relevant_windows": [3, 4]}, "holds 3; each window is"),
        ({"relevant_windows": [[1, 2, 3]]}, "each window is"),
        ({"relevant_windows": [[1, "2"]]}, '"2" must be a number'),
        ({"extra": "x" * 10, "query": "\ud800"}, "not valid UTF-8"),
    ],
)
def test_messages_name_file_line_and_value(tmp_path: Path, change: dict, message: str) -> None:
    path = write_lines(tmp_path / "labels.jsonl", GOOD, {**GOOD, **change})
    with pytest.raises(RecordError) as caught:
        read_annotations(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"qid": NaN}', "NaN is not a JSON number"),
        ('{"qid": 1e999}', "too large"),
        ("[1, 2]", "is not a JSON object"),
        ("{}", 'no "duration"'),
        (json.dumps(GUESS), "this is a prediction"),
    ],
)
def test_lines_that_are_no_annotation(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(line)
    with pytest.raises(RecordError, match=message):
        read_annotations(path)


def test_predictions_need_three_numbers(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "p.jsonl", GUESS)
    assert read_predictions(path)[0].pred_relevant_windows == ((1.0, 4.5, 0.9),)
    write_lines(path, {**GUESS, "pred_relevant_windows": [[1, 4.5]]})
    with pytest.raises(RecordError, match=r"\[start, end, score\]"):
        read_predictions(path)
    with pytest.raises(RecordError, match="pred_relevant_windows"):
        read_predictions(write_lines(path, GOOD))


def test_what_cannot_be_written_names_its_record(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    bad = Prediction(qid=3, query="q", vid="v", pred_relevant_windows=((0, float("nan"), 1),))
    with pytest.raises(RecordError, match="qid 3"):
        write_predictions(path, [bad])
    with pytest.raises(RecordError, match="qid 4"):
        write_annotations(
            path, [Annotation(qid=4, query="q", vid="v", duration=1, extra={"o": {1, 2}})]
        )
    assert os.listdir(tmp_path) == []


def test_extra_cannot_shadow_a_field() -> None:
    with pytest.raises(ValueError, match="duration"):
        Annotation(qid=1, query="q", vid="v", duration=1, extra={"duration": 2})


def label(*windows: tuple[float, float], **changes: object) -> Annotation:
    fields = {"qid": 5, "query": "q", "vid": "kitchen", "duration": 10.0, **changes}
    return Annotation(relevant_windows=windows, **fields)


def test_trainable_labels_pass() -> None:
    check_trainable([label((0, 10)), label((9, 10.4)), label((1, 2), (3, 4), extra={"weight": 0})])


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (label((5, 5)), "does not end after"),
        (label((6, 5)), "does not end after"),
        (label((-1, 5)), "starts before"),
        (label((1, 2), (8, 10.6)), "leaves the video"),
        (label((10, 10.4)), "leaves the video"),
        (label((1, float("nan"))), "not finite"),
        (label(), "no relevant_windows"),
        (label((1, 2), query="  "), "blank"),
        (label((1, 2), extra={"weight": -1}), "weight"),
        (label((1, 2), extra={"weight": "1"}), "weight"),
    ],
)
def test_labels_that_cannot_be_trained_on(record: Annotation, message: str) -> None:
    with pytest.raises(RecordError, match=message) as caught:
        check_trainable([label((1, 2)), record])
    assert "qid 5" in str(caught.value)
    assert "kitchen" in str(caught.value)
