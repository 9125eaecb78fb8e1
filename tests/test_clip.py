"""A tiny random open_clip folder through the real loading code, and PEFT's real tuners on it."""

from __future__ import annotations

import json
import shutil
import threading
import warnings
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from conftest import write_tiny_clip, write_tiny_tokenizer

from zsvg.backbones import clip
from zsvg.backbones.base import pick_device
from zsvg.backbones.clip import load_backbone
from zsvg.errors import BackboneError

pytestmark = pytest.mark.numeric


@pytest.fixture(scope="module")
def backbone(tiny_clip_folder):
    return load_backbone(f"local-dir:{tiny_clip_folder}", "cpu")


@pytest.fixture
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


def test_what_a_backbone_is(backbone, tiny_clip_folder):
    assert backbone.name == f"local-dir:{tiny_clip_folder}"
    assert (backbone.image_size, backbone.embed_dim, backbone.context_length) == (32, 32, 24)
    assert backbone.device == torch.device("cpu")
    assert backbone.precision == "fp32"
    assert not backbone.model.training
    assert not any(p.requires_grad for p in backbone.model.parameters())
    assert backbone.model.name_or_path == backbone.name
    assert type(backbone.model).__name__ == "CustomTextCLIP"


def test_frames_equal_open_clips_own_pipeline(backbone, tiny_clip_folder, pictures):
    from PIL import Image

    model, _, preprocess = open_clip.create_model_and_transforms(
        f"local-dir:{tiny_clip_folder}", force_custom_text=True, require_pretrained=True
    )
    model.requires_grad_(False).eval()
    batch = torch.stack([preprocess(Image.fromarray(picture)) for picture in pictures])
    theirs = model.encode_image(batch, normalize=True)
    ours = backbone.encode_frames(pictures)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=0)
    assert torch.equal(ours, backbone.encode_frames(torch.from_numpy(pictures)))
    torch.testing.assert_close(ours.norm(dim=1), torch.ones(5))
    assert (ours @ ours.T).min() < 0.99  # the fixture's features do depend on the pictures


def test_frames_of_another_kind_are_refused(backbone, pictures):
    with pytest.raises(ValueError, match=r"takes \(B, 32, 32, 3\) uint8"):
        backbone.encode_frames(pictures[:, :16])
    with pytest.raises(ValueError, match="float"):
        backbone.encode_frames(pictures.astype(np.float32))
    assert backbone.encode_frames(pictures[:0]).shape == (0, 32)


def test_text_states(backbone):
    texts = ["a red ball", "the dog opens the fridge"]
    states = backbone.encode_text(texts)
    ids = backbone.tokenize(texts)
    assert ids.shape == (2, 24)
    assert ids.dtype == torch.int64
    assert torch.equal(states.pooled, backbone.model.encode_text(ids, normalize=True))
    assert states.tokens.shape == (2, 24, 32)
    assert states.mask.sum(dim=1).tolist() == [5, 7]  # start, words, end
    torch.testing.assert_close(states.tokens.norm(dim=-1), torch.ones(2, 24))
    # This tower pools at the end token: its token state is the pooled state.
    for row, end in enumerate([4, 6]):
        torch.testing.assert_close(states.tokens[row, end], states.pooled[row])
        assert states.mask[row, end]
        assert not states.mask[row, end + 1]
    assert not states.pooled.requires_grad
    assert backbone.encode_text([]).tokens.shape == (0, 24, 32)


def test_the_first_cut_texts_warn_once_each(tiny_clip_folder):
    backbone = load_backbone(f"local-dir:{tiny_clip_folder}", "cpu")
    fits, long = " ".join(["dog"] * 22), " ".join(["dog"] * 23)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backbone.tokenize([fits])
    with pytest.warns(UserWarning, match="cut to 24 tokens") as caught:
        ids = backbone.tokenize([long, "a cat", long])
    assert len(caught) == 1
    assert ids[0, -1] == ids[1].max()  # the end token survives the cut
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backbone.tokenize([long])
    with pytest.warns(UserWarning, match="text is cut") as caught:
        backbone.tokenize([f"{long} {word}" for word in ("a", "cat", "dog", "ball")])
    assert [("more are not named" in str(w.message)) for w in caught] == [False, True]
    with pytest.raises(TypeError, match="list of texts"):
        backbone.tokenize("a cat")


