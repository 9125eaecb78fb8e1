"""Whether what a sentence says is in a video at all."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zsvg.heads.layers import quiet_mlp

_PEAK = 10.0  # cosines of CLIP differ by a tenth; layers expect about 1


class Presence(nn.Module):
    """Judges the frames that attract attention: is it them that the query means?

    Attention is relative, so that some frames always attract it. What they are like in the light
    of the query, how surely they are inside, and how near the nearest frame comes to the query make
    a logit, which is about 0 before training.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.attend = nn.Linear(hidden, 1)
        self.judge = quiet_mlp(2 * hidden + 3, hidden, 1, bias=0.0)

    def forward(
        self, x: Tensor, query: Tensor, logits: Tensor, cosines: Tensor, frame_mask: Tensor
    ) -> Tensor:
        """Return (B,) float32 logits of "it is there".

        Args:
            x: (B, T, H) frames in the light of the query.
            query: (B, H) the query.
            logits: (B, T) of "this frame is inside".
            cosines: (B, T) of frames and query.
            frame_mask: (B, T) bool, real frames first, at least one.
        """
        away = ~frame_mask
        drawn = logits + self.attend(x).squeeze(-1).float()
        share = drawn.masked_fill(away, -torch.inf).softmax(-1).to(x.dtype)
        seen = torch.einsum("bt,bth->bh", share, x)
        surest = logits.masked_fill(away, -torch.inf).amax(-1)
        nearest = cosines.masked_fill(away, -torch.inf).amax(-1)
        usual = cosines.masked_fill(away, 0.0).sum(-1) / frame_mask.sum(-1)
        told = torch.stack((surest, _PEAK * nearest, _PEAK * usual), -1).to(x.dtype)
        facts = torch.cat((seen, seen * query, told), -1)
        there: Tensor = self.judge(facts).squeeze(-1).float()
        return there
