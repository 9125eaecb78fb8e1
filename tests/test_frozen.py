"""Microworld v1 and the micro backbones are frozen: a change here means v2 and new numbers."""

import hashlib
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import zsvg
from zsvg.backbones.captioner import load_captioner
from zsvg.backbones.clip import load_backbone
from zsvg.files import sha256_file, sha256_json
from zsvg.microworld.domains import LOOKS
from zsvg.microworld.render import Renderer
from zsvg.microworld.world import plan_video, truth
from zsvg.records import write_annotations

MICRO = Path(zsvg.__file__).parent / "backbones" / "micro"
ANNOTATIONS = {
    "studio": "35345a0085d872971aa14b3e7d6c88933d62338a2c147e4231a5dddec945fd52",
    "chalk": "32fcd13d14938267113098bea6cfb5515085265870cdb79ca5bc855e0e681bf2",
    "paper": "c7265c4fc63bab2d80375237cf94be88cf647e03a8f2dbfa3f0e009034bbb4b2",
    "night": "24f6a969d5e284f82f50ec2ccabcac187f486461d75c4a1e79ae2a60f55adba0",
    "fabric": "e87794aebfede468a5a2ec532e2143a253a0918a296e802f5ad21391647d6446",
}
LOOKS_V1 = "e5d51e27c9fa17f8ff7cbca6afb0b5e58cfc609267ebd5d478492ae9aae41d60"
WEIGHTS = {
    "blip/model.safetensors": "180941ca02e8ec27950826d99ed0d56c15cc66ed2591c86780bfdd19b118754c",
    "clip/open_clip_model.safetensors": "800cebaf885ace4a5ed9fd5b41da8b25e0c87dd4e2a3417c7c5f7584093d1c9a",  # noqa: E501
}


@pytest.mark.parametrize("domain", LOOKS)
def test_annotations_are_those_of_v1(domain, tmp_path):
    path = tmp_path / "annotations.jsonl"
    write_annotations(path, truth(domain, "test", 0, 50))
    assert sha256_file(path) == ANNOTATIONS[domain]


def test_looks_are_those_of_v1():
    looks = {name: asdict(look) for name, look in LOOKS.items()}
    assert sha256_json(looks) == LOOKS_V1


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
