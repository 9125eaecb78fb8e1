"""Where prompts can go in an open_clip model; other families of backbones would be added here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from zsvg.errors import BackboneError


@dataclass(frozen=True, kw_only=True)
class TextTower:
    """Names and sizes of what can carry text prompts."""

    embedding: str
    blocks: tuple[str, ...]
    width: int
    vocabulary: int
    joint_width: int
    context_length: int


@dataclass(frozen=True, kw_only=True)
class VisionTower:
    """Names and sizes of what can carry vision prompts."""

    blocks: tuple[str, ...]
    width: int
    patch_area: int
    pre_norm: nn.Module


def text_tower(model: Any) -> TextTower:
    """Describe the text side of an open_clip `CLIP` or `CustomTextCLIP`, wrapped or not.

    Raises:
        BackboneError: The model has another kind of text tower.
    """
    text, prefix = (model.text, "text.") if hasattr(model, "text") else (model, "")
    if not hasattr(text, "token_embedding") or not hasattr(text.transformer, "resblocks"):
        raise BackboneError(
            f"text prompts need an open_clip text transformer, not {type(text).__name__}"
        )
    vocabulary, width = text.token_embedding.weight.shape
    return TextTower(
        embedding=f"{prefix}token_embedding",
        blocks=_names(f"{prefix}transformer.resblocks", text.transformer.resblocks),
        width=width,
        vocabulary=vocabulary,
        joint_width=text.output_dim if prefix else text.text_projection.shape[1],
        context_length=text.context_length,
    )


def vision_tower(model: Any) -> VisionTower:
    """Describe the vision side of an open_clip model with a vision transformer, wrapped or not.

    Raises:
        BackboneError: The model has another kind of vision tower (a ResNet, a timm model).
    """
    visual: Any = getattr(model, "visual", None)
    if not hasattr(getattr(visual, "transformer", None), "resblocks"):
        raise BackboneError(
            f"vision prompts need an open_clip vision transformer, not {type(visual).__name__}"
        )
    return VisionTower(
        blocks=_names("visual.transformer.resblocks", visual.transformer.resblocks),
        width=visual.transformer.width,
        patch_area=visual.patch_size[0] * visual.patch_size[1],
        pre_norm=visual.ln_pre,
    )


def _names(prefix: str, blocks: Any) -> tuple[str, ...]:
    return tuple(f"{prefix}.{index}" for index in range(len(blocks)))
