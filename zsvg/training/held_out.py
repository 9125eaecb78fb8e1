"""Labels that are not trained on: which they are, and what a tuned model is worth on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from zsvg.backbones.base import TunableBackbone
from zsvg.backbones.names import MANIFEST
from zsvg.errors import ITEM_ERRORS, ZsvgError
from zsvg.evaluation.metrics import evaluate
from zsvg.files import write_json
from zsvg.grounding.answers import Moment
from zsvg.grounding.grounder import Grounder
from zsvg.grounding.load import load
from zsvg.grounding.model_folder import detach_adapters
from zsvg.grounding.prediction import predict
from zsvg.grounding.presence_threshold import calibrate, elsewhere
from zsvg.grounding.share import SHARES, USUAL_SHARE, best_share, mixed
from zsvg.moments import iou
from zsvg.records import Annotation, Prediction
from zsvg.training.options import TuneOptions
from zsvg.training.recipes import Recipe


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """What held-out labels say of a run; without any, nothing.

    Attributes:
        scores: mIoU of the first answers: "tuned", and "training-free" by the backbone alone.
        share: How much of the answers is to be the head's, see `zsvg.grounding.share`; None of
            drawings, where a head answers all by itself.
        presence: From where on the tuned model calls a sentence present.
        missing: vid -> why it could not be asked this time, so that its labels count as missed.
    """

    scores: Mapping[str, float] = field(default_factory=dict)
    share: float | None = None
    presence: Mapping[str, Any] | None = None
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def told(self) -> dict[str, Any]:
        """What the manifest keeps of it."""
        return {"held_out": dict(self.scores), "share": self.share, "presence": self.presence}


def split_by_video(
    labels: Sequence[Annotation], share: float, seed: int
) -> tuple[list[Annotation], list[Annotation]]:
    """Hold out whole videos: (training, held-out), at least one video each.

    Raises:
        ZsvgError: All labels are of one video.
    """
    vids = sorted({label.vid for label in labels})
    if len(vids) < 2:
        raise ZsvgError(
            "labels of at least two videos are needed, one to hold out; or give --validation"
        )
    count = min(len(vids) - 1, max(1, round(share * len(vids))))
    chosen = np.random.default_rng([seed, 77]).permutation(len(vids))[:count]
    held = {vids[i] for i in chosen}
    return [a for a in labels if a.vid not in held], [a for a in labels if a.vid in held]


def hold_out(
    labels: Sequence[Annotation],
    validation: Sequence[Annotation] | None,
    recipe: Recipe,
    options: TuneOptions,
) -> tuple[list[Annotation], list[Annotation]]:
    """Return labels to train on, and those to select by; none where no label has times.

    A window that the backbone found would choose the network that is most like the backbone.
    """
    if validation:
        return list(labels), list(validation)
    if not any(a.relevant_windows for a in labels):
        return list(labels), []
    training, held = split_by_video(labels, recipe.held_out, options.seed)
    return training, [a for a in held if a.relevant_windows]


def held_out_scores(
    folder: Path,
    manifest: Mapping[str, Any],
    backbone: TunableBackbone,
    held: Sequence[Annotation],
    videos: Mapping[str, Path],
    options: TuneOptions,
    cache: str | Path | None,
) -> HeldOut:
    """Score the saved folder and the bare backbone on the held-out labels, by the public path."""
    write_json(folder / MANIFEST, manifest)
    free = Grounder(backbone, fps=options.fps, framing=options.framing)
    missing: dict[str, str] = {}

    def ask(grounder: Grounder, records: Sequence[Annotation]) -> list[Prediction]:
        found, failures = predict(
            grounder, records, videos, cache=cache, allow_truncated=options.allow_truncated
        )
        missing.update(failures)
        return found

    try:
        before, tuned = ask(free, held), load(folder, backbone=backbone)
        share = None
        if not tuned.drawn:
            share = pick_share(tuned, held, videos, options, cache)
            tuned.manifest["share"] = share
        # Together, so that each video is encoded once for both.
        others = [replace(a, qid=i) for i, a in enumerate(elsewhere(held), len(held))]
        answers = ask(tuned, [*held, *others])
        after = [answer for answer in answers if int(answer.qid) < len(held)]
        fits = [answer.extra["presence"] for answer in answers]
        presence = calibrate(fits[: len(after)], fits[len(after) :])
    finally:
        detach_adapters(backbone)
    scores = {
        name: round(float(evaluate(predictions, held)["mIoU"]), 6)
        for name, predictions in (("training-free", before), ("tuned", after))
    }
    return HeldOut(
        scores=scores,
        share=share,
        presence=None if presence is None else asdict(presence),
        missing=missing,
    )


def pick_share(
    tuned: Grounder,
    held: Sequence[Annotation],
    videos: Mapping[str, Path],
    options: TuneOptions,
    cache: str | Path | None,
) -> float:
    """Return the head's share by which the first answers to the held-out labels overlap best.

    Videos that cannot be read now are left out; without any it is `USUAL_SHARE`.
    """
    overlaps = []
    for vid in sorted({record.vid for record in held}):
        try:
            video = tuned.encode(videos[vid], cache=cache, allow_truncated=options.allow_truncated)
        except ITEM_ERRORS:
            continue
        for record in held:
            if record.vid == vid:
                domain = record.extra.get("domain")
                curves = (
                    tuned.similarity(video, record.query),
                    tuned.learned(video, record.query, domain if domain in tuned.domains else None),
                )
                overlaps.append(
                    [
                        _overlap(tuned.read(video, mixed(*curves, share), 1), record)
                        for share in SHARES
                    ]
                )
    return best_share(np.mean(overlaps, axis=0)) if overlaps else USUAL_SHARE


def _overlap(moments: Sequence[Moment], record: Annotation) -> float:
    first = [(moment.start, moment.end) for moment in moments]
    return float(iou(first, record.relevant_windows).max())


def selected_by(validation: Sequence[Annotation] | None, held: Sequence[Annotation]) -> str:
    """Return by what the weights of a model were selected, for its manifest."""
    if not held:
        return "nothing: the last step"
    return "annotations" if validation else "held-out labels"
