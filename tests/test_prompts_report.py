"""Learned prompts in words: nearest vocabulary entries, norms, both kinds of tokenizers."""

import json

import numpy as np
import open_clip
import pytest
import torch
from conftest import write_tiny_clip
from peft import get_peft_model
from typer.testing import CliRunner

from zsvg.backbones.clip import load_backbone
from zsvg.cli.app import app
from zsvg.errors import ZsvgError
from zsvg.grounding.grounder import Grounder
from zsvg.grounding.load import load
from zsvg.grounding.model_folder import FORMAT_VERSION
from zsvg.heads.by_name import describe_head
from zsvg.heads.regression import AttentionRegressionConfig, AttentionRegressionHead
from zsvg.report.prompts import LearnedBorder, prompts_report, token_word
from zsvg.training.network import GroundingNetwork
from zsvg.tuners import PromptConfig, prompt_config_for

pytestmark = pytest.mark.numeric


@pytest.fixture(params=[True, False], ids=["hugging-face", "open-clip"], scope="module")
def folder(request, tmp_path_factory):
    return write_tiny_clip(tmp_path_factory.mktemp("clip") / "tiny", own_tokenizer=request.param)


def prompted(folder, config_of):
    backbone = load_backbone(f"local-dir:{folder}", "cpu")
    backbone.adapters = get_peft_model(backbone.model, config_of(backbone))
    return Grounder(backbone, adapter="default")


def context(grounder):
    [values] = [
        p for n, p in grounder.backbone.adapters.named_parameters()
        if "token_embedding.prompt_tokens" in n
    ]  # fmt: skip
    return values


def embedding(grounder):
    return grounder.backbone.adapters.base_model.model.text.token_embedding.base_layer.weight


def test_untrained_tokens_are_their_template_words_and_moved_ones_the_words_they_moved_to(folder):
    grounder = prompted(folder, lambda b: prompt_config_for(b.tokenize, "a video of"))
    report = prompts_report(grounder)
    assert [t.start for t in report.tokens] == ["a", "video", "of"]
    assert [t.nearest[0][0] for t in report.tokens] == ["a", "video", "of"]
    assert [t.start_cosine for t in report.tokens] == pytest.approx([1, 1, 1], abs=1e-5)
    words = embedding(grounder).detach().numpy()
    assert report.vocabulary_norm == pytest.approx(np.linalg.norm(words, axis=1).mean(), rel=1e-4)
    [[_, dog]] = [[i for i in row if i][:2] for row in
                  grounder.backbone.tokenize(["dog"]).tolist()]  # fmt: skip
    with torch.no_grad():
        context(grounder)[1] = 3 * torch.from_numpy(words[dog])
    moved = prompts_report(grounder, nearest=2).tokens[1]
    assert moved.start == "video"
    assert moved.nearest[0] == ("dog", pytest.approx(1, abs=1e-5))
    assert len(moved.nearest) == 2
    assert moved.norm == pytest.approx(3 * np.linalg.norm(words[dog]), rel=1e-5)
    start = words[grounder.backbone.adapters.peft_config["default"].init_ids[1]]
    cosine = words[dog] @ start / np.linalg.norm(words[dog]) / np.linalg.norm(start)
    assert moved.start_cosine == pytest.approx(cosine, abs=1e-5)


def test_parts_of_words_bytes_and_ids_beyond_the_vocabulary_have_names():
    tokenizer = open_clip.SimpleTokenizer()
    assert token_word(tokenizer, tokenizer.encoder["video</w>"]) == "video"
    assert token_word(tokenizer, tokenizer.encoder["vid"]) == "vid-"
    assert token_word(tokenizer, tokenizer.encoder["<end_of_text>"]) == "<end_of_text>"
    assert token_word(tokenizer, 10**6) == "<1000000>"
    assert all(token_word(tokenizer, i) for i in range(600))


def test_deep_vision_and_coupled_prompts_are_counted_and_measured(tiny_clip_folder):
    deep = prompted(tiny_clip_folder, lambda b: PromptConfig(vision_tokens=4, vision_depth="all"))
    report = prompts_report(deep)
    assert report.tokens == ()
    assert report.vocabulary_norm is None
    assert [len(norms) for norms in report.vision_norms] == [4, 4, 4]
    coupled = prompted(
        tiny_clip_folder,
        lambda b: prompt_config_for(b.tokenize, "a video", text_depth=2, vision_tokens=2,
                                    vision_depth=2, coupled=True),
    )  # fmt: skip
    report = prompts_report(coupled)
    assert report.coupled
    assert [len(norms) for norms in report.text_norms] == [2]
    named = dict(coupled.backbone.adapters.named_parameters())
    [weight] = [p for n, p in named.items() if "resblocks.0.prompt_coupling" in n and "weight" in n]
    [bias] = [p for n, p in named.items() if "resblocks.0.prompt_coupling" in n and "bias" in n]
    image = context(coupled) @ weight.T + bias
    assert report.vision_norms[0] == pytest.approx(image.norm(dim=-1).tolist(), rel=1e-4)
    assert len(report.vision_norms) == 2


