"""From labels and videos to a model folder: examples, prompts, head, selection, "did it help?"."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import zsvg
from zsvg.backbones.base import TunableBackbone, videos_for
from zsvg.backbones.clip import as_backbone
from zsvg.backbones.names import MANIFEST
from zsvg.errors import ITEM_ERRORS, RecipeError, RecordError, ZsvgError, failure
from zsvg.features.encoder import FrameFeatures
from zsvg.features.extract import extract
from zsvg.features.from_files import FeatureFiles
from zsvg.features.processes import Processes, launched
from zsvg.files import sha256_file, sha256_json, write_json
from zsvg.grounding.alignment import ALIGNMENT_FILE, USUAL_AMOUNT
from zsvg.grounding.grounder import BLIND_QUERY
from zsvg.grounding.model_card import CARD, write_model_card
from zsvg.grounding.model_folder import FORMAT_VERSION, HISTORY
from zsvg.heads.by_name import describe_head
from zsvg.heads.ensemble import Head
from zsvg.records import FROM_FRAMES, Annotation, check_trainable
from zsvg.training.absent import Kinds, absent_sentences, asked_of, told_absent
from zsvg.training.aligning import alignment_of
from zsvg.training.answers import encoded as encode_again
from zsvg.training.checkpoint import remove_checkpoint
from zsvg.training.examples import Example
from zsvg.training.from_recipe import build_network
from zsvg.training.held_out import HeldOut, held_out_scores, hold_out, selected_by
from zsvg.training.labels import is_pseudo
from zsvg.training.loop import train
from zsvg.training.options import TrainingOptions, TuneOptions
from zsvg.training.outcome import TuneOutcome
from zsvg.training.output_folder import folder_of, only_run, replace_folder, staged
from zsvg.training.presence import learn_presence
from zsvg.training.recipes import Recipe, load_recipe
from zsvg.training.supervision import encoded_sentences, hide, level_of, located
from zsvg.video.sampling import FrameSampler


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What a run is made of; its labels tell no more than `options.supervision` lets them."""

    labels: Sequence[Annotation]
    videos: Mapping[str, Path]
    backbone: TunableBackbone
    recipe: Recipe
    options: TuneOptions
    validation: Sequence[Annotation] | None = None
    cache: str | Path | None = None
    query_blind: bool = False
    on_step: Callable[[int, float], None] | None = None


def plan(
    labels: Sequence[Annotation],
    videos: Mapping[str, Path],
    backbone: TunableBackbone,
    recipe: Recipe,
    options: TuneOptions,
    *,
    validation: Sequence[Annotation] | None = None,
) -> list[str]:
    """Check everything that can be checked without training; return lines that say what it means.

    Raises:
        RecordError: A label cannot be trained on, or its video is not in the folder.
        RecipeError: Values of the recipe contradict each other.
        ZsvgError: Nothing to train on, or nothing to hold out.
    """
    labels = hide(labels, options.supervision, options.seed)
    if not labels:
        raise ZsvgError("there are no labels to tune on")
    if options.supervision != "full" and all(map(is_pseudo, labels)):
        raise ZsvgError(
            f"--supervision {options.supervision} hides times of annotations, but all labels are "
            "pseudo labels; leave it out"
        )
    _training(recipe, options)  # raises
    check_trainable(labels, timed=options.supervision == "full")
    known = [*labels, *(validation or ())]
    lost = sorted({a.vid for a in known if a.vid not in videos})
    if lost:
        raise RecordError(
            f"{lost[0]}: its labels are given but the video is not in the folder"
            + (f" (nor are {len(lost) - 1} others)" if len(lost) > 1 else "")
        )
    training, held = hold_out(labels, validation, recipe, options)
    network = build_network(backbone, recipe, options.seed, labels)
    if network.trains_vision and isinstance(videos, FeatureFiles):
        raise RecipeError(
            f"recipe {recipe.name}: prompts of the image tower see pictures, and features have "
            "none; take --recipe coop, or give videos"
        )
    if recipe.training.visual_share < 1 and not network.trains_vision:
        raise RecipeError(
            f"recipe {recipe.name}: visual_share is for prompts in the image tower; it has none"
        )
    prompts, head = network.parameter_counts()
    domains = Counter(a.extra.get("domain") or "no domain" for a in training)
    return [
        f"{recipe.name} on {backbone.name}: {prompts} prompt and {head} head parameters train",
        level_of(labels, options.supervision),
        f"{len(training)} labels of {len({a.vid for a in training})} videos to train on, "
        f"{len(held)} of {len({a.vid for a in held})} to select by",
        f"{recipe.training.steps} steps of {recipe.training.batch_size}",
        *(
            [f"labels by domain: {', '.join(f'{n} {domains[n]}' for n in sorted(domains))}"]
            if recipe.prompts.domain_tokens
            else []
        ),
    ]


def _training(recipe: Recipe, options: TuneOptions) -> TrainingOptions:
    return recipe.training_options(seed=options.seed, mixed_precision=options.mixed_precision)


