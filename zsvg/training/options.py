"""How to train, and what happened: options of the loop in `zsvg.training.loop`, and its history."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import asdict, field
from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator
from pydantic.dataclasses import dataclass

from zsvg.training.supervision import Level
from zsvg.video.pictures import Framing
from zsvg.video.sampling import Sampling


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Training:
    """How to train: what a recipe says under `training`. `dataclasses.replace` checks again.

    Attributes:
        steps: Optimizer steps.
        batch_size: Samples per pass over all processes; a multiple of their number.
        visual_share: Share of the steps, the last ones, in which prompts in the image tower are
            trained. Until then the head learns from frame features that are made once, with those
            prompts as they start, and so do text prompts, unless they are coupled. Then the head
            stands still, and frames are encoded again at every step.
        visual_batch_size: Samples per pass from then on; None keeps `batch_size`.
        visual_clips: Clips that a sample has at most from then on: longer videos are cut to a
            random stretch around the moment, and none are put together; None takes them whole.
        accumulation: Passes per optimizer step; queries are contrasted within a pass, over all
            processes.
        prompt_learning_rate: Peak learning rate of the prompts.
        border_learning_rate: That of a learned border of the pictures (TVP): normalised pixels are
            about 1 in size, token embeddings of CLIP about 0.01.
        head_learning_rate: Peak learning rate of the head.
        weight_decay: AdamW's, on matrices of the head only.
        warmup: Steps of linear increase.
        cosine: Fall to 0 along a cosine after the warm-up; False keeps the peak.
        max_gradient_norm: Gradients are scaled down to this norm.
        average: What the running mean of the weights keeps per step, in [0, 1): its memory is of
            1 / (1 - average) steps. 0 takes the last weights.
        validate_every: Steps between validations; the last step always validates.
        patience: Stop after so many validations without a better one; None never stops early.
        checkpoint_every: Steps between checkpoints.
        checkpoint_gradients: Prompts of the image tower take less memory and more time.
        crop_rate: Share of samples cut to a random stretch around their moment.
        concatenate_rate: Share of samples that get another video put before or after them.
        stitch_rate: Share of the others whose moment alone is put into another video.
        denoise: Of pseudo labels: "weights" lets those that the network doubts count less, "labels"
            moves windows towards its answers, "both" does both, "no" trusts them
            (`zsvg.training.denoising`).
        denoise_from: Steps before the first round; None is half of the steps, as in SPL.
        denoise_every: Steps between rounds. Each answers the examples that are drawn until the
            next; there are none any more once prompts of the image tower have joined, whose
            frames that would encode.

    Raises:
        pydantic.ValidationError: A value is out of range; it is a ValueError.
    """

    steps: int = Field(default=200, ge=1)
    batch_size: int = Field(default=32, ge=1)
    accumulation: int = Field(default=1, ge=1)
    prompt_learning_rate: float = Field(default=2e-3, gt=0)
    border_learning_rate: float = Field(default=1e-2, gt=0)
    head_learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    warmup: int = Field(default=30, ge=0)
    cosine: bool = True
    max_gradient_norm: float = Field(default=1.0, gt=0)
    average: float = Field(default=0.96, ge=0, lt=1)
    validate_every: int = Field(default=25, ge=1)
    patience: int | None = Field(default=None, ge=1)
    checkpoint_every: int = Field(default=20, ge=1)
    checkpoint_gradients: bool = False
    crop_rate: float = Field(default=0.3, ge=0, le=1)
    concatenate_rate: float = Field(default=0.3, ge=0, le=1)
    stitch_rate: float = Field(default=0.0, ge=0, le=1)
    denoise: Literal["no", "weights", "labels", "both"] = "weights"
    denoise_from: int | None = Field(default=None, ge=1)
    denoise_every: int = Field(default=25, ge=1)
    visual_share: float = Field(default=1.0, gt=0, le=1)
    visual_batch_size: int | None = Field(default=None, ge=1)
    visual_clips: int | None = Field(default=None, ge=1)

    @field_validator("denoise", mode="before")
    @classmethod
    def _unquoted_no(cls, value: Any) -> Any:
        """Accept `denoise: no`, which YAML reads as false."""
        return "no" if value is False else value

    @model_validator(mode="after")
    def _denoises_before_the_end(self) -> Training:
        if self.denoise_from is not None and self.denoise_from >= self.steps:
            raise ValueError(
                f"denoise_from {self.denoise_from} must be below steps {self.steps}; leave it out "
                "for half of them"
            )
        return self


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class TrainingOptions(Training):
    """How to train, with what is not a recipe's to say.

    Attributes:
        seed: Of batches, augmentation and dropout. (The caller seeds initial weights.)
        mixed_precision: "no", or "bf16" for autocast.
    """

    seed: int = Field(default=0, ge=0)
    mixed_precision: Literal["no", "bf16"] = "no"

    @property
    def visual_from(self) -> int:
        """Steps before prompts in the image tower are trained."""
        return self.steps - max(1, round(self.visual_share * self.steps))

    def positions(self, index: int) -> range:
        """Return where pass 0, 1, ... lies in the endless stream of samples."""
        early = min(index, self.visual_from * self.accumulation)
        size = self.batch_size
        first = early * size
        if index >= self.visual_from * self.accumulation:
            size = self.visual_batch_size or size
            first += (index - early) * size
        return range(first, first + size)

    def validates_after(self, step: int) -> bool:
        """Return whether answers are scored after so many steps."""
        return step % self.validate_every == 0 or step == self.steps

    def round_after(self, step: int, *, visual: bool = False) -> bool:
        """Return whether the labels are denoised after so many steps."""
        if self.denoise == "no" or (visual and step > self.visual_from > 0):
            return False
        first = max(1, self.steps // 2) if self.denoise_from is None else self.denoise_from
        return step >= first and (step - first) % self.denoise_every == 0

    def head_rate(self, step: int) -> float:
        """Return the head's learning rate in step 0, 1, ... relative to its peak, in [0, 1].

        It stands still while prompts in the image tower join: small batches, which are all that
        can be encoded again, would undo what it learned.
        """
        if not self.visual_from:
            return self._rate(step, self.steps, self.warmup)
        return 0.0 if step >= self.visual_from else self._rate(step, self.visual_from, self.warmup)

    def prompt_rate(self, step: int, *, coupled: bool = False) -> float:
        """Return the prompts' rate likewise: it starts again when those in the image tower join.

        Coupled ones wait until then: they would move prompts whose features are at hand.
        """
        if not self.visual_from:
            return self._rate(step, self.steps, self.warmup)
        if coupled and step < self.visual_from:
            return 0.0
        first, end = (0, self.visual_from) if step < self.visual_from else (
            self.visual_from, self.steps)  # fmt: skip
        return self._rate(step - first, end - first, min(self.warmup, (end - first) // 5))

    def _rate(self, step: int, steps: int, warmup: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if not self.cosine:
            return 1.0
        done = (step - warmup) / max(steps - warmup, 1)
        return 0.5 * (1 + math.cos(math.pi * done))


@dataclasses.dataclass(kw_only=True)
class History:
    """What happened, step by step; it grows during the run and is the same after a resume.

    Attributes:
        losses: (n,) total training loss of steps 1 to n.
        terms: The named parts of the loss, (n,) each.
        validation: (steps done, mIoU of the first answer in [0, 1]) pairs.
        best_step: Steps after which the weights that are kept were reached.
        best_score: Their validation mIoU; None without validation examples.
        rounds: One per round of denoising: "step", and what
            `zsvg.training.denoising.describe_round` says.
        resumed_at: Steps that an earlier process had done; not part of `to_json`.
    """

    losses: list[float] = field(default_factory=list)
    terms: dict[str, list[float]] = field(default_factory=dict)
    validation: list[tuple[int, float]] = field(default_factory=list)
    best_step: int = 0
    best_score: float | None = None
    rounds: list[dict[str, float]] = field(default_factory=list)
    resumed_at: int = 0

    @property
    def steps(self) -> int:
        """Steps done."""
        return len(self.losses)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values that do not depend on interruptions; "rounds" only if there were."""
        values = asdict(self)
        del values["resumed_at"]
        if not self.rounds:
            del values["rounds"]
        return values | {"validation": [list(pair) for pair in self.validation]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], *, resumed_at: int = 0) -> History:
        """Read what `to_json` gave."""
        pairs = [(int(step), float(score)) for step, score in values["validation"]]
        return cls(**{**values, "validation": pairs}, resumed_at=resumed_at)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuneOptions:
    """What is not part of a recipe: seed, what is seen of true labels, sampling, precision."""

    seed: int = 0
    supervision: Level = "full"
    fps: float = 2.0
    framing: Framing = "crop"
    mixed_precision: Literal["no", "bf16"] = "no"
    allow_truncated: bool = False

    @property
    def sampling(self) -> Sampling:
        """How frames of videos are chosen.

        Raises:
            ValueError: One of its values is out of range.
        """
        return Sampling(self.fps, self.framing, self.allow_truncated)
