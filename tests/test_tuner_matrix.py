"""Every prompt method on every family of backbones, each a tiny random model built here."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip.coca_model import CoCa
from open_clip.model import CLIP, CustomTextCLIP
from peft import PeftModel, get_peft_model
from safetensors.torch import save_file
from timm.models import VisionTransformer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import (
    BertConfig,
    CLIPConfig,
    CLIPModel,
    M2M100Config,
    MT5Config,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
    XLMRobertaConfig,
)
from transformers.masking_utils import create_causal_mask

from zsvg.backbones.clip import load_backbone
from zsvg.errors import BackboneError, ModelFolderError, RecipeError
from zsvg.tuners import (
    PromptConfig,
    PromptLayer,
    condition_on,
    in_domain,
    load_adapter,
    prompt_config_for,
)

pytestmark = pytest.mark.numeric

DIM, LENGTH, VOCABULARY, START, END = 16, 16, 20, 18, 19
WORDS = ["a", "video", "of", "person", "dog", "red", "opens", "the", "door"]
TEMPLATE = "a video of"


def clip_tokens(texts: list[str]) -> Tensor:
    """Start token, words, end token (the highest id), then zeros."""
    ids = torch.zeros(len(texts), LENGTH, dtype=torch.int64)
    for row, text in zip(ids, texts, strict=True):
        found = [START, *(2 + WORDS.index(word) for word in text.split()), END]
        row[: len(found)] = torch.tensor(found)[:LENGTH]
    return ids


def siglip_tokens(texts: list[str]) -> Tensor:
    """Words, then ones: as SigLIP's tokenizers, without a start token, and padded by end tokens."""
    ids = torch.ones(len(texts), LENGTH, dtype=torch.int64)
    for row, text in zip(ids, texts, strict=True):
        found = [2 + WORDS.index(word) for word in text.split()]
        row[: len(found)] = torch.tensor(found, dtype=torch.int64)[:LENGTH]
    return ids


def xlm_r_tokens(texts: list[str]) -> Tensor:
    """As XLM-R numbers them: start 0, padding 1, end 2, then words."""
    ids = torch.ones(len(texts), LENGTH, dtype=torch.int64)
    for row, text in zip(ids, texts, strict=True):
        found = [0, *(3 + WORDS.index(word) for word in text.split()), 2]
        row[: len(found)] = torch.tensor(found, dtype=torch.int64)[:LENGTH]
    return ids


def t5_tokens(texts: list[str]) -> Tensor:
    """No start token, end 1, padding 0."""
    ids = torch.zeros(len(texts), LENGTH, dtype=torch.int64)
    for row, text in zip(ids, texts, strict=True):
        found = [*(2 + WORDS.index(word) for word in text.split()), 1]
        row[: len(found)] = torch.tensor(found, dtype=torch.int64)[:LENGTH]
    return ids


# --- backbones: all of the same sizes, so that only their structure tells them apart ---


def open_clip_model(
    kind: type, width: int, layers: int, vision: dict | None = None, **text: Any
) -> nn.Module:
    picture = {"image_size": 32, "patch_size": 8, "width": width, "layers": layers, "head_width": 8}
    words = {"context_length": LENGTH, "vocab_size": VOCABULARY, "width": width, "heads": 2}
    more = {}
    if kind is CoCa:
        more["multimodal_cfg"] = {"width": width, "heads": 2, "layers": 1, "context_length": LENGTH}
    return kind(
        embed_dim=DIM,
        vision_cfg={**picture, **(vision or {})},
        text_cfg={**words, "layers": layers, **text},
        **more,
    )


