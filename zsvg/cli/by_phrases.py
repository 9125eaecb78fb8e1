"""`zsvg pseudo-label` with sentences that are found: of word lists, or of a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from zsvg.cli.options import write_labels
from zsvg.cli.terminal import loading, progress, say
from zsvg.errors import ZsvgError

if TYPE_CHECKING:
    from zsvg.label.matching import Phrases

FORMS = ("vocabulary", "retrieved", "subtitles")


def phrases_of(
    form: str | None, nouns: Path | None, actions: Path | None, sentences: Path | None
) -> Phrases | None:
    """Return what a form's sentences are made of; None for forms that find none.

    Raises:
        ZsvgError: A file is missing, cannot be read or is empty, or is not the form's.
    """
    given = {"--nouns": nouns, "--actions": actions, "--sentences": sentences}
    wanted = {"vocabulary": ("--nouns", "--actions"), "retrieved": ("--sentences",)}
    for name, path in given.items():
        if path is not None and name not in wanted.get(form or "", ()):
            raise ZsvgError(f"{name} {path} has no meaning for --form {form}; leave it out")
    if form not in FORMS:
        return None
    from zsvg.label.by_matching import read_lines, shipped_words
    from zsvg.label.matching import Phrases

    if form == "subtitles":  # what is said is read with the videos
        return Phrases(said={})
    if form == "retrieved":
        if sentences is None:
            raise ZsvgError("--form retrieved needs --sentences, a file of sentences, one a line")
        return Phrases(sentences=read_lines(sentences))
    usual = shipped_words()
    return Phrases(
        nouns=usual.nouns if nouns is None else read_lines(nouns),
        actions=usual.actions if actions is None else read_lines(actions),
    )


def label_by_phrases(
    videos: Mapping[str, Path],
    backbone: str | None,
    output: Path,
    phrases: Phrases,
    seed: int,
    cache: Path,
    unused: Mapping[str, Any],
    dry_run: bool,
    device: str | None,
    *,
    samples: int | None,
    speech: str | None,
    sampling: tuple[float, str, bool],
    **proposals: Any,
) -> None:
    """Label a folder; `unused` are options that must not be given then."""
    from zsvg.backbones.names import check_backbone, check_recogniser

    for name, value in unused.items():
        if value is not None:
            raise ZsvgError(f"{name} {value} has no meaning for this form; leave it out")
    if speech is not None:
        if phrases.form != "subtitles":
            raise ZsvgError(f"--speech {speech} has no meaning for this form; leave it out")
        check_recogniser(speech)
    check_backbone(backbone)
    with loading(str(backbone)):
        from zsvg.backbones.clip import load_backbone
        from zsvg.events.proposals import ProposalOptions
        from zsvg.label.by_matching import EVENTS, SAMPLES, label_by_matching, read_said
        from zsvg.transcripts.speech import load_recogniser
        from zsvg.video.sampling import Sampling

    chosen = {name: value for name, value in proposals.items() if value is not None}
    try:
        events = ProposalOptions(**{**vars(EVENTS), **chosen})
    except ValueError as error:
        raise ZsvgError(str(error)) from error
    if samples is not None and samples < 1:
        raise ZsvgError(f"--samples {samples}: an event needs at least one sentence")
    if dry_run:
        say(f"{len(videos)} videos to label, with no captioner")
        return
    clip = load_backbone(backbone, device)
    unusable = [*getattr(videos, "unusable", ())]
    if phrases.form == "subtitles":
        recogniser = None
        if speech is not None:
            recogniser = load_recogniser(speech, device, allow_download=True)  # it was named
        with progress("reading what is said", len(videos)) as advance:
            phrases, unread = read_said(videos, recogniser, advance)
        unusable += unread
    with progress("looking", len(videos)) as advance:
        report = label_by_matching(
            videos,
            clip,
            phrases,
            proposals=events,
            samples=samples or SAMPLES,
            seed=seed,
            cache=cache,
            sampling=Sampling(*sampling),  # type: ignore[arg-type]
            on_progress=advance,
        )
    write_labels(report, len(videos), output)
    for line in unusable:
        say(f"error: {line}")
    if report.failures or unusable:
        raise typer.Exit(1)
