"""What all trained heads have in common: a query looks at frames, and each frame gets a logit.

A head is an `Encoder` that makes an answer of what it sees (`answer`) and says how wrong that is
(`loss`). Frames that attract attention are found alike in all of them; they differ in how moments
are read from these.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass as checked
from torch import Tensor, nn

from zsvg.heads.base import HeadOutput
from zsvg.heads.curves import CurveEncoder, similarity_curves, standardise
from zsvg.heads.layers import Attention, Block, Residual, coarse, drop_channels, quiet_mlp
from zsvg.heads.losses import attention_guidance_loss, inside_loss
from zsvg.heads.span_arithmetic import around

_TIME_OCTAVES = 4
_REMEMBERED = 1024  # frames that every frame of a video compares itself with; 8 minutes at 2 fps


Weight = Annotated[float, Field(ge=0)]
Overlap = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]


@checked(frozen=True, kw_only=True, config={"extra": "forbid"})
class HeadConfig:
    """Shape and loss weights that all kinds of heads have; JSON values.

    Configs are read from files of others: the limits are far above what helps, and far below what
    fills a machine.

    Attributes:
        dim: width D of frame and text features.
        hidden: width inside the head; a multiple of twice `attention_heads`.
        layers: blocks of temporal convolution and cross-attention.
        attention_heads: heads of every attention.
        dropout: probability, in [0, 1).
        content_dropout: probability that a channel of the raw frame features is dropped, in
            [0, 1). Curves of similarity with the query carry over from few labels; raw features
            are learned by heart.
        words: whether the query's words are looked at; False reads the query as a whole, as a head
            must that never met a sentence (`zsvg.training.frame_queries`).
        members: how many such heads there are, whose mean answers (`zsvg.heads.ensemble`).
        answers: how many moments to return per query.
        guidance_weight: weight of the temporal attention guidance loss.
        inside_weight: weight of the per-frame cross-entropy. It makes `relevance` a probability,
            which answers are read from.
    """

    dim: int = Field(ge=1, le=8192)
    hidden: int = Field(default=64, ge=1, le=1024)
    layers: int = Field(default=2, ge=1, le=32)
    attention_heads: int = Field(default=4, ge=1, le=64)
    dropout: Rate = 0.1
    content_dropout: Rate = 0.5
    words: bool = True
    members: int = Field(default=1, ge=1, le=16)
    answers: int = Field(default=5, ge=1, le=1000)
    guidance_weight: Weight = 1.0
    inside_weight: Weight = 1.0

    def __post_init__(self) -> None:
        if self.hidden % (2 * self.attention_heads):
            raise ValueError(
                f"hidden {self.hidden} must be a multiple of 2 * attention_heads "
                f"({2 * self.attention_heads})"
            )


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What B answers should have been; times are fractions of the duration."""

    target: Tensor
    """(B, 2) the moments that are asked for."""
    inside: Tensor | None = None
    """(B, T) bool frames of any true moment of the query; those of `target` when left out."""
    weight: Tensor | None = None
    """(B,) sample weights, mean about 1; 1 when left out."""
    away: Tensor | None = None
    """(N, M, D) what `HeadOutput.exchanged` is of the batch's samples in other processes."""

    def target_frames(self, output: HeadOutput) -> Tensor:
        """(B, T) bool frames of the moment that is asked for, at least one each."""
        return around(self.target, output.centres, output.frame_mask)

    def true_frames(self, output: HeadOutput) -> Tensor:
        """(B, T) bool frames of any true moment."""
        return self.target_frames(output) if self.inside is None else self.inside


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """B (video, query) pairs after they have looked at each other."""

    x: Tensor
    """(B, T, H) frames in the light of the query; values at padding mean nothing."""
    query: Tensor
    """(B, H) the query as a whole."""
    frames: Tensor
    """(B, T, D) frame features, turned a little, unit length; 0 at padding. No query seen."""
    pooled: Tensor
    """(B, D) the query in the space of `frames`, unit length. No video seen."""
    logits: Tensor
    """(B, T) float32 logits of "this frame is inside"; at first twice CLIP's relevance - 3."""
    frame_mask: Tensor
    """(B, T) bool, real frames first."""
    centres: Tensor
    """(B, T) float32 clip centres in [0, 1], 0 at padding."""
    points: Tensor | None = None
    """(B, 2, D) as given, unit length."""

    @property
    def probability(self) -> Tensor:
        """(B, T) float32 that a frame is inside, 0 at padding."""
        return self.logits.sigmoid() * self.frame_mask

    @property
    def told(self) -> dict[str, Tensor]:
        """What every `HeadOutput` says of the frames."""
        return {
            "relevance": self.probability,
            "logits": self.logits,
            "frame_mask": self.frame_mask,
            "centres": self.centres,
        }


