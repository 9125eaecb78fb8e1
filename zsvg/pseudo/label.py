"""A folder of videos in, pseudo labels out: where (proposals) and what (queries) in one pass.

No annotation is read. Nothing that is computed for one video depends on another one, so neither
the order of the videos nor the number of processes that share the work changes a label: several
processes may each take a part of the videos with one `work_dir`, and a last call with all of them
gathers what they wrote.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from zsvg.backbones.captioner import Captioner
from zsvg.backbones.clip import ClipBackbone
from zsvg.errors import VideoError, ZsvgError
from zsvg.features import extract
from zsvg.files import sha256_json, write_json
from zsvg.pseudo.proposals import ProposalOptions, atomic_events, composites
from zsvg.pseudo.queries import QueryOptions, caption_events, choose, view_times
from zsvg.records import Annotation
from zsvg.video import Framing, load_frames_at, video_hash

# Raise it when the same options begin to give other labels; old parts are then left alone.
_FORMAT = 2


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
    """

    labels: tuple[Annotation, ...]
    failures: Mapping[str, str]
    silent: tuple[str, ...] = ()


def pseudo_label(
    videos: Mapping[str, Path],
    backbone: ClipBackbone,
    captioner: Captioner,
    *,
    options: LabelOptions | None = None,
    seed: int = 0,
    cache: Path | None = None,
    work_dir: Path | None = None,
    framing: Framing = "crop",
    fps: float = 2.0,
    allow_truncated: bool = False,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> LabelReport:
    """Write pseudo labels for videos that nobody annotated.

    Args:
        videos: vid -> file, as `zsvg.video.find_videos` gives it.
        backbone: Frozen CLIP, for proposals and for the score of captions.
        captioner: Frozen captioner.
        options: What to propose and which sentences to keep.
        seed: Of k-means, the choice of composite events and sampled captions. Each video draws
            from its own stream (seed, content).
        cache: Folder of frame features; None neither reads nor writes one.
        work_dir: Folder of finished videos, one JSON file each. A later call with the same
            settings skips them. None keeps nothing.
        framing: How frames become squares: "crop", "pad" or "squash".
        fps: Frames looked at per second.
        allow_truncated: Take videos that end before their header says, as far as they go.
        on_progress: Called with (videos done, videos in all, vid) after each video.

    Returns:
        Labels of all videos that could be read; the others under `failures`.
    """
    options = options or LabelOptions()
    settings = {
        "format": _FORMAT,
        "options": asdict(options),
        "captions": asdict(captioner.options),
        "seed": seed,
        "framing": framing,
        "fps": float(fps),
        "allow_truncated": allow_truncated,
        "backbone": backbone.fingerprint,
        "captioner": captioner.fingerprint,
    }
    source = {"proposals": "psvl", "backbone": backbone.name, "captioner": captioner.name}
    labels: list[Annotation] = []
    failures: dict[str, str] = {}
    silent: list[str] = []
    for done, vid in enumerate(sorted(videos), start=1):
        path = Path(videos[vid])
        try:
            content = video_hash(path)
            part_path = None
            if work_dir is not None:
                key = sha256_json({**settings, "content": content})
                part_path = Path(work_dir) / f"{key}.json"
            part = _read_part(part_path)
            fresh = part is None
            if part is None:
                part = _label_video(
                    path,
                    backbone,
                    captioner,
                    options=options,
                    seed=int(sha256_json([seed, content])[:8], 16),
                    cache=cache,
                    framing=framing,
                    fps=fps,
                    allow_truncated=allow_truncated,
                )
        except (VideoError, FileNotFoundError, PermissionError) as error:
            failures[vid] = str(error)
        else:
            # Outside the `try`: a full disk is no property of this video, and ends the run.
            if fresh and part_path is not None:
                write_json(part_path, part)
            labels += _annotations(vid, part, source)
            if not part["labels"]:
                silent.append(vid)
        if on_progress is not None:
            on_progress(done, len(videos), vid)
    return LabelReport(labels=tuple(labels), failures=failures, silent=tuple(silent))


def _label_video(
    path: Path,
    backbone: ClipBackbone,
    captioner: Captioner,
    *,
    options: LabelOptions,
    seed: int,
    cache: Path | None,
    framing: Framing,
    fps: float,
    allow_truncated: bool,
) -> dict[str, Any]:
    """Return what is known of one video, as JSON. The name of the video is not part of it."""
    video = extract(
        path, backbone, fps=fps, framing=framing, cache=cache, allow_truncated=allow_truncated
    )
    proposals, queries = options.proposals, options.queries
    atoms = atomic_events(video.features, video.edges, options=proposals, seed=seed)
    events = composites(
        atoms,
        rule=proposals.rule,
        count=proposals.count,
        max_atoms=proposals.max_atoms,
        seed=seed,
    )
    times = view_times(atoms, queries.view)
    # Two frames side by side then fill the captioner's square without another resize.
    size = captioner.image_size // 2 if queries.view == "strip" else captioner.image_size
    frames = load_frames_at(path, times.ravel(), size, framing, allow_truncated=allow_truncated)
    views = frames.reshape(*times.shape, *frames.shape[1:])
    captions = caption_events(views, captioner, samples=queries.samples, seed=seed)
    texts = sorted({text for event in captions for text in event})
    chosen = []
    if texts:
        chosen = choose(
            captions,
            texts,
            backbone.encode_text(texts).pooled.float().cpu().numpy(),
            video.features,
            atoms=atoms,
            events=events,
            centres=video.centres,
            options=queries,
        )
    unions = [query for query in chosen if query.atoms[0] < query.atoms[1]]
    if unions and queries.recaption:
        # From the frames at hand: those next to where a view of the whole event would look.
        wanted = view_times(np.array([query.span for query in unions]), queries.view)
        nearest = np.abs(wanted[..., None] - times.ravel()).argmin(axis=-1)
        whole = dict(zip(unions, caption_events(frames[nearest], captioner), strict=True))
        chosen = [replace(query, text=(whole.get(query) or [query.text])[0]) for query in chosen]
    return {
        "duration": float(video.duration),
        "atoms": atoms.tolist(),
        "labels": [
            {
                "query": query.text,
                "window": list(query.span),
                "score": round(query.score, 6),
                "atoms": list(query.atoms),
            }
            for query in chosen
        ],
    }


def _annotations(vid: str, part: Mapping[str, Any], source: Mapping[str, str]) -> list[Annotation]:
    """Return a finished video's labels under the names that it and the models have now."""
    return [
        Annotation(
            qid=f"{vid}-{index}",
            query=label["query"],
            vid=vid,
            duration=part["duration"],
            relevant_windows=(tuple(label["window"]),),
            extra={
                "source": {
                    **source,
                    "caption": label["query"],
                    "score": label["score"],
                    "atoms": label["atoms"],
                },
                "weight": 1.0,
            },
        )
        for index, label in enumerate(part["labels"])
    ]


def _read_part(path: Path | None) -> dict[str, Any] | None:
    """Return a finished video's file, or None if there is none that can be read."""
    if path is None:
        return None
    try:
        part = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None  # Not done yet, or damaged by something else than us: do it again.
    return part if isinstance(part, dict) and "labels" in part else None
