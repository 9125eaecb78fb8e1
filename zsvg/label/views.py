"""What the captioner gets to see of an event, and what it says."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zsvg.backbones.captioner import Captioner, strip
from zsvg.backbones.endpoint import Endpoint
from zsvg.backbones.questions import Answering

Labeller = Captioner | Endpoint | Answering
"""What says what happens. One that only answers questions is asked with instructions."""

View = Literal["strip", "middle", "ends", "around"]
# When a view looks at an event, in shares of it.
VIEWS: Mapping[View, tuple[float, ...]] = {
    "strip": (1 / 8, 3 / 8, 5 / 8, 7 / 8),
    "middle": (1 / 2,),
    "ends": (1 / 8, 7 / 8),
    "around": tuple(step / 8 for step in range(-3, 12, 2)),
}
# Captioners describe a 2 x 2 strip as what it looks like; the sentence that follows is the content.
_STRIP_TALK = re.compile(
    r"^(?:(?:this is|there (?:is|are)) )?(?:an? |the )?"
    r"(?:(?:(?:series|collage|set|group|sequence|couple|grid|collection) of )?"
    r"(?:(?:two|three|four|several|different) )*(?:photos?|photographs?|pictures?|images?|frames?)|"
    r"collage)(?: that)? (?:of|showing|shows?|depicting|with) ",
    re.IGNORECASE,
)


def view_times(events: ArrayLike, view: View, duration: float = math.inf) -> NDArray[np.float64]:
    """Return when to look at each event.

    Args:
        events: (n, 2) spans, seconds.
        view: "strip", "middle", "ends" or "around".
        duration: Of the video, seconds.

    Returns:
        (n, 4), (n, 1), (n, 2) or (n, 8) seconds in order: the middles of four equal parts of the
        event, its middle, the first and last of the four, or the four with two more on each side,
        as far as the video goes.
    """
    spans = np.asarray(events, dtype=np.float64)
    share = np.array(VIEWS[view])
    return np.clip(spans[:, :1] + share * (spans[:, 1:] - spans[:, :1]), 0.0, duration)


def between_frames(
    event: tuple[float, float], view: View, frames: tuple[int, int], duration: float
) -> tuple[float, float]:
    """Return the span that some frames of a view stand for, seconds.

    A border lies halfway between the frame on this side and the one on the other. The four frames
    inside an event therefore stand for the event.

    Args:
        event: (start, end), seconds.
        view: How its frames lie.
        frames: Numbers of the first and the last frame, from 0.
        duration: Of the video, seconds.
    """
    share = np.array(VIEWS[view])
    step = share[1] - share[0] if len(share) > 1 else 1.0
    edges = np.concatenate((share[:1] - step, share, share[-1:] + step))
    edges = (edges[1:] + edges[:-1]) / 2
    if share[0] >= 0:  # nothing around the event was shown
        edges = np.clip(edges, 0.0, 1.0)
    start, end = event
    found = np.clip(start + (end - start) * edges[[frames[0], frames[1] + 1]], 0.0, duration)
    return float(found[0]), float(found[1])


def pictures(view: View, endpoint: bool = False) -> int:
    """Return how many pictures of an event the captioner is given; an endpoint gets every frame."""
    return len(VIEWS[view]) if endpoint else 2 if view == "ends" else 1


def picture_size(captioner: Labeller, view: View, several: bool = False) -> int:
    """Return the side of the frames at `view_times`, pixels; `several` are shown one by one."""
    # Two frames side by side then fill the captioner's square without another resize.
    halves = view == "strip" and not several and not isinstance(captioner, Endpoint)
    return captioner.image_size // 2 if halves else captioner.image_size


def caption_events(
    frames: NDArray[np.uint8],
    captioner: Captioner,
    *,
    samples: int = 0,
    seed: int = 0,
    keep: Callable[[str], bool] = bool,
) -> list[list[str]]:
    """Caption the events of one video.

    Args:
        frames: (n, 4, H, W, 3), (n, 1, H, W, 3) or (n, 2, H, W, 3) uint8, the frames at
            `view_times`.
        captioner: Frozen captioner.
        samples: Captions drawn per picture; 0 for one without randomness.
        seed: Of the draws.
        keep: False for cleaned captions that are as good as none.

    Returns:
        For each event its different captions, in a fixed order; none where all came out empty. Of
        two pictures the i-th captions are joined.
    """
    pictures = 2 if frames.shape[1] == 2 else 1
    if pictures == 2:
        images = list(frames.reshape(-1, *frames.shape[2:]))
    else:
        images = [strip(group) if len(group) == 4 else group[0] for group in frames]
    if samples:
        raw = captioner.sample(images, samples, seed=seed)
    else:
        raw = [[text] for text in captioner.caption(images)]
    said = _kept(raw, keep)
    if pictures == 2:
        said = [list(map(_then, *ends)) for ends in zip(said[::2], said[1::2], strict=True)]
    return [sorted(set(texts) - {""}) for texts in said]


def ask_events(
    frames: NDArray[np.uint8],
    times: NDArray[np.float64],
    endpoint: Endpoint,
    *,
    samples: int = 0,
    seed: int = 0,
    keep: Callable[[str], bool] = bool,
) -> tuple[list[list[str]], dict[int, str]]:
    """Ask an endpoint about the events of one video: all frames of an event in one question.

    Args:
        frames: (n, k, H, W, 3) uint8, the frames at `view_times`.
        times: (n, k) those times, seconds.
        endpoint: Whom to ask.
        samples: As of `caption_events`, like the next ones; answers per event.
        seed: Of the draws.
        keep: False for cleaned answers that are as good as none.

    Returns:
        As of `caption_events`; and by its number why an event got no answer.
    """
    raw, lost = endpoint.describe(frames, times, samples=samples, seed=seed)
    return [sorted(set(texts) - {""}) for texts in _kept(raw, keep)], lost


def _kept(raw: Sequence[Sequence[str]], keep: Callable[[str], bool]) -> list[list[str]]:
    """Clean what was said, and leave empty what is as good as nothing."""
    return [[text if keep(text) else "" for text in map(clean, texts)] for texts in raw]


def _then(early: str, late: str) -> str:
    """Say what two pictures show, or the one thing that is said of them."""
    if early and late and early.casefold() != late.casefold():
        return f"{early} then {late}"
    return early or late


def clean(caption: str) -> str:
    """Return a caption without talk about pictures, outer punctuation and double spaces."""
    return _STRIP_TALK.sub("", " ".join(caption.split())).strip(" .,;:")
