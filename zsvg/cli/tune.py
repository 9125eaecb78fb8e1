"""`zsvg tune` and `zsvg predict`: from labels to a model, and from annotations to answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from zsvg.cli import completion
from zsvg.cli import options as opts
from zsvg.cli.options import (
    at_revision,
    cache_folder,
    check_sampling,
    finish,
    footage,
    load_grounder,
    name_unusable,
    one_stdin,
)
from zsvg.cli.places import REMOTE
from zsvg.cli.results import AsMoments, MomentsOutput, destination
from zsvg.cli.terminal import loading, progress, say
from zsvg.errors import ZsvgError


def tune(
    labels: Annotated[
        Path, typer.Argument(help="Pseudo labels or annotations (JSONL); `-` is stdin."), REMOTE
    ],
    videos: opts.VideoFolders = None,
    output: opts.Output = Path("model"),
    backbone: opts.Backbone = None,
    recipe: Annotated[
        str,
        typer.Option(help="A shipped recipe, or a .yaml file.", autocompletion=completion.recipes),
    ] = "coop",
    head: Annotated[
        str | None,
        typer.Option(
            help="regression, map, span, set, windows, embedding, or pointing (where prompts "
            "point) (default: the recipe's).",
            autocompletion=completion.heads,
        ),
    ] = None,
    members: Annotated[
        int | None,
        typer.Option(
            help="Train so many heads at once; their mean answers (default: the recipe's)."
        ),
    ] = None,
    validation: Annotated[
        Path | None,
        typer.Option(help="Annotations to select by (default: held-out labels)."),
        REMOTE,
    ] = None,
    shots: Annotated[
        int | None,
        typer.Option(help="Labels of K videos only, drawn by --seed; of --also where it is given."),
    ] = None,
    also: Annotated[
        Path | None, typer.Option(help="More labels: true ones beside pseudo labels."), REMOTE
    ] = None,
    also_weight: Annotated[
        float | None,
        typer.Option(help="What a true label weighs beside a pseudo one (default: 1)."),
    ] = None,
    supervision: Annotated[
        str,
        typer.Option(
            help="What is seen of annotations: full, glance (one instant per sentence, under "
            "`glance` or drawn from its windows) or weak (no times).",
            autocompletion=completion.offer("full", "glance", "weak"),
        ),
    ] = "full",
    steps: opts.Steps = None,
    seed: opts.Seed = 0,
    features: opts.Features = None,
    clip_seconds: opts.ClipSeconds = None,
    window_seconds: opts.WindowSeconds = None,
    durations: opts.Durations = None,
    text_features: opts.TextFeatures = None,
    fps: opts.Fps = 2.0,
    framing: opts.Framing = "crop",
    cache: opts.Cache = None,
    rehash: opts.Rehash = False,
    allow_truncated: opts.Truncated = False,
    mixed_precision: Annotated[
        str, typer.Option(help="no or bf16.", autocompletion=completion.offer("no", "bf16"))
    ] = "no",
    dry_run: Annotated[bool, typer.Option(help="Say what would be done, and stop.")] = False,
    device: opts.Device = None,
) -> None:
    """Tune prompts and a small head on labelled or pseudo-labelled videos.

    Example: zsvg tune pseudo.jsonl --videos videos/ --backbone micro -o model/

    Under torchrun, several processes share every batch.
    """
    from zsvg.backbones.names import STORED, check_backbone
    from zsvg.features.processes import launched
    from zsvg.records import Annotation, check_query, read_annotations, sift
    from zsvg.training.labels import choose_labels
    from zsvg.training.recipes import check_recipe, load_recipe
    from zsvg.training.supervision import present_in, usable

    one_stdin(labels, also, validation)
    check_recipe(recipe)
    if also_weight is not None and also is None:
        raise ZsvgError("--also-weight weighs the labels of --also; give that too")
    given = read_annotations(labels), read_annotations(also) if also else []
    held_out = read_annotations(validation) if validation else None
    found = footage(videos, features, clip_seconds, window_seconds, durations)
    left: dict[str, str] = {}

    def seen(records: list[Annotation]) -> list[Annotation]:
        kept, bad = usable(records, found, supervision, seed)
        left.update(bad)
        return kept

    given = seen(given[0]), seen(given[1])
    if held_out is not None:
        held_out, lost = present_in(found, held_out)
        held_out, bad = sift(held_out, lambda record: check_query(record, timed=True))
        left |= lost | bad
    stored = None
    if text_features is not None:
        from zsvg.backbones.stored import StoredBackbone

        backbone = backbone or STORED
        stored = StoredBackbone(text_features, [*given[0], *given[1], *(held_out or ())], device)
        (one, bad), (two, worse) = (sift(some, stored.check) for some in given)
        given = one, two
        left |= bad | worse
        if held_out is not None:
            held_out, bad = sift(held_out, stored.check)
            left |= bad
    if left and not (any(given) and held_out != []):
        finish([*left.values(), f"nothing else is left to tune on; {output} is left as it was"])
    records, taken = choose_labels(
        given[0],
        also=given[1],
        also_weight=1.0 if also_weight is None else also_weight,
        shot_count=shots,
        seed=seed,
    )
    check_backbone(backbone)
    with loading(str(backbone)):
        from zsvg.backbones.clip import load_backbone
        from zsvg.training.options import TuneOptions
        from zsvg.training.tune import plan
        from zsvg.training.tune import tune as run

        check_sampling(fps, framing)
        chosen = load_recipe(recipe)
    if steps is not None:
        chosen = chosen.with_training(steps=steps)
    if head is not None or members is not None:
        several = {} if members is None else {"members": members}
        chosen = chosen.with_head(head or chosen.head.kind, **several)
    options = TuneOptions(
        seed=seed,
        supervision=supervision,  # type: ignore[arg-type]
        fps=fps,
        framing=framing,  # type: ignore[arg-type]
        mixed_precision=mixed_precision,  # type: ignore[arg-type]
        allow_truncated=allow_truncated,
    )
    processes = launched(device)
    if dry_run and not processes.main:
        return
    if processes.main:
        name_unusable(found)
        if left:
            say("some labels are left out, since they cannot be used; they are named at the end")
        for line in taken:
            say(line)
    clip = stored or load_backbone(backbone, device)
    if dry_run:
        for line in plan(records, found, clip, chosen, options, validation=held_out):
            say(line)
        from zsvg.backbones.base import unreadable

        left |= unreadable(found, [*records, *(held_out or ())], clip)
        finish(list(left.values()))
        return
    total = chosen.training.steps
    with progress("tuning", total, hidden=not processes.main) as advance:
        outcome = run(
            records,
            found,
            clip,
            output,
            recipe=chosen,
            options=options,
            validation=held_out,
            cache=cache_folder(cache, rehash),
            on_step=lambda step, _loss: advance(step),
        )
    if processes.main:
        for line in outcome.summary():
            say(line)
        say(f"wrote the model to {output}")
        for line in (*left.values(), *outcome.failures.values()):
            say(f"error: {line}")
    processes.end()
    if left or outcome.failures:
        raise typer.Exit(1)


def predict(
    annotations: Annotated[
        Path, typer.Argument(help="Queries to answer (JSONL); `-` is stdin."), REMOTE
    ],
    model: opts.Model,
    videos: opts.VideoFolders = None,
    output: MomentsOutput = None,
    form: AsMoments = None,
    top_k: Annotated[int, typer.Option(min=1, help="Most answers per query.")] = 5,
    sure: opts.Sure = None,
    templates: opts.Templates = None,
    features: opts.Features = None,
    clip_seconds: opts.ClipSeconds = None,
    window_seconds: opts.WindowSeconds = None,
    durations: opts.Durations = None,
    text_features: opts.TextFeatures = None,
    cache: opts.Cache = None,
    rehash: opts.Rehash = False,
    allow_truncated: opts.Truncated = False,
    domain: opts.Domain = None,
    revision: opts.Revision = None,
    allow_download: opts.AllowDownload = False,
    device: opts.Device = None,
) -> None:
    """Answer every query of an annotation file; the answers in it are not looked at.

    Example: zsvg predict test.jsonl --videos videos/ --model model/ -o predictions.jsonl

    Without -o and --format they are written to predictions.jsonl. Through a pipe: zsvg predict
    test.jsonl --videos videos/ --model model/ -o - | zsvg evaluate - test.jsonl
    """
    from zsvg.backbones.names import check_model, files_read
    from zsvg.grounding.writers import check_fits
    from zsvg.records import read_annotations

    to = destination(output, form, "predictions.jsonl")
    if to.timeline and features is not None:
        raise ZsvgError("a timeline refers to videos, and features are none; give another form")
    records = read_annotations(annotations)
    check_fits(to.form, len({record.vid for record in records}))
    model = at_revision(model, revision)
    check_model(model)
    found = footage(
        videos, features, clip_seconds, window_seconds, durations, reads=files_read(model)
    )
    with loading(model):
        from zsvg.grounding.prediction import predict as run

        stored = None
        if text_features is not None:
            from zsvg.backbones.stored import StoredBackbone

            stored = StoredBackbone(text_features, records, device)
        grounder = load_grounder(
            model, device, domain, templates, allow_download, clip_seconds, stored
        )
        grounder.sure = sure
    name_unusable(found)
    with progress("answering", len(records)) as advance:
        predictions, unanswered = run(
            grounder,
            records,
            found,
            top_k=top_k,
            cache=cache_folder(cache, rehash),
            allow_truncated=allow_truncated,
            on_progress=advance,
        )
    failures = list(unanswered.values())
    failed = bool(failures) and not predictions
    shots = None
    if to.timeline:
        shots = [replace(p, extra={**p.extra, "path": str(found[p.vid])}) for p in predictions]
    if places := to.give(predictions, shots=shots, failed=failed, failures=failures):
        say(f"wrote {len(predictions)} predictions to {places}")
    finish(failures)
