"""From videos to labels that a visitor can work on: the run that writes them, and its end."""

from __future__ import annotations

from pathlib import Path

from zsvg import ZsvgError
from zsvg.records import read_annotations, write_annotations
from zsvg.video.finding import find_videos

from .bench import Bench
from .jobs import Job, check_over
from .previews import check, keep
from .samples import LABEL_SAMPLES
from .visit import Site, Visit

SAMPLES, FOLDER, UPLOADS = "samples", "folder", "uploads"


def sources(site: Site) -> list[str]:
    """Return where videos can come from on this page."""
    return [SAMPLES, *([FOLDER] if site.videos else []), UPLOADS]


def begin(site: Site, visit: Visit, source: str, files: list[str] | None) -> None:
    """Start to write labels.

    Args:
        site: The page.
        visit: Whose labels they will be.
        source: One of `sources`.
        files: The uploads.

    Raises:
        ZsvgError: There is nothing to label, or a run is under way.
    """
    if site.captioner is None:
        raise ZsvgError("this page has no captioner; start it with `zsvg demo --captioner NAME`")
    check_over(visit.labelling)
    videos = _videos(site, visit, source, files)
    samples = {**LABEL_SAMPLES, "folder": str(site.folder / "label-samples")}
    visit.labelling = Job(
        {
            "task": "label",
            "folder": str(site.home(visit) / "labels"),
            "samples": samples if source == SAMPLES else None,
            "videos": {vid: str(path) for vid, path in videos.items()},
            "captioner": site.captioner,
            **site.work(),
        },
        site.turns,
    )


def finish(site: Site, visit: Visit) -> bool:
    """Put what a finished run has written on the visitor's bench, once; return whether it did.

    Raises:
        ZsvgError: None of the videos could be read.
    """
    job = visit.labelling
    if job is None or job.look().state != "done" or job is visit.taken:
        return False
    visit.taken = job
    videos = {vid: Path(path) for vid, path in job.look().result["videos"].items()}
    if not videos:
        raise ZsvgError("none of the videos can be read")
    labels = read_annotations(Path(job.work["folder"]) / "pseudo.jsonl")
    visit.bench, visit.clips = Bench(videos, labels, visit.bench), {}
    return True


def bench_of(visit: Visit) -> Bench:
    """Return a visitor's labels.

    Raises:
        ZsvgError: There are none yet.
    """
    if visit.bench is None:
        raise ZsvgError("there are no labels yet; write some in the Label tab")
    return visit.bench


def export(site: Site, visit: Visit) -> Path:
    """Write all labels but the rejected ones as JSONL; return the file."""
    file = site.home(visit) / "export" / "labels.jsonl"
    write_annotations(file, bench_of(visit).labels())
    return file


def _videos(site: Site, visit: Visit, source: str, files: list[str] | None) -> dict[str, Path]:
    """Return vid -> file of what is to be labelled; the run draws the samples itself."""
    if source not in sources(site):
        raise ZsvgError(f"videos come from {', '.join(sources(site))}; not from {source!r}")
    if source == SAMPLES:
        return {}
    if source == FOLDER and site.videos is not None:
        return find_videos(site.videos)
    if not files:
        raise ZsvgError("upload videos first, or take the samples")
    if len(files) > site.limits.videos:
        raise ZsvgError(f"{len(files)} videos at once; this page takes {site.limits.videos}")
    kept = [keep(file, site.home(visit) / "uploads") for file in files]
    for path in kept:
        check(path, site.limits)
    videos = {path.stem: path for path in kept}
    if len(videos) < len(kept):
        raise ZsvgError("two of the videos have one name; rename one")
    return videos
