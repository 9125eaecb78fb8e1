"""Search by example: moments that look like a clip, or like a picture."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from zsvg.errors import VideoError, reason
from zsvg.features.encoder import FrameFeatures
from zsvg.grounding.answers import EncodedVideo, Grounding, Moment
from zsvg.grounding.grounder import Grounder
from zsvg.grounding.ranking import centred
from zsvg.places.urls import is_url
from zsvg.video.pictures import resize

ITSELF = 0.95
"""Mean cosine from which on a stretch is the example, or a copy: see `zsvg.library.search`."""
_CLIP = re.compile(r"(?P<file>.+)@(?P<start>\d+(?:\.\d+)?)-(?P<end>\d+(?:\.\d+)?)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Example:
    """What moments are to look like.

    Attributes:
        name: What it is called in answers, such as "film@12-15.5".
        rows: (N, D) its clips in order, of unit length; of a picture one.
        centred: (N, D) the same as `zsvg.grounding.ranking.centred` has them. A picture is by
            itself: nothing is taken out.
    """

    name: str
    rows: NDArray[np.float32]
    centred: NDArray[np.float32]

    @property
    def sentence(self) -> str:
        """Nothing is said of it."""
        return ""

    @property
    def direction(self) -> NDArray[np.float32]:
        """The (D,) vector that rows of frames are compared with, to choose videos."""
        mean: NDArray[np.float32] = self.centred.mean(axis=0)
        return mean / max(float(np.linalg.norm(mean)), 1e-9)

    def ask(self, grounder: Grounder, video: EncodedVideo, top_k: int) -> Grounding:
        """Return the moments of a video that look like it.

        A clip is as relevant as it looks like any part of the example, and moments are cut out of
        that as out of the relevance of a sentence. (In other videos that finds more of what is done
        there than the stretch that goes on as the example does, `scripts/benchmark_examples.py`.)
        Videos are ranked by that stretch, and if it is nearly the example itself, it comes first.
        """
        frames = video.frames
        curve: NDArray[np.float32] = (frames.features @ self.rows.T).max(axis=1)
        moments = grounder.read(video, curve, top_k)
        alike, first, stop = in_step(frames.features, self.rows)
        if alike >= ITSELF:
            start, end = frames.edges[[first, stop]].tolist()
            moments = (Moment(start=start, end=end, score=moments[0].score), *moments)[:top_k]
        return Grounding(
            query=self.name,
            vid=video.vid,
            moments=moments,
            curve=curve,
            centres=frames.centres,
            fit=round(in_step(centred(frames.features), self.centred)[0], 6),
        )


def in_step(clips: NDArray[np.float32], example: NDArray[np.float32]) -> tuple[float, int, int]:
    """Return where clips (T, D) go on as an example (N, D) does, and how alike they are.

    A video that is shorter than the example is compared with the parts of it that are as long.

    Returns:
        The best mean similarity of clips and parts, one after the other; the first of those clips,
        and the one after the last.
    """
    similar = clips @ example.T
    long, short = max(similar.shape), min(similar.shape)
    if len(clips) < len(example):
        similar = similar.T
    places = long - short + 1
    means = np.zeros(places)
    for step in range(short):
        means += similar[step : step + places, step] / short
    first = int(means.argmax())
    if len(clips) < len(example):
        return float(means[first]), 0, len(clips)
    return float(means[first]), first, first + short


def stored_example(frames: FrameFeatures, start: float, end: float) -> Example:
    """Return a moment of an encoded video as an example.

    Args:
        frames: Of the video.
        start: Seconds.
        end: Seconds; after `start`.

    Raises:
        VideoError: There is no such time in the video.
    """
    name = f"{frames.vid}@{start:g}-{end:g}"
    if not 0 <= start < end or start >= frames.duration:
        raise VideoError(
            f"{start:g}-{end:g} is no part of the video, which has {frames.duration:.1f} s; give "
            "VIDEO@START-END in seconds"
        )
    inside = clips_between(frames, start, end)
    return Example(
        name=name, rows=frames.features[inside], centred=centred(frames.features)[inside]
    )


def clips_between(frames: FrameFeatures, start: float, end: float) -> NDArray[np.bool_]:
    """Return which clips (T,) have their middle in a part of a video, the nearest if none has."""
    inside: NDArray[np.bool_] = (frames.centres >= start) & (frames.centres < end)
    if not inside.any():  # shorter than a clip
        inside[np.abs(frames.centres - (start + end) / 2).argmin()] = True
    return inside


def read_clip(text: str, grounder: Grounder) -> Example:
    """Read a part of a video file as an example.

    Args:
        text: VIDEO@START-END in seconds, or VIDEO for all of it.
        grounder: Encodes it.

    Raises:
        VideoError: The video cannot be used, or has no such part.
    """
    there = not is_url(text) and Path(text).exists()
    found = None if there else _CLIP.fullmatch(text)
    if found is None:
        if "@" in text and not there and not is_url(text):
            raise VideoError(f"{text}: no such file, nor VIDEO@START-END in seconds")
        frames = grounder.encode(text).frames
        return stored_example(frames, 0.0, frames.duration)
    frames = grounder.encode(found["file"]).frames
    return stored_example(frames, float(found["start"]), float(found["end"]))


def read_picture(file: str | Path, grounder: Grounder) -> Example:
    """Read a picture as an example.

    Args:
        file: Of a format that Pillow reads.
        grounder: Encodes it.

    Raises:
        VideoError: It is no picture.
    """
    try:
        with Image.open(file) as image:
            pixels = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise VideoError(f"{file}: cannot be read as a picture ({reason(error)})") from error
    square = resize(pixels, grounder.backbone.image_size, grounder.framing)
    rows = grounder.encode_pictures(square[None])
    return Example(name=str(file), rows=rows, centred=rows)