def test_tokens_of_domains_are_told_by_name(tiny_clip_folder):
    grounder = prompted(
        tiny_clip_folder,
        lambda b: prompt_config_for(b.tokenize, "a video of", domains=["night", "day"],
                                    domain_tokens=1),
    )  # fmt: skip
    words = embedding(grounder).detach()
    [[_, dog]] = [[i for i in row if i][:2] for row in
                  grounder.backbone.tokenize(["dog"]).tolist()]  # fmt: skip
    [own] = [p for n, p in grounder.backbone.adapters.named_parameters() if "domains" in n]
    with torch.no_grad():
        own[1] = words[dog]
    report = prompts_report(grounder)
    assert [t.start for t in report.tokens] == ["a", "video"]
    nearest = {name: [t.nearest[0][0] for t in part] for name, part in report.domains.items()}
    assert nearest == {"night": ["of"], "day": ["dog"]}
    assert [t.start for t in report.domains["day"]] == ["of"]


def test_tokens_that_point_are_told_by_their_marks(tiny_clip_folder):
    grounder = prompted(
        tiny_clip_folder,
        lambda b: prompt_config_for(b.tokenize, "", suffix="[C] from [S] to [E]"),
    )
    [learned] = [p for n, p in grounder.backbone.adapters.named_parameters() if "suffix" in n]
    words = embedding(grounder).detach()
    [[_, dog]] = [[i for i in row if i][:2] for row in
                  grounder.backbone.tokenize(["dog"]).tolist()]  # fmt: skip
    with torch.no_grad():
        learned[2] = words[dog]
    report = prompts_report(grounder)
    assert report.tokens == ()
    told = [(mark, token.start, token.nearest[0][0]) for mark, token in report.suffix]
    assert told == [("C", "a", "a"), ("S", "a", "a"), ("E", "a", "dog")]


def test_a_border_is_measured_in_normalised_pixels(tiny_clip_folder):
    grounder = prompted(tiny_clip_folder, lambda b: PromptConfig(border=3))
    assert prompts_report(grounder).border == LearnedBorder(pixels=3, mean=0, largest=0)
    [values] = [p for n, p in grounder.backbone.adapters.named_parameters() if "border" in n]
    with torch.no_grad():
        values[1, :] = -0.3
        values[2, 7] = 2.0
    border = prompts_report(grounder).border
    assert border.mean == pytest.approx((0.3 + 2 / values.shape[1]) / 3)
    assert border.largest == 2


def test_random_tokens_have_no_start_and_a_model_without_prompts_is_refused(tiny_clip_folder):
    random = prompted(tiny_clip_folder, lambda b: prompt_config_for(b.tokenize, "a a", random=True))
    assert [(t.start, t.start_cosine) for t in prompts_report(random).tokens] == [(None, None)] * 2
    with pytest.raises(ValueError, match="nearest"):
        prompts_report(random, 0)
    with pytest.raises(ZsvgError, match="no prompts"):
        prompts_report(Grounder(load_backbone(f"local-dir:{tiny_clip_folder}", "cpu")))


def test_the_command_prints_a_table_or_json_of_a_folder(tiny_clip_folder, tmp_path):
    backbone = load_backbone(f"local-dir:{tiny_clip_folder}", "cpu")
    head = AttentionRegressionHead(
        AttentionRegressionConfig(dim=backbone.embed_dim, hidden=16, layers=1, attention_heads=2)
    )
    config = prompt_config_for(backbone.tokenize, "a video of", vision_tokens=2)
    network = GroundingNetwork(backbone, head, prompts=config)
    network.attach()
    network.save(tmp_path / "model")
    network.release()
    manifest = {
        "format_version": FORMAT_VERSION,
        "backbone": {"name": backbone.name, "fingerprint": backbone.fingerprint},
        "template": "a video of",
        "sampling": {"fps": 1.0, "framing": "crop"},
        "head": describe_head(head),
    }
    (tmp_path / "model" / "zsvg.json").write_text(json.dumps(manifest))
    line = ["prompts", "show", str(tmp_path / "model")]
    shown = CliRunner().invoke(app, [*line, "--format", "json"])
    assert shown.exit_code == 0, shown.output
    report = prompts_report(load(tmp_path / "model", backbone=backbone))
    printed = json.loads(shown.stdout)
    assert printed["vocabulary_norm"] == report.vocabulary_norm
    assert [t["start"] for t in printed["tokens"]] == ["a", "video", "of"]
    shown = CliRunner().invoke(app, line)
    assert "video 1.00" in shown.stdout
    assert "vision 1" in shown.stdout
    (tmp_path / "model" / "adapter_model.safetensors").unlink()
    refused = CliRunner().invoke(app, ["prompts", "show", str(tmp_path / "model")])
    assert isinstance(refused.exception, ZsvgError)
    assert "there is no adapter_model.safetensors" in str(refused.exception)
    (tmp_path / "model" / "adapter_config.json").unlink()
    refused = CliRunner().invoke(app, ["prompts", "show", str(tmp_path / "model")])
    assert isinstance(refused.exception, ZsvgError)
    assert "no prompts" in str(refused.exception)
    listed = CliRunner().invoke(app, ["prompts", "list"])
    assert "head-only" in listed.stdout
    assert "2109.01134" in listed.stdout
