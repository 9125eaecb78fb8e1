"""A folder of videos in, pseudo labels out: where (proposals) and what (queries) in one pass.

No annotation is read. Nothing that is computed for one video depends on another one, so neither
the order of the videos nor the number of processes that share the work changes a label. While one
video is captioned, a second thread already looks at the next one (`zsvg.features.ahead`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future
from contextlib import closing
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from zsvg.backbones.base import TunableBackbone, videos_for
from zsvg.backbones.captioner import Captioner, CaptionOptions
from zsvg.backbones.clip import as_backbone
from zsvg.backbones.endpoint import load_labeller
from zsvg.errors import ITEM_ERRORS, EndpointError, ZsvgError, failure
from zsvg.events.proposals import ProposalOptions
from zsvg.features.ahead import ahead
from zsvg.features.cluster import Cluster, spread
from zsvg.features.processes import Processes
from zsvg.files import write_json
from zsvg.label.asking import Asking, check_asking
from zsvg.label.forms import check_tagger
from zsvg.label.one_video import Labelling, Seen
from zsvg.label.parts import finished_contents, gather, other_parts, part_file, read_part
from zsvg.label.queries import QueryOptions
from zsvg.label.tagging import Tagger
from zsvg.label.views import Labeller
from zsvg.places.urls import place_of
from zsvg.records import FROM_FRAMES, Annotation
from zsvg.video.pictures import Framing
from zsvg.video.sampling import Sampling

_log = logging.getLogger(__name__)

# Raise it when the same options begin to give other labels; old parts are then left alone.
_FORMAT = 5


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """What decides the labels of a video, apart from seed, sampling and the frozen models.

    Attributes:
        proposals: How a video is cut into events.
        queries: How events get their sentences.
    """

    proposals: ProposalOptions = field(default_factory=ProposalOptions)
    queries: QueryOptions = field(default_factory=QueryOptions)


def default_options(**overrides: Any) -> LabelOptions:
    """Return the default options with some fields of either stage replaced.

    Args:
        **overrides: Fields of `ProposalOptions` and `QueryOptions` by name; None leaves a default.

    Raises:
        ZsvgError: A value is out of range.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    own = {f.name for f in fields(ProposalOptions)}
    try:
        return LabelOptions(
            proposals=ProposalOptions(**{k: v for k, v in given.items() if k in own}),
            queries=QueryOptions(**{k: v for k, v in given.items() if k not in own}),
        )
    except ValueError as error:
        raise ZsvgError(str(error)) from error


@dataclass(frozen=True, kw_only=True)
class LabelReport:
    """What became of a set of videos.

    Attributes:
        labels: Pseudo labels ordered by vid, then by time. `extra` has `source` and `weight`.
        failures: vid -> why it has no labels. Videos in which no event got a sentence are not
            failures; they are in `silent`.
        silent: vids that were processed and have no label.
        lost: vid -> what an endpoint did not answer, one line for each event. The other events of
            these videos have their labels; the next run asks about the lost ones again.
    """

    labels: tuple[Annotation, ...]
    failures: Mapping[str, str]
    silent: tuple[str, ...] = ()
    lost: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def label_settings(
    *,
    options: LabelOptions,
    captions: CaptionOptions,
    seed: int,
    sampling: Sampling,
    backbone: str,
    captioner: str | None,
    tagger: str | None,
    asking: Asking | None = None,
) -> dict[str, Any]:
    """Return all that decides a video's labels beside its content, as JSON.

    Args:
        options: As of `pseudo_label`, like the next ones.
        captions: The captioner's options.
        seed: Of everything random.
        sampling: Which frames are looked at.
        backbone: The backbone's fingerprint.
        captioner: The captioner's fingerprint, like the next one without effect where the options
            do not need it.
        tagger: The tagger's fingerprint.
        asking: What is asked beside a caption.
    """
    queries = options.queries
    return {
        "format": _FORMAT,
        "options": asdict(options),
        "captions": asdict(captions) if queries.speaks else None,
        "seed": seed,
        **asdict(sampling),
        "fps": float(sampling.fps),
        "backbone": backbone,
        "captioner": captioner if queries.speaks else None,
        "tagger": tagger if queries.needs_tagger else None,
        **(asking.settings if asking is not None and queries.speaks else {}),
    }


