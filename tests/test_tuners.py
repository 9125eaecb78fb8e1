"""The prompt tuner over every method it covers, on tiny random open_clip models."""

from __future__ import annotations

import copy
import json
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.model import CLIP, CustomTextCLIP
from peft import (
    PeftConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    inject_adapter_in_model,
    set_peft_model_state_dict,
)
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from zsvg.errors import BackboneError, ModelFolderError, RecipeError
from zsvg.tuners import (
    PromptConfig,
    PromptLayer,
    PromptType,
    condition_on,
    in_domain,
    load_adapter,
    prompt_config_for,
)

pytestmark = pytest.mark.numeric

VISION = {"image_size": 32, "patch_size": 8, "width": 48, "layers": 3, "head_width": 16}
TEXT = {"context_length": 24, "vocab_size": 40, "width": 32, "layers": 3, "heads": 2}
START, END = 38, 39
TEMPLATE = "a video of"
WORDS = ["a", "video", "of", "person", "dog", "red", "opens", "the", "door", "x"]


def tokenizer(texts: list[str]) -> Tensor:
    """Word-level ids; an unknown word is 1; the end token has the highest id."""
    ids = torch.zeros(len(texts), TEXT["context_length"], dtype=torch.int64)
    for row, text in zip(ids, texts, strict=True):
        words = [2 + WORDS.index(word) if word in WORDS else 1 for word in text.split()]
        row[: len(words) + 2] = torch.tensor([START, *words, END])[: len(row)]
    return ids


def build(
    kind: type = CustomTextCLIP, seed: int = 0, vision: dict | None = None, **text
) -> nn.Module:
    """Return a frozen random model whose features do depend on its inputs."""
    torch.manual_seed(seed)
    model = kind(32, {**VISION, **(vision or {})}, {**TEXT, **text})
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim >= 2:
                value.normal_(std=1.0 if "embedding" in name else value[0].numel() ** -0.5)
    return model.requires_grad_(False).eval()


@pytest.fixture
def clip() -> nn.Module:
    return build()


torch.manual_seed(1)
IMAGES = torch.randn(4, 3, 32, 32)
QUERIES = ["a person opens the door", "red door", "the dog", "a red dog opens the door"]
IDS = tokenizer([f"{TEMPLATE} {query}" for query in QUERIES])
CONDITION = torch.nn.functional.normalize(torch.randn(4, 32), dim=-1)  # one image per text
DOMAINS = ["day", "night", "day", None]


def coop(**options) -> PromptConfig:
    return prompt_config_for(tokenizer, TEMPLATE, **options)


METHODS = {
    "coop": coop,
    "coop random": lambda: coop(random=True),
    "cocoop": lambda: coop(conditional=True),
    "dapl": lambda: coop(domains=["night", "day"], domain_tokens=2),
    "tvp": lambda: coop(border=6),
    "vpt shallow": lambda: PromptConfig(vision_tokens=4),
    "vpt middle": lambda: PromptConfig(vision_tokens=4, vision_depth=2),
    "vpt deep": lambda: PromptConfig(vision_tokens=4, vision_depth="all"),
    "independent": lambda: coop(text_depth=2, vision_tokens=2, vision_depth=3),
    "maple": lambda: coop(text_depth=2, vision_tokens=3, vision_depth=2, coupled=True),
    "maple deep": lambda: coop(text_depth="all", vision_tokens=3, vision_depth="all", coupled=True),
}
every_method = pytest.mark.parametrize("method", list(METHODS))


@torch.no_grad()
def features(model: nn.Module, ids: Tensor = IDS) -> Tensor:
    """Return image and text features of the fixed inputs, stacked: (8, 32)."""
    with condition_on(CONDITION), in_domain(DOMAINS):
        return torch.cat([model.encode_image(IMAGES), model.encode_text(ids)])


