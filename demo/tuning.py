"""From a visitor's labels to a model: the run that tunes, and what it leaves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zsvg import ZsvgError
from zsvg.files import sha256_json
from zsvg.heads.by_name import HEADS
from zsvg.records import Annotation, write_annotations
from zsvg.training.checkpoint import POINTER
from zsvg.training.labels import is_pseudo
from zsvg.training.recipes import load_recipe, recipe_names

from .jobs import Job, check_over
from .labelling import bench_of
from .visit import Site, Visit

ALL, TRUE = "all", "true"
_PACKED = "model.zip"


def recipes() -> list[str]:
    """Return the shipped recipes that labels of this page can tune: they name no domains."""
    return [name for name in recipe_names() if not load_recipe(name).prompts.domain_tokens]


def heads(recipe: str) -> list[str]:
    """Return the kinds of heads that go with a recipe: learned words that point have their own."""
    points = load_recipe(recipe).prompts.points is not None
    return [kind for kind in HEADS if (kind == "pointing") == points]


def begin(
    site: Site,
    visit: Visit,
    *,
    recipe: str,
    head: str = "",
    steps: int,
    which: str,
    true_weight: float,
) -> None:
    """Start to tune; equal settings continue where they were stopped.

    Args:
        site: The page.
        visit: Whose labels are tuned on.
        recipe: One of `recipes`.
        head: One of `heads`; empty: the recipe's own.
        steps: How many.
        which: "all" labels, or those alone that the visitor has looked at: "true".
        true_weight: What one of those counts, where a pseudo label counts 1.

    Raises:
        ZsvgError: There are no labels, a value is out of range, or a run is under way.
    """
    check_over(visit.tuning)
    if recipe not in recipes():  # no file of the server is a recipe
        raise ZsvgError(f"no recipe {recipe!r} here; choose one of {', '.join(recipes())}")
    if head and head not in heads(recipe):
        raise ZsvgError(f"no head {head!r} for {recipe}; choose one of {', '.join(heads(recipe))}")
    if which not in (ALL, TRUE):
        raise ZsvgError(f"tune on {ALL} labels or the {TRUE} ones, not on {which!r}")
    if not 1 <= steps <= site.limits.steps:
        raise ZsvgError(f"{steps} steps; this page takes 1 to {site.limits.steps}")
    bench = bench_of(visit)
    labels = bench.labels(true_only=which == TRUE)
    if not labels:
        raise ZsvgError("you have not accepted or fixed a label yet")
    visit.tuning = run(
        site,
        visit,
        labels=labels,
        videos=bench.videos,
        settings={"recipe": recipe, "head": head, "steps": steps, "true_weight": true_weight},
    )


def run(
    site: Site,
    visit: Visit,
    *,
    labels: Sequence[Annotation],
    videos: Mapping[str, Any],
    settings: Mapping[str, Any],
    validation: Sequence[Annotation] = (),
    library: Path | None = None,
) -> Job:
    """Start to tune on some labels.

    Args:
        site: The page.
        visit: Whose run.
        labels: What is tuned on.
        videos: vid -> file; of a library, what `zsvg.library.known.Known` takes.
        settings: What `worker.tune` takes of a recipe.
        validation: What the best step is chosen by; none: some of the labels are held out.
        library: Has the features of the videos; None: they are encoded, if the cache has none.
    """
    known = [[a.vid, a.query, list(a.relevant_windows), is_pseudo(a)] for a in labels]
    given = {vid: str(v) if isinstance(v, Path) else v for vid, v in videos.items()}
    folder = site.home(visit) / "tuning" / sha256_json([settings, known, given])[:16]
    for name, some in (("labels", labels), ("validation", validation)):
        write_annotations(folder / f"{name}.jsonl", some)
    (folder / _PACKED).unlink(missing_ok=True)
    return Job(
        {
            "task": "tune",
            "folder": str(folder),
            "labels": str(folder / "labels.jsonl"),
            "validation": str(folder / "validation.jsonl") if validation else None,
            "videos": given,
            "library": str(library) if library else None,
            "output": str(folder / "model"),
            **settings,
            **site.work(),
        },
        site.turns,
    )


def history(job: Job) -> tuple[dict[int, float], list[tuple[int, float]]]:
    """Return step -> loss, and (step, mIoU) of the validations so far.

    Losses come from the run as it goes; what a stopped part of it did before, and validation, from
    its checkpoint.
    """
    progress = job.look()
    known = progress.result.get("history") or checkpoint(Path(job.work["output"]))
    losses = dict(enumerate(known.get("losses", ()), 1)) | dict(progress.losses)
    return losses, [(int(step), float(score)) for step, score in known.get("validation", ())]


def checkpoint(output: Path) -> dict[str, Any]:
    """Return what a run's checkpoint tells of its history; nothing where there is none yet."""
    file = output.with_name(f"{output.name}.checkpoint") / POINTER
    try:
        return dict(json.loads(file.read_text(encoding="utf-8"))["progress"])
    except FileNotFoundError:
        return {}


def model_folder(visit: Visit) -> Path:
    """Return the model of the visitor's last run.

    Raises:
        ZsvgError: It has not finished.
    """
    job = visit.tuning
    if job is None or job.look().state != "done":
        raise ZsvgError("there is no finished run to ask")
    return Path(job.work["output"])


def take(site: Site, visit: Visit) -> None:
    """Let the Ground tab ask the tuned model too, on the backbone that the page has anyway.

    Raises:
        ZsvgError: The run has not finished, or the page has no CLIP.
    """
    folder = model_folder(visit)
    site.tuned.of(folder)
    visit.tuned = folder


def packed(visit: Visit) -> Path:
    """Return the finished model folder as a zip file.

    Raises:
        ZsvgError: The run has not finished.
    """
    folder = model_folder(visit)
    file = folder.with_name(_PACKED)
    if not file.exists():
        shutil.make_archive(str(file.with_suffix("")), "zip", folder.parent, folder.name)
    return file
