"""Options that several commands share, and how a batch ends."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zsvg.cli import completion
from zsvg.cli.places import REMOTE
from zsvg.cli.terminal import say, show_logs
from zsvg.errors import ZsvgError
from zsvg.files import STANDARD
from zsvg.places.urls import is_url
from zsvg.video.finding import VIDEO_SUFFIXES

if TYPE_CHECKING:
    from zsvg.backbones.base import TunableBackbone
    from zsvg.features.cluster import Cluster
    from zsvg.grounding.grounder import Grounder
    from zsvg.label.run import LabelReport

Videos = Annotated[
    list[str],
    typer.Argument(help="Videos, folders (searched with all below them), patterns like 'v/*.mp4'."),
]
VideosOrNone = Annotated[
    list[str] | None,
    typer.Argument(
        help="Videos, folders (searched with all below them), patterns; none with --features.",
        show_default=False,
    ),
]
VideoFolders = Annotated[
    list[str] | None,
    typer.Option("--videos", help="Folder of the videos; also files and patterns, several times."),
]
Features = Annotated[
    Path | None,
    typer.Option(
        help="Ready frame features instead of videos: a folder of .npy, .npz, .safetensors or .h5, "
        "one for each video, or one file for all."
    ),
]
ClipSeconds = Annotated[
    float | None,
    typer.Option(
        help="Seconds from one row of --features to the next (default: rows are spread evenly), or "
        "from one ready caption to the next (default: 2)."
    ),
]
WindowSeconds = Annotated[
    float | None,
    typer.Option(help="Seconds that a row of --features saw, where windows overlap."),
]
Durations = Annotated[
    Path | None,
    typer.Option(help="Lengths of the videos of --features, where no annotation tells them."),
    REMOTE,
]
TextFeatures = Annotated[
    Path | None,
    typer.Option(help="Folder of ready sentence features (qidQID.npz) instead of a text tower."),
]
Backbone = Annotated[
    str | None,
    typer.Option(
        help="Frozen CLIP: micro, ARCH/TAG, hf-hub:ORG/NAME or local-dir:PATH.",
        autocompletion=completion.backbones,
    ),
]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        envvar="ZSVG_MODEL",
        help="Tuned model folder, hf://ORG/NAME, a backbone or captions:ENCODER (both "
        "training-free).",
        autocompletion=completion.models,
    ),
]
Revision = Annotated[
    str | None,
    typer.Option(help="Branch, tag or commit of a model of the hub; like hf://ORG/NAME@REVISION."),
]
AllowDownload = Annotated[
    bool,
    typer.Option(
        "--allow-download",
        help="Fetch what a model folder names, also where it is no model of open_clip's list.",
    ),
]
Templates = Annotated[
    str | None,
    typer.Option(
        help="Ask a bare backbone with all these at once: video, or a .yaml file.",
        autocompletion=completion.offer("video"),
    ),
]
Domain = Annotated[
    str | None,
    typer.Option(help="Domain of the videos, for a model tuned on several (default: their mean)."),
]
Sure = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, metavar="P", help="Only moments that are there with this probability or more."
    ),
]
Fps = Annotated[float, typer.Option(help="Frames looked at per second.")]
Framing = Annotated[
    str,
    typer.Option(
        help="How frames become squares: crop, pad or squash.",
        autocompletion=completion.offer("crop", "pad", "squash"),
    ),
]
Cache = Annotated[
    Path | None, typer.Option(help="Folder of frame features (default: $ZSVG_CACHE or ~/.cache).")
]
Rehash = Annotated[
    bool,
    typer.Option(
        "--rehash",
        help="Read every video whole to see whether its features still fit, instead of going by "
        "its size and times.",
    ),
]
Truncated = Annotated[
    bool, typer.Option("--allow-truncated", help="Use the readable part of damaged videos.")
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, mps (default: the best there is).")]
Ray = Annotated[
    str | None,
    typer.Option(
        metavar="auto|ADDRESS",
        help="Give the videos to workers of a Ray cluster: the one at HOST:PORT, or the one that "
        "this machine belongs to, which is it alone where there is none.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Of --ray: how many (default: as many as there is room for). Each takes as many CPUs "
        "as this process has threads (OMP_NUM_THREADS), or one beside its GPU.",
    ),
]
GpusPerWorker = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="Of --ray: GPUs of a worker, such as .5 for two on one (default: 1 if there are any, "
        "else 0).",
    ),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Where to write.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Overrides the recipe's steps.")]
Seed = Annotated[int, typer.Option(help="Same seed, same result.")]
Truth = Annotated[Path, typer.Argument(help="Annotations (JSONL); `-` is stdin."), REMOTE]
Pseudo = Annotated[Path, typer.Argument(help="Pseudo labels (JSONL); `-` is stdin."), REMOTE]


def _show_logs(verbosity: int) -> int:
    show_logs(verbosity)
    return verbosity


Verbose = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        show_default=False,
        callback=_show_logs,
        help="Tell on stderr what is done; -vv tells more.",
    ),
]


def one_stdin(*paths: Path | None) -> None:
    """Refuse `-` for more than one file.

    Raises:
        ZsvgError: Two of them would read stdin.
    """
    if sum(str(path) == STANDARD for path in paths) > 1:
        raise ZsvgError("only one file can be `-`, since stdin can be read once; name the others")


def footage(
    videos: Sequence[str] | None,
    features: Path | None,
    clip_seconds: float | None = None,
    window_seconds: float | None = None,
    durations: Path | None = None,
    reads: Sequence[str] = (),
) -> Mapping[str, Path]:
    """Return vid -> file of videos, or of files that the model `reads`, or of ready features.

    Raises:
        ZsvgError: Neither or both are given, or options of features without any.
        VideoError: There are none.
    """
    from zsvg.video.finding import find_readable

    if features is None:
        if not videos:
            raise ZsvgError(
                "no videos are named: give a folder of them, or ready features by --features"
            )
        for name, value in (("clip", clip_seconds), ("window", window_seconds)):
            if value is not None and (name == "window" or not reads):
                raise ZsvgError(f"--{name}-seconds is about --features; leave it out for videos")
        return find_readable(*videos, reads=reads)
    if videos:
        raise ZsvgError("--features stand in place of videos; give one of the two")
    from zsvg.features.from_files import FeatureFiles

    known = {}
    if durations is not None:
        from zsvg.datasets import read_durations

        known = read_durations(durations)
    return FeatureFiles(features, clip_seconds, window_seconds, known)


def cluster_of(
    ray: str | None, workers: int | None, gpus: float | None, device: str | None
) -> Cluster | None:
    """Return what `--ray` names; None: the work is done here.

    Raises:
        ZsvgError: Ray is not installed, or its options are given without it.
    """
    for name, value in (("--workers", workers), ("--gpus-per-worker", gpus)):
        if ray is None and value is not None:
            raise ZsvgError(f"{name} {value:g} is of a cluster; give --ray too")
    if ray is None:
        return None
    from zsvg.features.cluster import Cluster, check_ray

    check_ray()
    return Cluster(address=ray, workers=workers, gpus=gpus, device=device)


def cache_folder(chosen: Path | None, rehash: bool) -> Path:
    """Return the folder of frame features; trust no hash that is remembered there on demand."""
    from zsvg.features.extract import default_cache
    from zsvg.video.hashes import forget

    folder = chosen or default_cache()
    if rehash:
        forget(folder)
    return folder


def at_revision(model: str, revision: str | None) -> str:
    """Return the name of a model with its revision in it, where it is one of the hub.

    Raises:
        ModelFolderError: It is not, and has none; or there can be no such name.
    """
    from zsvg.backbones.names import hub_model

    return str(hub_model(model, revision) or model)


def load_grounder(
    model: str,
    device: str | None,
    domain: str | None,
    templates: str | None,
    download: bool,
    clip_seconds: float | None,
    backbone: TunableBackbone | None = None,
) -> Grounder:
    """Load what `--model` names, with the options that go with it."""
    from zsvg.backbones.captions import CaptionBackbone
    from zsvg.grounding.load import load

    texts: tuple[str, ...] = ()
    if templates:
        from zsvg.training.recipes import load_templates

        texts = load_templates(templates)
    grounder = load(
        model,
        device,
        backbone=backbone,
        domain=domain,
        templates=texts,
        allow_download=download,
    )
    if clip_seconds is not None and isinstance(grounder.backbone, CaptionBackbone):
        grounder.backbone.seconds = clip_seconds
    return grounder


def split_sentences(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return (videos, sentences): what exists before the first sentence is a video.

    Raises:
        ZsvgError: A sentence is the name of a file, there or not.
    """
    count = 0
    while count < len(arguments) and _is_there(arguments[count]):
        count += 1
    for text in arguments[count:]:
        if _is_there(text):
            raise ZsvgError(f"{text}: comes after a sentence; name all videos first")
        if Path(text).suffix.lower() in VIDEO_SUFFIXES and not any(map(str.isspace, text)):
            raise ZsvgError(f"{text}: no such file")
    if count == len(arguments):
        raise ZsvgError(f"{arguments[-1]} is taken for a video; a sentence has to follow")
    return list(arguments[:count]), list(arguments[count:])


