"""Draws a microworld script: one RGB frame per instant, the same pixels for the same script."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from zsvg.microworld.domains import Look, look_of
from zsvg.microworld.script import DIGITS, Pose, Scene, Thing, pose

SIZE = 128  # pixels, square
_SPRITE = 80  # sprites are drawn once at this size and scaled down
_HALO = 2  # pixels around a thing that its blurred edge reaches
_MARGIN = 8  # the background is larger than the frame, for the camera drift
RADIUS = {"small": 0.13, "large": 0.2}
"""Half the width of a thing, in frame widths."""


@lru_cache(maxsize=1)
def _digit_images() -> dict[int, np.ndarray]:
    from sklearn.datasets import load_digits

    data = load_digits()
    return {d: data.images[data.target == d] for d in range(10)}


@lru_cache(maxsize=1)
def _noise_bank() -> np.ndarray:
    """(16, SIZE, SIZE, 3) standard normal noise; frames pick a plane and a shift."""
    return np.random.default_rng(20).standard_normal((16, SIZE, SIZE, 3)).astype(np.float32)


def _polygon(points: int, inner: float, turn: float = -math.pi / 2) -> list[tuple[float, float]]:
    corners = []
    for i in range(2 * points if inner < 1 else points):
        radius = inner if inner < 1 and i % 2 else 1.0
        angle = turn + i * math.pi / points * (1 if inner < 1 else 2)
        corners.append((radius * math.cos(angle), radius * math.sin(angle)))
    return corners


_CROSS = [(-.32, -1), (.32, -1), (.32, -.32), (1, -.32), (1, .32), (.32, .32),
          (.32, 1), (-.32, 1), (-.32, .32), (-1, .32), (-1, -.32), (-.32, -.32)]  # fmt: skip
_POLYGONS: dict[str, list[tuple[float, float]]] = {
    "square": [(-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82)],
    "triangle": _polygon(3, 1.0),
    "star": _polygon(5, 0.42),
    "diamond": [(0, -1), (0.72, 0), (0, 1), (-0.72, 0)],
    "cross": _CROSS,
}


@lru_cache(maxsize=512)
def _mask(shape: str, style: int, outline: bool) -> Image.Image:
    """Return the opacity of a shape as an `L` image of the sprite size."""
    if shape in DIGITS:
        images = _digit_images()[DIGITS[shape]]
        digit = images[style % len(images)] / 16.0
        image = Image.fromarray((255 * np.clip(digit * 1.4, 0, 1)).astype(np.uint8))
        return image.resize((_SPRITE, _SPRITE), Image.Resampling.BICUBIC)
    size = 4 * _SPRITE
    image = Image.new("L", (size, size))
    draw = ImageDraw.Draw(image)
    middle, radius, line = size / 2, size * 0.45, round(size * 0.09)
    box = (middle - radius, middle - radius, middle + radius, middle + radius)
    if shape in ("circle", "ring"):
        if shape == "ring" or outline:
            draw.ellipse(box, outline=255, width=line if shape == "circle" else round(2.2 * line))
        else:
            draw.ellipse(box, fill=255)
        if shape == "ring" and outline:
            inner = radius * 0.55
            draw.ellipse(box, outline=0, width=round(2.2 * line))
            draw.ellipse(box, outline=255, width=line)
            draw.ellipse((middle - inner, middle - inner, middle + inner, middle + inner),
                         outline=255, width=line)  # fmt: skip
    else:
        corners = [(middle + radius * px, middle + radius * py) for px, py in _POLYGONS[shape]]
        if outline:
            draw.line([*corners, corners[0], corners[1]], fill=255, width=line, joint="curve")
        else:
            draw.polygon(corners, fill=255)
    return image.resize((_SPRITE, _SPRITE), Image.Resampling.BOX)


def _background(rng: np.random.Generator, style: Look) -> Image.Image:
    size = SIZE + 2 * _MARGIN
    tone = rng.uniform(*style.tone)
    ys, xs = np.mgrid[0:size, 0:size] / size - 0.5
    slope = rng.uniform(-25, 25, 2)
    if style.ground in ("dark", "board"):
        slope *= 0.4
    grey = tone + slope[0] * xs + slope[1] * ys
    picture = np.repeat(grey[..., None], 3, 2) + rng.uniform(-8, 8, 3)
    if style.ground == "board":
        picture *= np.array([0.8, 1.25, 0.95])
        smudge = rng.normal(0, 26, (9, 9)).astype(np.float32)
        soft = Image.fromarray(smudge, "F").resize((size, size), Image.Resampling.BICUBIC)
        picture += np.asarray(soft)[..., None]
    elif style.ground == "paper":
        picture += np.array([4.0, 0.0, -14.0])
        lines = (np.arange(size) + int(rng.integers(12))) % 12 == 0
        picture[lines] -= np.array([46.0, 28.0, 8.0])
    elif style.ground == "woven":
        period = rng.integers(5, 9, 2)
        weave = np.sin(2 * np.pi * xs * size / period[0]) * np.sin(
            2 * np.pi * ys * size / period[1]
        )
        picture += 34 * weave[..., None] * rng.uniform(0.6, 1.2, 3)
        picture *= rng.uniform(0.8, 1.15, 3)
    image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.poisson(style.clutter))):
        x, y = rng.integers(0, size, 2)
        dx, dy = rng.integers(-12, 13, 2)
        level = int(np.clip(tone + rng.choice((-1, 1)) * rng.uniform(15, 45), 0, 255))
        draw.line((int(x), int(y), int(x + dx), int(y + dy)), fill=(level,) * 3, width=1)
    return image.filter(ImageFilter.GaussianBlur(style.blur))


class Renderer:
    """Draws the frames of one scene.

    Args:
        scene: The script.
        style: Look to paint it in; by default the look of the scene's domain.
    """

    def __init__(self, scene: Scene, style: Look | None = None) -> None:
        self.scene = scene
        self.style = style or look_of(scene.domain)
        rng = np.random.default_rng(scene.seed)
        self._ground = _background(rng, self.style)
        self._phase = rng.uniform(0, 2 * np.pi, 2)
        self._period = rng.uniform(12, 30, 2)
        self._light_phase, self._light_period = rng.uniform(0, 2 * np.pi, 3), rng.uniform(6, 18, 3)
        axis = np.linspace(-1, 1, SIZE, dtype=np.float32)
        radius = np.clip((axis[:, None] ** 2 + axis[None, :] ** 2) / 2, 0, 1)[..., None]
        self._factor = (1 - self.style.vignette * radius) * self.style.gain
        self._factor = (self._factor * np.asarray(self.style.tint, np.float32)).astype(np.float32)

    def frame(self, time: float) -> np.ndarray:
        """Return the frame at `time` seconds: (128, 128, 3) uint8."""
        drift = self.style.drift * np.sin(2 * np.pi * time / self._period + self._phase)
        dx, dy = (int(v) for v in np.round(drift))
        corner = (_MARGIN + dx, _MARGIN + dy)
        image = self._ground.crop((*corner, corner[0] + SIZE, corner[1] + SIZE))
        for distractor in self.scene.distractors:
            at = Pose(x=distractor.x, y=distractor.y)
            self._draw(image, distractor.thing, "small", at, dx, dy)
        for event in self.scene.events:
            if event.start <= time < event.end:
                self._draw(image, event.thing, event.size, pose(event, time), dx, dy)
        index = round(time * 1000) + self.scene.seed
        noise = _noise_bank()[index % 16]
        noise = np.roll(noise, (index * 7919 % SIZE, index * 104729 % SIZE), (0, 1))
        light = np.sin(2 * np.pi * time / self._light_period + self._light_phase)
        light = (1 + self.style.swing * light).astype(np.float32)
        lit = np.asarray(image, np.float32) * self._factor * light + self.style.noise * noise
        pixels: NDArray[np.uint8] = np.clip(lit, 0, 255).astype(np.uint8)
        return pixels

    def _draw(
        self, image: Image.Image, thing: Thing, size: str, at: Pose, dx: int, dy: int
    ) -> None:
        mask = _mask(thing.shape, thing.style, self.style.ink == "outline")
        if at.angle:
            mask = mask.rotate(-at.angle, Image.Resampling.BILINEAR)
        wider = 1.25 if thing.shape in DIGITS else 1.0
        width = max(4, round(2 * RADIUS[size] * SIZE * at.scale * wider))
        mask = mask.resize((width, width), Image.Resampling.BOX)
        # A thing has one colour, so blurring its edge and the ground under it blurs the frame.
        mask = ImageOps.expand(mask, _HALO).filter(ImageFilter.GaussianBlur(self.style.blur))
        if at.opacity < 1:
            mask = mask.point(lambda value: int(value * at.opacity))
        left = round(at.x * SIZE - width / 2) - dx - _HALO
        top = round(at.y * SIZE - width / 2) - dy - _HALO
        image.paste(self.style.palette[thing.colour], (left, top), mask)
