"""Refused as "no such moment": how many absent sentences, and how many present ones.

    python scripts/benchmark_absence.py RUN [RUN ...]

RUN is a folder of `zsvg quickstart`, or OUT/DOMAIN-SEED of `compare_heads.py` after its regression
head has run at the levels `captions` and `full`. Each event of its test videos is asked by its
action; `hard` are the same sentences with another verb, of something that the same thing does not
do in the video, and `easy` ones are of other videos and of things that are not in this one at all.
The script of the scene says so, not a model. A model refuses by the threshold that its tuning set
(`zsvg.grounding.presence_threshold`); beside that stands what the best threshold in hindsight would
refuse at a loss of 10 %, and the area under the ROC curve (50: it knows nothing). Without training
there is only the best answer's score.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_microworld import action_pairs
from worlds import TEST_VIDEOS

from zsvg.backbones.clip import load_backbone
from zsvg.cli.terminal import table
from zsvg.grounding.grounder import Grounder
from zsvg.grounding.load import load
from zsvg.microworld.world import plan_video
from zsvg.video.finding import find_videos

MODELS = ("zero-labels", "supervised")


def questions(domain: str, seed: int, videos: int) -> dict[str, dict[str, list[str]]]:
    """Return vid -> sort -> sentences; the sorts are "present", "hard" and "easy"."""
    scenes = [plan_video(domain, "test", seed, index)[0] for index in range(videos)]
    known = {scene.vid: scene for scene in scenes}
    found: dict[str, dict[str, list[str]]] = {
        vid: {"present": [], "hard": [], "easy": []} for vid in known
    }
    pairs = action_pairs(domain, seed, videos)
    for true, other in pairs:
        found[true.vid]["present"].append(true.query)
        found[true.vid]["hard"].append(other.query)
    rng = np.random.default_rng([seed, 5])
    for vid, scene in known.items():
        there = {event.thing for event in scene.events} | {d.thing for d in scene.distractors}
        absent = [
            true.query
            for true, _ in pairs
            if known[true.vid].events[true.extra["event"]].thing not in there
        ]
        count = len(found[vid]["present"])
        found[vid]["easy"] = [absent[i] for i in rng.permutation(len(absent))[:count]]
    return found


def opened(folder: Path) -> tuple[str, int, int, dict[str, Path]]:
    """Return domain, seed, number of test videos, and where each of `MODELS` is."""
    file = folder / "results.json"
    if file.is_file():
        about = json.loads(file.read_text(encoding="utf-8"))
        places = {name: folder / name for name in MODELS}
        return about["domain"], about["seed"], about["test_videos"], places
    about = json.loads((folder / "trivial.json").read_text(encoding="utf-8"))
    levels = zip(MODELS, ("captions", "full"), strict=True)
    places = {name: folder / "models" / f"regression {level}" for name, level in levels}
    return about["domain"], about["seed"], TEST_VIDEOS, places


def area(present: np.ndarray, absent: np.ndarray) -> float:
    """Return the probability that a present one scores above an absent one."""
    higher = (present[:, None] > absent).mean()
    return float(higher + 0.5 * (present[:, None] == absent).mean())


def measure(grounder: Grounder, folder: Path, asked: dict[str, dict[str, list[str]]]) -> Any:
    """Return sort -> (how well the best answers fit, whether they are called absent)."""
    videos = find_videos(folder / "test" / "videos")
    found: dict[str, list[tuple[float, bool]]] = {"present": [], "hard": [], "easy": []}
    for vid, sorts in asked.items():
        video = grounder.encode(videos[vid], cache=folder / "features")
        for sort, sentences in sorts.items():
            for sentence in sentences:
                answer = grounder.ground(video, sentence, top_k=1)
                best = answer.moments[0].score  # all there is without training
                fit = best if answer.presence is None else answer.presence
                found[sort].append((fit, answer.absent))
    return {sort: np.array(rows, dtype=np.float64).T for sort, rows in found.items()}


def main() -> None:
    """Ask and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    args = parser.parse_args()
    rows = []
    for name in ("training-free", *MODELS):
        values = []
        for folder in args.runs:
            domain, seed, videos, models = opened(folder)
            grounder = load(models[name]) if name in models else Grounder(load_backbone("micro"))
            found = measure(grounder, folder, questions(domain, seed, videos))
            (present, lost), line = found["present"], []
            threshold = np.quantile(present, 0.1)
            for sort in ("hard", "easy"):
                scores, refused = found[sort]
                best = (scores < threshold).mean()
                line += [refused.mean(), best, area(present, scores)]
            values.append([lost.mean(), *line])
        mean = 100 * np.mean(values, axis=0)
        rows.append((name, *(f"{value:.1f}" for value in mean)))
    table(
        (
            "percent",
            "true ones lost",
            *(f"{sort}: {what}" for sort in ("hard", "easy")
              for what in ("refused", "in hindsight", "ROC area")),
        ),
        rows,
        title=f"{len(args.runs)} runs; in hindsight: at a loss of 10 %",
    )  # fmt: skip


if __name__ == "__main__":
    main()
