"""Attention regression head: where to look, then where it starts and ends.

The class of ABLR, LGI and PSVL: cross-modal attention, temporal attention over frames, regression
of (start, end). A plain weighted mean falls between two places that both attract attention, so
the moment is read from one run of frames at a time; further runs give further answers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zsvg.heads import HeadOutput
from zsvg.heads.curves import CurveEncoder, neighbours, similarity_curves, standardise
from zsvg.heads.runs import RunFit, find_runs, overlap
from zsvg.losses import (
    attention_guidance_loss,
    contrast_loss,
    inside_loss,
    rank_loss,
    span_loss,
)

_TIME_OCTAVES = 4
# Frames this far (in target lengths) around the true moment may take part while training.
_DILATION = 0.25
# A run that shares less than this with a moment is another stretch of the video.
_SOME = 0.3
_CANDIDATES = 10


@dataclass(frozen=True, kw_only=True)
class AttentionRegressionConfig:
    """Shape and loss weights of an `AttentionRegressionHead`.

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
            must that never met a sentence (`zsvg.heads.frame_queries`).
        answers: how many moments to return per query.
        guidance_weight: weight of the temporal attention guidance loss.
        inside_weight: weight of the per-frame cross-entropy. It makes `relevance` a probability,
            which the choice of runs relies on.
        rank_weight: weight of the cross-entropy between judged and true IoU of candidate runs.
        contrast_weight: weight of matching true runs with queries across the batch.
    """

    dim: int
    hidden: int = 64
    layers: int = 2
    attention_heads: int = 4
    dropout: float = 0.1
    content_dropout: float = 0.5
    words: bool = True
    answers: int = 5
    guidance_weight: float = 1.0
    inside_weight: float = 1.0
    rank_weight: float = 1.0
    contrast_weight: float = 1.0

    def __post_init__(self) -> None:
        for name in ("dim", "hidden", "layers", "attention_heads", "answers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} must be at least 1")
        if self.hidden % (2 * self.attention_heads):
            raise ValueError(
                f"hidden {self.hidden} must be a multiple of 2 * attention_heads "
                f"({2 * self.attention_heads})"
            )
        for name in ("dropout", "content_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} must lie in [0, 1)")


class AttentionRegressionHead(nn.Module):
    """Predicts moments from frozen or prompted CLIP features (METHODS 4.3).

    Before training its frame logits are twice the standardised CLIP relevance minus three, and the
    moment is the uniform density with the mean and deviation of the best run, uncorrected.
    """

    def __init__(self, config: AttentionRegressionConfig) -> None:
        super().__init__()
        self.config = config
        dim, hidden = config.dim, config.hidden
        self.adapt_frames, self.adapt_query = _Residual(dim), _Residual(dim)
        self.frame_in = nn.Linear(2 * dim + 2 * _TIME_OCTAVES, hidden)
        self.curves = CurveEncoder(hidden)
        self.token_in = nn.Linear(dim, hidden)
        self.pooled_in = nn.Linear(dim, hidden)
        self.blocks = nn.ModuleList(
            _Block(config, dilation=2**i, last=i == config.layers - 1) for i in range(config.layers)
        )
        self.non_local = _Attention(config)
        self.norm = nn.LayerNorm(hidden)
        # Training starts from CLIP's relevance: no correction of the curve, none of the span.
        self.attend = _quiet_mlp(hidden, hidden, 1, bias=-3.0)
        self.relevance_gain = nn.Parameter(torch.tensor(2.0))
        self.refine = _quiet_mlp(2 * hidden + 2, hidden, 2, bias=0.0)
        self.fit = RunFit(dim)

    def forward(
        self,
        frames: Tensor,
        frame_mask: Tensor,
        centres: Tensor,
        tokens: Tensor,
        token_mask: Tensor,
        pooled: Tensor,
        *,
        target: Tensor | None = None,
    ) -> HeadOutput:
        """Answer a batch (shapes in `zsvg.heads.HeadInputs`).

        Args:
            frames: (B, T, D) L2-normalised.
            frame_mask: (B, T) bool, real frames first.
            centres: (B, T) clip centres in [0, 1].
            tokens: (B, L, D) query token states.
            token_mask: (B, L) bool.
            pooled: (B, D) L2-normalised query.
            target: (B, 2) true moments: regression then looks around them (teacher forcing) and
                returns that one moment. Leave out to predict.

        Returns:
            Moments (B, answers, 2), or (B, 1, 2) with a target.
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
        x = self.norm(x + self.non_local(x, x, frame_mask))
        logits = self.attend(x + x * query[:, None]).squeeze(-1).float()
        logits = logits + self.relevance_gain * relevance[..., 1]
        probability = logits.sigmoid() * frame_mask
        read = partial(self._read, x, query, logits, centres=centres, frame_mask=frame_mask)
        found = find_runs(probability, frame_mask, max(_CANDIDATES, self.config.answers))
        runs = self.fit(frames, pooled, *found)
        summary = None
        if target is None:
            order = runs.logits.masked_fill(~runs.masks.any(-1), -torch.inf).argsort(
                dim=1, descending=True, stable=True
            )[:, : self.config.answers]
            rows = torch.arange(len(order), device=order.device)
            moments = torch.stack([read(runs.masks[rows, best]) for best in order.T], 1).clamp(0, 1)
            scores = (runs.logits.sigmoid() * runs.masks.any(-1)).gather(1, order)
        else:
            moments = read(_around(target, centres, frame_mask))[:, None]
            scores = torch.ones_like(moments[..., 0])
            true = _around(target, centres, frame_mask, dilation=0.0)
            summary = self.fit.summary(frames, true[:, None]).squeeze(1)
        return HeadOutput(
            moments=moments,
            scores=scores,
            relevance=probability,
            logits=logits,
            frame_mask=frame_mask,
            centres=centres,
            runs=runs,
            summary=summary,
            query=pooled,
        )

    def loss(
        self,
        output: HeadOutput,
        target: Tensor,
        inside: Tensor | None = None,
        weight: Tensor | None = None,
        away: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Span regression, where frames belong, which run is meant, and which query a run has.

        Args:
            output: of a forward call with the same target.
            target: (B, 2) true moments in [0, 1].
            inside: (B, T) bool frames of any true moment; taken from `target` when left out.
            weight: (B,) sample weights, mean about 1.
            away: (2, M, D) `summary` and `query` of the batch's samples in other processes.

        Returns:
            Scalars "span", "guidance", "inside", "rank" and "contrast", already weighted; minimise
            their sum.

        Raises:
            ValueError: The output is of a forward call without a target.
        """
        if output.summary is None:
            raise ValueError("the loss needs the output of a forward call with the target")
        config, mask, runs = self.config, output.frame_mask, output.runs
        true = _around(target, output.centres, mask, dilation=0.0)
        inside = true if inside is None else inside
        shared = overlap(runs.masks, true)
        # A run in another true moment of the same query is neither right nor wrong.
        length = runs.masks.sum(-1)
        right_too = (runs.masks & inside[:, None]).sum(-1) > _SOME * length
        counts = (length > 0) & ((shared > _SOME) | ~right_too)
        wrong = runs.fit.masked_fill(~counts | (shared > _SOME), -torch.inf)
        losses = {
            "span": span_loss(output.moments[:, 0], target, weight=weight),
            "guidance": attention_guidance_loss(output.logits, mask, inside, weight=weight),
            "inside": inside_loss(output.logits, mask, inside, weight=weight),
            "rank": rank_loss(runs.logits, shared, counts, weight=weight),
            "contrast": contrast_loss(
                output.summary, output.query, wrong, self.fit.scale.exp(), weight=weight, away=away
            ),
        }
        return {
            name: loss * (1.0 if name == "span" else getattr(config, f"{name}_weight"))
            for name, loss in losses.items()
        }

    def _channels(self, frames: Tensor, motion: Tensor, centres: Tensor) -> Tensor:
        """Frame features, their differences (motion; stills have none) and time."""
        octaves = 2.0 ** torch.arange(_TIME_OCTAVES, device=frames.device) * math.pi
        phase = centres[..., None] * octaves
        # L2-normalised features have entries of about 1 / sqrt(D); layers expect about 1.
        content = torch.cat((frames, motion), -1) * math.sqrt(self.config.dim)
        content = _drop_channels(content, self.config.content_dropout, self.training)
        return torch.cat([p.to(frames.dtype) for p in (content, phase.sin(), phase.cos())], -1)

    def _read(
        self,
        x: Tensor,
        query: Tensor,
        logits: Tensor,
        run: Tensor,
        *,
        centres: Tensor,
        frame_mask: Tensor,
    ) -> Tensor:
        """Start and end (B, 2) of the moment in `run` (B, T) bool."""
        width = _clip_width(centres, frame_mask)
        weights = logits.sigmoid().clamp(min=1e-6) * run
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-12)
        mean = (weights * centres).sum(-1, keepdim=True)
        variance = (weights * (centres - mean) ** 2).sum(-1, keepdim=True)
        # sqrt(3) standard deviations are half of a uniform density; a clip is uniform itself.
        half = (3 * variance + width**2 / 4).sqrt()
        pooled = torch.einsum("bt,bth->bh", weights.to(x.dtype), x)
        facts = torch.cat((pooled, query, mean.to(x.dtype), half.to(x.dtype)), -1)
        grow = self.refine(facts).float().tanh().exp()
        return torch.cat((mean - half * grow[:, :1], mean + half * grow[:, 1:]), -1)


class _Residual(nn.Module):
    """Turns unit vectors a little; the identity before training (CLIP-Adapter's idea)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.turn = nn.Linear(dim, dim, bias=False)
        nn.init.zeros_(self.turn.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x + self.turn(x), dim=-1)


class _Block(nn.Module):
    """Temporal convolution over frames, then frames and query words look at each other.

    The words are read by frames only, so they look at the video once, in the last block.
    """

    def __init__(self, config: AttentionRegressionConfig, *, dilation: int, last: bool) -> None:
        super().__init__()
        self.dilation, self.rate = dilation, config.dropout
        self.norm = nn.LayerNorm(config.hidden)
        # Half the width inside, as in the attentions: most of a step is spent here.
        self.mix = nn.Linear(3 * config.hidden, config.hidden // 2)
        self.out = nn.Linear(config.hidden // 2, config.hidden)
        self.to_words = _Attention(config) if last else None
        self.to_frames = _Attention(config)

    def forward(
        self, x: Tensor, words: Tensor, frame_mask: Tensor, token_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        # Zeros beyond the last real frame, as beyond the last frame of an unpadded video.
        near = neighbours(self.norm(x) * frame_mask[..., None], self.dilation)
        x = x + _drop_channels(self.out(F.gelu(self.mix(near))), self.rate, self.training)
        if self.to_words is not None:
            words = words + self.to_words(words, x, frame_mask)
        return x + self.to_frames(x, words, token_mask), words


class _Attention(nn.Module):
    """Multi-head attention from `x` to the real entries of `memory`, layer norms first."""

    def __init__(self, config: AttentionRegressionConfig) -> None:
        super().__init__()
        hidden = config.hidden
        self.heads, self.rate = config.attention_heads, config.dropout
        self.norm, self.norm_memory = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.query, self.memory = nn.Linear(hidden, hidden // 2), nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden // 2, hidden)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        query = self.query(self.norm(x)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = (
            self.memory(self.norm_memory(memory)).unflatten(-1, (2, self.heads, -1)).unbind(2)
        )
        seen = F.scaled_dot_product_attention(
            query, key.transpose(1, 2), value.transpose(1, 2), attn_mask=mask[:, None, None, :]
        )
        out = self.out(seen.transpose(1, 2).flatten(2))
        return _drop_channels(out, self.rate, self.training)


def _quiet_mlp(inputs: int, hidden: int, outputs: int, *, bias: float) -> nn.Sequential:
    """Make a two-layer perceptron whose output is almost `bias` until it is trained."""
    last = nn.Linear(hidden, outputs)
    nn.init.normal_(last.weight, std=1e-3)
    nn.init.constant_(last.bias, bias)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), last)


def _drop_channels(x: Tensor, rate: float, training: bool) -> Tensor:
    """Drop channels of (B, T, H) over the whole sequence; one draw per channel is cheap on CPU."""
    return F.dropout1d(x.transpose(1, 2), rate, training).transpose(1, 2)


def _clip_width(centres: Tensor, frame_mask: Tensor) -> Tensor:
    """Mean distance of neighbouring clips (B, 1); a single clip is the whole video."""
    count = frame_mask.sum(-1, keepdim=True)
    last = centres.max(-1, keepdim=True).values
    return torch.where(count > 1, (last - centres[:, :1]) / (count - 1).clamp(min=1), 1.0)


def _around(
    target: Tensor, centres: Tensor, frame_mask: Tensor, dilation: float = _DILATION
) -> Tensor:
    """Frames (B, T) within `dilation` lengths of the target, and always the nearest one."""
    start, end = target[:, :1].float(), target[:, 1:].float()
    margin = dilation * (end - start)
    inside = (centres >= start - margin) & (centres < end + margin) & frame_mask
    distance = (centres - (start + end) / 2).abs().masked_fill(~frame_mask, float("inf"))
    nearest = F.one_hot(distance.argmin(-1), centres.shape[1]).bool()
    return inside | nearest
