"""Prompts, 2D-TAN's map and VSLNet's spans are what the authors' code made of random inputs.

Weights, prompts, outputs and gradients are read from ZSVG_TEST_DATA. The same methods are worked
out by hand in `test_tuners.py`, `test_tuner_matrix.py` and `test_head_contract.py`; SPL, TFVTG, TAG
and Moment-DETR have files of their own (SPL: `test_proposals.py`).
"""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from open_clip.model import CLIP
from peft import get_peft_model
from timm.models import VisionTransformer
from torch import Tensor, nn

from zsvg.heads.losses import scaled_iou_loss
from zsvg.heads.map import _Grid, sparse_cells, stack_clips
from zsvg.heads.span import best_pairs
from zsvg.heads.span_arithmetic import span_iou
from zsvg.tuners import PromptConfig, condition_on

pytestmark = pytest.mark.numeric

VISION = {"image_size": 32, "layers": 3, "width": 48, "patch_size": 8, "head_width": 16}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 3}


@pytest.fixture(scope="module")
def expected(data_folder):
    def read(name: str) -> dict[str, np.ndarray]:
        return dict(np.load(data_folder / "expected" / f"{name}.npz", allow_pickle=False))

    return read


def weights(table: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {
        name[2:]: torch.tensor(value).float() for name, value in table.items() if name[:2] == "w."
    }


class Inputs:
    """The small CLIP that all of CoOp's and MaPLe's outputs are of, and what it was given."""

    def __init__(self, table: dict[str, np.ndarray]) -> None:
        self.model = CLIP(40, VISION, TEXT, quick_gelu=True).requires_grad_(False).eval()
        state = weights(table)
        words = torch.zeros(TEXT["vocab_size"], TEXT["width"])
        words[table["token_ids_used"]] = torch.tensor(table["token_embedding_used"]).float()
        state["token_embedding.weight"] = words
        state["logit_scale"] = torch.tensor(table["logit_scale"])
        left = self.model.load_state_dict(state, strict=False)
        assert not left.unexpected_keys
        assert set(left.missing_keys) <= {"attn_mask"}
        self.images = torch.tensor(table["images"]).float()
        self.plain, self.photo, self.crosses = (
            torch.tensor(table[f"tokens_{name}"]).long() for name in ("plain", "photo", "x16")
        )


@pytest.fixture
def clip(expected) -> Inputs:
    return Inputs(expected("clip_tiny"))


def test_the_small_clip_is_theirs(clip, expected):
    their = expected("clip_tiny")
    close(clip.model.encode_image(clip.images), their["image_features"])
    close(clip.model.encode_text(clip.plain), their["text_features"])


def close(found: Tensor, their: np.ndarray) -> None:
    np.testing.assert_allclose(found.detach().numpy(), their, rtol=1e-4, atol=1e-5)


def tuned(model: nn.Module, **options) -> tuple[nn.Module, dict[tuple[str, int], nn.Parameter]]:
    """Wrap a model; return its prompts by (tower and kind, block)."""
    model = get_peft_model(model, PromptConfig(**options))
    prompts = {}
    for name, value in model.named_parameters():
        if value.requires_grad:
            tower = "image" if "visual" in name else "text"
            block = re.search(r"blocks\.(\d+)", name)
            kind = re.sub(r".*prompt_|\.default|base_layer\.", "", name)
            prompts[f"{tower} {kind}", int(block[1]) if block else 0] = value
    return model, prompts


def fill(prompts: dict, kind: str, values: np.ndarray) -> list[nn.Parameter]:
    """Give the prompts of a kind, block by block, and return them."""
    places = sorted(place for place in prompts if place[0] == kind)
    assert len(places) == len(values)
    with torch.no_grad():
        for place, value in zip(places, values, strict=True):
            prompts[place].copy_(torch.tensor(value))
    return [prompts[place] for place in places]


def gradients(prompts: list[nn.Parameter]) -> Tensor:
    return torch.stack([prompt.grad for prompt in prompts])


@pytest.mark.parametrize("count", [4, 16])
def test_coop(clip, expected, count):
    their, ids = expected("clip_coop"), clip.photo if count == 4 else clip.crosses
    model, prompts = tuned(clip.model, text_tokens=count)
    tokens = fill(prompts, "text tokens", their[f"context_{count}"][None])
    found = model.encode_text(ids)
    close(found, their[f"text_features_{count}"])
    (found * torch.tensor(their[f"grad_weight_{count}"])).sum().backward()
    close(gradients(tokens)[0], their[f"grad_context_{count}"])


@pytest.mark.parametrize("count", [4, 16])
def test_cocoop(clip, expected, count):
    their, ids = expected("clip_cocoop"), clip.photo if count == 4 else clip.crosses
    model, prompts = tuned(clip.model, text_tokens=count, conditional=True)
    tokens = fill(prompts, "text tokens", their[f"context_{count}"][None])
    layers = {
        (layer, part): fill(
            prompts, f"text meta_{ours}.{part}", their[f"linear{layer}_{part}_{count}"][None]
        )
        for layer, ours in ((1, "down"), (2, "up"))
        for part in ("weight", "bias")
    }
    total = torch.zeros(())
    for image, (condition, texts) in enumerate(
        zip(their[f"image_features_{count}"], their[f"text_features_{count}"], strict=True)
    ):
        with condition_on(torch.tensor(condition)):
            found = model.encode_text(ids)
        close(found, texts)
        total = total + (found * torch.tensor(their[f"grad_weight_{count}"][image])).sum()
    total.backward()
    close(gradients(tokens)[0], their[f"grad_context_{count}"])
    for layer in (1, 2):
        close(gradients(layers[layer, "weight"])[0], their[f"grad_linear{layer}_{count}"])


@pytest.mark.parametrize(("count", "depth"), [(2, 1), (2, 2), (2, 3), (4, 3)])
def test_maple(clip, expected, count, depth):
    their, name = expected("clip_maple"), f"n{count}_depth{depth}"
    model, prompts = tuned(
        clip.model, text_tokens=count, text_depth=depth,
        vision_tokens=count, vision_depth=depth, coupled=True,
    )  # fmt: skip
    tokens = fill(prompts, "text tokens", their[f"prompts_{name}"])
    linear = fill(prompts, "image coupling.weight", their[f"coupling_weight_{name}"])
    fill(prompts, "image coupling.bias", their[f"coupling_bias_{name}"])
    texts, images = model.encode_text(clip.photo), model.encode_image(clip.images)
    close(texts, their[f"text_features_{name}"])
    close(images, their[f"image_features_{name}"])
    both = (texts * torch.tensor(their[f"grad_weight_text_{name}"])).sum()
    (both + (images * torch.tensor(their[f"grad_weight_image_{name}"])).sum()).backward()
    close(gradients(tokens), their[f"grad_prompts_{name}"])
    close(gradients(linear), their[f"grad_coupling_{name}"])


@pytest.mark.parametrize(
    "name",
    ["vpt_v8x1_t0x0", "vpt_v5x2_t0x0", "vpt_v4x3_t0x0",
     "ivlp_v2x3_t2x3", "ivlp_v4x2_t2x1", "ivlp_v3x1_t4x3"],
)  # fmt: skip
def test_vpt_and_independent_prompts_in_clip(clip, expected, name):
    their = expected("clip_vpt")
    options = {"vision_tokens": len(their[f"vision_prompts_{name}"][0])}
    options["vision_depth"] = len(their[f"vision_prompts_{name}"])
    if texts := name.startswith("ivlp"):
        options["text_tokens"] = len(their[f"text_prompts_{name}"][0])
        options["text_depth"] = len(their[f"text_prompts_{name}"])
    model, prompts = tuned(clip.model, **options)
    seen = fill(prompts, "image tokens", their[f"vision_prompts_{name}"])
    sides = [(seen, model.encode_image(clip.images), "vision", "image")]
    if texts:
        said = fill(prompts, "text tokens", their[f"text_prompts_{name}"])
        sides.append((said, model.encode_text(clip.photo), "text", "text"))
    for filled, found, side, features in sides:
        close(found, their[f"{features}_features_{name}"])
        (found * torch.tensor(their[f"grad_weight_{features}_{name}"])).sum().backward()
        close(gradients(filled), their[f"grad_{side}_prompts_{name}"])


@pytest.mark.parametrize("name", ["shallow_8", "shallow_3", "deep_5", "deep_2"])
def test_vpt_in_its_own_vision_transformer(expected, name):
    their = expected("vpt_timm")
    trunk = VisionTransformer(
        img_size=32, patch_size=8, embed_dim=48, depth=3, num_heads=3, num_classes=0
    )
    trunk.load_state_dict(weights(their))
    model = nn.Module()
    model.visual = nn.Module()
    model.visual.trunk = trunk.requires_grad_(False).eval()
    depth, count, _ = their[f"prompts_{name}"].shape
    tuned_model, prompts = tuned(model, vision_tokens=count, vision_depth=depth)
    filled = fill(prompts, "image tokens", their[f"prompts_{name}"])
    found = tuned_model.visual.trunk(torch.tensor(their["images"]).float())
    close(found, their[f"features_{name}"])
    (found * torch.tensor(their[f"grad_weight_{name}"])).sum().backward()
    close(gradients(filled), their[f"grad_prompts_{name}"])


@pytest.mark.parametrize("clips", [16, 32, 64, 128])
def test_2d_tans_map_targets_and_loss(expected, clips):
    their = {
        name.removesuffix(f"_{clips}"): value
        for name, value in expected("tan2d").items()
        if name.endswith(f"_{clips}")
    }
    mask = sparse_cells(clips, 16)
    np.testing.assert_array_equal(mask, their["mask"])
    stacked = stack_clips(torch.tensor(their["clips"]), mask)
    close(stacked[..., mask], their["pooled"])
    spans = _Grid(clips, 16).spans
    moments = torch.tensor(their["moment"] / their["duration"][:, None]).float()
    shared = span_iou(spans, moments[:, None])
    close(shared, their["target_iou"])
    low, high = map(float, their["iou_range"])
    logits = torch.tensor(their["logits"], requires_grad=True)
    every = torch.ones_like(shared).bool()
    for row in range(5):
        one = slice(row, row + 1)
        loss = scaled_iou_loss(logits[one], shared[one], every[one], low=low, high=high)
        assert loss.item() / len(spans) == pytest.approx(their["loss"][row], rel=1e-4)
    whole = scaled_iou_loss(logits, shared, every, low=low, high=high) / len(spans)
    assert whole.item() == pytest.approx(their["loss_of_5"].item(), rel=1e-4)
    sum(
        scaled_iou_loss(logits[i : i + 1], shared[i : i + 1], every[:1], low=low, high=high)
        for i in range(5)
    ).backward()
    close(logits.grad / len(spans), their["grad"])


def test_vslnets_best_span(expected):
    their = expected("vslnet")
    for case, valid in enumerate(their["valid"]):
        rows = slice(*their["logits_start"][case : case + 2])
        start, end = (torch.tensor(their[f"{s}_logits"][rows])[None] for s in ("start", "end"))
        mask = torch.arange(start.shape[1])[None] < int(valid)
        pairs, scores = best_pairs(start, end, mask)
        assert pairs[0, scores[0].argmax()].tolist() == their["best"][case].tolist()
