"""How good pseudo labels are, measured against truth that made no label.

Two questions: does a label lie on a true moment (precision), and does a true moment have a label
(coverage)? Both mean little alone, because moments of a domain share lengths and places. So the
same numbers are given for labels that were exchanged between videos: what the lengths and places
alone would reach. Only the difference was learned by looking.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsvg.errors import ZsvgError
from zsvg.evaluation.baselines import another_video
from zsvg.moments import iou
from zsvg.records import Annotation, video_key

_EDGE_SHARE = 0.005  # of the labels that may lie below a sharp edge: rounding of times
_CHANCE = 0.05  # share of exchanged labels below that edge from which it cannot be chance
_FEWEST = 100  # labels below which no sign of a leak is looked for
_TENTHS = 10

Spans = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What was measured; `values` is plain JSON."""

    values: Mapping[str, Any]

    @property
    def bins(self) -> tuple[str, ...]:
        """Names of the histogram bins, in tenths of the video."""
        return tuple(f"{i / _TENTHS:.1f}" for i in range(_TENTHS))

    def rows(self) -> list[tuple[str, ...]]:
        """Return the table of precision and coverage."""
        rows = []
        names = {
            "own": "{}",
            "weighted": "{}, by the weights of the labels",
            "exchanged": "{}, labels exchanged between videos",
            "all_videos": "{}, videos without a label too",
        }
        for what in ("precision", "coverage"):
            for whose, numbers in self.values[what].items():
                name = names[whose].format(what)
                rows.append((name, *(f"{numbers[key]:.3f}" for key in ("mean", "0.5", "0.7"))))
        return rows

    def histograms(self) -> list[tuple[str, ...]]:
        """Return the table of lengths and centres."""
        return [
            (f"{what}, {whose}", *(f"{share:.2f}" for share in self.values[what][whose]))
            for what in ("length", "centre")
            for whose in ("labels", "truth")
        ]

    def notes(self) -> list[str]:
        """Return counts and warnings as lines."""
        v = self.values
        lines = [
            f"{v['labels']} labels, {v['events']} distinct events in {v['videos']} videos; "
            f"{v['moments']} true moments, {v['uncovered_videos']} of their videos without a label",
            f"{v['duplicates']} labels repeat sentence and window of another",
            *([f"{v['weightless']} labels weigh nothing"] if v["weightless"] else []),
            f"worst event: best IoU {v['minimum']:.4f}",
        ]
        if v["unknown_videos"]:
            lines.append(f"{v['unknown_videos']} labelled videos have no truth; left out")
        return lines + [f"warning: {warning}" for warning in v["warnings"]]


def audit(labels: Iterable[Annotation], truth: Iterable[Annotation], *, seed: int = 0) -> Audit:
    """Compare pseudo labels with the truth of the same videos.

    Args:
        labels: Pseudo labels; each of their windows counts.
        truth: Annotations. Windows are used as written.
        seed: Of the exchange of labels between videos.

    Returns:
        Precision (best IoU of each label with its video's true moments) and coverage (best IoU of
        each true moment with its video's labels), own and exchanged, over the videos that have
        labels; precision also by the labels' weights, where they differ; coverage also over all
        videos, 0 where there is no label: mean, and shares at IoU >= .5 and >= .7. Histograms of
        length and centre in tenths of the video; duplicates; signs that labels were made or chosen
        with the truth in hand.

    Raises:
        ZsvgError: The two have no video in common.
    """
    given, true = (
        [replace(record, vid=video_key(record.vid)) for record in records]
        for records in (labels, truth)
    )
    lengths = {r.vid: r.duration for r in (*given, *true)}
    moments = _by_video(true)
    spans = {vid: found for vid, found in _by_video(given).items() if vid in moments}
    if not spans:
        raise ZsvgError("labels and truth have no video in common; are the names of videos equal?")
    labelled = {vid: moments[vid] for vid in spans}
    unknown = {record.vid for record in given} - moments.keys()
    events = {vid: np.unique(found, axis=0) for vid, found in spans.items()}
    exchanged = _exchange(spans, lengths, seed)
    best, own = _best(events, moments), _best(spans, moments)
    by_video = _weights(given)
    weights = np.concatenate([by_video[vid] for vid in spans])
    best_exchanged = _best(
        {vid: np.unique(found, axis=0) for vid, found in exchanged.items()}, moments
    )
    repeats = Counter((r.vid, r.query, r.relevant_windows) for r in given)
    kept = [record for record in given if record.vid in moments]
    return Audit(
        values={
            "labels": sum(len(found) for found in spans.values()),
            "events": sum(len(found) for found in events.values()),
            "videos": len(spans),
            "moments": sum(len(found) for found in moments.values()),
            "uncovered_videos": len(moments.keys() - spans.keys()),
            "unknown_videos": len(unknown),
            "duplicates": sum(count - 1 for count in repeats.values()),
            "minimum": float(best.min()),
            "weightless": int((weights == 0).sum()),
            "precision": {
                "own": _summary(own),
                **({"weighted": _summary(own, weights)} if len(set(weights)) > 1 else {}),
                "exchanged": _summary(_best(exchanged, moments)),
            },
            "coverage": {
                "own": _summary(_best(labelled, spans)),
                "exchanged": _summary(_best(labelled, exchanged)),
                "all_videos": _summary(_best(moments, spans)),
            },
            "length": {"labels": _histogram(kept, _length), "truth": _histogram(true, _length)},
            "centre": {"labels": _histogram(kept, _centre), "truth": _histogram(true, _centre)},
            "warnings": _signs(best, best_exchanged),
        }
    )


