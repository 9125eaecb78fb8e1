"""Attention regression head: where to look, then where it starts and ends.

The class of ABLR, LGI and PSVL: cross-modal attention, temporal attention over frames, regression
of (start, end). A plain weighted mean falls between two places that both attract attention, so
the moment is read from one run of frames at a time; further runs give further answers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic.dataclasses import dataclass as checked
from torch import Tensor

from zsvg.heads.base import HeadOutput
from zsvg.heads.encoder import Encoded, Encoder, HeadConfig, Truth, Weight
from zsvg.heads.layers import quiet_mlp
from zsvg.heads.losses import contrast_loss, scaled_iou_loss, span_loss
from zsvg.heads.runs import RunFit, Runs, find_runs, overlap
from zsvg.heads.span_arithmetic import SOME, around

# Frames this far (in target lengths) around the true moment may take part while training.
_DILATION = 0.25
_CANDIDATES = 10


@checked(frozen=True, kw_only=True, config={"extra": "forbid"})
class AttentionRegressionConfig(HeadConfig):
    """Shape and loss weights of an `AttentionRegressionHead`.

    Attributes:
        rank_weight: weight of the cross-entropy between judged and true IoU of candidate runs.
        contrast_weight: weight of matching true runs with queries across the batch.
    """

    rank_weight: Weight = 1.0
    contrast_weight: Weight = 1.0


@dataclass(frozen=True, kw_only=True)
class RegressionOutput(HeadOutput):
    """What an `AttentionRegressionHead` says, and the runs that it was read from."""

    runs: Runs
    """Candidate runs that the moments were read from."""
    query: Tensor
    """(B, D) the query as the runs were compared with it, unit length."""
    summary: Tensor | None = None
    """(B, D) the true run as a whole, unit length; only with a target."""

    @property
    def presence(self) -> Tensor:
        """(B,) cosine of the query and the run that is judged best, in [-1, 1].

        Runs were contrasted with the queries of other videos; scores only with each other.
        """
        best = self.runs.judged.argmax(-1, keepdim=True)
        return self.runs.fit.gather(1, best).squeeze(1)

    @property
    def exchanged(self) -> Tensor | None:
        """(2, B, D) true runs and queries: other processes' are contrasted with too."""
        return None if self.summary is None else torch.stack((self.summary, self.query))


class AttentionRegressionHead(Encoder):
    """Predicts moments from frozen or prompted CLIP features.

    Before training the moment is the uniform density with the mean and deviation of the best run,
    uncorrected.
    """

    config: AttentionRegressionConfig

    def __init__(self, config: AttentionRegressionConfig) -> None:
        super().__init__(config)
        # No correction of the span either.
        self.refine = quiet_mlp(2 * config.hidden + 2, config.hidden, 2, bias=0.0)
        self.fit = RunFit(config.dim)

    def answer(self, seen: Encoded, target: Tensor | None) -> RegressionOutput:
        """Read moments (B, answers, 2) from runs, or (B, 1, 2) around the target."""
        centres, mask = seen.centres, seen.frame_mask
        found = find_runs(seen.probability, mask, max(_CANDIDATES, self.config.answers))
        runs = self.fit(seen.frames, seen.pooled, *found)
        summary = None
        if target is None:
            order = runs.judged.argsort(dim=1, descending=True, stable=True)
            order = order[:, : self.config.answers]
            rows = torch.arange(len(order), device=order.device)
            read = [self._read(seen, runs.masks[rows, best]) for best in order.T]
            moments = torch.stack(read, 1).clamp(0, 1)
            scores = runs.judged.sigmoid().gather(1, order).float()
        else:
            moments = self._read(seen, around(target, centres, mask, _DILATION))[:, None]
            scores = torch.ones_like(moments[..., 0])
            true = around(target, centres, mask)
            summary = self.fit.summary(seen.frames, true[:, None]).squeeze(1)
        return RegressionOutput(
            moments=moments,
            scores=scores,
            runs=runs,
            summary=summary,
            query=seen.pooled,
            **seen.told,
        )

    def loss(self, output: HeadOutput, truth: Truth) -> dict[str, Tensor]:
        """Span regression, where frames belong, which run is meant, and which query a run has.

        Returns:
            Scalars "span", "guidance", "inside", "rank" and "contrast".

        Raises:
            ValueError: The output is of a forward call without a target.
        """
        if not isinstance(output, RegressionOutput) or output.summary is None:
            raise ValueError("the loss needs the output of a forward call with the target")
        config, runs, weight = self.config, output.runs, truth.weight
        true, inside = truth.target_frames(output), truth.true_frames(output)
        shared = overlap(runs.masks, true)
        # A run in another true moment of the query, or a short one inside this one, is neither
        # right nor wrong (`certain`).
        length = runs.masks.sum(-1)
        right_too = (runs.masks & inside[:, None]).sum(-1) > SOME * length
        counts = (length > 0) & ((shared > SOME) | ~right_too)
        wrong = runs.fit.masked_fill(~counts | (shared > SOME), -torch.inf)
        contrast = contrast_loss(
            output.summary, output.query, wrong, self.fit.scale.exp(),
            weight=weight, away=truth.away,
        )  # fmt: skip
        rank = scaled_iou_loss(runs.logits, shared, counts, weight=weight)
        return {
            "span": span_loss(output.moments[:, 0], truth.target, weight=weight),
            **self.frame_losses(output, truth),
            "rank": config.rank_weight * rank,
            "contrast": config.contrast_weight * contrast,
        }

    def _read(self, seen: Encoded, run: Tensor) -> Tensor:
        """Start and end (B, 2) of the moment in `run` (B, T) bool."""
        centres, x = seen.centres, seen.x
        width = _clip_width(centres, seen.frame_mask)
        weights = seen.logits.sigmoid().clamp(min=1e-6) * run
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-12)
        mean = (weights * centres).sum(-1, keepdim=True)
        variance = (weights * (centres - mean) ** 2).sum(-1, keepdim=True)
        # sqrt(3) standard deviations are half of a uniform density; a clip is uniform itself.
        half = (3 * variance + width**2 / 4).sqrt()
        pooled = torch.einsum("bt,bth->bh", weights.to(x.dtype), x)
        facts = torch.cat((pooled, seen.query, mean.to(x.dtype), half.to(x.dtype)), -1)
        grow = self.refine(facts).float().tanh().exp()
        return torch.cat((mean - half * grow[:, :1], mean + half * grow[:, 1:]), -1)


def _clip_width(centres: Tensor, frame_mask: Tensor) -> Tensor:
    """Mean distance of neighbouring clips (B, 1); a single clip is the whole video."""
    count = frame_mask.sum(-1, keepdim=True)
    last = centres.max(-1, keepdim=True).values
    return torch.where(count > 1, (last - centres[:, :1]) / (count - 1).clamp(min=1), 1.0)
