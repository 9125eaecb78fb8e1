"""Files of records in every form that is read, and what no memory should be spent on."""

from __future__ import annotations

import gzip
import io
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from zsvg.datasets import convert, read_durations
from zsvg.errors import RecordError
from zsvg.files import read_bytes
from zsvg.records import (
    MOST_WINDOWS,
    Annotation,
    Prediction,
    read_annotations,
    read_predictions,
    to_jsonl,
)

TRUTH = [
    Annotation(
        qid=n, query=f"sentence \u2028 é{n}", vid="v", duration=20, relevant_windows=((2, 4 + n),)
    )
    for n in range(3)
]
GUESSES = [
    Prediction(qid=n, query="q", vid="v", pred_relevant_windows=((2, 4 + n, 0.5),))
    for n in range(3)
]


def lines(records) -> str:
    return to_jsonl(records)


def array(records) -> str:
    return "[" + ",".join(to_jsonl(records).split("\n")[:-1]) + "]"


def spread(records) -> str:
    """As other tools indent it: the first line is no JSON."""
    return json.dumps(json.loads(array(records)), indent=2)


def under(key: str) -> Callable[[list], str]:
    def form(records) -> str:
        about = {"version": [1, {"qid": 0}], key: json.loads(array(records)), "after": {"a": [1]}}
        return json.dumps(about, ensure_ascii=False, indent=1)

    return form


def plain(text: str) -> bytes:
    return text.encode()


def marked(text: str) -> bytes:
    return b"\xef\xbb\xbf\r\n " + text.replace("\n", "\r\n").encode()


def packed(text: str) -> bytes:
    return gzip.compress(text.encode(), mtime=0)


def packed_in_parts(text: str) -> bytes:
    """As `cat a.gz b.gz` gives it, padded with zeros."""
    half = len(text) // 2
    return packed(text[:half]) + b"\0\0" + packed(text[half:]) + b"\0" * 512


@pytest.mark.parametrize("stored", [plain, marked, packed, packed_in_parts])
@pytest.mark.parametrize("form", [lines, array, spread, "object"])
def test_every_form_is_read_from_files_and_stdin(tmp_path, monkeypatch, form, stored) -> None:
    path = tmp_path / "records"  # the content decides, not the name
    cases = [(TRUTH, "annotations", read_annotations)]
    cases += [(GUESSES, key, read_predictions) for key in ("predictions", "results")]
    for records, key, read in cases:
        path.write_bytes(stored((under(key) if form == "object" else form)(records)))
        assert read(path) == records
        stdin = io.TextIOWrapper(io.BytesIO(path.read_bytes()))
        monkeypatch.setattr("sys.stdin", stdin)
        assert read("-") == records


@pytest.mark.parametrize("stored", [plain, packed])
@pytest.mark.parametrize("form", [lines, array, spread, under("annotations")])
def test_convert_and_durations_read_what_evaluate_reads(tmp_path, form, stored) -> None:
    path = tmp_path / "records"
    path.write_bytes(stored(form(TRUTH)))
    for name in ("qvhighlights", "youtube-highlights"):
        assert list(convert(name, path, as_is=True).records) == TRUTH
    assert read_durations(path) == {"v": 20.0}


def test_commands_read_packed_arrays(tmp_path, run_zsvg) -> None:
    true, given = tmp_path / "true.json.gz", tmp_path / "given.gz"
    true.write_bytes(packed(under("annotations")(TRUTH)))
    given.write_bytes(packed(array(GUESSES)))
    status, out, _ = run_zsvg("evaluate", given, true, "--format", "jsonl")
    assert (status, json.loads(out)["mIoU"]) == (0, 1.0)
    status, out, _ = run_zsvg("audit", true, true, "--format", "jsonl")
    assert (status, json.loads(out)["minimum"]) == (0, 1.0)
    status, out, _ = run_zsvg("convert", "qvhighlights", true, "-o", "-")
    assert (status, len(out.splitlines())) == (0, 3)


RECORD = '{"qid": 0, "query": "q", "vid": "v", "pred_relevant_windows": [[0, 1, 1]]}'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"[{RECORD}, {RECORD}", "after record 2: not JSON (, or ] is missing)"),
        (f"[{RECORD}, ]", "record 2: not JSON (Expecting value)"),
        (f"[{RECORD}] [", "after record 1: not JSON (the array has ended"),
        (f"[{RECORD}, 7]", "record 2: 7 is not a JSON object"),
        (f'{{"results": [{RECORD}] "a": 1}}', "after record 1: not JSON (, or } is missing)"),
        ('{"results": {"v-0": []}}', '1: no "qid" in this record; its keys are ["results"]'),
        (f"\n\n{RECORD}\n\n{{", "5: not JSON"),
        ('{"qid": 0, "qid": 1}', 'the key "qid" is there twice'),
        (b"\xff\xfe{\x00", "1: not valid UTF-8"),
        (RECORD.encode() + b'\n{"qid": "\xe9"}', "2: not valid UTF-8"),
        (packed(RECORD)[:-9], "damaged gzip file (it ends too early)"),
        (b"\x1f\x8b", "damaged gzip file"),
        (packed(RECORD) + b"rubbish", "damaged gzip file"),
        (packed(RECORD)[:30] + b"\xff" * 9, "damaged gzip file"),
        (gzip.compress(packed(RECORD), mtime=0), "gzipped twice"),
    ],
)
def test_files_that_are_not_records_are_one_line(tmp_path, content, message) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RecordError) as caught:
        read_predictions(path)
    assert str(caught.value).startswith(f"{path}:")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def peak_of(action: Callable[[], object]) -> tuple[object, int]:
    """Return what an action returns, and the most bytes that it held beside that."""
    tracemalloc.start()
    try:
        result = action()
        kept, most = tracemalloc.get_traced_memory()
        return result, most - kept
    finally:
        tracemalloc.stop()


