"""The image tower that both backbones start from; it learns things from windows of patches.

Shape and colour are learned from 4 x 4 patches around a thing, four times cheaper than a frame.
On whole frames shapes are not learned in the time there is.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from pretraining.data import (
    CLIP_IMAGE,
    MILD,
    PATCH,
    STRONG,
    WIDTH,
    Batch,
    as_pixels,
    augment,
    none_weight,
    paint,
    shrunk,
    training_scene,
    visible,
)
from pretraining.fit import fit
from zsvg.files import atomic_path
from zsvg.microworld.render import Renderer
from zsvg.microworld.script import COLOURS, SHAPES

EMBED = 128
GRID = CLIP_IMAGE // PATCH
WINDOW = 4  # patches: a window is 4 x 4 of the 8 x 8 patches of a frame
STEPS, BATCH, RATE = 1100, 256, 1.5e-3


class Trunk(nn.Module):
    """The image tower with what teaches it about one thing in a window of patches."""

    def __init__(self) -> None:
        super().__init__()
        from open_clip.transformer import VisionTransformer

        self.visual = VisionTransformer(
            image_size=CLIP_IMAGE,
            patch_size=PATCH,
            width=WIDTH,
            layers=5,
            heads=4,
            mlp_ratio=4.0,
            output_dim=EMBED,
            no_ln_pre=True,
        )
        with torch.no_grad():  # neighbours should look alike from the start
            self.visual.positional_embedding[1:] = _sincos(GRID, WIDTH)
        self.patch_shape = nn.Linear(WIDTH, len(SHAPES) + 1)
        self.patch_colour = nn.Linear(WIDTH, len(COLOURS) + 1)
        self.shape = nn.Linear(WIDTH, len(SHAPES))
        self.colour = nn.Linear(WIDTH, len(COLOURS))
        self.box = nn.Linear(WIDTH, 3)


def look(
    visual: nn.Module, pixels: torch.Tensor, kept: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run an open_clip image tower on the patches `kept` (B, n) only.

    Returns:
        The class token (B, W) and the patches (B, n, W) after the last layer norm.
    """
    x = visual.conv1(pixels).flatten(2).transpose(1, 2) + visual.positional_embedding[1:]
    x = torch.gather(x, 1, kept[..., None].expand(-1, -1, x.shape[-1]))
    first = (visual.class_embedding + visual.positional_embedding[0]).expand(len(x), 1, -1)
    x = visual.ln_post(visual.transformer(torch.cat([first, x], 1)))
    return x[:, 0], x[:, 1:]


def _sincos(grid: int, width: int, scale: float = 0.25) -> torch.Tensor:
    """Return (grid * grid, width) two-dimensional sine-cosine position embeddings."""
    ys, xs = np.mgrid[0:grid, 0:grid]
    rates = 1 / 100 ** (np.arange(width // 4) / (width // 4))
    waves = [f(v.reshape(-1, 1) * rates) for v in (xs, ys) for f in (np.sin, np.cos)]
    return torch.tensor(scale * np.concatenate(waves, 1), dtype=torch.float32)


def trunk_batch(step: int, *, seed: int) -> Batch:
    """Render frames with two windows around things each, and name what is in them."""
    frames, windows, shapes, colours, things, boxes = [], [], [], [], [], []
    item = 0
    while len(frames) < BATCH:
        rng, scene = training_scene(seed + 3, step, item)
        item += 1
        renderer = Renderer(scene)
        for event in scene.events:
            instant = float(rng.uniform(event.start, event.end - 0.05))
            seen = [s for s in visible(scene, instant) if min(s.x, s.y, 1 - s.x, 1 - s.y) > 0.04]
            if not seen:
                continue
            small = shrunk(renderer.frame(instant), CLIP_IMAGE)
            shape, colour = np.zeros((GRID, GRID), np.int64), np.zeros((GRID, GRID), np.int64)
            paint(shape, colour, seen)
            for thing in (seen[0], seen[0] if rng.random() < 0.5 else seen[-1]):
                frames.append(augment(rng, small, STRONG if rng.random() < 0.5 else MILD))
                row, column = (
                    int(np.clip(round(v * GRID - rng.uniform(1, 3)), 0, GRID - WINDOW))
                    for v in (thing.y, thing.x)
                )
                rows, columns = np.arange(row, row + WINDOW), np.arange(column, column + WINDOW)
                cells = (rows[:, None] * GRID + columns[None, :]).ravel()
                windows.append(cells)
                shapes.append(shape.ravel()[cells])
                colours.append(colour.ravel()[cells])
                things.append((SHAPES.index(thing.thing.shape), COLOURS.index(thing.thing.colour)))
                boxes.append((thing.x, thing.y, 4 * thing.half))
    return {
        "frames": torch.from_numpy(np.stack(frames[:BATCH])),
        "window": torch.from_numpy(np.stack(windows[:BATCH])),
        "shape": torch.from_numpy(np.stack(shapes[:BATCH])),
        "colour": torch.from_numpy(np.stack(colours[:BATCH])),
        "thing": torch.tensor(things[:BATCH]),
        "box": torch.tensor(boxes[:BATCH], dtype=torch.float32),
    }


def pretrain_trunk(folder: Path, seed: int) -> None:
    """Train the shared image tower and write it to `folder`/trunk.safetensors."""
    torch.manual_seed(seed)
    trunk = Trunk()

    def losses(batch: dict[str, torch.Tensor], _step: int) -> dict[str, torch.Tensor]:
        first, patches = look(trunk.visual, as_pixels(batch["frames"]), batch["window"])
        shape, colour = batch["thing"].T
        return {
            "patch_shape": F.cross_entropy(
                trunk.patch_shape(patches).flatten(0, 1),
                batch["shape"].flatten(),
                none_weight(len(SHAPES) + 1),
            ),
            "patch_colour": F.cross_entropy(
                trunk.patch_colour(patches).flatten(0, 1),
                batch["colour"].flatten(),
                none_weight(len(COLOURS) + 1),
            ),
            "shape": F.cross_entropy(trunk.shape(first), shape),
            "colour": F.cross_entropy(trunk.colour(first), colour),
            "box": 4 * F.smooth_l1_loss(trunk.box(first), batch["box"]),
        }

    fit(nn.ModuleDict({"trunk": trunk}), partial(trunk_batch, seed=seed), losses, folder,
        steps=STEPS, rate=RATE)  # fmt: skip
    with atomic_path(folder / "trunk.safetensors") as temporary:
        save_file({k: v.contiguous() for k, v in trunk.visual.state_dict().items()}, temporary)


def trunk_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the trained trunk without its projection."""
    state = load_file(folder / "trunk.safetensors")
    state.pop("proj")
    return state
