"""From videos to labels that a visitor can work on: the run that writes them, and its end."""

from __future__ import annotations

from pathlib import Path

from zsvg import ZsvgError
from zsvg.records import read_annotations, write_annotations
from zsvg.video.finding import find_videos

from .bench import Bench, entries_of
from .jobs import Job, check_over
from .previews import check, keep
from .samples import LABEL_SAMPLES
from .visit import Site, Visit, note_state
from .work import save, take_in

SAMPLES, FOLDER, UPLOADS = "samples", "folder", "uploads"
LIBRARY = "library"
"""Of the moments that were judged in the Library tab: nothing is written of its videos."""


def sources(site: Site) -> list[str]:
    """Return where videos can come from on this page."""
    here = {LIBRARY: site.shelf, SAMPLES: True, FOLDER: site.videos, UPLOADS: True}
    return [name for name, there in here.items() if there]


def choose(site: Site, visit: Visit, source: str) -> bool:
    """Turn to the videos of a source; return whether there are labels of them already.

    Raises:
        ZsvgError: There is no such source.
    """
    if source not in sources(site):
        raise ZsvgError(f"videos come from {', '.join(sources(site))}; not from {source!r}")
    visit.source = source
    note_state(visit)
    return visit.bench is not None


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
    choose(site, visit, source)
    videos = _videos(site, visit, source, files)
    samples = {**LABEL_SAMPLES, "folder": str(site.lasting / "drawn")}
    visit.labelling = Job(
        {
            "task": "label",
            "folder": str(site.desk(visit) / source / "run"),
            "source": source,
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
    visit.source = job.work["source"]
    before = visit.bench
    entries = entries_of(labels, videos, before)
    if before is not None:  # videos of earlier uploads stay
        here = {vid: path for vid, path in before.videos.items() if path.is_file()}
        videos = {**here, **videos}
    vid = before.vid if before else ""
    visit.benches[visit.source] = Bench(videos, entries, vid)
    visit.frames.clear()
    keep_work(site, visit)
    return True


def keep_work(site: Site, visit: Visit) -> None:
    """Save the labels of the present source, and what is open."""
    if visit.desk is not None and visit.bench is not None:
        hidden = visit.hidden if visit.source == LIBRARY else ()
        save(visit.desk / visit.source, visit.bench, hidden)
        note_state(visit)


def take_export(site: Site, visit: Visit, source: str, file: str | Path) -> str:
    """Take in labels that were exported before, here or elsewhere; return what was done, in words.

    Raises:
        ZsvgError: The file has no labels, or none of videos that are here.
    """
    choose(site, visit, source)
    labels = read_annotations(file)
    if visit.bench is None:
        videos = find_videos(site.videos) if source == FOLDER and site.videos else {}
        if not videos:
            raise ZsvgError("which videos are these labels of? Write labels of those first")
        visit.benches[source] = Bench(dict(videos), ())
    said = take_in(bench_of(visit), labels)
    keep_work(site, visit)
    return said


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
    if source == LIBRARY:
        raise ZsvgError("labels of the library are made in its tab: say yes or no to a moment")
    if source == SAMPLES:
        return {}
    if source == FOLDER and site.videos is not None:
        return find_videos(site.videos)
    if not files:
        raise ZsvgError("upload videos first, or take the samples")
    if len(files) > site.limits.videos:
        raise ZsvgError(f"{len(files)} videos at once; this page takes {site.limits.videos}")
    kept = [keep(file, site.desk(visit) / UPLOADS / "videos") for file in files]
    for path in kept:
        check(path, site.limits)
    videos = {path.stem: path for path in kept}
    if len(videos) < len(kept):
        raise ZsvgError("two of the videos have one name; rename one")
    return videos
