"""Loading a saved prompt adapter, with errors where PEFT only warns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import PeftConfig, PeftModel, get_peft_model_state_dict
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError, safe_open
from torch import nn

from zsvg.errors import BackboneError, ModelFolderError, RecipeError
from zsvg.tuners.config import PromptConfig
from zsvg.tuners.model import PromptModel


def read_adapter(folder: Path) -> PromptConfig:
    """Read and check the config of a saved prompt adapter.

    Raises:
        ModelFolderError: A file is missing or malformed, or the config is not one of prompts.
    """
    for name in (CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME):
        if not (folder / name).is_file():
            raise ModelFolderError(f"{folder}: there is no {name}; is this an adapter folder?")
    try:
        config = PeftConfig.from_pretrained(str(folder))
    except (KeyError, TypeError, ValueError, RecipeError) as error:
        raise ModelFolderError(f"{folder / CONFIG_NAME}: cannot be read: {error}") from error
    if not isinstance(config, PromptConfig):
        raise ModelFolderError(f"{folder}: a {config.peft_type} adapter, not prompts of zsvg")
    return config


def load_adapter(
    model: nn.Module, folder: str | Path, adapter_name: str = "default", *, trainable: bool = False
) -> PeftModel:
    """Load a saved prompt adapter onto a backbone, or beside the adapters of a `PeftModel`.

    Like `PeftModel.from_pretrained`, but an adapter that does not fit is an error, not a warning,
    and leaves the model as it was.

    Args:
        model: The backbone (wrapped in place), or a `PeftModel` that gets one more adapter, which
            `set_adapter` then activates.
        folder: Holds `adapter_config.json` and `adapter_model.safetensors`.
        adapter_name: The adapter's name in the `PeftModel`.
        trainable: Leave the prompts trainable.

    Raises:
        ModelFolderError: A file is missing or malformed, or the prompts do not fit the towers.
    """
    folder = Path(folder)
    config = read_adapter(folder)
    config.inference_mode = not trainable
    beside = isinstance(model, PeftModel)
    peft_model: Any = model
    try:
        if beside:
            peft_model.add_adapter(adapter_name, config)
        else:
            peft_model = PeftModel(model, config, adapter_name)
    except (BackboneError, ModelFolderError, RecipeError) as error:
        raise ModelFolderError(f"{folder}: {error}") from error
    try:
        _check_tensors(peft_model, folder / SAFETENSORS_WEIGHTS_NAME, adapter_name)
        peft_model.load_adapter(str(folder), adapter_name, is_trainable=trainable)
    except Exception:
        if beside:
            peft_model.delete_adapter(adapter_name)
        else:
            peft_model.unload()
        raise
    return peft_model


def _check_tensors(model: PeftModel, path: Path, adapter_name: str) -> None:
    expected = {
        key: list(value.shape)
        for key, value in get_peft_model_state_dict(
            model, adapter_name=adapter_name, save_embedding_layers=False
        ).items()
    }
    try:
        with safe_open(path, framework="pt") as tensors:
            found = {key: tensors.get_slice(key).get_shape() for key in tensors.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ModelFolderError(f"{path}: cannot be read: {error}") from error
    if others := sorted(key for key in found if f".{PromptModel.prefix}" not in key):
        raise ModelFolderError(
            f"{path}: holds {others[0]}, which is no prompt, and nothing else is loaded; save the "
            "adapter without modules_to_save, and with save_embedding_layers=False"
        )
    for key in sorted(expected.keys() | found.keys()):
        if expected.get(key) != found.get(key):
            raise ModelFolderError(
                f"{path}: {key} has shape {found.get(key, 'none (missing)')}, this backbone needs "
                f"{expected.get(key, 'none')}; the prompts belong to another backbone"
            )
