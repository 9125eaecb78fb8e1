"""What all pre-training batches share: scenes, what is seen in them, and augmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter

from zsvg.microworld.domains import PRETRAINING
from zsvg.microworld.render import RADIUS
from zsvg.microworld.script import (
    COLOURS,
    SHAPES,
    Event,
    Scene,
    Thing,
    generator,
    pose,
    sample_scene,
)

PATCH, WIDTH = 8, 144
CLIP_IMAGE, BLIP_IMAGE = 64, 112
Batch = dict[str, object]


@dataclass(frozen=True)
class Seen:
    """One visible thing of a frame: the thing, its centre, half its width (all in frame widths)."""

    thing: Thing
    x: float
    y: float
    half: float
    size: str | None


def training_scene(seed: int, step: int, item: int) -> tuple[np.random.Generator, Scene]:
    """Return the random stream and script of one training example."""
    rng = generator(PRETRAINING, "train", seed + 1_000_003, step * 1000 + item)
    return rng, sample_scene(rng, vid="", domain=PRETRAINING)


def visible(scene: Scene, time: float) -> list[Seen]:
    """Return what can be seen at one instant, the acting thing first."""
    seen = []
    for event in scene.events:
        if event.start <= time < event.end:
            at = pose(event, time)
            if at.opacity > 0.5 and -0.02 < at.x < 1.02 and -0.02 < at.y < 1.02:
                half = RADIUS[event.size] * at.scale
                seen.append(Seen(event.thing, at.x, at.y, half, event.size))
    seen += [Seen(d.thing, d.x, d.y, RADIUS["small"], None) for d in scene.distractors]
    return seen


def track(event: Event, times: list[float]) -> list[list[float]]:
    """Return x, y, twice the size and visibility of an event's thing at some times."""
    rows = []
    for instant in times:
        shown = event.start <= instant < event.end
        at = pose(event, min(max(instant, event.start), event.end - 1e-3))
        rows.append([at.x, at.y, 2 * RADIUS[event.size] * at.scale, at.opacity if shown else 0.0])
    return rows


