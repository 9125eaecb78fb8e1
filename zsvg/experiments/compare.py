"""A grid of tuning runs on one's own data, beside answers that need no training.

Every run leaves one small file, named after what it is and the hash of all that decides it, and is
not made again while that is there. A run that fails is reported; the others go on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import zsvg
from zsvg.backbones.base import TunableBackbone
from zsvg.errors import RecordError, ZsvgError, told
from zsvg.evaluation.baselines import exchanged
from zsvg.evaluation.metrics import evaluate
from zsvg.files import sha256_json, write_json
from zsvg.grounding.grounder import Grounder
from zsvg.grounding.load import load
from zsvg.grounding.model_folder import detach_adapters
from zsvg.grounding.prediction import predict
from zsvg.records import Annotation
from zsvg.training.labels import shots
from zsvg.training.options import TuneOptions
from zsvg.training.recipes import Recipe
from zsvg.training.supervision import LEVELS
from zsvg.training.tune import tune

TRAINING_FREE, LANGUAGE_FREE = "training-free", "language-free"
SUPERVISION = (TRAINING_FREE, LANGUAGE_FREE, *reversed(list(LEVELS)))
"""From the least that labels tell to the most; the two first see no annotation."""
CONTROLS = ("query-blind", "permuted")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One model to train and test.

    Attributes:
        supervision: One of `SUPERVISION`.
        recipe: What to train; None where nothing is.
        shots: Labels of so many videos, drawn by the seed; None takes all.
        seed: Of everything.
        blind: Never read the sentences: the control that sees only videos.
    """

    supervision: str = TRAINING_FREE
    recipe: Recipe | None = None
    shots: int | None = None
    seed: int = 0
    blind: bool = False

    @property
    def group(self) -> tuple[str, str, int | None]:
        """Method, supervision and shots: what runs of several seeds have in common."""
        return self.method, self.supervision, self.shots

    @property
    def method(self) -> str:
        """What the first column of the table says."""
        if self.recipe is None:
            return TRAINING_FREE
        return f"{'query-blind ' * self.blind}{self.recipe.name} + {self.recipe.head.kind}"

    @property
    def name(self) -> str:
        """What its files are called."""
        if self.recipe is None:
            return TRAINING_FREE
        parts = [self.recipe.name, self.recipe.head.kind, self.supervision]
        parts += [f"{self.shots}-videos"] * (self.shots is not None) + ["blind"] * self.blind
        return "_".join([*parts, f"seed-{self.seed}"])


@dataclass(frozen=True, kw_only=True)
class Material:
    """What all runs of a grid share.

    Attributes:
        labels: To train on.
        annotations: To test on.
        videos: vid -> file, of labels and pseudo labels.
        test_videos: vid -> file, of annotations.
        backbone: The frozen CLIP, without prompts.
        pseudo: Pseudo labels of the same videos as `labels`, for "language-free".
        options: Sampling and precision; seed and supervision are the runs'.
        cache: Folder of frame features.
    """

    labels: Sequence[Annotation]
    annotations: Sequence[Annotation]
    videos: Mapping[str, Path]
    test_videos: Mapping[str, Path]
    backbone: TunableBackbone
    pseudo: Sequence[Annotation] = ()
    options: TuneOptions = field(default_factory=TuneOptions)
    cache: Path | None = None


def grid(
    recipes: Sequence[Recipe],
    *,
    heads: Sequence[str] = (),
    supervision: Sequence[str] = (TRAINING_FREE, "full"),
    shot_counts: Sequence[int | None] = (None,),
    seeds: Sequence[int] = (0,),
    blind: bool = False,
) -> list[Run]:
    """Lay out all combinations, from the least supervision to the most.

    Args:
        recipes: With names of their own.
        heads: Kinds of head to give each recipe; none leaves each its own.
        supervision: Some of `SUPERVISION`.
        shot_counts: Numbers of labelled videos; None is all of them. Pseudo labels are never cut.
        seeds: Of each combination.
        blind: Add the query-blind control of each recipe and head, at the most supervision.

    Raises:
        ZsvgError: An unknown supervision, nothing to do, or two recipes of one name.
    """
    if unknown := [level for level in supervision if level not in SUPERVISION]:
        raise ZsvgError(
            f"supervision {unknown[0]!r} is unknown; choose some of {', '.join(SUPERVISION)}"
        )
    names = [recipe.name for recipe in recipes]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ZsvgError(f"two recipes are called {twice[0]!r}; give one another name")
    levels = [level for level in SUPERVISION if level in supervision]
    trained = [level for level in levels if level != TRAINING_FREE]
    models = [
        recipe.with_head(kind) for recipe in recipes for kind in (heads or (recipe.head.kind,))
    ]
    runs = [Run()] if TRAINING_FREE in levels else []
    if blind and trained:
        runs += [
            Run(supervision=trained[-1], recipe=model, seed=seed, blind=True)
            for model, seed in product(models, seeds)
        ]
    for level, model, count, seed in product(trained, models, shot_counts, seeds):
        if level == LANGUAGE_FREE:
            count = None
        runs.append(Run(supervision=level, recipe=model, shots=count, seed=seed))
    if not runs:
        raise ZsvgError("there is nothing to compare; name a recipe and a supervision")
    return list({run.name: run for run in runs}.values())


