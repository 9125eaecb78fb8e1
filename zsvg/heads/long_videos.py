"""Long videos: a trained head looks through overlapping windows, and its answers are put together.

One pass over hours would compare every clip with every other, and call "early" and "late" what
training never did. Memory follows the window, time the number of windows. A video that fits into
one window is answered as by a single call.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from zsvg.backbones.base import TextStates
from zsvg.heads.ensemble import Head
from zsvg.moments import Spans, nms, paired_iou

WINDOW = 512
"""Clips that a head sees at once: four minutes at two per second."""

_AT_ONCE = 4  # windows in one call
# Two answers that overlap by this much where both windows look are one moment.
_SAME = 0.5

Curve = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a head says of one video.

    Attributes:
        moments: (K, 2) seconds, best first.
        scores: (K,) in [0, 1], not increasing.
        relevance: (T,) in [0, 1].
        presence: of the window where the sentence fits best; see `HeadOutput.presence`.
    """

    moments: Spans
    scores: NDArray[np.float64]
    relevance: Curve
    presence: float


def answer_video(
    head: Head,
    features: NDArray[np.float32],
    edges: NDArray[np.float64],
    text: TextStates,
    *,
    window: int = WINDOW,
) -> Seen:
    """Ask a head one sentence about one video of any length.

    Args:
        head: The trained head, in `eval()`.
        features: (T, D) clips as rows of unit length, T >= 1.
        edges: (T + 1,) clip borders in seconds.
        text: The sentence, B = 1, on the head's device.
        window: Most clips to look at together, at least 2.
    """
    clips = len(features)
    size = min(window, clips)
    starts = [*range(0, clips - size, max(1, size // 2)), clips - size]
    found: list[Seen] = []
    for first in range(0, len(starts), _AT_ONCE):
        found += _ask(head, features, edges, text, starts[first : first + _AT_ONCE], size)
    if len(found) == 1:
        return found[0]
    # Each clip is told by the window that has it farthest from its borders.
    walls = [0, *((a + b + size) // 2 for a, b in pairwise(starts)), clips]
    relevance = np.concatenate([
        seen.relevance[left - start : right - start]
        for seen, start, (left, right) in zip(found, starts, pairwise(walls), strict=True)
    ])  # fmt: skip
    stretches = np.array([(edges[start], edges[start + size]) for start in starts])
    moments, scores = _merge(found, stretches, float(np.diff(edges).max()))
    presence = max(seen.presence for seen in found)
    return Seen(moments=moments, scores=scores, relevance=relevance, presence=presence)


@torch.no_grad()
def _ask(
    head: Head,
    features: NDArray[np.float32],
    edges: NDArray[np.float64],
    text: TextStates,
    starts: list[int],
    size: int,
) -> list[Seen]:
    """Ask about windows of `size` clips, each as if it were a video of its own."""
    device, count = text.pooled.device, len(starts)
    rows = torch.from_numpy(np.stack([features[start : start + size] for start in starts]))
    borders = np.stack([edges[start : start + size + 1] - edges[start] for start in starts])
    middles = (borders[:, :-1] + borders[:, 1:]) / 2 / borders[:, -1:]
    centres = torch.from_numpy(middles).float().to(device)
    output = head(
        frames=rows.to(device),
        frame_mask=torch.ones_like(centres, dtype=torch.bool),
        centres=centres,
        tokens=text.tokens.expand(count, -1, -1),
        token_mask=text.mask.expand(count, -1),
        pooled=text.pooled.expand(count, -1),
        points=None if text.points is None else text.points.expand(count, -1, -1),
    )
    found, presence = [], output.presence.float().tolist()
    for row, start in enumerate(starts):
        spans = (output.moments[row].float().clamp(0, 1) * borders[row, -1]).cpu().numpy()
        scores = output.scores[row].float().cpu().numpy().astype(np.float64)
        exists = (spans[:, 1] > spans[:, 0]) & ((scores > 0) | (scores == scores[0]))
        found.append(
            Seen(
                moments=spans[exists].astype(np.float64) + edges[start],
                scores=scores[exists],
                relevance=output.relevance[row].float().cpu().numpy(),
                presence=presence[row],
            )
        )
    return found


def _merge(
    found: list[Seen], stretches: NDArray[np.float64], clip: float
) -> tuple[Spans, NDArray[np.float64]]:
    """Join what a border cut in two, then drop near-duplicates.

    An answer that ends at an inner border of its window, or begins there, is joined with the
    neighbour's best answer that agrees with it in the stretch that both windows see.

    Args:
        found: Answers of each window, in order of time.
        stretches: (W, 2) from when to when each window looks, seconds.
        clip: Seconds within which an answer touches a border.
    """
    most = max(1, *(len(seen.moments) for seen in found))
    done: list[tuple[float, float, float]] = []
    before: list[tuple[float, float, float]] = []
    for index, seen in enumerate(found):
        fresh = []
        for (start, end), score in zip(seen.moments, seen.scores, strict=True):
            for place, (other_start, other_end, other_score) in enumerate(before):
                both = np.array([stretches[index, 0], stretches[index - 1, 1]])
                cut = start <= both[0] + clip or other_end >= both[1] - clip
                parts = np.clip([(start, end), (other_start, other_end)], *both)
                if cut and paired_iou(parts[0], parts[1]) >= _SAME:
                    start, end = min(start, other_start), max(end, other_end)
                    score = max(score, other_score)
                    del before[place]
                    break
            fresh.append((float(start), float(end), float(score)))
        done += before
        before = fresh
    moments = np.array([*done, *before], dtype=np.float64).reshape(-1, 3)
    kept = nms(moments[:, :2], moments[:, 2], _SAME, most)
    return moments[kept, :2], moments[kept, 2]
