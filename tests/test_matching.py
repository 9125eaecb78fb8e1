"""Which prediction is about which query, which label about which video; or that none is."""

from __future__ import annotations

import gzip
import json
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest

from zsvg.errors import RecordError
from zsvg.evaluation.audit import audit
from zsvg.evaluation.baselines import exchanged
from zsvg.evaluation.metrics import evaluate
from zsvg.evaluation.protocols import qvhighlights
from zsvg.evaluation.protocols.by_name import PROTOCOLS, Protocol
from zsvg.grounding.writers import write_moments
from zsvg.records import (
    Annotation,
    Prediction,
    read_predictions,
    write_annotations,
    write_predictions,
)
from zsvg.report.inspect import write_inspection

NFC, NFD = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))


def truth(qid, *windows, vid="v", **extra) -> Annotation:
    extra = {"times": [[0, 0]], **extra}
    return Annotation(
        qid=qid, query="q", vid=vid, duration=20, relevant_windows=windows, extra=extra
    )


def guess(qid, *windows, vid="v", **extra) -> Prediction:
    return Prediction(qid=qid, query="q", vid=vid, pred_relevant_windows=windows, extra=extra)


def first_number(result: dict) -> float:
    return next(iter(result.get("brief", result).values()))


@pytest.mark.parametrize("rules", PROTOCOLS, ids=lambda rules: rules.name)
class TestEveryProtocol:
    def test_numbers_and_text_meet(self, rules: Protocol) -> None:
        annotations = [truth(0, (0, 5)), truth(1, (0, 5))]
        other = "w" if rules.name == "prvr" else "v"  # where the video alone counts
        predictions = [guess(0, (0, 5, 1)), guess(1, (10, 15, 1), vid=other)]
        result = rules.score(predictions, annotations)
        assert first_number(result) in (0.5, 50.0)  # one of two
        in_text = [replace(record, qid=str(record.qid)) for record in predictions]
        assert rules.score(in_text, annotations) == result
        asked = [replace(record, qid=str(record.qid)) for record in annotations]
        assert rules.score(predictions, asked) == result

    def test_a_file_with_both_is_taken_exactly(self, rules: Protocol) -> None:
        annotations = [truth(0, (0, 5)), truth("0", (10, 15), times=[[2, 2]])]
        right = [guess("0", (10, 15, 1)), guess(0, (0, 5, 1))]
        other = "w" if rules.name == "prvr" else "v"
        wrong = [guess(0, (10, 15, 1), vid=other), guess("0", (0, 5, 1), vid=other)]
        assert first_number(rules.score(right, annotations)) in (1.0, 100.0)
        assert first_number(rules.score(wrong, annotations)) == 0

    def test_nothing_that_meets_is_an_error(self, rules: Protocol) -> None:
        for qid in (7, "v-0"):
            with pytest.raises(RecordError) as caught:
                rules.score([guess(qid, (0, 5, 1))], [truth(0, (0, 5)), truth(1, (0, 5))])
            assert f"(such as {qid!r})" in str(caught.value)
            assert "(such as 0)" in str(caught.value)
            assert "\n" not in str(caught.value)

    def test_one_name_in_two_forms_of_unicode(self, rules: Protocol) -> None:
        result = rules.score([guess(0, (0, 5, 1), vid=NFD)], [truth(0, (0, 5), vid=NFC)])
        assert first_number(result) in (1.0, 100.0)


def test_the_command_tells_what_does_not_meet(tmp_path: Path, run_zsvg) -> None:
    true, given = tmp_path / "true.jsonl", tmp_path / "given.jsonl"
    write_annotations(true, [truth(n, (0, 5)) for n in range(2)])
    write_predictions(given, [guess(str(n), (0, 5, 1)) for n in range(2)])
    status, out, _ = run_zsvg("evaluate", given, true, "--format", "json")
    assert (status, json.loads(out)["mIoU"]) == (0, 1.0)
    write_predictions(given, [guess(f"q{n}", (0, 5, 1)) for n in range(2)])
    status, out, err = run_zsvg("evaluate", given, true)
    assert (status, out) == (1, "")
    assert err.startswith("error: no qid of the predictions (such as 'q0')")
    assert err.count("\n") == 1


def test_labels_and_truth_meet_in_any_form_of_unicode(tmp_path: Path) -> None:
    labels, annotations = [truth("p", (0, 10), vid=NFD)], [truth(0, (0, 5), vid=NFC)]
    values = audit(labels, annotations).values
    assert (values["videos"], values["unknown_videos"], values["uncovered_videos"]) == (1, 0, 0)
    assert values["precision"]["own"]["mean"] == 0.5
    pages = []
    for number, vid in enumerate((NFC, NFD)):
        page = tmp_path / f"{number}.html"
        write_inspection(page, labels, truth=[truth(0, (0, 5), vid=vid)])
        pages.append(page.read_text(encoding="utf-8"))
    assert pages[0] == pages[1]


