"""Refused as "no such moment": how many absent sentences, and how many present ones.

    python scripts/benchmark_absence.py RUN [RUN ...]

RUN is a folder of `zsvg quickstart`. Its test videos are asked their own sentences of actions, and
as many of other test videos that nothing in this one does: `hard` ones are about a thing that is
there but does something else, `easy` ones about a thing that is not there at all. The script of the
scene says so, not a model. A model refuses by the threshold that its tuning set (`zsvg.presence`);
beside that stands what the best threshold in hindsight would refuse at the same loss, and the area
under the ROC curve (50: the score knows nothing).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zsvg.grounder import Grounder, load
from zsvg.microworld.script import Scene
from zsvg.microworld.world import plan_video
from zsvg.model_folder import detach_adapters
from zsvg.records import Annotation
from zsvg.terminal import table
from zsvg.video import find_videos

MODELS = ("zero-labels", "supervised")
ASKED = 10  # sentences of each sort per video at most


def kind_of_absence(scene: Scene, asked: Scene, record: Annotation) -> str | None:
    """Return "hard" or "easy" where nothing in a scene does what another scene's record says."""
    event = asked.events[record.extra["event"]]
    if any(e.thing == event.thing and e.action == event.action for e in scene.events):
        return None
    things = [e.thing for e in scene.events] + [d.thing for d in scene.distractors]
    return "hard" if event.thing in things else "easy"


def questions(
    planned: Sequence[tuple[Scene, list[Annotation]]], seed: int
) -> dict[str, dict[str, list[str]]]:
    """Return vid -> sort -> sentences; the sorts are "present", "hard" and "easy"."""
    rng = np.random.default_rng([seed, 5])
    actions = [(s, a) for s, many in planned for a in many if a.extra["kind"] == "action"]
    found = {}
    for scene, own in planned:
        sorts: dict[str, list[str]] = {"hard": [], "easy": []}
        for index in rng.permutation(len(actions)):
            other, record = actions[index]
            sort = kind_of_absence(scene, other, record)
            if sort and len(sorts[sort]) < ASKED and record.query not in sorts[sort]:
                sorts[sort].append(record.query)
        present = [a.query for a in own if a.extra["kind"] == "action"]
        found[scene.vid] = {"present": present, **sorts}
    return found


def area(present: np.ndarray, absent: np.ndarray) -> float:
    """Return the probability that a present one scores above an absent one."""
    higher = (present[:, None] > absent).mean()
    return float(higher + 0.5 * (present[:, None] == absent).mean())


def measure(grounder: Grounder, folder: Path, asked: dict[str, dict[str, list[str]]]) -> Any:
    """Return sort -> (scores of the best answers, whether they are called absent)."""
    videos = find_videos(folder / "test" / "videos")
    found: dict[str, list[tuple[float, bool]]] = {"present": [], "hard": [], "easy": []}
    for vid, sorts in asked.items():
        video = grounder.encode(videos[vid], cache=folder / "features")
        for sort, sentences in sorts.items():
            for sentence in sentences:
                answer = grounder.ground(video, sentence, top_k=1)
                found[sort].append((answer.moments[0].score, answer.absent))
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
            about = json.loads((folder / "results.json").read_text(encoding="utf-8"))
            planned = [
                plan_video(about["domain"], "test", about["seed"], index)
                for index in range(about["test_videos"])
            ]
            tuned = load(folder / MODELS[0])
            grounder = Grounder(tuned.backbone) if name == "training-free" else load(folder / name)
            found = measure(grounder, folder, questions(planned, about["seed"]))
            (present, lost), line = found["present"], []
            share = lost.mean() if lost.any() else 0.1
            threshold = np.quantile(present, share)
            for sort in ("hard", "easy"):
                scores, refused = found[sort]
                best = (scores < threshold).mean()
                line += [refused.mean(), best, area(present, scores)]
            values.append([lost.mean(), *line])
            detach_adapters(tuned.backbone)
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
        title=f"{len(args.runs)} runs; in hindsight at the same loss, or at 10 % where none is set",
    )  # fmt: skip


if __name__ == "__main__":
    main()
