"""Trivial answers: what they look like, and their known scores on real annotation files."""

import csv
import gzip
import io
import json
from pathlib import Path

import pytest

from zsvg.evaluation.baselines import (
    fit_fixed_window,
    fixed_window,
    random_windows,
    uniform_part,
    whole_video,
)
from zsvg.evaluation.metrics import as_percent, evaluate
from zsvg.records import Annotation, read_annotations

QUERIES = [
    Annotation(qid=i, query=f"query {i}", vid=f"v{i % 3}", duration=30.0 + i) for i in range(60)
]


def pairs(prediction) -> list[tuple[float, float]]:
    return [(start, end) for start, end, _ in prediction.pred_relevant_windows]


def test_windows_that_are_the_same_for_every_query() -> None:
    whole = whole_video(QUERIES[:2])
    assert [pairs(p) for p in whole] == [[(0, 30)], [(0, 31)]]
    assert (whole[1].qid, whole[1].query, whole[1].vid) == (1, "query 1", "v1")
    assert pairs(fixed_window(QUERIES[:1], 0.1, 0.5)[0]) == [(3, 15)]
    with pytest.raises(ValueError, match="fractions"):
        fixed_window(QUERIES, 0.5, 0.5)


def test_uniform_parts() -> None:
    assert sorted(pairs(uniform_part(QUERIES[:1])[0])) == [(0, 10), (10, 20), (20, 30)]
    drawn = uniform_part(QUERIES, parts=3)
    first = [pairs(p)[0][0] / q.duration for p, q in zip(drawn, QUERIES, strict=True)]
    assert {round(start, 6) for start in first} == {0.0, 0.333333, 0.666667}
    for prediction, query in zip(drawn, QUERIES, strict=True):
        covered = sorted(pairs(prediction))
        assert covered[0][0] == 0
        assert covered[-1][1] == query.duration
        assert [end for _, end in covered[:-1]] == [start for start, _ in covered[1:]]
        scores = [score for *_, score in prediction.pred_relevant_windows]
        assert scores == sorted(scores, reverse=True)
    with pytest.raises(ValueError, match="parts"):
        uniform_part(QUERIES, parts=0)


def test_random_windows_lie_in_the_video() -> None:
    drawn = random_windows(QUERIES, 0)
    for prediction, query in zip(drawn, QUERIES, strict=True):
        assert len(pairs(prediction)) == 5
        assert all(0 <= start < end <= query.duration for start, end in pairs(prediction))
    assert len({pairs(p)[0] for p in drawn}) == len(QUERIES)
    with pytest.raises(ValueError, match="count"):
        random_windows(QUERIES, 0, count=0)


def test_draws_depend_on_seed_and_qid_only() -> None:
    for draw in (random_windows, lambda queries, seed: uniform_part(queries, seed=seed)):
        assert draw(QUERIES, 0) == draw(QUERIES, 0)
        assert draw(QUERIES, 0) != draw(QUERIES, 1)
        assert draw(QUERIES[10:20], 0) == draw(QUERIES, 0)[10:20]


def test_the_truth_is_never_looked_at() -> None:
    class Sealed(Annotation):
        def __getattribute__(self, name: str):
            if name == "relevant_windows" and object.__getattribute__(self, "sealed"):
                raise AssertionError("the truth was read")
            return super().__getattribute__(name)

        sealed = False

    query = Sealed(qid=1, query="q", vid="v", duration=10, relevant_windows=((1, 2),))
    Sealed.sealed = True
    for answers in (
        whole_video([query]),
        fixed_window([query], 0, 0.5),
        uniform_part([query]),
        random_windows([query], 0),
    ):
        assert len(answers) == 1


def test_fitting_a_window_finds_it() -> None:
    labels = [
        Annotation(qid=i, query="q", vid="v", duration=d, relevant_windows=((0.2 * d, 0.6 * d),))
        for i, d in enumerate((10.0, 35.0, 20.0))
    ]
    assert fit_fixed_window(labels) == pytest.approx((0.2, 0.6))
    for useless in ([], QUERIES):
        with pytest.raises(ValueError, match="labels"):
            fit_fixed_window(useless)


def charades(folder: Path, name: str, durations: dict[str, float]) -> list[Annotation]:
    records = []
    for index, line in enumerate((folder / name).read_text(encoding="utf-8").splitlines()):
        head, query = line.split("##", 1)
        vid, start, end = head.split()
        window = (float(start), float(end))
        records.append(
            Annotation(
                qid=index,
                query=query,
                vid=vid,
                duration=durations[vid],
                relevant_windows=(window,),
            )
        )
    return records


@pytest.fixture(scope="module")
def charades_test(data_folder: Path) -> list[Annotation]:
    folder = data_folder / "annotations" / "charades_sta"
    table = gzip.decompress((folder / "Charades_v1_test.csv.gz").read_bytes()).decode()
    durations = {row["id"]: float(row["length"]) for row in csv.DictReader(io.StringIO(table))}
    return charades(folder, "charades_sta_test.txt", durations)


def percentages(answers: list, annotations: list[Annotation]) -> list[str]:
    result = evaluate(answers, annotations)
    return [as_percent(result[key]) for key in ("R1@0.3", "R1@0.5", "R1@0.7", "mIoU")]


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ((0, 1), ["34.30", "0.43", "0.00", "26.99"]),
        ((0, 0.33), ["42.63", "30.38", "16.94", "29.07"]),
        ((0, 0.5), ["49.46", "25.59", "9.97", "30.15"]),
        ((0, 0.45), ["48.79", "27.69", "11.85", "30.55"]),
        ((0.25, 0.75), ["34.70", "12.53", "2.66", "23.08"]),
        ((0.33, 0.67), ["27.18", "14.46", "5.03", "19.30"]),
    ],
)
def test_trivial_priors_of_charades(charades_test: list, window: tuple, expected: list) -> None:
    assert len(charades_test) == 3720
    assert percentages(fixed_window(charades_test, *window), charades_test) == expected


def test_the_best_window_on_charades_train(data_folder: Path) -> None:
    folder = data_folder / "annotations" / "charades_sta"
    durations = json.loads((folder / "Charades_duration.json").read_text())
    train = charades(folder, "charades_sta_train.txt", durations)
    assert len(train) == 12408
    assert fit_fixed_window(train) == (0.0, 0.45)


def test_the_whole_video_on_qvhighlights(data_folder: Path) -> None:
    annotations = read_annotations(
        data_folder / "annotations" / "qvhighlights" / "highlight_val_release.jsonl"
    )
    assert len(annotations) == 1550
    expected = ["20.06", "9.03", "6.06", "23.89"]
    assert percentages(whole_video(annotations), annotations) == expected