@pytest.mark.parametrize(
    "change",
    [
        {"pool_type": "eos", "eos_id": None},
        {"pool_type": "last", "no_causal_mask": True, "proj_bias": True},
        {"pool_type": "first", "proj_type": "none"},
    ],
    ids=["eos", "siglip-like", "no-projection"],
)
def test_other_text_towers(tmp_path, change):
    folder = tmp_path / "tower"
    size = write_tiny_tokenizer(folder)
    if "eos_id" in change:
        change = {**change, "eos_id": size - 1}
    text = {"context_length": 12, "vocab_size": size, "width": 32, "heads": 2, "layers": 2}
    config = {
        "embed_dim": 32,
        "vision_cfg": {
            "image_size": 16,
            "patch_size": 8,
            "width": 32,
            "layers": 1,
            "head_width": 16,
        },
        "text_cfg": {**text, **change, "hf_tokenizer_name": "here"},
    }
    torch.manual_seed(0)
    model = open_clip.CustomTextCLIP(**config)
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    backbone = load_backbone(f"local-dir:{folder}", "cpu")
    states = backbone.encode_text(["a red ball", "dog"])
    ids = backbone.tokenize(["a red ball", "dog"])
    assert torch.equal(states.pooled, backbone.model.encode_text(ids, normalize=True))
    assert states.mask.sum(dim=1).tolist() == [5, 3]
    pooled_at = {"eos": [4, 2], "last": [11, 11], "first": [0, 0]}[change["pool_type"]]
    for row, position in enumerate(pooled_at):
        torch.testing.assert_close(states.tokens[row, position], states.pooled[row])


def test_peft_models_get_gradients_and_leave_the_backbone_alone(tiny_clip_folder, pictures):
    from peft import LoraConfig, TrainableTokensConfig, get_peft_model

    backbone = load_backbone(f"local-dir:{tiny_clip_folder}", "cpu")
    ids = backbone.tokenize(["a red ball", "a video of dog"])
    before = backbone.encode_tokens(ids)
    images = backbone.encode_frames(pictures)
    adapted = get_peft_model(
        backbone.model,
        TrainableTokensConfig(token_indices=[2, 13], target_modules=["token_embedding"]),
    )
    states = backbone.encode_tokens(ids, model=adapted)
    assert torch.equal(states.pooled, before.pooled)
    assert torch.equal(states.tokens, before.tokens)
    (states.tokens * states.mask[..., None]).square()[..., 0].sum().backward()
    (delta,) = [p for p in adapted.parameters() if p.requires_grad]
    assert delta.grad is not None
    assert delta.grad.abs().max() > 0
    adapted.unload()

    lora = get_peft_model(
        backbone.model, LoraConfig(target_modules=r"visual\..*c_proj", init_lora_weights=False)
    )
    seen = backbone.encode_frames(pictures, model=lora)
    assert seen.requires_grad
    assert not torch.allclose(seen, images)
    with lora.disable_adapter(), torch.no_grad():
        assert torch.equal(backbone.encode_frames(pictures, model=lora), images)


def test_fingerprint_is_of_content_not_path(tiny_clip_folder, tmp_path):
    def fingerprint(folder: Path) -> str:
        return load_backbone(f"local-dir:{folder}", "cpu").fingerprint

    same = fingerprint(tiny_clip_folder)
    copy = shutil.copytree(tiny_clip_folder, tmp_path / "copy")
    assert fingerprint(copy) == same
    assert len(same) == 64

    config = json.loads((copy / "open_clip_config.json").read_text())
    for section, key, value in [
        ("preprocess_cfg", "mean", [0.5, 0.5, 0.5]),
        ("model_cfg", "quick_gelu", True),
    ]:
        changed = json.loads(json.dumps(config))
        changed[section][key] = value
        (copy / "open_clip_config.json").write_text(json.dumps(changed))
        assert fingerprint(copy) != same, key
    assert fingerprint(write_tiny_clip(tmp_path / "seeded", seed=1)) != same
    assert fingerprint(write_tiny_clip(tmp_path / "again", seed=0)) == same


def test_half_precision_weights_load_as_float32(tiny_clip_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_clip_folder, tmp_path / "half")
    weights = load_file(folder / "open_clip_model.safetensors")
    halves = {name: tensor.half() for name, tensor in weights.items()}
    save_file(halves, folder / "open_clip_model.safetensors")
    backbone = load_backbone(f"local-dir:{folder}", "cpu")
    assert {p.dtype for p in backbone.model.parameters()} == {torch.float32}
    name = "visual.conv1.weight"
    assert torch.equal(backbone.model.state_dict()[name], halves[name].float())


