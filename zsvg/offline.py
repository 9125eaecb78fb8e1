"""Which models are on this machine already, so that naming them downloads nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

WEIGHTS = (
    *("open_clip_model.safetensors", "open_clip_pytorch_model.bin", "model.safetensors"),
    *("model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"),
)
_OPEN_CLIP = WEIGHTS[:2]


@dataclass(frozen=True, kw_only=True)
class OfflineModels:
    """Names that zsvg takes, by what they can be.

    Attributes:
        backbones: For `--backbone`, or `--model` without tuning.
        captioners: For `--captioner`.
        encoders: For `--model captions:ENCODER`.
    """

    backbones: tuple[str, ...]
    captioners: tuple[str, ...]
    encoders: tuple[str, ...]


def hub_folder() -> Path:
    """Return where Hugging Face's libraries keep their downloads."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def offline_models(hub: Path | None = None) -> OfflineModels:
    """Return the models that can be loaded without a network.

    That their weights and configurations are there is all that is checked.

    Args:
        hub: Folder of downloads; by default that of Hugging Face's libraries.
    """
    hub = hub or hub_folder()
    repositories = {
        folder.name.removeprefix("models--").replace("--", "/"): _newest(folder)
        for folder in sorted(hub.glob("models--*--*"))
    }
    present = {name: files for name, files in repositories.items() if _has(files, WEIGHTS)}
    backbones, captioners, encoders = ["micro", *_tags(repositories)], ["micro"], ["tfidf"]
    for name, files in present.items():
        if _has(files, _OPEN_CLIP) and "open_clip_config.json" in files:
            backbones.append(f"hf-hub:{name}")
        if "modules.json" in files:
            encoders.append(name)
        elif _is_captioner(files.get("config.json")):
            captioners.append(name)
    return OfflineModels(
        backbones=tuple(backbones), captioners=tuple(captioners), encoders=tuple(encoders)
    )


def _newest(repository: Path) -> dict[str, Path]:
    """Return name -> file of the snapshot that the main branch pointed to at the last download."""
    try:
        snapshot = repository / "snapshots" / (repository / "refs" / "main").read_text().strip()
        return {file.name: file for file in snapshot.iterdir() if file.exists()}
    except OSError:
        return {}


def _has(files: dict[str, Path], wanted: tuple[str, ...]) -> bool:
    return any(name in files for name in wanted)


def _tags(repositories: dict[str, dict[str, Path]]) -> list[str]:
    """Return the ARCH/TAG names of open_clip whose weights are there."""
    import open_clip

    found = []
    for architecture, tag in open_clip.list_pretrained():
        place = (open_clip.get_pretrained_cfg(architecture, tag) or {}).get("hf_hub", "")
        name, _, file = place.rpartition("/")
        if _has(repositories.get(name, {}), (file, *_OPEN_CLIP) if file else _OPEN_CLIP):
            found.append(f"{architecture}/{tag}")
    return found


def _is_captioner(config: Path | None) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    if config is None:
        return False
    try:
        kind = json.loads(config.read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError):
        return False
    return kind == "blip" or kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