def trainable(model: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def shake(model: nn.Module, seed: int = 3) -> nn.Module:
    """Move every trainable value, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in trainable(model).values():
            value += 0.3 * torch.randn(value.shape, generator=generator)
    return model


def contrastive_loss(model: nn.Module) -> Tensor:
    with condition_on(CONDITION), in_domain(DOMAINS):
        images = model.encode_image(IMAGES, normalize=True)
        texts = model.encode_text(IDS, normalize=True)
    logits = 5 * images @ texts.T
    target = torch.arange(4)
    return nn.functional.cross_entropy(logits, target) + nn.functional.cross_entropy(
        logits.T, target
    )


def fit(model: nn.Module, steps: int = 20) -> list[float]:
    optimizer = torch.optim.AdamW(trainable(model).values(), lr=0.05)
    losses = []
    for _ in range(steps):
        loss = contrastive_loss(model)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# --- one behaviour matrix over every method ---


@every_method
def test_only_prompts_are_trainable_and_the_loss_falls(clip, method):
    model = get_peft_model(clip, METHODS[method]())
    names = set(trainable(model))
    assert names
    assert all(".prompt_" in name for name in names)
    assert names == {name for name, _ in model.named_parameters() if ".prompt_" in name}
    before = {k: v.clone() for k, v in model.state_dict().items() if ".prompt_" not in k}
    losses = fit(model)
    assert losses[-1] < 0.97 * losses[0]
    assert all(value.grad is not None for value in trainable(model).values())
    assert all(torch.equal(before[key], model.state_dict()[key]) for key in before)


@every_method
def test_disabled_and_unloaded_equal_the_backbone(clip, method):
    base = features(clip)
    model = shake(get_peft_model(clip, METHODS[method]()))
    on = features(model)
    assert not torch.equal(on, base)
    with model.disable_adapter():
        assert torch.equal(features(model), base)
    assert torch.equal(features(model), on)
    plain = model.unload()
    assert plain is clip
    assert not any(isinstance(module, PromptLayer) for module in plain.modules())
    assert torch.equal(features(plain), base)


@every_method
@pytest.mark.parametrize("way", ["peft", "peft low memory", "zsvg"])
def test_save_and_load_is_exact(clip, method, way, tmp_path):
    model = shake(get_peft_model(clip, METHODS[method]()))
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if way == "zsvg":
            again = load_adapter(build(), tmp_path)
        else:
            low = way == "peft low memory"
            again = PeftModel.from_pretrained(build(), str(tmp_path), low_cpu_mem_usage=low)
    assert torch.equal(features(again), features(model))
    assert not trainable(again)


@every_method
def test_two_saves_give_the_same_bytes(method, tmp_path):
    contents = []
    for name in ("one", "two"):
        torch.manual_seed(hash(name) % 1000)  # prompts must not depend on the global state
        model = get_peft_model(build(), METHODS[method]())
        model.save_pretrained(tmp_path / name, save_embedding_layers=False)
        contents.append({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()})
    assert contents[0] == contents[1]
    assert {"adapter_config.json", "adapter_model.safetensors"} <= set(contents[0])
    with safe_open(tmp_path / "one" / "adapter_model.safetensors", "pt") as tensors:
        assert len(tensors.metadata()) == 1
        assert all(".prompt_" in key for key in tensors.keys())  # noqa: SIM118
    assert isinstance(json.loads(contents[0]["adapter_config.json"])["target_modules"], str)


@every_method
def test_deepcopy_is_equal_and_independent(clip, method):
    model = shake(get_peft_model(clip, METHODS[method]()))
    before = features(model)
    twin = copy.deepcopy(model)
    assert torch.equal(features(twin), before)
    shake(twin, seed=4)
    assert not torch.equal(features(twin), before)
    assert torch.equal(features(model), before)


@every_method
def test_bfloat16_backbone_keeps_float32_prompts(method):
    model = get_peft_model(build().to(torch.bfloat16), METHODS[method]())
    assert {value.dtype for value in trainable(model).values()} == {torch.float32}
    with condition_on(CONDITION):
        images = model.encode_image(IMAGES.bfloat16())
        texts = model.encode_text(IDS)
    assert images.dtype == texts.dtype == torch.bfloat16
    (images.float().square().sum() + texts.float()[:, 0].sum()).backward()
    grads = [value.grad for value in trainable(model).values()]
    assert all(grad is not None and bool(grad.isfinite().all()) for grad in grads)


def test_prompts_are_float32_whatever_peft_is_told_of_precision():
    model = get_peft_model(
        build().to(torch.bfloat16), METHODS["maple"](), autocast_adapter_dtype=False
    )
    model.add_adapter("other", METHODS["cocoop"](), autocast_adapter_dtype=False)
    prompts = [value for name, value in model.named_parameters() if ".prompt_" in name]
    assert {value.dtype for value in prompts} == {torch.float32}


@every_method
def test_gradient_checkpointing_gives_the_same_gradients(clip, method):
    model = shake(get_peft_model(clip, METHODS[method]()))
    gradients = []
    for checkpointing in (False, True):
        model.set_grad_checkpointing(checkpointing)
        model.zero_grad()
        contrastive_loss(model).backward()
        gradients.append({name: value.grad.clone() for name, value in trainable(model).items()})
    for name, gradient in gradients[0].items():
        assert gradient.abs().sum() > 0
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-5, atol=1e-7)


@every_method
def test_plain_clip_and_injection_without_a_peft_model(method):
    model = build(CLIP)
    base = features(model)
    injected = inject_adapter_in_model(METHODS[method](), model)
    assert injected is model
    shake(model)
    assert not torch.equal(features(model), base)
    for layer in model.modules():
        if isinstance(layer, PromptLayer):
            layer.enable_adapters(False)
    assert torch.equal(features(model), base)


@every_method
def test_injection_by_a_state_dict_wraps_the_same_modules(method):
    # The mean over all tokens also sees prompts that no block has dropped.
    model = shake(get_peft_model(build(vision={"pool_type": "avg"}), METHODS[method]()))
    state = {
        name.removeprefix("base_model.model."): value
        for name, value in get_peft_model_state_dict(model, save_embedding_layers=False).items()
    }
    injected = build(vision={"pool_type": "avg"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inject_adapter_in_model(METHODS[method](), injected, state_dict=state)
    assert wrapped(injected) == wrapped(model.get_base_model())
    set_peft_model_state_dict(injected, state)
    assert torch.equal(features(injected), features(model))


def wrapped(model: nn.Module) -> set[str]:
    return {name for name, module in model.named_modules() if isinstance(module, PromptLayer)}


def test_all_blocks_that_vpt_and_maple_need_are_wrapped_by_a_state_dict(clip):
    block = "visual.transformer.resblocks"
    state = {f"{block}.0.prompt_tokens": torch.zeros(4, 48)}
    inject_adapter_in_model(METHODS["vpt shallow"](), clip, state_dict=state)
    assert wrapped(clip) == {f"{block}.0", f"{block}.2"}
    state = {f"{block}.{i}.prompt_coupling.{part}": torch.zeros(1) for i in (0, 1)
             for part in ("weight", "bias")}  # fmt: skip
    words = "text.token_embedding", "text.transformer.resblocks.1"
    state |= {f"{name}.prompt_tokens": torch.zeros(1) for name in words}
    model = inject_adapter_in_model(METHODS["maple"](), build(), state_dict=state)
    assert wrapped(model) == {*words, *(f"{block}.{i}" for i in range(3))}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"visual.transformer.resblocks.1.prompt_tokens": 0}, r"has prompts of .*resblocks\.1"),
        ({"visual.transformer.resblocks.0.prompt_tokens": None}, r"has no prompts of .*blocks\.0"),
    ],
)
def test_a_state_dict_of_other_prompts_is_refused_and_leaves_the_model_alone(clip, change, message):
    state = {"visual.transformer.resblocks.0.prompt_tokens": 0, "visual.conv1.weight": 0} | change
    state = {name: torch.zeros(1) for name, value in state.items() if value is not None}
    with pytest.raises(ModelFolderError, match=message) as caught:
        inject_adapter_in_model(METHODS["vpt shallow"](), clip, state_dict=state)
    assert "\n" not in str(caught.value)
    assert not wrapped(clip)


# --- step 0 ---


@pytest.mark.parametrize("kind", [CLIP, CustomTextCLIP])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "options",
    [{}, {"conditional": True}, {"domains": list("abcdefg"), "domain_tokens": 1}],
)
def test_untrained_template_context_equals_zero_shot(kind, dtype, options):
    model = build(kind).to(dtype)
    with torch.no_grad():
        expected = model.encode_text(IDS)
        tuned = get_peft_model(model, coop(**options))
        with condition_on(CONDITION):
            assert torch.equal(tuned.encode_text(IDS), expected)


def test_seed_decides_random_prompts():
    def prompts(seed: int, **options) -> list[Tensor]:
        return list(trainable(get_peft_model(build(), coop(seed=seed, **options))).values())

    options = {"random": True, "text_depth": 3, "vision_tokens": 4, "vision_depth": 3}
    first, again, other = (prompts(seed, **options) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    flat = {tuple(value.flatten()[:4].tolist()) for value in first}
    assert len(flat) == len(first)  # no two places share their values


def test_vision_prompts_fill_vpts_range():
    config = PromptConfig(vision_tokens=500)
    (tokens,) = trainable(get_peft_model(build(), config)).values()
    limit = (6 / (3 * 8 * 8 + 48)) ** 0.5
    assert 0.99 * limit < tokens.max() <= limit
    assert -limit <= tokens.min() < -0.99 * limit


def test_random_context_is_normal_with_papers_deviation():
    model = get_peft_model(build(), PromptConfig(text_tokens=20))
    (tokens,) = trainable(model).values()
    assert tokens.shape == (20, 32)
    assert 0.018 < tokens.std() < 0.022


# --- against references written out by hand ---


def close(found: Tensor, expected: Tensor) -> None:
    """The same numbers by another way."""
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def reference_image(model: nn.Module, prompts: list[Tensor]) -> Tensor:
    """VPT and MaPLe by their papers: first prompts before ln_pre, deeper ones replace them."""
    visual, n = model.visual, prompts[0].shape[0]
    x = visual.conv1(IMAGES).flatten(2).permute(0, 2, 1)
    x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1)
    x = x + visual.positional_embedding
    x = visual.ln_pre(torch.cat([x, prompts[0].expand(len(x), -1, -1)], dim=1))
    for index, block in enumerate(visual.transformer.resblocks):
        if 0 < index < len(prompts):
            x = torch.cat([x[:, :-n], prompts[index].expand(len(x), -1, -1)], dim=1)
        x = block(x)
    return visual.ln_post(x[:, :-n])[:, 0] @ visual.proj


@torch.no_grad()
def reference_text(model: nn.Module, prompts: list[Tensor]) -> Tensor:
    """Deep text prompts: every prompted block's positions 1..n are replaced, then ride along."""
    text, n = model.text, prompts[0].shape[0]
    x = text.token_embedding(IDS)
    for index, block in enumerate([None, *text.transformer.resblocks]):
        if block is not None:
            x = block(x, attn_mask=text.attn_mask)
        if index < len(prompts):
            x = torch.cat([x[:, :1], prompts[index].expand(len(x), -1, -1), x[:, 1 + n :]], dim=1)
        if block is None:
            x = x + text.positional_embedding
    return text.ln_final(x)[torch.arange(len(x)), IDS.argmax(-1)] @ text.text_projection


@pytest.mark.parametrize(
    ("layers", "depth"), [(layers, depth) for layers in (1, 3, 5) for depth in range(1, layers + 1)]
)
@pytest.mark.parametrize("no_ln_pre", [False, True])
def test_vpt_depth_rule_is_that_of_a_plain_loop(layers, depth, no_ln_pre):
    model = build(vision={"layers": layers, "no_ln_pre": no_ln_pre})
    base = features(model)
    generator = torch.Generator().manual_seed(0)
    prompts = [torch.randn(4, 48, generator=generator) for _ in range(depth)]
    expected = reference_image(model, prompts)
    tuned = get_peft_model(model, PromptConfig(vision_tokens=4, vision_depth=depth))
    values = list(trainable(tuned).values())
    assert len(values) == depth
    with torch.no_grad():
        for value, prompt in zip(values, prompts, strict=True):
            value.copy_(prompt)
        close(tuned.encode_image(IMAGES), expected)
        assert torch.equal(tuned.encode_text(IDS), base[4:])
    with tuned.disable_adapter():
        assert torch.equal(features(tuned), base)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_deep_text_prompts_equal_a_plain_loop(clip, depth):
    generator = torch.Generator().manual_seed(0)
    prompts = [torch.randn(3, 32, generator=generator) for _ in range(depth)]
    expected = reference_text(clip, prompts)
    tuned = get_peft_model(clip, coop(text_depth=depth))
    values = trainable(tuned)
    assert len(values) == depth
    with torch.no_grad():
        for name, value in values.items():
            block = name.partition("resblocks.")[2].partition(".")[0]
            value.copy_(prompts[int(block or 0)])
        close(tuned.encode_text(IDS), expected)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_maple_projects_the_text_prompts_of_the_same_depth(clip, depth):
    reference = build()
    config = coop(text_depth=depth, vision_tokens=3, vision_depth=depth, coupled=True)
    tuned = shake(get_peft_model(clip, config))
    text, linear = {}, {}
    for name, module in tuned.named_modules():
        if isinstance(module, PromptLayer):
            index = int(name.partition("resblocks.")[2] or 0)
            if "default" in module.prompt_tokens:
                text[index] = module.prompt_tokens["default"]
            if "default" in module.prompt_coupling:
                linear[index] = module.prompt_coupling["default"]
    assert sorted(text) == sorted(linear) == list(range(depth))
    with torch.no_grad():
        images = reference_image(reference, [linear[i](text[i]) for i in range(depth)])
        texts = reference_text(reference, [text[i] for i in range(depth)])
    close(features(tuned), torch.cat([images, texts]))
    # and the vision side trains the text prompts
    tuned.encode_image(IMAGES)[:, 0].sum().backward()
    assert all(value.grad is not None for value in text.values())


def test_cocoop_depends_on_its_image(clip):
    model = shake(get_peft_model(clip, coop(conditional=True)))
    images = torch.nn.functional.normalize(torch.randn(4, 32), dim=-1)
    with torch.no_grad():
        with condition_on(images):
            together = model.encode_text(IDS)
        singly = []
        for index in range(4):
            with condition_on(images[index]):
                singly.append(model.encode_text(IDS)[index])
        torch.testing.assert_close(together, torch.stack(singly))
        with condition_on(images[0]):
            assert not torch.allclose(model.encode_text(IDS)[1], together[1], atol=1e-4)
    with pytest.raises(ValueError, match="condition_on"):
        model.encode_text(IDS)
    with model.disable_adapter():
        model.encode_text(IDS)


# --- domains ---


def test_each_domain_speaks_with_its_own_tokens_and_others_with_their_mean(clip):
    names = ["night", "day", "dusk"]
    model = shake(get_peft_model(clip, coop(domains=names, domain_tokens=2)))
    shared, own = (trainable(model)[name] for name in sorted(trainable(model), reverse=True))
    assert (shared.shape, own.shape) == ((1, 32), (3, 2, 32))
    reference = get_peft_model(build(), coop())
    (context,) = trainable(reference).values()

    @torch.no_grad()
    def expected(tokens: Tensor) -> Tensor:
        context.copy_(torch.cat([shared, tokens]))
        return reference.encode_text(IDS)

    @torch.no_grad()
    def encoded(domain) -> Tensor:
        with in_domain(domain):
            return model.encode_text(IDS)

    each = [expected(tokens) for tokens in own]
    assert not torch.equal(each[0], each[1])
    for name, features_of in zip(names, each, strict=True):
        close(encoded(name), features_of)
    mean = expected(own.mean(0))
    for unknown in (None, "noon", [None] * 4):
        torch.testing.assert_close(encoded(unknown), mean, rtol=0, atol=1e-5)
    mixed = encoded(["dusk", "night", "noon", "dusk"])
    torch.testing.assert_close(mixed[[0, 3]], each[2][[0, 3]], rtol=0, atol=1e-6)
    torch.testing.assert_close(mixed[1], each[0][1], rtol=0, atol=1e-6)
    torch.testing.assert_close(mixed[2], mean[2], rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="domains for 3 texts are set, but 4 came"):
        encoded(["dusk", "night", "day"])


def test_only_the_tokens_of_the_domains_in_a_batch_get_gradients(clip):
    model = get_peft_model(clip, coop(domains=["night", "day", "dusk"], domain_tokens=1))
    own = next(value for name, value in trainable(model).items() if "prompt_domains" in name)
    for domain, moved in (("day", [1]), (["dusk", "night", "dusk", "night"], [0, 2])):
        model.zero_grad()
        with in_domain(domain):
            model.encode_text(IDS).square().sum().backward()
        assert own.grad.abs().sum((1, 2)).nonzero().flatten().tolist() == moved


def test_domains_of_threads_do_not_mix(clip):
    names = [f"domain {number}" for number in range(8)]
    model = shake(get_peft_model(clip, coop(domains=names, domain_tokens=2)))
    barrier = threading.Barrier(8)

    @torch.no_grad()
    def encode(name: str) -> Tensor:
        with in_domain(name):
            return model.encode_text(IDS)

    def meet_then_encode(name: str) -> Tensor:
        with in_domain(name):
            barrier.wait()
            with torch.no_grad():
                return model.encode_text(IDS)

    expected = [encode(name) for name in names]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(meet_then_encode, names))
    assert all(torch.equal(a, b) for a, b in zip(results, expected, strict=True))


