"""Model cards: what PEFT and the Hugging Face Hub read, and what a person does."""

import json

import pytest
from huggingface_hub import ModelCard
from test_cli import labels, videos  # noqa: F401  (fixtures)
from typer.testing import CliRunner

from zsvg.cli.app import app
from zsvg.grounding.model_card import hub_id


@pytest.mark.parametrize(
    ("backbone", "expected"),
    [
        ("ViT-B-32/laion2b_s34b_b79k", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"),
        ("hf-hub:org/name", "org/name"),
        ("hf-hub:org/name@main", "org/name"),
        ("micro", None),
        ("local-dir:some/folder", None),
    ],
)
def test_the_base_model_is_named_where_the_hub_has_it(backbone, expected):
    assert hub_id(backbone) == expected


@pytest.mark.parametrize("recipe", ["coop", "head-only"])
def test_a_tuned_folder_has_a_card_that_the_hub_reads(recipe, labels, videos, tmp_path):  # noqa: F811
    model = tmp_path / "model"
    command = ["tune", str(labels), "--videos", str(videos), "-o", str(model), "--backbone",
               "micro", "--steps", "2", "--recipe", recipe, "--cache", str(tmp_path)]  # fmt: skip
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    card = ModelCard.load(model / "README.md")
    manifest = json.loads((model / "zsvg.json").read_text())
    assert card.data.library_name == "zsvg"
    assert ("peft" in card.data.tags) == (recipe == "coop")
    assert "zsvg" in card.data.tags
    assert card.data.base_model is None  # no `micro` on the Hub that it could be taken for
    assert "understands only" in card.text
    assert manifest["backbone"]["fingerprint"][:12] in card.text
    assert f"{manifest['labels']['count']} " in card.text
    assert ("PeftModel" in card.text) == (recipe == "coop")
    assert str(tmp_path) not in card.text