def tune(
    labels: Sequence[Annotation],
    videos: Mapping[str, Path] | str | Path,
    backbone: TunableBackbone | str,
    output: str | Path,
    *,
    recipe: Recipe | str = "coop",
    options: TuneOptions | None = None,
    validation: Sequence[Annotation] | None = None,
    cache: str | Path | None = None,
    query_blind: bool = False,
    on_step: Callable[[int, float], None] | None = None,
) -> TuneOutcome:
    """Train prompts and head on labels; write a model folder.

    Interrupted work continues: checkpoints live beside the output until it is written. Processes
    that torchrun started share every batch; the main one writes and scores, and all return alike.

    Args:
        labels: Pseudo labels or annotations, every one inside its video.
        videos: vid -> file, or a folder of them.
        backbone: The frozen CLIP, or its name; it must not carry prompts, and is left without any.
        output: The model folder.
        recipe: What to train and how, or the name of a shipped recipe.
        options: Seed, sampling, precision.
        validation: Labels to select by; whole videos of `labels` are held out without it.
        cache: Folder of frame features.
        query_blind: Replace every sentence by the same one: the control that sees only videos.
        on_step: Called with (steps done, loss).

    Raises:
        RecordError: A label cannot be trained on, or its video is not in the folder.
        ZsvgError: Nothing to train on, `output` is something else than a model folder, or another
            run is writing it.
    """
    options = options or TuneOptions()
    backbone = as_backbone(backbone)
    recipe = load_recipe(recipe) if isinstance(recipe, str) else recipe
    if not (backbone.template or recipe.prompts.text):
        recipe = recipe.model_copy(update={"template": ""})
    run = _Run(
        labels=hide(labels, options.supervision, options.seed),
        videos=videos_for(backbone, videos, [*labels, *(validation or ())]),
        backbone=backbone,
        recipe=recipe,
        options=options,
        validation=validation,
        cache=cache,
        query_blind=query_blind,
        on_step=on_step,
    )
    processes = launched(backbone.device.type)
    if backbone.adapters is not None:
        raise ZsvgError(f"{backbone.name} already carries prompts; load it afresh to tune on it")
    plan(run.labels, run.videos, backbone, run.recipe, options, validation=validation)
    folder = folder_of(output)
    with only_run(folder, processes):
        outcome = _tune(run, folder, processes)
    return replace(outcome, folder=Path(output))


def _tune(run: _Run, output: Path, processes: Processes) -> TuneOutcome:
    backbone, recipe, options = run.backbone, run.recipe, run.options
    vids = {a.vid for a in [*run.labels, *(run.validation or ())]}
    if processes.count > 1 and run.cache is not None:
        _encode(run, processes.share(vids))  # the cache is for all
        processes.wait()
    encoded, failures = _encode(run, sorted(vids))
    if not encoded:
        raise ZsvgError("none of the labelled videos can be read: " + next(iter(failures.values())))
    usable = [a for a in run.labels if a.vid in encoded]
    known = run.validation and [a for a in run.validation if a.vid in encoded]
    training, held = hold_out(usable, known, recipe, options)
    training = located(training, encoded, backbone, recipe.template)
    absent, vectors = _absent(run, [*training, *held])
    network = build_network(backbone, recipe, options.seed, usable)
    checkpoint = output.with_name(f"{output.name}.checkpoint")
    examples = [_example(run, a, encoded[a.vid], network.trains_vision) for a in training]
    try:
        history = train(
            network,
            examples,
            [_example(run, a, encoded[a.vid], network.trains_vision) for a in held],
            _training(recipe, options),
            checkpoint,
            on_step=run.on_step,
        )
        rate = options.fps
        if isinstance(run.videos, FeatureFiles):
            rate = float(np.mean([video.fps for video in encoded.values()]))
        manifest = _manifest(run, usable, selected_by(run.validation, held), network.head, rate)
        manifest["processes"] = processes.count
        made = staged(output)
        prompts, head = network.parameter_counts()
        if processes.main:
            made.mkdir(parents=True)
            network.save(made)
            if absent:
                shown = encode_again(network, examples) if network.trains_vision else examples
                texts = [{k: tuple(_text(run, t) for t in some) for k, some in kinds.items()}
                         for kinds in absent[: len(shown)]]  # fmt: skip
                learn_presence(shown, texts, vectors, options.seed).save(made)
    finally:
        network.release()
    if processes.main:
        # Pseudo labels and annotations of one video may be numbered alike.
        asked = [replace(a, qid=i) for i, a in enumerate(held) if a.query != FROM_FRAMES]
        wrong = asked_of(held, absent[len(training) :]) if absent else []
        found = HeldOut()
        alignment, level = None, options.supervision
        if (asked or level == "weak") and backbone.name != "micro" and not run.query_blind:
            alignment = alignment_of(training, encoded, backbone, told=level)
        if alignment is not None:
            alignment.save(made)
            found = replace(found, alignment=USUAL_AMOUNT)
        if asked:
            manifest["alignment"] = found.alignment  # that it is read; how far is chosen now
            found = held_out_scores(
                made, manifest, backbone, asked, wrong, run.videos, options, run.cache
            )
            if not found.alignment:
                (made / ALIGNMENT_FILE).unlink(missing_ok=True)
        manifest |= found.told
        failures |= found.missing
        write_json(made / HISTORY, history.to_json())
        write_model_card(made, manifest, prompts=prompts, head=head)
        write_json(made / MANIFEST, {**manifest, "card": sha256_file(made / CARD)})
        replace_folder(output)
        remove_checkpoint(checkpoint)
    processes.wait()
    told = json.loads((output / MANIFEST).read_text(encoding="utf-8"))
    scores = told["held_out"]
    return TuneOutcome(
        folder=output,
        history=history,
        share=told["share"],
        alignment=told["alignment"],
        gain=told["gain"] and tuple(told["gain"]),
        aligned=scores.get("aligned"),
        held_out=scores.get("tuned"),
        training_free=scores.get("training-free"),
        failures=failures,
        level=level_of(usable, options.supervision),
    )


