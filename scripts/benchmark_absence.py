"""Refused as "no such moment": how many absent sentences, and how many present ones.

    python scripts/benchmark_absence.py RUN [RUN ...]

RUN is a folder of `zsvg quickstart`, or OUT/DOMAIN-SEED of `compare_heads.py` after its regression
head has run at the levels `captions` and `full`. Each event of its test videos is asked by its
action; `hard` are the same sentences with another verb, of something that the same thing does not
do in the video, and `easy` ones are of other videos and of things that are not in this one at all.
The script of the scene says so, not a model. A model refuses by the threshold that its tuning set
(`zsvg.grounding.presence`); beside that stands what the best threshold in hindsight would refuse at
a loss of 10 %, and the area under the ROC curve (50: it knows nothing). Without training there is
only the best answer's score.

Probabilities are judged by the Brier score and the expected calibration error (ten bins). As in
tuning, half of the weight is on sentences that are there, a quarter on hard and a quarter on easy
ones, so that who always says one half has a Brier score of .25, and nobody who always says the same
has a lower one.

All numbers are means over runs, with 95 % bootstrap intervals: of every run, videos are drawn with
all their sentences. Each run leaves what was answered in RUN/absence.json, and is not asked again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from benchmark_microworld import action_pairs
from numpy.typing import ArrayLike, NDArray
from worlds import TEST_VIDEOS

from zsvg.backbones.clip import ClipBackbone, load_backbone
from zsvg.cli.terminal import table
from zsvg.files import write_json
from zsvg.grounding.grounder import Grounder
from zsvg.grounding.load import load
from zsvg.grounding.model_folder import detach_adapters
from zsvg.microworld.world import plan_video
from zsvg.video.finding import find_videos

MODELS = ("zero-labels", "supervised")
SHARES = {"present": 0.5, "hard": 0.25, "easy": 0.25}
BINS, DRAWS = 10, 1000

Draws: TypeAlias = NDArray[np.float64]


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


@dataclass(frozen=True)
class Answers:
    """What one model says in one run: of each sort, the video, the presence, and if it refuses."""

    video: Mapping[str, NDArray[np.int64]]
    presence: Mapping[str, NDArray[np.float64]]
    refused: Mapping[str, NDArray[np.bool_]]

    def mean(self, sort: str, values: ArrayLike, drawn: Draws) -> NDArray[np.float64]:
        """Return the mean of values (n, ...) of one sort in each draw, (K, ...)."""
        given = np.asarray(values, dtype=np.float64)
        sums = np.zeros((drawn.shape[1], *given.shape[1:]))
        np.add.at(sums, self.video[sort], given)
        counts = np.bincount(self.video[sort], minlength=drawn.shape[1])
        number = (drawn @ counts).reshape(-1, *[1] * (given.ndim - 1))
        found: NDArray[np.float64] = np.tensordot(drawn, sums, 1) / number
        return found

    def area(self, sort: str, drawn: Draws) -> NDArray[np.float64]:
        """Return the probability that a present one scores above an absent one, (K,)."""
        here, there = self.presence["present"], self.presence[sort]
        won = (here[:, None] > there) + 0.5 * (here[:, None] == there)
        videos = drawn.shape[1]
        rows, pairs = np.zeros((videos, len(there))), np.zeros((videos, videos))
        np.add.at(rows, self.video["present"], won)
        np.add.at(pairs.T, self.video[sort], rows.T)
        counts = [np.bincount(self.video[s], minlength=videos) for s in ("present", sort)]
        number = (drawn @ counts[0]) * (drawn @ counts[1])
        found: NDArray[np.float64] = np.einsum("kv,vu,ku->k", drawn, pairs, drawn) / number
        return found

    def measures(self, drawn: Draws) -> dict[str, NDArray[np.float64]]:
        """Return name -> (K,) of each draw; threshold in hindsight is that of all videos."""
        found = {"present: refused": self.mean("present", self.refused["present"], drawn)}
        threshold = np.quantile(self.presence["present"], 0.1)
        for sort in ("hard", "easy"):
            found[f"{sort}: refused"] = self.mean(sort, self.refused[sort], drawn)
            below = self.presence[sort] < threshold
            found[f"{sort}: refused at 10 % lost"] = self.mean(sort, below, drawn)
            found[f"{sort}: ROC area"] = self.area(sort, drawn)
        return found

    def sureness(self, drawn: Draws) -> dict[str, NDArray[np.float64]]:
        """Return the Brier score and the calibration error of each draw, (K,)."""
        brier, off = 0.0, 0.0
        for sort, share in SHARES.items():
            said = self.presence[sort]
            wrong = said - (sort == "present")
            place = np.minimum((said * BINS).astype(int), BINS - 1)
            brier = brier + share * self.mean(sort, wrong**2, drawn)
            off = off + share * self.mean(sort, wrong[:, None] * np.eye(BINS)[place], drawn)
        return {"Brier score": brier, "calibration error": np.abs(off).sum(axis=1)}


def ask(grounder: Grounder, folder: Path, asked: dict[str, dict[str, list[str]]]) -> Any:
    """Return sort -> (video's name, how well the best answer fits, whether it is refused)."""
    videos = find_videos(folder / "test" / "videos")
    found: dict[str, list[tuple[str, float, bool]]] = {sort: [] for sort in SHARES}
    for vid, sorts in asked.items():
        video = grounder.encode(videos[vid], cache=folder / "features")
        for sort, sentences in sorts.items():
            for sentence in sentences:
                answer = grounder.ground(video, sentence, top_k=1)
                best = answer.moments[0].score  # all there is without training
                fit = best if answer.presence is None else answer.presence
                found[sort].append((vid, fit, answer.absent))
    return found


def one_run(folder: Path, backbone: ClipBackbone) -> dict[str, Any]:
    """Return model -> what `ask` says, asking where nothing is written."""
    file = folder / "absence.json"
    said = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    domain, seed, videos, models = opened(folder)
    for name in ("training-free", *MODELS):
        if name in said or (name in models and not models[name].exists()):
            continue
        grounder = load(models[name], backbone=backbone) if name in models else Grounder(backbone)
        said[name] = ask(grounder, folder, questions(domain, seed, videos))
        detach_adapters(backbone)
        write_json(file, said)
    return said


def answers_of(said: Mapping[str, Any]) -> Answers:
    """Return what `ask` says as arrays; videos are numbered by name."""
    names = sorted({row[0] for rows in said.values() for row in rows})
    number = {name: place for place, name in enumerate(names)}
    return Answers(
        video={sort: np.array([number[row[0]] for row in rows]) for sort, rows in said.items()},
        presence={sort: np.array([row[1] for row in rows]) for sort, rows in said.items()},
        refused={sort: np.array([row[2] for row in rows]) for sort, rows in said.items()},
    )


def draws(videos: int, rng: np.random.Generator) -> Draws:
    """Return how often each video is in each draw, (1 + DRAWS, videos): once in the first."""
    chosen = rng.integers(videos, size=(DRAWS, videos))
    counts = np.stack([np.bincount(row, minlength=videos) for row in chosen])
    return np.concatenate((np.ones((1, videos)), counts))


def over(runs: Sequence[Answers], what: str, factor: float) -> dict[str, str]:
    """Return name -> mean over runs with its interval, as text."""
    rng = np.random.default_rng(0)
    each = []
    for run in runs:
        drawn = draws(1 + max(int(videos.max()) for videos in run.video.values()), rng)
        each.append(getattr(run, what)(drawn))
    told = {}
    for name in each[0]:
        values = factor * np.mean([one[name] for one in each], axis=0)
        low, high = np.percentile(values[1:], (2.5, 97.5))
        digits = 1 if factor > 1 else 3
        told[name] = f"{values[0]:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
    return told


def main() -> None:
    """Ask and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    args = parser.parse_args()
    backbone = load_backbone("micro")
    said = {folder: one_run(folder, backbone) for folder in args.runs}
    domains = {folder: opened(folder)[0] for folder in args.runs}
    found = {
        name: {folder: answers_of(run[name]) for folder, run in said.items() if name in run}
        for name in ("training-free", *MODELS)
    }
    rows = [
        (f"{name}, {len(runs)} runs", *over(list(runs.values()), "measures", 100).values())
        for name, runs in found.items()
        if runs
    ]
    header = ["present: refused"]
    for sort in ("hard", "easy"):
        header += [f"{sort}: refused", f"{sort}: refused at 10 % lost", f"{sort}: ROC area"]
    table(("percent", *header), rows, title="no such moment")
    rows = []
    for name in MODELS:
        for domain in (*dict.fromkeys(domains.values()), "all"):
            runs = [a for f, a in found[name].items() if domain in (domains[f], "all")]
            if runs and all(_likely(run) for run in runs):
                areas = over(runs, "measures", 100)
                sure = over(runs, "sureness", 1)
                rows.append((name, domain, *sure.values(), areas["hard: ROC area"]))
    table(("", "domain", "Brier score", "calibration error", "hard: ROC area"), rows,
          title="how likely it is (Brier score of one half: 0.250)")  # fmt: skip


def _likely(run: Answers) -> bool:
    """Whether presences are probabilities; older models have cosines."""
    return all(bool(((said >= 0) & (said <= 1)).all()) for said in run.presence.values())


if __name__ == "__main__":
    main()
