"""`zsvg features` and `zsvg pseudo-label`: what needs no label."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zsvg.cli import completion, labellers
from zsvg.cli import options as opts
from zsvg.cli.options import cache_folder, finish, footage, write_labels
from zsvg.cli.places import REMOTE
from zsvg.cli.results import AsNumbers, Table, show_result
from zsvg.cli.terminal import loading, progress, say
from zsvg.errors import ITEM_ERRORS, ZsvgError, failure
from zsvg.files import check_output, is_stream

if TYPE_CHECKING:
    from zsvg.backbones.kept import Kept

PSEUDO = Path("pseudo.jsonl")
_SHOWN = ("seconds", "frames", "first", "last")


def features(
    videos: opts.Videos,
    backbone: opts.Backbone = None,
    fps: opts.Fps = 2.0,
    framing: opts.Framing = "crop",
    cache: opts.Cache = None,
    rehash: opts.Rehash = False,
    allow_truncated: opts.Truncated = False,
    form: AsNumbers = "table",
    ray: opts.Ray = None,
    workers: opts.Workers = None,
    gpus_per_worker: opts.GpusPerWorker = None,
    device: opts.Device = None,
) -> None:
    """Encode the frames of videos once and keep the features.

    Example: zsvg features videos/ --backbone ViT-B-32/laion2b_s34b_b79k
    """
    from zsvg.backbones.names import check_backbone
    from zsvg.video.finding import find_videos

    cluster = opts.cluster_of(ray, workers, gpus_per_worker, device)
    found = find_videos(*videos)
    check_backbone(backbone)
    with loading(str(backbone)):
        from zsvg.backbones.kept import keep_features
        from zsvg.video.sampling import Sampling

        sampling = Sampling(fps, framing, allow_truncated)  # type: ignore[arg-type]
        folder = cache_folder(cache, rehash)
        coming = keep_features(found, backbone, sampling, folder, device=device, cluster=cluster)
    known: dict[str, Kept] = {}
    wrong: dict[str, str] = {}
    with progress("encoding", len(found)) as advance:
        for done, (vid, future) in enumerate(coming, 1):
            try:
                known[vid] = future.result()
            except ITEM_ERRORS as error:
                wrong[vid] = failure(found[vid], error)
            advance(done)
    done_videos = [  # in the order of names, in whatever order a cluster did them
        {"video": vid, **{name: getattr(known[vid], name) for name in _SHOWN}}
        for vid in found
        if vid in known
    ]
    rows = [
        (vid, f"{seconds:.2f}", str(frames), f"{first:.3f} to {last:.3f}")
        for vid, seconds, frames, first, last in (video.values() for video in done_videos)
    ]
    show_result(
        form, done_videos, Table(header=("video", "seconds", "frames", "frame times"), rows=rows)
    )
    kept = sum(video.kept for video in known.values())
    say(f"features of {kept} of {len(found)} videos are in {folder}")
    failures = [*found.unusable, *(wrong[vid] for vid in found if vid in wrong)]
    if kept < len(rows):  # elsewhere the cache may fail; here it is what was asked for
        failures.append(f"{folder}: the features of {len(rows) - kept} videos could not be kept")
    finish(failures)


def pseudo_label(
    videos: opts.VideosOrNone = None,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Where to write the labels; `-` is stdout."),
        REMOTE,
    ] = PSEUDO,
    backbone: opts.Backbone = None,
    captioner: Annotated[
        str | None,
        typer.Option(
            envvar="ZSVG_CAPTIONER",
            help="Frozen captioner: micro, a hub id, a folder, or openai:MODEL@URL for a server.",
            autocompletion=completion.captioners,
        ),
    ] = None,
    ask: labellers.Ask = None,
    parts: labellers.Parts = None,
    rephrase: labellers.Rephrase = None,
    paraphrases: labellers.Paraphrases = None,
    verify: labellers.Verify = None,
    requests: labellers.Requests = None,
    timeout: labellers.Timeout = None,
    price: labellers.Price = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="How events are proposed: blocks, psvl, uniform, ...",
            autocompletion=completion.proposals,
        ),
    ] = None,
    count: Annotated[int | None, typer.Option(help="Most events per video to caption.")] = None,
    clusters: Annotated[
        int | None, typer.Option(help="Parts to cut a video into (kinds that cut).")
    ] = None,
    per_video: Annotated[int | None, typer.Option(help="Most labels per video.")] = None,
    min_score: Annotated[
        float | None, typer.Option(help="Least fit of sentence and event, -1 to 1.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(help="Sampled captions per event; 0: one, by greedy search.")
    ] = None,
    view: Annotated[
        str | None,
        typer.Option(
            help="strip (2x2 frames), middle (one), ends (two, one after the other), or around "
            "(eight, of --ask).",
            autocompletion=completion.offer("strip", "middle", "ends", "around"),
        ),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            help="captions, simplified (nouns and verbs), composed (also before and after); "
            "without a captioner: vocabulary (nouns and actions that CLIP sees), retrieved "
            "(nearest of --sentences), subtitles (lines that are said and seen), features (no "
            "sentences).",
            autocompletion=completion.offer(
                "captions",
                "simplified",
                "composed",
                "vocabulary",
                "retrieved",
                "subtitles",
                "features",
            ),
        ),
    ] = None,
    nouns: Annotated[
        Path | None, typer.Option(help="Of `vocabulary`: a file of things, one a line.")
    ] = None,
    actions: Annotated[
        Path | None,
        typer.Option(help="Of `vocabulary`: a file of lines such as `opening a door`."),
    ] = None,
    sentences: Annotated[
        Path | None, typer.Option(help="Of `retrieved`: a file of sentences, one a line.")
    ] = None,
    speech: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Of `subtitles`: a recogniser (Whisper and others, a hub id or a folder) that "
            "listens to videos without any.",
        ),
    ] = None,
    tagger: Annotated[
        str | None,
        typer.Option(help="Which words are nouns and verbs: micro, or a JSON file {word: tag}."),
    ] = None,
    alike: Annotated[
        float | None,
        typer.Option(help="Cosine above which one of two sentences of a video is dropped."),
    ] = None,
    seed: opts.Seed = 0,
    features: opts.Features = None,
    clip_seconds: opts.ClipSeconds = None,
    window_seconds: opts.WindowSeconds = None,
    durations: opts.Durations = None,
    fps: opts.Fps = 2.0,
    framing: opts.Framing = "crop",
    cache: opts.Cache = None,
    rehash: opts.Rehash = False,
    allow_truncated: opts.Truncated = False,
    dry_run: Annotated[bool, typer.Option(help="Say what there is to do, and stop.")] = False,
    ray: opts.Ray = None,
    workers: opts.Workers = None,
    gpus_per_worker: opts.GpusPerWorker = None,
    device: opts.Device = None,
) -> None:
    """Watch unlabelled videos and write down what happens when.

    Example: zsvg pseudo-label videos/ --backbone micro --captioner micro -o pseudo.jsonl

    With --ray, workers of a cluster share the videos, as do several processes under torchrun; the
    result is the same. Where captions are at hand instead of videos: zsvg pseudo-label captions/
    --backbone captions:ENCODER
    """
    from zsvg.backbones.names import check_backbone, check_labeller, endpoint_of
    from zsvg.cli.by_phrases import label_by_phrases, phrases_of
    from zsvg.cli.from_captions import caption_files, label_from_captions
    from zsvg.features.processes import launched
    from zsvg.label.parts import note_captioner
    from zsvg.label.tagging import load_tagger

    check_output(output)
    cluster = opts.cluster_of(ray, workers, gpus_per_worker, device)
    asks = labellers.given(
        captioner, ask, parts, rephrase, paraphrases, verify, requests, timeout, price
    )
    words = load_tagger(tagger) if tagger is not None else None
    tracks = caption_files(videos or (), backbone)
    found: Mapping[str, Path] = {}
    if not tracks:
        found = footage(videos, features, clip_seconds, window_seconds, durations)
    phrases = phrases_of(form, nouns, actions, sentences)
    together = any(one is not None for one in (phrases, features, rephrase, verify))
    if cluster is not None and (tracks or together):
        raise ZsvgError(
            f"--ray {ray} is for videos that are labelled one by one; use it in `zsvg features` of "
            "these videos, and label without it"
        )
    if features is not None and form != "features" and phrases is None:
        raise ZsvgError(
            "features show a captioner nothing; give --form vocabulary, retrieved or features, or "
            "videos"
        )
    if features is not None and form == "subtitles":
        raise ZsvgError("--form subtitles reads videos; give them instead of --features")
    if phrases is not None:
        own = None if captioner == os.environ.get("ZSVG_CAPTIONER") else captioner
        idle = {"--captioner": own, "--view": view, "--tagger": tagger, "--min-score": min_score,
                "--alike": alike, "--per-video": per_video, **asks.asks}  # fmt: skip
        label_by_phrases(
            found, backbone, output, phrases, seed, cache_folder(cache, rehash), idle, dry_run,
            device, kind=kind, count=count, clusters=clusters, samples=samples,
            speech=speech, sampling=(fps, framing, allow_truncated),
        )  # fmt: skip
        return
    if speech is not None:
        raise ZsvgError(f"--speech {speech} is of --form subtitles; leave it out")
    if not tracks:
        check_backbone(backbone)
        if captioner is not None and form != "features" and not dry_run:
            check_labeller(captioner)
    with loading(str(backbone)):
        from zsvg.backbones.clip import load_backbone
        from zsvg.backbones.endpoint import Endpoint, load_labeller
        from zsvg.label.forecast import errands, forecast
        from zsvg.label.forms import check_tagger
        from zsvg.label.run import default_options
        from zsvg.label.run import pseudo_label as label
        from zsvg.video.sampling import Sampling

        options = default_options(
            kind=kind,
            count=count,
            clusters=clusters,
            per_video=per_video,
            min_score=min_score,
            samples=samples,
            view=asks.view(view),
            form=form,
            alike=alike,
        )
        check_tagger(options.queries, words)
        if not tracks and options.queries.speaks and not dry_run:
            check_labeller(captioner)
        sampling = Sampling(fps, framing, allow_truncated)  # type: ignore[arg-type]
    if tracks:
        own = None if captioner == os.environ.get("ZSVG_CAPTIONER") else captioner
        unused = {"--captioner": own, "--samples": samples, "--view": view, "--cache": cache,
                  **asks.asks}  # fmt: skip
        label_from_captions(
            tracks, str(backbone), output, options, seed, words, unused, dry_run, device
        )
        return
    unusable = getattr(found, "unusable", ())
    processes = launched(device)
    if cluster is not None and processes.count > 1:
        raise ZsvgError("--ray and torchrun both share videos out; use one of them")
    if dry_run and not processes.main:
        return
    named = PSEUDO if is_stream(output) else output
    work = named.with_name(f"{named.name}.parts")
    here = device if cluster is None else "cpu"  # only names and fingerprints are asked for
    clip = load_backbone(backbone, here)
    settings: dict[str, Any] = {
        "options": options,
        "tagger": words,
        "seed": seed,
        "cache": cache_folder(cache, rehash),
        "work_dir": work,
    }
    if dry_run and features is not None:
        say(f"{len(found)} videos of ready features to label")
        return
    if dry_run:
        settings["asking"] = None if asks.local else asks.loaded(device, settings["cache"])
        near = asks.loaded(device, settings["cache"], remote=True)
        speaker = load_labeller(captioner, device) if endpoint_of(captioner) else None
        with progress("looking", len(found)) as advance:
            size = forecast(
                found,
                clip,
                captioner,
                **settings,
                asked=errands(options, near, speaker),
                sampling=sampling,
                on_progress=advance,
            )
        for line in size.lines(asks.prices):
            say(line)
        return
    describe = None
    if options.queries.speaks:
        folder = settings["cache"]
        describe = load_labeller(captioner, here, cache=folder, requests=requests, timeout=timeout)
    settings["asking"] = asking = asks.loaded(device, settings["cache"])
    share, who = len(processes.share(found)), ""
    if processes.count > 1:
        who = f"process {processes.index + 1} of {processes.count}"
        say(f"{who} takes {share} of {len(found)} videos")
    if processes.main and describe is not None:
        note_captioner(work, describe.name, describe.fingerprint)
    for whom, errand in errands(options, asking, describe):
        say(whom.announcement(errand.times(share)))
    with progress(f"labelling {who}".strip(), share, hidden=not processes.main) as advance:
        report = label(
            found,
            clip,
            describe,
            **settings,
            **asdict(sampling),
            processes=processes,
            cluster=cluster,
            on_progress=lambda done, _total, _vid: advance(done),
            on_resume=lambda done: advance(done, resumed=True),
        )
    if processes.main:
        write_labels(report, len(found), output)
        for line in unusable:
            say(f"error: {line}")
        for model in (describe, asking.rephraser, asking.verifier):
            if isinstance(model, Endpoint):
                say(model.summary(asks.prices))
        if work.is_dir():
            say(f"{work} lets the next run label what is new alone; it can be deleted")
    processes.end()
    if report.failures or report.lost or unusable:
        raise typer.Exit(1)
