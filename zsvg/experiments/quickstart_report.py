"""The pictures of a quickstart run: what was found, what was learned, how good it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zsvg.backbones.clip import ClipBackbone
from zsvg.events.cuts import self_similarity
from zsvg.events.proposals import ProposalOptions, propose
from zsvg.features.extract import extract
from zsvg.grounding.grounder import Grounder
from zsvg.records import Annotation
from zsvg.report.figures import CurveFigure, LearningFigure, SimilarityFigure, TimelineFigure
from zsvg.report.run import ReportData, ResultRow, write_report
from zsvg.report.timelines import middle_frames, moments
from zsvg.training.options import History

_ROLES = {"training-free": "floor", "zero-labels": "ours", "supervised": "ceiling"}
# In the order of the table; the last four look at the videos.
NOTES = {
    "random": "five random windows",
    "whole-video": "always everything",
    "uniform-part": "a third at random",
    "fixed-window": "one window, fitted on the pseudo labels",
    "query-blind": "trained on true labels, never reads the sentence",
    "training-free": "CLIP similarity alone",
    "zero-labels": "ours: tuned on labels it wrote itself",
    "supervised": "same model, true labels",
}
_THUMBNAILS = 10
_PICTURED = 3


def write_quickstart_report(
    out: Path,
    values: Mapping[str, Any],
    *,
    backbone: ClipBackbone,
    proposals: ProposalOptions,
    clips: Mapping[str, Path],
    labels: Sequence[Annotation],
    truth: Sequence[Annotation],
    test_clips: Mapping[str, Path],
    annotations: Sequence[Annotation],
    grounders: Mapping[str, Grounder],
    histories: Mapping[str, History],
    cache: Path,
) -> None:
    """Write `out`/report.html."""
    methods = values["methods"]
    shown = sorted({label.vid for label in labels})[:_PICTURED]
    similarities = []
    for vid in shown[:2]:
        video = extract(clips[vid], backbone, cache=cache)
        events, _ = propose(video.features, video.edges, options=proposals)
        similarities.append(
            SimilarityFigure(
                vid=vid,
                similarity=self_similarity(video.features, centre=True),
                edges=video.edges,
                events=events,
            )
        )
    data = ReportData(
        title=f"zsvg quickstart: {values['domain']}, seed {values['seed']}",
        summary=(
            f"{values['videos']} unlabelled videos of an unseen domain became "
            f"{values['pseudo_labels']} pseudo labels and a tuned model, which answered "
            f"{methods['zero-labels']['queries']} test queries on {values['test_videos']} other "
            "videos. No annotation was on disk until it was tuned."
        ),
        facts={
            "command": f"zsvg quickstart --domain {values['domain']} --seed {values['seed']}",
            "backbone": "micro (rendered microworld only)",
            "seconds": f"{values['seconds']:.0f}",
        },
        results=[
            ResultRow(method=name, metrics=found, role=_ROLES.get(name, ""), note=NOTES[name])
            for name, found in methods.items()
        ],
        headline="mIoU",
        similarities=similarities,
        timelines=[_timeline(vid, clips[vid], labels, truth) for vid in shown],
        curves=_curves(annotations, test_clips, grounders, cache),
        learning=[
            LearningFigure(
                title=name,
                steps=np.arange(1, history.steps + 1),
                losses=history.losses,
                validation=history.validation,
            )
            for name, history in histories.items()
        ],
    )
    write_report(out / "report.html", data)


def _timeline(
    vid: str, path: Path, labels: Sequence[Annotation], truth: Sequence[Annotation]
) -> TimelineFigure:
    duration = next(a.duration for a in truth if a.vid == vid)
    return TimelineFigure(
        vid=vid,
        duration=duration,
        thumbnails=middle_frames(path, duration, _THUMBNAILS, size=128),
        truth=moments(a for a in truth if a.vid == vid),
        pseudo=moments(a for a in labels if a.vid == vid),
    )


def _curves(
    annotations: Sequence[Annotation],
    test_clips: Mapping[str, Path],
    grounders: Mapping[str, Grounder],
    cache: Path,
) -> list[CurveFigure]:
    """Pick the first query of each kind, so that nobody chose the pretty ones."""
    figures = []
    for kind in sorted({str(a.extra["kind"]) for a in annotations}):
        record = next(a for a in annotations if a.extra["kind"] == kind)
        curves, predicted = {}, {}
        centres = np.zeros(0)
        for name in ("training-free", "zero-labels"):
            grounder = grounders[name]
            video = grounder.encode(test_clips[record.vid], cache=cache)
            answer = grounder.ground(video, record.query, top_k=1)
            curves[name], centres = answer.curve, answer.centres
            if answer.moments:
                predicted[name] = (answer.moments[0].start, answer.moments[0].end)
        figures.append(
            CurveFigure(
                query=record.query,
                duration=record.duration,
                centres=centres,
                curves=curves,
                predicted=predicted,
                truth=list(record.relevant_windows),
                vid=f"{record.vid} ({kind})",
            )
        )
    return figures
