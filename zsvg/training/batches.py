"""Which samples are in which batch: an endless stream of shuffled epochs, the same in every run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from accelerate import Accelerator

from zsvg.training.examples import Example, draw_sample
from zsvg.training.options import TrainingOptions


def share_of_batch(
    samples: Sequence[Example], options: TrainingOptions, index: int, accelerator: Accelerator
) -> list[tuple[Example, int]]:
    """Return this process's part of batch `index` of an endless stream of shuffled epochs."""
    every = options.positions(index)
    size = len(every) // accelerator.num_processes
    first = accelerator.process_index * size
    visual = index >= options.visual_from * options.accumulation
    most = options.visual_clips if visual else None
    return drawn_at(samples, options, every[first : first + size], most)


def drawn_at(
    samples: Sequence[Example], options: TrainingOptions, positions: range, most: int | None = None
) -> list[tuple[Example, int]]:
    """Return the samples at some positions of that stream, augmented."""
    chosen = []
    for position in positions:
        epoch, place = divmod(position, len(samples))
        order = _epoch_order(options.seed, epoch, len(samples))
        rng = np.random.default_rng([options.seed, 1, position])
        drawn = draw_sample(
            samples,
            int(order[place]),
            rng,
            crop_rate=options.crop_rate,
            concatenate_rate=options.concatenate_rate,
            stitch_rate=options.stitch_rate,
            most=most,
        )
        chosen.append(drawn)
    return chosen


def drawn_between(count: int, options: TrainingOptions, first: int, last: int) -> list[int]:
    """Return which of `count` samples steps `first` to before `last` draw, in their order."""
    passes = range(first * options.accumulation, last * options.accumulation)
    places = (divmod(at, count) for index in passes for at in options.positions(index))
    return sorted({int(_epoch_order(options.seed, epoch, count)[at]) for epoch, at in places})


@lru_cache(maxsize=4)
def _epoch_order(seed: int, epoch: int, count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.random.default_rng([seed, 0, epoch]).permutation(count)
