"""Which event of its video a sentence without a time tells of: the instances of a bag, compared.

That a sentence is true of a video says that it fits one of its events (multiple-instance matching,
as in WSLLN: Gao et al., EMNLP 2019). Which one is told by comparison with all other sentences: an
event that many of them fit is worth as much less, so that events win by what only they show. No
network is trained for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from zsvg.events.proposals import propose
from zsvg.features.encoder import FrameFeatures
from zsvg.label.by_matching import EVENTS
from zsvg.label.matching import looks_of_events
from zsvg.records import Annotation

# Chosen on one fold of Charades-STA's frames: how many sentences say how near an event is to all.
_HUB = 10
_AT_ONCE = 256  # sentences


def placed(
    labels: Sequence[Annotation],
    videos: Mapping[str, FrameFeatures],
    texts: Mapping[str, NDArray[np.float32]],
) -> list[tuple[float, float]]:
    """Return the event in seconds that each label's sentence is placed on.

    Args:
        labels: Sentences about videos; windows are not looked at.
        videos: vid -> frame features.
        texts: Sentence -> vector (D,) of unit length.
    """
    events = {
        vid: propose(videos[vid].features, videos[vid].edges, options=EVENTS)[0]
        for vid in sorted({label.vid for label in labels})
    }
    width = len(next(iter(texts.values())))
    seen = {vid: (videos[vid], spans) for vid, spans in events.items()}
    places, shown, _ = looks_of_events(seen, width)
    own: dict[str, list[int]] = {}
    for row, (vid, _) in enumerate(places):
        own.setdefault(vid, []).append(row)
    sentences = list(dict.fromkeys(label.query for label in labels))
    vectors = np.stack([texts[sentence] for sentence in sentences])
    vectors = _unit(vectors - vectors.mean(axis=0)) if len(vectors) > 1 else vectors
    looks = _unit(shown)
    near = _nearest(looks, vectors)
    number = {sentence: row for row, sentence in enumerate(sentences)}
    windows = []
    for label in labels:
        rows = own[label.vid]
        best = rows[int((looks[rows] @ vectors[number[label.query]] - near[rows]).argmax())]
        start, end = events[label.vid][places[best][1]]
        windows.append((float(start), float(end)))
    return windows


def _nearest(looks: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean fit (N,) of each event (N, D) and the sentences (S, D) it fits best."""
    most = min(_HUB, len(vectors))
    found = np.empty(len(looks), dtype=np.float32)
    for first in range(0, len(looks), _AT_ONCE):
        fits = looks[first : first + _AT_ONCE] @ vectors.T
        found[first : first + _AT_ONCE] = np.partition(fits, -most, axis=1)[:, -most:].mean(axis=1)
    return found


def _unit(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, 1e-9), dtype=np.float32)
