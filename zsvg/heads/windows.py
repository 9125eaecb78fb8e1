"""Sliding windows: which of many windows fits the sentence, and how far its borders are off.

The class of CTRL (Gao et al., "TALL: Temporal Activity Localization via Language Query", ICCV
2017), by the paper and never held against its code. Windows of several lengths are compared with
sentences as clips, with what is before and after them: in a batch every sentence belongs to its own
clip and to no other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass as checked
from torch import Tensor, nn

from zsvg.heads.base import HeadOutput
from zsvg.heads.encoder import Encoded, Encoder, HeadConfig, Overlap, Rate, Truth, Weight
from zsvg.heads.layers import drop_channels, quiet_mlp
from zsvg.heads.losses import alignment_loss, offset_loss, scaled_iou_loss
from zsvg.heads.span_arithmetic import (
    average,
    certain,
    clip_edges,
    coverage,
    expected_iou,
    look_at,
    shift,
    span_iou,
    suppress,
    take,
)

_MOST = 10_000  # windows of a video


@checked(frozen=True, kw_only=True, config={"extra": "forbid"})
class WindowsConfig(HeadConfig):
    """Shape and loss weights of a `WindowsHead`.

    Attributes:
        lengths: lengths of the windows, fractions of the video in (0, 1].
        overlap: share of a window that the next one of its length also has, in [0, 1).
        nms: IoU above which the worse one of two answers is dropped.
        align_weight: weight of matching clips with sentences across the batch.
        rank_weight: weight of the cross-entropy between judged and true IoU, a mean over windows.
        offset_weight: weight of the error of the borders, in lengths of the window.
    """

    lengths: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (0.04, 0.08, 0.16, 0.32, 0.64, 1.0)
    overlap: Rate = 0.8
    nms: Overlap = 0.5
    align_weight: Weight = 1.0
    rank_weight: Weight = 10.0
    offset_weight: Weight = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.lengths:
            raise ValueError("lengths: give at least one")
        count = sum(1 + 1 / max(length * (1 - self.overlap), 1e-12) for length in self.lengths)
        if count > _MOST:
            raise ValueError(
                f"lengths {self.lengths[:9]} with overlap {self.overlap} make {count:.3g} windows; "
                f"at most {_MOST} are taken"
            )


@dataclass(frozen=True, kw_only=True)
class WindowsOutput(HeadOutput):
    """What a `WindowsHead` says, window by window."""

    windows: Tensor
    """(W, 2) before their borders move."""
    moved: Tensor
    """(B, W, 2) after."""
    judged: Tensor
    """(B, W) logits of their scaled IoU with the moment."""
    clips: Tensor | None = None
    """(3, B, D) the true window, what is before and what is after; only with a target."""
    query: Tensor | None = None
    """(B, D) as clips are compared with it, unit length; only with a target."""

    @property
    def exchanged(self) -> Tensor | None:
        """(4, B, D) clips and queries: sentences do not belong to other processes' clips either."""
        if self.clips is None or self.query is None:
            return None
        return torch.cat((self.clips, self.query[None]))


