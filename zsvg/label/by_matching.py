"""Pseudo labels of sentences that are found rather than made: a folder of videos at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from zsvg.backbones.base import TunableBackbone, videos_for
from zsvg.errors import ITEM_ERRORS, ZsvgError, failure
from zsvg.events.proposals import ProposalOptions, propose
from zsvg.features.encoder import FrameFeatures
from zsvg.features.extract import extract
from zsvg.label.matching import Phrases, match
from zsvg.label.run import LabelReport
from zsvg.moments import Spans
from zsvg.records import Annotation
from zsvg.resources import shipped
from zsvg.transcripts.lines import Lines
from zsvg.transcripts.said import said_in
from zsvg.video.sampling import Sampling

if TYPE_CHECKING:
    from zsvg.transcripts.speech import Recogniser

EVENTS = ProposalOptions(count=8, nms=0.3, greedy=True)
"""Events that overlap: which of them a sentence means is what a head learns to tell."""
SAMPLES = 1


def shipped_words() -> Phrases:
    """Return the word lists of this package: everyday things, and what people do with them."""
    folder = shipped("prompts") / "words"
    return Phrases(
        nouns=read_lines(folder / "nouns.txt"), actions=read_lines(folder / "actions.txt")
    )


def read_lines(path: str | Path) -> list[str]:
    """Return the different lines of a UTF-8 text file, without blank ones, in their order.

    Raises:
        ZsvgError: It is no UTF-8.
        OSError: It cannot be read.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ZsvgError(f"{path}: is not UTF-8 text, one entry a line ({error.reason})") from error
    return list(dict.fromkeys(" ".join(line.split()) for line in lines if line.strip()))


def read_said(
    videos: Mapping[str, Path],
    recogniser: Recogniser | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> tuple[Phrases, list[str]]:
    """Read what is said in videos, to label their events by it.

    Args:
        videos: vid -> file.
        recogniser: Listens where there are no subtitles; None: nothing does.
        on_progress: Called with the number of videos that are done.

    Returns:
        What is said, and what could not be read, a line each.

    Raises:
        ZsvgError: Nothing is said in any of them.
    """
    said: dict[str, Lines] = {}
    unusable: list[str] = []
    for done, (vid, file) in enumerate(videos.items(), 1):
        lines = said_in(file, recogniser)
        unusable += lines.unusable
        said[vid] = lines
        if on_progress is not None:
            on_progress(done)
    if not any(said.values()):
        silent = [lines.silent for lines in said.values() if lines.silent]
        why = next(iter([*unusable, *silent]), "nobody speaks in these videos")
        raise ZsvgError(f"there are no words to label with: {why}")
    return Phrases(said=said), unusable


def label_by_matching(
    videos: Mapping[str, Path] | str | Path,
    backbone: TunableBackbone,
    phrases: Phrases,
    *,
    proposals: ProposalOptions = EVENTS,
    samples: int = SAMPLES,
    seed: int = 0,
    cache: Path | None = None,
    sampling: Sampling | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> LabelReport:
    """Write pseudo labels of words or sentences, without a captioner.

    Args:
        videos: vid -> file, or a folder.
        backbone: Frozen CLIP.
        phrases: What can be said of events.
        proposals: How a video is cut into events.
        samples: Most labels of an event.
        seed: Of what is drawn.
        cache: Folder of frame features; None neither reads nor writes one.
        sampling: Which frames are looked at.
        on_progress: Called with the number of videos that are looked at.
    """
    seen: dict[str, tuple[FrameFeatures, Spans]] = {}
    failures: dict[str, str] = {}
    files = videos_for(backbone, videos)
    for done, vid in enumerate(sorted(files), 1):
        try:
            frames = extract(files[vid], backbone, sampling or Sampling(), cache=cache)
            events, _ = propose(frames.features, frames.edges, options=proposals, seed=seed)
            seen[vid] = frames, events
        except ITEM_ERRORS as error:
            failures[vid] = failure(files[vid], error)
        if on_progress is not None:
            on_progress(done)
    source = {"proposals": proposals.kind, "backbone": backbone.name, "form": phrases.form}
    labels = [
        Annotation(
            qid=f"{vid}-{index}",
            query=said.text,
            vid=vid,
            duration=seen[vid][0].duration,
            relevant_windows=((float(start), float(end)),),
            extra={"source": {**source, "score": round(said.score, 6)}, "weight": 1.0},
        )
        for vid, found in match(seen, backbone, phrases, samples=samples, seed=seed).items()
        for index, said in enumerate(found)
        for start, end in [seen[vid][1][said.event]]
    ]
    return LabelReport(
        labels=tuple(labels),
        failures=failures,
        silent=tuple(sorted(seen.keys() - {label.vid for label in labels})),
    )