def _is_there(text: str) -> bool:
    return is_url(text) or os.path.lexists(text) or (glob.has_magic(text) and bool(glob.glob(text)))


def name_unusable(found: Mapping[str, Path]) -> None:
    """Say what in the folders is no video that can be used, where none of it was asked for."""
    for line in getattr(found, "unusable", ()):
        say(f"left out: {line}")


def finish(failures: list[str]) -> None:
    """Report what failed in a batch; the exit status tells that something did."""
    for failure in failures:
        say(f"error: {failure}")
    if failures:
        raise typer.Exit(1)


def check_sampling(fps: float, framing: str) -> None:
    """Refuse bad options once, before every video fails for them.

    Raises:
        ValueError: One is out of range.
    """
    from zsvg.video.sampling import Sampling

    Sampling(fps, framing)  # type: ignore[arg-type]


def write_labels(report: LabelReport, given: int, output: Path) -> None:
    """Write pseudo labels, and say what became of the videos that were to get them."""
    from zsvg.cli.results import leave
    from zsvg.records import write_annotations

    done = given - len(report.failures)
    try:
        if done:
            write_annotations(output, report.labels)
            say(f"{len(report.labels)} pseudo labels of {done} videos: {output}")
        else:
            leave(output)
    finally:  # what failed is named, also where the output cannot be written
        if report.silent:
            say(f"no event became a label in: {', '.join(report.silent)}")
        for failure in report.failures.values():
            say(f"error: {failure}")
        for vid, events in report.lost.items():
            for event in events:
                say(f"error: {vid}, {event}")
