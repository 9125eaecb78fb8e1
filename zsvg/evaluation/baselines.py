"""Answers that need neither the video nor the query: the numbers every method must beat.

Each function looks only at qid, query, vid and duration of the annotations it answers; the truth is
used by `fit_fixed_window` alone, and there it is the labels given for fitting. `exchanged` makes
such answers of those of any method.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

import numpy as np

from zsvg.evaluation.metrics import pad_windows
from zsvg.moments import paired_iou
from zsvg.records import Annotation, Prediction


def whole_video(annotations: Iterable[Annotation]) -> list[Prediction]:
    """Answer every query with the whole video."""
    return fixed_window(annotations, 0.0, 1.0)


def fixed_window(annotations: Iterable[Annotation], a: float, b: float) -> list[Prediction]:
    """Answer every query with the window [a, b) of its video, as fractions of the duration.

    Raises:
        ValueError: not 0 <= a < b <= 1.
    """
    if not 0.0 <= a < b <= 1.0:
        raise ValueError(f"window [{a}, {b}] must have 0 <= a < b <= 1 (fractions of the video)")
    return [_prediction(record, [(a, b)]) for record in annotations]


def uniform_part(
    annotations: Iterable[Annotation], *, parts: int = 3, seed: int = 0
) -> list[Prediction]:
    """Cut each video into equal parts; answer with all of them, in random order.

    Args:
        annotations: The queries to answer.
        parts: Number of equal parts.
        seed: Seed of the order. A query's answer depends on the seed and its qid only.

    Raises:
        ValueError: `parts` is below 1.
    """
    if parts < 1:
        raise ValueError(f"parts {parts} must be 1 or more")
    answers = []
    for record in annotations:
        order = list(range(parts))
        _random(record, seed).shuffle(order)
        windows = [(part / parts, (part + 1) / parts) for part in order]
        answers.append(_prediction(record, windows))
    return answers


def random_windows(
    annotations: Iterable[Annotation], seed: int, *, count: int = 5
) -> list[Prediction]:
    """Answer with windows between two points drawn uniformly from the video.

    Args:
        annotations: The queries to answer.
        seed: Seed of the draw. A query's answers depend on the seed and its qid only.
        count: Number of answers per query, in the order drawn.

    Raises:
        ValueError: `count` is below 1.
    """
    if count < 1:
        raise ValueError(f"count {count} must be 1 or more")
    answers = []
    for record in annotations:
        generator = _random(record, seed)
        windows: list[tuple[float, float]] = []
        while len(windows) < count:
            start, end = sorted((generator.random(), generator.random()))
            if start < end:
                windows.append((start, end))
        answers.append(_prediction(record, windows))
    return answers


def fit_fixed_window(annotations: Iterable[Annotation], *, steps: int = 20) -> tuple[float, float]:
    """Find the fixed window with the best mean IoU on labels, over a grid of fractions.

    Args:
        annotations: Labels or pseudo labels for fitting, never those that are evaluated.
        steps: The grid has borders at 0, 1/steps, ..., 1; 20 gives steps of 0.05.

    Returns:
        (a, b) with 0 <= a < b <= 1, for `fixed_window`; among equals the first, by a and then b.

    Raises:
        ValueError: there are no labels, or one has no window.
    """
    labels = list(annotations)
    if not labels or any(not record.relevant_windows for record in labels):
        raise ValueError("fitting a window needs labels, each with at least one relevant window")
    grid = [(i / steps, j / steps) for i in range(steps) for j in range(i + 1, steps + 1)]
    total = np.zeros(len(grid))
    block = 256  # bounds the (labels, windows, truths) array to a few megabytes
    for first in range(0, len(labels), block):
        some = labels[first : first + block]
        lengths = np.array([record.duration for record in some])
        answers = np.array(grid) * lengths[:, None, None]
        most = max(len(record.relevant_windows) for record in some)
        truth = np.nan_to_num(pad_windows([record.relevant_windows for record in some], most))
        total += paired_iou(answers[:, :, None], truth[:, None]).max(axis=-1).sum(axis=0)
    return grid[int(np.argmax(total))]


def trivial_answers(
    annotations: Sequence[Annotation], *, seed: int = 0
) -> dict[str, list[Prediction]]:
    """Return the rows that every table of results should show.

    The best window is chosen in hindsight, on the very truth it is then scored on: no answer that
    depends on the place in the video alone has a higher mean IoU (on a grid of twentieths).
    """
    answers = {
        "whole video": whole_video(annotations),
        "uniform part": uniform_part(annotations, seed=seed),
        "random": random_windows(annotations, seed),
    }
    start, end = fit_fixed_window(annotations)
    answers[f"best window in hindsight, {start:.2f}-{end:.2f}"] = fixed_window(
        annotations, start, end
    )
    return answers


def exchanged(
    predictions: Sequence[Prediction], annotations: Sequence[Annotation], *, seed: int = 0
) -> list[Prediction]:
    """Answer every query with what was answered to a query of another video.

    Windows are stretched to the length of the video. What these answers score, a method owes to
    where moments of such videos lie, and not to looking.

    Args:
        predictions: Of any method; queries of a video whose answers come from one without any stay
            without. Those about videos that nobody asks of are left out, as `evaluate` does.
        annotations: The queries, of which the predictions are.
        seed: Of the exchange of videos.
    """
    lengths = {record.vid: record.duration for record in annotations}
    given: dict[str, list[Prediction]] = {vid: [] for vid in lengths}
    for prediction in predictions:
        if prediction.vid in given:
            given[prediction.vid].append(prediction)
    other = another_video(lengths, seed)
    answers, asked = [], dict.fromkeys(lengths, 0)
    for record in annotations:
        found = given[other[record.vid]]
        if not found:
            continue
        source = found[asked[record.vid] % len(found)]
        asked[record.vid] += 1
        stretch = record.duration / lengths[source.vid]
        windows = source.pred_relevant_windows and tuple(
            (s * stretch, e * stretch, p) for s, e, p in source.pred_relevant_windows
        )
        answers.append(
            replace(
                source,
                qid=record.qid,
                query=record.query,
                vid=record.vid,
                pred_relevant_windows=windows,
            )
        )
    return answers


def another_video(vids: Collection[str], seed: int) -> dict[str, str]:
    """Return for each video another one, each once; a single video is left with itself."""
    order = sorted(vids)
    random.Random(seed).shuffle(order)
    # Along one cycle nobody stays with itself.
    return dict(zip(order, order[1:] + order[:1], strict=True))


def _random(record: Annotation, seed: int) -> random.Random:
    # Seeded by name, so that a subset or another order of the queries gives the same answers.
    return random.Random(f"{seed}:{record.qid!r}")


def _prediction(record: Annotation, fractions: Sequence[tuple[float, float]]) -> Prediction:
    """Turn windows in fractions of the video into a prediction with falling scores in (0, 1]."""
    count = len(fractions)
    return Prediction(
        qid=record.qid,
        query=record.query,
        vid=record.vid,
        pred_relevant_windows=tuple(
            (a * record.duration, b * record.duration, 1.0 - rank / count)
            for rank, (a, b) in enumerate(fractions)
        ),
    )
