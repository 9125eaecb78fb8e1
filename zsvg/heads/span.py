"""Boundary head: at which frame a moment starts, at which it ends, and which frames lie in it.

The class of ExCL (Ghosh et al., NAACL 2019), VSLNet (Zhang et al., ACL 2020) and DRN (Zeng et al.,
CVPR 2020): a distribution over starts, one over ends, and a score of being inside. There the two
distributions are independent and multiplied; here pairs that end before they start have no share,
so that answers are read from the very distribution that was trained. Given the scores of starts
and ends, the best pair is VSLNet's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from pydantic.dataclasses import dataclass as checked
from torch import Tensor, nn

from zsvg.heads.base import HeadOutput
from zsvg.heads.encoder import Encoded, Encoder, HeadConfig, Overlap, Truth, Weight
from zsvg.heads.layers import quiet_mlp
from zsvg.heads.losses import distribution_loss
from zsvg.heads.span_arithmetic import clip_edges, span_iou, suppress, take

_NEVER = 1e6  # taken from the score of what is no candidate; finite, as gradients pass through


@checked(frozen=True, kw_only=True, config={"extra": "forbid"})
class SpanConfig(HeadConfig):
    """Shape and loss weights of a `SpanHead`.

    Attributes:
        softness: how far around a true border frames count as it, in lengths of the moment; at
            least half a clip.
        nms: IoU above which the worse one of two answers is dropped.
        span_weight: weight of the cross-entropy of (start, end) pairs.
    """

    softness: Weight = 0.05
    nms: Overlap = 0.5
    span_weight: Weight = 1.0


@dataclass(frozen=True, kw_only=True)
class SpanOutput(HeadOutput):
    """What a `SpanHead` says; the score of the frames s to e is `opens`[s] + `closes`[e]."""

    opens: Tensor
    """(B, T) float32: start logit, without the inside scores of the frames before."""
    closes: Tensor
    """(B, T) float32: end logit, with the inside scores of the frames up to this one."""


class SpanHead(Encoder):
    """Predicts both borders; before training the run of the largest sum of frame logits."""

    config: SpanConfig

    def __init__(self, config: SpanConfig) -> None:
        super().__init__(config)
        self.borders = quiet_mlp(config.hidden, config.hidden, 2, bias=0.0)
        # Neighbouring frames say much the same, so that their sum is too sure of itself.
        self.inside_gain = nn.Parameter(torch.tensor(0.2))

    def answer(self, seen: Encoded, target: Tensor | None) -> SpanOutput:
        """Find the best pairs that differ, or with a target the best one."""
        mask = seen.frame_mask
        start, end = self.border_logits(seen).unbind(-1)
        inside = (self.inside_gain * seen.logits * mask).cumsum(-1)
        opens = start - F.pad(inside[:, :-1], (1, 0))
        closes = end + inside
        found, scores = best_pairs(opens.detach(), closes.detach(), mask)
        edges = clip_edges(seen.centres, mask)
        spans = torch.stack(
            (edges[..., 0].gather(1, found[..., 0]), edges[..., 1].gather(1, found[..., 1])), -1
        )
        count = self.config.answers if target is None else 1
        index, exists = suppress(spans, scores, self.config.nms, count)
        moments = take(spans, index)
        # How well an answer agrees with all candidates, each as likely as it is.
        shared = span_iou(moments[:, :, None], spans[:, None])
        agreement = (shared * scores.softmax(-1)[:, None]).sum(-1).clamp(1e-6, 1)
        return SpanOutput(
            moments=moments,
            scores=agreement.cummin(-1).values * exists,
            opens=opens,
            closes=closes,
            **seen.told,
        )

    def border_logits(self, seen: Encoded) -> Tensor:
        """Score each clip as the first and as the last: (B, T, 2) float32."""
        logits: Tensor = self.borders(seen.x + seen.x * seen.query[:, None]).float()
        return logits

    def loss(self, output: HeadOutput, truth: Truth) -> dict[str, Tensor]:
        """Where the moment starts and ends, and where frames belong.

        Returns:
            Scalars "span", "guidance" and "inside".
        """
        if not isinstance(output, SpanOutput):
            raise ValueError(f"the loss needs a SpanHead's output, not {type(output).__name__}")
        mask, centres = output.frame_mask, output.centres
        target, true, inside = truth.target, truth.target_frames(output), truth.true_frames(output)
        edges = clip_edges(centres, mask)
        length = (target[:, 1:] - target[:, :1]).float()
        width = (edges[..., 1] - edges[..., 0]).masked_fill(~mask, 0.0).amax(-1, keepdim=True)
        spread = torch.maximum(self.config.softness * length, width / 2)
        starts, ends = (
            (-(((edges[..., i] - target[:, i : i + 1]) / spread) ** 2) / 2)
            .masked_fill(~mask, -torch.inf)
            .softmax(-1)
            for i in (0, 1)
        )
        # Borders in another true moment of the same query are neither right nor wrong.
        other = _NEVER * (inside & ~true)
        scores = output.opens - other, output.closes - other
        whole = all_pairs(*scores, mask)
        pairs = distribution_loss(
            (output.opens, output.closes), (starts, ends), whole, truth.weight
        )
        return {
            "span": self.config.span_weight * pairs,
            **self.frame_losses(output, truth),
        }


def all_pairs(opens: Tensor, closes: Tensor, mask: Tensor) -> Tensor:
    """Log of the sum of exp(opens[s] + closes[e]) over all s <= e: (B,), in time O(T)."""
    upto = opens.masked_fill(~mask, -_NEVER).logcumsumexp(-1)
    return (upto + closes).masked_fill(~mask, -torch.inf).logsumexp(-1)


def best_pairs(opens: Tensor, closes: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Best start of every end, and best end of every start, in time O(T).

    The best of them is the best of all pairs s <= e.

    Args:
        opens: (B, T), the part of a pair's score that its start decides.
        closes: (B, T), the part that its end decides.
        mask: (B, T) bool, real frames first.

    Returns:
        (B, 2 T, 2) int64 frames (s, e), and their scores (B, 2 T), -inf at padding.
    """
    never = ~mask
    opens, closes = (x.masked_fill(never, -torch.inf) for x in (opens, closes))
    before, start = opens.cummax(-1)
    after, end = (x.flip(-1) for x in closes.flip(-1).cummax(-1))
    end = opens.shape[1] - 1 - end
    every = torch.arange(opens.shape[1], device=opens.device).expand_as(start)
    pairs = torch.cat((torch.stack((start, every), -1), torch.stack((every, end), -1)), 1)
    return pairs, torch.cat((before + closes, opens + after), 1)