# --- several adapters ---


@pytest.fixture
def zoo(clip) -> tuple[PeftModel, dict[str, Tensor]]:
    """One model with three shaken adapters, and the features of each."""
    model = shake(get_peft_model(clip, coop(), adapter_name="kitchen"))
    model.add_adapter("garden", PromptConfig(vision_tokens=4, vision_depth=2))
    model.add_adapter("alley", coop(text_depth=3, vision_tokens=3, vision_depth=3, coupled=True))
    expected = {}
    for index, name in enumerate(("kitchen", "garden", "alley")):
        model.set_adapter(name)
        if index:
            shake(model, seed=index)
        expected[name] = features(model)
    return model, expected


def test_adapters_switch_exactly(zoo):
    model, expected = zoo
    base = features(build())
    for name in ("garden", "alley", "kitchen", "alley", "garden"):
        model.set_adapter(name)
        assert torch.equal(features(model), expected[name])
        assert all(f".{name}" in key for key in trainable(model))
        with model.disable_adapter():
            assert torch.equal(features(model), base)
    status = model.get_model_status()
    assert status.peft_types == {name: "ZSVG_PROMPT" for name in expected}
    assert status.enabled is True
    assert status.active_adapters == ["garden"]
    assert status.available_adapters == sorted(expected)


