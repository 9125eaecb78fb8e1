"""Measure the micro backbones on frames that pre-training never saw, and write their model cards.

    python scripts/measure_micro.py

CLIP: which of all (colour, shape) names fits a frame with one thing best. BLIP: whether colour,
shape and action of its caption are right, for strips cut at the true borders of an event. `studio`
is what they were trained on; the other domains show how much a new look costs.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from PIL import Image

from zsvg.backbones.captioner import load_captioner, strip
from zsvg.backbones.clip import MICRO_FOLDER, load_backbone
from zsvg.files import write_text
from zsvg.microworld.domains import LOOKS
from zsvg.microworld.language import ACTION_WORDS, COLOUR_WORDS, SHAPE_WORDS
from zsvg.microworld.render import Renderer
from zsvg.microworld.script import COLOURS, SHAPES
from zsvg.microworld.world import plan_video

MADE_BY = """\
`python scripts/pretrain_micro.py --out runs/micro`: 1100 steps of the image tower, 2200 of CLIP,
7500 of BLIP, on two CPU cores. BLIP sees stronger augmentation (pictures hollowed out to their
borders, gratings, paler colours, light that changes) than CLIP does.
"""
LIMITS = "It understands microworld and nothing else: on other videos its output means nothing."


def said(text: str, words: dict[str, str]) -> str | None:
    """Return what a caption says, by its longest matching phrase."""
    found = [phrase for phrase in words if f" {phrase} " in f" {text} "]
    return words[max(found, key=len)] if found else None


def captioner_accuracy(domain: str, videos: int) -> dict[str, float]:
    """Return the share of right colours, shapes, both, and actions."""
    colours = {word: name for name, words in COLOUR_WORDS.items() for word in words}
    shapes = {word: name for name, words in SHAPE_WORDS.items() for word in words}
    actions = {w: name for name, pairs in ACTION_WORDS.items() for pair in pairs for w in pair}
    captioner = load_captioner("micro")
    views, events = [], []
    for index in range(videos):
        scene, _ = plan_video(domain, "val", 1, index)
        renderer = Renderer(scene)
        for event in scene.events:
            times = event.start + (event.end - event.start) * (np.arange(4) + 0.5) / 4
            views.append(strip(np.stack([renderer.frame(float(t)) for t in times])))
            events.append(event)
    hits = []
    for caption, event in zip(captioner.caption(views), events, strict=True):
        colour = said(caption, colours) == event.thing.colour
        shape = said(caption, shapes) == event.thing.shape
        hits.append((colour, shape, colour and shape, said(caption, actions) == event.action))
    return dict(zip(("colour", "shape", "object", "action"), np.mean(hits, 0), strict=True))


def clip_accuracy(domain: str, videos: int) -> float:
    """Return how often the right one of all names fits a frame with one thing best."""
    clip = load_backbone("micro")
    names = [(c, s) for c in COLOURS for s in SHAPES]
    texts = [f"a video of a {c} {SHAPE_WORDS[s][0]}" for c, s in names]
    text = clip.encode_text(texts).pooled
    right = []
    for index in range(videos):
        scene, _ = plan_video(domain, "val", 1, index)
        if scene.distractors:
            continue
        renderer = Renderer(scene)
        for event in scene.events:
            picture = Image.fromarray(renderer.frame((event.start + event.end) / 2))
            small = np.asarray(picture.resize((64, 64), Image.Resampling.BICUBIC))
            with torch.no_grad():
                best = int((clip.encode_frames(small[None]) @ text.T).argmax())
            right.append(names[best] == (event.thing.colour, event.thing.shape))
    return float(np.mean(right))


def main() -> None:
    """Print the tables and write them into the model cards."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=40, help="validation videos per domain")
    args = parser.parse_args()
    clip = [f"| domain | object (1 of {len(COLOURS) * len(SHAPES)}) |", "|---|---|"]
    blip = ["| domain | colour | shape | object | action (1 of 12) |", "|---|---|---|---|---|"]
    for domain in LOOKS:
        clip.append(f"| {domain} | {clip_accuracy(domain, args.videos):.2f} |")
        cells = captioner_accuracy(domain, args.videos).values()
        blip.append(f"| {domain} | " + " | ".join(f"{value:.2f}" for value in cells) + " |")
    for name, what, table in (
        ("clip", "an open_clip model", clip),
        ("blip", "a BLIP captioner for 2 x 2 strips of frames", blip),
    ):
        rows = "\n".join(table)
        text = (
            f"# micro {name}\n\nA small {what.removeprefix('a ').removeprefix('an ')}, pre-trained "
            f"on rendered microworld `studio` pictures. Apache-2.0.\n{LIMITS}\n\n## Measured\n\n"
            f"`python scripts/measure_micro.py --videos {args.videos}`, validation videos:\n\n"
            f"{rows}\n\n## Made by\n\n{MADE_BY}"
        )
        print(text)
        write_text(MICRO_FOLDER.parent / name / "README.md", text)


if __name__ == "__main__":
    main()
