"""Answers every query of an annotation file with one model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from zsvg.backbones.base import videos_for
from zsvg.errors import ITEM_ERRORS, VideoError, failure
from zsvg.grounding.answers import EncodedVideo
from zsvg.grounding.grounder import Grounder
from zsvg.grounding.load import load
from zsvg.records import Annotation, Prediction, called, check_query, to_jsonl


def predict(
    model: Grounder | str | Path,
    annotations: Iterable[Annotation],
    videos: Mapping[str, Path] | str | Path,
    *,
    top_k: int = 5,
    cache: str | Path | None = None,
    allow_truncated: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> tuple[list[Prediction], dict[str, str]]:
    """Answer queries video by video; the true windows are not looked at.

    Args:
        model: A loaded one, a model folder, or the name of a backbone.
        annotations: Queries; only qid, query and vid are read, and `domain` where the model has
            domains and the grounder is not set to one.
        videos: vid -> file, or a folder of them.
        top_k: Most answers per query.
        cache: Folder of cached features; None keeps none.
        allow_truncated: Keep the readable part of damaged files.
        on_progress: Called with the number of answered queries.

    Returns:
        Predictions in the order of the annotations, with the keys of `Grounding.extra`; and why
        others are missing, by the vid where a video cannot be used, or by the name of the record
        (`zsvg.records.called`).
    """
    grounder = model if isinstance(model, Grounder) else load(model)
    records = list(annotations)
    if not isinstance(videos, Mapping):
        videos = grounder.find(videos)
    videos = videos_for(grounder.backbone, videos, records)
    by_video: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        by_video.setdefault(record.vid, []).append(index)
    found: dict[int, Prediction] = {}
    failures: dict[str, str] = {}
    done = 0
    for vid, indices in by_video.items():
        try:
            if vid not in videos:
                raise VideoError(_missing(vid, [records[index] for index in indices]))
            video = grounder.encode(videos[vid], cache=cache, allow_truncated=allow_truncated)
        except ITEM_ERRORS as error:
            failures[vid] = failure(videos.get(vid, vid), error)
        else:
            for index in indices:
                name = called(records[index])
                try:
                    found[index] = _predict(grounder, video, records[index], top_k)
                except ITEM_ERRORS as error:
                    failures[name] = failure(name, error)
        done += len(indices)
        if on_progress:
            on_progress(done)
    return [found[i] for i in sorted(found)], failures


def _missing(vid: str, asked: list[Annotation]) -> str:
    more = f" and {len(asked) - 1} more" if len(asked) > 1 else ""
    return f"{vid}: no such video in the folder, but qid {asked[0].qid!r}{more} asks for it"


def _predict(grounder: Grounder, video: EncodedVideo, record: Annotation, top_k: int) -> Prediction:
    check_query(record)
    domain = record.extra.get("domain") if grounder.domains else None
    domain = grounder.domain or (domain if isinstance(domain, str) else None)
    answer = grounder.ground(video, record.query, top_k=top_k, domain=domain)
    windows = [(round(m.start, 3), round(m.end, 3), round(m.score, 6)) for m in answer.moments]
    prediction = replace(
        answer.prediction(record.qid, record.vid), pred_relevant_windows=tuple(windows)
    )
    to_jsonl((prediction,))  # what cannot be written should not be found out with all the others
    return prediction