@pytest.mark.parametrize("name", ["kitchen", "garden", "alley"])
@pytest.mark.parametrize("active", ["kitchen", "garden", "alley"])
def test_deleting_leaves_the_others_exact(zoo, name, active):
    model, expected = zoo
    model.set_adapter(active)
    model.delete_adapter(name)
    rest = sorted(set(expected) - {name})
    now = active if active != name else rest[0]
    assert model.active_adapter == now
    assert sorted(model.peft_config) == rest
    assert torch.equal(features(model), expected[now])
    assert not any(f".{name}" in key for key in model.state_dict())
    for other in rest:
        model.set_adapter(other)
        assert torch.equal(features(model), expected[other])
    assert torch.equal(features(model.unload()), features(build()))


def test_deleting_the_last_adapter_leaves_the_backbone(clip):
    model = shake(get_peft_model(clip, coop(), adapter_name="kitchen"))
    model.delete_adapter("kitchen")
    assert torch.equal(features(model), features(build()))


def test_saved_adapters_load_side_by_side(zoo, tmp_path):
    model, expected = zoo
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    again = load_adapter(build(), tmp_path / "garden", "garden")
    for name in ("kitchen", "alley"):
        assert load_adapter(again, tmp_path / name, name) is again
    assert again.active_adapter == "garden"
    for name in expected:
        again.set_adapter(name, inference_mode=True)
        assert torch.equal(features(again), expected[name])
    assert not trainable(again)


