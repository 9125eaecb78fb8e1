"""Several heads of one kind that differ by chance, trained at once and answering as one.

What a single head ends at depends on its first weights and its dropout; the mean of a few depends
on them less (`docs/results.md`, "Several heads"). All see the same batches and the same prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from zsvg.heads.base import HeadOutput
from zsvg.heads.encoder import Encoder, Truth


@dataclass(frozen=True, kw_only=True)
class EnsembleOutput(HeadOutput):
    """The mean relevance and logits of the members, and the best of all their answers."""

    members: tuple[HeadOutput, ...]
    """What each of them says."""

    @property
    def presence(self) -> Tensor:
        """(B,) the mean of theirs."""
        return torch.stack([member.presence for member in self.members]).mean(dim=0)

    @property
    def exchanged(self) -> Tensor | None:
        """(members * N, B, D) what theirs are, one after the other."""
        theirs = [own for member in self.members if (own := member.exchanged) is not None]
        return torch.cat(theirs) if theirs else None


class Ensemble(nn.Module):
    """Called like one of its members (`Encoder`)."""

    def __init__(self, members: Sequence[Encoder]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.config = members[0].config

    def forward(self, *, target: Tensor | None = None, **given: Any) -> EnsembleOutput:
        """Answer a batch; arguments are those of `Encoder.forward`."""
        said = tuple(member(target=target, **given) for member in self.members)
        moments = torch.cat([member.moments for member in said], 1)
        scores, order = torch.cat([member.scores for member in said], 1).sort(1, descending=True)
        best = order[:, : said[0].scores.shape[1]]
        return EnsembleOutput(
            moments=moments.gather(1, best[..., None].expand(-1, -1, 2)),
            scores=scores[:, : best.shape[1]],
            relevance=torch.stack([member.relevance for member in said]).mean(dim=0),
            logits=torch.stack([member.logits for member in said]).mean(dim=0),
            frame_mask=said[0].frame_mask,
            centres=said[0].centres,
            members=said,
        )

    def loss(self, output: HeadOutput, truth: Truth) -> dict[str, Tensor]:
        """Return the means of the members' losses, by name.

        Raises:
            ValueError: The output is not an ensemble's, or of a forward call without a target.
        """
        if not isinstance(output, EnsembleOutput):
            raise ValueError("the loss needs the output of this ensemble")
        count = len(self.members)
        away = [None] * count if truth.away is None else truth.away.chunk(count)
        losses = [
            member.loss(said, replace(truth, away=theirs))  # type: ignore[operator]
            for member, said, theirs in zip(self.members, output.members, away, strict=True)
        ]
        return {name: torch.stack([one[name] for one in losses]).mean() for name in losses[0]}


Head = Encoder | Ensemble
"""What is trained on a frozen CLIP."""
