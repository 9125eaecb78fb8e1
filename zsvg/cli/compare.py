"""A grid of tuning runs on one's own data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from zsvg.cli import completion
from zsvg.cli import options as opts
from zsvg.cli.options import (
    cache_folder,
    check_sampling,
    finish,
    footage,
    name_unusable,
    one_stdin,
)
from zsvg.cli.results import AsNumbers, Table, leave, show_result
from zsvg.cli.terminal import progress, say
from zsvg.errors import ZsvgError
from zsvg.files import check_output


def compare(
    labels: Annotated[
        Path, typer.Argument(help="Annotations or pseudo labels to train on; `-` is stdin.")
    ],
    annotations: Annotated[Path, typer.Argument(help="Annotations to test on; `-` is stdin.")],
    videos: opts.VideoFolders = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of results, table and plot.")
    ] = Path("comparison"),
    backbone: opts.Backbone = None,
    test_videos: Annotated[
        list[str] | None,
        typer.Option(help="Folder of the tested videos (default: that of --videos)."),
    ] = None,
    pseudo: Annotated[
        Path | None, typer.Option(help="Pseudo labels of the same videos, for language-free.")
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            help="Recipes, shipped or .yaml (default: coop).",
            autocompletion=completion.recipes,
        ),
    ] = None,
    head: Annotated[
        list[str] | None,
        typer.Option(
            help="Kinds of head (default: each recipe's own).", autocompletion=completion.heads
        ),
    ] = None,
    supervision: Annotated[
        list[str] | None,
        typer.Option(
            help="training-free, language-free, weak, glance, full (default: all that the labels "
            "allow).",
            autocompletion=completion.supervision,
        ),
    ] = None,
    shots: Annotated[
        list[str] | None,
        typer.Option(help="Labels of so many videos, or all (default: all)."),
    ] = None,
    seeds: Annotated[list[str] | None, typer.Option(help="Of each run (default: 0).")] = None,
    controls: Annotated[
        list[str] | None,
        typer.Option(
            help="query-blind (never reads the sentences) and permuted (answers given to other "
            "videos) (default: none)."
        ),
    ] = None,
    features: opts.Features = None,
    clip_seconds: opts.ClipSeconds = None,
    window_seconds: opts.WindowSeconds = None,
    durations: opts.Durations = None,
    fps: opts.Fps = 2.0,
    framing: opts.Framing = "crop",
    cache: opts.Cache = None,
    rehash: opts.Rehash = False,
    allow_truncated: opts.Truncated = False,
    dry_run: Annotated[bool, typer.Option(help="List the runs, and stop.")] = False,
    form: AsNumbers = "table",
    device: opts.Device = None,
) -> None:
    """Train and test combinations of prompts, heads and supervision, beside trivial answers.

    Example: zsvg compare train.jsonl test.jsonl --videos videos/ --backbone micro --seeds 0,1,2

    Options of several values take them with commas, or several times. Results lie in the output
    folder, one file per run; what is there is not made again.
    """
    from zsvg.backbones.clip import load_backbone
    from zsvg.experiments.compare import CONTROLS, Material, Run, check, grid
    from zsvg.experiments.compare import compare as run
    from zsvg.experiments.compare_report import HEADER, rows_of, write_comparison
    from zsvg.records import Annotation, check_query, check_trainable, read_annotations, sift
    from zsvg.training.labels import is_pseudo
    from zsvg.training.options import TuneOptions
    from zsvg.training.recipes import load_recipe
    from zsvg.training.supervision import present_in
    from zsvg.video.finding import find_videos

    one_stdin(labels, annotations, pseudo)
    check_output(output / "table.md")
    check_sampling(fps, framing)
    found = footage(videos, features, clip_seconds, window_seconds, durations)
    tested = find_videos(*test_videos) if test_videos else found
    name_unusable(found)
    left: dict[str, str] = {}

    def seen(path: Path, folder: Mapping[str, Path], check: Any) -> list[Annotation]:
        kept, missing = present_in(folder, read_annotations(path))
        kept, bad = sift(kept, check)
        left.update(missing | bad)
        if left and not kept:
            finish([*left.values(), f"{path}: nothing else is in it"])
        return kept

    def trainable(record: Annotation) -> None:
        check_trainable([record], timed=False)

    given = seen(labels, found, trainable)
    truth = seen(annotations, tested, lambda record: check_query(record, timed=True))
    made = seen(pseudo, found, trainable) if pseudo else []
    wanted = _values(controls)
    if unknown := [name for name in wanted if name not in CONTROLS]:
        raise ZsvgError(f"--controls {unknown[0]}: choose some of {', '.join(CONTROLS)}")
    known = ["full"] if all(map(is_pseudo, given)) else ["weak", "glance", "full"]
    runs = grid(
        [load_recipe(name) for name in _values(recipe) or ["coop"]],
        heads=_values(head),
        supervision=_values(supervision)
        or ["training-free", *["language-free"] * bool(made), *known],
        shot_counts=[None if n == "all" else _whole("--shots", n) for n in _values(shots)]
        or [None],
        seeds=[_whole("--seeds", n) for n in _values(seeds)] or [0],
        blind="query-blind" in wanted,
    )
    material = Material(
        labels=given,
        annotations=truth,
        videos=found,
        test_videos=tested,
        backbone=load_backbone(backbone, device),
        pseudo=made,
        options=TuneOptions(
            fps=fps,
            framing=framing,  # type: ignore[arg-type]
            allow_truncated=allow_truncated,
        ),
        cache=cache_folder(cache, rehash),
    )
    warnings = check(runs, material)
    for line in warnings:
        say(line)
    if dry_run:
        for one in runs:
            say(one.name)
        finish(list(left.values()))
        return
    with progress("comparing", len(runs)) as advance:
        done = 0

        def tell(one: Run, result: Mapping[str, Any] | None, why: str) -> None:
            nonlocal done
            done += 1
            advance(done)
            shown = f"mIoU {100 * result['metrics']['mIoU']:.1f}" if result else f"failed: {why}"
            say(f"{one.name}: {shown}")

        results, failures = run(runs, material, output, on_run=tell)
    lost = {vid: why for _, result in results for vid, why in result["unreadable"].items()}
    reasons = [*left.values(), *(f"{name}: {why}" for name, why in failures.items())]
    if not results:
        leave(output / "table.md")
        finish(reasons)
    rows = rows_of(results, truth, permuted="permuted" in wanted)
    shown = Table(header=HEADER, rows=[row.cells() for row in rows])
    show_result(form, [asdict(row) for row in rows], shown)
    notes = [
        f"{len(truth)} queries of {len({a.vid for a in truth})} videos; {material.backbone.name}; "
        "percent, mean ± standard deviation over runs.",
        *warnings,
    ]
    for file in write_comparison(output, rows, notes):
        say(f"wrote {file}")
    finish([*reasons, *lost.values()])


def _values(given: Sequence[str] | None) -> list[str]:
    """Return the values of an option that is given several times, with commas, or not at all."""
    return [part.strip() for value in given or () for part in value.split(",") if part.strip()]


def _whole(option: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise ZsvgError(f"{option} {value!r} must be a whole number") from None
