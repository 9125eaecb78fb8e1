"""Backbones are made without random numbers, and are the same as those that were filled first."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import write_tiny_clip
from zsvg.backbones import unfilled as unfilled_module
from zsvg.backbones.clip import load_backbone
from zsvg.backbones.unfilled import unfilled
from zsvg.errors import BackboneError

WEIGHTS = "open_clip_model.safetensors"


def everything(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return parameters and buffers, also those that are in no checkpoint (causal masks)."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def same(ours: torch.nn.Module, theirs: torch.nn.Module) -> None:
    mine, other = everything(ours), everything(theirs)
    assert mine.keys() == other.keys()
    assert "text.attn_mask" in mine  # which no checkpoint holds
    for name, value in mine.items():
        assert torch.equal(value, other[name]), name


@pytest.mark.parametrize("tokenizer", [True, False])
def test_what_is_loaded_is_what_open_clip_loads(tmp_path: Path, tokenizer: bool) -> None:
    folder = write_tiny_clip(tmp_path / "clip", own_tokenizer=tokenizer)
    plain = open_clip.create_model(
        f"local-dir:{folder}", force_custom_text=True, require_pretrained=True
    )
    same(load_backbone(f"local-dir:{folder}", "cpu").model, plain)


def test_micro_is_what_open_clip_loads() -> None:
    from zsvg.backbones.clip import MICRO_FOLDER

    plain = open_clip.create_model(
        f"local-dir:{MICRO_FOLDER}", force_custom_text=True, require_pretrained=True
    )
    same(load_backbone("micro", "cpu").model, plain)


@pytest.mark.parametrize("architecture", ["RN50", "ViT-B-32", "coca_ViT-B-32"])
def test_random_numbers_are_all_that_is_left_out(architecture: str) -> None:
    """What no checkpoint holds is made as always: buffers, and what is constant."""
    config = open_clip.get_model_config(architecture)
    for tower in ("vision_cfg", "text_cfg", "multimodal_cfg"):  # small ones
        if tower in config:
            layers = [1, 1, 1, 1] if isinstance(config[tower].get("layers"), list) else 1
            config[tower] |= {"layers": layers, "width": 64}
    config.pop("custom_text", None)
    made = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP
    filled = made(**config)
    with unfilled():
        bare = made(**config)
    for name, buffer in filled.named_buffers():
        assert torch.equal(dict(bare.named_buffers())[name], buffer), name
    bare.load_state_dict(filled.state_dict(), strict=True)
    same(bare, filled)


def test_a_checkpoint_that_lacks_a_weight_is_refused(tiny_clip_folder: Path, tmp_path) -> None:
    folder = Path(shutil.copytree(tiny_clip_folder, tmp_path / "clip"))
    tensors = load_file(folder / WEIGHTS)
    missing = "text.transformer.resblocks.1.mlp.c_fc.weight"
    del tensors[missing]
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(BackboneError, match=missing.replace(".", r"\.")):
        load_backbone(f"local-dir:{folder}", "cpu")


def test_nothing_is_drawn_while_a_backbone_is_loaded(tiny_clip_folder: Path, monkeypatch) -> None:
    drawn = []
    for name in ("normal_", "uniform_"):
        own = getattr(torch.Tensor, name)

        def note(tensor, *args, own=own, **options):
            drawn.append(tuple(tensor.shape))
            return own(tensor, *args, **options)

        monkeypatch.setattr(torch.Tensor, name, note)
    load_backbone(f"local-dir:{tiny_clip_folder}", "cpu")
    assert drawn == []
    torch.nn.Linear(3, 2)
    assert drawn == [(2, 3), (2,)]


def test_other_threads_and_later_modules_are_filled() -> None:
    torch.manual_seed(0)
    made: list[torch.nn.Module] = []
    with unfilled():
        other = threading.Thread(target=lambda: made.append(torch.nn.Linear(5, 4)))
        other.start()
        other.join()
        attention = torch.nn.MultiheadAttention(8, 2)
    made.append(torch.nn.Linear(5, 4))
    torch.manual_seed(0)
    for layer in made:
        assert torch.equal(layer.weight, torch.nn.Linear(5, 4).weight)
    assert not attention.out_proj.bias.any()  # constants are filled in as always
    with pytest.raises(KeyError), unfilled():
        raise KeyError
    for place in unfilled_module._PLACES:
        for name in unfilled_module._RANDOM:
            assert getattr(place, name, None) is getattr(torch.nn.init, name, None) or not hasattr(
                place, name
            )
    assert "skip" not in torch.nn.init.normal_.__name__
