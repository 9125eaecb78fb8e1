"""Training of prompts and head: one visible Accelerate loop that survives being killed.

What happens in step n depends only on the weights, the optimizer, the options and n: batches come
from (seed, epoch), augmentation from (seed, sample), dropout from (seed, step, process). Denoising
(`zsvg.training.denoising`) adds the present windows and weights of the labels, which checkpoints
keep. What answers (held-out labels, denoising, the end) is the running mean of the weights, if any.
Continuing from a checkpoint therefore ends with the same bytes as a run that was never interrupted
(on the CPU with the same number of threads).

Several processes share every batch (`zsvg.training.distributed`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from zsvg.errors import ZsvgError
from zsvg.heads.encoder import Truth
from zsvg.training.answers import Asked, encoded
from zsvg.training.averaging import RunningMean
from zsvg.training.batches import drawn_at, drawn_between, share_of_batch
from zsvg.training.checkpoint import Checkpoints, identity_of
from zsvg.training.denoising import denoised, describe_round
from zsvg.training.distributed import accelerated, average_gradients, samples_away, start_alike
from zsvg.training.examples import Example, collate
from zsvg.training.network import GroundingNetwork
from zsvg.training.options import History, TrainingOptions

_log = logging.getLogger(__name__)

_TEXTS_PER_PASS = 64  # of those that stay as they are, encoded before the first step


class TrainingError(ZsvgError):
    """Training cannot start, or diverged; the message says at which step and on what."""


def train(
    network: GroundingNetwork,
    train_examples: Sequence[Example],
    validation_examples: Sequence[Example],
    options: TrainingOptions,
    checkpoint_dir: str | Path,
    on_step: Callable[[int, float], None] | None = None,
) -> History:
    """Train prompts and head in place, and leave the best weights by validation in them.

    The same call after an interruption continues from the last checkpoint. Prompts stay attached.

    Args:
        network: What to train; its backbone stays frozen.
        train_examples: At least one.
        validation_examples: Choose the best step; without any the last step is kept.
        options: How.
        checkpoint_dir: Folder of checkpoints, made when needed and not removed at the end.
        on_step: Called with (steps done, loss of that step) in the main process.

    Raises:
        TrainingError: Nothing to train on, a batch that processes cannot share, processes that do
            not start alike, or a loss that is not finite.
        ModelFolderError: The folder holds a checkpoint of another run, or a damaged one.
    """
    if not train_examples:
        raise TrainingError("there are no training examples")
    with accelerated(network.backbone.device) as accelerator:
        _check_sharing(network, options, accelerator)
        run = _Run(
            network, train_examples, validation_examples, options, Path(checkpoint_dir), accelerator
        )
        while not run.ended:
            loss = run.step()
            with run.mean.in_use():
                run.validate()
                run.denoise()
            if accelerator.is_main_process:
                run.checkpoint()
                if on_step is not None:
                    on_step(run.history.steps, loss)
        accelerator.wait_for_everyone()
        run.take_best()
    network.eval()
    return run.history


def _check_sharing(
    network: GroundingNetwork, options: TrainingOptions, accelerator: Accelerator
) -> None:
    device = network.backbone.device
    if accelerator.device.type != device.type:
        raise TrainingError(
            f"the backbone is on {device} but Accelerate trains on {accelerator.device}; "
            "load the backbone on that device"
        )
    for name in ("batch_size", "visual_batch_size"):
        if (getattr(options, name) or 0) % accelerator.num_processes:
            raise TrainingError(
                f"{name} {getattr(options, name)} cannot be shared by "
                f"{accelerator.num_processes} processes; choose a multiple"
            )


@dataclass
class _Run:
    """A run between two steps: it starts from the checkpoint, if there is one.

    Attributes:
        network: What is trained.
        samples: What is trained on, as rounds of denoising have left it.
        held: Examples that choose the best step.
        options: How.
        folder: Of checkpoints.
        accelerator: What joins the processes.
        weights: What is trained, by name.
        mean: Their running mean.
        best: A copy of the best weights so far by validation, on the CPU.
        history: What happened.
        visual: Whether the last step trained prompts in the image tower.
    """

    network: GroundingNetwork
    samples: Sequence[Example]
    held: Sequence[Example]
    options: TrainingOptions
    folder: Path
    accelerator: Accelerator

    def __post_init__(self) -> None:
        network, options, accelerator = self.network, self.options, self.accelerator
        self.samples = _with_mean_weight_one(self.samples)
        network.attach()
        network.checkpoint_gradients(options.checkpoint_gradients)
        self.weights = network.trainable()
        identity = identity_of(network, self.samples, self.held, options, accelerator.num_processes)
        if options.visual_from and network.trains_vision:
            # Before weights of a checkpoint are read: as the visual prompts are at their start.
            self.samples, self.held = (encoded(network, e) for e in (self.samples, self.held))
        self.originals = self.samples
        self.mean = RunningMean(self.weights, options.average)
        self.best: dict[str, Tensor] = {}
        self.history = History()
        self.visual = False
        optimizer = _optimizer(self.weights, options, network.backbone.device)
        self.checkpoints = Checkpoints(
            folder=self.folder,
            identity=identity,
            weights=self.weights,
            mean=self.mean.values,
            optimizer=optimizer,
        )
        if (found := self.checkpoints.read()) is not None:
            progress, self.best = found
            step = progress.pop("step")
            self.samples = _with_labels(self.samples, progress.pop("labels", None))
            self.history = History.from_json(progress, resumed_at=step)
        if not start_alike(identity, self.weights, accelerator):
            raise TrainingError(
                "the processes do not start alike; give all of them the same labels, options and "
                "initial weights, and one folder of frame features"
            )
        self.asked = Asked(network, self._texts(), options.batch_size, accelerator)
        # The network stays as it is: what is trained is small, and averaged by
        # `average_gradients`. torch's DDP would take along the frozen backbone, and stop at weights
        # that a process does not use in a step (`FrameQuery`) or uses only in the loss
        # (`RunFit.scale`).
        self.optimizer = accelerator.prepare(optimizer)
        self.base_rates = [group["lr"] for group in optimizer.param_groups]

    def _texts(self) -> dict[str, Tensor]:
        """Return query -> token ids, and encode those that stay as they are.

        All of them now, in one order: the last bit of a text depends on what else is in its pass,
        and a resumed run must not meet them in others.
        """
        queries = sorted({example.query for example in [*self.samples, *self.held]})
        ids = self.network.tokenize(queries)
        for some in ids.split(_TEXTS_PER_PASS):
            self.network.remember_texts(some.to(self.network.backbone.device))
        return dict(zip(queries, ids, strict=True))

    @property
    def ended(self) -> bool:
        """Whether all steps are done, or so many validations brought nothing better."""
        history, options = self.history, self.options
        later = sum(step > history.best_step for step, _ in history.validation)
        stale = options.patience is not None and later >= options.patience
        return stale or history.steps == options.steps

    def step(self) -> float:
        """Do the next step, and return its loss."""
        step, options, network = self.history.steps, self.options, self.network
        self.visual = network.trains_vision and step >= options.visual_from
        torch.manual_seed(_seed(options.seed, step, self.accelerator.process_index))
        for group, base in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            rate = options.prompt_rate(step, coupled=network.coupled)
            group["lr"] = base * (rate if group["prompts"] else options.head_rate(step))
        network.train()
        self.optimizer.zero_grad()
        passes = range(step * options.accumulation, (step + 1) * options.accumulation)
        totals: dict[str, Tensor] = {}
        for index in passes:
            for name, value in self._pass(index).items():
                totals[name] = totals.get(name, 0.0) + value.detach() / options.accumulation
        means = self.accelerator.reduce(torch.stack(list(totals.values())), reduction="mean")
        values = dict(zip(totals, means.tolist(), strict=True))
        loss = math.fsum(values.values())
        if not math.isfinite(loss):
            seen = [drawn_at(self.samples, options, options.positions(index)) for index in passes]
            vids = sorted({example.vid for drawn in seen for example, _ in drawn})
            raise TrainingError(
                f"the loss is not finite at step {step + 1} ({values}); check the features of "
                f"{', '.join(vids[:4])}, or lower the learning rates"
            )
        weights = list(self.weights.values())
        average_gradients(weights, self.accelerator)
        self.accelerator.clip_grad_norm_(weights, options.max_gradient_norm)
        self.optimizer.step()
        self.mean.take_in(step)
        self.history.losses.append(loss)
        for name, term in values.items():
            self.history.terms.setdefault(name, []).append(term)
        return loss

    def _pass(self, index: int) -> dict[str, Tensor]:
        """Add the gradients of a pass, and return the terms of its loss."""
        options, device = self.options, self.network.backbone.device
        chosen = share_of_batch(self.samples, options, index, self.accelerator)
        batch = collate(chosen, self.asked.texts, device, raw_frames=self.visual)
        with torch.autocast(device.type, torch.bfloat16, enabled=options.mixed_precision == "bf16"):
            output = self.network(batch, teacher=True)
        truth = Truth(
            target=batch.target,
            inside=batch.inside,
            weight=batch.weight,
            away=samples_away(output, self.accelerator),
        )
        terms = self.network.head.loss(output, truth)
        self.accelerator.backward(sum(terms.values()) / options.accumulation)
        return terms

    def validate(self) -> None:
        """Score the weights where it is time, and keep them if they are the best."""
        history, done = self.history, self.history.steps
        if not self.held or not self.options.validates_after(done):
            return
        score = self.asked.score(self.held, self.visual)
        history.validation.append((done, score))
        _log.info("step %d: loss %.4f, held-out labels %.4f", done, history.losses[-1], score)
        if history.best_score is None or score > history.best_score:
            history.best_step, history.best_score = done, score
            self.best = _kept(self.weights)

    def denoise(self) -> None:
        """Let the network judge its labels where it is time."""
        done, before = self.history.steps, self.samples
        due = self.options.round_after(done, visual=self.network.trains_vision)
        if not due or self.ended or not any(sample.doubtful for sample in before):
            return
        # The others will be judged when they are about to be drawn.
        visual = self.network.trains_vision
        later = range(done + 1, self.options.steps)
        until = next(
            (step for step in later if self.options.round_after(step, visual=visual)),
            self.options.steps,
        )
        judged = drawn_between(len(before), self.options, done, until)
        some = [before[index] for index in judged]
        moments, scores = self.asked.answers(some, self.visual)
        fresh = denoised(
            some,
            [self.originals[index] for index in judged],
            moments,
            scores,
            move=self.options.denoise in ("labels", "both"),
            weigh=self.options.denoise in ("weights", "both"),
        )
        samples = [
            replace(sample, weight=original.weight)
            for sample, original in zip(before, self.originals, strict=True)
        ]
        for index, sample in zip(judged, fresh, strict=True):
            samples[index] = sample
        self.samples = samples
        self.history.rounds.append({"step": done} | describe_round(some, fresh))

    def checkpoint(self) -> None:
        """Write a checkpoint where it is time."""
        history, done = self.history, self.history.steps
        if self.ended or done % self.options.checkpoint_every == 0:
            progress = history.to_json() | {"step": done} | _labels(self.samples, history)
            self.checkpoints.write(progress, self.best)

    @torch.no_grad()
    def take_best(self) -> None:
        """Leave the best weights in the network; without validation those are the last mean."""
        if not self.held:
            self.history.best_step, self.best = self.history.steps, _kept(self.mean.values)
        for name, value in self.best.items():
            self.weights[name].copy_(value)


def _kept(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in weights.items()}


def _optimizer(
    weights: Mapping[str, torch.nn.Parameter], options: TrainingOptions, device: torch.device
) -> torch.optim.AdamW:
    """Group prompts, borders, and the matrices and all else of the head; only matrices decay."""
    head = [p for name, p in weights.items() if not name.startswith("model.")]
    tuner = {name: p for name, p in weights.items() if name.startswith("model.")}
    borders = [p for name, p in tuner.items() if ".prompt_border." in name]
    prompts = [p for name, p in tuner.items() if ".prompt_border." not in name]
    of_prompts = {"prompts": True, "weight_decay": 0.0}
    of_head = {"prompts": False, "lr": options.head_learning_rate}
    groups = [
        {"params": prompts, "lr": options.prompt_learning_rate, **of_prompts},
        {"params": borders, "lr": options.border_learning_rate, **of_prompts},
        {"params": [p for p in head if p.ndim > 1], **of_head},
        {"params": [p for p in head if p.ndim <= 1], **of_head, "weight_decay": 0.0},
    ]
    fused = device.type in ("cpu", "cuda")
    used = [group for group in groups if group["params"]]
    return torch.optim.AdamW(used, weight_decay=options.weight_decay, fused=fused)


def _with_mean_weight_one(examples: Sequence[Example]) -> list[Example]:
    mean = float(np.mean([example.weight for example in examples]))
    if mean <= 0:
        raise TrainingError("all training examples have weight 0")
    return [replace(example, weight=example.weight / mean) for example in examples]


def _labels(samples: Sequence[Example], history: History) -> dict[str, list[list[float]]]:
    """Return what rounds have changed, for the checkpoint: start, end and weight by sample."""
    if not history.rounds:
        return {}
    return {"labels": [[*map(float, e.windows[0]), e.weight] for e in samples]}


def _with_labels(samples: Sequence[Example], labels: list[list[float]] | None) -> Sequence[Example]:
    """Put back what `_labels` gave; samples of several windows only have other weights."""
    if labels is None:
        return samples
    return [
        replace(
            example,
            windows=np.array([[start, end]]) if len(example.windows) == 1 else example.windows,
            weight=weight,
        )
        for example, (start, end, weight) in zip(samples, labels, strict=True)
    ]


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