def test_unusable_names_are_one_line_errors(tiny_clip_folder, tmp_path):
    no_weights = shutil.copytree(tiny_clip_folder, tmp_path / "bare")
    (no_weights / "open_clip_model.safetensors").unlink()
    broken = shutil.copytree(tiny_clip_folder, tmp_path / "broken")
    (broken / "open_clip_model.safetensors").write_bytes(b"not safetensors")
    for name, reason in [
        (None, r"ViT-B-32/laion2b_s34b_b79k.*605 MB.*micro"),
        ("", "no backbone is named"),
        ("ViT-B-32", "unknown backbone"),
        ("ViT-B-23/openai", "did you mean ViT-B"),
        ("ViT-B-32/nonsense", "open_clip has .*laion2b_s34b_b79k"),
        ("hf-hub:", "unknown backbone"),
        (f"local-dir:{tmp_path}", "no open_clip_config.json"),
        ("local-dir:", "no open_clip_config.json"),
        (f"local-dir:{no_weights}", "cannot be loaded: Required pretrained weights"),
        (f"local-dir:{broken}", "cannot be loaded"),
    ]:
        with pytest.raises(BackboneError, match=reason) as caught:
            load_backbone(name, "cpu")
        assert "\n" not in str(caught.value)


def test_micro_is_the_folder_inside_the_package(tiny_clip_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(clip, "MICRO_FOLDER", tmp_path / "absent")
    with pytest.raises(BackboneError, match="'micro' is not in this installation"):
        load_backbone("micro", "cpu")
    monkeypatch.setattr(clip, "MICRO_FOLDER", tiny_clip_folder)
    assert load_backbone("micro", "cpu").model.name_or_path == "micro"


def test_hub_names_go_through_the_hub_cache(tmp_path, monkeypatch):
    """A folder laid out as huggingface_hub caches it, loaded by hub id without a network."""
    root = tmp_path / "hub" / "models--nobody--tiny-clip"
    snapshot = root / "snapshots" / ("0" * 40)
    write_tiny_clip(snapshot, own_tokenizer=False)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("0" * 40)
    # The variables HF_HUB_CACHE and HF_HUB_OFFLINE are read once, when the package is imported.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    loaded = load_backbone("hf-hub:nobody/tiny-clip")
    mine = load_backbone(f"local-dir:{snapshot}", "cpu")
    assert mine.tokenize(["a cat"])[0].count_nonzero() == 4
    assert mine.encode_text(["a cat"]).mask.sum() == 4
    assert loaded.name == "hf-hub:nobody/tiny-clip"
    assert loaded.fingerprint == mine.fingerprint
    assert str(loaded.device) == "cpu"
    for name in ("hf-hub:nobody/else", "ViT-B-32/laion2b_s34b_b79k"):
        with pytest.raises(BackboneError, match=f"^backbone '{name}' cannot be loaded"):
            load_backbone(name)


def test_device_follows_the_environment(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert pick_device() == torch.device("cpu")


def test_an_adapter_on_the_module_changes_nothing_of_the_backbones_own(tiny_clip_folder, pictures):
    from peft import LoraConfig, get_peft_model

    backbone = load_backbone(f"local-dir:{tiny_clip_folder}", "cpu")
    texts = ["a red ball", "dog"]
    before = backbone.encode_frames(pictures), backbone.encode_text(texts).tokens
    lora = get_peft_model(
        backbone.model, LoraConfig(target_modules=r".*c_(fc|proj)", init_lora_weights=False)
    )
    trained = [name for name, value in lora.named_parameters() if value.requires_grad]
    for _ in range(2):  # also after the adapter was at work
        assert torch.equal(backbone.encode_frames(pictures), before[0])
        assert torch.equal(backbone.encode_text(texts).tokens, before[1])
        with torch.no_grad():
            assert not torch.allclose(backbone.encode_frames(pictures, model=lora), before[0])
            assert not torch.allclose(backbone.encode_text(texts, lora).tokens, before[1])
    assert [name for name, value in lora.named_parameters() if value.requires_grad] == trained
    with lora.disable_adapter():
        assert torch.equal(backbone.encode_frames(pictures), before[0])
        with torch.no_grad():  # who has switched it off finds it so
            assert torch.equal(backbone.encode_frames(pictures, model=lora), before[0])


def test_threads_share_a_backbone(backbone, pictures):
    texts = ["a red ball", "the dog opens the fridge", "a cat"]
    expected_text = backbone.encode_text(texts)
    expected_image = backbone.encode_frames(pictures)
    wrong: list[str] = []

    def work() -> None:
        for _ in range(10):
            states = backbone.encode_text(texts)
            if not torch.allclose(states.tokens, expected_text.tokens, atol=1e-5):
                wrong.append("text")
            if not torch.allclose(backbone.encode_frames(pictures), expected_image, atol=1e-5):
                wrong.append("image")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
