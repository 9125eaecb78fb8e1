"""Labels that are not trained on: which they are, and what a tuned model is worth on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsvg.backbones.base import TunableBackbone
from zsvg.backbones.names import MANIFEST
from zsvg.errors import ITEM_ERRORS, ZsvgError, failure
from zsvg.evaluation.intervals import gain
from zsvg.evaluation.metrics import best_overlaps
from zsvg.files import write_json
from zsvg.grounding.alignment import AMOUNTS
from zsvg.grounding.answers import Moment
from zsvg.grounding.grounder import Grounder
from zsvg.grounding.load import load
from zsvg.grounding.model_folder import detach_adapters
from zsvg.grounding.prediction import predict
from zsvg.grounding.presence import LEAST_VIDEOS, TRUE, calibrate
from zsvg.grounding.share import SHARES, USUAL_SHARE, mixed
from zsvg.moments import iou
from zsvg.records import Annotation, Prediction
from zsvg.training.labels import is_pseudo
from zsvg.training.options import TuneOptions
from zsvg.training.recipes import Recipe

# Few labels speak softly: a setting has to beat so many more that lose a little by all that is
# learned, so that a handful of lucky ones moves nothing.
_DOUBTERS = 50
_SHARE_DOUBT, _AMOUNT_DOUBT = 0.06, 0.08  # of the squares
DOUBTS = (_DOUBTERS, _SHARE_DOUBT, _AMOUNT_DOUBT)
"""What decides, beside the labels, how much of an answer is learned."""
_FEW = 5  # videos, of which an interval would mean nothing


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """What held-out labels say of a run; without any, nothing.

    Attributes:
        scores: mIoU of the first answers: "training-free" by the backbone alone, "tuned", and
            "aligned" by aligned sentences without the head, where the model aligns them. What is
            chosen on these labels is scored on the half of their videos that it was not chosen on.
        gain: Of "tuned" over "training-free", and its 95 % interval; None of a few videos.
        share: How much of the answers is to be the head's, see `zsvg.grounding.share`; nothing
            where labels of one video alone could tell.
        alignment: How far sentences are to be turned, see `zsvg.grounding.alignment`.
        presence: How likely the tuned model's answers are, see `zsvg.grounding.presence`.
        missing: vid -> why it could not be asked this time, so that its labels count as missed.
    """

    scores: Mapping[str, float] = field(default_factory=dict)
    gain: tuple[float, float, float] | None = None
    share: float = USUAL_SHARE
    alignment: float = 0.0
    presence: Mapping[str, Any] | None = None
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def told(self) -> dict[str, Any]:
        """What the manifest keeps of it."""
        return {
            "held_out": dict(self.scores),
            "gain": self.gain and list(self.gain),
            "share": self.share,
            "alignment": self.alignment,
            "presence": self.presence,
        }


def split_by_video(
    labels: Sequence[Annotation], share: float, seed: int
) -> tuple[list[Annotation], list[Annotation]]:
    """Hold out whole videos: (training, held-out), at least one video each, two of six or more.

    Raises:
        ZsvgError: All labels are of one video.
    """
    vids = sorted({label.vid for label in labels})
    if len(vids) < 2:
        raise ZsvgError(
            "labels of at least two videos are needed, one to hold out; or give --validation"
        )
    count = min(len(vids) - 1, max(1, min(LEAST_VIDEOS, len(vids) // 3), round(share * len(vids))))
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

    Labels that weigh nothing are neither. A window that the backbone found would choose the network
    that is most like the backbone.

    Raises:
        ZsvgError: No label weighs anything, or all are of one video.
    """
    given = labels
    labels = [a for a in given if a.extra.get("weight", 1.0) > 0]
    if given and not labels:
        raise ZsvgError("all labels have the weight 0: a verifier found none of them to hold")
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
    absent: Sequence[Annotation],
    videos: Mapping[str, Path],
    options: TuneOptions,
    cache: str | Path | None,
) -> HeldOut:
    """Score the saved folder and the bare backbone on the held-out labels, by the public path.

    Args:
        folder: The model folder, but for its manifest.
        manifest: What that tells so far.
        backbone: The frozen one.
        held: Labels that were not trained on, numbered from 0.
        absent: Sentences that are not true of their videos, their kind under "kind"; none where
            the model learned of nothing that is not there.
        videos: vid -> file.
        options: Of the run.
        cache: Folder of frame features.
    """
    write_json(folder / MANIFEST, manifest)
    free = Grounder(backbone, fps=options.fps, framing=options.framing)
    missing: dict[str, str] = {}

    def ask(grounder: Grounder, records: Sequence[Annotation]) -> list[Prediction]:
        found, failures = predict(
            grounder, records, videos, cache=cache, allow_truncated=options.allow_truncated
        )
        missing.update(failures)
        return found

    def overlaps(answers: Sequence[Prediction]) -> NDArray[np.float64]:
        by_qid = {answer.qid: answer.pred_relevant_windows or () for answer in answers}
        ranked = [by_qid.get(record.qid, ()) for record in held]
        return best_overlaps(ranked, [record.relevant_windows for record in held], 1)[0][:, 0]

    vids = [record.vid for record in held]
    try:
        rows = {"training-free": overlaps(ask(free, held))}
        tuned = load(folder, backbone=backbone)
        amount, share = 0.0, USUAL_SHARE
        tried = _tried(tuned, held, videos, options, cache, missing)
        if read := set(vids) - missing.keys():  # nothing read tells nothing
            if len(read) < LEAST_VIDEOS:
                tried = tried[:, :1, :1]  # nothing is left to choose
            place, column = _best(tried, len(held))
            amount, share = AMOUNTS[place], SHARES[column]
            half = _halves(vids)
            rows["tuned"] = _across(tried, half)
            if tuned.encoder == free.encoder:  # else frames are seen with what was trained
                rows["training-free"] = tried[:, 0, 0]
                if amount:
                    rows["aligned"] = _across(tried[:, :, :1], half)
        tuned.manifest |= {"share": share, "alignment": amount}
        # Together, so that each video is encoded once for both.
        others = [replace(a, qid=i) for i, a in enumerate(absent, len(held))]
        answers = ask(tuned, [*held, *others])
        rows.setdefault("tuned", overlaps(answers))
        kinds = [TRUE] * len(held) + [str(a.extra["kind"]) for a in others]
        presence = others and calibrate(
            [answer.extra["presence"] for answer in answers],
            [kinds[int(answer.qid)] for answer in answers],
            [answer.vid for answer in answers],
            doubtful=any(map(is_pseudo, held)),
        )
    finally:
        detach_adapters(backbone)
    sure = None
    if len(set(vids)) >= _FEW:
        sure = gain(rows["tuned"], rows["training-free"], vids)
    return HeldOut(
        scores={name: round(float(row.mean()), 6) for name, row in rows.items()},
        gain=sure and (round(sure[0], 6), round(sure[1], 6), round(sure[2], 6)),
        share=share,
        alignment=amount,
        presence=presence.told if presence else None,
        missing=missing,
    )


