"""Spans of time in tensors, as fractions of the duration: overlap, suppression, frames in them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# IoU above which a span is a moment's, and how much of a span may be true for it to be wrong.
SOME = 0.3


def clip_edges(centres: Tensor, frame_mask: Tensor) -> Tensor:
    """Where the clips of a video begin and end (B, T, 2): halfway between their centres.

    The first begins at 0 and the last ends at 1; padding is empty, at 1.
    """
    between = (centres[:, 1:] + centres[:, :-1]) / 2
    start, stop = F.pad(between, (1, 0)), F.pad(between, (0, 1), value=1.0)
    last = frame_mask & ~F.pad(frame_mask[:, 1:], (0, 1))
    start, stop = start.masked_fill(~frame_mask, 1.0), stop.masked_fill(~frame_mask | last, 1.0)
    return torch.stack((start, stop), -1)


def coverage(spans: Tensor, edges: Tensor) -> Tensor:
    """Which share of a span each clip takes: (..., S, 2) and (..., T, 2) give (..., S, T).

    Rows sum to 1, or to less where the span reaches beyond the video.
    """
    stop = torch.minimum(spans[..., :, None, 1], edges[..., None, :, 1])
    start = torch.maximum(spans[..., :, None, 0], edges[..., None, :, 0])
    length = (spans[..., 1] - spans[..., 0]).clamp(min=1e-6)
    return (stop - start).clamp(min=0) / length[..., None]


def expected_iou(spans: Tensor, probability: Tensor, edges: Tensor, cover: Tensor) -> Tensor:
    """IoU (B, S) that a span should have with the moment, from what is known of single clips.

    With p the probability that a clip is inside, and integrals over time, about
    p(span) / (|span| + p(video) - p(span)).

    Args:
        spans: (S, 2) or (B, S, 2).
        probability: (B, T) in [0, 1].
        edges: (T, 2) or (B, T, 2) of the clips.
        cover: `coverage(spans, edges)`.
    """
    length = (spans[..., 1] - spans[..., 0]).clamp(min=1e-6)
    whole = (probability * (edges[..., 1] - edges[..., 0])).sum(-1, keepdim=True)
    inside = average(cover, probability[..., None]).squeeze(-1) * length
    return inside / (length + whole - inside).clamp(min=1e-9)


def average(cover: Tensor, values: Tensor) -> Tensor:
    """Mean of values (B, T, C) over spans: (B, S, C) float32, whatever the precision around."""
    with torch.autocast(values.device.type, enabled=False):
        return cover.float() @ values.float()


def look_at(spans: Tensor, x: Tensor, edges: Tensor) -> Tensor:
    """What is at spans (B, S, 2), and near where they start and end: (B, S, 3 H) of x (B, T, H).

    Near is up to a quarter of the span to either side. No gradient tells spans where to look.
    """
    spans = spans.detach()
    quarter = (spans[..., 1:] - spans[..., :1]) / 4
    near = torch.cat((-quarter, quarter), -1)
    three = torch.cat((spans, spans[..., :1] + near, spans[..., 1:] + near), -2)
    return torch.cat(average(coverage(three, edges), x).chunk(3, 1), -1)


def shift(spans: Tensor, move: Tensor) -> Tensor:
    """Move both borders of spans (..., 2) by tanh(move) times half of the length."""
    return spans + (spans[..., 1:] - spans[..., :1]) / 2 * move.float().tanh()


def centre_length(spans: Tensor) -> Tensor:
    """Say spans (..., 2) by their centres and lengths (..., 2)."""
    return torch.stack((spans.mean(-1), spans[..., 1] - spans[..., 0]), -1)


def span_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of spans (..., 2) that broadcast together; 0 where one is empty."""
    both, union, _ = _parts(a, b)
    return both / union.clamp(min=1e-9)


