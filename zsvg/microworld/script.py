"""What happens in a microworld video: things, events, idle stretches, and where they are."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
OUTLINES = ("circle", "square", "triangle", "star", "cross", "ring", "diamond")
# Handwritten; those that are neither round (zero is a ring) nor easily taken for one another.
DIGITS = {"two": 2, "four": 4, "five": 5, "seven": 7}
SHAPES = (*OUTLINES, *DIGITS)
SIZES = ("small", "large")
# Actions during which the thing keeps its place, so that a sentence may name the place.
IN_PLACE = ("stay", "spin", "grow", "shrink", "blink", "bounce")
ACTIONS = (*IN_PLACE, "enter", "leave", "left", "right", "up", "down")
ROUND = ("circle", "ring")  # spinning cannot be seen on these

SPLITS = ("train", "val", "test")
WORLD_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Thing:
    """An object by shape and colour; `style` picks one handwriting of a digit."""

    shape: str
    colour: str
    style: int = 0


@dataclass(frozen=True, kw_only=True)
class Event:
    """One thing does one thing. Times in seconds, places in [0, 1] from the top left corner."""

    thing: Thing
    action: str
    size: str
    start: float
    end: float
    x: float
    y: float
    side: str = "left"


@dataclass(frozen=True, kw_only=True)
class Distractor:
    """A thing that stands still through the whole video."""

    thing: Thing
    x: float
    y: float


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The script of one video."""

    vid: str
    domain: str
    duration: float
    events: tuple[Event, ...]
    distractors: tuple[Distractor, ...]
    seed: int


def generator(domain: str, split: str, seed: int, index: int) -> np.random.Generator:
    """Return the random generator of one video; splits and domains never share one."""
    key = [WORLD_VERSION, zlib.crc32(domain.encode()), SPLITS.index(split), seed, index]
    return np.random.default_rng(key)


def sample_scene(rng: np.random.Generator, *, vid: str, domain: str) -> Scene:
    """Draw a script: 3 to 6 events of differing length among idle stretches, 20 to 60 seconds."""
    count = int(rng.integers(3, 7))
    duration = round(float(rng.uniform(max(20.0, 6.5 * count), 60.0)), 1)
    things = _things(rng, count)
    cast = _cast(rng, count, things)
    used = {(t.shape, t.colour) for t in things}
    distractors = []
    for _ in range(int(rng.integers(0, 3))):
        thing = _thing(rng)
        if (thing.shape, thing.colour) not in used:
            used.add((thing.shape, thing.colour))
            distractors.append(
                Distractor(thing=thing, x=_unit(rng, 0.12, 0.88), y=_unit(rng, 0.12, 0.88))
            )
    events = []
    done: set[tuple[Thing, str]] = set()
    for thing, (start, end) in zip(cast, _times(rng, count, duration), strict=True):
        choices = [
            a
            for a in ACTIONS
            if (thing, a) not in done and not (a == "spin" and thing.shape in ROUND)
        ]
        action = str(rng.choice(choices))
        done.add((thing, action))
        x, y = _place(rng, action, distractors)
        events.append(
            Event(
                thing=thing,
                action=action,
                size=str(rng.choice(SIZES)),
                start=start,
                end=end,
                x=x,
                y=y,
                side=str(rng.choice(("left", "right", "top", "bottom"))),
            )
        )
    return Scene(
        vid=vid,
        domain=domain,
        duration=duration,
        events=tuple(events),
        distractors=tuple(distractors),
        seed=int(rng.integers(2**31)),
    )


def _unit(rng: np.random.Generator, low: float, high: float) -> float:
    return round(float(rng.uniform(low, high)), 3)


def _thing(rng: np.random.Generator) -> Thing:
    # One outline is drawn more often than one digit, which is harder to read.
    shape = str(rng.choice(OUTLINES if rng.random() < 0.7 else tuple(DIGITS)))
    return Thing(shape=shape, colour=str(rng.choice(COLOURS)), style=int(rng.integers(100)))