def _tried(
    tuned: Grounder,
    held: Sequence[Annotation],
    videos: Mapping[str, Path],
    options: TuneOptions,
    cache: str | Path | None,
    missing: dict[str, str],
) -> NDArray[np.float64]:
    """Return the overlaps of the first answers by each of `AMOUNTS` and `SHARES`, (n, A, S).

    Labels of videos that cannot be read now count as missed, and `missing` gets to know why.
    """
    amounts = AMOUNTS if tuned.alignment is not None else AMOUNTS[:1]
    overlaps = np.zeros((len(held), len(amounts), len(SHARES)))
    for vid in sorted({record.vid for record in held}):
        try:
            video = tuned.encode(videos[vid], cache=cache, allow_truncated=options.allow_truncated)
        except ITEM_ERRORS as error:
            missing[vid] = failure(videos[vid], error)
            continue
        for row, record in enumerate(held):
            if record.vid != vid:
                continue
            domain = record.extra.get("domain")
            domain = domain if domain in tuned.domains else None
            texts = tuned.parts(record.query).texts
            learned = {text: tuned.learned(video, text, domain) for text in texts}
            for place, amount in enumerate(amounts):
                similar = {text: tuned.similarity(video, text, amount) for text in texts}
                for column, share in enumerate(SHARES):
                    curves = {text: mixed(similar[text], learned[text], share) for text in texts}
                    read = tuned.read_sentence(video, record.query, curves)
                    overlaps[row, place, column] = _overlap(read.moments[:1], record)
    return overlaps


def _best(tried: NDArray[np.float64], labels: int) -> tuple[int, int]:
    """Return the places of the best amount and share: of equal ones, of the lowest.

    Args:
        tried: As `_tried` returns it, of all labels or of some.
        labels: How many there are in all: some are doubted by as many fewer.
    """
    amounts, shares = np.array(AMOUNTS[: tried.shape[1]]), np.array(SHARES[: tried.shape[2]])
    doubt = _AMOUNT_DOUBT * amounts[:, None] ** 2 + _SHARE_DOUBT * shares**2
    doubters = _DOUBTERS * len(tried) / labels
    told = np.round(tried.sum(axis=0) - doubters * doubt, 6)
    place, column = np.unravel_index(int(told.argmax()), told.shape)
    return int(place), int(column)


def _across(tried: NDArray[np.float64], half: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return each label's overlap (n,) by what is best on the labels of the other half.

    Of a single video nothing is chosen.
    """
    found: NDArray[np.float64] = tried[:, 0, 0].copy()
    if half.any():
        for side in (half, ~half):
            place, column = _best(tried[~side], len(tried))
            found[side] = tried[side, place, column]
    return found


def _halves(vids: Sequence[str]) -> NDArray[np.bool_]:
    """Return which labels are of every other video, (n,)."""
    order = {vid: place for place, vid in enumerate(sorted(set(vids)))}
    return np.array([order[vid] % 2 == 1 for vid in vids])


def _overlap(moments: Sequence[Moment], record: Annotation) -> float:
    # As predictions are written.
    first = [(round(moment.start, 3), round(moment.end, 3)) for moment in moments]
    return float(iou(first, record.relevant_windows).max())


def selected_by(validation: Sequence[Annotation] | None, held: Sequence[Annotation]) -> str:
    """Return by what the weights of a model were selected, for its manifest."""
    if not held:
        return "nothing: the last step"
    return "annotations" if validation else "held-out labels"