def test_adapters_on_different_towers_may_act_together(clip):
    model = shake(get_peft_model(clip, coop(), adapter_name="words"))
    texts = features(model)[4:]
    model.add_adapter("looks", PromptConfig(vision_tokens=4))
    model.set_adapter("looks")
    images = features(shake(model))[:4]
    model.base_model.set_adapter(["words", "looks"])
    assert torch.equal(features(model), torch.cat([images, texts]))
    model.add_adapter("more", coop())
    model.base_model.set_adapter(["words", "more"])
    with pytest.raises(ValueError, match=r"words.*more.*activate one"):
        features(model)


def test_threads_under_one_lock_give_the_serial_results(zoo):
    model, expected = zoo
    lock, names = threading.Lock(), ["kitchen", "garden"]
    torch_threads = torch.get_num_threads()

    def work(worker: int) -> list[bool]:
        equal = []
        for step in range(6):
            name = names[(worker + step) % 2]
            with lock:
                model.set_adapter(name)
                result = features(model)
            equal.append(torch.equal(result, expected[name]))
        return equal

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(8)))
    assert torch.get_num_threads() == torch_threads
    assert [all(result) for result in results] == [True] * 8


def test_conditions_of_threads_do_not_mix(clip):
    model = shake(get_peft_model(clip, coop(conditional=True)))
    images = torch.nn.functional.normalize(torch.randn(8, 32), dim=-1)
    barrier = threading.Barrier(8)

    @torch.no_grad()
    def encode(index: int) -> Tensor:
        with condition_on(images[index]):
            return model.encode_text(IDS)

    def meet_then_encode(index: int) -> Tensor:
        with condition_on(images[index]):
            barrier.wait()
            with torch.no_grad():
                return model.encode_text(IDS)

    expected = [encode(index) for index in range(8)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(meet_then_encode, range(8)))
    assert all(torch.equal(a, b) for a, b in zip(results, expected, strict=True))


