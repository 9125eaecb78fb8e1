"""Decoded frames as upright RGB pictures of the wanted size."""

from __future__ import annotations

from typing import Any, Literal, get_args

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zsvg.video.decoding import orientation_of

Framing = Literal["crop", "pad", "squash"]

# PyAV 17 converts pictures on many threads unless told otherwise; older ones cannot be told.
ONE_THREAD: dict[str, Any] = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}


def check_framing(size: int | None, framing: str) -> None:
    """Refuse a size or a framing that there is not.

    Raises:
        ValueError: One of them.
    """
    if framing not in get_args(Framing):
        raise ValueError(f"framing must be one of {', '.join(get_args(Framing))}, got {framing!r}")
    if size is not None and size < 1:
        raise ValueError(f"size must be a positive number of pixels or None, got {size}")


def render(frame: Any, size: int | None, framing: Framing) -> NDArray[np.uint8]:
    """Turn a decoded frame into upright RGB of the wanted size."""
    pixels = frame.reformat(format="rgb24", **ONE_THREAD).to_ndarray()
    turns, mirrored = orientation_of(frame)
    pixels = np.rot90(pixels, turns)
    pixels = np.ascontiguousarray(pixels[:, ::-1] if mirrored else pixels)
    return pixels if size is None else resize(pixels, size, framing)


def fit(pixels: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Bring a picture to (height, width), whole and between black bars."""
    if pixels.shape[:2] == tuple(shape):
        return pixels
    height, width = shape
    high, wide = pixels.shape[:2]
    if wide * height < width * high:
        sides = max(1, round(height * wide / high)), height
    else:
        sides = width, max(1, round(width * high / wide))
    image = Image.fromarray(pixels).resize(sides, Image.Resampling.BICUBIC)
    canvas = Image.new("RGB", (width, height))
    canvas.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
    return np.array(canvas)


def resize(pixels: NDArray[np.uint8], size: int, framing: Framing = "crop") -> NDArray[np.uint8]:
    """Resize an (H, W, 3) uint8 picture to (size, size, 3) with Pillow's antialiased bicubic.

    "crop" gives exactly the pixels of open_clip's own preprocessing (same rounding of the long side
    and of the crop); see `sample_frames` for the others.
    """
    check_framing(size, framing)
    height, width = pixels.shape[:2]
    image = Image.fromarray(pixels)
    if framing == "squash":
        return np.array(image.resize((size, size), Image.Resampling.BICUBIC))
    if framing == "pad":
        return fit(pixels, (size, size))
    short, long = min(height, width), max(height, width)
    scaled = (size, int(size * long / short))
    shape = scaled if width <= height else scaled[::-1]
    image = image.resize(shape, Image.Resampling.BICUBIC)
    left, top = (round((side - size) / 2.0) for side in image.size)
    return np.array(image.crop((left, top, left + size, top + size)))


def within(frame: Any, longest: int) -> Any:
    """Make a decoded frame smaller where its longer side has more pixels than that."""
    shrink = longest / max(frame.width, frame.height)
    if shrink >= 1:
        return frame
    sides = (max(1, round(side * shrink)) for side in (frame.width, frame.height))
    return frame.reformat(*sides, **ONE_THREAD)


def even(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Crop the last row and column of odd pictures; repeat them where there is but one."""
    height, width = pixels.shape[:2]
    if height < 2 or width < 2:
        missing = ((0, max(0, 2 - height)), (0, max(0, 2 - width)), (0, 0))
        return even(np.pad(pixels, missing, mode="edge"))
    return pixels[: height // 2 * 2, : width // 2 * 2]