def generalised_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU minus the share of their hull that lies in neither, in [-1, 1] (Rezatofighi, CVPR 2019).

    Spans (..., 2) broadcast together.
    """
    both, union, hull = _parts(a, b)
    return both / union.clamp(min=1e-9) - (hull - union) / hull.clamp(min=1e-9)


def _parts(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Lengths of intersection, union and hull."""
    both = torch.minimum(a[..., 1], b[..., 1]) - torch.maximum(a[..., 0], b[..., 0])
    both = both.clamp(min=0)
    hull = torch.maximum(a[..., 1], b[..., 1]) - torch.minimum(a[..., 0], b[..., 0])
    return both, a[..., 1] - a[..., 0] + b[..., 1] - b[..., 0] - both, hull


def suppress(spans: Tensor, scores: Tensor, threshold: float, count: int) -> tuple[Tensor, Tensor]:
    """Greedy non-maximum suppression, row by row.

    Args:
        spans: (B, S, 2).
        scores: (B, S), -inf for spans that do not exist.
        threshold: A span is dropped when its IoU with a kept, better one is above this.
        count: Most spans to keep, K.

    Returns:
        Indices (B, K) of the kept spans, best first, and whether there was one (B, K).
    """
    left, rows = scores.clone(), torch.arange(len(scores), device=scores.device)
    kept, exists = [], []
    for _ in range(count):
        value, best = left.max(-1)
        kept.append(best)
        exists.append(value > -torch.inf)
        left = left.masked_fill(span_iou(spans[rows, best][:, None], spans) > threshold, -torch.inf)
        left[rows, best] = -torch.inf  # an empty span does not even overlap itself
    return torch.stack(kept, 1), torch.stack(exists, 1)


def take(spans: Tensor, index: Tensor) -> Tensor:
    """Gather spans (B, S, 2) at (B, K) to (B, K, 2)."""
    return spans.gather(1, index[..., None].expand(-1, -1, 2))


def around(target: Tensor, centres: Tensor, frame_mask: Tensor, dilation: float = 0.0) -> Tensor:
    """Frames (B, T) within `dilation` lengths of the target (B, 2), and always the nearest one."""
    start, end = target[:, :1].float(), target[:, 1:].float()
    margin = dilation * (end - start)
    inside = (centres >= start - margin) & (centres < end + margin) & frame_mask
    distance = (centres - (start + end) / 2).abs().masked_fill(~frame_mask, float("inf"))
    nearest = F.one_hot(distance.argmin(-1), centres.shape[1]).bool()
    return inside | nearest


def certain(shared: Tensor, inside: Tensor) -> Tensor:
    """Which spans a loss calls right or wrong; the others take no part in it.

    Right are those that share more than `SOME` with the moment in question, wrong the others that
    lie outside of true moments but for `SOME` of their length. Neither is a span in another true
    moment of the same query, nor a short one inside the moment itself, nor one that goes a little
    beyond it: what it shows does fit the query. 2D-TAN calls all of these wrong.

    Args:
        shared: IoU of spans with the moment in question.
        inside: Share of the spans that lies in any true moment.

    Returns:
        bool, of the same shape.
    """
    return (shared > SOME) | (inside <= SOME)


def true_moments(target: Tensor, inside: Tensor, edges: Tensor) -> list[Tensor]:
    """All true moments (n, 2) of each sample: its target, and runs of other frames `inside`."""
    borders = F.pad(inside, (1, 1)).int().diff()
    rows, first = (borders == 1).nonzero().unbind(1)
    last = (borders == -1).nonzero()[:, 1] - 1
    runs = torch.stack((edges[rows, first, 0], edges[rows, last, 1]), -1)
    other = span_iou(runs, target[rows].float()) == 0
    # The nearest frame counts as inside a moment that is shorter than a clip.
    centre = target.float().mean(-1)[rows]
    other &= (centre < runs[:, 0]) | (centre > runs[:, 1])
    return [
        torch.cat((target[row, None].float(), runs[other & (rows == row)]))
        for row in range(len(target))
    ]
