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
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from zsvg.errors import ZsvgError
from zsvg.heads.encoder import Truth
from zsvg.training.answers import all_answers, encoded, validate
from zsvg.training.averaging import RunningMean
from zsvg.training.batches import drawn_at, share_of_batch
from zsvg.training.checkpoint import identity_of, read_checkpoint, write_checkpoint
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
        return _train(
            network, train_examples, validation_examples, options, checkpoint_dir, on_step,
            accelerator,
        )  # fmt: skip


def _train(
    network: GroundingNetwork,
    train_examples: Sequence[Example],
    validation_examples: Sequence[Example],
    options: TrainingOptions,
    checkpoint_dir: str | Path,
    on_step: Callable[[int, float], None] | None,
    accelerator: Accelerator,
) -> History:
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
    folder = Path(checkpoint_dir)
    samples = _with_mean_weight_one(train_examples)
    network.attach()
    network.checkpoint_gradients(options.checkpoint_gradients)
    weights = network.trainable()
    optimizer = _optimizer(weights, options, device)
    identity = identity_of(
        network, samples, validation_examples, options, accelerator.num_processes
    )
    if options.visual_from and network.trains_vision:
        # Before weights of a checkpoint are read: as the visual prompts are at their start.
        samples, validation_examples = (
            encoded(network, examples) for examples in (samples, validation_examples)
        )
    originals, doubts = samples, any(sample.doubtful for sample in samples)
    history, best, mean = History(), dict[str, Tensor](), RunningMean(weights, options.average)
    resumed = read_checkpoint(
        folder, identity=identity, weights=weights, mean=mean.values, optimizer=optimizer
    )
    if resumed is not None:
        progress, best = resumed
        step = progress.pop("step")
        samples = _with_labels(samples, progress.pop("labels", None))
        history = History.from_json(progress, resumed_at=step)
    if not start_alike(identity, weights, accelerator):
        raise TrainingError(
            "the processes do not start alike; give all of them the same labels, options and "
            "initial weights, and one folder of frame features"
        )
    texts = _token_ids(network, [*samples, *validation_examples])
    # All of them now, in one order: the last bit of a text depends on what else is in its pass, and
    # a resumed run must not meet them in others.
    for some in torch.stack([*texts.values()]).split(_TEXTS_PER_PASS):
        network.remember_texts(some.to(device))
    # The network stays as it is: what is trained is small, and averaged by `average_gradients`.
    # torch's DDP would take along the frozen backbone, and stop at weights that a process does not
    # use in a step (`FrameQuery`) or uses only in the loss (`RunFit.scale`).
    optimizer = accelerator.prepare(optimizer)
    base_rates = [group["lr"] for group in optimizer.param_groups]

    while history.steps < options.steps and not _stale(history, options):
        step = history.steps
        visual = network.trains_vision and step >= options.visual_from
        torch.manual_seed(_seed(options.seed, step, accelerator.process_index))
        for group, base in zip(optimizer.param_groups, base_rates, strict=True):
            rate = options.prompt_rate(step, coupled=network.coupled)
            group["lr"] = base * (rate if group["prompts"] else options.head_rate(step))
        network.train()
        optimizer.zero_grad()
        totals: dict[str, Tensor] = {}
        for part in range(options.accumulation):
            chosen = share_of_batch(
                samples, options, step * options.accumulation + part, accelerator
            )
            batch = collate(chosen, texts, device, raw_frames=visual)
            with torch.autocast(
                device.type, torch.bfloat16, enabled=options.mixed_precision == "bf16"
            ):
                output = network(batch, teacher=True)
            truth = Truth(
                target=batch.target,
                inside=batch.inside,
                weight=batch.weight,
                away=samples_away(output, accelerator),
            )
            terms = network.head.loss(output, truth)
            accelerator.backward(sum(terms.values()) / options.accumulation)
            for name, value in terms.items():
                totals[name] = totals.get(name, 0.0) + value.detach() / options.accumulation
        means = accelerator.reduce(torch.stack(list(totals.values())), reduction="mean")
        values = dict(zip(totals, means.tolist(), strict=True))
        loss = math.fsum(values.values())
        if not math.isfinite(loss):
            passes = range(step * options.accumulation, (step + 1) * options.accumulation)
            seen = [drawn_at(samples, options, options.positions(index)) for index in passes]
            vids = sorted({example.vid for drawn in seen for example, _ in drawn})
            raise TrainingError(
                f"the loss is not finite at step {step + 1} ({values}); check the features of "
                f"{', '.join(vids[:4])}, or lower the learning rates"
            )
        average_gradients(list(weights.values()), accelerator)
        accelerator.clip_grad_norm_(list(weights.values()), options.max_gradient_norm)
        optimizer.step()
        mean.take_in(step)

        history.losses.append(loss)
        for name, term in values.items():
            history.terms.setdefault(name, []).append(term)
        done = history.steps
        with mean.in_use():
            if validation_examples and options.validates_after(done):
                score = validate(network, validation_examples, texts, options, accelerator, visual)
                history.validation.append((done, score))
                _log.info("step %d: loss %.4f, held-out labels %.4f", done, loss, score)
                if history.best_score is None or score > history.best_score:
                    history.best_step, history.best_score = done, score
                    best = _kept(weights)
            ended = done == options.steps or _stale(history, options)
            due = options.round_after(done, visual=network.trains_vision)
            if doubts and due and not ended:
                moments, scores = all_answers(network, samples, texts, options, accelerator, visual)
                before, samples = (
                    samples,
                    denoised(
                        samples,
                        originals,
                        moments,
                        scores,
                        move=options.denoise in ("labels", "both"),
                        weigh=options.denoise in ("weights", "both"),
                    ),
                )
                history.rounds.append({"step": done} | describe_round(before, samples))
        if accelerator.is_main_process and (ended or done % options.checkpoint_every == 0):
            write_checkpoint(
                folder,
                identity=identity,
                progress=history.to_json() | {"step": done} | _labels(samples, history),
                weights=weights,
                mean=mean.values,
                best=best,
                optimizer=optimizer.optimizer,
            )
        if on_step is not None and accelerator.is_main_process:
            on_step(done, loss)
    accelerator.wait_for_everyone()
    if not validation_examples:
        history.best_step, best = history.steps, _kept(mean.values)
    with torch.no_grad():
        for name, value in best.items():
            weights[name].copy_(value)
    network.eval()
    return history


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
    rate = options.head_learning_rate
    of_prompts = {"prompts": True, "weight_decay": 0.0}
    groups = [
        {"params": prompts, "lr": options.prompt_learning_rate, **of_prompts},
        {"params": borders, "lr": options.border_learning_rate, **of_prompts},
        {"params": [p for p in head if p.ndim > 1], "lr": rate, "prompts": False},
        {
            "params": [p for p in head if p.ndim <= 1],
            "lr": rate,
            "prompts": False,
            "weight_decay": 0.0,
        },
    ]
    fused = device.type in ("cpu", "cuda")
    used = [group for group in groups if group["params"]]
    return torch.optim.AdamW(used, weight_decay=options.weight_decay, fused=fused)


def _stale(history: History, options: TrainingOptions) -> bool:
    if options.patience is None:
        return False
    return sum(step > history.best_step for step, _ in history.validation) >= options.patience


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


def _with_labels(samples: list[Example], labels: list[list[float]] | None) -> list[Example]:
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


def _token_ids(network: GroundingNetwork, examples: Sequence[Example]) -> dict[str, Tensor]:
    queries = sorted({example.query for example in examples})
    return dict(zip(queries, network.tokenize(queries), strict=True))


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