def _by_video(records: Sequence[Annotation]) -> dict[str, NDArray[np.float64]]:
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for record in records:
        found[record.vid] += record.relevant_windows
    return {vid: np.array(windows) for vid, windows in found.items() if windows}


def _weights(records: Sequence[Annotation]) -> dict[str, list[float]]:
    """Return the weight of each window of `_by_video`."""
    found: dict[str, list[float]] = defaultdict(list)
    for record in records:
        weight = float(record.extra.get("weight", 1.0))
        found[record.vid] += [weight] * len(record.relevant_windows)
    return found


def _exchange(spans: Spans, lengths: Mapping[str, float], seed: int) -> Spans:
    """Give each video the labels of another one, stretched to its length."""
    other = another_video(spans, seed)
    return {vid: spans[other[vid]] / lengths[other[vid]] * lengths[vid] for vid in sorted(spans)}


def _best(spans: Spans, others: Spans) -> NDArray[np.float64]:
    """Best IoU of every span with the other spans of its video; 0 where there are none."""
    return np.concatenate(
        [
            iou(found, others[vid]).max(axis=1) if vid in others else np.zeros(len(found))
            for vid, found in spans.items()
        ]
    )


def _summary(
    best: NDArray[np.float64], weights: NDArray[np.float64] | None = None
) -> dict[str, float]:
    if weights is not None and not weights.any():
        weights = None  # nothing counts: all count alike
    values = {"mean": best, "0.5": best >= 0.5, "0.7": best >= 0.7}
    return {
        name: float(np.average(value.astype(np.float64), weights=weights))
        for name, value in values.items()
    }


def _length(start: float, end: float) -> float:
    return end - start


def _centre(start: float, end: float) -> float:
    return (start + end) / 2


def _histogram(records: Sequence[Annotation], measure: Any) -> list[float]:
    """Shares of windows per tenth of the video; what lies outside counts in the nearest tenth."""
    shares = [measure(*w) / r.duration for r in records for w in r.relevant_windows]
    bins = np.clip((np.array(shares) * _TENTHS).astype(int), 0, _TENTHS - 1)
    return [float(share) for share in np.bincount(bins, minlength=_TENTHS) / len(bins)]


def _signs(best: NDArray[np.float64], exchanged: NDArray[np.float64]) -> list[str]:
    """Return what suggests that the labels know the truth.

    Who does not see the truth is sometimes far off. A set of labels that never is, though labels
    of other videos often are, was filtered or made with it.
    """
    warnings = []
    if len(best) >= _FEWEST:
        edge = float(np.quantile(best, _EDGE_SHARE))
        below = float((exchanged < edge).mean())
        if below > _CHANCE:
            warnings.append(
                f"all but {_EDGE_SHARE:.1%} of the events overlap a true moment with IoU >= "
                f"{edge:.3f}, though {below:.0%} of other videos' events do not: the truth seems "
                "to have leaked into these labels (they look filtered or made by it)"
            )
        exact = float((best > 0.999).mean()), float((exchanged > 0.999).mean())
        if exact[0] > 0.02 and exact[0] > 5 * exact[1]:
            warnings.append(
                f"{exact[0]:.1%} of the events are true moments to the digit (exchanged: "
                f"{exact[1]:.1%}): a leak, or copies of annotations among the labels"
            )
    return warnings
