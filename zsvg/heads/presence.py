"""Whether a moment is what a sentence says at all, judged apart from where it is.

A head has to say where a moment is, and learns to tell it from the rest of its video. Here one
stretch of a video is compared with one sentence: how it looks on the whole, at its start, middle
and end, which way it changes and how restless it is. It is learned from frozen features and
sentences alone, so that the moments of a model stay what they are.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from zsvg.errors import ModelFolderError
from zsvg.files import atomic_path

PRESENCE_FILE = "presence.safetensors"
_FACTS = 7  # vectors that a stretch is described by
_POINTS, _LAG = 12, 2  # places it is looked at in; changes are taken between every other
_LEAST = 3  # clips of the shortest stretch
_HIDDEN, _DROPOUT = 96, 0.3

Rows = NDArray[np.float32]


def describe(
    features: Rows, centres: NDArray[np.float64], spans: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return (n, 7 D) what stretches of a video are like.

    Args:
        features: (T, D) clips as rows of unit length, T >= 1.
        centres: (T,) their middles, increasing.
        spans: (n, 2) starts and ends of the stretches, in the unit of `centres`.
    """
    clips = np.arange(len(centres), dtype=np.float64)
    ramp = np.linspace(-1, 1, _POINTS) / (_POINTS / 2)
    found = np.empty((len(spans), _FACTS * features.shape[1]), dtype=np.float32)
    for row, (start, end) in zip(found, spans, strict=True):
        times = start + (np.arange(_POINTS) + 0.5) * (end - start) / _POINTS
        at = np.interp(times, centres, clips)
        low = at.astype(np.intp)
        high = np.minimum(low + 1, len(centres) - 1)
        share = (at - low)[:, None]
        points = features[low] * (1 - share) + features[high] * share
        first = int(np.searchsorted(centres, start))
        first = max(0, min(first, len(centres) - _LEAST))
        stop = max(int(np.searchsorted(centres, end)), first + _LEAST)
        steps = np.abs(np.diff(features[first:stop], axis=0))
        unrest = steps.mean(axis=0) if len(steps) else np.zeros(features.shape[1])
        lagged = np.abs(points[_LAG:] - points[:-_LAG]).mean(axis=0)
        ends = points[0], points[-1], points[_POINTS // 2]
        row[:] = np.concatenate((points.mean(axis=0), ramp @ points, lagged, unrest, *ends))
    return found


class PresenceJudge(nn.Module):
    """Compares what `describe` says of stretches with frozen embeddings of sentences."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = math.sqrt(dim)
        self.register_buffer("mean", torch.zeros(_FACTS * dim))
        self.register_buffer("deviation", torch.ones(_FACTS * dim))
        self.looks = nn.Sequential(
            nn.Linear(_FACTS * dim, _HIDDEN),
            nn.GELU(),
            nn.Dropout(_DROPOUT),
            nn.Linear(_HIDDEN, _HIDDEN),
        )
        self.says = nn.Sequential(nn.Linear(dim, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, _HIDDEN))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, facts: Tensor, sentences: Tensor) -> Tensor:
        """Return (n,) logits that stretches (n, 7 D) are what sentences (n, D) say."""
        shown = (facts - self.mean) / self.deviation
        looks = self.looks(F.dropout(shown, _DROPOUT, self.training))
        both = (looks * self.says(sentences * self.scale)).sum(-1)
        logits: Tensor = both / math.sqrt(_HIDDEN) + self.bias
        return logits

    @torch.no_grad()
    def best(
        self, features: Rows, centres: NDArray[np.float64], spans: NDArray[np.float64], text: Rows
    ) -> float:
        """Return the highest logit of some stretches (n, 2), n >= 1, and a sentence (D,)."""
        facts = torch.from_numpy(describe(features, centres, spans))
        sentences = torch.from_numpy(np.ascontiguousarray(text, dtype=np.float32))
        return float(self(facts, sentences.expand(len(facts), -1)).max())

    def save(self, folder: Path) -> None:
        """Write `presence.safetensors` into a model folder."""
        state = {name: value.contiguous() for name, value in self.state_dict().items()}
        with atomic_path(folder / PRESENCE_FILE) as temporary:
            temporary.write_bytes(save(state))


def load_judge(folder: Path, dim: int) -> PresenceJudge | None:
    """Read a judge of a model folder; None where it has none.

    Raises:
        ModelFolderError: The file is damaged, or is another model's.
    """
    file = folder / PRESENCE_FILE
    if not file.is_file():
        return None
    judge = PresenceJudge(dim)
    try:
        judge.load_state_dict(load_file(file))
    except (OSError, SafetensorError, RuntimeError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ModelFolderError(f"{file}: cannot be loaded ({reason})") from error
    return judge.requires_grad_(False).eval()