class Encoder(nn.Module, ABC):
    """The part of a head that looks; a kind of head is a subclass with `answer` and `loss`.

    Before training the frame logits are twice the standardised CLIP relevance minus three.
    """

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        dim, hidden = config.dim, config.hidden
        shape = (hidden, config.attention_heads, config.dropout)
        self.adapt_frames, self.adapt_query = Residual(dim), Residual(dim)
        self.frame_in = nn.Linear(2 * dim + 2 * _TIME_OCTAVES, hidden)
        self.curves = CurveEncoder(hidden)
        self.token_in = nn.Linear(dim, hidden)
        self.pooled_in = nn.Linear(dim, hidden)
        self.blocks = nn.ModuleList(
            Block(*shape, dilation=2**i, last=i == config.layers - 1) for i in range(config.layers)
        )
        self.non_local = Attention(*shape)
        self.norm = nn.LayerNorm(hidden)
        # Training starts from CLIP's relevance: no correction of the curve.
        self.attend = quiet_mlp(hidden, hidden, 1, bias=-3.0)
        self.relevance_gain = nn.Parameter(torch.tensor(2.0))

    def forward(
        self,
        frames: Tensor,
        frame_mask: Tensor,
        centres: Tensor,
        tokens: Tensor,
        token_mask: Tensor,
        pooled: Tensor,
        points: Tensor | None = None,
        *,
        target: Tensor | None = None,
    ) -> HeadOutput:
        """Answer a batch (shapes in `zsvg.heads.base.HeadInputs`).

        Args:
            frames: (B, T, D) L2-normalised.
            frame_mask: (B, T) bool, real frames first.
            centres: (B, T) clip centres in [0, 1].
            tokens: (B, L, D) query token states.
            token_mask: (B, L) bool.
            pooled: (B, D) L2-normalised query.
            points: (B, 2, D) L2-normalised states that point at start and end, or None.
            target: (B, 2) true moments, in training only: a head may look at them (teacher
                forcing), and then returns what its loss needs instead of all answers.

        Returns:
            Moments (B, K, 2), K = `config.answers` without a target.
        """
        if not self.config.words:
            tokens, token_mask = pooled[:, None], torch.ones_like(pooled[:, :1])
        frame_mask, token_mask = frame_mask.bool(), token_mask.bool()
        real = frame_mask[..., None]
        frames = self.adapt_frames(frames.masked_fill(~real, 0.0)) * real
        pooled = self.adapt_query(pooled)
        centres = centres.masked_fill(~frame_mask, 0.0).float()
        motion = F.pad(frames[:, 1:] - frames[:, :-1], (0, 0, 1, 0)).masked_fill(~real, 0.0)
        relevance = standardise(torch.einsum("btd,bd->bt", frames.float(), pooled.float()), real)
        x = self.frame_in(self._channels(frames, motion, centres))
        x = x + self.curves(similarity_curves(relevance, motion, pooled, real).to(x.dtype), real)
        query = self.pooled_in(pooled * math.sqrt(self.config.dim))
        words = self.token_in(tokens * math.sqrt(self.config.dim)) + query[:, None]
        for block in self.blocks:
            x, words = block(x, words, frame_mask, token_mask)
        x = self.norm(x + self.non_local(x, *coarse(x, frame_mask, _REMEMBERED)))
        logits = self.attend(x + x * query[:, None]).squeeze(-1).float()
        seen = Encoded(
            x=x,
            query=query,
            frames=frames,
            pooled=pooled,
            logits=logits + self.relevance_gain * relevance[..., 1],
            frame_mask=frame_mask,
            centres=centres,
            points=points,
        )
        return self.answer(seen, target)

    @abstractmethod
    def answer(self, seen: Encoded, target: Tensor | None) -> HeadOutput:
        """Read moments from what was seen."""

    @abstractmethod
    def loss(self, output: HeadOutput, truth: Truth) -> dict[str, Tensor]:
        """Return named scalar losses, already weighted; training minimises their sum.

        Args:
            output: of a forward call with the same target.
            truth: what the answers should have been.
        """

    def frame_losses(self, output: HeadOutput, truth: Truth) -> dict[str, Tensor]:
        """Which frames belong: "guidance" and "inside", weighted."""
        config, weight = self.config, truth.weight
        given = output.logits, output.frame_mask, truth.true_frames(output)
        return {
            "guidance": config.guidance_weight * attention_guidance_loss(*given, weight=weight),
            "inside": config.inside_weight * inside_loss(*given, weight=weight),
        }

    def _channels(self, frames: Tensor, motion: Tensor, centres: Tensor) -> Tensor:
        """Frame features, their differences (motion; stills have none) and time."""
        octaves = 2.0 ** torch.arange(_TIME_OCTAVES, device=frames.device) * math.pi
        phase = centres[..., None] * octaves
        # L2-normalised features have entries of about 1 / sqrt(D); layers expect about 1.
        content = torch.cat((frames, motion), -1) * math.sqrt(self.config.dim)
        content = drop_channels(content, self.config.content_dropout, self.training)
        return torch.cat([p.to(frames.dtype) for p in (content, phase.sin(), phase.cos())], -1)
