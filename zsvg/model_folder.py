"""What lies in a model folder: manifest, head and adapter; and an adapter on its backbone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from zsvg.backbones.clip import ClipBackbone
from zsvg.errors import ModelFolderError
from zsvg.files import sha256_file
from zsvg.heads.encoder import Encoder
from zsvg.heads.kinds import make_head

FORMAT_VERSION = 1
MANIFEST = "zsvg.json"
ADAPTER_FILE = "adapter_model.safetensors"
HEAD_FILE = "head.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
HISTORY = "history.json"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read and check a model folder's `zsvg.json`.

    Raises:
        ModelFolderError: It is not JSON, lacks a key, or is of a newer format.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        version = manifest["format_version"]
        missing = {"backbone", "head", "template", "sampling"} - set(manifest)
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFolderError(f"{folder / MANIFEST}: cannot be read ({error})") from error
    if missing:
        raise ModelFolderError(f"{folder / MANIFEST}: lacks {', '.join(sorted(missing))}")
    if version != FORMAT_VERSION:
        raise ModelFolderError(
            f"{folder / MANIFEST}: format {version}, this zsvg reads {FORMAT_VERSION}; "
            "update zsvg or tune again"
        )
    return dict(manifest)


def load_head(folder: Path, described: Mapping[str, Any], backbone: ClipBackbone) -> Encoder:
    """Load the trained head that a manifest describes, on the backbone's device.

    Raises:
        ModelFolderError: Its file is missing or damaged, or is another head's.
    """
    try:
        head = make_head(described["kind"], described["config"])
        head.load_state_dict(load_file(folder / HEAD_FILE))
    except (OSError, SafetensorError, RuntimeError, TypeError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ModelFolderError(f"{folder / HEAD_FILE}: cannot be loaded ({reason})") from error
    return head.requires_grad_(False).eval().to(backbone.device)


def attach_adapter(backbone: ClipBackbone, folder: Path) -> str:
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


def detach_adapters(backbone: ClipBackbone) -> None:
    """Take all prompts off a backbone; grounders that used them must be loaded again."""
    with backbone.lock:
        if backbone.adapters is not None:
            backbone.adapters.unload()
            backbone.adapters = None