class WindowsHead(Encoder):
    """Judges windows and moves their borders; before training by how likely frames are inside."""

    config: WindowsConfig
    windows: Tensor

    def __init__(self, config: WindowsConfig) -> None:
        super().__init__(config)
        hidden = config.hidden
        self.clip_in = nn.Linear(3 * config.dim, hidden)
        self.sentence_in = nn.Linear(config.dim, hidden)
        self.both_in = nn.Linear(2 * hidden, hidden)
        self.align = quiet_mlp(3 * hidden, hidden, 1, bias=0.0)
        self.offset = quiet_mlp(4 * hidden, hidden, 2, bias=0.0)
        self.prior_gain = nn.Parameter(torch.tensor(1.0))
        windows = torch.tensor(sliding_windows(config.lengths, config.overlap))
        self.register_buffer("windows", windows, persistent=False)

    def answer(self, seen: Encoded, target: Tensor | None) -> WindowsOutput:
        """Judge and move all windows; read the best ones that differ (one with a target)."""
        count = len(seen.x)
        edges = clip_edges(seen.centres, seen.frame_mask)
        windows = self.windows.expand(count, -1, -1)
        cover = coverage(self.windows, edges)
        clips = _clips(self.windows, seen.frames, edges)
        fitting = self._fit(clips, seen.pooled[:, None].expand(-1, len(self.windows), -1))
        expected = expected_iou(self.windows, seen.probability, edges, cover)
        judged = fitting + self.prior_gain * expected.logit(eps=1e-4)
        near = look_at(windows, seen.x, edges)
        facts = torch.cat((near, seen.query[:, None].expand(*near.shape[:2], -1)), -1)
        moved = shift(windows, self.offset(facts))
        index, exists = suppress(
            moved.detach(), judged.detach(), self.config.nms,
            self.config.answers if target is None else 1,
        )  # fmt: skip
        true = None
        if target is not None:
            best = span_iou(windows, target[:, None].float()).argmax(-1)
            true = clips[:, torch.arange(count, device=best.device), best]
        return WindowsOutput(
            moments=take(moved, index).clamp(0, 1),
            scores=judged.gather(1, index).sigmoid() * exists,
            windows=self.windows,
            moved=moved,
            judged=judged,
            clips=true,
            query=None if target is None else seen.pooled,
            **seen.told,
        )

    def loss(self, output: HeadOutput, truth: Truth) -> dict[str, Tensor]:
        """Which clip a sentence describes, which window is meant, and where its borders belong.

        Windows that are neither right nor wrong are not asked whether they are meant: see
        `certain`.

        Returns:
            Scalars "align", "rank", "offset", "guidance" and "inside".

        Raises:
            ValueError: The output is of a forward call without a target.
        """
        if not isinstance(output, WindowsOutput) or output.clips is None or output.query is None:
            raise ValueError("the loss needs the output of a forward call with the target")
        config, target, weight = self.config, truth.target, truth.weight
        inside, away = truth.true_frames(output), truth.away
        cover = coverage(output.windows, clip_edges(output.centres, output.frame_mask))
        shared = span_iou(output.windows, target[:, None].float())
        counts = certain(shared, average(cover, inside[..., None]).squeeze(-1))
        # As in CTRL, and the best one in any case.
        right = (shared > 0.5) | (shared == shared.amax(-1, keepdim=True))
        clips, queries = output.clips, output.query
        if away is not None:
            clips = torch.cat((clips, away[:3]), 1)
            queries = torch.cat((queries, away[3]))
        pairs = len(output.query), len(queries)
        fit = self._fit(
            clips[:, None].expand(-1, *pairs, -1), output.query[:, None].expand(*pairs, -1)
        )
        same = output.query.float() @ queries.float().T > 1 - 1e-5
        rank = scaled_iou_loss(output.judged, shared, counts, weight=weight) / len(output.windows)
        offset = offset_loss(output.moved, target, output.windows, right, weight=weight)
        return {
            "align": config.align_weight * alignment_loss(fit, same, weight=weight),
            "rank": config.rank_weight * rank,
            "offset": config.offset_weight * offset,
            **self.frame_losses(output, truth),
        }

    def _fit(self, clips: Tensor, queries: Tensor) -> Tensor:
        """How well clips (3, A, N, D) fit sentences (A, N, D): logits (A, N) float32."""
        scale = math.sqrt(self.config.dim)  # entries of about 1, as layers expect
        content = drop_channels(
            torch.cat(tuple(clips), -1) * scale, self.config.content_dropout, self.training
        )
        clip, sentence = self.clip_in(content), self.sentence_in(queries * scale)
        both = self.both_in(torch.cat((clip, sentence), -1))
        fit: Tensor = self.align(torch.cat((clip * sentence, clip + sentence, both), -1))
        return fit.squeeze(-1).float()


def sliding_windows(lengths: tuple[float, ...], overlap: float) -> list[tuple[float, float]]:
    """Windows of all lengths, evenly spread from 0 to 1, overlapping by at least `overlap`."""
    windows = []
    for length in lengths:
        steps = math.ceil((1 - length) / (length * (1 - overlap)) - 1e-9)
        for step in range(steps + 1):
            start = (1 - length) * step / max(steps, 1)
            windows.append((start, start + length))
    return windows


def _clips(windows: Tensor, frames: Tensor, edges: Tensor) -> Tensor:
    """Mean features of windows (W, 2), and of as much before and after them: (3, B, W, D)."""
    length = windows[:, 1:] - windows[:, :1]
    spans = torch.cat((windows, windows - length, windows + length))
    means = average(coverage(spans, edges), frames)
    return torch.stack(means.chunk(3, 1))