def timm_model(width: int, layers: int, trunk: dict, **text: Any) -> nn.Module:
    """open_clip's adapter around a timm tower; it builds by name, so the trunk is exchanged."""
    named = {"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "none"}
    model = open_clip_model(CustomTextCLIP, width, layers, named, **text)
    model.visual.trunk = VisionTransformer(
        img_size=32, patch_size=8, embed_dim=width, depth=layers, num_heads=2, **trunk
    )
    return model


def hugging_face_config(width: int, layers: int, **text: Any) -> dict[str, Any]:
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": 2}
    sizes["intermediate_size"] = 2 * width
    words = {"vocab_size": VOCABULARY, "max_position_embeddings": LENGTH, "projection_size": DIM}
    return {
        "text_config": {**sizes, **words, "bos_token_id": START, "pad_token_id": 0, **text},
        "vision_config": {**sizes, "image_size": 32, "patch_size": 8},
    }


def encoder_config(kind: str, width: int, layers: int) -> PreTrainedConfig:
    """A text encoder of Hugging Face, in the sizes of all here."""
    if kind == "mt5":
        sizes = {"d_model": width, "num_layers": layers, "num_heads": 2, "d_kv": 8}
        return MT5Config(vocab_size=VOCABULARY, d_ff=2 * width, decoder_start_token_id=0, **sizes)
    if kind == "nllb":
        sides = {f"{s}_{n}": v for s in ("encoder", "decoder") for n, v in
                 (("layers", layers), ("attention_heads", 2), ("ffn_dim", 2 * width))}  # fmt: skip
        return M2M100Config(vocab_size=VOCABULARY, d_model=width, pad_token_id=1, **sides)
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 2 * width, "vocab_size": VOCABULARY}
    if kind == "bert":
        return BertConfig(max_position_embeddings=LENGTH, **sizes)
    return XLMRobertaConfig(max_position_embeddings=LENGTH + 2, pad_token_id=1, **sizes)


def encoder_model(kind: str, width: int, layers: int) -> nn.Module:
    """An open_clip model whose text tower is an encoder of Hugging Face, built as from a folder."""
    with tempfile.TemporaryDirectory() as folder:
        encoder_config(kind, width, layers).save_pretrained(folder)
        text = {"hf_model_name": folder, "hf_model_pretrained": False, "hf_proj_type": "linear"}
        text |= {"hf_pooler_type": "mean_pooler", "hf_tokenizer_name": folder}
        model = open_clip_model(CustomTextCLIP, width, layers, **text)
    model.text.context_length = LENGTH  # as `ClipBackbone` does
    return model


