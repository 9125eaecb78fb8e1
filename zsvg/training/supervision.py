"""How much training may see of annotations: everything, one instant per sentence, or no times.

`hide` removes what a level must not see before anything else reads the records. `located` then
gives the sentences that came without times a window each, from the frozen backbone alone; training
doubts and refines these windows (`zsvg.training.denoising`). Pseudo labels know no truth, so there
is nothing to hide of them.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from zsvg.errors import RecordError, ZsvgError
from zsvg.grounding.alignment import USUAL_AMOUNT, Alignment, fit_alignment, look_of_windows
from zsvg.records import Annotation, check_trainable, sift
from zsvg.scorers.find import find_moments
from zsvg.scorers.options import usual_scorer
from zsvg.scorers.transforms import standardised
from zsvg.training.labels import is_pseudo

if TYPE_CHECKING:
    from zsvg.backbones.base import TunableBackbone
    from zsvg.features.encoder import FrameFeatures

Level = Literal["full", "glance", "weak"]
# The words of the field for what is seen of true labels.
LEVELS: Mapping[str, str] = {
    "full": "fully supervised",
    "glance": "glance supervised",
    "weak": "weakly supervised",
}
PSEUDO_SUPERVISED = "language-free / pseudo-supervised"
UNPAIRED = "pseudo-supervised by unpaired sentences"
TRANSCRIBED = "pseudo-supervised by what is said"

_KEPT = ("weight", "domain")  # of a record's other keys: they tell no times

_SENTENCES_AT_ONCE = 256


def hide(labels: Sequence[Annotation], level: str, seed: int = 0) -> list[Annotation]:
    """Remove what a level of supervision must not see; what is hidden already stays as it is.

    "weak" keeps sentences only; "glance" also one instant of each (Cui et al., "Video Moment
    Retrieval from Text Queries via Single Frame Annotation", SIGIR 2022): that under `glance`, or
    one drawn uniformly from the true windows. Of other keys only `weight` and `domain` are kept, as
    datasets have times under many names.

    Args:
        labels: Annotations and pseudo labels; the latter are returned as they are.
        level: "full", "glance" or "weak".
        seed: Of the draw; a record's instant depends on it and the qid only.

    Raises:
        ZsvgError: There is no such level.
        RecordError: A record has neither a glance inside its video nor a window to draw one from.
    """
    if level not in LEVELS:
        raise ZsvgError(f"supervision {level!r} is unknown; choose one of {', '.join(LEVELS)}")
    if level == "full":
        return list(labels)
    return [label if is_pseudo(label) else _hidden(label, level, seed) for label in labels]


def usable(
    labels: Sequence[Annotation], videos: Mapping[str, Path], level: str, seed: int = 0
) -> tuple[list[Annotation], dict[str, str]]:
    """Return what a level sees of the labels that training can use, and name -> why of the others.

    Args:
        labels: As of `hide`, like `level` and `seed`.
        videos: vid -> file of those that are there.
        level: "full", "glance" or "weak".
        seed: Of the draw.

    Raises:
        ZsvgError: There is no such level.
    """
    hide((), level)

    def check(label: Annotation) -> None:
        check_trainable(hide([label], level, seed), timed=level == "full")

    present, left = present_in(videos, labels)
    kept, bad = sift(present, check)
    return hide(kept, level, seed), left | bad


def present_in(
    videos: Mapping[str, Path], records: Sequence[Annotation]
) -> tuple[list[Annotation], dict[str, str]]:
    """Return the records whose video is there, and vid -> why of the others."""
    missing = Counter(record.vid for record in records if record.vid not in videos)
    return [record for record in records if record.vid in videos], {
        vid: f"{vid}: no such video in the folder, but {count} of the records are about it"
        for vid, count in sorted(missing.items())
    }


def _hidden(label: Annotation, level: str, seed: int) -> Annotation:
    kept = {key: label.extra[key] for key in _KEPT if key in label.extra}
    if level == "glance":
        kept["glance"] = glance(label, seed)
    return replace(label, relevant_windows=(), extra=kept)


def glance(label: Annotation, seed: int = 0) -> float:
    """Return the instant in seconds that a record gives, or one drawn from its windows."""
    name = f"record qid {label.qid!r} of video {label.vid!r}"
    if "glance" in label.extra:
        given = label.extra["glance"]
        number = isinstance(given, (int, float)) and not isinstance(given, bool)
        if not number or not 0 <= given <= label.duration:
            raise RecordError(
                f"{name}: glance {given!r} must be a second of its video, from 0 to "
                f"{label.duration:g}"
            )
        return float(given)
    cut = [(max(start, 0.0), min(end, label.duration)) for start, end in label.relevant_windows]
    windows = [(start, end) for start, end in cut if start < end]
    if not windows:
        raise RecordError(f"{name}: no glance, and no window inside the video to draw one from")
    rest = random.Random(f"{seed}:{label.qid!r}").random() * math.fsum(e - s for s, e in windows)
    for start, end in windows[:-1]:
        if rest < end - start:
            return start + rest
        rest -= end - start
    start, end = windows[-1]
    return min(start + rest, end)


def level_of(labels: Sequence[Annotation], level: str) -> str:
    """Say in the field's words what labels tell, of which `level` was seen."""
    pseudo = sum(map(is_pseudo, labels))
    if pseudo == len(labels):
        forms = {label.extra["source"].get("form") for label in labels}
        if "retrieved" in forms:
            return UNPAIRED
        return TRANSCRIBED if "subtitles" in forms else PSEUDO_SUPERVISED
    return LEVELS[level] + (", and pseudo labels" if pseudo else "")


def located(
    labels: Sequence[Annotation],
    videos: Mapping[str, FrameFeatures],
    backbone: TunableBackbone,
    template: str,
) -> list[Annotation]:
    """Give every label without windows the one that the backbone would answer.

    Where a `glance` is known, that is the most agreed-upon run of frames around it. Sentences that
    are only known to be true are aligned first, see `aligned_by_events`, but for drawings.

    Args:
        labels: As `hide` left them; those with windows are returned as they are.
        videos: vid -> frame features.
        backbone: The frozen CLIP, without prompts.
        template: What stands in front of each sentence.
    """
    bare = [label for label in labels if not label.relevant_windows]
    texts = encoded_sentences(sorted({label.query for label in bare}), backbone, template)
    unseen = [label for label in bare if "glance" not in label.extra]
    if len({label.query for label in unseen}) > 1 and backbone.name != "micro":
        alignment = aligned_by_events(unseen, videos, texts)
        texts |= {a.query: alignment.aligned(texts[a.query], USUAL_AMOUNT) for a in unseen}
    return [
        label
        if label.relevant_windows
        else replace(
            label,
            relevant_windows=(_window(label, videos[label.vid], texts[label.query], backbone),),
        )
        for label in labels
    ]


def aligned_by_events(
    labels: Sequence[Annotation],
    videos: Mapping[str, FrameFeatures],
    texts: Mapping[str, NDArray[np.float32]],
) -> Alignment:
    """Align sentences to the looks of the events that `placed` places them on.

    Args:
        labels: At least one; windows are not looked at.
        videos: vid -> frame features.
        texts: Sentence -> vector (D,) of unit length.
    """
    from zsvg.training.placing import placed  # torch: what is wrong is told before it is there

    windows = placed(labels, videos, texts)
    looks = [look_of_windows(videos[a.vid], [w]) for a, w in zip(labels, windows, strict=True)]
    return fit_alignment(np.stack([texts[a.query] for a in labels]), np.stack(looks))


def encoded_sentences(
    sentences: Sequence[str], backbone: TunableBackbone, template: str
) -> dict[str, NDArray[np.float32]]:
    """Return sentence -> vector (D,) of unit length, by the bare backbone behind a template."""
    found: dict[str, NDArray[np.float32]] = {}
    for first in range(0, len(sentences), _SENTENCES_AT_ONCE):
        some = sentences[first : first + _SENTENCES_AT_ONCE]
        pooled = backbone.encode_text(
            [f"{template} {sentence}".strip() for sentence in some]
        ).pooled
        found |= zip(some, pooled.float().cpu().numpy(), strict=True)
    return found


def _window(
    label: Annotation, video: FrameFeatures, text: NDArray[np.float32], backbone: TunableBackbone
) -> tuple[float, float]:
    curve, edges = backbone.relevance(video.features, text), video.edges
    options = usual_scorer(video.fps, drawn=backbone.name == "micro")
    instant = label.extra.get("glance")
    if instant is None:
        spans, _ = find_moments(curve, edges, options, video.features)
        return float(spans[0, 0]), float(spans[0, 1])
    seen = int(np.clip(np.searchsorted(edges, instant, side="right") - 1, 0, len(curve) - 1))
    # What looks like the frame at the glance belongs to the moment as much as what fits the words.
    both = standardised(curve) + standardised(video.features @ video.features[seen])
    runs = replace(options, kind="threshold_runs", bias=0.5, nms=1.0, top_k=1000)
    spans, _ = find_moments(both, edges, runs, video.features)
    around = spans[(spans[:, 0] <= instant) & (instant <= spans[:, 1])]
    start, end = around[0] if len(around) else edges[seen : seen + 2]
    return float(start), float(end)
