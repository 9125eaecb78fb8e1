"""Ways to cut a video into parts, each a small function of its frames on a grid.

Every method takes rows (n, D) of unit length, n >= 1, the options and a random stream, and returns
parts (k, 2): first point and point after the last, in order of their starts. All but "spl" tile
the grid.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass as checked
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning

Points = NDArray[np.float64]
Parts = NDArray[np.int64]

# A centred frame shorter than this is float16 rounding of the mean frame, not content; scaling it
# up to length one would find "events" in a still picture.
_STILL = 2e-3
# TAG: frames over which distances are averaged, most rounds, and when means stand still.
_COHERENT_WINDOW, _ROUNDS, _MOVED = 7, 100, 1e-4
_SMALLEST = 1e-12
_DIGITS = 6  # of what is clustered: equal frames must not fall apart by rounding


@checked(frozen=True, kw_only=True, config={"extra": "forbid"})
class Cutting:
    """Settings of the methods that cut.

    Attributes:
        clusters: k (PSVL and SPL: 5, TAG: 9); "changes" takes it as the most parts. Videos with
            fewer frames than this are one part.
        least: share of the video that a part has at least (PSVL and SPL: 11 of 128 points; none
            with "coherent").
        centre: subtract the mean frame before frames are compared (SPL does not). CLIP frames
            of one video share a large common component.
        standardise: scale the columns of the self-similarity matrix to unit variance ("psvl").
        temporal_weight: weight of the extra column sqrt(point) ("psvl"; in "spl" it is 1). On the
            similarities of CLIP features it outweighs content.
        restarts: k-means++ starts, the best of which is kept.
        pool: frames that are averaged before they are clustered ("coherent"). TAG's 21, of three a
            second, blur borders that 5 find.
    """

    clusters: int = Field(default=5, ge=1)
    least: float = Field(default=11 / 128, ge=0, lt=1)
    centre: bool = False
    standardise: bool = False
    temporal_weight: float = Field(default=0.0, ge=0)
    restarts: int = Field(default=4, ge=1)
    pool: int = Field(default=5, ge=1, le=999)


def unit_rows(frames: ArrayLike, *, centre: bool = False) -> Points:
    """Scale frames (T, D) to length one; with `centre`, after subtracting their mean.

    Frames that equal the mean become 0.
    """
    rows = np.asarray(frames, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.where(lengths > 0, lengths, 1.0)
    if centre:
        rows = rows - rows.mean(axis=0)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        rows = np.where(lengths > _STILL, rows / np.where(lengths > 0, lengths, 1.0), 0.0)
    return rows


def self_similarity(features: ArrayLike, *, centre: bool = False) -> NDArray[np.float64]:
    """Return the cosine of every pair of frames.

    Args:
        features: (T, D) frame features; they need not be normalised.
        centre: Subtract the mean frame first. Frames that equal the mean get similarity 0.

    Returns:
        (T, T) float64, symmetric, in [-1, 1].
    """
    rows = unit_rows(features, centre=centre)
    likeness: NDArray[np.float64] = np.clip(rows @ rows.T, -1.0, 1.0)
    return likeness


def uniform(rows: Points, options: Cutting, draw: np.random.Generator) -> Parts:
    """Equal parts, whatever the video shows."""
    k = min(options.clusters, len(rows))
    return _parts(np.round(np.arange(1, k) * len(rows) / k).astype(np.int64), len(rows))


def psvl(rows: Points, options: Cutting, draw: np.random.Generator) -> Parts:
    """Atomic events after PSVL: k-means over contextual features; runs are parts.

    A reading of the paper (Nam et al., ICCV 2021), whose code of it was not published. The
    contextual feature of a frame is its column of the self-similarity matrix. A run that is too
    short joins the neighbour that it resembles more.
    """
    if len(rows) < options.clusters:
        return _parts([], len(rows))
    labels = _clusters(_context(rows @ rows.T, options), options, draw)
    return _runs(labels, rows, options.least * len(rows))


def spl(rows: Points, options: Cutting, draw: np.random.Generator) -> Parts:
    """SPL's events (Zheng et al., ACL 2023), as its code finds them: parts may overlap.

    Frames are clustered by their column of the self-similarity matrix and sqrt(point). A part
    reaches from the first to the last frame of a cluster, so that a scene that returns makes a long
    one. Which k-means is found is left to chance there, and to `draw` here.
    """
    if len(rows) < options.clusters:
        return _parts([], len(rows))
    context = _context(rows @ rows.T, Cutting(temporal_weight=1.0))
    labels = dissolved(_clusters(context, options, draw), context, options.least * len(rows))
    places = [np.flatnonzero(labels == name) for name in np.unique(labels)]
    return np.array(sorted((int(p[0]), int(p[-1]) + 1) for p in places), dtype=np.int64)


def dissolved(labels: Parts, points: Points, least: float) -> Parts:
    """Move each cluster of fewer than `least` points, whole, to the nearest that has as many.

    Distances are those of the means before anything moved, and so are sizes (SPL).

    Args:
        labels: (n,) the cluster of each point.
        points: (n, D) what was clustered.
        least: Points. Where no cluster has as many, none moves.

    Returns:
        (n,) the clusters afterwards.
    """
    names, own, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    large = sizes >= least
    if not large.any():
        return labels
    means = np.stack([points[labels == name].mean(axis=0) for name in names])
    distance = ((means[:, None] - means) ** 2).sum(axis=-1)
    distance[:, ~large] = np.inf
    moved = np.where(large, np.arange(len(names)), distance.argmin(axis=1))
    return np.asarray(names[moved][own], dtype=np.int64)


def frames(rows: Points, options: Cutting, draw: np.random.Generator) -> Parts:
    """k-means over the frame features themselves; runs are parts."""
    if len(rows) < options.clusters:
        return _parts([], len(rows))
    labels = _clusters(rows, options, draw)
    return _runs(labels, rows, options.least * len(rows))


def coherent(rows: Points, options: Cutting, draw: np.random.Generator) -> Parts:
    """Temporally coherent k-means (TAG: Lee et al., BMVC 2025); runs are parts, short ones too.

    Frames get their time t / T as another feature and are averaged over `pool` of them; each joins
    the cluster that is nearest on average over the seven frames around it. TAG clusters only the
    frames above a similarity with the query.
    """
    n, k = len(rows), options.clusters
    if n < k:
        return _parts([], n)
    points = pooled(np.column_stack((rows, np.arange(n) / n)), options.pool)
    state = int(draw.integers(2**32))
    _, first = kmeans_plusplus(points, k, random_state=state, n_local_trials=1)
    labels = coherent_clusters(points, first, _COHERENT_WINDOW)
    return _parts(np.flatnonzero(np.diff(labels)) + 1, n)


def pooled(points: Points, window: int) -> Points:
    """Average each of the points (n, D) with those up to `window` // 2 before and after it.

    The first and the last one stand for those beyond the ends.
    """
    reach = window // 2
    wide = np.pad(points, ((reach, reach), (0, 0)), mode="edge")
    return np.asarray(sliding_window_view(wide, 2 * reach + 1, axis=0).mean(axis=-1))


def coherent_clusters(points: Points, first: ArrayLike, window: int) -> Parts:
    """Cluster points (n, D) around means, by distances averaged as `pooled` does, but at the ends.

    Args:
        points: In order of time.
        first: (k,) the points that are the first means.
        window: over which distances are averaged; beyond the ends is nothing. 1 is plain k-means.

    Returns:
        (n,) the cluster of each point; some may have none.
    """
    centres = points[np.asarray(first)]
    near = np.abs(np.subtract.outer(np.arange(len(points)), np.arange(len(points)))) <= window // 2
    near = near / near.sum(axis=1, keepdims=True)
    for _ in range(_ROUNDS):
        labels = (near @ cdist(points, centres)).argmin(axis=1)
        there, size = np.unique(labels, return_counts=True)
        moved = centres.copy()
        moved[there] = ((labels == there[:, None]) / size[:, None]) @ points
        if np.linalg.norm(moved - centres) < _MOVED:
            break
        centres = moved
    return np.asarray(labels, dtype=np.int64)


def changes(rows: Points, options: Cutting, draw: np.random.Generator) -> Parts:
    """Kernel change points: the cuts that leave the least scatter within parts.

    Dynamic programming finds the best cuts for every number of parts up to `clusters`; the number
    is the one whose scatter plus Potapov et al.'s penalty (ECCV 2014) m (log(n / m) + 1) per cut,
    in units of the scatter within the most parts, is least.
    """
    n = len(rows)
    least = max(1, round(options.least * n))
    most = max(1, min(options.clusters, n // least))
    similarity = rows @ rows.T
    total = np.zeros((n + 1, n + 1))
    total[1:, 1:] = similarity.cumsum(axis=0).cumsum(axis=1)
    diagonal = np.concatenate(([0.0], np.diag(similarity).cumsum()))
    a, b = np.arange(n + 1)[:, None], np.arange(n + 1)[None]
    block = np.diag(total)[None] - total - total.T + np.diag(total)[:, None]
    scatter = (diagonal[b] - diagonal[a]) - block / np.maximum(b - a, 1)
    scatter = np.where(b - a >= least, scatter, np.inf)
    best, came = [scatter[0]], []
    for _ in range(1, most):
        sums = best[-1][:, None] + scatter
        came.append(sums.argmin(axis=0))
        best.append(sums.min(axis=0))
    costs = np.array([row[n] for row in best])
    m = np.arange(most)
    unit = max(float(costs[-1]) / n, _SMALLEST)
    penalty = unit * m * (np.log(n / np.maximum(m, 1)) + 1)
    parts = int(np.argmin(costs + penalty)) + 1
    borders, stop = [], n
    for level in range(parts - 2, -1, -1):
        stop = int(came[level][stop])
        borders.append(stop)
    return _parts(sorted(borders), n)


def steps(rows: Points, options: Cutting, draw: np.random.Generator) -> Parts:
    """Cut where the frames change most (after ActionBytes, Jain et al., CVPR 2020).

    The change is between the means of the frames shortly before and after; peaks are taken from
    the highest on, at least `least` apart, until there are `clusters` parts.
    """
    n = len(rows)
    reach = max(1, round(options.least * n / 2))
    prefix = np.concatenate((np.zeros((1, rows.shape[1])), rows.cumsum(axis=0)))
    at = np.arange(1, n)
    before = (prefix[at] - prefix[np.maximum(at - reach, 0)]) / np.minimum(reach, at)[:, None]
    after = (prefix[np.minimum(at + reach, n)] - prefix[at]) / np.minimum(reach, n - at)[:, None]
    change = np.linalg.norm(after - before, axis=1)
    apart = max(1.0, options.least * n)
    borders: list[int] = []
    for place in at[np.argsort(-change, kind="stable")]:
        if len(borders) == options.clusters - 1 or change[place - 1] <= _STILL:
            break
        if all(abs(place - other) >= apart for other in (0, n, *borders)):
            borders.append(int(place))
    return _parts(sorted(borders), n)


def _context(similarity: NDArray[np.float64], options: Cutting) -> NDArray[np.float64]:
    context = similarity
    if options.standardise:
        deviation = context.std(axis=0)
        context = (context - context.mean(axis=0)) / np.where(deviation > _STILL, deviation, 1.0)
    if options.temporal_weight > 0:
        position = np.sqrt(np.arange(len(similarity)))
        context = np.column_stack((context, options.temporal_weight * position))
    return context


def _clusters(points: Points, options: Cutting, draw: np.random.Generator) -> Parts:
    """Return the k-means cluster of each point; fewer than k clusters where points coincide."""
    state = int(draw.integers(2**32))
    means = KMeans(options.clusters, n_init=options.restarts, random_state=state)
    with warnings.catch_warnings():
        # "fewer distinct clusters than n_clusters": expected of a still video, and harmless.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.asarray(means.fit_predict(points.round(_DIGITS)), dtype=np.int64)


def _runs(labels: Parts, rows: Points, least: float) -> Parts:
    """Return runs of labels; one shorter than `least` points joins its more similar neighbour.

    Shortest first, and runs are counted anew after each, so that A b A becomes one run of A.
    """
    labels = labels.copy()
    while True:
        starts = np.concatenate([[0], np.flatnonzero(np.diff(labels)) + 1, [len(labels)]])
        lengths = np.diff(starts)
        run = int(np.argmin(lengths))
        if len(lengths) == 1 or lengths[run] >= least:
            return np.column_stack((starts[:-1], starts[1:]))
        # The mean similarity of two runs is the similarity of their means.
        mean = rows[starts[run] : starts[run + 1]].mean(axis=0)
        neighbours = [k for k in (run - 1, run + 1) if 0 <= k < len(lengths)]
        closest = max(neighbours, key=lambda k: mean @ rows[starts[k] : starts[k + 1]].mean(axis=0))
        labels[starts[run] : starts[run + 1]] = labels[starts[closest]]


def _parts(borders: ArrayLike, points: int) -> Parts:
    walls = np.concatenate(([0], np.asarray(borders, dtype=np.int64), [points]))
    return np.column_stack((walls[:-1], walls[1:]))


Method = Callable[[Points, Cutting, np.random.Generator], Parts]
METHODS: Mapping[str, Method] = {
    "uniform": uniform,
    "psvl": psvl,
    "spl": spl,
    "frames": frames,
    "coherent": coherent,
    "changes": changes,
    "steps": steps,
}