# --- PEFT's other calls ---


def test_trainable_reload_continues(clip, tmp_path):
    get_peft_model(clip, coop()).save_pretrained(tmp_path, save_embedding_layers=False)
    model = load_adapter(build(), tmp_path, trainable=True)
    assert len(trainable(model)) == 1
    losses = fit(model, 5)
    assert losses[-1] < losses[0]


def test_config_round_trip(clip, tmp_path):
    get_peft_model(clip, coop(vision_tokens=2, vision_depth="all")).save_pretrained(
        tmp_path, save_embedding_layers=False
    )
    config = PeftConfig.from_pretrained(str(tmp_path))
    assert isinstance(config, PromptConfig)
    assert config.peft_type is PromptType.ZSVG_PROMPT
    assert config.peft_type == "ZSVG_PROMPT"
    assert (config.init, config.init_ids) == (TEMPLATE, [2, 3, 4])
    assert config.vision_depth == 3
    assert config.towers == {
        "text_width": 32,
        "text_layers": 3,
        "vision_width": 48,
        "vision_layers": 3,
    }


def test_prompts_do_not_merge(clip):
    model = get_peft_model(clip, coop())
    for merge in (model.merge_and_unload, model.merge_adapter):
        with pytest.raises(NotImplementedError, match=r"unload\(\)"):
            merge()
    assert model.unload() is clip


def test_a_weighted_mean_of_adapters_is_refused_with_a_way_out(zoo):
    model, expected = zoo
    with pytest.raises(NotImplementedError, match="average the features") as caught:
        model.add_weighted_adapter(["kitchen", "alley"], [0.5, 0.5], "both")
    assert "\n" not in str(caught.value)
    assert sorted(model.peft_config) == sorted(expected)


@pytest.mark.parametrize("name", ["adapter_names", "alora_offsets"])
def test_what_a_batch_cannot_choose_is_refused_not_ignored(zoo, name):
    model, _ = zoo
    with pytest.raises(ValueError, match=f"{name}.*set_adapter") as caught:
        model(IMAGES, IDS, **{name: ["kitchen", "alley", "kitchen", "__base__"]})
    assert "\n" not in str(caught.value)
    _images, texts, _ = model(IMAGES, IDS, **{name: None})
    assert torch.equal(texts, model.encode_text(IDS, normalize=True))


def test_feature_maps_are_exact_or_refused(clip):
    plain = clip.forward_intermediates(IMAGES)["image_intermediates"]
    shallow = get_peft_model(clip, PromptConfig(vision_tokens=4))
    with pytest.raises(ValueError, match="vision_depth=1"):
        shallow.forward_intermediates(IMAGES)
    with shallow.disable_adapter():
        again = shallow.forward_intermediates(IMAGES)["image_intermediates"]
    assert all(torch.equal(a, b) for a, b in zip(again, plain, strict=True))
    deep = get_peft_model(shallow.unload(), PromptConfig(vision_tokens=4, vision_depth="all"))
    maps = deep.forward_intermediates(IMAGES)["image_intermediates"]
    assert [m.shape for m in maps] == [m.shape for m in plain]


def test_no_set_is_saved_however_deep_the_tower():
    # PEFT turns lists of 20 and more target modules into sets, and saves sets in hash order.
    model = get_peft_model(
        build(vision={"layers": 24}), PromptConfig(vision_tokens=2, vision_depth="all")
    )
    config = model.peft_config["default"].to_dict()
    assert isinstance(config["target_modules"], str)
    assert not any(isinstance(value, set) for value in config.values())
    assert len(trainable(model)) == 24


