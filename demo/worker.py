"""The work of one visitor's run, in a process of its own: labelling, tuning, or indexing.

`python worker.py WORK.json` reads what to do from a file and writes one JSON object per event to
stdout. It lives as long as its stdin is open, so a page that ends takes its runs along. However it
ends, what is finished stays where the next run of the same work continues: labelled videos in the
work folder, a checkpoint beside the model.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

Tell = Callable[..., None]

STOPPED = 3
"""Exit status of a worker whose stdin was closed."""


def main() -> int:
    """Do the work of a file, and end with 0 where it was done."""
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    if hasattr(os, "nice") and os.nice(0) == 0:
        os.nice(5)  # the page itself has to stay quick
    # Events have the pipe for themselves: whatever a library prints goes to stderr.
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(**event: Any) -> None:
        events.write(json.dumps(event) + "\n")
        events.flush()

    from zsvg import ZsvgError
    from zsvg.errors import told

    work = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        {"label": label, "tune": tune, "index": index}[work["task"]](work, tell)
    except (ZsvgError, ValueError) as error:
        tell(error=told(error))
        return 1
    return 0


def label(work: dict[str, Any], tell: Tell) -> None:
    """Render the samples if those are asked for, and write pseudo labels of all videos."""
    from zsvg.backbones.captioner import load_captioner
    from zsvg.label.run import pseudo_label
    from zsvg.records import write_annotations
    from zsvg.video.finding import find_videos

    if samples := work["samples"]:
        from zsvg.microworld.world import write_world

        write_world(
            samples["folder"],
            domain=samples["domain"],
            videos=samples["videos"],
            annotations=False,
            on_progress=lambda done, total: tell(doing="drawing samples", done=done, total=total),
        )
        videos: dict[str, Path] = find_videos(Path(samples["folder"]) / "videos")
    else:
        videos = {vid: Path(path) for vid, path in work["videos"].items()}
    tell(doing="loading the models", done=0, total=len(videos))
    report = pseudo_label(
        videos,
        _backbone(work),
        load_captioner(work["captioner"], work["device"]),
        cache=Path(work["cache"]),
        work_dir=Path(work["folder"]) / "parts",
        framing=work["framing"],
        fps=work["fps"],
        allow_truncated=True,
        on_progress=lambda done, total, _: tell(doing="writing labels", done=done, total=total),
    )
    write_annotations(Path(work["folder"]) / "pseudo.jsonl", report.labels)
    tell(
        videos={vid: str(path) for vid, path in videos.items() if vid not in report.failures},
        failures=list(report.failures.values()),
    )


def _backbone(work: dict[str, Any]) -> Any:
    """Load the backbone of the page, which has fetched it if it had to."""
    from zsvg.backbones.clip import load_backbone
    from zsvg.backbones.offline import nothing_fetched

    with nothing_fetched():
        return load_backbone(work["backbone"], work["device"])


def _known(work: dict[str, Any]) -> Any:
    """Return the features that a library has of the videos of a run."""
    from zsvg.library.known import Known, KnownFeatures
    from zsvg.library.manifest import read_manifest
    from zsvg.library.tables import Tables

    folder = Path(work["library"])
    space = read_manifest(folder).space
    known = {vid: Known(**about) for vid, about in work["videos"].items()}
    return KnownFeatures(Tables(folder / space.name, space.width), known)


def index(work: dict[str, Any], tell: Tell) -> None:
    """Add a folder to a library."""
    from zsvg.backbones.offline import nothing_fetched
    from zsvg.library.library import Library

    tell(doing="loading the model", done=0, total=0)
    with nothing_fetched():
        library = Library.open(work["library"], device=work["device"])
    tell(doing="looking for videos", done=0, total=0)
    found = library.grounder.find(work["place"])

    def allowed(file: Path) -> bool:
        """Whether no link leads out of the folder that the command line allowed."""
        try:
            return file.resolve().is_relative_to(work["root"])
        except (OSError, RuntimeError):  # links in a circle
            return False

    inside = {vid: file for vid, file in found.items() if allowed(file)}
    report = library.add(
        inside,
        roots=[work["place"]],
        cache=work["cache"],
        allow_truncated=True,
        subtitles=allowed,
        on_progress=lambda done: tell(doing="indexing", done=done, total=len(inside)),
    )
    new = len(report.added) + len(report.moved) + len(report.copies)
    tell(
        lines=[f"New videos: {new}. Already there: {report.unchanged}."],
        failures=list(report.failures.values()),
    )


def tune(work: dict[str, Any], tell: Tell) -> None:
    """Tune on labels; write a model folder."""
    from zsvg.records import read_annotations
    from zsvg.training.labels import weigh_true
    from zsvg.training.options import TuneOptions
    from zsvg.training.recipes import load_recipe
    from zsvg.training.tune import tune as run

    total = work["steps"]
    tell(doing="loading the backbone", done=0, total=total)
    recipe = load_recipe(work["recipe"])
    recipe = recipe.with_training(steps=total).with_head(work["head"] or recipe.head.kind)
    backbone = _backbone(work)
    if work["library"]:
        backbone.files = _known(work)
        videos: dict[str, Path] = backbone.files.videos
    else:
        videos = {vid: Path(path) for vid, path in work["videos"].items()}
    tell(doing="looking at the videos", done=0, total=total)
    begun: list[int] = []

    def on_step(step: int, loss: float) -> None:
        begun.append(step)
        after = f", continued after step {begun[0] - 1}" if begun[0] > 1 else ""
        tell(doing=f"tuning{after}", done=step, total=total, loss=loss)

    outcome = run(
        weigh_true(read_annotations(work["labels"]), work["true_weight"]),
        videos,
        backbone,
        work["output"],
        validation=read_annotations(work["validation"]) if work["validation"] else None,
        recipe=recipe,
        options=TuneOptions(fps=work["fps"], framing=work["framing"], allow_truncated=True),
        cache=work["cache"],
        on_step=on_step,
    )
    tell(
        lines=outcome.summary(),
        history=asdict(outcome.history),
        failures=list(outcome.failures.values()),
    )


def _end_with_stdin() -> None:
    # Not by `sys.stdin`, whose lock the interpreter would wait for at its own end.
    while os.read(0, 1024):
        pass
    os._exit(STOPPED)


if __name__ == "__main__":
    sys.exit(main())