def bomb(piece: bytes, before: bytes = b"") -> bytes:
    """Return 600 MB as gzip, in a hundred equal members."""
    return gzip.compress(before) + 100 * gzip.compress(piece * (6_000_000 // len(piece)))


@pytest.mark.parametrize(
    ("before", "piece"),
    [
        (b"", b"\0"),
        (b"", b" "),
        (b"", b"\n" * 1000),
        (b"[", b" "),
        (b"", b"["),
        (RECORD[:-2].encode() + b",", b"[0,1,1],"),
        (b'{"predictions":[' + RECORD[:-2].encode() + b",", b"[0,1,1],"),
        (b'{"qid": "', b"x"),
    ],
)
def test_bombs_are_refused_in_little_memory(tmp_path, monkeypatch, before, piece) -> None:
    monkeypatch.setattr("zsvg.strict_json.MOST_RECORD", 2_000_000)  # for time, not for memory
    path = tmp_path / "small.jsonl.gz"
    path.write_bytes(bomb(piece, before))
    assert path.stat().st_size < 3_000_000

    def read() -> str:
        with pytest.raises(RecordError) as caught:
            read_predictions(path)
        return str(caught.value)

    message, peak = peak_of(read)
    assert str(message).startswith(str(path))
    assert peak < 50_000_000  # the longest record, as text and as lists of small lists


def test_whole_files_are_bounded(tmp_path) -> None:
    path = tmp_path / "durations.json.gz"
    path.write_bytes(bomb(b" "))
    for read in (read_durations, lambda file: convert("charades-sta", file)):
        with pytest.raises(RecordError, match=r"gz: more than 512\.0 MB unpacked.*split") as caught:
            read(path)
        assert "\n" not in str(caught.value)
    (tmp_path / "eight").write_bytes(b"12345678")
    assert read_bytes(tmp_path / "eight", 8) == b"12345678"
    with pytest.raises(RecordError, match="more than 7 bytes"):
        read_bytes(tmp_path / "eight", 7)


@pytest.mark.parametrize("form", [lines, array, under("predictions")])
def test_reading_holds_little_beside_the_records(tmp_path, form) -> None:
    windows = tuple((float(n), n + 1.5, n / 7) for n in range(10))
    path = tmp_path / "many.jsonl"
    guesses = [
        Prediction(qid=n, query="q", vid="v", pred_relevant_windows=windows) for n in range(15_000)
    ]
    path.write_text(form(guesses), encoding="utf-8")
    assert path.stat().st_size > 5_000_000
    records, beside = peak_of(lambda: read_predictions(path))
    assert records == guesses
    assert beside < 7_000_000  # a megabyte as bytes, as text and joined; not the whole file twice


@pytest.mark.parametrize("count", [MOST_WINDOWS, MOST_WINDOWS + 1])
def test_windows_of_one_record_are_bounded(tmp_path, count) -> None:
    true, given = tmp_path / "a.jsonl", tmp_path / "p.jsonl"
    record = {"qid": 0, "query": "q", "vid": "v", "duration": 5}
    true.write_text(json.dumps({**record, "relevant_windows": [[0, 1]] * count}))
    given.write_text(json.dumps({**record, "pred_relevant_windows": [[0, 1, 1]] * count}))
    reads = [
        lambda: read_annotations(true),
        lambda: read_predictions(given),
        lambda: convert("qvhighlights", true).records,
    ]
    for read in reads:
        if count <= MOST_WINDOWS:
            assert len(read()) == 1
        else:
            with pytest.raises(RecordError, match=r"jsonl:1: 100,001 .*100,000"):
                read()


def test_published_files_are_read_packed(data_folder: Path) -> None:
    folder = data_folder / "annotations"
    samples = folder / "qvhighlights" / "eval_samples" / "moment_detr"
    assert len(read_predictions(samples / "sample_val_preds.jsonl.gz")) == 1550
    assert len(read_annotations(folder / "tvsum" / "tvsum_val_release.jsonl")) > 0
    assert len(read_annotations(folder / "tacos" / "tacos_test_release.jsonl.gz")) == 4001
