"""What lies in a model folder: manifest, head and adapter; and an adapter on its backbone."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

from zsvg.backbones.base import TunableBackbone
from zsvg.backbones.clip import ClipBackbone, load_backbone
from zsvg.backbones.names import MANIFEST, STORED
from zsvg.backbones.offline import missing, nothing_fetched
from zsvg.errors import BackboneError, ModelFolderError, told
from zsvg.files import sha256_file
from zsvg.grounding.alignment import ALIGNMENT_FILE
from zsvg.grounding.model_card import CARD
from zsvg.heads.by_name import head_config, make_head
from zsvg.heads.ensemble import Head
from zsvg.heads.presence import PRESENCE_FILE

_log = logging.getLogger(__name__)

FORMAT_VERSION = 1
ADAPTER_FILE = "adapter_model.safetensors"
HEAD_FILE = "head.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
HISTORY = "history.json"
OWN = frozenset(
    {
        MANIFEST,
        HISTORY,
        HEAD_FILE,
        PRESENCE_FILE,
        ALIGNMENT_FILE,
        ADAPTER_CONFIG,
        ADAPTER_FILE,
        CARD,
    }
)
"""All that a model folder is made of; what else lies in one is somebody's own."""

TRUSTED = "--allow-download (in Python `allow_download=True`) fetches it, if you trust both"
"""The way out where somebody else names what is to be downloaded."""


class _Backbone(BaseModel):
    name: str = Field(min_length=1)
    fingerprint: str


class _Sampling(BaseModel):
    fps: float = Field(gt=0, le=1000)
    framing: Literal["crop", "pad", "squash"]


class _Head(BaseModel):
    kind: str
    config: dict[str, Any]


class _Presence(BaseModel, extra="forbid"):
    threshold: float = Field(allow_inf_nan=False)
    lost: float
    refused: float
    labels: int
    slope: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    offset: float | None = Field(default=None, allow_inf_nan=False)
    wrong: float | None = None
    brier: float | None = None
    error: float | None = None


class _Manifest(BaseModel):
    """What a model is loaded by; there is more, which only tells where it comes from."""

    backbone: _Backbone
    template: str = Field(max_length=10_000)
    sampling: _Sampling
    head: _Head
    share: float | None = Field(default=None, ge=0, le=1)
    alignment: float | None = Field(default=None, ge=0, le=1)
    presence: _Presence | None = None


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read and check a model folder's `zsvg.json`, the sizes in it too.

    Raises:
        ModelFolderError: It is not JSON, lacks a key, has a value of the wrong type or out of
            range, or is of a newer format.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        version = manifest["format_version"]
        needed = {name for name, field in _Manifest.model_fields.items() if field.is_required()}
        absent = needed - set(manifest)
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFolderError(f"{folder / MANIFEST}: cannot be read ({error})") from error
    if absent:
        raise ModelFolderError(f"{folder / MANIFEST}: lacks {', '.join(sorted(absent))}")
    if version != FORMAT_VERSION:
        raise ModelFolderError(
            f"{folder / MANIFEST}: format {version}, this zsvg reads {FORMAT_VERSION}; "
            "update zsvg or tune again"
        )
    try:
        checked = _Manifest.model_validate(manifest)
        head_config(checked.head.kind, checked.head.config)
    except ValidationError as error:
        raise ModelFolderError(f"{folder / MANIFEST}: {told(error)}") from error
    except ValueError as error:
        raise ModelFolderError(f"{folder / MANIFEST}: head: {error}") from error
    return dict(manifest)


def load_named(
    folder: Path, name: str, device: str | None, *, allow_download: bool = False
) -> ClipBackbone:
    """Load the backbone that a model folder names.

    Folders come from anybody, so what their name would download is looked at first: weights of
    open_clip's own list are fetched, and a warning says so; others are not.

    Args:
        folder: The model folder.
        name: The backbone in its manifest.
        device: As of `load_backbone`.
        allow_download: Fetch whatever it is.

    Raises:
        ModelFolderError: The backbone is not here, and not known; or the folder's prompts have
            sizes out of range.
        BackboneError: It cannot be loaded.
    """
    if name == STORED:
        raise ModelFolderError(
            f"{folder}: learned from ready features of clips and sentences; give --text-features "
            "(in Python a `StoredBackbone`)"
        )
    if has_adapter(folder):
        from zsvg.tuners import read_adapter

        read_adapter(folder)  # before anything large is loaded
    if allow_download:
        return load_backbone(name, device)
    wanted = missing(name)
    if wanted is not None and wanted.listed:
        size = wanted.megabytes()
        _log.warning(
            "%s names %s, which is not on this machine: downloading it from %s (%s)",
            folder,
            name,
            wanted.repository,
            "of unknown size" if size is None else f"{size} MB",
        )
        return load_backbone(name, device)
    if wanted is not None:
        raise ModelFolderError(
            f"{folder}: made for {name}, which is not on this machine; {TRUSTED}"
        )
    try:
        with nothing_fetched():  # configurations of towers name other repositories
            return load_backbone(name, device)
    except BackboneError as error:
        raise ModelFolderError(f"{folder}: {error}; or {TRUSTED}") from error


def load_head(folder: Path, described: Mapping[str, Any], backbone: TunableBackbone) -> Head:
    """Load the trained head that a manifest describes, on the backbone's device.

    Raises:
        ModelFolderError: Its file is missing or damaged, or is another head's.
    """
    width = described["config"].get("dim")
    if width != backbone.embed_dim:
        raise ModelFolderError(
            f"{folder / MANIFEST}: head: dim is {width}, {backbone.name} has {backbone.embed_dim}"
        )
    try:
        head = make_head(described["kind"], described["config"])
        head.load_state_dict(load_file(folder / HEAD_FILE))
    except (OSError, SafetensorError, RuntimeError, TypeError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ModelFolderError(f"{folder / HEAD_FILE}: cannot be loaded ({reason})") from error
    return head.requires_grad_(False).eval().to(backbone.device)


def has_adapter(folder: Path) -> bool:
    """Whether a folder has prompts: one of their files is enough, and alone an error to load."""
    return any((folder / name).is_file() for name in (ADAPTER_CONFIG, ADAPTER_FILE))


def attach_adapter(backbone: TunableBackbone, folder: Path) -> str:
    """Put a folder's prompts on a backbone beside the others; return their name there."""
    from zsvg.tuners import load_adapter

    # Named by content (and its config), so that loading a folder twice keeps one copy.
    config = sha256_file(folder / ADAPTER_CONFIG)
    name = f"a{sha256_file(folder / ADAPTER_FILE)[:16]}{config[:8]}"
    with backbone.lock:
        present = backbone.adapters
        if present is None:
            backbone.adapters = load_adapter(backbone.model, folder, name)
        elif name not in present.peft_config:
            load_adapter(present, folder, name)
        backbone.adapters.requires_grad_(False)
        backbone.adapters.eval()
    return name


def detach_adapters(backbone: TunableBackbone) -> None:
    """Take all prompts off a backbone; grounders that used them must be loaded again."""
    with backbone.lock:
        if backbone.adapters is not None:
            backbone.adapters.unload()
            backbone.adapters = None
