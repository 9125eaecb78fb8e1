"""A page about pseudo labels: how many, how long, how they are worded, and some videos of them.

It answers what one wants to know before a model is trained on labels that nobody has read. Equal
labels and videos give equal bytes.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zsvg.errors import ITEM_ERRORS, VideoError, ZsvgError, failure
from zsvg.evaluation.audit import audit
from zsvg.files import write_text
from zsvg.records import Annotation, video_key
from zsvg.report import page
from zsvg.report.svg import histogram, shorten, value_range
from zsvg.report.timelines import middle_frames, score, source, video_card

_THUMBNAILS = 6
_PER_LABEL = ("caption", "query", "sentence")  # keys of `source` that differ from label to label


def draw_videos(labels: Sequence[Annotation], most: int, seed: int) -> list[str]:
    """Return the names of at most `most` videos of the labels, drawn with a seed, sorted.

    Raises:
        ValueError: `most` is negative.
    """
    if most < 0:
        raise ValueError(f"most {most} must be a number of videos, 0 or more")
    vids = sorted({label.vid for label in labels})
    return sorted(random.Random(seed).sample(vids, min(most, len(vids))))


def write_inspection(
    path: str | Path,
    labels: Sequence[Annotation],
    *,
    name: str = "pseudo labels",
    videos: Mapping[str, Path] | None = None,
    truth: Sequence[Annotation] | None = None,
    most: int = 30,
    seed: int = 0,
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, str]:
    """Write the page as one HTML file, atomically.

    Args:
        path: File to write.
        labels: Pseudo labels; scores and makers are read from `extra["source"]`, where given.
        name: What the page calls the labels, such as the name of their file.
        videos: vid -> file, for pictures; None draws none.
        truth: Annotations of these videos, for an audit and beside the labels in the timelines.
        most: Videos to draw.
        seed: Of the choice of these videos, and of the audit.
        on_progress: Called with the number of videos drawn so far.

    Returns:
        vid -> why a drawn video has no pictures. The page says so too; it is not written where none
        has any.

    Raises:
        ZsvgError: There is no label with a window, or truth and labels have no video in common.
        ValueError: `most` is negative.
    """
    if not any(label.relevant_windows for label in labels):
        raise ZsvgError(f"{name}: no label with a window in it; make some with zsvg pseudo-label")
    shown = draw_videos(labels, most, seed)
    result = None if truth is None else audit(labels, truth, seed=seed)
    own = _by_video(labels)
    true = _by_video([replace(record, vid=video_key(record.vid)) for record in truth or ()])
    failures: dict[str, str] = {}
    cards = []
    for done, vid in enumerate(shown, 1):
        duration = max(label.duration for label in own[vid])
        frames: Sequence[NDArray[np.uint8]] = ()
        if videos is not None:
            try:
                if vid not in videos:
                    raise VideoError(f"{vid}: no video of this name in the folder of videos")
                frames = middle_frames(videos[vid], duration, _THUMBNAILS)
            except ITEM_ERRORS as error:
                failures[vid] = failure(videos.get(vid, vid), error)
        known = None if truth is None else true.get(video_key(vid), [])
        cards.append(video_card(vid, duration, frames, own[vid], known, failures.get(vid)))
        if on_progress is not None:
            on_progress(done)
    if shown and len(failures) == len(shown):
        return failures
    text = page.render(
        "inspect.html",
        f"Pseudo labels: {name}",
        summary=_summary(labels),
        facts=_facts(labels, videos),
        shapes=_shapes(labels, truth),
        sentences=_sentences(labels),
        audit=result,
        audited=[
            page.Row(name, cells, ours=name in ("precision", "coverage"))
            for name, *cells in (result.rows() if result else ())
        ],
        cards=cards,
        videos=len(own),
        seed=seed,
    )
    write_text(path, text)
    return failures


def _by_video(records: Sequence[Annotation]) -> dict[str, list[Annotation]]:
    found: dict[str, list[Annotation]] = defaultdict(list)
    for record in records:
        found[record.vid].append(record)
    return dict(found)


def _spans(records: Sequence[Annotation]) -> NDArray[np.float64]:
    """Return (n, 2) windows as fractions of their videos; what lies outside is cut off."""
    spans = [(s / r.duration, e / r.duration) for r in records for s, e in r.relevant_windows]
    return np.clip(np.array(spans, dtype=np.float64).reshape(-1, 2), 0, 1)


def _summary(labels: Sequence[Annotation]) -> str:
    counts = Counter(label.vid for label in labels)
    sentences = Counter(label.query for label in labels)
    repeated = sum(count for count in sentences.values() if count > 1)
    shared = page.percent(repeated / len(labels))
    length = page.percent(float(np.diff(_spans(labels)).clip(0).mean()))
    median = np.median(list(counts.values()))
    return (
        f"{page.count(len(counts), 'video')}, {page.count(len(labels), 'label')}: {median:g} in "
        f"the median video, {max(counts.values()):,} at most. {len(sentences):,} different "
        f"sentences; {shared} of the labels share theirs with another label. A label lasts "
        f"{length} of its video on average."
    )


def _facts(labels: Sequence[Annotation], videos: Mapping[str, Path] | None) -> dict[str, str]:
    """Return who made the labels, and what is missing."""
    made: dict[str, Counter[str]] = defaultdict(Counter)
    for label in labels:
        for key, value in source(label).items():
            if isinstance(value, str) and key not in _PER_LABEL:
                made[str(key)][value] += 1
    facts = {}
    for key, counts in sorted(made.items()):
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        shares = [f" ({n:,} of {len(labels):,})" if n < len(labels) else "" for _, n in ranked]
        shown = [shorten(v) + share for (v, _), share in zip(ranked[:5], shares, strict=False)]
        more = [f"{len(ranked) - 5:,} more"] if len(ranked) > 5 else []
        facts[shorten(key)] = ", ".join(shown + more)
    windows = sum(len(label.relevant_windows) for label in labels)
    if windows != len(labels):
        facts["windows"] = f"{windows:,}"
    if videos is not None:
        silent = len(videos.keys() - {label.vid for label in labels})
        facts["videos without a label"] = f"{silent:,} of {len(videos):,} in the folder"
    return facts


def _shapes(labels: Sequence[Annotation], truth: Sequence[Annotation] | None) -> list[str]:
    """Draw how lengths, centres and scores are spread."""
    given = ({} if truth is None else {"truth": _spans(truth)}) | {"guess": _spans(labels)}
    edges = np.linspace(0, 1, 11)
    pictures = []
    measures: Mapping[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
        "Length": np.diff,
        "Centre": lambda spans: spans.mean(axis=1),
    }
    for what, measure in measures.items():
        values = {style: np.clip(measure(spans).ravel(), 0, 1) for style, spans in given.items()}
        bars = [(k, np.histogram(v, edges)[0] / max(len(v), 1)) for k, v in values.items()]
        label = f"Labels: {page.percent(float(np.median(values['guess'])))} in the median"
        title, names = f"{what} as part of the video", ("0 %", "50 %", "100 %")
        pictures.append(histogram(title, bars, names, label))
    scores = np.array([value for value in map(score, labels) if value is not None])
    if len(scores):
        low, high = value_range(scores)
        bins = 20 if len(scores) >= 200 else 10
        shares = np.histogram(scores, bins, (low, high))[0] / len(scores)
        label = f"{np.median(scores):.2f} in the median of {len(scores):,} labels"
        ends = [f"{value:.2f}" for value in (low, (low + high) / 2, high)]
        pictures.append(histogram("Score", [("line-bar", shares)], ends, label))
    return pictures


def _sentences(labels: Sequence[Annotation]) -> list[page.Row]:
    """Return all sentences, most frequent first, with their numbers of labels and of videos."""
    counts = Counter(label.query for label in labels)
    vids: dict[str, set[str]] = defaultdict(set)
    for label in labels:
        vids[label.query].add(label.vid)
    ranked = sorted(counts, key=lambda sentence: (-counts[sentence], sentence))
    return [page.Row(page.words(s), [f"{counts[s]:,}", f"{len(vids[s]):,}"]) for s in ranked]
