"""Set prediction: a few moment queries look at the video, and each becomes one moment or none.

Matching and losses of moments are those of Moment-DETR (Lei et al., NeurIPS 2021): one query for
each true moment, by L1, generalised IoU and class. The rest is ours: learned places alone take tens
of thousands of labels to converge, so half of the queries start at runs of relevant frames, and all
of them read the video where they stand (DAB-DETR, Liu et al., ICLR 2022). Frames have the losses
that they have in every head, instead of Moment-DETR's saliency.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass as checked
from torch import Tensor, nn

from zsvg.heads.base import HeadOutput
from zsvg.heads.encoder import Encoded, Encoder, HeadConfig, Truth, Weight
from zsvg.heads.layers import Attention, quiet_mlp
from zsvg.heads.losses import set_loss
from zsvg.heads.runs import find_runs
from zsvg.heads.span_arithmetic import (
    centre_length,
    clip_edges,
    coverage,
    expected_iou,
    generalised_iou,
    look_at,
    shift,
    take,
    true_moments,
)


@checked(frozen=True, kw_only=True, config={"extra": "forbid"})
class SetConfig(HeadConfig):
    """Shape and loss weights of a `SetHead`.

    Attributes:
        queries: moment queries; half of them start at runs of relevant frames.
        decoder_layers: how often they look at the video and move.
        background_weight: what a query that should say "none" weighs beside one that is a moment.
        span_weight: weight of the L1 distance of centres and lengths, in matching and in the loss.
        iou_weight: the same of the generalised IoU.
        class_weight: the same of "is a moment".
    """

    queries: int = Field(default=10, ge=2, le=1000)
    decoder_layers: int = Field(default=2, ge=1, le=32)
    background_weight: Weight = 0.1
    span_weight: Weight = 10.0
    iou_weight: Weight = 1.0
    class_weight: Weight = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.queries < self.answers:
            raise ValueError(f"queries {self.queries} must be at least answers {self.answers}")


class Guess(NamedTuple):
    """What Q queries say after one layer."""

    spans: Tensor
    """(B, Q, 2) fractions of the duration, start <= end; may reach beyond the video."""
    logits: Tensor
    """(B, Q) float32 of "is a moment"."""


@dataclass(frozen=True, kw_only=True)
class SetOutput(HeadOutput):
    """What a `SetHead` says, layer by layer."""

    guesses: tuple[Guess, ...]
    """One per layer, the last one is the answer."""
    exists: Tensor
    """(B, Q) bool, False for queries that found no run to start from."""


class SetHead(Encoder):
    """Turns moment queries into moments; before training into the runs that they start at."""

    config: SetConfig

    def __init__(self, config: SetConfig) -> None:
        super().__init__(config)
        learned = config.queries - config.queries // 2
        places = (torch.arange(learned) + 0.5) / learned
        # Centres and lengths before the sigmoid: one after the other, each overlapping the next.
        self.anchors = nn.Parameter(
            torch.stack((places, torch.full_like(places, 1.5 / (learned + 0.5))), -1).logit()
        )
        self.queries = nn.Parameter(torch.randn(config.queries, config.hidden))
        self.decoder = nn.ModuleList(_DecoderLayer(config) for _ in range(config.decoder_layers))

    def answer(self, seen: Encoded, target: Tensor | None) -> SetOutput:
        """Let the queries look and move; the best are the answer, with a target too."""
        edges = clip_edges(seen.centres, seen.frame_mask)
        spans, exists = self._places(seen, edges)
        x = self.queries + seen.query[:, None]
        guesses: list[Guess] = []
        for layer in self.decoder:
            x, guess = layer(x, spans.detach() if guesses else spans, exists, seen, edges)
            spans = guess.spans
            guesses.append(guess)
        judged = guesses[-1].logits.detach().masked_fill(~exists, -torch.inf)
        order = judged.argsort(dim=1, descending=True, stable=True)[:, : self.config.answers]
        return SetOutput(
            moments=take(spans, order).clamp(0, 1),
            scores=judged.gather(1, order).sigmoid(),
            guesses=tuple(guesses),
            exists=exists,
            **seen.told,
        )

    def loss(self, output: HeadOutput, truth: Truth) -> dict[str, Tensor]:
        """How far matched queries are from their moments, which queries are moments, and frames.

        Returns:
            Scalars "span", "overlap" and "class" (sums over layers), "guidance" and "inside".
        """
        if not isinstance(output, SetOutput):
            raise ValueError(f"the loss needs a SetHead's output, not {type(output).__name__}")
        config, edges = self.config, clip_edges(output.centres, output.frame_mask)
        true = true_moments(truth.target, truth.true_frames(output), edges)
        losses: dict[str, Tensor] = {}
        for guess in output.guesses:
            chosen, moments = self._match(guess, output.exists, true)
            terms = set_loss(
                guess.spans, guess.logits, chosen, moments, output.exists,
                background=config.background_weight, weight=truth.weight,
            )  # fmt: skip
            for name, value in terms.items():
                losses[name] = losses.get(name, 0.0) + value
        scale = {"span": config.span_weight, "overlap": config.iou_weight}
        scale["class"] = config.class_weight
        return {
            **{name: scale[name] * value for name, value in losses.items()},
            **self.frame_losses(output, truth),
        }

    def _places(self, seen: Encoded, edges: Tensor) -> tuple[Tensor, Tensor]:
        """Where the queries start (B, Q, 2), and which of them do (B, Q)."""
        runs, _, _ = find_runs(seen.probability, seen.frame_mask, self.config.queries // 2)
        found = runs.any(-1)
        first = edges[:, None, :, 0].masked_fill(~runs, 1.0).amin(-1)
        last = edges[:, None, :, 1].masked_fill(~runs, 0.0).amax(-1)
        spans = torch.stack((first * found, last.masked_fill(~found, 1.0)), -1)
        centre, length = self.anchors.sigmoid().unbind(-1)
        learned = torch.stack((centre - length / 2, centre + length / 2), -1).clamp(0, 1)
        learned = learned.expand(len(spans), -1, -1)
        everywhere = found.new_ones(learned.shape[:2])
        return torch.cat((spans, learned), 1), torch.cat((found, everywhere), 1)

    @torch.no_grad()
    def _match(self, guess: Guess, exists: Tensor, true: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Give each true moment a query: which are chosen (B, Q), and their moments (B, Q, 2)."""
        config = self.config
        chosen, moments = torch.zeros_like(exists), torch.zeros_like(guess.spans)
        for row, windows in enumerate(true):
            real = exists[row].nonzero().squeeze(-1)
            spans = guess.spans[row, real][:, None]
            cost = (
                config.span_weight * (centre_length(spans) - centre_length(windows)).abs().sum(-1)
                - config.iou_weight * generalised_iou(spans, windows)
                - config.class_weight * guess.logits[row, real, None].sigmoid()
            )
            queries, which = match(cost.double().cpu().numpy())
            chosen[row, real[queries]] = True
            moments[row, real[queries]] = windows[which]
        return chosen, moments


