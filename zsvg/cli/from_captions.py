"""`zsvg pseudo-label` where captions are at hand instead of videos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from zsvg.backbones.names import PREFIX
from zsvg.cli.options import write_labels
from zsvg.cli.terminal import progress, say
from zsvg.errors import ZsvgError
from zsvg.video.finding import find_captions

if TYPE_CHECKING:
    from zsvg.label.run import LabelOptions
    from zsvg.label.tagging import Tagger


def caption_files(given: Sequence[str], backbone: str | None) -> dict[str, Path]:
    """Return the caption files to label from; none where the backbone wants videos."""
    if not backbone or not backbone.startswith(PREFIX):
        return {}
    return {vid: file for place in given for vid, file in find_captions(place).items()}


def label_from_captions(
    tracks: dict[str, Path],
    backbone: str,
    output: Path,
    options: LabelOptions,
    seed: int,
    tagger: Tagger | None,
    unused: dict[str, Any],
    dry_run: bool,
    device: str | None,
) -> None:
    """Label from ready captions; `unused` are options that must not be given then."""
    from zsvg.backbones.captions import load_caption_backbone
    from zsvg.label.from_captions import label_captions

    for name, value in unused.items():
        if value is not None:
            raise ZsvgError(f"{name} {value} has no meaning for ready captions; leave it out")
    if output.resolve() in {path.resolve() for path in tracks.values()}:
        raise ZsvgError(f"{output} is among the caption files; write the labels somewhere else")
    if dry_run:
        say(f"{len(tracks)} files of ready captions to label")
        return
    encoder = load_caption_backbone(backbone, device)
    with progress("labelling", len(tracks)) as advance:
        report = label_captions(
            tracks,
            encoder,
            options=options,
            seed=seed,
            tagger=tagger,
            on_progress=lambda done, _total, _vid: advance(done),
        )
    write_labels(report, len(tracks), output)
    if report.failures:
        raise typer.Exit(1)
