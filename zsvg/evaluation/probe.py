"""Does a model look, or does it know where moments usually are? Put noise in front and ask again.

TFVTG's OOD-1 and OOD-2 put 10 and 15 seconds (ActivityNet: 30 and 60) of noise in front of every
video. Who follows the content answers the same moments later; who answers by place does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from zsvg.errors import ITEM_ERRORS, VideoError, ZsvgError, failure
from zsvg.evaluation.metrics import evaluate
from zsvg.grounding.answers import EncodedVideo
from zsvg.grounding.grounder import Grounder
from zsvg.moments import paired_iou
from zsvg.records import Annotation, Prediction, called, check_query

SECONDS = (0.0, 10.0, 15.0)
_NOTHING = (0.0, 0.0)


def noise_in_front(
    grounder: Grounder, video: EncodedVideo, seconds: float, *, seed: int = 0
) -> EncodedVideo:
    """Return the video as if `seconds` of random pixels, rounded to whole clips, came before it.

    Args:
        grounder: The one that encoded the video.
        video: What it encoded.
        seconds: Length of the noise, 0 or more.
        seed: Of the noise; it is the same for all videos.

    Raises:
        ValueError: `seconds` is negative or not finite.
    """
    if not (np.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"{seconds} seconds of noise: give 0 or more")
    frames = video.frames
    clips = round(seconds * frames.fps)
    if not clips:
        return video
    side = grounder.backbone.image_size
    pictures = np.random.default_rng(seed).integers(0, 256, (clips, side, side, 3), dtype=np.uint8)
    rows = grounder.encode_pictures(pictures)
    length = clips / frames.fps
    return replace(
        video,
        frames=replace(
            frames,
            features=np.concatenate((rows, frames.features)),
            times=np.concatenate((np.arange(clips) / frames.fps, frames.times + length)),
            duration=frames.duration + length,
        ),
    )


def probe(
    grounder: Grounder,
    annotations: Sequence[Annotation],
    videos: Mapping[str, Path],
    *,
    seconds: Sequence[float] = SECONDS,
    seed: int = 0,
    cache: str | Path | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Ground every query with noise of several lengths in front of its video.

    Args:
        grounder: The model to probe.
        annotations: Queries and their true windows.
        videos: vid -> file.
        seconds: Lengths of the noise; 0 is the plain test and is always measured.
        seed: Of the noise.
        cache: Folder of frame features.
        on_progress: Called with the number of queries that are done.

    Returns:
        One row per length: `seconds`; `metrics`, as `evaluate` gives them, of the model against the
        truth moved by that much; `followed`, the mean IoU of its first answers with its own plain
        ones moved by that much (1: noise changes nothing); `stayed`, the same with its plain ones
        unmoved (high: it answers by place). An answer of no moment has no IoU with any (0). No row
        where no query can be answered. And why others are missing, as of
        `zsvg.grounding.prediction.predict`.

    Raises:
        ZsvgError: There is no query.
        ValueError: A length is not finite.
    """
    if not annotations:
        raise ZsvgError("there is no query to ask; give annotations with some")
    if not np.isfinite(seconds).all():
        raise ValueError(f"--seconds {list(seconds)}: give lengths of noise in seconds")
    lengths = (0.0, *(length for length in sorted(set(seconds)) if length > 0))
    answers: dict[float, list[Prediction]] = {length: [] for length in lengths}
    truth: dict[float, list[Annotation]] = {length: [] for length in lengths}
    failures: dict[str, str] = {}
    done = 0
    for vid in sorted({record.vid for record in annotations}):
        asked = [record for record in annotations if record.vid == vid]
        try:
            if vid not in videos:
                raise VideoError(f"{vid}: there is no such video, but a query asks for it")
            plain = grounder.encode(videos[vid], cache=cache)
            noisy = {n: noise_in_front(grounder, plain, n, seed=seed) for n in lengths}
        except ITEM_ERRORS as error:
            failures[vid] = failure(videos.get(vid, vid), error)
            noisy = {}
        for record in asked if noisy else ():
            name = called(record)
            try:
                check_query(record, timed=True)
                found = [_answer(grounder, noisy[length], record) for length in lengths]
            except ITEM_ERRORS as error:
                failures[name] = failure(name, error)
                continue
            for length, answer in zip(lengths, found, strict=True):
                answers[length].append(answer)
                truth[length].append(_moved(record, noisy[length].duration - plain.duration))
        done += len(asked)
        if on_progress is not None:
            on_progress(done)
    if not answers[0.0]:
        return [], failures
    before = _first(answers[0.0])
    rows = []
    for length in lengths:
        moves = [
            new.relevant_windows[0][0] - old.relevant_windows[0][0]
            for new, old in zip(truth[length], truth[0.0], strict=True)
        ]
        now = _first(answers[length])
        rows.append(
            {
                "seconds": length,
                "metrics": evaluate(answers[length], truth[length]),
                "followed": float(paired_iou(now, before + np.array(moves)[:, None]).mean()),
                "stayed": float(paired_iou(now, before).mean()),
            }
        )
    return rows, failures


def _answer(grounder: Grounder, video: EncodedVideo, record: Annotation) -> Prediction:
    return grounder.ground(video, record.query).prediction(record.qid, record.vid)


def _first(answers: Sequence[Prediction]) -> Any:
    # An empty span overlaps with none, moved or not.
    return np.array([(answer.pred_relevant_windows or (_NOTHING,))[0][:2] for answer in answers])


def _moved(record: Annotation, seconds: float) -> Annotation:
    return replace(
        record,
        duration=record.duration + seconds,
        relevant_windows=tuple((s + seconds, e + seconds) for s, e in record.relevant_windows),
    )
