"""Which models are on this machine already, so that naming them downloads nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

WEIGHTS = (
    *("open_clip_model.safetensors", "open_clip_pytorch_model.bin", "model.safetensors"),
    *("model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"),
)
_OPEN_CLIP = WEIGHTS[:2]
_HUB = "hf-hub:"


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
    backbones, captioners, encoders = ["micro", *_tags(hub)], ["micro"], ["tfidf"]
    for folder in sorted((hub or hub_folder()).glob("models--*--*")):
        name = folder.name.removeprefix("models--").replace("--", "/")
        if not _stored(name, WEIGHTS, hub):
            continue
        if _is_backbone(name, hub):
            backbones.append(f"{_HUB}{name}")
        if _stored(name, ("modules.json",), hub):
            encoders.append(name)
        elif _is_captioner(_stored(name, ("config.json",), hub)):
            captioners.append(name)
    return OfflineModels(
        backbones=tuple(backbones), captioners=tuple(captioners), encoders=tuple(encoders)
    )


@dataclass(frozen=True, kw_only=True)
class Missing:
    """A backbone that has to be downloaded before it can be used.

    Attributes:
        repository: ORG/NAME on the hub.
        listed: It belongs to open_clip's own list, whose weights are known to be what they say.
        files: Names that its weights may have, the first that is there is taken.
    """

    repository: str
    listed: bool
    files: tuple[str, ...] = _OPEN_CLIP

    def megabytes(self) -> int | None:
        """Ask the hub how large the weights are; None: it does not say."""
        from huggingface_hub import HfApi

        try:
            about = HfApi().model_info(self.repository, files_metadata=True, timeout=10)
            sizes = {file.rfilename: file.size for file in about.siblings or ()}
        except Exception:  # the hub raises a dozen unrelated types, and the download will tell
            return None
        size = next(filter(None, map(sizes.get, self.files)), None)
        return None if size is None else round(size / 1e6)


def missing(name: str) -> Missing | None:
    """Return what a backbone's name would download; None: nothing, or it is no such name.

    Args:
        name: As of `load_backbone`.
    """
    if name.startswith(_HUB):
        repository = name.removeprefix(_HUB)
        return None if _is_backbone(repository) else Missing(repository=repository, listed=False)
    repository, files = weights_place(name)
    if not repository or _stored(repository, files):
        return None
    return Missing(repository=repository, listed=True, files=files)


@contextmanager
def nothing_fetched() -> Iterator[None]:
    """Keep Hugging Face's libraries, and thereby open_clip, to what they have downloaded before."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _stored(repository: str, files: Iterable[str], hub: Path | None = None) -> str | None:
    """Return the first of the files that the last download of the main branch has left here."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        paths = [try_to_load_from_cache(repository, file, cache_dir=hub) for file in files]
    except (HFValidationError, OSError):  # no repository can have such a name, or be read here
        return None
    return next((path for path in paths if isinstance(path, str)), None)


def _is_backbone(repository: str, hub: Path | None = None) -> bool:
    config = _stored(repository, ("open_clip_config.json",), hub)
    return bool(config and _stored(repository, _OPEN_CLIP, hub))


def _tags(hub: Path | None) -> list[str]:
    """Return the ARCH/TAG names of open_clip whose weights are there."""
    import open_clip

    names = ["/".join(parts) for parts in open_clip.list_pretrained()]
    return [name for name in names if _stored(*weights_place(name), hub)]


def weights_place(name: str) -> tuple[str, tuple[str, ...]]:
    """Return the repository of ARCH/TAG's weights, "" for none, and the names they may have."""
    import open_clip

    architecture, _, tag = name.partition("/")
    place = (open_clip.get_pretrained_cfg(architecture, tag) or {}).get("hf_hub", "")
    repository, _, file = place.rpartition("/")
    own = (f"{file.rpartition('.')[0]}.safetensors", file) if file else ()
    return repository, (*own, *_OPEN_CLIP)


def _is_captioner(config: str | None) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    if config is None:
        return False
    try:
        kind = json.loads(Path(config).read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError):
        return False
    return kind == "blip" or kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