def _manifest(
    run: _Run, labels: Sequence[Annotation], selected: str, head: Head, rate: float
) -> dict[str, Any]:
    """Return what the model folder tells of a run, before it is measured."""
    backbone, options = run.backbone, run.options
    manifest = {
        "format_version": FORMAT_VERSION,
        "backbone": {"name": backbone.name, "fingerprint": backbone.fingerprint},
        "template": run.recipe.template,
        "query_blind": run.query_blind,
        "sampling": {"fps": rate, "framing": options.framing},
        "head": describe_head(head),
        "recipe": run.recipe.model_dump(),
        "options": asdict(options),
        "labels": {
            "level": level_of(labels, options.supervision),
            "count": len(labels),
            "true": sum(not is_pseudo(a) for a in labels),
            "selected_by": selected,
            "sha256": _labels_hash(labels),
        },
        "versions": {"zsvg": zsvg.__version__, "torch": torch.__version__.split("+")[0]},
        "threads": torch.get_num_threads(),
    }
    if isinstance(run.videos, FeatureFiles):
        files = run.videos
        manifest["features"] = {"width": backbone.embed_dim, "clip_seconds": files.seconds,
                                "window_seconds": files.window}  # fmt: skip
    captioners = sorted({str(a.extra["source"]["captioner"]) for a in labels
                         if "captioner" in a.extra.get("source", {})})  # fmt: skip
    return manifest | ({"captioner": captioners[0]} if captioners else {})


def _encode(run: _Run, vids: Sequence[str]) -> tuple[dict[str, FrameFeatures], dict[str, str]]:
    """Load or compute frame features; videos that cannot be read are left out and reported."""
    encoded, failures = {}, {}
    for vid in vids:
        try:
            encoded[vid] = extract(
                run.videos[vid], run.backbone, run.options.sampling, cache=run.cache
            )
        except ITEM_ERRORS as error:
            failures[vid] = failure(run.videos[vid], error)
    return encoded, failures


def _absent(
    run: _Run, labels: Sequence[Annotation]
) -> tuple[list[Kinds], dict[str, NDArray[np.float32]]]:
    """Return what is not true of each label's video, and text -> frozen vector of all of it.

    Nothing at all where a label has no sentence, or there is none that is not true.
    """
    if run.query_blind or any(label.query == FROM_FRAMES for label in labels):
        return [], {}
    told = {text for label in labels for text in told_absent(label)}
    sentences = sorted({label.query for label in labels} | told)
    vectors = encoded_sentences(sentences, run.backbone, run.recipe.template)
    found = absent_sentences(labels, vectors, run.options.seed)
    if not all(found):
        return [], {}
    return found, {_text(run, sentence): vector for sentence, vector in vectors.items()}


def _text(run: _Run, sentence: str) -> str:
    return f"{run.recipe.template} {sentence}".strip()


def _example(run: _Run, record: Annotation, video: FrameFeatures, needs_frames: bool) -> Example:
    def frames() -> np.ndarray[Any, np.dtype[np.uint8]]:
        size, sampling = run.backbone.image_size, run.options.sampling
        sampled = FrameSampler(run.videos[record.vid], size, sampling)
        return np.stack([frame for _, frame in sampled])

    supervision = run.options.supervision
    query = BLIND_QUERY if run.query_blind else record.query
    return Example(
        wordless=query == FROM_FRAMES,
        doubtful=is_pseudo(record) or supervision != "full",
        glance=record.extra.get("glance") if supervision == "glance" else None,
        vid=record.vid,
        features=video.features,
        centres=video.centres / video.duration,
        duration=video.duration,
        query=_text(run, query),
        windows=np.asarray(record.relevant_windows, dtype=np.float64),
        weight=float(record.extra.get("weight", 1.0)),
        frames=frames if needs_frames else None,
        domain=record.extra.get("domain") if run.recipe.prompts.domain_tokens else None,
    )


def _labels_hash(labels: Sequence[Annotation]) -> str:
    times = [list(a.relevant_windows) or a.extra.get("glance") for a in labels]
    return sha256_json([[a.vid, a.query, t] for a, t in zip(labels, times, strict=True)])
