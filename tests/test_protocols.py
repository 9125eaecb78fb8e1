"""Protocols: published numbers of real files, a slow reading of the rules, and cases by hand."""

import gzip
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve
from typer.testing import CliRunner

from zsvg.cli.app import app
from zsvg.datasets.results import read_results
from zsvg.errors import RecordError, ZsvgError
from zsvg.evaluation.protocols import didemo, qvhighlights
from zsvg.evaluation.protocols.by_name import PROTOCOLS, protocol
from zsvg.records import (
    Annotation,
    Prediction,
    read_annotations,
    read_predictions,
    write_annotations,
    write_predictions,
)


def guess(qid, *windows, **extra) -> Prediction:
    return Prediction(qid=qid, query="q", vid="v", pred_relevant_windows=windows, extra=extra)


def truth(qid, *windows, duration=20, **extra) -> Annotation:
    return Annotation(
        qid=qid, query="q", vid="v", duration=duration, relevant_windows=windows, extra=extra
    )


# QVHighlights, read slowly: one query, one threshold, one window after the other.


def slow_iou(a, b) -> float:
    shared = min(a[1], b[1]) - max(a[0], b[0])
    if a[0] >= a[1] or shared <= 0:
        return 0.0
    return shared / ((a[1] - a[0]) + (b[1] - b[0]) - shared)


def slow_average_precision(windows, true, threshold) -> float:
    free, hits = list(range(len(true))), []
    for window in sorted(windows[:10], key=lambda w: -w[2]):
        best = max(free, key=lambda g: (slow_iou(window, true[g]), g), default=None)
        hit = best is not None and slow_iou(window, true[best]) >= threshold
        hits.append(hit)
        if hit:
            free.remove(best)
    precisions = [sum(hits[: k + 1]) / (k + 1) for k in range(len(hits))]
    return sum(max(precisions[k:]) for k, hit in enumerate(hits) if hit) / len(true)


def slow_highlight_precision(labels, scores) -> float:
    if len(set(labels)) == 1:
        return float(labels[0])
    padded = (list(scores) + [0.0] * len(labels))[: len(labels)]
    precision, recall, _ = precision_recall_curve(labels, padded)
    levels = sorted(set(recall) - {0.0})
    return float(np.mean([max(precision[recall >= level]) for level in levels]))


def slow_score(predictions, annotations) -> dict:
    given = {p.qid: p for p in predictions}
    result = {}
    for name, (low, high) in qvhighlights.RANGES.items():
        kept = [
            (given[a.qid].pred_relevant_windows, inside)
            for a in annotations
            if (inside := [w for w in a.relevant_windows if low < w[1] - w[0] <= high])
        ]
        if not kept:
            continue
        maps, firsts = {}, {}
        for threshold in qvhighlights.IOUS:
            maps[str(threshold)] = np.mean([slow_average_precision(*k, threshold) for k in kept])
            first = [max(slow_iou(w[0], g) for g in true) >= threshold for w, true in kept]
            firsts[str(threshold)] = np.mean(first)
        maps["average"] = np.mean(list(maps.values()))
        result[name] = {"MR-mAP": maps, "MR-R1": firsts}
    for name, level in qvhighlights.LEVELS.items():
        precisions, hits = [], []
        for a in annotations:
            ratings = np.zeros((int(a.duration / 2), 3))
            ratings[a.extra["relevant_clip_ids"]] = a.extra["saliency_scores"]
            scores = given[a.qid].extra["pred_saliency_scores"]
            precisions += [slow_highlight_precision(row >= level, scores) for row in ratings.T]
            top = int(np.argmax(scores))
            hits.append(top < len(ratings) and bool((ratings[top] >= level).any()))
        result[f"HL-min-{name}"] = {"HL-mAP": np.mean(precisions), "HL-Hit1": np.mean(hits)}
    return result


def flat(numbers, prefix="") -> dict[str, float]:
    found = {}
    for key, value in numbers.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}/")
        else:
            found[prefix + key] = value
    return found


