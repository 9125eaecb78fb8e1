"""Training examples, their augmentations, and padded batches of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from zsvg.moments import spans_to_mask
from zsvg.training.network import Batch

FrameLoader = Callable[[], NDArray[np.uint8]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """One sentence about one video, and when it happens.

    Attributes:
        vid: The video's name.
        features: (T, D) float32 L2-normalised frame features; examples of one video may share it.
        centres: (T,) increasing clip centres as fractions of the duration, in [0, 1].
        duration: Seconds.
        query: The text that is tokenised, template included.
        windows: (n, 2) true moments in seconds, n >= 1, each with start < end.
        weight: Weight of the sample's loss; weights are divided by their mean before training.
        frames: Returns the (T, S, S, 3) uint8 frames; needed to train vision prompts.
        wordless: There is no sentence; the query is made of frames inside the moment.
        doubtful: Its window is not an annotator's, so denoising may doubt it.
        glance: An instant in seconds that is known to lie in the moment.
        domain: Name of the video's domain, for prompts that have domains.

    Raises:
        ValueError: Shapes disagree, or a time is out of range.
    """

    vid: str
    features: NDArray[np.float32]
    centres: NDArray[np.float64]
    duration: float
    query: str
    windows: NDArray[np.float64]
    weight: float = 1.0
    frames: FrameLoader | None = None
    wordless: bool = False
    doubtful: bool = True
    glance: float | None = None
    domain: str | None = None

    def __post_init__(self) -> None:
        name = f"example {self.vid!r} / {self.query!r}"
        times = self.centres
        if self.features.ndim != 2 or not len(times) or times.shape != self.features.shape[:1]:
            raise ValueError(
                f"{name}: features {self.features.shape} and centres {times.shape} must be "
                "(T, D) and (T,), T >= 1"
            )
        if times[0] < 0 or times[-1] > 1 or (np.diff(times) <= 0).any():
            raise ValueError(f"{name}: centres must increase within [0, 1] (not seconds)")
        if self.windows.ndim != 2 or self.windows.shape[1:] != (2,) or not len(self.windows):
            raise ValueError(f"{name}: windows have the shape (n, 2), got {self.windows.shape}")
        if not (self.duration > 0 and (self.windows[:, 0] < self.windows[:, 1]).all()):
            raise ValueError(f"{name}: every window needs start < end, and the video a duration")
        if not (np.isfinite(self.weight) and self.weight >= 0):
            raise ValueError(f"{name}: weight {self.weight} must be 0 or more")

    @property
    def edges(self) -> NDArray[np.float64]:
        """Clip borders (T + 1,) as fractions of the duration, halfway between centres."""
        return np.concatenate(([0.0], (self.centres[1:] + self.centres[:-1]) / 2, [1.0]))

    def load_frames(self) -> torch.Tensor:
        """Read the (T, S, S, 3) uint8 frames; they are not kept.

        Raises:
            ValueError: There is nothing to read them from, or they are not as many as clips.
        """
        if self.frames is None:
            raise ValueError(
                f"{self.vid}: vision prompts need raw frames; give the Example `frames`"
            )
        frames = self.frames()
        if len(frames) != len(self.centres):
            raise ValueError(f"{self.vid}: {len(frames)} frames for {len(self.centres)} clips")
        return torch.from_numpy(np.ascontiguousarray(frames))


def crop(
    example: Example, target: int, rng: np.random.Generator, most: int | None = None
) -> tuple[Example, int]:
    """Cut a random stretch of clips that holds the window `target`; other windows are clipped.

    Of a window that is longer than `most` clips, a stretch of so many is cut.

    Returns:
        The shorter example, and the index of the target among the windows that remain.
    """
    borders = example.edges * example.duration
    start, end = example.windows[target]
    first = int(np.searchsorted(borders, start, side="right")) - 1
    stop = int(np.searchsorted(borders, end, side="left"))
    clips = len(example.centres)
    first = min(max(first, 0), clips - 1)
    stop = min(max(stop, first + 1), clips)
    if most is not None and stop - first > most:
        first = int(rng.integers(first, stop - most + 1))
        stop = first + most
    lowest, highest = 0, clips
    if most is not None:
        lowest = max(lowest, stop - most)
    left = int(rng.integers(lowest, first + 1))
    if most is not None:
        highest = min(highest, left + most)
    right = int(rng.integers(stop, highest + 1))
    origin, length = borders[left], borders[right] - borders[left]
    windows = np.clip(example.windows - origin, 0.0, length)
    kept = windows[:, 0] < windows[:, 1]
    loader = example.frames
    shorter = replace(
        example,
        features=example.features[left:right],
        centres=(example.centres[left:right] * example.duration - origin) / length,
        duration=float(length),
        windows=windows[kept],
        glance=None if example.glance is None else float(example.glance - origin),
        frames=None if loader is None else lambda: loader()[left:right],
    )
    return shorter, int(kept[:target].sum())


def concatenate(example: Example, other: Example, *, before: bool) -> Example:
    """Put another video before or after the example's; its own moments shift, nothing else."""
    parts = (other, example) if before else (example, other)
    duration = parts[0].duration + parts[1].duration
    offset = other.duration if before else 0.0
    seconds = (parts[0].centres * parts[0].duration,
               parts[0].duration + parts[1].centres * parts[1].duration)  # fmt: skip
    loaders = [part.frames for part in parts if part.frames is not None]
    return replace(
        example,
        features=np.concatenate([part.features for part in parts]),
        centres=np.concatenate(seconds) / duration,
        duration=duration,
        windows=example.windows + offset,
        glance=None if example.glance is None else example.glance + offset,
        frames=(lambda: np.concatenate([load() for load in loaders])) if loaders else None,
    )