def _things(rng: np.random.Generator, count: int) -> list[Thing]:
    """Distinct things: one or two fewer than events, so that about half of the events recur."""
    wanted = count - 1 - int(count > 4 and rng.random() < 0.5)
    things: list[Thing] = []
    while len(things) < wanted:
        thing = _thing(rng)
        if all((t.shape, t.colour) != (thing.shape, thing.colour) for t in things):
            things.append(thing)
    return things


def _cast(rng: np.random.Generator, count: int, things: Sequence[Thing]) -> list[Thing]:
    """Who acts in each event: everybody once, then some come back, never twice in a row."""
    while True:
        extra = [things[int(i)] for i in rng.integers(len(things), size=count - len(things))]
        cast = [*things, *extra]
        order = rng.permutation(count)
        cast = [cast[int(i)] for i in order]
        if len(things) == 1 or all(a != b for a, b in pairwise(cast)):
            return cast


def _times(rng: np.random.Generator, count: int, duration: float) -> list[tuple[float, float]]:
    """Non-overlapping [start, end) of the events with idle stretches of at least one second."""
    longest = min(14.0, 0.3 * duration)
    lengths = np.exp(rng.uniform(np.log(3.0), np.log(longest), count))
    room = duration - 1.0 * (count + 1)
    lengths *= min(1.0, 0.75 * room / lengths.sum())
    idle = rng.dirichlet(np.full(count + 1, 1.5)) * (room - lengths.sum()) + 1.0
    spans, clock = [], 0.0
    for gap, length in zip(idle[:-1], lengths, strict=True):
        start = round(float(clock + gap), 1)
        clock = clock + gap + length
        spans.append((start, round(float(clock), 1)))
    return spans


def _place(
    rng: np.random.Generator, action: str, distractors: Sequence[Distractor]
) -> tuple[float, float]:
    """A place for the event that does not hide a distractor (best of a few draws)."""
    best, best_room = (0.5, 0.5), -1.0
    for _ in range(6):
        x, y = _unit(rng, 0.2, 0.8), _unit(rng, 0.2, 0.8)
        if action in ("left", "right"):
            x = 0.5
        if action in ("up", "down"):
            y = 0.5
        room = min((max(abs(x - d.x), abs(y - d.y)) for d in distractors), default=1.0)
        if room > best_room:
            best, best_room = (x, y), room
        if room > 0.3:
            break
    return best


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Where a thing is at one instant: centre in [0, 1], scale factor, degrees, opacity."""

    x: float
    y: float
    scale: float = 1.0
    angle: float = 0.0
    opacity: float = 1.0


def pose(event: Event, time: float) -> Pose:
    """Return the pose of an event's thing at `time` seconds, within [start, end)."""
    share = (time - event.start) / (event.end - event.start)
    elapsed = time - event.start
    x, y = event.x, event.y
    outside = {"left": (-0.2, y), "right": (1.2, y), "top": (x, -0.2), "bottom": (x, 1.2)}
    match event.action:
        case "enter":
            (ox, oy), done = outside[event.side], min(1.0, share / 0.75)
            return Pose(x=ox + done * (x - ox), y=oy + done * (y - oy))
        case "leave":
            (ox, oy), done = outside[event.side], max(0.0, (share - 0.25) / 0.75)
            return Pose(x=x + done * (ox - x), y=y + done * (oy - y))
        case "left":
            return Pose(x=0.82 - 0.64 * share, y=y)
        case "right":
            return Pose(x=0.18 + 0.64 * share, y=y)
        case "up":
            return Pose(x=x, y=0.82 - 0.64 * share)
        case "down":
            return Pose(x=x, y=0.18 + 0.64 * share)
        case "grow":
            return Pose(x=x, y=y, scale=0.55 + 0.95 * share)
        case "shrink":
            return Pose(x=x, y=y, scale=1.5 - 0.95 * share)
        case "spin":
            return Pose(x=x, y=y, angle=70.0 * elapsed)
        case "blink":
            return Pose(x=x, y=y, opacity=1.0 if elapsed % 1.6 < 1.0 else 0.1)
        case "bounce":
            height = abs(np.sin(np.pi * elapsed / 1.7))
            return Pose(x=x, y=y + 0.14 - 0.28 * float(height))
        case _:
            return Pose(x=x, y=y)
