"""Writes a split of a microworld domain to disk: mp4 files, annotations and scripts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

from zsvg.errors import ZsvgError
from zsvg.files import write_text
from zsvg.microworld.domains import look_of
from zsvg.microworld.language import WORDINGS, scene_queries
from zsvg.microworld.render import Renderer
from zsvg.microworld.script import SPLITS, Scene, generator, sample_scene
from zsvg.records import Annotation, write_annotations

FPS = 10


def plan_video(domain: str, split: str, seed: int, index: int) -> tuple[Scene, list[Annotation]]:
    """Return the script and the annotations of one video, without drawing it."""
    rng = generator(domain, split, seed, index)
    scene = sample_scene(rng, vid=_vid(domain, split, seed, index), domain=domain)
    annotations = []
    for number, query in enumerate(scene_queries(rng, scene, WORDINGS[look_of(domain).wording])):
        event = scene.events[query.event]
        annotations.append(
            Annotation(
                qid=f"{scene.vid}-{number}",
                query=query.text,
                vid=scene.vid,
                duration=scene.duration,
                relevant_windows=((event.start, event.end),),
                extra={
                    "kind": query.kind,
                    "event": query.event,
                    "ambiguous_object": query.ambiguous_object,
                },
            )
        )
    return scene, annotations


def _vid(domain: str, split: str, seed: int, index: int) -> str:
    return f"{domain}-{split}-{seed}-{index:04d}"


def check_world(folder: str | Path, *, domain: str, split: str, seed: int, videos: int) -> None:
    """Refuse a folder of other videos: what is learned there would be learned from both.

    The beginning of the same world is welcome, so that an interrupted one continues and a small one
    can be made larger.

    Raises:
        ZsvgError: There is a video that `write_world` with these values would not write.
    """
    from zsvg.video.finding import VIDEO_SUFFIXES

    own = {f"{_vid(domain, split, seed, index)}.mp4" for index in range(videos)}
    others = sorted(
        path.name
        for path in (Path(folder) / "videos").rglob("*")
        if path.suffix.lower() in VIDEO_SUFFIXES
        and not path.name.startswith(".")
        and path.name not in own
    )
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise ZsvgError(
            f"{folder}: holds {others[0]}{more}, not of these {videos} {split} videos of {domain}, "
            f"seed {seed}; choose another folder"
        )


def write_video_file(scene: Scene, path: Path) -> None:
    """Render a script to an H.264 mp4 at 10 frames per second."""
    from zsvg.video.writing import write_video

    renderer = Renderer(scene)
    frames = (renderer.frame(k / FPS) for k in range(round(scene.duration * FPS)))
    # As close to the drawing as the defaults and hardly larger, in a third of the time, and twice
    # as fast to decode.
    write_video(path, frames, fps=FPS, preset="ultrafast", crf=22)


def _render_one(job: tuple[str, str, int, int, str]) -> None:
    domain, split, seed, index, folder = job
    scene, _ = plan_video(domain, split, seed, index)
    path = Path(folder) / f"{scene.vid}.mp4"
    if not path.exists():
        write_video_file(scene, path)


def write_world(
    folder: str | Path,
    *,
    domain: str,
    videos: int,
    split: str = "train",
    seed: int = 0,
    annotations: bool = True,
    workers: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Render `videos` videos into `folder`/videos; write annotations.jsonl and scenes.jsonl.

    Finished videos are kept, so an interrupted call continues; `check_world` refuses a folder that
    has others. With `annotations=False` only the videos are written: what a user with unlabelled
    footage has.

    Args:
        folder: Where to write.
        domain: A name of `zsvg.microworld.domains.LOOKS`.
        videos: How many videos.
        split: `train`, `val` or `test`; splits never share a random stream.
        seed: Seed of the split.
        annotations: Write the truth beside the videos.
        workers: Rendering processes; a script that asks for several needs the usual
            `if __name__ == "__main__":`.
        on_progress: Called with (done, total) after each video.

    Returns:
        The folder.

    Raises:
        ZsvgError: Unknown domain or split, or a number that makes no sense.
    """
    look_of(domain)
    if split not in SPLITS:
        raise ZsvgError(f"unknown split {split!r}; choose one of {', '.join(SPLITS)}")
    if videos < 1:
        raise ZsvgError(f"--videos {videos}: at least one video is needed")
    folder = Path(folder)
    clips = folder / "videos"
    clips.mkdir(parents=True, exist_ok=True)
    jobs = [(domain, split, seed, index, str(clips)) for index in range(videos)]
    with ExitStack() as stack:
        rendered: Iterable[None] = map(_render_one, jobs)
        if workers > 1 and videos > 1:
            # `spawn`: forking a process that has started threads (torch) can hang.
            pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
            rendered = stack.enter_context(pool).map(_render_one, jobs)
        for done, _ in enumerate(rendered, 1):
            if on_progress:
                on_progress(done, videos)
    if annotations:
        plans = [plan_video(domain, split, seed, index) for index in range(videos)]
        write_annotations(folder / "annotations.jsonl", [a for _, many in plans for a in many])
        lines = (json.dumps(asdict(scene), sort_keys=True) for scene, _ in plans)
        write_text(folder / "scenes.jsonl", "\n".join(lines) + "\n")
    return folder


def truth(domain: str, split: str, seed: int, videos: int) -> list[Annotation]:
    """Return the annotations of a split without writing or drawing anything."""
    return [a for index in range(videos) for a in plan_video(domain, split, seed, index)[1]]
