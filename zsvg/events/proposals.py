"""Where something happens: event proposals from frame features alone.

A generator lays out candidate spans, a ranking says which of them look like one event, and those
are kept that no better one overlaps by much. The default takes every span of a grid and asks how
well the similarity of the video's frames with the mean of the span tells inside from outside: what
a perfect caption of the span would be asked as a query (the frozen backbone being the judge of
likeness).

Cutting the video into parts first is how it is published, such as in PSVL's temporal event proposal
(Nam et al., "Zero-shot Natural Language Video Localization", ICCV 2021): `zsvg.events.cuts`, which
says what is equal to published code ("spl") and what is after a paper.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass as checked

from zsvg.events import cuts
from zsvg.events.cuts import Cutting, Points, unit_rows
from zsvg.moments import Spans, nms, peaks

Places = NDArray[np.int64]

# Variance below which a curve of similarities is rounding, not content.
_FLAT = 1e-10
_WINDOWS_PER_LENGTH = 2


@checked(frozen=True, kw_only=True, config={"extra": "forbid"})
class ProposalOptions(Cutting):
    """How events are proposed. Lengths are shares of the video.

    Attributes:
        kind: "blocks" (every span of the grid), "windows" (sliding), "random", "uniform" (equal
            parts and unions of neighbours), or unions of neighbouring parts from one of the ways
            to cut: "psvl", "spl" (see `SPL`), "frames", "coherent", "changes", "steps".
        rank: what comes first: "fit" (see `fits`), "quality" (likeness within less likeness
            across the border), "compact" (likeness within), "distinct" (least likeness across), or
            "chance" (a seeded order; PSVL's "uniform").
        count: most proposals of a video.
        nms: IoU above which the worse of two proposals is dropped.
        greedy: Only proposals that are kept drop others (non-maximum suppression); otherwise any
            candidate does, so that nothing on the slope of a better one is proposed.
        shortest: of a proposal.
        longest: of a proposal.
        points: frames looked at, evenly spread. Of a video with fewer all are, once; "spl" takes
            some more than once.
    """

    kind: str = "blocks"
    rank: str = "fit"
    count: int = Field(default=12, ge=1)
    nms: float = Field(default=0.5, ge=0, le=1)
    greedy: bool = False
    shortest: float = Field(default=0.05, ge=0)
    longest: float = Field(default=0.5, le=1)
    points: int = Field(default=128, ge=1)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind {self.kind!r} is unknown; use one of {', '.join(KINDS)}")
        if self.rank not in RANKS:
            raise ValueError(f"rank {self.rank!r} is unknown; use one of {', '.join(RANKS)}")
        if self.shortest > self.longest:
            raise ValueError(f"shortest {self.shortest} is above longest {self.longest}")


def propose(
    features: ArrayLike,
    edges: ArrayLike,
    *,
    options: ProposalOptions | None = None,
    seed: int = 0,
) -> tuple[Spans, NDArray[np.float64]]:
    """Propose events of one video.

    Args:
        features: (T, D) frame features, one per clip.
        edges: (T + 1,) borders of the clips, seconds, increasing.
        options: How.
        seed: Of everything random; equal seeds give equal events.

    Returns:
        Spans (n, 2) in seconds, best first, 1 <= n <= count, and their scores (n,), not increasing.
        A video too short for any proposal is one event of score 0.

    Raises:
        ValueError: There is no frame, or edges do not fit the frames.
    """
    options = options or ProposalOptions()
    frames, borders = np.asarray(features), np.asarray(edges, dtype=np.float64)
    if frames.ndim != 2 or len(frames) == 0:
        raise ValueError(f"features must be (T, D) with T >= 1, got shape {frames.shape}")
    if borders.shape != (len(frames) + 1,):
        raise ValueError(f"{len(frames)} frames need {len(frames) + 1} edges, got {borders.shape}")
    if options.kind == "spl":
        times, index = _spl_grid(borders, options.points)
    else:
        walls, index = grid(len(frames), options.points)
        times = borders[walls]
    rows = unit_rows(frames[index], centre=options.centre)
    draw = np.random.default_rng(seed)
    places = KINDS[options.kind](rows, options, draw)
    length = (times[places[:, 1]] - times[places[:, 0]]) / (times[-1] - times[0])
    # A border on the grid may miss a share of the video by half a step.
    slack = 0.5 / len(rows)
    fitting = (length >= options.shortest - slack) & (length <= options.longest + slack)
    places = np.unique(places[fitting], axis=0)
    if not len(places):
        return times[[0, -1]][None], np.zeros(1)
    scores = RANKS[options.rank](rows, places, draw)
    spans = times[places]
    suppress = nms if options.greedy else peaks
    kept = suppress(spans, scores, options.nms, options.count)
    return spans[kept], scores[kept]


def grid(frames: int, points: int) -> tuple[Places, Places]:
    """Return walls (n + 1,) between, and the frames (n,) at, n = min(frames, points) points.

    A point is the frame in the middle of one of n equal parts; a wall lies halfway between two.
    """
    n = min(frames, points)
    index = (2 * np.arange(n) + 1) * frames // (2 * n)
    inner = (index[:-1] + index[1:] + 1) // 2
    return np.concatenate(([0], inner, [frames])), index


def _spl_grid(borders: NDArray[np.float64], points: int) -> tuple[Spans, Places]:
    """Return SPL's walls (points + 1,) in seconds, evenly spread, and the frames (points,) at.

    The frames lie nearest to the middles between `points` + 1 places from the first frame to the
    last.
    """
    frames = len(borders) - 1
    index = np.round((np.arange(points) + 0.5) * (frames - 1) / points).astype(np.int64)
    places = np.linspace(0, frames, points + 1)
    return np.interp(places, np.arange(frames + 1), borders), index


def fits(rows: Points, places: Places) -> NDArray[np.float64]:
    """Return how well each span explains where the video looks like it.

    The curve of a span is the mean similarity of every frame with the frames of the span; its fit
    is the correlation of the curve with "inside", as in `zsvg.label.queries.fit`.

    Args:
        rows: (n, D) frames, unit length.
        places: (m, 2) first point and point after the last.

    Returns:
        (m,) in [-1, 1]; 0 for the whole video and for a curve without content.
    """
    n = len(rows)
    similarity = rows @ rows.T
    length = (places[:, 1] - places[:, 0]).astype(np.float64)
    within, whole = _sums(similarity, places)
    inside = within / length**2
    outside = (whole - within) / (length * np.maximum(n - length, 1))
    # The sum of squares of a mean of rows of S is a sum over a block of S S.
    square = _sums(similarity @ similarity, places)[0] / length**2 / n
    variance = square - (whole / length / n) ** 2
    share = length / n
    flat = (variance < _FLAT) | (length == n)
    box = np.sqrt(share * (1 - share))
    return np.where(flat, 0.0, (inside - outside) * box / np.sqrt(np.where(flat, 1.0, variance)))


def _sums(matrix: NDArray[np.float64], places: Places) -> tuple[NDArray[np.float64], ...]:
    """Sum the square block of each span, and its rows as a whole, by prefix sums."""
    first, stop = places.T
    total = np.zeros((len(matrix) + 1, len(matrix) + 1))
    total[1:, 1:] = matrix.cumsum(axis=0).cumsum(axis=1)
    block = total[stop, stop] - total[first, stop] - total[stop, first] + total[first, first]
    return block, total[stop, -1] - total[first, -1]


def _likeness(rows: Points, places: Places) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean similarity within each span, and across its border (0 for the whole video)."""
    within, whole = _sums(rows @ rows.T, places)
    length = (places[:, 1] - places[:, 0]).astype(np.float64)
    outside = len(rows) - length
    across = (whole - within) / (length * np.maximum(outside, 1))
    return within / length**2, np.where(outside > 0, across, 0.0)


def _blocks(rows: Points, options: ProposalOptions, draw: np.random.Generator) -> Places:
    first, last = np.triu_indices(len(rows))
    return np.column_stack((first, last + 1)).astype(np.int64)


def _windows(rows: Points, options: ProposalOptions, draw: np.random.Generator) -> Places:
    n, found = len(rows), []
    length = max(1, round(options.shortest * n))
    longest = max(length, options.longest * n)  # of few frames, rounding passes it at once
    while length <= longest:
        step = max(1, length // _WINDOWS_PER_LENGTH)
        first = np.append(np.arange(0, n - length, step), n - length)
        found.append(np.column_stack((first, first + length)))
        length *= 2
    return np.concatenate(found)


def _random(rows: Points, options: ProposalOptions, draw: np.random.Generator) -> Places:
    n = len(rows)
    low, high = max(1, round(options.shortest * n)), max(1, round(options.longest * n))
    length = draw.integers(low, high + 1, size=20 * options.count)
    first = draw.integers(0, n - length + 1)
    return np.column_stack((first, first + length))


def _unions(parts: Places) -> Places:
    """Return every union of neighbouring parts (k, 2), in order of their starts.

    It ends where the later of its first and its last part does. Where parts overlap ("spl"), one
    between them may end after that; SPL leaves it out too.
    """
    i, j = np.triu_indices(len(parts))
    return np.column_stack((parts[i, 0], np.maximum(parts[i, 1], parts[j, 1])))


def _cut_by(method: cuts.Method) -> Generator:
    def generate(rows: Points, options: ProposalOptions, draw: np.random.Generator) -> Places:
        return _unions(method(rows, options, draw))

    return generate


def _by_chance(rows: Points, places: Places, draw: np.random.Generator) -> NDArray[np.float64]:
    return draw.random(len(places))


Generator = Callable[[Points, "ProposalOptions", np.random.Generator], Places]
Ranking = Callable[[Points, Places, np.random.Generator], NDArray[np.float64]]
KINDS: Mapping[str, Generator] = {
    "blocks": _blocks,
    "windows": _windows,
    "random": _random,
    **{name: _cut_by(method) for name, method in cuts.METHODS.items()},
}
RANKS: Mapping[str, Ranking] = {
    "fit": lambda rows, places, _: fits(rows, places),
    "quality": lambda rows, places, _: np.subtract(*_likeness(rows, places)),
    "compact": lambda rows, places, _: _likeness(rows, places)[0],
    "distinct": lambda rows, places, _: -_likeness(rows, places)[1],
    "chance": _by_chance,
}
SPL = ProposalOptions(kind="spl", count=15, nms=1.0, greedy=True, shortest=0.0, longest=1.0)
"""All events of a video that SPL's `event_preprocess.py` finds, those that fit best first.

It says nothing of which is better. What other options of "spl" leave out is up to them.
"""
