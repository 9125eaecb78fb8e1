"""The example of docs/several-domains.md, run as it stands, from several threads."""

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

import zsvg
from zsvg.backbones.clip import load_backbone
from zsvg.grounding.model_folder import detach_adapters
from zsvg.microworld.world import write_world
from zsvg.records import read_annotations
from zsvg.training.options import TuneOptions
from zsvg.training.recipes import load_recipe
from zsvg.training.tune import tune
from zsvg.video.finding import find_videos

PAGE = Path(__file__).parent.parent / "docs" / "several-domains.md"
# One of each kind: prompts before words, in both towers, and words that depend on the video.
RECIPES = {"paper": "coop", "night": "independent", "fabric": "cocoop"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Three models of a few steps, each in the folder that the example names."""
    folder = tmp_path_factory.mktemp("domains")
    backbone = load_backbone("micro")
    for domain, name in RECIPES.items():
        world = write_world(folder / domain, domain=domain, videos=3)
        recipe = load_recipe(name).with_training(
            steps=4, batch_size=2, prompt_learning_rate=0.5, visual_share=1.0
        )
        tune(
            read_annotations(world / "annotations.jsonl"),
            find_videos(world / "videos"),
            backbone,
            folder / "models" / domain,
            recipe=recipe,
            options=TuneOptions(fps=1.0),
        )
        # Of three videos one is held out, which chooses nothing; here the head is to be heard.
        manifest = folder / "models" / domain / "zsvg.json"
        told = json.loads(manifest.read_text(encoding="utf-8"))
        assert told["share"] == 0
        manifest.write_text(json.dumps(told | {"share": 0.9}), encoding="utf-8")
    return folder


def test_the_example_answers_each_request_with_its_domain(models, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) < 15
    monkeypatch.chdir(models)
    example: dict = {}
    exec(compile(code, str(PAGE), "exec"), example)
    video = next(iter(find_videos(models / "paper" / "videos").values()))
    sentence = "the red circle spins"
    alone = {}
    for domain in RECIPES:
        grounder = zsvg.load(models / "models" / domain, backbone=load_backbone("micro"))
        alone[domain] = grounder.ground(grounder.encode(video), sentence).moments
    assert len(set(alone.values())) == len(RECIPES)  # or nothing below could tell them apart
    requests = [*RECIPES, *reversed(RECIPES)] * 4
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda d: example["answer"](d, video, sentence), requests))
    assert answers == [alone[domain] for domain in requests]
    assert len(example["encoded"]) == 2  # the frozen image tower's, and the prompted one's
    detach_adapters(example["backbone"])


def test_the_folders_are_small_and_plain(models):
    for domain, recipe in RECIPES.items():
        folder = models / "models" / domain
        adapter = (folder / "adapter_model.safetensors").stat().st_size
        assert adapter < 50_000, recipe
        assert not [f for f in os.listdir(folder) if f.endswith((".bin", ".pkl", ".pt"))]
        card = (folder / "README.md").read_text(encoding="utf-8")
        assert yaml.safe_load(card.split("---")[1])["library_name"] == "zsvg"
