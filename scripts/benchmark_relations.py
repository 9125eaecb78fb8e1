"""Sentences that relate two moments in time: read into parts, against read as a whole.

    python scripts/benchmark_relations.py --features frames.safetensors \
        --annotations charades_sta_test.txt --durations Charades_v1_test.csv.gz \
        --model ViT-L-14/openai --out runs/relations

Charades-STA has next to no such sentence, so they are made: two queries of one video whose windows
share nothing are joined by "before", "after" and "then", two whose windows have an IoU of .3 or
more by "while". The window that is meant is that of the main clause; of "then", from the start of
the first to the end of the second. FEATURES is as for `benchmark_charades.py`. On microworld's
development domain the sentences are its own relation queries, and made ones: "X for the second
time" and "X but not the small X" of things that come back. Nothing is trained.

Rows: the sentence as a whole; its main part alone; its parts; its parts with the other one replaced
by a sentence of another video, so that what is left is where in the video a "before" is; the whole
video. Intervals are paired bootstraps over videos. Without FEATURES microworld is asked alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path

import numpy as np
from film import features_of
from worlds import World, options, worlds_of

from zsvg.backbones.clip import load_backbone
from zsvg.cli.terminal import progress, say, table
from zsvg.datasets import convert
from zsvg.evaluation.intervals import gain
from zsvg.evaluation.protocols.by_name import cut_to_video
from zsvg.features.from_files import FeatureFiles
from zsvg.files import write_json
from zsvg.grounding.answers import EncodedVideo
from zsvg.grounding.grounder import Grounder
from zsvg.microworld.domains import look_of
from zsvg.microworld.language import WORDINGS, Wording, noun_phrase
from zsvg.microworld.script import Scene
from zsvg.microworld.world import plan_video
from zsvg.moments import iou
from zsvg.records import Annotation, read_annotations

TEMPLATES = {"before": "{a} before {b}.", "after": "{b} after {a}.", "then": "{a}, then {b}."}
TOGETHER = 0.3  # IoU of windows from which on two queries happen at once
ROWS = ("as a whole", "main part alone", "parts", "the other part of another video", "whole video")
ORDINALS = ("first", "second", "third", "fourth", "fifth")


@dataclass(frozen=True)
class Asked:
    """A sentence, what it means, and a sentence of another video."""

    group: str
    video: str
    sentence: str
    windows: tuple[tuple[float, float], ...]
    foreign: str


def joined(records: Sequence[Annotation]) -> Iterator[Asked]:
    """Join pairs of queries of each video."""
    by_video: dict[str, list[Annotation]] = {}
    for record in records:
        by_video.setdefault(record.vid, []).append(record)
    others = dict(zip(by_video, [*list(by_video)[1:], next(iter(by_video))], strict=True))
    for vid, own in by_video.items():
        foreign = by_video[others[vid]][0].query
        for one, two in permutations(own, 2):
            a, b = one.query.rstrip(" ."), two.query.rstrip(" .")
            (start, end), (begin, stop) = one.relevant_windows[0], two.relevant_windows[0]
            shared = float(iou([(start, end)], [(begin, stop)])[0, 0])
            if end <= begin:
                meant = {"before": (start, end), "after": (begin, stop), "then": (start, stop)}
                for word, pattern in TEMPLATES.items():
                    yield Asked(word, vid, pattern.format(a=a, b=b), (meant[word],), foreign)
            elif TOGETHER <= shared < 1 and a != b:
                yield Asked("while", vid, f"{a} while {b}.", ((start, end),), foreign)


def told(world: World) -> Iterator[Asked]:
    """Return a world's relation queries and made sentences."""
    clips = world.videos("test")
    records = read_annotations(world.folder / "test" / "annotations.jsonl")
    # Another thing of another scene: the first query of the next video.
    first = {record.vid: record.query for record in reversed(records)}
    others = dict(zip(first, [*list(first)[1:], next(iter(first))], strict=True))
    for record in records:
        if record.extra["kind"] == "relation":
            timed = {"before", "after"} & set(record.query.split())
            for group in ("relation queries", *(["before, after"] if timed else [])):
                windows = tuple(record.relevant_windows)
                yield Asked(group, record.vid, record.query, windows, first[others[record.vid]])
    wording = WORDINGS[look_of(world.domain).wording]
    wording = replace(wording, articles=wording.articles[-1:])
    for index in range(len(clips)):
        scene, labels = plan_video(world.domain, "test", world.seed, index)
        yield from recurring(scene, wording, first[others[labels[0].vid]])


