"""Named protocols: what a number means, stated once, so that two of them can be compared.

"R@1" and "mIoU" are not one thing in this field. A protocol fixes what counts as a hit, which true
windows are looked at, whether they are cut to the video, and how many queries the file must have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from zsvg.errors import ZsvgError
from zsvg.evaluation.metrics import evaluate
from zsvg.evaluation.protocols import (
    corpus,
    didemo,
    nextgqa,
    qvhighlights,
    video_reloc,
)
from zsvg.records import Annotation, Prediction

Score = Callable[[Sequence[Prediction], Sequence[Annotation]], dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One way of counting.

    Attributes:
        name: What `--protocol` takes.
        rule: What counts as a hit, and which truth is used.
        source: Who counts so.
        score: The function that does.
        queries: How many queries the published annotations have; None where there is no such set.
        corpus: A sentence is asked of all videos; trivial answers, which know the right one, say
            nothing then.
    """

    name: str
    rule: str
    source: str
    score: Score
    queries: int | None = None
    corpus: bool = False

    def warning(self, annotations: Sequence[Annotation]) -> str | None:
        """Return what to tell when the annotations are not the set that is usually reported."""
        if self.queries is None or len(annotations) == self.queries:
            return None
        return (
            f"warning: {self.name} is reported on {self.queries} queries, this file has "
            f"{len(annotations)}"
        )


def cut_to_video(annotations: Sequence[Annotation]) -> list[Annotation]:
    """Return annotations whose windows end with their video at the latest."""
    return [
        replace(
            record,
            relevant_windows=tuple(
                (start, min(end, record.duration)) for start, end in record.relevant_windows
            ),
        )
        for record in annotations
    ]


def _cut(
    predictions: Sequence[Prediction], annotations: Sequence[Annotation], *, strict: bool = False
) -> dict[str, Any]:
    return evaluate(predictions, cut_to_video(annotations), strict=strict)


_PLAIN = "IoU >= threshold, best of several true windows, truth as written, no rounding"
PROTOCOLS = (
    Protocol(
        name="zsvg",
        rule=f"R@1 and R@5 at IoU .3, .5, .7 and mIoU of the first answer; {_PLAIN}",
        source="this project's default",
        score=evaluate,
    ),
    Protocol(
        name="charades-sta",
        rule=f"as zsvg, on the test split with its windows as published; {_PLAIN}",
        source="Gao et al. 2017; TFVTG and others leave ends after the video as they are",
        score=evaluate,
        queries=3720,
    ),
    Protocol(
        name="charades-sta-cut",
        rule="as charades-sta, but true windows are cut to the duration of the video",
        source="the loaders of 2D-TAN and Vid-Morp; lighthouse's annotation files",
        score=_cut,
        queries=3720,
    ),
    Protocol(
        name="activitynet-val1",
        rule=f"as zsvg, on val_1; {_PLAIN}",
        source="lighthouse",
        score=evaluate,
        queries=17505,
    ),
    Protocol(
        name="activitynet-val2",
        rule=f"as zsvg, on val_2; {_PLAIN}",
        source="2D-TAN, SPL, ViGA, TFVTG, TAG, VideoMind",
        score=evaluate,
        queries=17031,
    ),
    Protocol(
        name="activitynet-both",
        rule=f"as zsvg, on val_1 and val_2 together; {_PLAIN}",
        source="PSVL, LGI, LFVMR, PLPNet",
        score=evaluate,
        queries=34536,
    ),
    Protocol(
        name="tacos",
        rule=f"as zsvg, at IoU .1, .3, .5, .7; {_PLAIN}",
        source="Gao et al. 2017 (TALL): 4083 test queries; 2D-TAN's release has 4001",
        score=partial(evaluate, ious=(0.1, 0.3, 0.5, 0.7)),
    ),
    Protocol(
        name="tgn",
        rule="as zsvg, but 1e-8 s is added to the union: an IoU exactly on the threshold is a miss",
        source="the evaluator of TGN",
        score=partial(evaluate, epsilon=1e-8),
    ),
    Protocol(
        name="2d-tan",
        rule="as zsvg, but IoU > threshold, and true windows are cut to the video; mIoU is of the "
        "first answer, as in 2D-TAN's code where a query has one true window",
        source="2D-TAN (microsoft/VideoX)",
        score=partial(_cut, strict=True),
    ),
    Protocol(
        name="discounted",
        rule="as zsvg, with dR@n: a hit counts (1 - |start error|) (1 - |end error|), errors as "
        "fractions of the video, which takes back what long answers gain",
        source="Yuan et al., A Closer Look at Temporal Sentence Grounding in Videos, 2021",
        score=partial(evaluate, discounted=True),
    ),
    Protocol(
        name="didemo",
        rule="Rank@1, Rank@5 and mIoU over 5-second segments; the three annotators who agree best "
        "with the answers count",
        source="Hendricks et al. 2017",
        score=didemo.score,
    ),
    Protocol(
        name="nextgqa",
        rule="mIoP and mIoU of the first answer, and both at .3 and .5: the share of it that lies "
        "in a true window, and the overlap with one; each takes its best window",
        source="Xiao et al., CVPR 2024; acc@GQA, which needs answers to questions, is left out",
        score=nextgqa.score,
    ),
    Protocol(
        name="video-reloc",
        rule="mAP@1 at IoU .5, .6, .7, .8, .9 and their mean: the share of clips whose first "
        "answer overlaps the true segment by more; answers are cut to the stretch that is asked",
        source="Feng et al., ECCV 2018; which video a clip is asked of is drawn there, and fixed "
        "in zsvg convert video-reloc",
        score=video_reloc.score,
        queries=978,
    ),
    Protocol(
        name="tvr",
        rule="R@1, R@5, R@10, R@100 at IoU .5 and .7 over the moments of all videos: predictions "
        "of one qid are one list, and only moments of its own video hit",
        source="Lei et al. 2020 (VCMR of TVR)",
        score=corpus.score_moments,
        corpus=True,
    ),
    Protocol(
        name="prvr",
        rule="R@1, R@5, R@10, R@100 of the video and their sum: predictions of one qid rank videos "
        "as they come first",
        source="Dong et al. 2022 (partially relevant video retrieval)",
        score=corpus.score_videos,
        corpus=True,
    ),
    Protocol(
        name="qvhighlights",
        rule="MR-R1 and MR-mAP at IoU .5:.05:.95, also by length of the true windows; HL-mAP and "
        "HL-Hit1 at three levels; percent with two digits",
        source="Lei et al. 2021 (standalone_eval of Moment-DETR)",
        score=qvhighlights.score,
    ),
)


def protocol(name: str) -> Protocol:
    """Return a protocol by name.

    Raises:
        ZsvgError: there is none of that name.
    """
    for candidate in PROTOCOLS:
        if candidate.name == name:
            return candidate
    names = ", ".join(candidate.name for candidate in PROTOCOLS)
    raise ZsvgError(f"unknown protocol {name!r}; choose one of {names}")
