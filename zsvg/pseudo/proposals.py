"""Where something happens: event proposals from frame features alone.

PSVL's temporal event proposal (Nam et al., "Zero-shot Natural Language Video Localization",
ICCV 2021): the column of the frames' self-similarity matrix that belongs to a frame is its
contextual feature, k-means over the contextual features gives atomic events, and unions of
consecutive atomic events are composite events.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

# A centred frame shorter than this is float16 rounding of the mean frame, not content; scaling it
# up to length one would find "events" in a still picture.
_STILL = 2e-3


@dataclass(frozen=True, kw_only=True)
class ProposalOptions:
    """How a video is cut into events.

    Attributes:
        points: Frames looked at, evenly spread (PSVL: 128). Shorter videos repeat frames.
        clusters: k of k-means (PSVL: 5). Videos with fewer frames than this are one event.
        min_run: Fewest points of an atomic event (PSVL: 11 of 128, that is 8.6 % of the video).
        centre: Subtract the mean frame before frames are compared. CLIP frames of one video share
            a large common component that hides what changes.
        temporal_weight: Weight of the extra feature sqrt(point index); 1.0 is SPL's form. With
            similarities of CLIP features it outweighs content, so it is off by default.
        restarts: k-means++ starts, the best of which is kept.
        rule: "uniform" samples composite events (the best rule in PSVL), "all" keeps every one.
        count: Events per video kept by "uniform".
        max_atoms: Most atomic events in one composite event; None for no limit.
    """

    points: int = 128
    clusters: int = 5
    min_run: int = 11
    centre: bool = True
    temporal_weight: float = 0.0
    restarts: int = 4
    rule: Literal["uniform", "all"] = "uniform"
    count: int = 10
    max_atoms: int | None = None

    def __post_init__(self) -> None:
        for name in ("points", "clusters", "min_run", "restarts", "count"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.clusters > self.points:
            raise ValueError(f"clusters must not exceed points ({self.points}): {self.clusters}")
        if self.temporal_weight < 0:
            raise ValueError(f"temporal_weight must not be negative, got {self.temporal_weight}")
        if self.rule not in ("uniform", "all"):
            raise ValueError(f"rule must be 'uniform' or 'all', got {self.rule!r}")
        if self.max_atoms is not None and self.max_atoms < 1:
            raise ValueError(f"max_atoms must be at least 1 or None, got {self.max_atoms}")


def self_similarity(features: ArrayLike, *, centre: bool = False) -> NDArray[np.float64]:
    """Return the cosine of every pair of frames.

    Args:
        features: (T, D) frame features; they need not be normalised.
        centre: Subtract the mean frame first. Frames that equal the mean get similarity 0.

    Returns:
        (T, T) float64, symmetric, in [-1, 1].
    """
    frames = np.asarray(features, dtype=np.float64)
    lengths = np.linalg.norm(frames, axis=1, keepdims=True)
    frames = frames / np.where(lengths > 0, lengths, 1.0)
    if centre:
        frames = frames - frames.mean(axis=0)
        lengths = np.linalg.norm(frames, axis=1, keepdims=True)
        frames = np.where(lengths > _STILL, frames / np.where(lengths > 0, lengths, 1.0), 0.0)
    return np.clip(frames @ frames.T, -1.0, 1.0)


def atomic_events(
    features: ArrayLike,
    edges: ArrayLike,
    *,
    options: ProposalOptions | None = None,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Cut a video into consecutive atomic events.

    Args:
        features: (T, D) frame features, one per clip.
        edges: (T + 1,) borders of the clips, seconds, increasing.
        options: How to cut.
        seed: Of k-means; equal seeds give equal events.

    Returns:
        (n, 2) spans in seconds, n >= 1, that tile [edges[0], edges[-1]) in order.

    Raises:
        ValueError: If there is no frame, or edges do not fit the frames.
    """
    options = options or ProposalOptions()
    frames, borders = np.asarray(features), np.asarray(edges, dtype=np.float64)
    if frames.ndim != 2 or len(frames) == 0:
        raise ValueError(f"features must be (T, D) with T >= 1, got shape {frames.shape}")
    if borders.shape != (len(frames) + 1,):
        raise ValueError(f"{len(frames)} frames need {len(frames) + 1} edges, got {borders.shape}")
    if len(frames) < options.clusters:
        return borders[[0, -1]].reshape(1, 2)

    # The frame in the middle of each of `points` equal parts; repeated where T < points.
    index = (2 * np.arange(options.points) + 1) * len(frames) // (2 * options.points)
    similarity = self_similarity(frames[index], centre=options.centre)
    context = similarity
    if options.temporal_weight > 0:
        # Of the frame, not of the point: copies of one frame must stay in one cluster.
        position = index * options.points / len(frames)
        context = np.column_stack([similarity, options.temporal_weight * np.sqrt(position)])
    labels = _absorb_short_runs(
        _cluster(context, options.clusters, options.restarts, seed), similarity, options.min_run
    )
    cuts = np.flatnonzero(np.diff(labels))
    # Halfway between the last frame looked at before the cut and the first one after it.
    inner = borders[(index[cuts] + index[cuts + 1] + 1) // 2]
    walls = np.concatenate([borders[:1], inner, borders[-1:]])
    return np.column_stack([walls[:-1], walls[1:]])


def composites(
    atoms: ArrayLike,
    *,
    rule: Literal["uniform", "all"] = "uniform",
    count: int = 10,
    max_atoms: int | None = None,
    seed: int = 0,
) -> list[tuple[int, int]]:
    """Choose unions of consecutive atomic events; single atomic events are among them.

    The union of all atomic events is left out unless there is only one: a label that covers the
    whole video says nothing about when.

    Args:
        atoms: (n, 2) atomic events in order, seconds.
        rule: "uniform" draws `count` unions without replacement, "all" takes every one.
        count: Most unions that "uniform" returns.
        max_atoms: Most atomic events in one union; None for no limit.
        seed: Of the draw.

    Returns:
        Sorted (first, last) pairs of atom indices, both included.
    """
    n = len(np.asarray(atoms))
    longest = min(n if max_atoms is None else max_atoms, max(n - 1, 1))
    pairs = [(i, j) for i in range(n) for j in range(i, min(i + longest, n))]
    if rule == "all" or len(pairs) <= count:
        return pairs
    chosen = np.random.default_rng(seed).choice(len(pairs), size=count, replace=False)
    return [pairs[k] for k in sorted(chosen.tolist())]


def _cluster(points: NDArray[np.float64], k: int, restarts: int, seed: int) -> NDArray[np.intp]:
    """Return the k-means cluster of each point; fewer than k clusters where points coincide."""
    means = KMeans(n_clusters=k, n_init=restarts, random_state=seed, algorithm="lloyd")
    with warnings.catch_warnings():
        # "fewer distinct clusters than n_clusters": expected of a still video, and harmless.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.asarray(means.fit_predict(points), dtype=np.intp)


def _absorb_short_runs(
    labels: NDArray[np.intp], similarity: NDArray[np.float64], min_run: int
) -> NDArray[np.intp]:
    """Give each run shorter than `min_run` the label of its more similar neighbour.

    Shortest first, and runs are counted anew after each, so that A b A becomes one run of A.
    """
    labels = labels.copy()
    while True:
        starts = np.concatenate([[0], np.flatnonzero(np.diff(labels)) + 1, [len(labels)]])
        lengths = np.diff(starts)
        run = int(np.argmin(lengths))
        if len(lengths) == 1 or lengths[run] >= min_run:
            return labels
        inside = similarity[starts[run] : starts[run + 1]]
        neighbours = [k for k in (run - 1, run + 1) if 0 <= k < len(lengths)]
        closest = max(neighbours, key=lambda k: inside[:, starts[k] : starts[k + 1]].mean())
        labels[starts[run] : starts[run + 1]] = labels[starts[closest]]
