"""Two-dimensional map: every start and end of a video at once, each moment judged beside others.

The class of 2D-TAN (Zhang et al., "Learning 2D Temporal Adjacent Networks for Moment Localization
with Natural Language", AAAI 2020), with several resolutions, after its multi-scale form (TPAMI
2021), where `scales` has more than one. Which cells there are, how clips are pooled into them, what
is true of each and the loss of one are 2D-TAN's; what is judged, the convolutions, and which cells
take no part (`certain`) are ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass as checked
from torch import Tensor, nn

from zsvg.heads.base import HeadOutput
from zsvg.heads.encoder import Encoded, Encoder, HeadConfig, Overlap, Truth, Weight
from zsvg.heads.layers import quiet_mlp
from zsvg.heads.losses import scaled_iou_loss
from zsvg.heads.span_arithmetic import (
    average,
    certain,
    clip_edges,
    coverage,
    expected_iou,
    span_iou,
    suppress,
    take,
)

_LARGEST = 1024  # clips along a side of the map


@checked(frozen=True, kw_only=True, config={"extra": "forbid"})
class MapConfig(HeadConfig):
    """Shape and loss weights of a `MapHead`.

    Attributes:
        scales: clips that a video is divided into, N, whatever its length; one map for each.
        dense: moments of up to so many clips are all on the map; of twice as many, only those at
            every second clip, and so on. The whole video must be among them.
        map_width: channels of the map.
        map_layers: convolutions over the map.
        kernel: their size, odd.
        low: IoU that counts for nothing.
        high: IoU that counts for everything.
        nms: IoU above which the worse one of two answers is dropped.
        map_weight: weight of the cross-entropy between judged and true IoU, a mean over the map.
    """

    scales: tuple[Annotated[int, Field(ge=1, le=_LARGEST)], ...] = (64,)
    dense: int = Field(default=16, ge=1, le=_LARGEST)
    map_width: int = Field(default=16, ge=1, le=256)
    map_layers: int = Field(default=2, ge=1, le=16)
    kernel: int = Field(default=5, ge=1, le=15)
    low: Overlap = 0.5
    high: Overlap = 1.0
    nms: Overlap = 0.5
    map_weight: Weight = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= len(self.scales) <= 16 or self.kernel % 2 == 0:
            raise ValueError(f"give 1 to 16 scales, and an odd kernel, not {self.kernel}")
        for clips in self.scales:
            step = int(_stride(torch.tensor(clips), self.dense))
            if clips % step:
                raise ValueError(
                    f"scales: {clips} clips do not divide into the {step} that long moments begin "
                    "and end at; choose a multiple, or a larger dense"
                )
        if self.low >= self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")


@dataclass(frozen=True, kw_only=True)
class MapOutput(HeadOutput):
    """What a `MapHead` says, cell by cell."""

    cells: Tensor
    """(C, 2) the moments on all maps."""
    judged: Tensor
    """(B, C) logits of their scaled IoU with the moment."""


class MapHead(Encoder):
    """Judges a map of moments; before training by how likely their frames are inside."""

    config: MapConfig

    def __init__(self, config: MapConfig) -> None:
        super().__init__(config)
        width = config.map_width
        self.clip_in = nn.Linear(config.hidden, width)
        self.query_in = nn.Linear(config.hidden, width)
        self.convolve = nn.ModuleList(
            _MaskedConv(width, config.kernel) for _ in range(config.map_layers)
        )
        self.judge = quiet_mlp(width, width, 1, bias=0.0)
        self.prior_gain = nn.Parameter(torch.tensor(1.0))
        grids = nn.ModuleList(_Grid(clips, config.dense) for clips in config.scales)
        self.grids = cast("Iterable[_Grid]", grids)

    def answer(self, seen: Encoded, target: Tensor | None) -> MapOutput:
        """Judge all cells; read the best ones that differ, or with a target the best one."""
        edges = clip_edges(seen.centres, seen.frame_mask)
        judged = torch.cat([self._judge(seen, edges, grid) for grid in self.grids], -1)
        cells = torch.cat([grid.spans for grid in self.grids])
        spans = cells.expand(len(judged), -1, -1)
        count = self.config.answers if target is None else 1
        index, exists = suppress(spans, judged.detach(), self.config.nms, count)
        return MapOutput(
            moments=take(spans, index),
            scores=judged.gather(1, index).sigmoid() * exists,
            cells=cells,
            judged=judged,
            **seen.told,
        )

    def loss(self, output: HeadOutput, truth: Truth) -> dict[str, Tensor]:
        """Which moments of the map are meant, and where frames belong.

        Cells that are neither right nor wrong take no part: see `certain`.

        Returns:
            Scalars "map", "guidance" and "inside".
        """
        if not isinstance(output, MapOutput):
            raise ValueError(f"the loss needs the output of a MapHead, not {type(output).__name__}")
        config, edges = self.config, clip_edges(output.centres, output.frame_mask)
        shared = span_iou(output.cells, truth.target[:, None].float())
        inside = truth.true_frames(output)
        right = torch.cat([_inside(grid, edges, inside) for grid in self.grids], -1)
        judged = scaled_iou_loss(
            output.judged, shared, certain(shared, right),
            low=config.low, high=config.high, weight=truth.weight,
        )  # fmt: skip
        return {
            "map": config.map_weight * judged / len(output.cells),
            **self.frame_losses(output, truth),
        }

    def _judge(self, seen: Encoded, edges: Tensor, grid: _Grid) -> Tensor:
        """Logits (B, cells of one map)."""
        cover = coverage(grid.clips, edges)
        clips = average(cover, self.clip_in(seen.x))
        likely = average(cover, seen.probability[..., None]).squeeze(-1)
        expected = expected_iou(grid.spans, likely, grid.clips, grid.cover)
        stacked = stack_clips(clips.transpose(1, 2), grid.mask)
        query = self.query_in(seen.query)[:, :, None, None]
        x = F.normalize(stacked * query, dim=1) * self.config.map_width**0.5
        for layer in self.convolve:
            x = layer(x, grid.mask)
        found: Tensor = self.judge(x.permute(0, 2, 3, 1)[:, grid.mask])
        return found.squeeze(-1).float() + self.prior_gain * expected.logit(eps=1e-4)


class _Grid(nn.Module):
    """Which moments one map has; nothing of it is learned or saved."""

    mask: Tensor  # (N, N) bool
    clips: Tensor  # (N, 2)
    spans: Tensor  # (cells, 2)
    cover: Tensor  # (cells, N)

    def __init__(self, clips: int, dense: int) -> None:
        super().__init__()
        mask = sparse_cells(clips, dense)
        first, last = mask.nonzero().unbind(1)
        borders = torch.arange(clips + 1) / clips
        parts = torch.stack((borders[:-1], borders[1:]), -1)
        spans = torch.stack((borders[first], borders[last + 1]), -1)
        for name, value in (
            ("mask", mask), ("clips", parts), ("spans", spans), ("cover", coverage(spans, parts))
        ):  # fmt: skip
            self.register_buffer(name, value, persistent=False)


class _MaskedConv(nn.Module):
    """Convolution that sees cells of the map only, and counts how many it sees."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, kernel, padding=kernel // 2, bias=False)
        self.bias = nn.Parameter(torch.zeros(width, 1, 1))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Convolve (B, C, N, N) where `mask` (N, N) is True."""
        there = mask[None, None].to(x.dtype)
        size = self.conv.kernel_size[0]
        seen = F.avg_pool2d(there, size, stride=1, padding=size // 2).clamp(min=1e-6)
        return x + F.gelu(self.conv(x * there) / seen + self.bias) * there


def sparse_cells(clips: int, dense: int) -> Tensor:
    """Which moments (first clip, last clip) are on the map: (N, N) bool.

    All that are up to `dense` clips long; of those up to twice as long the ones that begin and end
    at every second clip border, of those up to four times as long at every fourth, and so on.
    """
    first, last = torch.arange(clips)[:, None], torch.arange(clips)[None]
    length = last - first + 1
    stride = _stride(length.clamp(min=1), dense)
    return (length >= 1) & (first % stride == 0) & ((last + 1) % stride == 0)


def _stride(length: Tensor, dense: int) -> Tensor:
    """Distance of the places where moments of so many clips begin and end."""
    return 2 ** (length / dense).log2().ceil().clamp(min=0).long()


def stack_clips(clips: Tensor, mask: Tensor) -> Tensor:
    """Maximum of clips (B, C, N) from each first to each last one: (B, C, N, N), 0 off the map."""
    before = torch.ones_like(mask).tril(-1)  # the last clip would be before the first
    tops = clips[:, :, None].masked_fill(before, -torch.inf).cummax(-1).values
    return tops.masked_fill(~mask, 0.0)


def _inside(grid: _Grid, edges: Tensor, inside: Tensor) -> Tensor:
    """Share (B, cells) of each moment that lies in any true one."""
    clips = average(coverage(grid.clips, edges), inside[..., None])
    return average(grid.cover, clips).squeeze(-1)
