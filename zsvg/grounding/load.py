"""Load a tuned model folder, or a bare backbone, as a `Grounder`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from zsvg.backbones.base import TunableBackbone
from zsvg.backbones.captions import load_caption_backbone
from zsvg.backbones.clip import load_backbone
from zsvg.backbones.names import MANIFEST, PREFIX
from zsvg.errors import ModelFolderError, ZsvgError
from zsvg.grounding.alignment import load_alignment
from zsvg.grounding.grounder import Grounder
from zsvg.grounding.hub import folder_of
from zsvg.grounding.model_folder import (
    attach_adapter,
    has_adapter,
    load_head,
    load_named,
    read_manifest,
)
from zsvg.grounding.presence import Presence
from zsvg.heads.presence import PRESENCE_FILE, load_judge

_log = logging.getLogger(__name__)


def load(
    model_or_backbone: str | Path | None,
    device: str | None = None,
    *,
    backbone: TunableBackbone | None = None,
    domain: str | None = None,
    templates: Sequence[str] = (),
    allow_download: bool = False,
    revision: str | None = None,
) -> Grounder:
    """Load a tuned model folder, or a bare backbone for training-free grounding.

    Args:
        model_or_backbone: A folder written by `zsvg tune`; `hf://ORG/NAME`, one that
            `zsvg push` brought to the Hugging Face Hub; or a backbone name such as `micro` (a
            folder of that name is `./micro`).
        device: "cpu", "cuda", ...; the best available by default.
        backbone: An already loaded backbone to put the model's prompts on. Several models can
            share one; each is switched to when it is asked.
        domain: One of the domains that the model was tuned on; None takes the mean of them.
        templates: Texts around `{query}` to ask a bare backbone with, all at once, such as
            `zsvg.training.recipes.load_templates("video")`.
        allow_download: Fetch the backbone that a model folder names, also where it is not of
            open_clip's own list. What you name yourself is fetched in any case.
        revision: Branch, tag or commit of a model of the hub (default: its main branch);
            `hf://ORG/NAME@REVISION` is the same.

    Raises:
        BackboneError: The backbone cannot be loaded.
        ZsvgError: The model does not know the domain.
        ModelFolderError: The folder is incomplete, cannot be had of the hub, was made for another
            backbone, has sizes out of range, or names a backbone that is neither here nor known.
        ValueError: `templates` are given for a model that was tuned with its own, or for captions.
    """
    folder = folder_of(model_or_backbone, revision)
    grounder = _load(model_or_backbone, folder, device, backbone, allow_download)
    if domain is not None and domain not in grounder.domains:
        known = f"knows {', '.join(grounder.domains)}" if grounder.domains else "has no domains"
        raise ZsvgError(f"unknown domain {domain!r}: this model {known}; or leave the domain out")
    if templates and (grounder.head is not None or not grounder.backbone.cross_modal):
        raise ValueError(
            f"templates are for a bare CLIP; {model_or_backbone} has its own way to ask"
        )
    grounder.domain, grounder.templates = domain, tuple(templates)
    return grounder


def _load(
    model_or_backbone: str | Path | None,
    folder: Path | None,
    device: str | None,
    backbone: TunableBackbone | None,
    allow_download: bool,
) -> Grounder:
    if model_or_backbone == "micro" and Path("micro", MANIFEST).is_file():
        _log.warning("micro is the embedded backbone; the model folder here is ./micro")
    if folder is None:
        name = None if model_or_backbone is None else str(model_or_backbone)
        if backbone is None and name is not None and name.startswith(PREFIX):
            return Grounder(load_caption_backbone(name, device))
        return Grounder(backbone or load_backbone(name, device))
    manifest = read_manifest(folder)
    wanted = manifest["backbone"]
    backbone = backbone or load_named(folder, wanted["name"], device, allow_download=allow_download)
    if backbone.fingerprint != wanted["fingerprint"]:
        raise ModelFolderError(
            f"{folder}: made for {wanted['name']} ({wanted['fingerprint'][:12]}), but "
            f"{backbone.name} is {backbone.fingerprint[:12]}; load it onto the backbone it names"
        )
    adapter = None
    if has_adapter(folder):
        adapter = attach_adapter(backbone, folder)
    aligned = bool(manifest.get("alignment"))
    judge = load_judge(folder, backbone.embed_dim)
    measured = Presence.of(manifest)
    if judge is None and measured is not None and measured.scale is not None:
        raise ModelFolderError(f"{folder / PRESENCE_FILE}: is missing; copy the whole folder")
    return Grounder(
        backbone,
        adapter=adapter,
        head=load_head(folder, manifest["head"], backbone),
        judge=judge,
        alignment=load_alignment(folder, backbone.embed_dim) if aligned else None,
        template=manifest["template"],
        fps=manifest["sampling"]["fps"],
        framing=manifest["sampling"]["framing"],
        manifest=manifest,
    )
