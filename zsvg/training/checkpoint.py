"""Checkpoints of a training run: tensors as safetensors, the rest JSON, no pickle.

A checkpoint is `step-N.safetensors` and the pointer `checkpoint.json`, each renamed into place, the
pointer last. A process that is killed at any time therefore leaves the old checkpoint or the new.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from zsvg.errors import ModelFolderError
from zsvg.files import atomic_path, remove_own, sha256_json, write_json
from zsvg.training.examples import Example
from zsvg.training.network import GroundingNetwork
from zsvg.training.options import TrainingOptions

POINTER = "checkpoint.json"
# "step" too: a parameter counts the steps that it had a gradient in, not those of the run.
_STATE = ("exp_avg", "exp_avg_sq", "step")


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """The checkpoints of a run, of which the last one stays.

    Attributes:
        folder: Where they live.
        identity: Hashes of what the run is made of, by name.
        weights: Trained parameters by name.
        mean: Their running mean, may be empty.
        optimizer: An AdamW over exactly these parameters.
    """

    folder: Path
    identity: Mapping[str, str]
    weights: Mapping[str, Tensor]
    mean: dict[str, Tensor]
    optimizer: torch.optim.AdamW

    def write(self, progress: Mapping[str, Any], best: Mapping[str, Tensor]) -> None:
        """Write the state after `progress["step"]` steps, and drop the checkpoint before it.

        Args:
            progress: JSON values; "step" among them.
            best: The best weights so far by validation, may be empty.
        """
        step = int(progress["step"])
        tensors = {f"weights/{name}": value for name, value in self.weights.items()}
        for part, values in (("mean", self.mean), ("best", best)):
            tensors |= {f"{part}/{name}": value for name, value in values.items()}
        for name, parameter in self.weights.items():
            state = self.optimizer.state.get(parameter, {})
            tensors |= {f"{key}/{name}": state[key] for key in _STATE if key in state}
        name = f"step-{step:08d}.safetensors"
        with atomic_path(self.folder / name) as temporary:
            # As bytes: safetensors' own error would not tell a full disk from a damaged file.
            temporary.write_bytes(
                save({k: v.detach().cpu().contiguous() for k, v in tensors.items()})
            )
        write_json(
            self.folder / POINTER,
            {"tensors": name, "identity": dict(self.identity), "progress": dict(progress)},
        )
        remove_own(self.folder, lambda other: _own(other) and other not in (name, POINTER))

    def read(self) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        """Load the checkpoint into `weights`, `mean` and `optimizer`.

        Returns:
            The progress and the best weights (on the CPU); None when there is no checkpoint yet.

        Raises:
            ModelFolderError: The checkpoint is damaged, or belongs to another run.
        """
        if not (self.folder / POINTER).is_file():
            return None
        try:
            pointer = json.loads((self.folder / POINTER).read_text(encoding="utf-8"))
            found, progress = pointer["identity"], dict(pointer["progress"])
            differing = sorted(
                k for k in {*self.identity, *found} if self.identity.get(k) != found.get(k)
            )
            if differing:
                raise ModelFolderError(
                    f"{self.folder}: holds a checkpoint of another run (other "
                    f"{', '.join(differing)}); delete the folder to start again, or repeat that "
                    "run's settings to continue it"
                )
            tensors = load_file(self.folder / pointer["tensors"])
            with torch.no_grad():
                for name, parameter in self.weights.items():
                    parameter.copy_(tensors[f"weights/{name}"])
                    if f"mean/{name}" in tensors:
                        self.mean[name] = tensors[f"mean/{name}"].to(parameter)
                    if f"exp_avg/{name}" in tensors:
                        self.optimizer.state[parameter] = self._adam_state(tensors, name)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            raise ModelFolderError(
                f"{self.folder}: the checkpoint cannot be read ({reason}); delete the folder to "
                "start again"
            ) from error
        best = {k.removeprefix("best/"): v for k, v in tensors.items() if k.startswith("best/")}
        return progress, best

    def _adam_state(self, tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
        """Return AdamW's state of one parameter; fused steps count on the parameter's device."""
        parameter = self.weights[name]
        device = parameter.device if self.optimizer.defaults["fused"] else torch.device("cpu")
        state = {key: tensors[f"{key}/{name}"].to(parameter) for key in _STATE}
        return state | {"step": tensors[f"step/{name}"].to(device)}


def remove_checkpoint(folder: Path) -> None:
    """Remove what `write_checkpoint` wrote, and the folder if nothing else is in it."""
    remove_own(folder, _own)


def _own(name: str) -> bool:
    return name == POINTER or re.fullmatch(r"step-\d{8,}\.safetensors", name) is not None


def identity_of(
    network: GroundingNetwork,
    samples: Sequence[Example],
    validation: Sequence[Example],
    options: TrainingOptions,
    processes: int,
) -> dict[str, str]:
    """Hash, part by part, everything that decides the result; `read_checkpoint` compares it."""
    shapes = {name: list(value.shape) for name, value in network.trainable().items()}
    head = asdict(network.head.config)
    return {
        "network": sha256_json([network.backbone.fingerprint, head, shapes]),
        "training data": _data_hash(samples),
        "validation data": _data_hash(validation),
        "options": sha256_json(asdict(options)),
        "number of processes": str(processes),
    }


def _data_hash(examples: Sequence[Example]) -> str:
    digests: dict[int, str] = {}  # examples of one video share its features

    def rows() -> Iterator[list[Any]]:
        for example in examples:
            key = id(example.features)
            if key not in digests:
                content = np.ascontiguousarray(example.features)
                digests[key] = hashlib.sha256(content.tobytes()).hexdigest()
            times = [example.centres.tolist(), example.windows.tolist(), example.duration]
            about = [example.vid, example.domain, example.query, example.weight]
            about += [example.doubtful, example.glance]
            yield [*about, digests[key], *times]

    return sha256_json(list(rows()))
