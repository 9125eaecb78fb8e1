"""TFVTG's way from the relevance curve of a sentence to moments, equal to its code's.

Zheng et al., "Training-free Video Temporal Grounding using Large-scale Pre-trained Models" (ECCV
2024), without the language model that rewords and splits sentences. The thresholds are cosines of
BLIP-2 at three frames a second. On another scale they mean something else: a curve that lies above
`least` everywhere has no mask, one that lies below has no windows, and its answer is the whole
video; how far starts move follows the size of the differences from clip to clip.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass as checked

from zsvg.moments import Spans, iou, nms
from zsvg.scorers.transforms import Curve

Places = NDArray[np.int64]

_MOST = 10  # proposals
_BALLOT = 3  # of which so many vote, and are answers
_RISE = 0.0005  # least strength of a rise
_GAUSSIAN = np.exp(-0.5 * np.arange(-1, 2) ** 2) / np.sqrt(2 * np.pi)


@checked(frozen=True, kw_only=True, config={"extra": "forbid", "allow_inf_nan": False})
class Tfvtg:
    """Settings of TFVTG; as they stand, those for Charades-STA.

    Attributes:
        least: relevance above which a clip counts.
        stride: seconds; windows are one, two, three ... strides long. It was 20 frames at three a
            second (ActivityNet Captions: 40).
        longest: of a window, as a share of the video (ActivityNet Captions: 1).
        nms: IoU above which the worse of two windows is dropped, in [0, 1].
    """

    kind: ClassVar[str] = "tfvtg"
    least: float = 0.2
    stride: float = Field(default=20 / 3, gt=0)
    longest: float = Field(default=0.5, gt=0, le=1)
    nms: float = Field(default=0.3, ge=0, le=1)


@dataclass(frozen=True, kw_only=True)
class Proposals:
    """Windows that stand out, best first.

    Attributes:
        windows: (K, 2) first clip and clip after the last, 0 <= K <= 10.
        scores: (K,) static scores, not increasing.
        starts: (K,) dynamic starts: the clip at which the rise to the first clip began.
    """

    windows: Places
    scores: Curve
    starts: Places

    @property
    def confidence(self) -> Curve:
        """(K,) scores over the highest one. Where that is negative, worse windows have more."""
        best = self.scores[:1]
        return np.divide(self.scores, best, out=np.ones(len(self.scores)), where=best != 0)


def answer(curve: Curve, edges: Curve, options: Tfvtg) -> tuple[Spans, Curve]:
    """Return the best three proposals from their dynamic starts on, in the order of their vote.

    Args:
        curve: (T,) relevance of the clips, T >= 1.
        edges: (T + 1,) increasing clip borders in seconds.
        options: The settings.

    Returns:
        Moments (K, 2) in seconds and votes (K,), best first, 1 <= K <= 3. Where there is no window
        to score, the whole video (TFVTG: an empty moment).
    """
    rate = len(curve) / (edges[-1] - edges[0])
    found = propose(curve, max(1, round(float(options.stride * rate))), options)
    if not len(found.windows):
        return edges[[0, -1]][None], np.zeros(1)
    moments = np.stack((edges[found.starts], edges[found.windows[:, 1]]), axis=1)[:_BALLOT]
    votes = vote(moments, found.confidence[:_BALLOT])
    order = np.argsort(-votes, kind="stable")
    return moments[order], votes[order]


def propose(curve: Curve, stride: int, options: Tfvtg) -> Proposals:
    """Return the windows of a curve (T,) that score best.

    Args:
        curve: (T,) relevance of the clips.
        stride: Of windows, in clips, at least 1; half of the video where it is longer.
        options: The settings, but the stride.
    """
    stride = max(1, min(stride, len(curve) // 2))
    counts = curve > options.least
    masked = np.where(counts, curve, 0.0)
    windows, scores = score_windows(masked, counts, stride, options.longest)
    # As shares of the video in float32, which decides where an IoU is just `nms`.
    shares = windows.astype(np.float32) / np.float32(len(curve))
    kept = nms(shares, scores, options.nms, _MOST)
    starts = rise_starts(masked, counts, stride)[windows[kept, 0]]
    return Proposals(windows=windows[kept], scores=scores[kept], starts=starts)


def score_windows(
    masked: Curve, counts: NDArray[np.bool_], stride: int, longest: float
) -> tuple[Places, Curve]:
    """Score all windows whose length is a multiple of the stride.

    The score is the static one: the sum inside over the length, less the mean of what counts
    outside. A window that holds all that counts has no score and is left out; TFVTG's code does the
    same unless rounding makes it infinite.

    Args:
        masked: (T,) relevance, 0 where a clip does not count.
        counts: (T,) which clips do.
        stride: Clips.
        longest: Of a window, as a share of the video.

    Returns:
        Windows (n, 2), first clip and clip after the last, and scores (n,).
    """
    clips = len(masked)
    lengths = np.arange(stride, int(clips * longest) + 1, stride)
    which, first = np.nonzero(np.arange(clips) <= clips - lengths[:, None])
    stop = first + lengths[which]
    sums, numbers = (np.concatenate(([0], np.cumsum(row))) for row in (masked, counts))
    outside = numbers[-1] - (numbers[stop] - numbers[first])
    first, stop, outside = (row[outside > 0] for row in (first, stop, outside))
    inside = sums[stop] - sums[first]
    scores = inside / (stop - first) - (sums[-1] - inside) / outside
    return np.column_stack((first, stop)).astype(np.int64), scores


def vote(moments: ArrayLike, confidence: ArrayLike, exponent: float = 0.6) -> Curve:
    """Return how much moments agree with each: the sum of IoU ** exponent * confidence over all.

    Args:
        moments: (K, 2) seconds.
        confidence: (K,); below 0 counts as 0.
        exponent: Above 0.

    Returns:
        (K,) votes.
    """
    return np.asarray(iou(moments, moments) ** exponent @ np.maximum(confidence, 0.0))


def rise_starts(masked: Curve, counts: NDArray[np.bool_], stride: int) -> Places:
    """Return (T,) the clip at which the rise that leads up to each clip began: TFVTG's dynamics.

    A rise is a run of clips at which the smoothed curve gained, at once or over two or three steps.
    The weights that smooth do not add up to one; a stride of three clips leaves only the middle
    one, a shorter one smooths nothing. Arguments are those of `score_windows`.
    """
    weights = np.ones(1) if stride < 3 else _GAUSSIAN[1:2] if stride == 3 else _GAUSSIAN
    steps = np.diff(np.convolve(masked, weights, "valid"))
    before = (len(masked) - len(steps)) // 2
    gain = np.zeros(len(masked))
    gain[before : before + len(steps)] = steps
    gain *= counts
    padded = np.concatenate(([0.0, 0.0], gain))
    earlier, last = padded[:-2], padded[1:-1]
    strength = np.maximum.reduce((3 * gain, 2 * gain + last, gain + last + earlier))
    begun = np.where(strength > _RISE, 0, np.arange(len(masked)))
    return np.maximum.accumulate(begun).astype(np.int64)