# Highlight scores alone

RATED = {"relevant_clip_ids": [0, 1], "saliency_scores": [[4, 4, 4], [0, 0, 0]]}


def scored(qid, *scores) -> Prediction:
    return Prediction(
        qid=qid,
        query="q",
        vid="v",
        pred_relevant_windows=None,
        extra={"pred_saliency_scores": list(scores)},
    )


def test_highlights_alone_are_scored_without_moments() -> None:
    # The ten clips of a video: only the first is liked, and two of three queries put it first.
    annotations = [truth(n, (0, 5), **RATED) for n in range(3)]
    predictions = [scored(0, 0.9, 0.1), scored(1, 0.9, 0.1), scored(2, 0.1, 0.9)]
    result = qvhighlights.score(predictions, annotations)
    # Third query: found at rank 2, so its precision is 1/2.
    both = {"HL-mAP": 83.33, "HL-Hit1": 66.67}
    assert result == {
        "brief": {
            f"HL-min-{level}-{name.removeprefix('HL-')}": value
            for level in ("Fair", "Good", "VeryGood")
            for name, value in both.items()
        },
        **{f"HL-min-{level}": both for level in ("Fair", "Good", "VeryGood")},
    }
    bare = [replace(record, relevant_windows=()) for record in annotations]
    assert qvhighlights.score(predictions, bare) == result  # as in sets of highlights only
    mixed = qvhighlights.score([*predictions[:2], guess(2, (0, 5, 1))], annotations)
    assert mixed["problems"] == {"missing": 2, "without saliency": 1}
    assert mixed["full"]["MR-R1"]["0.5"] == 33.33
    assert qvhighlights.score([], annotations)["problems"] == {"missing": 3}


def test_highlights_alone_need_ratings_and_their_protocol() -> None:
    with pytest.raises(RecordError, match="saliency_scores to compare"):
        qvhighlights.score([scored(0, 0.5)], [truth(0, (0, 5))])
    for rules in PROTOCOLS:
        if rules.name != "qvhighlights":
            with pytest.raises(RecordError, match=r"^qid 0 has highlight .* protocol qvhighlights"):
                rules.score([scored(0, 0.5)], [truth(0, (0, 5), **RATED)])


def test_no_windows_and_an_empty_list_are_told_apart(tmp_path: Path) -> None:
    records = [scored(0, 0.5, 1), guess(1, pred_saliency_scores=[1]), guess(2)]
    for name in ("first.jsonl", "first.json"):
        write_moments(tmp_path / name, records)
        read = read_predictions(tmp_path / name)
        assert read == records
        assert [record.pred_relevant_windows for record in read] == [None, (), ()]
    assert '"pred_relevant_windows"' not in (tmp_path / "first.jsonl").read_text().splitlines()[0]
    (csv,) = write_moments(tmp_path / "first.csv", records)
    assert csv.read_text() == "qid,vid,query,start,end,score\n"
    alone = [scored(0, 0.5), scored(1, 0.5)]
    assert exchanged(alone, [truth(0, (0, 5)), truth(1, (0, 5))]) == alone
    path = tmp_path / "null.jsonl"
    for extra in ({}, {"pred_saliency_scores": None}):
        path.write_text(json.dumps({"qid": 0, "query": "q", "vid": "v", **extra}))
        with pytest.raises(RecordError, match='no "pred_relevant_windows"'):
            read_predictions(path)


@pytest.mark.parametrize("name", ["sample_val_preds", "inference_hl_val_test_code_preds"])
def test_published_highlights_without_their_moments(
    data_folder: Path, tmp_path: Path, run_zsvg, name: str
) -> None:
    folder = data_folder / "annotations" / "qvhighlights"
    samples = folder / "eval_samples" / "moment_detr"
    rows = gzip.decompress((samples / f"{name}.jsonl.gz").read_bytes()).decode().splitlines()
    given, out = tmp_path / "highlights.jsonl.gz", tmp_path / "metrics.json"
    with gzip.open(given, "wt") as file:
        for row in map(json.loads, rows):
            del row["pred_relevant_windows"]
            file.write(json.dumps(row) + "\n")
    true = folder / "highlight_val_release.jsonl"
    status, shown, _ = run_zsvg("evaluate", given, true, "--protocol", "qvhighlights", "-o", out)
    assert status == 0
    assert "hindsight" not in shown  # trivial answers have no highlight scores
    (published,) = samples.glob(f"{name}_metrics*.json")
    numbers = json.loads(published.read_text())
    highlights = {key: value for key, value in numbers.items() if key.startswith("HL-")}
    assert len(highlights) == 3
    brief = {key: value for key, value in numbers["brief"].items() if key.startswith("HL-")}
    assert json.loads(out.read_text()) == {"brief": brief, **highlights}


def test_evaluate_of_nothing_is_still_a_score_of_zero() -> None:
    assert evaluate([], [truth(0, (0, 5))])["missing"] == 1
