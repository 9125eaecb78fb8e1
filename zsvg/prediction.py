"""Answers every query of an annotation file with one model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from zsvg.errors import VideoError, ZsvgError
from zsvg.grounder import EncodedVideo, Grounder
from zsvg.records import Annotation, Prediction


def predict_all(
    grounder: Grounder,
    annotations: Iterable[Annotation],
    videos: Mapping[str, Path],
    *,
    top_k: int = 5,
    cache: str | Path | None = None,
    allow_truncated: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> tuple[list[Prediction], dict[str, str]]:
    """Answer queries video by video; the true windows are not looked at.

    Args:
        grounder: The model.
        annotations: Queries; only qid, query and vid are read, and `domain` where the model has
            domains and the grounder is not set to one.
        videos: vid -> file.
        top_k: Most answers per query.
        cache: Folder of cached features; None keeps none.
        allow_truncated: Keep the readable part of damaged files.
        on_progress: Called with the number of answered queries.

    Returns:
        Predictions in the order of the annotations, with the keys of `Grounding.extra`, and vid ->
        why a video could not be used.
    """
    records = list(annotations)
    by_video: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        by_video.setdefault(record.vid, []).append(index)
    found: dict[int, Prediction] = {}
    failures: dict[str, str] = {}
    done = 0
    for vid, indices in by_video.items():
        try:
            if vid not in videos:
                raise VideoError(f"{vid}: no such video in the folder, but a query asks for it")
            video = grounder.encode(videos[vid], cache=cache, allow_truncated=allow_truncated)
        except ZsvgError as error:
            failures[vid] = str(error)
        else:
            for index in indices:
                found[index] = _predict(grounder, video, records[index], top_k)
        done += len(indices)
        if on_progress:
            on_progress(done)
    return [found[i] for i in sorted(found)], failures


def _predict(grounder: Grounder, video: EncodedVideo, record: Annotation, top_k: int) -> Prediction:
    domain = record.extra.get("domain") if grounder.domains else None
    domain = grounder.domain or (domain if isinstance(domain, str) else None)
    answer = grounder.ground(video, record.query, top_k=top_k, domain=domain)
    return Prediction(
        qid=record.qid,
        query=record.query,
        vid=record.vid,
        pred_relevant_windows=tuple(
            (round(m.start, 3), round(m.end, 3), round(m.score, 6)) for m in answer.moments
        ),
        extra=answer.extra,
    )
