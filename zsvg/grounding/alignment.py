"""Sentences turned towards what their moments look like, by ridge regression: nothing is trained.

CLIP puts a sentence near the frames that it tells of, not where they are. The look of a moment is
the mean of its frames less that of its whole video; a linear map tells it from the sentence, and
similarity is asked of

    sentence + amount * look

so that an amount of 0 leaves the sentence as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy.ndimage import gaussian_filter1d

from zsvg.errors import ModelFolderError
from zsvg.features.encoder import FrameFeatures

ALIGNMENT_FILE = "alignment.safetensors"
AMOUNTS = (0.0, 0.2, 0.4)
"""What is tried on held-out labels."""
USUAL_AMOUNT = 0.4
"""Where sentences are known to be true of their videos, and no held-out label tells."""

# Seen on Charades-STA frames. That all sentences look alike counts as much as so many of them.
_PRIOR = 3000
# A sentence without a time looks like its best clips: a fiftieth, at most so many.
_BEST, _MOST_BEST = 50, 100
_SECONDS, _APART = 3.0, 2.0  # clips are smoothed by so much, and one is taken in so many
_MOST_CLIPS = 50_000  # of all videos together, evenly
_OWN_PART = 0.5  # of a clip's similarity itself, beside what it has above its video's mean
_AT_ONCE = 256  # sentences

FITTED = (_PRIOR, _BEST, _MOST_BEST, _SECONDS, _APART, _OWN_PART)
"""What decides how alignments turn out."""


@dataclass(frozen=True)
class Alignment:
    """Tells what the moments of a sentence look like.

    Attributes:
        centre: (D,) mean of the sentences that it was fitted on.
        mean: (D,) mean look of their moments.
        turn: (D, D) how looks follow sentences.
    """

    centre: NDArray[np.float32]
    mean: NDArray[np.float32]
    turn: NDArray[np.float32]

    def look(self, sentence: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the look (D,) of a sentence's moments, of unit length."""
        return _unit((sentence - self.centre) @ self.turn + self.mean)

    def aligned(self, sentence: NDArray[np.float32], amount: float) -> NDArray[np.float32]:
        """Return a sentence (D,) turned towards that look, of unit length."""
        return _unit(sentence + amount * self.look(sentence))

    def save(self, folder: Path) -> None:
        """Write it into a model folder."""
        half = {name: value.astype(np.float16) for name, value in vars(self).items()}
        save_file(half, folder / ALIGNMENT_FILE)


def load_alignment(folder: Path, width: int) -> Alignment:
    """Read what `Alignment.save` wrote.

    Args:
        folder: The model folder.
        width: D of its backbone.

    Raises:
        ModelFolderError: It is missing, damaged or of another width.
    """
    file = folder / ALIGNMENT_FILE
    try:
        found = {name: value.astype(np.float32) for name, value in load_file(file).items()}
        alignment = Alignment(**found)
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise ModelFolderError(f"{file}: cannot be read ({str(error).splitlines()[0]})") from error
    shapes = {name: value.shape for name, value in found.items()}
    if shapes != {"centre": (width,), "mean": (width,), "turn": (width, width)}:
        raise ModelFolderError(f"{file}: is not of rows of {width} numbers")
    if not all(np.isfinite(value).all() for value in found.values()):
        raise ModelFolderError(f"{file}: has values that are not finite")
    return alignment


def fit_alignment(sentences: NDArray[np.float32], looks: NDArray[np.float32]) -> Alignment:
    """Fit looks (n, D) to sentences (n, D), both of unit length; n is at least 1."""
    centre, mean = sentences.mean(axis=0), looks.mean(axis=0)
    around = sentences - centre
    spread = around.T @ around / len(around)
    prior = _PRIOR / len(around) * float(np.trace(spread)) / len(spread)
    turn = np.linalg.solve(
        spread.astype(np.float64) + max(prior, 1e-6) * np.eye(len(spread)),
        around.T @ (looks - mean) / len(around),
    )
    return Alignment(centre, mean, turn.astype(np.float32))


def look_of_windows(
    video: FrameFeatures, windows: Sequence[tuple[float, float]]
) -> NDArray[np.float32]:
    """Return the look (D,) of the clips that moments in seconds touch; 0 where there are none."""
    inside = np.zeros(len(video.features), dtype=bool)
    for start, end in windows:
        inside |= (video.edges[1:] > start) & (video.edges[:-1] < end)
    if not inside.any():
        return np.zeros(video.features.shape[1], dtype=np.float32)
    return _unit(video.features[inside].mean(axis=0) - video.features.mean(axis=0))


def looks_of_best_clips(
    sentences: NDArray[np.float32], videos: Sequence[FrameFeatures]
) -> NDArray[np.float32]:
    """Return the looks (n, D) of sentences (n, D) without times: of the clips that fit them best.

    A clip fits by what its similarity has above its video's, and by itself.

    Args:
        sentences: Of unit length.
        videos: Of any sentences; at least one.
    """
    clips, above = [], []
    for video in videos:
        apart = max(1, round(_APART * video.fps))
        smoothed = gaussian_filter1d(video.features, _SECONDS * video.fps, axis=0)
        clips.append(smoothed[apart // 2 :: apart] if len(smoothed) > apart // 2 else smoothed)
        above.append(clips[-1] - video.features.mean(axis=0))
    every = -(-sum(map(len, clips)) // _MOST_CLIPS)
    some, apart_from = np.concatenate(clips)[::every], np.concatenate(above)[::every]
    asked = apart_from + _OWN_PART * some
    best = int(np.clip(len(some) // _BEST, 1, _MOST_BEST))
    looks = np.empty_like(sentences)
    for first in range(0, len(sentences), _AT_ONCE):
        fits = asked @ sentences[first : first + _AT_ONCE].T
        for row, column in enumerate(np.argpartition(-fits, best - 1, axis=0)[:best].T, first):
            looks[row] = _unit(apart_from[column].mean(axis=0))
    return looks


def _unit(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, 1e-12), dtype=np.float32)