def track_loss(predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Smooth L1 on place and size where the thing is visible, and on visibility everywhere."""
    shown = (true[..., 3:] > 0.5).float()
    error = F.smooth_l1_loss(predicted, true, reduction="none", beta=0.1)
    return (error[..., :3] * shown).mean() + error[..., 3].mean()


def paint(shape: np.ndarray, colour: np.ndarray, seen: list[Seen]) -> None:
    """Write shape and colour numbers (0: none) into the patches that things cover."""
    grid = len(shape)
    centres = (np.arange(grid) + 0.5) / grid
    for thing in seen:
        reach = max(0.8 * thing.half, 0.5 / grid)
        inside = (np.abs(centres[:, None] - thing.y) < reach) & (
            np.abs(centres[None, :] - thing.x) < reach
        )
        shape[inside] = SHAPES.index(thing.thing.shape) + 1
        colour[inside] = COLOURS.index(thing.thing.colour) + 1


def shrunk(frame: np.ndarray, size: int) -> np.ndarray:
    """Resize a frame to (size, size, 3) as the preprocessing does."""
    return np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.BICUBIC))


@dataclass(frozen=True)
class Augmentation:
    """How pictures are changed; `strength` scales all colour changes.

    `hollow` is the chance that flat regions are emptied to their borders, `pattern` that a grating
    is laid over everything, `pull` how far colours may be mixed with a nearly grey one.
    """

    strength: float
    hollow: float = 0.0
    pattern: float = 0.0
    pull: float = 0.0


MILD = Augmentation(0.35)
STRONG = Augmentation(1.0, hollow=0.35, pattern=0.25, pull=0.6)


def augment(rng: np.random.Generator, picture: np.ndarray, how: Augmentation) -> np.ndarray:
    """Change (H, W, 3) uint8: borders, colour pull, gain, offset, cast, blur, grating, noise."""
    height, width = picture.shape[:2]
    image = picture.astype(np.float32)
    ground = np.median(image[::3, ::3].reshape(-1, 3), axis=0)
    strength = how.strength * float(rng.uniform())
    if rng.random() < how.hollow:
        flat = (np.abs(image - ground).max(2) > 28).astype(np.uint8) * 255
        inner = np.asarray(Image.fromarray(flat).filter(ImageFilter.MinFilter(5))) > 0
        image[inner] = ground
    if how.pull:
        towards = (rng.uniform(40, 255) + rng.uniform(-30, 30, 3)).astype(np.float32)
        thing = np.abs(image - ground).max(2, keepdims=True) > 28
        image += how.pull * float(rng.uniform()) * thing * (towards - image)
    grey = image.mean(2, keepdims=True)
    image = grey + (image - grey) * float(rng.uniform(1 - 0.6 * strength, 1 + 0.2 * strength))
    image *= float(rng.uniform(1 - 0.5 * strength, 1 + 0.3 * strength))
    image *= (1 + strength * rng.uniform(-0.2, 0.2, 3)).astype(np.float32)
    image += strength * float(rng.uniform(-60, 60))
    if rng.random() < how.pattern:
        period, turn = rng.uniform(3, 10, 2), rng.uniform(0, np.pi)
        ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
        along = np.cos(turn) * xs + np.sin(turn) * ys
        across = np.cos(turn) * ys - np.sin(turn) * xs
        wave = np.sin(2 * np.pi * along / period[0])
        if rng.random() < 0.5:
            wave = wave * np.sin(2 * np.pi * across / period[1])
        image += (rng.uniform(5, 35) * wave[..., None] * rng.uniform(0.5, 1, 3)).astype(np.float32)
    if rng.random() < 0.4 * how.strength:
        blurred = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).filter(
            ImageFilter.GaussianBlur(float(rng.uniform(0.2, 0.9)))
        )
        image = np.asarray(blurred, np.float32)
    noise = rng.standard_normal(image.shape, np.float32)
    image = image + float(rng.uniform(0, 18 * strength)) * noise
    return np.clip(image, 0, 255).astype(np.uint8)


def as_pixels(frames: torch.Tensor) -> torch.Tensor:
    """(B, H, W, 3) uint8 to (B, 3, H, W) float32 with the micro models' mean and deviation."""
    return (frames.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25


def none_weight(classes: int) -> torch.Tensor:
    """Class weights with little weight on patches that show nothing."""
    weight = torch.ones(classes)
    weight[0] = 0.1
    return weight


def kept_patches(things: torch.Tensor, count: int) -> torch.Tensor:
    """Choose `count` patches per row: those with things first, then some of the others.

    Most of a picture shows nothing; leaving most of that out makes a step three times cheaper.

    Args:
        things: (B, P) more than 0 where a patch shows a thing.
        count: How many to keep.

    Returns:
        (B, count) patch numbers, increasing.
    """
    # The batch is a function of (seed, step); so is this choice.
    order = np.random.default_rng(int(things.sum())).random(things.shape)
    wanted = (things > 0).float() + torch.from_numpy(order).float() * 0.9
    return wanted.topk(count, dim=1).indices.sort(dim=1).values


class _Stream(torch.utils.data.Dataset):
    """One item is one whole batch, a function of its step, so that a process can prepare it."""

    def __init__(self, make: Callable[[int], Batch], first: int, steps: int) -> None:
        self.make, self.first, self.steps = make, first, steps

    def __len__(self) -> int:
        return self.steps - self.first

    def __getitem__(self, index: int) -> Batch:
        return self.make(self.first + index)


def stream(make: Callable[[int], Batch], first: int, steps: int, workers: int) -> Iterator[Batch]:
    """Render batches `first` to `steps` in other processes while this one learns, in order."""
    data = _Stream(make, first, steps)
    return iter(torch.utils.data.DataLoader(data, batch_size=None, num_workers=workers))
