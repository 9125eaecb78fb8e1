"""Metrics: hand-made cases, laws, and published scores of real prediction files."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zsvg.errors import RecordError
from zsvg.evaluation.metrics import as_percent, best_overlaps, evaluate
from zsvg.moments import iou
from zsvg.records import Annotation, Prediction, read_annotations, read_predictions

NAN, INF = float("nan"), float("inf")


def truth(qid: int | str, *windows: tuple, kind: str | None = None) -> Annotation:
    extra = {} if kind is None else {"kind": kind}
    return Annotation(
        qid=qid, query="q", vid="v", duration=100, relevant_windows=windows, extra=extra
    )


def guess(qid: int | str, *windows: tuple, vid: str = "v") -> Prediction:
    scored = tuple((*window, 1.0 - i / 10) for i, window in enumerate(windows))
    return Prediction(qid=qid, query="q", vid=vid, pred_relevant_windows=scored)


def test_a_case_by_hand() -> None:
    annotations = [
        truth(1, (0, 10)),
        truth(2, (0, 10)),
        truth(3, (0, 2), (50, 60)),
        truth(4, (0, 1)),
    ]
    predictions = [
        guess(1, (0, 5)),  # IoU .5 exactly: a hit at .5
        guess(2, (20, 30), (0, 10)),  # right at rank 2
        guess(3, (50, 57)),  # .7 with the second true window
        guess(99, (0, 1)),
    ]
    result = evaluate(predictions, annotations)
    assert result == {
        "R1@0.3": 0.5,
        "R1@0.5": 0.5,
        "R1@0.7": 0.25,
        "R5@0.3": 0.75,
        "R5@0.5": 0.75,
        "R5@0.7": 0.5,
        "mIoU": pytest.approx(0.3),
        "queries": 4,
        "missing": 1,
        "invalid": 0,
        "unknown": 1,
        "kinds": {},
    }
    assert json.dumps(result) == json.dumps(evaluate(predictions[::-1], annotations[::-1]))


def test_single_answers_have_no_recall_at_five() -> None:
    result = evaluate([guess(1, (0, 1))], [truth(1, (0, 1))])
    assert result["R5@0.5"] is None
    assert (as_percent(None), as_percent(0.34651), as_percent(1.0)) == ("-", "34.65", "100.00")


def test_only_the_first_n_answers_count() -> None:
    late = guess(1, *[(90, 91)] * 5, (0, 1))
    assert evaluate([late], [truth(1, (0, 1))])["R5@0.5"] == 0.0
    assert evaluate([late], [truth(1, (0, 1))], top=(6,), ious=(0.95,))["R6@0.95"] == 1.0


def test_answers_keep_their_order_whatever_their_scores() -> None:
    prediction = Prediction(
        qid=1, query="q", vid="v", pred_relevant_windows=((0, 1, 0.1), (5, 6, 0.9))
    )
    assert evaluate([prediction], [truth(1, (0, 1))])["mIoU"] == 1.0


@pytest.mark.parametrize("bad", [(5, 5), (6, 5), (-1, 10), (NAN, 5), (0, INF), (-INF, INF)])
def test_invalid_windows_are_misses_at_their_rank(bad: tuple) -> None:
    result = evaluate([guess(1, bad, (0, 10))], [truth(1, (0, 10))])
    assert (result["R1@0.3"], result["R5@0.7"], result["mIoU"]) == (0.0, 1.0, 0.0)
    assert (result["invalid"], result["missing"]) == (1, 0)


def test_invalid_windows_are_counted_beyond_the_ranks_looked_at() -> None:
    result = evaluate([guess(1, (0, 10), (3, 2), (5, 4))], [truth(1, (0, 10))], top=(1,))
    assert result["invalid"] == 2


def test_kinds_are_reported_apart() -> None:
    annotations = [
        truth(1, (0, 10), kind="verb"),
        truth(2, (0, 10), kind="colour"),
        truth(3, (0, 10), kind="verb"),
        truth(4, (0, 10)),
    ]
    predictions = [guess(1, (0, 10), (20, 30)), guess(2, (9, 1)), guess(4, (0, 10))]
    kinds = evaluate(predictions, annotations)["kinds"]
    assert list(kinds) == ["colour", "verb"]
    assert kinds["verb"]["R1@0.7"] == 0.5
    assert (kinds["verb"]["queries"], kinds["verb"]["missing"]) == (2, 1)
    # R@5 exists for every kind or for none, so that the rows of one table agree.
    assert kinds["colour"]["R5@0.3"] == 0.0
    assert kinds["colour"]["invalid"] == 1


def test_no_predictions_at_all_is_a_score_of_zero() -> None:
    result = evaluate([], [truth(1, (0, 1)), truth(2, (0, 1))])
    assert (result["mIoU"], result["missing"], result["R5@0.3"]) == (0.0, 2, None)


@pytest.mark.parametrize(
    ("predictions", "annotations", "message"),
    [
        ([guess(1), guess(1)], [truth(1, (0, 1))], "twice in the predictions"),
        ([], [truth(1, (0, 1)), truth(1, (0, 1))], "twice in the annotations"),
        ([], [truth(1)], "no relevant_windows"),
        ([guess(1, (0, 1), vid="w")], [truth(1, (0, 1))], "about video 'v'.*'w'"),
    ],
)
def test_records_that_do_not_fit(predictions: list, annotations: list, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        evaluate(predictions, annotations)


@pytest.mark.parametrize(
    "options", [{"ious": (50,)}, {"ious": ()}, {"ious": (0,)}, {"top": (0,)}, {"top": ()}]
)
def test_options_out_of_range(options: dict) -> None:
    with pytest.raises(ValueError, match=r"IoU|answer"):
        evaluate([], [truth(1, (0, 1))], **options)
    with pytest.raises(ValueError, match="no annotations"):
        evaluate([], [])


times = st.floats(-5, 200) | st.sampled_from([NAN, INF])
windows = st.lists(st.tuples(times, times), max_size=4)
true_windows = st.lists(
    st.tuples(st.floats(0, 100), st.floats(0, 100)).map(sorted), min_size=1, max_size=3
)


@given(st.lists(st.tuples(windows, true_windows), min_size=1, max_size=5), st.integers(1, 5))
def test_vectorised_overlaps_equal_those_of_single_spans(cases: list, depth: int) -> None:
    overlaps, invalid, _ = best_overlaps([c[0] for c in cases], [c[1] for c in cases], depth)
    assert overlaps.shape == (len(cases), depth)
    for (answers, true), row, bad in zip(cases, overlaps, invalid, strict=True):
        valid = [np.isfinite(w).all() and 0 <= w[0] < w[1] for w in answers]
        assert bad == len(answers) - sum(valid)
        for rank in range(depth):
            good = rank < len(answers) and valid[rank]
            assert row[rank] == (iou([answers[rank]], true).max() if good else 0.0)


def unzip(path: Path, folder: Path) -> Path:
    target = folder / path.stem
    target.write_bytes(gzip.decompress(path.read_bytes()))
    return target


@pytest.mark.parametrize("name", ["sample_val_preds", "inference_hl_val_test_code_preds"])
def test_qvhighlights_samples_score_as_published(
    data_folder: Path, tmp_path: Path, name: str
) -> None:
    folder = data_folder / "annotations" / "qvhighlights"
    samples = folder / "eval_samples" / "moment_detr"
    (published,) = samples.glob(f"{name}_metrics*.json")
    brief = json.loads(published.read_text())["brief"]
    annotations = read_annotations(folder / "highlight_val_release.jsonl")
    result = evaluate(read_predictions(unzip(samples / f"{name}.jsonl.gz", tmp_path)), annotations)
    assert as_percent(result["R1@0.5"]) == f"{brief['MR-full-R1@0.5']:.2f}"
    assert as_percent(result["R1@0.7"]) == f"{brief['MR-full-R1@0.7']:.2f}"


def test_tgn_on_charades_scores_as_published_but_for_exact_ties(data_folder: Path) -> None:
    folder = data_folder / "annotations" / "charades_sta" / "eval_samples" / "tgn"
    reference = json.loads((folder / "test.json").read_text())
    raw = json.loads(
        gzip.decompress((folder / "predict_proposals_test_nms_0.55.json.gz").read_bytes())
    )["results"]
    annotations, predictions = [], []
    for vid, entry in reference.items():
        for index, window in enumerate(entry["timestamps"]):
            common = {"qid": f"{vid}-{index}", "query": entry["sentences"][index], "vid": vid}
            annotations.append(Annotation(**common, duration=1, relevant_windows=(tuple(window),)))
            found = raw[common["qid"]]
            predictions.append(
                Prediction(
                    **common,
                    pred_relevant_windows=tuple((*p["timestamp"], p["score"]) for p in found),
                )
            )
    result = evaluate(predictions, annotations)
    assert result["queries"] == 3720
    # TGN adds 1e-8 to the union, so its published numbers miss overlaps exactly at a threshold:
    # R1 50.51 34.38 16.26, R5@0.7 49.57.
    assert [as_percent(result[f"R1@{t}"]) for t in (0.3, 0.5, 0.7)] == ["50.54", "34.65", "16.40"]
    assert as_percent(result["R5@0.7"]) == "49.92"
    assert as_percent(result["mIoU"]) == "33.46"