ENCODERS = ("bert", "xlm-r", "mt5", "nllb")
SIGLIP_TEXT = {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"}
BACKBONES: dict[str, Callable[[int, int], nn.Module]] = {
    "clip": lambda w, n: open_clip_model(CLIP, w, n),
    "custom": lambda w, n: open_clip_model(CustomTextCLIP, w, n),
    "siglip": lambda w, n: timm_model(
        w,
        n,
        {"class_token": False, "global_pool": "map", "num_classes": 0 if w == DIM else DIM},
        **SIGLIP_TEXT,
    ),
    "timm": lambda w, n: timm_model(w, n, {"pre_norm": True, "reg_tokens": 2, "num_classes": DIM}),
    "coca": lambda w, n: open_clip_model(
        CoCa,
        w,
        n,
        {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        embed_cls=True,
        output_tokens=True,
    ),
    "hf clip": lambda w, n: CLIPModel(
        CLIPConfig(projection_dim=DIM, **hugging_face_config(w, n, eos_token_id=END))
    ),
    "hf siglip": lambda w, n: SiglipModel(
        SiglipConfig(**hugging_face_config(w, n, eos_token_id=1))
    ),
    **{kind: partial(encoder_model, kind) for kind in ENCODERS},
    "resnet": lambda w, n: open_clip_model(
        CustomTextCLIP, w, n, {"layers": [n - 2, 1, 1, 1], "width": w // 2, "head_width": 8}
    ),
}
NO_START = {"siglip", "hf siglip", "mt5"}


def build(backbone: str, width: int = 16, layers: int = 3) -> nn.Module:
    """Return a frozen random model whose features do depend on its inputs."""
    torch.manual_seed(0)
    model = BACKBONES[backbone](width, layers)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim >= 2:
                gain = 3.0 if value.ndim == 4 else 1.0  # through a ResNet, pixels fade
                table = value.ndim < 4 and "embedding" in name
                value.normal_(std=1.0 if table else gain * value[0].numel() ** -0.5)
    return model.requires_grad_(False).eval()


# --- methods ---


def tokens_of(backbone: str) -> Callable[[list[str]], Tensor]:
    own = {"xlm-r": xlm_r_tokens, "nllb": xlm_r_tokens, "mt5": t5_tokens}
    return own.get(backbone, siglip_tokens if backbone in NO_START else clip_tokens)


METHODS: dict[str, dict[str, Any]] = {
    "coop": {},
    "cocoop": {"conditional": True},
    "vpt shallow": {"vision_tokens": 4},
    "vpt deep": {"vision_tokens": 4, "vision_depth": "all"},
    "independent": {"text_depth": 2, "vision_tokens": 2, "vision_depth": 2},
    "maple": {"text_depth": 2, "vision_tokens": 3, "vision_depth": 2, "coupled": True},
    "dapl": {"domains": ["night", "day", "dusk"], "domain_tokens": 2},
    "ppt": {"template": "", "suffix": "a [S] the [E]"},
    "ppt-pc": {"suffix": "[C] [S] the [E]", "conditional": True},
    "tvp": {"border": 5},
    "border": {"border": 5},
}
TEXT_ONLY = ("coop", "cocoop", "dapl", "ppt", "ppt-pc")
STARTS_AT_ZERO_SHOT = (*TEXT_ONLY, "tvp", "border")  # nor do these need an image transformer
NO_CONTEXT = ("vpt shallow", "vpt deep", "border")


def config_for(backbone: str, method: str, **more: Any) -> PromptConfig:
    options = {**METHODS[method], **more}
    if method in NO_CONTEXT:
        return PromptConfig(**options)
    template = options.pop("template", TEMPLATE)
    return prompt_config_for(tokens_of(backbone), template, **options)


def possible(backbone: str, method: str) -> bool:
    return backbone != "resnet" or method in STARTS_AT_ZERO_SHOT


CASES = [(b, m) for b in BACKBONES for m in METHODS if possible(b, m)]
IMPOSSIBLE = [(b, m) for b in BACKBONES for m in METHODS if not possible(b, m)]
every_case = pytest.mark.parametrize(("backbone", "method"), CASES)

QUERIES = ["a person opens the door", "red door", "the dog", "a red dog opens the door"]
_random = torch.Generator().manual_seed(1)
IMAGES = torch.randn(4, 3, 32, 32, generator=_random)
# Each ends as the suffixes of the two PPT methods do, which hold the places of marks with "a".
TEXTS = [f"{TEMPLATE} {query} a a the a" for query in QUERIES]
DOMAINS = ["night", "day", None, "dusk"]  # of the queries
CONDITION = nn.functional.normalize(torch.randn(4, DIM, generator=_random), dim=-1)


def encode_images(model: nn.Module, images: Tensor = IMAGES) -> Tensor:
    if hasattr(model, "get_image_features"):
        return model.get_image_features(images).pooler_output
    return model.encode_image(images)


def encode_texts(backbone: str, model: nn.Module) -> Tensor:
    ids = tokens_of(backbone)(TEXTS)
    with condition_on(CONDITION), in_domain(DOMAINS):
        if hasattr(model, "get_text_features"):
            return model.get_text_features(ids).pooler_output
        return model.encode_text(ids)


@torch.no_grad()
def features(backbone: str, model: nn.Module) -> Tensor:
    """Return image and text features of the fixed inputs, stacked: (8, 16)."""
    dtype = next(model.parameters()).dtype
    return torch.cat([encode_images(model, IMAGES.to(dtype)), encode_texts(backbone, model)])


def trainable(model: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def shake(model: nn.Module, seed: int = 3) -> nn.Module:
    """Move every trainable value, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in trainable(model).values():
            value += 0.3 * torch.randn(value.shape, generator=generator)
    return model


def tuned(backbone: str, method: str, **more: Any) -> PeftModel:
    return shake(get_peft_model(build(backbone), config_for(backbone, method, **more)))


def contrastive_loss(backbone: str, model: nn.Module) -> Tensor:
    images = nn.functional.normalize(encode_images(model).float(), dim=-1)
    texts = nn.functional.normalize(encode_texts(backbone, model).float(), dim=-1)
    logits, target = 5 * images @ texts.T, torch.arange(4)
    return nn.functional.cross_entropy(logits, target) + nn.functional.cross_entropy(
        logits.T, target
    )


def close(found: Tensor, expected: Tensor) -> None:
    """The same numbers by another way."""
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


# --- the matrix ---


@every_case
def test_only_prompts_are_trainable_and_the_loss_falls(backbone, method):
    model = get_peft_model(build(backbone), config_for(backbone, method))
    prompts = trainable(model)
    assert set(prompts) == {name for name, _ in model.named_parameters() if ".prompt_" in name}
    expected = {
        "coop": 1,
        "cocoop": 1 + 4,  # two linear layers
        "vpt shallow": 1,
        "vpt deep": 3,
        "independent": 2 + 2,
        "maple": 2 + 2 * 2,
        "dapl": 1 + 1,
        "ppt": 1,
        "ppt-pc": 1 + 1 + 4,
        "tvp": 1 + 1,
        "border": 1,
    }
    assert len(prompts) == expected[method]
    before = {k: v.clone() for k, v in model.state_dict().items() if ".prompt_" not in k}
    optimizer = torch.optim.AdamW(prompts.values(), lr=0.1)
    losses = []
    for _ in range(20):
        loss = contrastive_loss(backbone, model)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    # Two tokens near the end of a text move little of a causal tower.
    assert losses[-1] < (0.99 if method == "ppt" else 0.97) * losses[0]
    assert all(value.grad is not None for value in prompts.values())
    assert all(torch.equal(before[key], model.state_dict()[key]) for key in before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("backbone", "method"), [case for case in CASES if case[1] in STARTS_AT_ZERO_SHOT]
)
def test_untrained_template_context_equals_zero_shot(backbone, method, dtype):
    model = build(backbone).to(dtype)
    zero_shot = features(backbone, model)
    model = get_peft_model(model, config_for(backbone, method))
    assert torch.equal(features(backbone, model), zero_shot)
    assert not torch.equal(features(backbone, shake(model)), zero_shot)


@every_case
def test_saved_and_loaded_is_equal(backbone, method, tmp_path):
    model = tuned(backbone, method)
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    again = load_adapter(build(backbone), tmp_path)
    assert torch.equal(features(backbone, again), features(backbone, model))
    assert not trainable(again)


@every_case
def test_disabled_and_unloaded_equal_the_backbone(backbone, method):
    plain = build(backbone)
    base = features(backbone, plain)
    model = shake(get_peft_model(plain, config_for(backbone, method)))
    on = features(backbone, model)
    assert not torch.equal(on, base)
    with model.disable_adapter():
        assert torch.equal(features(backbone, model), base)
    assert torch.equal(features(backbone, model), on)
    assert model.unload() is plain
    assert not any(isinstance(module, PromptLayer) for module in plain.modules())
    assert torch.equal(features(backbone, plain), base)


@every_case
def test_two_adapters_switch_copy_and_delete(backbone, method):
    model = tuned(backbone, method)
    first = features(backbone, model)
    # The second shares some layers with the first, and has more layers or fewer.
    other = "vpt deep" if method == "vpt shallow" else "coop"
    model.add_adapter("other", config_for(backbone, other, seed=9))
    model.set_adapter("other")
    second = features(backbone, shake(model, seed=4))
    assert not torch.equal(second, first)
    model.set_adapter("default")
    assert torch.equal(features(backbone, model), first)
    twin = copy.deepcopy(model)
    assert torch.equal(features(backbone, twin), first)
    shake(twin, seed=5)
    assert not torch.equal(features(backbone, twin), first)
    assert torch.equal(features(backbone, model), first)
    model.delete_adapter("default")
    assert model.active_adapter == "other"
    assert torch.equal(features(backbone, model), second)
    assert not any("default" in name for name in model.state_dict())
    assert torch.equal(features(backbone, model.unload()), features(backbone, build(backbone)))


@every_case
@pytest.mark.parametrize(("wrong", "word"), [("width", "_width 16"), ("layers", "_layers 4")])
def test_towers_of_other_sizes_are_refused(backbone, method, wrong, word, tmp_path):
    tuned(backbone, method).save_pretrained(tmp_path, save_embedding_layers=False)
    other = build(backbone, **{wrong: {"width": 32, "layers": 4}[wrong]})
    if (backbone, method, wrong) == ("resnet", "border", "width"):
        word = "vision_width 4"  # of the first convolution
    refused(other, tmp_path, word)


@every_case
def test_another_family_with_the_same_sizes_is_refused(backbone, method, tmp_path):
    tuned(backbone, method).save_pretrained(tmp_path, save_embedding_layers=False)
    message = "in its place"
    if backbone == "resnet" and "border" in METHODS[method]:
        message = "vision_width 4"
    refused(build("custom" if backbone.startswith("hf") else "hf clip"), tmp_path, message)


@pytest.mark.parametrize(("made", "given"), [("siglip", "custom"), ("custom", "timm")])
def test_vision_prompts_of_open_clip_and_timm_do_not_mix(made, given, tmp_path):
    tuned(made, "vpt deep").save_pretrained(tmp_path, save_embedding_layers=False)
    refused(build(given), tmp_path, "resblocks")


def refused(other: nn.Module, folder: Path, message: str) -> None:
    """Loading raises one line, by PEFT's way too (which by itself would only warn)."""
    for load in (load_adapter, PeftModel.from_pretrained):
        with pytest.raises(ModelFolderError, match=message) as caught:
            load(other, str(folder))
        assert "\n" not in str(caught.value)
        assert not any(isinstance(module, PromptLayer) for module in other.modules())


@every_case
def test_bfloat16_backbone_keeps_float32_prompts(backbone, method):
    model = get_peft_model(build(backbone).to(torch.bfloat16), config_for(backbone, method))
    assert {value.dtype for value in trainable(model).values()} == {torch.float32}
    images, texts = encode_images(model, IMAGES.bfloat16()), encode_texts(backbone, model)
    assert images.dtype == texts.dtype == torch.bfloat16
    (images.float().square().sum() + texts.float()[:, 0].sum()).backward()
    grads = [value.grad for value in trainable(model).values()]
    assert all(grad is not None and bool(grad.isfinite().all()) for grad in grads)


@every_case
def test_gradient_checkpointing_gives_the_same_gradients(backbone, method):
    model = tuned(backbone, method)
    calls: list[int] = []
    for name, module in model.named_modules():
        if name.endswith(("mlp.fc1", "mlp.c_fc")):
            module.register_forward_hook(lambda *_: calls.append(1))
    gradients, counts = [], []
    for checkpointing in (False, True):
        if backbone.startswith("hf"):
            model.train()  # where Hugging Face checkpoints; these models have no dropout
            if checkpointing:
                model.base_model.model.gradient_checkpointing_enable()
        else:
            model.set_grad_checkpointing(checkpointing)
        model.zero_grad()
        calls.clear()
        contrastive_loss(backbone, model).backward()
        counts.append(len(calls))
        gradients.append({name: value.grad.clone() for name, value in trainable(model).items()})
    for name, gradient in gradients[0].items():
        assert gradient.abs().sum() > 0
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-5, atol=1e-7)
    # open_clip checkpoints no ResNet, and transformers no encoder that is not in training.
    text_alone = backbone in ENCODERS and method in TEXT_ONLY
    if not text_alone and (backbone, method) != ("resnet", "border"):
        assert counts[1] > counts[0]  # blocks ran again in the backward pass


@pytest.mark.parametrize(("backbone", "method"), IMPOSSIBLE)
def test_vision_prompts_on_a_resnet_are_one_clear_error(backbone, method):
    model = build(backbone)
    base = features(backbone, model)
    with pytest.raises(BackboneError, match="not ModifiedResNet") as caught:
        get_peft_model(model, config_for(backbone, method))
    assert "\n" not in str(caught.value)
    assert torch.equal(features(backbone, model), base)


def test_timm_towers_that_are_no_plain_vision_transformer_are_refused():
    named = {"timm_model_name": "test_resnet", "timm_pool": "", "timm_proj": "linear"}
    model = open_clip_model(CustomTextCLIP, 16, 3, named)
    with pytest.raises(BackboneError, match=r"vision prompts.*not ResNet"):
        get_peft_model(model, PromptConfig(vision_tokens=2))


def test_models_without_towers_are_refused():
    for options, message in (({"text_tokens": 2}, "text"), ({"vision_tokens": 2}, "vision")):
        with pytest.raises(BackboneError, match=f"{message} prompts need .* not Sequential"):
            get_peft_model(nn.Sequential(nn.Linear(2, 2)), PromptConfig(**options))


@pytest.mark.parametrize("backbone", ["clip", "timm", "hf clip", "resnet"])
def test_a_border_is_added_to_the_outermost_pixels_and_to_no_other(backbone):
    model = tuned(backbone, "border")
    (strip,) = trainable(model).values()
    assert strip.shape == (3, 32 * 32 - 22 * 22)
    framed = IMAGES.clone()
    place = 0
    for row in range(32):
        for column in range(32):
            if not (5 <= row < 27 and 5 <= column < 27):
                framed[:, :, row, column] += strip[:, place].detach()
                place += 1
    with torch.no_grad():
        close(encode_images(model), encode_images(build(backbone), framed))


def test_borders_that_leave_nothing_or_meet_other_pictures_are_refused():
    model = build("clip")
    with pytest.raises(RecipeError, match=r"border=16 leaves nothing.*32 x 32.*at most 15"):
        get_peft_model(model, PromptConfig(border=16))
    assert not any(isinstance(module, PromptLayer) for module in model.modules())
    narrow = get_peft_model(model, PromptConfig(border=15))
    with pytest.raises(ValueError, match=r"\(32, 24\) pixels do not fit"):
        narrow.encode_image(IMAGES[..., :24])


# --- against references written out by hand ---


@torch.no_grad()
def reference_images(backbone: str, model: Any, prompts: list[Tensor]) -> Tensor:
    """VPT and MaPLe by their papers: first prompts before the norm in front of the blocks, deeper
    ones replace them, the last ones ride along.
    """
    if backbone.startswith("hf"):
        tower = model.vision_model
        norm = tower.pre_layrnorm if backbone == "hf clip" else nn.Identity()
        x, blocks = tower.embeddings(IMAGES), tower.encoder.layers
    else:
        tower = model.visual.trunk
        norm = tower.norm_pre
        x, blocks = tower._pos_embed(tower.patch_embed(IMAGES)), tower.blocks
    n = len(prompts[0])
    x = norm(torch.cat([x, prompts[0].expand(4, -1, -1)], dim=1))
    for index, block in enumerate(blocks):
        if 0 < index < len(prompts):
            x = torch.cat([x[:, :-n], prompts[index].expand(4, -1, -1)], dim=1)
        x = block(x, None)
    x = x[:, :-n]
    if backbone == "hf clip":
        return model.visual_projection(tower.post_layernorm(x[:, 0]))
    if backbone == "hf siglip":
        return tower.head(tower.post_layernorm(x))
    return model.visual.head(tower.forward_head(tower.norm(x)))


@torch.no_grad()
def reference_texts(backbone: str, model: Any, prompts: list[Tensor]) -> Tensor:
    """The places of the template are replaced in front of every prompted block."""
    ids = tokens_of(backbone)(TEXTS)
    start, stop = (0, 3) if backbone in NO_START else (1, 4)
    hf = backbone.startswith("hf")
    text = model.text_model if hf else model.text
    blocks = text.encoder.layers if hf else text.transformer.resblocks
    x = (text.embeddings if hf else text).token_embedding(ids)
    for index, prompt in enumerate(prompts):
        if index:
            x = run_text_block(backbone, model, blocks[index - 1], x)
        x = torch.cat([x[:, :start], prompt.expand(4, -1, -1), x[:, stop:]], dim=1)
        if not index:
            positions = text.embeddings.position_embedding.weight if hf else None
            x = x + (text.positional_embedding if positions is None else positions)
    for block in blocks[len(prompts) - 1 :]:
        x = run_text_block(backbone, model, block, x)
    x = text.final_layer_norm(x) if hf else text.ln_final(x)
    if backbone == "siglip":
        return text.text_projection(x[:, -1])
    if backbone == "hf siglip":
        return text.head(x[:, -1])
    pooled = x[torch.arange(4), ids.argmax(dim=-1)]
    return model.text_projection(pooled) if hf else pooled @ text.text_projection


def run_text_block(backbone: str, model: Any, block: nn.Module, x: Tensor) -> Tensor:
    if backbone == "hf clip":
        mask = create_causal_mask(
            config=model.config.text_config,
            inputs_embeds=x,
            attention_mask=None,
            past_key_values=None,
        )
        return block(x, mask, is_causal=True)
    if backbone == "hf siglip":
        return block(x, None)
    return block(x, attn_mask=model.text.attn_mask)


REFERENCED = ["siglip", "timm", "hf clip", "hf siglip"]


@pytest.mark.parametrize("backbone", REFERENCED)
@pytest.mark.parametrize(
    ("layers", "depth"), [(layers, depth) for layers in (1, 3) for depth in range(1, layers + 1)]
)
def test_vpt_depth_rule_is_that_of_a_plain_loop(backbone, layers, depth):
    generator = torch.Generator().manual_seed(0)
    prompts = [torch.randn(4, 16, generator=generator) for _ in range(depth)]
    expected = reference_images(backbone, build(backbone, layers=layers), prompts)
    plain = build(backbone, layers=layers)
    model = get_peft_model(plain, PromptConfig(vision_tokens=4, vision_depth=depth))
    values = list(trainable(model).values())
    assert len(values) == depth
    with torch.no_grad():
        for value, prompt in zip(values, prompts, strict=True):
            value.copy_(prompt)
        close(encode_images(model), expected)


@pytest.mark.parametrize("backbone", REFERENCED)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_maple_equals_a_plain_loop(backbone, depth):
    reference = build(backbone)
    model = tuned(backbone, "maple", text_depth=depth, vision_depth=depth)
    wrapped = {n: m for n, m in model.named_modules() if isinstance(m, PromptLayer)}
    text = [m.prompt_tokens["default"] for m in sorted_layers(wrapped, "prompt_tokens")]
    linear = [m.prompt_coupling["default"] for m in sorted_layers(wrapped, "prompt_coupling")]
    assert len(text) == len(linear) == depth
    with torch.no_grad():
        images = [project(prompt) for project, prompt in zip(linear, text, strict=True)]
        expected = torch.cat(
            [
                reference_images(backbone, reference, images),
                reference_texts(backbone, reference, text),
            ]
        )
    close(features(backbone, model), expected)


def sorted_layers(layers: dict[str, PromptLayer], holding: str) -> list[PromptLayer]:
    """Return the layers with such parameters by depth: the embedding, then blocks by number."""

    def depth(name: str) -> int:
        last = name.rpartition(".")[2]
        return int(last) if last.isdigit() else 0

    return [layers[n] for n in sorted(layers, key=depth) if len(getattr(layers[n], holding))]


# --- details of one family ---


def test_hugging_face_blocks_take_their_states_by_name():
    model = tuned("hf clip", "vpt deep")
    block = model.get_submodule("base_model.model.vision_model.encoder.layers.1")
    states = torch.randn(2, 17, 16)
    with torch.no_grad():
        named = block(hidden_states=states, attention_mask=None)
        assert torch.equal(named, block(states, None))
    with pytest.raises(TypeError, match="needs its input"):
        block(attention_mask=None)


def test_hugging_face_forward_gives_the_tuned_similarities():
    model = tuned("hf clip", "maple")
    ids = clip_tokens(TEXTS)
    with torch.no_grad():
        out = model(input_ids=ids, pixel_values=IMAGES)
        expected = nn.functional.normalize(features("hf clip", model), dim=-1)
    torch.testing.assert_close(torch.cat([out.image_embeds, out.text_embeds]), expected)


def test_without_a_start_token_the_context_begins_at_the_first_word():
    config = config_for("siglip", "coop")
    assert (config.text_start, config.text_tokens, config.init_ids) == (0, 3, [2, 3, 4])
    assert config_for("clip", "coop").text_start == 1
    with pytest.raises(RecipeError, match="follows from the template"):
        config_for("siglip", "coop", text_start=1)
    # A context of CLIP's places on SigLIP's ids is noticed, not learned.
    model = get_peft_model(build("siglip"), config_for("clip", "coop"))
    with pytest.raises(ValueError, match="a video of"):
        encode_texts("siglip", model)
    model = get_peft_model(build("siglip"), PromptConfig(text_tokens=15, text_start=0))
    assert encode_texts("siglip", model).shape == (4, DIM)
    with pytest.raises(RecipeError, match="room for 15"):
        get_peft_model(build("siglip"), PromptConfig(text_tokens=16, text_start=0))


def test_a_siglip_folder_loads_and_takes_prompts(tmp_path):
    backbone = load_backbone(f"local-dir:{write_siglip_folder(tmp_path)}", "cpu")
    config = prompt_config_for(
        backbone.tokenize, TEMPLATE, text_depth=2, vision_tokens=2, vision_depth=2
    )
    assert (config.text_start, config.text_tokens) == (0, 3)
    texts = [f"{TEMPLATE} {query}" for query in QUERIES]
    frames = torch.randint(256, (2, 160, 160, 3), dtype=torch.uint8)
    plain = backbone.encode_text(texts), backbone.encode_frames(frames)
    assert plain[0].mask.sum(1).tolist() == [len(text.split()) for text in texts]
    model = shake(get_peft_model(backbone.model, config))
    with torch.no_grad():
        assert not torch.equal(backbone.encode_text(texts, model).pooled, plain[0].pooled)
        assert not torch.equal(backbone.encode_frames(frames, model), plain[1])
        with model.disable_adapter():
            assert torch.equal(backbone.encode_text(texts, model).tokens, plain[0].tokens)
            assert torch.equal(backbone.encode_frames(frames, model), plain[1])


def write_siglip_folder(folder: Path) -> Path:
    """An open_clip folder as SigLIP's: timm tower, no start token, padded by end tokens."""
    ids = {word: index for index, word in enumerate(["<unk>", "<end>", *WORDS])}
    words = Tokenizer(models.WordLevel(vocab=ids, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="$A <end>", special_tokens=[("<end>", 1)]
    )
    special = {"unk_token": "<unk>", "eos_token": "<end>", "pad_token": "<end>"}
    PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)
    vision = {
        "image_size": 160,
        "timm_model_name": "test_vit",
        "timm_pool": "map",
        "timm_proj": "none",
    }
    text = {"context_length": LENGTH, "vocab_size": VOCABULARY, "width": 16, "heads": 2}
    text |= {"layers": 2, **SIGLIP_TEXT}
    torch.manual_seed(0)
    model = CustomTextCLIP(64, vision, text)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    text["hf_tokenizer_name"] = "in-this-folder"
    half = [0.5, 0.5, 0.5]
    config = {
        "model_cfg": {"embed_dim": 64, "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": {"mean": half, "std": half, "resize_mode": "squash"},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def test_feature_maps_of_timm_towers_are_exact_or_refused():
    plain = build("timm").forward_intermediates(IMAGES)["image_intermediates"]
    with pytest.raises(ValueError, match="vision_depth=1"):
        tuned("timm", "vpt shallow").forward_intermediates(IMAGES)
    maps = tuned("timm", "vpt deep").forward_intermediates(IMAGES)["image_intermediates"]
    assert [m.shape for m in maps] == [m.shape for m in plain]


SENTENCES = {
    "一个 人 打开 冰箱": 4,
    "una persona abre el frigorífico": 5,
    "شخص يفتح الثلاجة": 3,
    "a person opens the fridge": 5,
}


def write_multilingual_folder(folder: Path) -> Path:
    """An open_clip folder as multilingual CLIPs have it: XLM-R with a linear map behind."""
    names = ["<s>", "<pad>", "</s>", "<unk>", "a", "video", "of"]
    names += sorted({word for text in SENTENCES for word in text.split()} - set(names))
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(names)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", **special).save_pretrained(
        folder
    )
    encoder = encoder_config("xlm-r", 16, 2)
    encoder.vocab_size = len(names)
    encoder.save_pretrained(folder / "xlm-r")
    text = {"hf_model_name": str(folder / "xlm-r"), "hf_model_pretrained": False}
    text |= {"hf_tokenizer_name": "in-this-folder", "hf_pooler_type": "mean_pooler"}
    text |= {"hf_proj_type": "mlp", "context_length": LENGTH}
    vision = {"image_size": 32, "patch_size": 8, "width": 16, "layers": 2, "head_width": 8}
    torch.manual_seed(0)
    model = CustomTextCLIP(DIM, vision, text)
    with torch.no_grad():  # its own start makes all sentences alike
        model.text.transformer.embeddings.word_embeddings.weight.normal_()
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    half = [0.5, 0.5, 0.5]
    config = {
        "model_cfg": {"embed_dim": DIM, "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": {"mean": half, "std": half},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def test_a_multilingual_folder_reads_every_script(tmp_path):
    backbone = load_backbone(f"local-dir:{write_multilingual_folder(tmp_path)}", "cpu")
    states = backbone.encode_text(list(SENTENCES))
    counts = [2 + count for count in SENTENCES.values()]
    assert states.mask.sum(1).tolist() == counts  # with start and end
    assert states.tokens.shape == (4, max(counts), DIM)
    # Alone as among others, up to last bits; the mean of its states, through the same map.
    for text, row, tokens, count in zip(
        SENTENCES, states.pooled, states.tokens, counts, strict=True
    ):
        alone = backbone.encode_text([text])
        close(alone.pooled[0], row)
        close(alone.tokens[0], tokens[:count])
    assert float((states.pooled @ states.pooled.T).triu(1).max()) < 0.999
    with torch.no_grad():
        close(
            states.pooled,
            backbone.model.encode_text(backbone.tokenize(list(SENTENCES)), normalize=True),
        )


def test_a_multilingual_folder_is_tuned_and_asked(tmp_path, small_video):
    import zsvg
    from zsvg.records import Annotation

    name = f"local-dir:{write_multilingual_folder(tmp_path / 'clip')}"
    labels = [
        Annotation(qid=i, query=text, vid=small_video.stem, duration=1.0,
                   relevant_windows=((0.0, 0.5),))
        for i, text in enumerate(SENTENCES)
    ]  # fmt: skip
    recipe = zsvg.load_recipe("coop").with_training(steps=3, batch_size=2)
    zsvg.tune(
        labels,
        small_video.parent,
        name,
        tmp_path / "model",
        recipe=recipe,
        validation=labels[:1],
    )
    grounder = zsvg.load(tmp_path / "model")
    found, failures = zsvg.predict(grounder, labels, small_video.parent)
    assert not failures
    assert [p.query for p in found] == list(SENTENCES)
    with pytest.warns(UserWarning, match="is cut to 16 tokens"):
        grounder.encode_query("冰箱 " * 20)
