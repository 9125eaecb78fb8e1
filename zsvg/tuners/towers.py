"""Where prompts can go in each family of CLIP models; a new family would be described here.

Known are open_clip (its own transformers, timm's `VisionTransformer` as image tower, encoders of
Hugging Face such as BERT, XLM-R and mT5 as text tower) and Hugging Face's `CLIPModel` and
`SiglipModel`. A tower is only described: no forward is copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from open_clip.hf_model import HFTextEncoder
from timm.models import VisionTransformer
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
    """Names and sizes of what can carry vision prompts.

    `pre_norm` stands between the embeddings and the first block; None: the tower has none. `entry`
    is the patch embedding, and `size` (height, width) of the pictures that it takes.
    """

    blocks: tuple[str, ...]
    width: int
    patch_area: int
    pre_norm: nn.Module | None
    entry: str
    size: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class PictureInput:
    """Name of the module that pixels enter, (height, width), and sizes of the tower behind it."""

    entry: str
    size: tuple[int, int]
    width: int
    layers: int


def text_tower(model: Any) -> TextTower:
    """Describe the text side of an open_clip or Hugging Face CLIP model, wrapped or not.

    Raises:
        BackboneError: The model has another kind of text tower.
    """
    text, prefix = (model.text, "text.") if hasattr(model, "text") else (model, "")
    if hasattr(text, "token_embedding") and _at(text, "transformer.resblocks") is not None:
        vocabulary, width = text.token_embedding.weight.shape
        return TextTower(
            embedding=f"{prefix}token_embedding",
            blocks=_names(model, f"{prefix}transformer.resblocks"),
            width=width,
            vocabulary=vocabulary,
            joint_width=_outputs(text.text_projection, width),
            context_length=text.context_length,
        )
    embeddings = _at(model, "text_model.embeddings")
    if hasattr(embeddings, "token_embedding") and _at(model, "text_model.encoder.layers"):
        vocabulary, width = embeddings.token_embedding.weight.shape
        # SigLIP's projection is inside the tower.
        projection = getattr(model, "text_projection", None) or _at(model, "text_model.head")
        return TextTower(
            embedding="text_model.embeddings.token_embedding",
            blocks=_names(model, "text_model.encoder.layers"),
            width=width,
            vocabulary=vocabulary,
            joint_width=_outputs(projection, width),
            context_length=embeddings.position_embedding.num_embeddings,
        )
    if isinstance(text, HFTextEncoder) and (blocks := _encoder_blocks(text.transformer)):
        words = text.transformer.get_input_embeddings()
        vocabulary, width = words.weight.shape
        name = next(n for n, m in text.transformer.named_modules() if m is words)
        return TextTower(
            embedding=f"{prefix}transformer.{name}",
            blocks=_names(model, f"{prefix}transformer.{blocks}"),
            width=width,
            vocabulary=vocabulary,
            joint_width=_outputs(text.proj, width),
            context_length=text.context_length,
        )
    raise BackboneError(
        "text prompts need the text transformer of open_clip, one of its Hugging Face encoders, or "
        f"a Hugging Face CLIPModel, not {type(text).__name__}"
    )


def _encoder_blocks(transformer: Any) -> str | None:
    """Return where an encoder keeps its blocks: BERT's and XLM-R's; T5's; M2M-100's."""
    return next((p for p in ("encoder.layer", "block", "layers") if _at(transformer, p)), None)


def vision_tower(model: Any) -> VisionTower:
    """Describe the vision transformer of an open_clip or Hugging Face CLIP model, wrapped or not.

    Raises:
        BackboneError: The model has another kind of vision tower (such as a ResNet).
    """
    visual: Any = getattr(model, "visual", None)
    if _at(visual, "transformer.resblocks") is not None:
        return VisionTower(
            blocks=_names(model, "visual.transformer.resblocks"),
            width=visual.transformer.width,
            patch_area=visual.patch_size[0] * visual.patch_size[1],
            pre_norm=visual.ln_pre,
            entry="visual.conv1",
            size=_pair(visual.image_size),
        )
    trunk = getattr(visual, "trunk", None)
    # Not every timm model with blocks: those of EVA and BEiT count on the number of patches.
    if isinstance(trunk, VisionTransformer):
        patch: Any = trunk.patch_embed.patch_size
        return VisionTower(
            blocks=_names(model, "visual.trunk.blocks"),
            width=trunk.embed_dim,
            patch_area=patch[0] * patch[1],
            pre_norm=trunk.norm_pre,
            entry="visual.trunk.patch_embed",
            size=_pair(trunk.patch_embed.img_size),
        )
    vision: Any = getattr(model, "vision_model", None)
    if hasattr(_at(vision, "embeddings"), "patch_size") and _at(vision, "encoder.layers"):
        return VisionTower(
            blocks=_names(model, "vision_model.encoder.layers"),
            width=vision.embeddings.embed_dim,
            patch_area=vision.embeddings.patch_size**2,
            pre_norm=getattr(vision, "pre_layrnorm", None),  # spelled so in the library
            entry="vision_model.embeddings.patch_embedding",
            size=_pair(vision.embeddings.image_size),
        )
    found = next(part for part in (trunk, visual, vision, model) if part is not None)
    raise BackboneError(
        "vision prompts need the vision transformer of open_clip, timm or a Hugging Face "
        f"CLIPModel, not {type(found).__name__}"
    )


def picture_input(model: Any) -> PictureInput:
    """Describe where pixels enter an image tower, wrapped or not; open_clip's ResNets have it too.

    Raises:
        BackboneError: The model has another kind of image tower.
    """
    visual: Any = getattr(model, "visual", None)
    if hasattr(visual, "conv1") and hasattr(visual, "layer4"):
        stages = (visual.layer1, visual.layer2, visual.layer3, visual.layer4)
        return PictureInput(
            entry="visual.conv1",
            size=_pair(visual.image_size),
            width=visual.conv1.out_channels,
            layers=sum(len(stage) for stage in stages),
        )
    tower = vision_tower(model)
    return PictureInput(
        entry=tower.entry, size=tower.size, width=tower.width, layers=len(tower.blocks)
    )


def _at(module: Any, path: str) -> Any:
    """Return the attribute of an attribute, or None where the path ends early."""
    for name in path.split("."):
        module = getattr(module, name, None)
    return module


def _pair(size: Any) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


def _names(model: Any, path: str) -> tuple[str, ...]:
    return tuple(f"{path}.{index}" for index in range(len(_at(model, path))))


def _outputs(projection: Any, width: int) -> int:
    """Return the width behind a projection: linear layers, a matrix (width, D), or none."""
    if isinstance(projection, nn.Sequential):
        projection = projection[-1]
    if projection is None or isinstance(projection, nn.Identity):
        return width
    outputs = getattr(projection, "out_features", None)
    return int(projection.shape[1] if outputs is None else outputs)