def check(runs: Sequence[Run], material: Material) -> list[str]:
    """Check what all runs need; return lines that a reader of the results should know.

    Raises:
        RecordError: A tested video is not there, or a query of it has no window.
        ZsvgError: Labels are missing that a run asks for.
    """
    asked = {run.supervision for run in runs}
    if LANGUAGE_FREE in asked and not material.pseudo:
        raise ZsvgError("supervision 'language-free' trains on pseudo labels; give --pseudo")
    if lost := sorted({a.vid for a in material.annotations} - set(material.test_videos)):
        raise RecordError(f"{lost[0]}: a query asks for it, but the video is not in the folder")
    evaluate([], material.annotations)
    tested = {a.vid for a in material.annotations}
    trained = {a.vid for a in (*material.labels, *material.pseudo)}
    if both := tested & trained:
        return [
            f"warning: {len(both)} of {len(tested)} tested videos are also trained on; the rows "
            "that are trained do not tell how others are answered"
        ]
    return []


def result_file(run: Run, material: Material, out: Path) -> Path:
    """Return where a run's result lies: equal settings and data, equal file."""
    given = [asdict(a) for a in _labels(run, material)]
    identity = sha256_json(
        [
            zsvg.__version__,
            asdict(replace(run, recipe=None)) | {"recipe": run.recipe and run.recipe.model_dump()},
            sha256_json(given),
            sha256_json([asdict(a) for a in material.annotations]),
            material.backbone.fingerprint,
            asdict(material.options),
        ]
    )
    return out / "runs" / f"{run.name}_{identity[:8]}.json"


def compare(
    runs: Sequence[Run],
    material: Material,
    out: str | Path,
    *,
    on_run: Callable[[Run, Mapping[str, Any] | None, str], None] | None = None,
) -> tuple[list[tuple[Run, dict[str, Any]]], dict[str, str]]:
    """Train and test what has no result yet.

    Args:
        runs: As `grid` lays them out.
        material: What they share.
        out: Folder of results (`runs/`) and models (`models/`).
        on_run: Called after each run with its result, or None and why there is none.

    Returns:
        Runs with their results (JSON values: "level", "labels", "labelled_videos", "metrics",
        "permuted" and "unreadable"), and name -> why it failed of the others.

    Raises:
        RecordError: As `check`.
        ZsvgError: As `check`.
    """
    check(runs, material)
    out = Path(out)
    results, failures = [], {}
    for run in runs:
        file, why = result_file(run, material, out), ""
        try:
            if not file.exists():
                # Called as the result is: runs of other settings or data have models of their own.
                write_json(file, measure(run, material, out / "models" / file.stem))
            results.append((run, json.loads(file.read_text(encoding="utf-8"))))
        except Exception as error:  # whatever stops one run, hours of others should not be lost
            why = told(error)
            failures[run.name] = why
        if on_run:
            on_run(run, None if why else results[-1][1], why)
    return results, failures


def measure(run: Run, material: Material, folder: Path) -> dict[str, Any]:
    """Train one run's model into `folder` and test it; return its result as JSON values."""
    backbone, options = material.backbone, material.options
    about: dict[str, Any] = {"level": TRAINING_FREE, "labels": 0, "labelled_videos": 0}
    unreadable: dict[str, str] = {}
    try:
        if run.recipe is None:
            grounder = Grounder(backbone, fps=options.fps, framing=options.framing)
        else:
            given = _labels(run, material)
            level = "full" if run.supervision == LANGUAGE_FREE else run.supervision
            outcome = tune(
                given,
                material.videos,
                backbone,
                folder,
                recipe=run.recipe,
                options=replace(options, seed=run.seed, supervision=level),  # type: ignore[arg-type]
                cache=material.cache,
                query_blind=run.blind,
            )
            unreadable |= outcome.failures
            videos = {a.vid for a in given}
            about = {"level": outcome.level, "labels": len(given), "labelled_videos": len(videos)}
            grounder = load(folder, backbone=backbone)
        answers, failures = predict(
            grounder,
            material.annotations,
            material.test_videos,
            cache=material.cache,
            allow_truncated=options.allow_truncated,
        )
    finally:
        detach_adapters(backbone)
    if failures and not answers:
        raise ZsvgError(f"nothing that is tested can be answered: {next(iter(failures.values()))}")
    return {
        "run": run.name,
        **about,
        "metrics": evaluate(answers, material.annotations),
        "permuted": evaluate(exchanged(answers, material.annotations), material.annotations),
        "unreadable": unreadable | failures,
    }


def _labels(run: Run, material: Material) -> list[Annotation]:
    if run.recipe is None:
        return []
    if run.supervision == LANGUAGE_FREE:
        return list(material.pseudo)
    if run.shots is None:
        return list(material.labels)
    return shots(material.labels, run.shots, run.seed)
