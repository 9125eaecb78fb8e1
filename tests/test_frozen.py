"""Microworld v1 and the micro backbones are frozen: a change here means v2 and new numbers."""

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import zsvg
from zsvg.backbones.captioner import load_captioner
from zsvg.backbones.clip import load_backbone
from zsvg.files import sha256_file
from zsvg.microworld.domains import LOOKS
from zsvg.microworld.render import Renderer
from zsvg.microworld.world import plan_video, truth
from zsvg.records import write_annotations

MICRO = Path(zsvg.__file__).parent / "backbones" / "micro"
ANNOTATIONS = {
    "studio": "c86a2ef1c851fbc6349512381df63620128a15b5fe9bb212307be321498d60a3",
    "chalk": "6b385ae6ac261720380c6de0fb7e69ed257a1c69c1c9eea82e71d1bd705bcc9b",
    "paper": "5719e1819598207fc6d1eb48f791d480dd631e143f60060912e901ce21ee9f8b",
    "night": "2abcacd84cb7774c2ac7f1f26c02bb469ab4763c851fb62eea4646c6bb864c12",
    "fabric": "77f6c87f2cd247e4e3958eff364c0403182de35608e48c722977af7670ad7635",
}
WEIGHTS = {
    "blip/model.safetensors": "9189e4c8e95b0562e932cce05c5c9fbddaec97d2ffde39dc607e635635c17df3",
    "clip/open_clip_model.safetensors": "c186e4fdb022f9eda55c491a0d68d69061b20ccbf86bbf9990a24ab740a5ec4b",  # noqa: E501
}


@pytest.mark.parametrize("domain", LOOKS)
def test_annotations_are_those_of_v1(domain, tmp_path):
    path = tmp_path / "annotations.jsonl"
    write_annotations(path, truth(domain, "test", 0, 50))
    assert sha256_file(path) == ANNOTATIONS[domain]


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_are_those_of_v1(name):
    assert sha256_file(MICRO / name) == WEIGHTS[name]


def test_weights_are_small_half_precision_and_loaded_as_single():
    files = list(MICRO.rglob("*.safetensors"))
    assert sum(path.stat().st_size for path in files) <= 12e6
    for path in files:
        with safe_open(path, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                assert tensors.get_tensor(name).dtype in (torch.float16, torch.int64)
    assert {p.dtype for p in load_backbone("micro", "cpu").model.parameters()} == {torch.float32}
    assert load_captioner("micro", "cpu").fingerprint


def test_no_pixel_depends_on_what_was_drawn_before():
    scene, _ = plan_video("fabric", "test", 0, 1)
    renderer = Renderer(scene)
    first = hashlib.sha256(renderer.frame(3.0).tobytes()).hexdigest()
    renderer.frame(9.0)
    assert hashlib.sha256(renderer.frame(3.0).tobytes()).hexdigest() == first