# --- wrong backbones and broken folders ---

WRONG = {
    "vision width": ({"vision": {"width": 64}}, "vision_width 48"),
    "vision depth": ({"vision": {"layers": 5}}, "vision_layers 5"),
    "text width": ({"width": 48}, "text_width 48"),
    "text depth": ({"layers": 2}, "text_layers 2"),
}


@pytest.mark.parametrize("case", list(WRONG))
@pytest.mark.parametrize("way", ["zsvg", "zsvg beside", "peft"])
def test_wrong_width_or_depth_is_refused_and_leaves_the_model_alone(clip, case, way, tmp_path):
    config = coop(text_depth=2, vision_tokens=2, vision_depth=3)
    get_peft_model(clip, config).save_pretrained(tmp_path, save_embedding_layers=False)
    options, message = WRONG[case]
    other = build(**options)
    base = features(other)
    if way == "zsvg beside":
        other = get_peft_model(other, coop(), adapter_name="kitchen")
    load = PeftModel.from_pretrained if way == "peft" else load_adapter
    with pytest.raises(ModelFolderError, match=message):
        load(other, str(tmp_path))
    assert torch.equal(features(other), base)
    if way == "zsvg beside":
        assert list(other.peft_config) == ["kitchen"]
    else:
        assert not any(isinstance(module, PromptLayer) for module in other.modules())


def change_tensors(folder: Path, case: str) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    key = sorted(tensors)[0]
    if case == "missing":
        del tensors[key]
    elif case == "extra":
        tensors["base_model.model.visual.prompt_tokens"] = torch.zeros(2, 2)
    elif case == "shape":
        tensors[key] = tensors[key][:, :-1].contiguous()
    save_file(tensors, path, metadata={"format": "pt"})
    if case == "cut":
        path.write_bytes(path.read_bytes()[:-10])


@pytest.mark.parametrize("case", ["missing", "extra", "shape", "cut"])
@pytest.mark.parametrize("beside", [False, True])
def test_tensors_that_do_not_fit_are_refused(clip, case, beside, tmp_path):
    config = PromptConfig(vision_tokens=2, vision_depth=3)
    get_peft_model(clip, config).save_pretrained(tmp_path, save_embedding_layers=False)
    change_tensors(tmp_path, case)
    model = build()
    base = features(model)
    if beside:
        model = get_peft_model(model, coop(), adapter_name="kitchen")
    with pytest.raises(ModelFolderError, match=r"adapter_model\.safetensors"):
        load_adapter(model, tmp_path)
    assert torch.equal(features(model), base)
    if not beside:
        assert not any(isinstance(module, PromptLayer) for module in model.modules())


def test_weights_besides_prompts_are_named_and_no_fault_of_the_backbone(clip, tmp_path):
    config = coop()
    config.modules_to_save = ["ln_final"]
    get_peft_model(clip, config).save_pretrained(tmp_path, save_embedding_layers=False)
    model = build()
    with pytest.raises(ModelFolderError, match=r"ln_final.*no prompt.*modules_to_save") as caught:
        load_adapter(model, tmp_path)
    assert "backbone" not in str(caught.value)
    assert not any(isinstance(module, PromptLayer) for module in model.modules())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.update(peft_type="LORA"), "not prompts"),
        (lambda config: config.update(peft_type="NO_SUCH"), "cannot be read"),
        (lambda config: config.update(text_tokens=-1), "text_tokens=-1"),
        (lambda config: config.update(init_ids=[2, 3]), "2 tokens"),
        (lambda config: config.update(towers=None, text_depth=9), "text_depth=9"),
        (lambda config: config.update(towers=None, init_ids=[2, 3, 400]), "vocabulary of 40"),
    ],
)
def test_broken_configs_are_refused(clip, change, message, tmp_path):
    get_peft_model(clip, coop()).save_pretrained(tmp_path, save_embedding_layers=False)
    path = tmp_path / "adapter_config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
    with pytest.raises(ModelFolderError, match=message):
        load_adapter(build(), tmp_path)


