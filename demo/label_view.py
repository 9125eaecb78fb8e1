"""What the Label tab shows of the labels: lanes below the player, the picture, lists, numbers."""

from __future__ import annotations

from zsvg import Grounder
from zsvg.events.proposals import propose
from zsvg.features.encoder import FrameFeatures
from zsvg.features.extract import cache_file, content_of
from zsvg.report.figures import SimilarityFigure
from zsvg.video.sampling import Sampling

from .bench import Bench
from .previews import Clip
from .timeline import Bar, Lane
from .visit import Site, Visit

DRAFT = "(no sentence yet)"
MARKS = {"open": "", "accepted": "✓", "fixed": "✎", "rejected": "✕"}


def names(bench: Bench) -> list[tuple[str, str]]:
    """Return the choices of the list of videos: how many labels each has, and how many are open."""
    rows = []
    for vid in sorted(bench.videos):
        own = bench.of(vid)
        undecided = sum(bench.entries[i].verdict == "open" for i in own)
        rows.append((f"{vid}: {len(own)} labels, {undecided} open", vid))
    return rows


def choices(bench: Bench) -> list[tuple[str, int]]:
    """Return the choices of the list of labels of the shown video."""
    own = [bench.entries[i] for i in bench.of(bench.vid)]
    return [
        (" ".join(f"{number} {MARKS[e.verdict]} {e.label.query or DRAFT}".split()), number)
        for number, e in enumerate(own, 1)
    ]


def label_lanes(site: Site, visit: Visit, bench: Bench, clip: Clip) -> list[Lane]:
    """Return the labels of the shown video, the picked one with ends to move; below, the events."""
    bars = []
    for number, index in enumerate(bench.of(bench.vid), 1):
        entry = bench.entries[index]
        start, end = entry.window
        held = index == bench.picked
        bars.append(
            Bar(
                start=start,
                end=end,
                name=f"{number}{MARKS[entry.verdict]}",
                says=f"Label {number}, {entry.verdict}: {entry.label.query}, {start:.1f} to "
                f"{end:.1f} seconds. Pick it.",
                style=f"{entry.verdict} picked" if held else entry.verdict,
                pick=number,
                held=held,
                label=str(entry.label.qid),
            )
        )
    proposed = [
        Bar(start=s, end=e, name="", says=f"Proposed event, {s:.1f} to {e:.1f} seconds. Go there.")
        for s, e in events_of(site, visit, clip)
    ]
    empty = "" if bars else "no event became a label"
    note = "drag the ends of the picked one, or move them with the arrow keys" if bars else ""
    labels = Lane(name="Labels", note=note, style="b", bars=bars, empty=empty)
    return [
        labels,
        *([Lane(name="Proposed events", style="quiet", bars=proposed)] if proposed else []),
    ]


def events_of(site: Site, visit: Visit, clip: Clip) -> list[tuple[float, float]]:
    """Return the proposed events of a video, seconds, by time; none without features."""
    frames = features(site, visit, clip)
    if frames is None:
        return []
    events, _ = propose(frames.features, frames.edges)
    return sorted((float(start), float(end)) for start, end in events.tolist())


def moments_of(site: Site, visit: Visit, bench: Bench, clip: Clip) -> list[tuple[float, float]]:
    """Return what will be looked at in a video: its labels as they were written, and events."""
    own = [bench.entries[i].written for i in bench.of(bench.vid)]
    written = [label.relevant_windows[0] for label in own if label is not None]
    return [*written, *events_of(site, visit, clip)]


def similarity(site: Site, visit: Visit, bench: Bench, clip: Clip) -> str:
    """Return the self-similarity picture, the labels as numbered squares on its diagonal."""
    frames = features(site, visit, clip)
    if frames is None:
        return '<p class="quiet">Drawn once labels have been written of this video.</p>'
    drawn = SimilarityFigure(
        vid=clip.vid,
        similarity=frames.features @ frames.features.T,
        edges=frames.edges,
        events=[bench.entries[i].window for i in bench.of(bench.vid)],
    )
    return f'<div class="figure">{drawn.svg()}</div>'


def features(site: Site, visit: Visit, clip: Clip) -> FrameFeatures | None:
    """Return the frame features of a video, if labelling has left them in the cache.

    They are not computed here: labels that were taken in from a file need none.
    """
    first = site.first
    if clip.path not in visit.frames:
        sampling = Sampling(first.fps, first.framing, True)
        content = content_of(clip.path, first.backbone, site.features)
        there = cache_file(site.features, content, first.backbone, sampling).exists()
        plain = Grounder(first.backbone, fps=first.fps, framing=first.framing)
        visit.frames[clip.path] = (
            plain.encode(clip.path, cache=site.features, allow_truncated=True).frames
            if there
            else None
        )
    return visit.frames[clip.path]


def tally(bench: Bench) -> str:
    """Return how far the work on the labels is."""
    counts = bench.counts()
    words = ", ".join(
        f'<span class="{verdict}">{number} {verdict}</span>'
        for verdict, number in counts.items()
        if number
    )
    text = f"{len(bench.entries)} labels of {len(bench.videos)} videos: {words}."
    return f'<p role="status">{text}</p>'
