"""Search by example on real frames: moments with the same sentence in another video.

    python scripts/benchmark_examples.py --features frames.safetensors \
        --annotations charades_sta_test.txt --durations Charades_v1_test.csv.gz \
        --model ViT-L-14/openai --out runs/examples

FEATURES is what `scripts/benchmark_charades.py` takes. Every moment whose sentence is said of other
videos, too, is an example; moments of those videos with that sentence are what it should find. Two
questions: where in such a video (mIoU and R1, as of video re-localization), and which video of all
others (R@K of the first such one). Rows:

* by example: as `zsvg search --clip` answers;
* in step: the stretch that goes on as the example does, part for part;
* mean frame: clips by the cosine with the mean clip of the example, moments cut out of that; videos
  by their best clip;
* mean of both: videos by the cosine of the mean clips of example and video;
* examples exchanged: the answers to the example of another sentence;
* by its sentence: what the words find, beside it;
* whole video, and chance.

Intervals are paired bootstraps over the videos of the examples, against "mean frame".
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from film import features_of
from numpy.typing import NDArray

from zsvg import FeatureFiles
from zsvg.backbones.clip import load_backbone
from zsvg.cli.terminal import progress, say, table
from zsvg.datasets import convert
from zsvg.evaluation.intervals import gain
from zsvg.evaluation.protocols.by_name import cut_to_video
from zsvg.grounding.answers import EncodedVideo
from zsvg.grounding.grounder import Grounder
from zsvg.grounding.ranking import centred
from zsvg.library.example import Example, in_step, stored_example
from zsvg.moments import iou
from zsvg.records import Annotation

Answer = tuple[float, float, float]
"""How well a video fits, and its first moment, seconds."""
Ask = Callable[[Example, Annotation, EncodedVideo], Answer]


def by_example(grounder: Grounder) -> Ask:
    """Return what asks as the library does."""

    def ask(example: Example, _: Annotation, video: EncodedVideo) -> Answer:
        said = example.ask(grounder, video, 1)
        return said.fit, said.moments[0].start, said.moments[0].end

    return ask


def stretch(example: Example, _: Annotation, video: EncodedVideo) -> Answer:
    """Answer by the stretch that goes on as the example does."""
    fit, first, stop = in_step(centred(video.frames.features), example.centred)
    start, end = video.frames.edges[[first, stop]].tolist()
    return fit, start, end


def mean_frame(grounder: Grounder) -> Ask:
    """Return what asks by the mean clip of the example."""

    def ask(example: Example, _: Annotation, video: EncodedVideo) -> Answer:
        mean = example.rows.mean(axis=0)
        curve = video.frames.features @ (mean / np.linalg.norm(mean))
        moment = grounder.read(video, curve, 1)[0]
        return float(curve.max()), moment.start, moment.end

    return ask


def both_means(example: Example, _: Annotation, video: EncodedVideo) -> Answer:
    """Answer by the mean clips of both, with the whole video."""
    mean = video.frames.features.mean(axis=0)
    return float(mean @ example.rows.mean(axis=0) / np.linalg.norm(mean)), 0.0, video.duration


def sentence(grounder: Grounder) -> Ask:
    """Return what asks by the words."""

    def ask(_: Example, record: Annotation, video: EncodedVideo) -> Answer:
        said = grounder.ground(video, record.query, top_k=1)
        return said.fit, said.moments[0].start, said.moments[0].end

    return ask


def main() -> None:
    """Ask all examples of all videos, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("features", "annotations", "durations", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--model", required=True)
    args = parser.parse_args()

    found = convert("charades-sta", args.annotations, durations=args.durations).records
    files = FeatureFiles(features_of(args.features, args.out))
    records = [record for record in cut_to_video(found) if record.vid in files]
    backbone = load_backbone(args.model, "cpu")
    durations = {record.vid: record.duration for record in records}
    backbone.files = replace(files, durations=durations)
    grounder = Grounder(backbone)
    videos = {vid: grounder.encode(files[vid]) for vid in sorted(durations)}
    alike: dict[str, list[Annotation]] = defaultdict(list)
    for record in records:
        alike[re.sub(r"[^a-z ]", "", record.query.lower()).strip()].append(record)
    asked = [
        (record, [other for other in same if other.vid != record.vid])
        for same in alike.values()
        for record in same
    ]
    asked = [(record, others) for record, others in asked if others]
    examples = [
        stored_example(videos[record.vid].frames, *record.relevant_windows[0])
        for record, _ in asked
    ]
    say(f"{len(asked)} examples of {len({r.vid for r, _ in asked})} of {len(videos)} videos")
    # Another sentence's example, half of the list away.
    moved = [examples[(place + len(examples) // 2) % len(examples)] for place in range(len(asked))]
    rows: dict[str, tuple[list[Example], Ask]] = {
        "by example": (examples, by_example(grounder)),
        "in step": (examples, stretch),
        "mean frame": (examples, mean_frame(grounder)),
        "mean of both (whole video)": (examples, both_means),
        "examples exchanged": (moved, by_example(grounder)),
        "by its sentence": (examples, sentence(grounder)),
    }
    made: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    with progress("examples", len(rows) * len(asked)) as advance:
        for number, (name, (shown, ask)) in enumerate(rows.items()):
            overlaps, ranks = [], []
            for done, ((record, others), example) in enumerate(zip(asked, shown, strict=True), 1):
                answers = {
                    vid: ask(example, record, video)
                    for vid, video in videos.items()
                    if vid != record.vid
                }
                hits = [
                    float(iou(np.array([answers[o.vid][1:]]), np.array(o.relevant_windows)).max())
                    for o in others
                ]
                overlaps.append(hits)
                order = sorted(answers, key=lambda vid: -answers[vid][0])
                ranks.append(1 + min(order.index(other.vid) for other in others))
                advance(number * len(asked) + done)
            made[name] = (
                np.array([[np.mean([h >= x for h in hits]) for x in (0.3, 0.5, 0.7)]
                          + [np.mean(hits)] for hits in overlaps]),
                np.array(ranks),
            )  # fmt: skip
    vids, base = [record.vid for record, _ in asked], made["mean frame"]
    lines = []
    for name, (hits, ranks) in made.items():
        more = gain(100 * hits[:, 3], 100 * base[0][:, 3], vids)
        ahead = gain(100.0 * (ranks <= 10), 100.0 * (base[1] <= 10), vids)
        shown_gains = ("", "") if name == "mean frame" else (
            "{:+.1f} [{:+.1f}, {:+.1f}]".format(*more), "{:+.1f} [{:+.1f}, {:+.1f}]".format(*ahead)
        )  # fmt: skip
        places = [f"{100 * (ranks <= k).mean():.1f}" for k in (1, 10, 100)]
        lines.append(
            (name, *(f"{100 * x:.1f}" for x in hits.mean(axis=0)), shown_gains[0], *places,
             shown_gains[1])
        )  # fmt: skip
    chance = [
        100 * float(np.mean([1 - (1 - k / (len(videos) - 1)) ** len(o) for _, o in asked]))
        for k in (1, 10, 100)
    ]
    lines.append(("chance", "", "", "", "", "", *(f"{value:.1f}" for value in chance), ""))
    header = ("percent", "R1@.3", "R1@.5", "R1@.7", "mIoU", "less mean frame", "R@1", "R@10",
              "R@100", "R@10 less mean frame")  # fmt: skip
    table(header, lines)


if __name__ == "__main__":
    main()