def test_missing_files_are_named(clip, tmp_path):
    get_peft_model(clip, coop()).save_pretrained(tmp_path, save_embedding_layers=False)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (tmp_path / name).unlink()
        with pytest.raises(ModelFolderError, match=name):
            load_adapter(build(), tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "no prompt to learn"),
        ({"text_tokens": -1}, "text_tokens=-1"),
        ({"text_tokens": 2, "text_start": -1}, "text_start=-1"),
        ({"text_tokens": 3, "domains": ["a"], "domain_tokens": 3}, "leave some of the 3"),
        ({"text_tokens": 3, "domain_tokens": 1}, "name at least one"),
        ({"text_tokens": 3, "domains": ["a"]}, "domain_tokens=0"),
        ({"text_tokens": 3, "domains": ["a", "a"], "domain_tokens": 1}, "different names"),
        (
            {
                "text_tokens": 2,
                "vision_tokens": 2,
                "coupled": True,
                "domains": ["a"],
                "domain_tokens": 1,
            },
            "coupled prompts cannot have domains",
        ),
        ({"border": -1}, "border=-1"),
        ({"border": 0.2}, r"border=0\.2 must be a number of pixels"),
        ({"vision_tokens": 2.5}, r"vision_tokens=2\.5"),
        ({"vision_tokens": 2, "vision_depth": 0}, "vision_depth=0"),
        ({"vision_tokens": 2, "vision_depth": "deep"}, "vision_depth='deep'"),
        ({"text_tokens": 2, "vision_depth": 3}, "without vision_tokens"),
        ({"text_tokens": 2, "coupled": True}, "2 and 0"),
        (
            {"text_tokens": 2, "vision_tokens": 2, "vision_depth": 2, "coupled": True},
            "1 and 2",
        ),
        ({"vision_tokens": 2, "conditional": True}, "conditional"),
        ({"text_tokens": 3, "init": "a video of"}, "prompt_config_for"),
        ({"text_tokens": 2, "init": "a video of", "init_ids": [2, 3, 4]}, "3 tokens"),
    ],
)
def test_contradicting_options_are_refused(options, message):
    with pytest.raises(RecipeError, match=message):
        PromptConfig(**options)


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        (PromptConfig(vision_tokens=2, vision_depth=4), RecipeError, "vision_depth=4.*3 blocks"),
        (PromptConfig(text_tokens=2, text_depth=12), RecipeError, "text_depth=12"),
        (PromptConfig(text_tokens=23), RecipeError, "room for 22"),
    ],
)
def test_options_that_do_not_fit_the_towers_are_refused(clip, config, error, message):
    with pytest.raises(error, match=message):
        get_peft_model(clip, config)
    assert not any(isinstance(module, PromptLayer) for module in clip.modules())


def test_a_resnet_has_no_place_for_vision_prompts():
    model = build(vision={"layers": [1, 1, 1, 1], "width": 8, "head_width": 8})
    with pytest.raises(BackboneError, match="ModifiedResNet"):
        get_peft_model(model, PromptConfig(vision_tokens=2))
    tuned = get_peft_model(model, coop())
    assert len(trainable(tuned)) == 1


# --- texts and templates ---


def test_a_text_without_the_template_is_an_error(clip):
    model = get_peft_model(clip, coop())
    with pytest.raises(ValueError, match="a video of"):
        model.encode_text(tokenizer(QUERIES))
    with pytest.raises(ValueError, match="no room"):
        model.encode_text(IDS[:, :4])
    with model.disable_adapter():
        model.encode_text(tokenizer(QUERIES))


def test_the_helper_counts_and_keeps_the_template():
    assert (coop().text_tokens, coop().init, coop().init_ids) == (3, TEMPLATE, [2, 3, 4])
    random = prompt_config_for(tokenizer, "x x x x", random=True, seed=7)
    assert (random.text_tokens, random.init, random.seed) == (4, None, 7)


@pytest.mark.parametrize(
    ("template", "options", "error", "message"),
    [
        ("", {}, RecipeError, "no tokens"),
        ("x " * 22, {}, RecipeError, "leaves none"),
        ("x " * 40, {}, RecipeError, "leaves none"),
        (TEMPLATE, {"text_tokens": 4}, RecipeError, "follows from the template"),
    ],
)
def test_bad_templates_are_refused(template, options, error, message):
    with pytest.raises(error, match=message):
        prompt_config_for(tokenizer, template, **options)


def test_a_tokenizer_that_would_break_the_places_is_refused():
    def merging(texts: list[str]) -> Tensor:
        return tokenizer([text.replace("of person", "ofperson") for text in texts])

    with pytest.raises(BackboneError, match="splits"):
        prompt_config_for(merging, TEMPLATE)


def test_open_clips_own_tokenizer():
    config = prompt_config_for(open_clip.tokenizer.SimpleTokenizer(), "a video of a person who")
    assert config.text_tokens == 6


def test_a_local_folder_end_to_end(tiny_clip_folder, tmp_path):
    name = f"local-dir:{tiny_clip_folder}"

    def backbone() -> nn.Module:
        model = open_clip.create_model(name, force_custom_text=True, require_pretrained=True)
        return model.requires_grad_(False).eval()

    words = open_clip.get_tokenizer(name)
    ids = words([f"{TEMPLATE} {query}" for query in QUERIES])
    model = backbone()
    base = features(model, ids)
    tuned = get_peft_model(model, prompt_config_for(words, TEMPLATE))
    assert torch.equal(features(tuned, ids), base)
    shake(tuned).save_pretrained(tmp_path, save_embedding_layers=False)
    again = load_adapter(backbone(), tmp_path)
    assert torch.equal(features(again, ids), features(tuned, ids))
    assert not torch.equal(features(again, ids), base)