@st.composite
def cases(draw):
    count = draw(st.integers(1, 4))
    predictions, annotations = [], []
    for qid in range(count):
        duration = draw(st.integers(2, 40).map(lambda n: 2 * n))
        edge = st.integers(0, duration // 2).map(lambda n: 2.0 * n)
        span = st.tuples(edge, edge)
        true = draw(st.lists(span.filter(lambda w: w[0] < w[1]), min_size=1, max_size=3))
        window = st.tuples(edge, edge, st.sampled_from([0.1, 0.5, 0.5, 0.9]))
        windows = draw(st.lists(window, min_size=1, max_size=12))
        clips = duration // 2
        ids = draw(st.lists(st.integers(0, clips - 1), min_size=1, unique=True))
        rating = st.lists(st.integers(0, 4), min_size=3, max_size=3)
        ratings = [draw(rating) for _ in ids]
        score = st.sampled_from([-1.0, 0.0, 0.25, 0.5])
        scores = draw(st.lists(score, min_size=1, max_size=clips + 2))
        predictions.append(guess(qid, *windows, pred_saliency_scores=scores))
        annotations.append(
            truth(qid, *true, duration=duration, relevant_clip_ids=ids, saliency_scores=ratings)
        )
    return predictions, annotations


@settings(max_examples=60, deadline=None)
@given(cases())
def test_qvhighlights_is_what_a_slow_reading_gives(case) -> None:
    fast = flat(qvhighlights.score(*case))
    slow = flat(slow_score(*case))
    assert slow.keys() <= fast.keys()
    each = qvhighlights.per_query(*case)
    assert 100 * each.mean() == pytest.approx(fast["full/MR-mAP/average"], abs=0.0051)
    for name, value in slow.items():
        assert fast[name] == pytest.approx(100 * value, abs=0.0051), name


@pytest.mark.parametrize("name", ["sample_val_preds", "inference_hl_val_test_code_preds"])
def test_qvhighlights_gives_the_published_files(
    data_folder: Path, tmp_path: Path, name: str
) -> None:
    folder = data_folder / "annotations" / "qvhighlights"
    samples = folder / "eval_samples" / "moment_detr"
    predictions = tmp_path / "predictions.jsonl"
    predictions.write_bytes(gzip.decompress((samples / f"{name}.jsonl.gz").read_bytes()))
    out = tmp_path / "metrics.json"
    arguments = ["evaluate", str(predictions), str(folder / "highlight_val_release.jsonl")]
    done = CliRunner().invoke(app, [*arguments, "--protocol", "qvhighlights", "-o", str(out)])
    assert done.exit_code == 0, done.output
    (published,) = samples.glob(f"{name}_metrics*.json")
    numbers = json.loads(published.read_text())
    assert len(flat(numbers)) == 104
    assert json.loads(out.read_text()) == numbers


def test_qvhighlights_counts_what_is_wrong() -> None:
    rated = {"relevant_clip_ids": [0], "saliency_scores": [[4, 4, 4]]}
    annotations = [truth(n, (0, 10), **rated) for n in range(4)]
    predictions = [
        guess(0, (0, 10, 1), pred_saliency_scores=[1, 0]),
        guess(1, (10, 0, 1)),  # the length of the truth, but negative: 0 / 0 elsewhere
        guess(2),
        guess(9, (0, 10, 1)),
    ]
    result = qvhighlights.score(predictions, annotations)
    assert result["full"]["MR-R1"]["0.5"] == result["full"]["MR-mAP"]["average"] == 25.0
    assert result["HL-min-Good"] == {"HL-mAP": 25.0, "HL-Hit1": 25.0}
    assert result["problems"] == {
        "missing": 2,
        "invalid": 1,
        "unknown": 1,
        "without saliency": 3,
    }
    assert result["long"]["MR-R1"]["0.5"] is None
    bare = qvhighlights.score([guess(n, (0, 10, 1)) for n in range(4)], annotations)
    assert "HL-min-Good" not in bare
    assert "problems" not in bare


@pytest.mark.parametrize(
    ("extra", "predicted"),
    [
        ({"saliency_scores": [[1, 2, 3]], "relevant_clip_ids": [10]}, [0.0]),
        ({"saliency_scores": [[1, 2, 3]], "relevant_clip_ids": [-1]}, [0.0]),
        ({"saliency_scores": [[1, 2, 3]]}, [0.0]),
        ({"saliency_scores": [[1], [1, 2]], "relevant_clip_ids": [0, 1]}, [0.0]),
        ({"saliency_scores": [[1, 2, 3]], "relevant_clip_ids": [0]}, "high"),
        ({"saliency_scores": [[1, 2, 3]], "relevant_clip_ids": [0]}, [[0.0]]),
    ],
)
def test_malformed_saliency_is_one_line(extra, predicted) -> None:
    with pytest.raises(RecordError, match="qid 'a'") as caught:
        qvhighlights.score(
            [guess("a", (0, 1, 1), pred_saliency_scores=predicted)], [truth("a", (0, 1), **extra)]
        )
    assert "\n" not in str(caught.value)


# DiDeMo


def test_didemo_leaves_out_the_annotator_who_disagrees_most() -> None:
    times = [[1, 1], [1, 1], [1, 1], [5, 5]]
    annotation = truth(1, (5, 10), (25, 30), duration=30, times=times)
    right = didemo.score([guess(1, (5, 10, 0.9), (0, 30, 0.5))], [annotation])
    assert (right["Rank@1"], right["Rank@5"], right["mIoU"]) == (1, 1, 1)
    second = didemo.score([guess(1, (0, 5, 0.9), (5.4, 9.7, 0.5), (0, 30, 0.1))], [annotation])
    assert (second["Rank@1"], second["Rank@5"], second["mIoU"]) == (0, 1, 0)
    assert second["moved"] == 1
    wide = didemo.score([guess(1, (0, 10, 0.9))], [annotation])
    assert wide["mIoU"] == 0.5
    assert wide["Rank@5"] == 0  # none of the annotators' runs is among the answers


def test_didemo_mean_of_three_ranks() -> None:
    annotation = truth(1, (0, 5), duration=30, times=[[0, 0], [1, 1], [1, 1], [2, 2]])
    ranking = guess(1, (0, 5, 1), (5, 10, 1), (10, 15, 1))
    result = didemo.score([ranking], [annotation])
    assert result["Rank@1"] == 0  # ranks 1, 2, 2, 3: the mean of the best three is 5/3
    assert result["Rank@5"] == 1
    assert result["mIoU"] == pytest.approx(1 / 3)


def test_didemo_needs_annotators_and_counts_the_rest() -> None:
    with pytest.raises(RecordError, match="times"):
        didemo.score([], [truth(1, (0, 5))])
    result = didemo.score([guess(1, (7, 3, 1))], [truth(1, (0, 5), times=[[0, 0]])])
    assert (result["missing"], result["invalid"], result["Rank@5"]) == (1, 1, 0)


# The others


def test_an_overlap_on_the_threshold_tells_protocols_apart() -> None:
    annotations = [truth(1, (0, 10))]
    predictions = [guess(1, (0, 5, 1))]
    hits = {
        name: protocol(name).score(predictions, annotations)["R1@0.5"]
        for name in ("zsvg", "tgn", "2d-tan")
    }
    assert hits == {"zsvg": 1, "tgn": 0, "2d-tan": 0}


def test_2d_tans_miou_is_of_the_first_answer() -> None:
    # Its code sorts the row of the first answer, one IoU for each true window, not the answers.
    answers = (0, 2, 0.9), (0, 10, 0.8), (0, 5, 0.7), (5, 10, 0.6), (2, 4, 0.5)
    score = protocol("2d-tan").score
    one = score([guess(1, *answers)], [truth(1, (0, 10))])
    assert one["mIoU"] == pytest.approx(0.2)  # the best three would give (1 + .5 + .5) / 3
    assert (one["R1@0.3"], one["R5@0.7"]) == (0, 1)
    # Of several windows the best counts: 2 of 5 seconds, not the mean of 2/5 and 0.
    several = score([guess(1, *answers)], [truth(1, (0, 5), (10, 20))])
    assert several["mIoU"] == pytest.approx(0.4)


def test_cutting_the_truth_tells_protocols_apart() -> None:
    annotations = [truth(1, (0, 30), duration=20)]
    predictions = [guess(1, (0, 20, 1))]
    as_written = protocol("charades-sta").score(predictions, annotations)["mIoU"]
    cut = protocol("charades-sta-cut").score(predictions, annotations)["mIoU"]
    assert (as_written, cut) == (pytest.approx(2 / 3), 1)


def test_discount_takes_back_what_long_answers_gain() -> None:
    annotations = [truth(1, (0, 10)), truth(2, (5, 10))]
    predictions = [guess(1, (0, 15, 1), (0, 10, 1)), guess(2, (15, 20, 1))]
    result = protocol("discounted").score(predictions, annotations)
    assert result["R1@0.5"] == 0.5
    assert result["dR1@0.5"] == pytest.approx(0.5 * 1.0 * 0.75)  # the end is 5 of 20 s late
    assert result["dR5@0.5"] == 0.5
    assert result["dR1@0.7"] == 0


def test_tgn_scores_as_published(data_folder: Path) -> None:
    folder = data_folder / "annotations" / "charades_sta" / "eval_samples" / "tgn"
    reference = json.loads((folder / "test.json").read_text())
    packed = (folder / "predict_proposals_test_nms_0.55.json.gz").read_bytes()
    found = json.loads(gzip.decompress(packed))["results"]
    annotations, predictions = [], []
    for vid, entry in reference.items():
        for index, window in enumerate(entry["timestamps"]):
            qid = f"{vid}-{index}"
            annotations.append(truth(qid, tuple(window), duration=60))
            windows = [(*p["timestamp"], p["score"]) for p in found[qid]]
            predictions.append(guess(qid, *windows))
    result = protocol("tgn").score(predictions, annotations)
    published = dict(
        line.split(": ") for line in (folder / "performance.txt").read_text().splitlines() if line
    )
    assert len(published) == 7
    for name, value in published.items():
        ours = name.replace(", IoU=", "").replace("R@1", "R1@").replace("R@5", "R5@")
        assert f"{result[ours]:.12f}" == value, name
    assert protocol("charades-sta").warning(annotations) is None
    assert "17031" in protocol("activitynet-val2").warning(annotations)


def test_every_protocol_has_a_rule_and_survives_nothing() -> None:
    for candidate in PROTOCOLS:
        assert candidate.rule
        assert candidate.source
        result = candidate.score([], [truth(1, (0, 5), times=[[0, 0]])])
        assert not any(isinstance(v, float) and not math.isfinite(v) for v in flat(result).values())
    with pytest.raises(ZsvgError, match="choose one of"):
        protocol("mine")


def test_the_command_lists_scores_and_shows_trivial_rows(tmp_path: Path) -> None:
    run = CliRunner().invoke
    listed = run(app, ["evaluate", "--protocol", "list"])
    assert listed.exit_code == 0
    assert all(candidate.name in listed.output for candidate in PROTOCOLS)
    annotations = [truth(n, (2.0 * n, 2.0 * n + 4)) for n in range(6)]
    write_annotations(tmp_path / "truth.jsonl", annotations)
    for kind, more in {
        "whole": [],
        "window": ["--window", "0", "0.5"],
        "uniform": ["--parts", "4"],
        "random": ["--seed", "3"],
    }.items():
        out = tmp_path / f"{kind}.jsonl"
        done = run(app, ["baseline", kind, str(tmp_path / "truth.jsonl"), *more, "-o", str(out)])
        assert done.exit_code == 0, done.output
        assert len(read_predictions(out)) == 6
    done = run(app, ["evaluate", str(tmp_path / "whole.jsonl"), str(tmp_path / "truth.jsonl")])
    assert "[whole video]" in done.output
    assert "hindsight" in done.output
    fitted = tmp_path / "fitted.jsonl"
    source = str(tmp_path / "truth.jsonl")
    done = run(app, ["baseline", "window", source, "--fit", source, "-o", str(fitted)])
    assert done.exit_code == 0
    assert read_annotations(source) == annotations
    write_predictions(tmp_path / "none.jsonl", [])
    done = run(app, ["evaluate", str(tmp_path / "none.jsonl"), source, "--no-trivial"])
    assert "missing: 6" in done.output


def test_tgn_from_the_published_files_by_commands(data_folder: Path, tmp_path: Path) -> None:
    folder = data_folder / "annotations" / "charades_sta" / "eval_samples" / "tgn"
    found, true = tmp_path / "found.jsonl", tmp_path / "true.jsonl"
    durations = data_folder / "annotations" / "charades_sta" / "Charades_duration.json"
    results = str(folder / "predict_proposals_test_nms_0.55.json.gz")
    for arguments in (
        ["results", results, "-o", str(found)],
        ["tfvtg", str(folder / "test.json"), "--as-is", "--durations", str(durations),
         "-o", str(true)],
    ):  # fmt: skip
        done = CliRunner().invoke(app, ["convert", *arguments])
        assert done.exit_code == 0, done.output
    rows = {}
    for name in ("tgn", "charades-sta"):
        out = tmp_path / f"{name}.json"
        arguments = ["evaluate", str(found), str(true), "--protocol", name, "-o", str(out)]
        done = CliRunner().invoke(app, [*arguments, "--no-trivial"])
        assert done.exit_code == 0, done.output
        numbers = json.loads(out.read_text())
        rows[name] = [round(100 * numbers[f"R1@{t}"], 2) for t in (0.3, 0.5, 0.7)]
        assert round(100 * numbers["mIoU"], 2) == 33.46
    assert rows == {"tgn": [50.51, 34.38, 16.26], "charades-sta": [50.54, 34.65, 16.40]}


@pytest.mark.parametrize(
    "text",
    ["[]", "{}", '{"results": 3}', '{"results": {"a": []}}', '{"results": {"a-0": 1}}',
     '{"results": {"a-0": [{"timestamp": [1], "score": 1}]}}',
     '{"results": {"a-0": [{"timestamp": [1, 2]}]}}'],
)  # fmt: skip
def test_other_results_are_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(RecordError, match=r"r\.json") as caught:
        read_results(tmp_path / "r.json")
    assert "\n" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_files_end_in_numbers_or_in_one_line(tmp_path_factory, data) -> None:
    """A few values of good files are replaced by anything; every protocol reads the result."""
    folder = tmp_path_factory.getbasetemp()
    extra = {"relevant_clip_ids": [0, 1], "saliency_scores": [[4, 3, 1], [2, 2, 2]]}
    files = {
        "predictions": [
            {"qid": n, "query": "q", "vid": "v", "pred_relevant_windows": [[0, 5, 1], [2, 9, 0.5]],
             "pred_saliency_scores": [0.1, 0.2, 0.3]}
            for n in range(2)
        ],
        "annotations": [
            {"qid": n, "query": "q", "vid": "v", "duration": 20, "relevant_windows": [[0, 5]],
             "times": [[0, 0], [0, 1]], **extra}
            for n in range(2)
        ],
    }  # fmt: skip
    for _ in range(data.draw(st.integers(1, 3))):
        record = data.draw(st.sampled_from(files["predictions"] + files["annotations"]))
        key = data.draw(st.sampled_from(sorted(record)))
        record[key] = data.draw(JSON)
    for name, records in files.items():
        text = "\n".join(json.dumps(record) for record in records)
        (folder / f"{name}.jsonl").write_text(text)
    rules = data.draw(st.sampled_from(PROTOCOLS))
    arguments = [str(folder / f"{name}.jsonl") for name in files]
    done = CliRunner().invoke(app, ["evaluate", *arguments, "--protocol", rules.name])
    if done.exit_code:
        assert isinstance(done.exception, (ZsvgError, ValueError)), repr(done.exception)
        assert "\n" not in str(done.exception)


def test_nextgqa_asks_how_much_of_an_answer_is_true() -> None:
    truth = [
        Annotation(qid=qid, query="why", vid="v", duration=40.0,
                   relevant_windows=((0.0, 10.0), (20.0, 30.0)))
        for qid in range(5)
    ]  # fmt: skip
    given = [(5.0, 15.0), (20.0, 22.0), (8.0, 36.0), (31.0, 35.0)]
    answers = [
        Prediction(qid=qid, query="why", vid="v",
                   pred_relevant_windows=((start, end, 1.0), (0.0, 10.0, 0.5)))
        for qid, (start, end) in enumerate(given)
    ]  # fmt: skip
    found = protocol("nextgqa").score(answers, truth)
    # By hand; the fifth question has no answer, and second answers do not count.
    shares = [0.5, 1.0, 10 / 28, 0.0, 0.0]
    overlaps = [5 / 15, 2 / 10, 10 / 28, 0.0, 0.0]
    assert found["mIoP"] == pytest.approx(sum(shares) / 5)
    assert (found["IoP@0.3"], found["IoP@0.5"]) == (3 / 5, 2 / 5)
    assert found["mIoU"] == pytest.approx(sum(overlaps) / 5)
    assert (found["IoU@0.3"], found["IoU@0.5"]) == (2 / 5, 0)
    assert (found["queries"], found["missing"], found["invalid"]) == (5, 1, 0)


def test_video_reloc_counts_the_first_answer_in_the_stretch() -> None:
    """By hand: the segment is 20 to 30 s, in a stretch from 10 to 40 s."""
    truth = [
        Annotation(qid=qid, query="aa@0.0-9.0", vid="v", duration=60.0,
                   relevant_windows=((20.0, 30.0),), extra={"location": [10.0, 40.0]})
        for qid in range(8)
    ]  # fmt: skip
    given = [
        [(20.0, 30.0)],  # 1
        [(20.0, 29.0), (20.0, 30.0)],  # .9, which is not more than .9
        [(45.0, 55.0), (20.0, 28.5)],  # the first is outside; .85
        [(0.0, 30.0)],  # cut to 10 to 30; .5, which is not more than .5
        [(20.0, 33.0)],  # 10 / 13 = .77
        [(25.0, 20.0), (20.0, 30.0)],  # not valid: a miss
        [(0.0, 10.0)],  # outside
    ]
    answers = [
        Prediction(qid=qid, query="q", vid="v",
                   pred_relevant_windows=tuple((*window, 1.0) for window in windows))
        for qid, windows in enumerate(given)
    ]  # fmt: skip
    found = protocol("video-reloc").score(answers, truth)
    shares = [found[f"mAP@{iou}"] for iou in (0.5, 0.6, 0.7, 0.8, 0.9)]
    assert shares == [4 / 8, 4 / 8, 4 / 8, 3 / 8, 1 / 8]
    assert found["mAP"] == pytest.approx(16 / 40)
    counts = {name: found[name] for name in ("queries", "missing", "invalid", "unknown")}
    assert counts == {"queries": 8, "missing": 2, "invalid": 1, "unknown": 0}
    # In features of .48 s, 9 of 10 are a tie as well, though seconds round.
    tie = Annotation(qid=0, query="q", vid="v", duration=60.0,
                     relevant_windows=((0.0, 10 * 0.48),))  # fmt: skip
    nine = replace(answers[0], pred_relevant_windows=((0.48, 10 * 0.48, 1.0),))
    assert protocol("video-reloc").score([nine], [tie])["mAP@0.9"] == 0
    wrong = replace(truth[0], extra={"location": [40.0, 10.0]})
    with pytest.raises(RecordError, match=r"location \[40.0, 10.0\] must be \[start, end\]"):
        protocol("video-reloc").score(answers[:1], [wrong])


def test_a_corpus_is_one_list_of_moments() -> None:
    def of(vid: str, qid: int, *windows: tuple[float, float]) -> Prediction:
        scored = tuple((start, end, 1.0) for start, end in windows)
        return Prediction(qid=qid, query="q", vid=vid, pred_relevant_windows=scored)

    annotations = [replace(truth(n, (0, 10)), vid="right") for n in range(4)]
    answers = [
        of("other", 0, (0, 10)), of("right", 0, (0, 6), (0, 8)), of("third", 0, (0, 10)),
        of("right", 1, (0, 4)), of("other", 1, (0, 10), (1, 10)), of("right", 1, (0, 10)),
        *(of(f"v{n}", 2, (0, 10)) for n in range(100)), of("right", 2, (0, 10)),
        of("right", 9, (0, 10)),
    ]  # fmt: skip
    moments = protocol("tvr").score(answers, annotations)
    # Places of the first hits: 2 and 3; 4 and 4; 101 twice; none.
    assert [moments[f"R{n}@0.5"] for n in (1, 5, 10, 100)] == [0, 0.5, 0.5, 0.5]
    assert moments["R5@0.7"] == 0.5
    assert (moments["queries"], moments["missing"], moments["unknown"]) == (4, 1, 1)
    videos = protocol("prvr").score(answers, annotations)  # places 2, 1, 101, none
    assert [videos[f"R@{n}"] for n in (1, 5, 10, 100)] == [0.25, 0.5, 0.5, 0.5]
    assert videos["SumR"] == 1.75
    with pytest.raises(RecordError, match="no qid of the predictions"):
        protocol("tvr").score(answers[-1:], annotations)
    with pytest.raises(RecordError, match="occurs twice in the annotations"):
        protocol("prvr").score(answers, annotations * 2)