def stitch(example: Example, target: int, other: Example, place: int) -> Example:
    """Put the clips of the window `target` into another video, before its clip `place`.

    Both borders are then known to the clip (of videos of one rate), whoever found the window. Other
    windows of the example stay behind. (After BSP: Xu et al., "Boundary-sensitive Pre-training",
    ICCV 2021, joins events of two classes.)
    """
    edges = example.edges
    start, end = example.windows[target] / example.duration
    first, stop = (int(place) for place in np.searchsorted(example.centres, (start, end)))
    if first == stop:  # shorter than a clip
        first = int(np.abs(example.centres - (start + end) / 2).argmin())
        stop = first + 1
    moment = slice(first, stop)
    length = float((edges[stop] - edges[first]) * example.duration)
    at = float(other.edges[place] * other.duration)
    duration = other.duration + length
    theirs = other.centres * other.duration
    ours = (example.centres[moment] - edges[first]) * example.duration + at
    late = theirs[place:] + length
    loaders = [part.frames for part in (other, example) if part.frames is not None]
    return replace(
        example,
        features=np.concatenate(
            (other.features[:place], example.features[moment], other.features[place:])
        ),
        centres=np.concatenate((theirs[:place], ours, late)) / duration,
        duration=duration,
        windows=np.array([[at, at + length]]),
        glance=None,
        frames=(lambda: np.insert(loaders[0](), place, loaders[1]()[moment], axis=0))
        if len(loaders) == 2
        else None,
    )


def draw_sample(
    examples: Sequence[Example],
    index: int,
    rng: np.random.Generator,
    *,
    crop_rate: float = 0.0,
    concatenate_rate: float = 0.0,
    stitch_rate: float = 0.0,
    most: int | None = None,
) -> tuple[Example, int]:
    """Take one example, choose one of its windows as the target, and augment it.

    With `most`, longer examples are cut to at most so many clips.

    Returns:
        The example as it is shown, and the index of its target window.
    """
    example = examples[index]
    target = int(rng.integers(len(example.windows)))
    if rng.random() < crop_rate:
        example, target = crop(example, target, rng)
    other = examples[int(rng.integers(len(examples)))]
    if most is not None:
        if len(example.centres) > most:
            example, target = crop(example, target, rng, most)
    elif rng.random() < concatenate_rate and other.vid != example.vid:
        example = concatenate(example, other, before=bool(rng.integers(2)))
    elif stitch_rate and rng.random() < stitch_rate and other.vid != example.vid:
        place = int(rng.integers(len(other.centres) + 1))
        example, target = stitch(example, target, other, place), 0
    return example, target


def collate(
    chosen: Sequence[tuple[Example, int]],
    token_ids: Mapping[str, torch.Tensor],
    device: torch.device,
    *,
    raw_frames: bool = False,
) -> Batch:
    """Pad examples to a batch.

    Args:
        chosen: Examples with the index of the window to regress.
        token_ids: query -> (L,) int64.
        device: Where the batch goes.
        raw_frames: Load frames instead of features.

    Raises:
        ValueError: Raw frames are wanted and an example has none, or not as many as clips.
    """
    count, longest = len(chosen), max(len(example.centres) for example, _ in chosen)
    mask = np.zeros((count, longest), bool)
    inside = np.zeros((count, longest), bool)
    centres = np.zeros((count, longest), np.float32)
    target = np.zeros((count, 2), np.float32)
    width = chosen[0][0].features.shape[1]
    features = np.zeros((count, 0 if raw_frames else longest, width), np.float32)
    for row, (example, index) in enumerate(chosen):
        clips = len(example.centres)
        windows = example.windows / example.duration
        mask[row, :clips] = True
        centres[row, :clips] = example.centres
        target[row] = windows[index]
        inside[row, :clips] = spans_to_mask(windows, example.centres)
        # A moment shorter than a clip may miss every centre; it still has a nearest one.
        inside[row, np.abs(example.centres - windows[index].mean()).argmin()] = True
        if not raw_frames:
            features[row, :clips] = example.features
    wordless = [example.wordless for example, _ in chosen]
    frames = tuple(e.load_frames().to(device) for e, _ in chosen) if raw_frames else None
    return Batch(
        token_ids=torch.stack([token_ids[example.query] for example, _ in chosen]).to(device),
        frame_mask=torch.from_numpy(mask).to(device),
        centres=torch.from_numpy(centres).to(device),
        target=torch.from_numpy(target).to(device),
        inside=torch.from_numpy(inside).to(device),
        weight=torch.tensor([e.weight for e, _ in chosen], dtype=torch.float32, device=device),
        features=None if raw_frames else torch.from_numpy(features).to(device),
        frames=frames,
        wordless=torch.tensor(wordless, device=device) if any(wordless) else None,
        domains=tuple(example.domain for example, _ in chosen),
    )
