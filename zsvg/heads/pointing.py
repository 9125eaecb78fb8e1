"""Pointing head: two tokens of the prompted query point at a moment's first and last frame.

The class of PPT (Zeng et al., "Point Prompt Tuning for Temporally Language Grounding", SIGIR 2022),
of which no code was found: the states of [S] and [E] behind the query choose, by softmax over
frames, where it starts and ends.
The paper fills these points with an encoder that reads frames and words together; here the text
tower never sees a frame, so that the tokens learn to say what beginnings and ends look like. All
else is the boundary head's.
"""

from __future__ import annotations

import torch
from pydantic.dataclasses import dataclass as checked
from torch import Tensor, nn

from zsvg.heads.curves import standardise
from zsvg.heads.encoder import Encoded
from zsvg.heads.layers import Residual
from zsvg.heads.span import SpanConfig, SpanHead


@checked(frozen=True, kw_only=True, config={"extra": "forbid"})
class PointingConfig(SpanConfig):
    """Shape and loss weights of a `PointingHead`."""


class PointingHead(SpanHead):
    """Predicts both borders; a clip is one of them as far as it fits [S], or [E].

    Before training the run of the largest sum of frame logits decides, and the fit moves borders a
    little.
    """

    def __init__(self, config: PointingConfig) -> None:
        super().__init__(config)
        self.adapt_points = nn.ModuleList((Residual(config.dim), Residual(config.dim)))
        # Standardised fits times this; 1 would let an untrained token outvote two sure frames.
        self.point_gain = nn.Parameter(torch.full((2,), 0.25))

    def border_logits(self, seen: Encoded) -> Tensor:
        """Score each clip as the first and as the last: (B, T, 2).

        Raises:
            ValueError: The query came without points.
        """
        if seen.points is None:
            raise ValueError(
                "a pointing head reads [S] and [E]; its recipe needs prompts: {points: ppt}"
            )
        fits = []
        for adapt, point in zip(self.adapt_points, seen.points.unbind(1), strict=True):
            cosine = torch.einsum("btd,bd->bt", seen.frames.float(), adapt(point).float())
            fits.append(standardise(cosine, seen.frame_mask[..., None])[..., 1])
        return super().border_logits(seen) + self.point_gain * torch.stack(fits, -1)
