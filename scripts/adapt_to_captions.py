"""Training of a head on sentence embeddings of captions; used by benchmark_qvhighlights.py.

Pseudo labels need nothing but captions: events are zsvg's proposals on the captions' embeddings,
and the query of an event is the mean embedding of some of its captions plus noise, as noisy frame
features stand in for sentences in LFVMR (Kim et al., "Language-free Training for Zero-shot Video
Grounding", WACV 2023). For an upper bound the same head also trains on true queries and windows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from zsvg.events.proposals import ProposalOptions, propose
from zsvg.heads.base import HeadInputs
from zsvg.heads.by_name import make_head
from zsvg.heads.encoder import Encoder, Truth
from zsvg.records import Annotation

Rows = Mapping[str, NDArray[np.float32]]

CLIP = 2.0
NOISE = 0.1  # per dimension of a unit vector of 384: longer than the vector itself
SPOKEN = 4  # most captions of an event that one query is made of
STEPS, BATCH, RATE = 200, 32, 2e-3
ANSWERED = 64  # pairs per forward pass
EVENTS = ProposalOptions(count=10, nms=0.3, greedy=True)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One video (T, D), one query (D,), the windows it means as fractions, and which to regress."""

    rows: NDArray[np.float32]
    query: NDArray[np.float32]
    windows: NDArray[np.float64]
    which: int = 0


Sampler = Callable[[np.random.Generator], Sample]


def unit(x: NDArray[np.floating]) -> NDArray[np.float32]:
    """Scale rows to length one; zero rows stay."""
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-9), np.float32)


def pseudo_labels(videos: Rows, seed: int) -> Sampler:
    """Draw an event of a video, and a query from its captions."""
    names = sorted(videos)
    events = {
        name: propose(rows, np.arange(len(rows) + 1.0), options=EVENTS, seed=seed)[0].astype(int)
        for name, rows in videos.items()
    }

    def sample(draw: np.random.Generator) -> Sample:
        name = names[draw.integers(len(names))]
        rows = videos[name]
        first, stop = events[name][draw.integers(len(events[name]))]
        spoken = draw.integers(first, stop, size=draw.integers(1, SPOKEN + 1))
        noise = NOISE * draw.standard_normal(rows.shape[1])
        return Sample(
            rows=rows,
            query=unit(unit(rows[spoken].mean(axis=0)) + noise),
            windows=np.array([[first, stop]]) / len(rows),
        )

    return sample


def true_labels(annotations: Sequence[Annotation], videos: Rows, queries: Rows) -> Sampler:
    """Draw an annotated query, as the mean of three of its wordings, and one of its windows."""

    def sample(draw: np.random.Generator) -> Sample:
        record = annotations[draw.integers(len(annotations))]
        rows, wordings = videos[record.vid], queries[str(record.qid)]
        spoken = draw.integers(len(wordings), size=3)
        windows = np.array(record.relevant_windows) / (len(rows) * CLIP)
        return Sample(
            rows=rows,
            query=unit(wordings[spoken].mean(axis=0)),
            windows=windows.clip(0, 1),
            which=int(draw.integers(len(windows))),
        )

    return sample


def train(sampler: Sampler, width: int, seed: int, kind: str) -> Encoder:
    """Train a head that `zsvg tune` trains, at the learning rate and length of its recipes."""
    torch.manual_seed(seed)
    draw = np.random.default_rng(seed)
    head = make_head(kind, {"dim": width, "answers": 10}).train()
    optimiser = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS)
    for _ in range(STEPS):
        samples = [sampler(draw) for _ in range(BATCH)]
        inputs = _collate([(s.rows, s.query) for s in samples])
        target = torch.tensor(np.array([s.windows[s.which] for s in samples]), dtype=torch.float32)
        inside = torch.zeros_like(inputs["frame_mask"])
        for row, s in enumerate(samples):
            centres = inputs["centres"][row, : len(s.rows)]
            for start, end in s.windows:
                inside[row, : len(s.rows)] |= (centres > start) & (centres < end)
        loss = sum(
            head.loss(head(**inputs, target=target), Truth(target=target, inside=inside)).values()
        )
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return head.eval()


@torch.no_grad()
def relevance(
    head: Encoder,
    pairs: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]],
) -> Iterator[tuple[NDArray[np.float64], list[tuple[float, float, float]]]]:
    """Yield the head's logit of every clip, and its own windows in seconds, of each pair.

    Args:
        head: Trained.
        pairs: Rows (T, D) and query (D,) each.
    """
    for first in range(0, len(pairs), ANSWERED):
        batch = pairs[first : first + ANSWERED]
        output = head(**_collate(batch))
        for index, (rows, _) in enumerate(batch):
            moments = output.moments[index].double() * len(rows) * CLIP
            windows = [
                (start, end, score)
                for (start, end), score in zip(
                    moments.tolist(), output.scores[index].tolist(), strict=True
                )
                if score > 0 and start < end
            ]
            yield output.logits[index, : len(rows)].double().numpy(), windows


def _collate(pairs: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> HeadInputs:
    longest = max(len(rows) for rows, _ in pairs)
    frames = torch.zeros(len(pairs), longest, pairs[0][0].shape[1])
    mask = torch.zeros(len(pairs), longest, dtype=torch.bool)
    centres = torch.zeros(len(pairs), longest)
    for row, (rows, _) in enumerate(pairs):
        clips = len(rows)
        frames[row, :clips], mask[row, :clips] = torch.from_numpy(rows), True
        centres[row, :clips] = (torch.arange(clips) + 0.5) / clips
    pooled = torch.from_numpy(np.stack([query for _, query in pairs]))
    return HeadInputs(
        frames=frames,
        frame_mask=mask,
        centres=centres,
        tokens=pooled[:, None],
        token_mask=torch.ones(len(pairs), 1, dtype=torch.bool),
        pooled=pooled,
    )