class _DecoderLayer(nn.Module):
    """Queries look at their place, at each other and at all frames; then they move."""

    def __init__(self, config: SetConfig) -> None:
        super().__init__()
        hidden = config.hidden
        shape = (hidden, config.attention_heads, config.dropout)
        self.look = nn.Linear(3 * hidden + 2, hidden)
        self.to_queries, self.to_frames = Attention(*shape), Attention(*shape)
        self.norm, self.norm_out = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.think = nn.Sequential(
            nn.Linear(hidden, 2 * hidden), nn.GELU(), nn.Linear(2 * hidden, hidden)
        )
        self.move = quiet_mlp(2 * hidden, hidden, 2, bias=0.0)
        self.judge = quiet_mlp(2 * hidden, hidden, 1, bias=0.0)
        self.prior_gain = nn.Parameter(torch.tensor(1.0))

    def forward(
        self, x: Tensor, spans: Tensor, exists: Tensor, seen: Encoded, edges: Tensor
    ) -> tuple[Tensor, Guess]:
        """Return the queries (B, Q, H), and what they say now."""
        x = x + self.look(torch.cat((look_at(spans, seen.x, edges), spans.detach()), -1))
        x = x + self.to_queries(x, x, exists)
        x = x + self.to_frames(x, seen.x, seen.frame_mask)
        x = x + self.think(self.norm(x))
        facts = torch.cat((self.norm_out(x), seen.query[:, None].expand_as(x)), -1)
        spans = shift(spans, self.move(facts))
        place = spans.detach()
        expected = expected_iou(place, seen.probability, edges, coverage(place, edges))
        judged = self.judge(facts).squeeze(-1).float() + self.prior_gain * expected.logit(eps=1e-4)
        return x, Guess(spans, judged)


def match(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hungarian matching: rows and columns (n,) of the pairs with the smallest sum of costs.

    Every row (query) and column (moment) is in one pair at most, and n is the smaller number.
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(cost)
    return rows, columns