def recurring(scene: Scene, wording: Wording, foreign: str) -> Iterator[Asked]:
    """Ask for the times of things that come back, and for a thing where it is not small.

    Args:
        scene: The script of a video.
        wording: How its domain speaks, with one article.
        foreign: A sentence of another video.
    """
    (article,), vid = wording.articles, scene.vid
    for thing in dict.fromkeys(event.thing for event in scene.events):
        own = [event for event in scene.events if event.thing == thing]
        if len(own) < 2:
            continue
        rng = np.random.default_rng(0)
        noun = noun_phrase(rng, thing, wording)
        for event, ordinal in zip(own, ORDINALS, strict=False):
            sentence = f"{noun} for the {ordinal} time"
            yield Asked("nth", vid, sentence, ((event.start, event.end),), foreign)
        large = [(event.start, event.end) for event in own if event.size == "large"]
        if large and len(large) < len(own):
            small = noun.replace(article, f"{article} small", 1)
            yield Asked("but not", vid, f"{noun} but not {small}", tuple(large), foreign)


def answers(grounder: Grounder, video: EncodedVideo, one: Asked) -> list[float]:
    """Return the IoU of the first moment by each of `ROWS`."""
    parts = grounder.parts(one.sentence)
    curves = {text: whole(grounder, video, text) for text in {*parts.texts, one.foreign}}
    main = grounder.read(video, curves[parts.main], 1)[0]
    read = grounder.read_sentence(video, one.sentence, curves).moments[0]
    if parts.other:
        curves[parts.other] = curves[one.foreign]
    misled = grounder.read_sentence(video, one.sentence, curves).moments[0]
    as_whole = grounder.read(video, whole(grounder, video, one.sentence), 1)[0]
    spans = [(m.start, m.end) for m in (as_whole, main, read, misled)]
    spans.append((0.0, video.duration))
    return [float(row.max()) for row in iou(spans, one.windows)]


def whole(grounder: Grounder, video: EncodedVideo, sentence: str) -> np.ndarray:
    """Return the curve of a sentence as a whole, (T,)."""
    text = grounder.encode_query(sentence).pooled[0].cpu().numpy()
    return grounder.backbone.relevance(video.frames.features, text)


def measured(
    name: str, grounder: Grounder, asked: Iterable[Asked], videos: Mapping[str, Path], cache: Path
) -> dict[str, dict[str, list[float]]]:
    """Return group -> row -> IoU of each sentence, and "vids", the videos."""
    found: dict[str, dict[str, list]] = {}
    listed = sorted(asked, key=lambda one: one.video)
    encoded: EncodedVideo | None = None
    with progress(name, len(listed)) as advance:
        for done, one in enumerate(listed, 1):
            if encoded is None or encoded.vid != one.video:
                encoded = grounder.encode(videos[one.video], cache=cache)
            rows = found.setdefault(one.group, {row: [] for row in (*ROWS, "vids")})
            for row, value in zip(ROWS, answers(grounder, encoded, one), strict=True):
                rows[row].append(value)
            rows["vids"].append(f"{name} {one.video}")
            advance(done)
    return found


def main() -> None:
    """Ask, print the table, and write it."""
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--features", type=Path)
    parser.add_argument("--annotations", type=Path)
    parser.add_argument("--durations", type=Path)
    parser.add_argument("--model")
    args = parser.parse_args()
    found: dict[str, dict[str, list]] = {}
    if args.features is not None:
        found |= {f"film, {group}": rows for group, rows in film(args).items()}
    for world in worlds_of(args):
        grounder, name = Grounder(world.backbone), f"{world.domain}-{world.seed}"
        own = measured(name, grounder, told(world), world.videos("test"), world.folder / "features")
        for group, rows in own.items():
            kept = found.setdefault(f"drawings, {group}", {row: [] for row in rows})
            for row, values in rows.items():
                kept[row] += values
    report(found, args.out)


def film(args: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Return what the joined queries of Charades-STA give."""
    records = convert("charades-sta", args.annotations, durations=args.durations).records
    files = FeatureFiles(features_of(args.features, args.out))
    records = [record for record in cut_to_video(records) if record.vid in files]
    backbone = load_backbone(args.model, "cpu")
    durations = {record.vid: record.duration for record in records}
    files = backbone.files = replace(files, durations=durations)
    return measured("film", Grounder(backbone), joined(records), files, args.out / "features")


def report(found: Mapping[str, Mapping[str, list]], out: Path) -> None:
    """Print and write mIoU, R1@0.5 and the gain over the sentence as a whole."""
    lines, kept = [], {}
    for group, rows in found.items():
        base = np.array(rows[ROWS[0]])
        say(f"{group}: {len(base)} sentences of {len(set(rows['vids']))} videos")
        for row in ROWS:
            values = np.array(rows[row])
            mean, low, high = (100 * value for value in gain(values, base, rows["vids"]))
            numbers = (100 * float(values.mean()), 100 * float((values >= 0.5).mean()))
            kept[f"{group}, {row}"] = {
                "mIoU": numbers[0],
                "R1@0.5": numbers[1],
                "gain": [mean, low, high],
                "sentences": len(base),
            }
            lines.append((group, row, *(f"{number:.1f}" for number in numbers),
                          f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"))  # fmt: skip
    table(("sentences", "row", "mIoU", "R1@.5", "mIoU less as a whole"), lines)
    write_json(out / "results.json", kept)


if __name__ == "__main__":
    main()