def pseudo_label(
    videos: Mapping[str, Path] | str | Path,
    backbone: TunableBackbone | str,
    captioner: Labeller | str | None,
    *,
    options: LabelOptions | None = None,
    asking: Asking | None = None,
    tagger: Tagger | None = None,
    seed: int = 0,
    cache: Path | None = None,
    work_dir: Path | None = None,
    framing: Framing = "crop",
    fps: float = 2.0,
    allow_truncated: bool = False,
    processes: Processes | None = None,
    cluster: Cluster | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
    on_resume: Callable[[int], None] | None = None,
) -> LabelReport:
    """Write pseudo labels for videos that nobody annotated.

    Args:
        videos: vid -> file, as `zsvg.video.finding.find_videos` gives it, or a folder.
        backbone: Frozen CLIP, for proposals and for the score of captions; or its name.
        captioner: Frozen captioner or endpoint, or its name, see
            `zsvg.backbones.endpoint.load_labeller`. The form "features" does without, and calls
            none.
        options: What to propose and which sentences to keep.
        asking: What is asked beside a caption, and whom; nothing by default.
        tagger: What tells nouns and verbs, for options that ask for them; see
            `zsvg.label.tagging`.
        seed: Of random proposals and sampled captions. Each video draws from its own stream (seed,
            content).
        cache: Folder of frame features, and of the answers of an endpoint that is given by name;
            None neither reads nor writes one.
        work_dir: Folder of finished videos, one JSON file each. A later call with the same
            settings skips them. None keeps nothing.
        framing: How frames become squares: "crop", "pad" or "squash".
        fps: Frames looked at per second.
        allow_truncated: Take videos that end before their header says, as far as they go.
        processes: Those that share the videos, see `zsvg.features.processes.launched`; several need
            a `work_dir`. Each returns the same report, after the last one is done.
        cluster: Whose workers look at the videos; this process writes what they found. They load
            the models by their names.
        on_progress: Called with (videos done, videos in all, vid) after each video of this process,
            first for those that an earlier call had finished.
        on_resume: Called after those with their number, if there are any: the time that the rest
            takes counts from here.

    Returns:
        Labels of all videos that could be read; the others under `failures`.

    Raises:
        ValueError: Several processes without a `work_dir`, or no such sampling.
        ZsvgError: Another process's files are not in `work_dir`, or the options need a captioner or
            a tagger that is not given, or a cluster is to ask an endpoint or a second model, or to
            read ready features.
        EndpointError: The endpoint is not there, or refuses all. Its answers so far are kept.
    """
    options = options or LabelOptions()
    asking = asking or Asking()
    check_tagger(options.queries, tagger)
    if captioner is None and options.queries.speaks:
        raise ZsvgError(
            f"form {options.queries.form!r} needs a captioner; only 'features' does without"
        )
    clip = as_backbone(backbone)
    files = videos_for(clip, videos)
    speaker = captioner
    if isinstance(speaker, str):
        speaker = load_labeller(speaker, str(clip.device), cache=cache)
    check_asking(asking, speaker, options.queries)
    sampling = Sampling(fps, framing, allow_truncated)
    alone = asking.rephraser is None and asking.verifier is None
    here = speaker is None or isinstance(speaker, Captioner)
    if cluster is not None and not (alone and here and clip.files is None):
        raise ZsvgError(
            "--ray is for videos and models: what asks an endpoint or a second model, or reads "
            "ready features, is labelled without it, after `zsvg features --ray` of the videos"
        )
    processes = processes or Processes()
    if processes.count > 1 and work_dir is None:
        raise ValueError("several processes need a work_dir, where they meet")
    settings = label_settings(
        options=options,
        captions=getattr(speaker, "options", CaptionOptions()),
        seed=seed,
        sampling=sampling,
        backbone=clip.fingerprint,
        captioner=speaker.fingerprint if speaker else None,
        tagger=tagger.fingerprint if tagger else None,
        asking=asking,
    )
    if processes.main and work_dir is not None and (others := other_parts(work_dir, settings)):
        _log.warning(
            "%d finished videos in %s are of other settings or an older version and are labelled "
            "again",
            others,
            work_dir,
        )
    own = processes.share(files)
    labelling = Labelling(
        backbone=clip,
        captioner=speaker,
        asking=asking,
        tagger=tagger,
        proposals=options.proposals,
        queries=options.queries,
        seed=seed,
        sampling=sampling,
        cache=cache,
    )
    contents = finished_contents(own, files, work_dir, settings, labelling.content)

    def kept(content: str) -> Path | None:
        return None if work_dir is None else part_file(work_dir, settings, content)

    def start(vid: str) -> tuple[str, dict[str, Any] | Seen]:
        """Return a finished video's part, or one that only the captioner has not seen."""
        path = place_of(files[vid])
        content = contents.get(vid) or labelling.content(path)
        return content, read_part(kept(content)) or labelling.look(path, content)

    def begun() -> Generator[tuple[str, Future[tuple[str, dict[str, Any] | Seen]]], None, None]:
        left = [vid for vid in own if vid not in contents]
        if cluster is None or not left:
            yield from ahead([*contents, *left], start)
            return
        yield from ahead(contents, start)
        places = {vid: place_of(files[vid]) for vid in left}
        yield from spread(places, labelling.elsewhere(), cluster)

    parts: dict[str, dict[str, Any]] = {}
    finished: dict[str, str] = {}
    failures: dict[str, str] = {}
    with closing(begun()) as looked:
        for done, (vid, started) in enumerate(looked, start=1):
            try:
                content, found = started.result()
                file = kept(content)
                # A copy of this video may have been finished since the look ahead.
                known = read_part(file)
                part = known or (labelling.say(found) if isinstance(found, Seen) else found)
                fresh = known is None
            except EndpointError:
                raise  # as the next video's would be
            except ITEM_ERRORS as error:
                failures[vid] = failure(files[vid], error)
            else:
                # Outside the `try`: a full disk is no property of this video, and ends the run.
                if fresh and file is not None:
                    write_json(file, part)
                made = len(part["labels"])
                _log.info("%s: %d events, %d labels", vid, len(part["events"]), made)
                parts[vid] = part
                finished[vid] = "" if file is None else file.name
            if on_progress is not None:
                on_progress(done, len(own), vid)
            if on_resume is not None and done == len(contents):
                on_resume(done)
    if processes.count > 1 and work_dir is not None:
        finished, failures = gather(processes, Path(work_dir), finished, failures)
        for vid in finished.keys() - parts.keys():
            file = Path(work_dir) / finished[vid]
            if (theirs := read_part(file, lost=True)) is None:
                raise ZsvgError(f"{file}: is gone; run the command again")
            parts[vid] = theirs
        processes.wait()  # all have read: a caller may now remove the folder
    return report_of(parts, failures, options, clip.name, speaker.name if speaker else None)


