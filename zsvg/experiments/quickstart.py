"""The whole path on a rendered domain that nobody labelled, measured against its truth.

Order matters: the unlabelled videos are rendered without annotations, labelled and learned from
before the test videos and their truth exist on disk.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zsvg.backbones.captioner import load_captioner
from zsvg.backbones.clip import ClipBackbone, load_backbone
from zsvg.errors import ZsvgError
from zsvg.evaluation import baselines
from zsvg.evaluation.metrics import as_percent, evaluate
from zsvg.experiments.quickstart_report import NOTES, write_quickstart_report
from zsvg.files import write_json
from zsvg.grounding.grounder import Grounder
from zsvg.grounding.load import load
from zsvg.grounding.prediction import predict
from zsvg.label.run import default_options, pseudo_label
from zsvg.microworld.domains import look_of
from zsvg.microworld.near_misses import with_near_misses
from zsvg.microworld.world import check_world, truth, write_world
from zsvg.records import (
    Annotation,
    Prediction,
    read_annotations,
    write_annotations,
    write_predictions,
)
from zsvg.report.run import REAL_GAP
from zsvg.training.options import History, TuneOptions
from zsvg.training.recipes import Recipe, load_recipe
from zsvg.training.tune import tune
from zsvg.video.finding import find_videos

Stage = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]

METHODS = tuple(NOTES)
# Chosen on the development domain: captions that fit loosely are wrong.
LABELS = default_options(min_score=0.3)
SETTINGS = "quickstart.json"
"""The file that says what a folder is for; a folder is for one run, which may be interrupted."""
_COLUMNS = ("R1@0.3", "R1@0.5", "R1@0.7", "R5@0.5", "mIoU")


@dataclass(frozen=True, kw_only=True)
class QuickstartResult:
    """What a run measured; the same values as `results.json`."""

    values: Mapping[str, Any]

    @property
    def queries(self) -> int:
        """Number of test queries."""
        return int(self.values["methods"]["zero-labels"]["queries"])

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return header and rows: recall and mean IoU."""
        methods = self.values["methods"]
        rows = [(n, *(as_percent(methods[n][column]) for column in _COLUMNS)) for n in METHODS]
        return ("method", *_COLUMNS), rows

    def kinds(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return header and rows: mean IoU per kind of query."""
        methods = self.values["methods"]
        kinds = sorted(methods["zero-labels"]["kinds"])
        rows = [
            (n, *(as_percent(methods[n]["kinds"][kind]["mIoU"]) for kind in kinds)) for n in METHODS
        ]
        return ("method", *kinds), rows

    def notes(self) -> list[str]:
        """Return what the table does not say."""
        methods = self.values["methods"]
        free, ours, full = (
            methods[name]["mIoU"] for name in ("training-free", "zero-labels", "supervised")
        )
        share = self.values["gap_closed"] if full - free >= REAL_GAP else None
        lines = [
            f"zero labels {100 * ours:.1f} mIoU, training-free {100 * free:.1f}, "
            f"supervised {100 * full:.1f}"
        ]
        if share is not None:
            lines[0] += f": {100 * share:.0f} % of the gap closed"
        else:
            lines.append("true labels hardly beat training-free here: there is no gap to close")
        if ours <= free:
            lines.append("warning: tuning without labels did not help on this domain and seed")
        lines.append(f"{self.values['seconds']:.0f} seconds")
        return lines


def supervised_recipe(recipe: Recipe, *, query_blind: bool = False) -> Recipe:
    """Return the recipe of the upper bound: the same head and prompts, trained to a plateau.

    True labels bear three times the steps of noisy ones (chosen on the development domain).
    Without the query the plateau comes within half of the recipe's own steps.
    """
    steps = recipe.training.steps
    return recipe.with_training(steps=max(1, steps // 2) if query_blind else 3 * steps)


def run(
    out: str | Path,
    *,
    domain: str,
    seed: int,
    stage: Stage,
    videos: int = 180,
    test_videos: int = 50,
    recipe_name: str = "coop",
    steps: int | None = None,
    report: bool = True,
) -> QuickstartResult:
    """Render, label, tune, ground and measure; write results.json and report.html.

    Args:
        out: Folder of everything this writes.
        domain: A microworld domain.
        seed: Seed of the world, the labels and the tuning.
        stage: Called with (name, total) for each stage; a context manager that yields a function
            taking how many are done.
        videos: Unlabelled videos to learn from.
        test_videos: Videos to measure on.
        recipe_name: The recipe of the tuned rows.
        steps: Steps of the zero-labels row instead of the recipe's; the others follow it.
        report: Write report.html too.

    Raises:
        ZsvgError: The domain is unknown, the folder is of a run with other settings, or the micro
            backbones are missing.
    """
    started = time.monotonic()
    look_of(domain)  # an unknown domain should not cost a minute first
    out = Path(out)
    clip = load_backbone("micro")
    recipe = load_recipe(recipe_name)
    if steps is not None:
        recipe = recipe.with_training(steps=steps)
    about = {"domain": domain, "seed": seed, "videos": videos, "test_videos": test_videos}
    _claim(out, {**about, "recipe": recipe_name, "steps": recipe.training.steps})
    cache = out / "features"

    def tuned(name: str, labels: Sequence[Annotation], recipe: Recipe) -> History:
        with stage(f"tuning: {name}", recipe.training.steps) as advance:
            outcome = tune(
                with_near_misses(labels, seed),
                clips,
                clip,
                out / name,
                recipe=recipe,
                options=TuneOptions(seed=seed),
                cache=cache,
                query_blind=name == "query-blind",
                on_step=lambda step, _loss: advance(step),
            )
        return outcome.history

    clips = find_videos(_render(out / "unlabelled", stage, domain, "train", seed, videos, False))
    labels = _label(out, clips, clip, stage, seed, cache)
    histories = {"zero-labels": tuned("zero-labels", labels, recipe)}

    test = _render(out / "test", stage, domain, "test", seed, test_videos, True)
    annotations = read_annotations(test.parent / "annotations.jsonl")
    true_labels = truth(domain, "train", seed, videos)
    for name in ("supervised", "query-blind"):
        full = supervised_recipe(recipe, query_blind=name == "query-blind")
        histories[name] = tuned(name, true_labels, full)

    answers = without_looking(annotations, labels, seed)
    grounders: dict[str, Grounder] = {"training-free": Grounder(clip)}
    for name in histories:
        grounders[name] = load(out / name, backbone=clip)
    test_clips = find_videos(test)
    for name, grounder in grounders.items():
        with stage(f"answering: {name}", len(annotations)) as advance:
            answers[name], _ = predict(
                grounder, annotations, test_clips, cache=cache, on_progress=advance
            )
    methods = {}
    for name in METHODS:
        path = out / "predictions" / f"{name}.jsonl"
        write_predictions(path, answers[name])
        methods[name] = evaluate(answers[name], annotations)
    result = QuickstartResult(
        values={
            **about,
            "pseudo_labels": len(labels),
            "seconds": round(time.monotonic() - started, 1),
            "methods": methods,
            "gap_closed": _gap(methods),
        }
    )
    write_json(out / "results.json", result.values)
    if report:
        write_quickstart_report(
            out,
            result.values,
            backbone=clip,
            proposals=LABELS.proposals,
            clips=clips,
            labels=labels,
            truth=true_labels,
            test_clips=test_clips,
            annotations=annotations,
            grounders=grounders,
            histories=histories,
            cache=cache,
        )
    return result


def without_looking(
    annotations: Sequence[Annotation], labels: Sequence[Annotation], seed: int
) -> dict[str, list[Prediction]]:
    """Return answers that need no video; the fixed window is fitted on the labels."""
    start, end = baselines.fit_fixed_window(labels)
    return {
        "random": baselines.random_windows(annotations, seed=seed),
        "whole-video": baselines.whole_video(annotations),
        "uniform-part": baselines.uniform_part(annotations, seed=seed),
        "fixed-window": baselines.fixed_window(annotations, start, end),
    }


def _claim(out: Path, settings: Mapping[str, Any]) -> None:
    """Leave word of what a folder is for, or refuse one that is for something else.

    Raises:
        ZsvgError: What is there was made with other settings.
    """
    for file in (out / SETTINGS, out / "results.json"):  # version 0.1.0 left only the latter
        try:
            there = json.loads(file.read_text(encoding="utf-8"))
            known = {name: there[name] for name in settings if name in there}
        except FileNotFoundError:
            continue
        except (ValueError, TypeError) as error:
            raise ZsvgError(f"{file}: cannot be read ({error}); choose another -o") from error
        if any(settings[name] != value for name, value in known.items()):
            made = ", ".join(f"{name.replace('_', ' ')} {known[name]}" for name in known)
            raise ZsvgError(f"{out}: holds a quickstart of {made}; choose another -o, or repeat it")
    for name, split, videos in (("unlabelled", "train", "videos"), ("test", "test", "test_videos")):
        check_world(
            out / name,
            domain=settings["domain"],
            split=split,
            seed=settings["seed"],
            videos=settings[videos],
        )
    write_json(out / SETTINGS, settings)


def _gap(methods: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Share of the mIoU gap between training-free and supervised that zero labels close."""
    free, ours, full = (methods[n]["mIoU"] for n in ("training-free", "zero-labels", "supervised"))
    return round((ours - free) / (full - free), 4) if full > free else None


def _render(
    folder: Path, stage: Stage, domain: str, split: str, seed: int, videos: int, labelled: bool
) -> Path:
    with stage(f"rendering {split} videos", videos) as advance:
        write_world(
            folder,
            domain=domain,
            videos=videos,
            split=split,
            seed=seed,
            annotations=labelled,
            workers=os.cpu_count() or 1,
            on_progress=lambda done, _: advance(done),
        )
    return folder / "videos"


def _label(
    out: Path,
    clips: Mapping[str, Path],
    clip: ClipBackbone,
    stage: Stage,
    seed: int,
    cache: Path,
) -> Sequence[Annotation]:
    with stage("pseudo-labelling", len(clips)) as advance:
        report = pseudo_label(
            clips,
            clip,
            load_captioner("micro"),
            options=LABELS,
            seed=seed,
            cache=cache,
            work_dir=out / "pseudo.parts",
            on_progress=lambda done, _total, _vid: advance(done),
        )
    write_annotations(out / "pseudo.jsonl", report.labels)
    return report.labels
