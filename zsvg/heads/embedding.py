"""Joint embedding: spans and sentences are points of one space, and a near span answers a sentence.

The class of MCN (Hendricks et al., "Localizing Moments in Video with Natural Language", ICCV 2017),
with CAL (Escorcia et al., 2019), MLLC and TMN after it: a span is what it shows, what its whole
video shows, and where it begins and ends; sentences are ranked against the spans of their own video
and of others. Neither side of the distance has met the other, so any span can be compared with any
sentence, across videos too. Here both start where CLIP puts them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass as checked
from torch import Tensor, nn

from zsvg.heads.base import HeadOutput
from zsvg.heads.encoder import Encoded, Encoder, HeadConfig, Overlap, Truth, Weight
from zsvg.heads.layers import drop_channels, quiet_mlp
from zsvg.heads.losses import contrast_loss, scaled_iou_loss
from zsvg.heads.map import sparse_cells
from zsvg.heads.span_arithmetic import (
    SOME,
    average,
    certain,
    clip_edges,
    coverage,
    expected_iou,
    look_at,
    span_iou,
    suppress,
    take,
)

_OCTAVES = 3  # of a span's borders
_SURE = 20.0  # cosines of CLIP differ by hundredths, logits by whole numbers


@checked(frozen=True, kw_only=True, config={"extra": "forbid"})
class EmbeddingConfig(HeadConfig):
    """Shape and loss weights of an `EmbeddingHead`.

    Attributes:
        clips: parts of equal length that a video is divided into: spans begin and end between them.
        dense: spans of up to so many parts are all compared; longer ones more sparsely, as on the
            map of `zsvg.heads.map`.
        nms: IoU above which the worse one of two answers is dropped.
        contrast_weight: weight of ranking a sentence's span before those of others, and before
            other spans of its video.
        rank_weight: weight of the cross-entropy between judged and true IoU, a mean over spans.
    """

    clips: int = Field(default=48, ge=1, le=256)
    dense: int = Field(default=8, ge=1, le=256)
    nms: Overlap = 0.5
    contrast_weight: Weight = 1.0
    rank_weight: Weight = 10.0


@dataclass(frozen=True, kw_only=True)
class EmbeddingOutput(HeadOutput):
    """What an `EmbeddingHead` says, span by span."""

    spans: Tensor
    """(S, 2) all that are compared, as fractions of the duration."""
    fit: Tensor
    """(B, S) cosine of span and sentence."""
    judged: Tensor
    """(B, S) logits of their scaled IoU with the moment."""
    query: Tensor
    """(B, D) the sentence in the joint space, unit length."""
    summary: Tensor | None = None
    """(B, D) the true span there, unit length; only with a target."""

    @property
    def presence(self) -> Tensor:
        """(B,) cosine of the sentence and the span that is judged best, in [-1, 1].

        Spans were ranked against those of other videos; scores only with each other.
        """
        return self.fit.gather(1, self.judged.argmax(-1, keepdim=True)).squeeze(1)

    @property
    def exchanged(self) -> Tensor | None:
        """(2, B, D) true spans and sentences: those of other processes are ranked too."""
        return None if self.summary is None else torch.stack((self.summary, self.query))


class EmbeddingHead(Encoder):
    """Compares spans with sentences by distance.

    Within a video the frames' relevance has a say too: it knows borders, which a mean over frames
    hardly does. `relevance` is how probably a frame lies in the span that is meant.
    """

    config: EmbeddingConfig
    spans: Tensor

    def __init__(self, config: EmbeddingConfig) -> None:
        super().__init__(config)
        self.content_in = nn.Linear(config.dim, config.hidden)
        # Before training a span is its mean frame, without half of what its whole video shows.
        facts = 4 * config.hidden + 4 * _OCTAVES
        self.embed = quiet_mlp(facts, config.hidden, config.dim, bias=0.0)
        self.context = nn.Parameter(torch.tensor(0.5))
        self.scale = nn.Parameter(torch.tensor(math.log(_SURE)))
        self.judge = nn.Linear(3, 1)
        with torch.no_grad():
            self.judge.weight.copy_(torch.tensor([[1.0, 0.3, 0.3]]))
            self.judge.bias.zero_()
        cells = sparse_cells(config.clips, min(config.dense, config.clips)).nonzero()
        spans = torch.stack((cells[:, 0], cells[:, 1] + 1), -1) / config.clips
        self.register_buffer("spans", spans, persistent=False)

    def answer(self, seen: Encoded, target: Tensor | None) -> EmbeddingOutput:
        """Compare all spans; read the nearest ones that differ (one with a target)."""
        frames, mask = seen.frames, seen.frame_mask
        edges = clip_edges(seen.centres, mask)
        spans = self.spans.expand(len(frames), -1, -1)
        content = self._content(frames)
        points = self._embed(spans, frames, content, mask, edges)
        fit = torch.einsum("bsd,bd->bs", points, seen.pooled.float())
        cover = coverage(spans, edges)
        expected = expected_iou(spans, seen.probability, edges, cover).logit(eps=1e-4)
        facts = (expected, _SURE * fit, _SURE * (fit - fit.mean(-1, keepdim=True)))
        judged: Tensor = self.judge(torch.stack(facts, -1)).squeeze(-1).float()
        index, exists = suppress(
            spans, judged.detach(), self.config.nms, self.config.answers if target is None else 1
        )
        summary = None
        if target is not None:
            true = target[:, None].float()
            summary = self._embed(true, frames, content, mask, edges).squeeze(1)
        meant = judged.softmax(-1)[:, None] @ (cover > 0).float()
        told = seen.told | {"relevance": meant.squeeze(1).clamp(max=1) * mask}
        return EmbeddingOutput(
            moments=take(spans, index),
            scores=judged.gather(1, index).sigmoid() * exists,
            spans=self.spans,
            fit=fit,
            judged=judged,
            query=seen.pooled,
            summary=summary,
            **told,
        )

    def loss(self, output: HeadOutput, truth: Truth) -> dict[str, Tensor]:
        """Which span is meant, in its own video and among others, and where frames belong.

        Returns:
            Scalars "contrast", "rank", "guidance" and "inside".

        Raises:
            ValueError: The output is of a forward call without a target.
        """
        if not isinstance(output, EmbeddingOutput) or output.summary is None:
            raise ValueError("the loss needs the output of a forward call with the target")
        config, weight, inside = self.config, truth.weight, truth.true_frames(output)
        cover = coverage(output.spans, clip_edges(output.centres, output.frame_mask))
        shared = span_iou(output.spans.expand(len(inside), -1, -1), truth.target[:, None].float())
        counts = certain(shared, average(cover, inside[..., None]).squeeze(-1))
        wrong = output.fit.masked_fill(~counts | (shared > SOME), -torch.inf)
        contrast = contrast_loss(
            output.summary, output.query, wrong, self.scale.exp(), weight=weight, away=truth.away
        )
        rank = scaled_iou_loss(output.judged, shared, counts, weight=weight) / len(output.spans)
        return {
            "contrast": config.contrast_weight * contrast,
            "rank": config.rank_weight * rank,
            **self.frame_losses(output, truth),
        }

    def embed_video(self, frames: Tensor, frame_mask: Tensor, centres: Tensor) -> Tensor:
        """Put all spans of B videos into the joint space, without any sentence.

        Args:
            frames: (B, T, D) L2-normalised.
            frame_mask: (B, T) bool, real frames first.
            centres: (B, T) clip centres in [0, 1].

        Returns:
            (B, S, D) float32 of unit length, in the order of `spans`.
        """
        real = frame_mask[..., None]
        frames = self.adapt_frames(frames.masked_fill(~real, 0.0)) * real
        edges = clip_edges(centres.masked_fill(~frame_mask, 0.0).float(), frame_mask)
        spans = self.spans.expand(len(frames), -1, -1)
        return self._embed(spans, frames, self._content(frames), frame_mask, edges)

    def embed_sentence(self, pooled: Tensor) -> Tensor:
        """Put sentences (B, D) of unit length into the joint space: (B, D) of unit length."""
        query: Tensor = self.adapt_query(pooled)
        return query

    def _content(self, frames: Tensor) -> Tensor:
        """What the learned part of an embedding sees of frames (B, T, D): (B, T, H)."""
        scaled = frames * math.sqrt(self.config.dim)  # entries of about 1, as layers expect
        dropped = drop_channels(scaled, self.config.content_dropout, self.training)
        content: Tensor = self.content_in(dropped)
        return content

    def _embed(
        self, spans: Tensor, frames: Tensor, content: Tensor, mask: Tensor, edges: Tensor
    ) -> Tensor:
        """Put spans (B, S, 2) into the joint space: (B, S, D) float32, unit length."""
        real, octaves = mask[..., None], 2.0 ** torch.arange(_OCTAVES, device=spans.device)
        count = real.sum(1, keepdim=True)
        whole = (content * real).sum(1, keepdim=True) / count
        phase = (spans[..., None] * octaves).flatten(-2) * math.pi
        near = look_at(spans, content, edges)
        facts = torch.cat(
            (near, whole.float().expand(*near.shape[:2], -1), phase.sin(), phase.cos()), -1
        )
        shown = average(coverage(spans, edges), frames)
        video = (frames * real).sum(1, keepdim=True) / count
        return F.normalize(shown - self.context * video + self.embed(facts), dim=-1)