def report_of(
    parts: Mapping[str, Mapping[str, Any]],
    failures: Mapping[str, str],
    options: LabelOptions,
    backbone: str,
    captioner: str | None,
) -> LabelReport:
    """Return what finished videos (by vid) make together, sorted, under the models' names."""
    source = {"proposals": options.proposals.kind, "backbone": backbone}
    if captioner is not None and options.queries.speaks:
        source["captioner"] = captioner
    if options.queries.form in ("simplified", "features"):
        source["form"] = options.queries.form
    return LabelReport(
        labels=tuple(
            label for vid in sorted(parts) for label in as_annotations(vid, parts[vid], source)
        ),
        failures=dict(sorted(failures.items())),
        silent=tuple(vid for vid in sorted(parts) if not parts[vid]["labels"]),
        lost={vid: tuple(parts[vid]["lost"]) for vid in sorted(parts) if "lost" in parts[vid]},
    )


def as_annotations(
    vid: str, part: Mapping[str, Any], source: Mapping[str, str]
) -> list[Annotation]:
    """Return a finished video's labels under the names that it and the models have now."""
    return [
        Annotation(
            qid=f"{vid}-{index}",
            query=label["query"],
            vid=vid,
            duration=part["duration"],
            relevant_windows=(tuple(label["window"]),),
            extra={
                "source": {**source, **_said(label)},
                "weight": label.get("weight", 1.0),
                **({"absent": label["absent"]} if "absent" in label else {}),
            },
        )
        for index, label in enumerate(part["labels"])
    ]


_TOLD = ("score", "form", "event", "who", "object", "paraphrase", "verdict")


def _said(label: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a label's `source` tells that is its own."""
    found = {key: label[key] for key in _TOLD if key in label}
    return found if label["query"] == FROM_FRAMES else {**found, "caption": label["query"]}
