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
    "studio": "1d1f04294e15b5f81e63aefd2d055cebf587a9a36749dab9c8e99c8581cb9815",
    "chalk": "ac3d302443400d7587eeffa850dd2eb5fbc5669d78928d95ef11f316dd7ef65e",
    "paper": "25937ad95be85ac250fa6f93ec2d7003973cc513ce67a33ba1000ad34115a13e",
    "night": "a45466be92983318d281d8a60d05a07038c7b6dfb50f4abb61bbd950722543e5",
    "fabric": "562740c58383de7f3b3f12a5ea26aa37dda766205772bf9f9083a82789a7f1a9",
}
WEIGHTS = {
    "blip/model.safetensors": "180941ca02e8ec27950826d99ed0d56c15cc66ed2591c86780bfdd19b118754c",
    "clip/open_clip_model.safetensors": "800cebaf885ace4a5ed9fd5b41da8b25e0c87dd4e2a3417c7c5f7584093d1c9a",  # noqa: E501
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
