"""What a second model says of the labels of one video: other words, and whether they hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsvg.backbones.questions import NoAnswer
from zsvg.label.asking import Asking, rephrase, verify
from zsvg.label.views import clean

JUDGED = 4
"""Frames inside an event, and as many outside, by which a sentence is verified."""


def rephrased(
    labels: Sequence[dict[str, Any]], asking: Asking, lost: list[str]
) -> list[dict[str, Any]]:
    """Put behind each label what else can be said; they share its weight.

    Args:
        labels: Of one video, as finished videos keep them.
        asking: Whom to ask.
        lost: Gets to know what was not answered.
    """
    ways, unanswered = rephrase([label["query"] for label in labels], asking)
    lost += [f"rephrasing {sentence!r}: {why}" for sentence, why in unanswered.items()]
    taken = {label["query"].casefold() for label in labels}
    found: list[dict[str, Any]] = []
    for label in labels:
        texts = dict.fromkeys(map(clean, ways.get(label["query"], ())))
        fresh = [text for text in texts if text and text.casefold() not in taken]
        taken |= {text.casefold() for text in fresh}
        weight = round(label.get("weight", 1.0) / (1 + len(fresh)), 6)
        label = {**label, "weight": weight} if fresh else label
        found.append(label)
        found += [{**label, "query": text, "paraphrase": label["query"]} for text in fresh]
    return found


def verified(
    labels: Sequence[dict[str, Any]],
    asking: Asking,
    duration: float,
    pictures: Callable[[NDArray[np.float64], int], NDArray[np.uint8]],
    lost: list[str],
) -> list[dict[str, Any]]:
    """Multiply weights by what the verifier says, and leave out near misses that are none.

    Args:
        labels: Of one video, as finished videos keep them.
        asking: Whom to ask.
        duration: Of the video, seconds.
        pictures: Returns the frames at times (n, k) seconds as (n, k, size, size, 3) uint8.
        lost: Gets to know what was not answered. Such a sentence is believed, a near miss is not.
    """
    if asking.verifier is None or not labels:
        return list(labels)
    asked: dict[tuple[str, tuple[float, float]], Any] = {}
    shown: dict[tuple[float, float], Any] = {}
    for label in labels:
        window = (float(label["window"][0]), float(label["window"][1]))
        if window not in shown:
            times = np.concatenate((_inside(window), _outside(window, duration)))
            shown[window] = pictures(times[None], asking.verifier.image_size)[0], times, JUDGED
        for text in (label.get("paraphrase", label["query"]), *label.get("absent", ())):
            asked[text, window] = (text, *shown[window])
    verdicts = dict(zip(asked, verify(list(asked.values()), asking), strict=True))
    for (text, window), verdict in verdicts.items():
        if isinstance(verdict, NoAnswer):
            lost.append(f"{span_of(window)}: verifying {text!r}: {verdict}")
    found = []
    for label in labels:
        window = (float(label["window"][0]), float(label["window"][1]))
        one = verdicts[label.get("paraphrase", label["query"]), window]
        fresh = dict(label)
        if not isinstance(one, NoAnswer):
            fresh["weight"] = round(label.get("weight", 1.0) * one.weight, 6)
            fresh["verdict"] = [one.inside, one.outside]
        absent = [verdicts[text, window] for text in fresh.pop("absent", ())]
        kept = [
            text
            for text, verdict in zip(label.get("absent", ()), absent, strict=True)
            if not isinstance(verdict, NoAnswer) and verdict.absent
        ]
        found.append({**fresh, "absent": kept} if kept else fresh)
    return found


def _inside(window: tuple[float, float]) -> NDArray[np.float64]:
    parts = (np.arange(JUDGED) + 0.5) / JUDGED
    return np.asarray(window[0] + parts * (window[1] - window[0]))


def _outside(window: tuple[float, float], duration: float) -> NDArray[np.float64]:
    """Return the middles of equal parts of what is left of a video, none where nothing is."""
    start, end = window
    rest = duration - (end - start)
    if rest <= 0:
        return np.zeros(0)
    places = (np.arange(JUDGED) + 0.5) / JUDGED * rest
    return np.where(places < start, places, places + (end - start))


def span_of(window: Any) -> str:
    """Return how messages name an event."""
    return f"{float(window[0]):.1f} to {float(window[1]):.1f} s"
