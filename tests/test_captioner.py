"""The captioner on tiny random models that are saved and loaded as real ones are."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from zsvg.backbones import captioner as module
from zsvg.backbones.captioner import CaptionOptions, load_captioner, strip
from zsvg.backbones.quiet import quiet
from zsvg.errors import BackboneError

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]"]
_SOME_WORDS = (
    "a the red green blue circle square moves stands grows left right up down person opens "
    "closes door fridge and then while turns walks sits runs holds cup book table"
)
WORDS = _SOME_WORDS.split()


def write_tiny_blip(folder: Path, seed: int = 0) -> Path:
    """Write a random BLIP captioner, about 0.5 MB, whose captions depend on the picture."""
    from transformers import (
        BertTokenizer,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
    )

    torch.manual_seed(seed)
    vocabulary = {word: index for index, word in enumerate(SPECIAL + WORDS)}
    shape = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "initializer_range": 0.5,  # the default is 1e-10: the picture would not matter
    }
    text = {
        **shape,
        "vocab_size": len(vocabulary),
        "encoder_hidden_size": 32,
        "max_position_embeddings": 24,
        "bos_token_id": vocabulary["[DEC]"],
        "eos_token_id": vocabulary["[SEP]"],
        "sep_token_id": vocabulary["[SEP]"],
        "pad_token_id": 0,
        "is_decoder": True,
    }
    vision = {**shape, "image_size": 32, "patch_size": 8}
    config = BlipConfig(text_config=text, vision_config=vision, projection_dim=16)
    with quiet():
        BlipForConditionalGeneration(config).save_pretrained(folder)
        images = BlipImageProcessor(size={"height": 32, "width": 32})
        BlipProcessor(images, BertTokenizer(vocab=vocabulary)).save_pretrained(folder)
    return folder


def write_tiny_llava(folder: Path) -> Path:
    """Write a random instruction-following captioner with a chat template."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    torch.manual_seed(1)
    words = ["<pad>", "<unk>", "<s>", "</s>", "<image>", *WORDS, "USER", "ASSISTANT", ":"]
    tokenizer = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["<image>"],
    )
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
    )
    text = LlamaConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        initializer_range=0.5,
        bos_token_id=2,
        eos_token_id=3,
        pad_token_id=0,
    )
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=4)
    template = (
        "{% for m in messages %}USER : {% for c in m['content'] %}{% if c['type'] == 'image' %}"
        "<image> {% else %}{{ c['text'] }} {% endif %}{% endfor %}{% endfor %}ASSISTANT :"
    )
    with quiet():
        LlavaForConditionalGeneration(config).save_pretrained(folder)
        LlavaProcessor(
            CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
            fast,
            patch_size=16,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
            chat_template=template,
        ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_blip(tmp_path_factory.mktemp("captioners") / "blip")


def pictures(count: int, side: int = 40) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(count)]


class TestCaption:
    def test_one_clean_caption_per_picture_that_depends_on_it(self, blip):
        captioner = load_captioner(str(blip), device="cpu")
        captions = captioner.caption(pictures(10))
        assert len(captions) == 10
        assert len(set(captions)) > 3
        assert not any(mark in text for text in captions for mark in SPECIAL)
        assert captions == captioner.caption(pictures(10))

    def test_batches_do_not_change_captions(self, blip):
        whole = load_captioner(str(blip), "cpu", options=CaptionOptions(batch_size=16))
        pieces = load_captioner(str(blip), "cpu", options=CaptionOptions(batch_size=3))
        assert whole.caption(pictures(8)) == pieces.caption(pictures(8))

    def test_no_picture_no_caption(self, blip):
        captioner = load_captioner(str(blip), device="cpu")
        assert captioner.caption([]) == []
        assert captioner.sample([], 2, seed=0) == []

    def test_length_and_beams(self, blip):
        short = load_captioner(str(blip), "cpu", options=CaptionOptions(max_new_tokens=3))
        assert max(len(text.split()) for text in short.caption(pictures(8))) <= 3
        beams = load_captioner(str(blip), "cpu", options=CaptionOptions(num_beams=3))
        assert beams.caption(pictures(4)) == beams.caption(pictures(4))
        assert len(beams.caption(pictures(4))) == 4

    def test_pictures_are_checked(self, blip):
        captioner = load_captioner(str(blip), device="cpu")
        with pytest.raises(ValueError, match="uint8"):
            captioner.caption([np.zeros((8, 8, 3), np.float32)])
        with pytest.raises(ValueError, match="uint8"):
            captioner.caption([np.zeros((8, 8), np.uint8)])

    def test_nothing_is_trained(self, blip):
        captioner = load_captioner(str(blip), device="cpu")
        assert not captioner.model.training
        assert not any(weight.requires_grad for weight in captioner.model.parameters())


class TestSample:
    def test_draws_are_seeded_and_leave_the_callers_randomness_alone(self, blip):
        captioner = load_captioner(str(blip), device="cpu")
        torch.manual_seed(5)
        state = torch.random.get_rng_state()
        first = captioner.sample(pictures(3), 4, seed=1)
        assert torch.equal(torch.random.get_rng_state(), state)
        torch.rand(3)
        assert captioner.sample(pictures(3), 4, seed=1) == first
        assert captioner.sample(pictures(3), 4, seed=2) != first
        assert [len(texts) for texts in first] == [4, 4, 4]
        assert max(len(set(texts)) for texts in first) > 1

    def test_samples_must_be_positive(self, blip):
        with pytest.raises(ValueError, match="samples"):
            load_captioner(str(blip), device="cpu").sample(pictures(1), 0, seed=0)


class TestLoad:
    def test_none_offers_a_name_and_micro(self):
        with pytest.raises(BackboneError, match=r"blip-image-captioning-base.*990 MB.*micro"):
            load_captioner(None)

    def test_micro_never_looks_elsewhere(self, tmp_path, monkeypatch):
        monkeypatch.setattr(module, "MICRO", tmp_path / "blip")
        monkeypatch.chdir(tmp_path)
        (tmp_path / "micro").mkdir()
        with pytest.raises(BackboneError, match="micro"):
            load_captioner("micro")

    @pytest.mark.parametrize("name", ["", "blip", "no/such/folder", "./nowhere", "local-dir:x/y"])
    def test_unknown_names_are_one_line(self, name):
        with pytest.raises(BackboneError, match="neither 'micro'") as caught:
            load_captioner(name)
        assert "\n" not in str(caught.value)

    def test_a_folder_that_is_no_model_is_one_line(self, tmp_path):
        with pytest.raises(BackboneError, match="cannot be loaded") as caught:
            load_captioner(str(tmp_path))
        assert "\n" not in str(caught.value)

    def test_missing_weights_are_not_made_up(self, blip, tmp_path):
        for file in blip.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        weights = load_file(blip / "model.safetensors")
        gone = next(name for name in sorted(weights) if "crossattention" in name)
        del weights[gone]
        save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(BackboneError, match="lacks 1 weights"):
            load_captioner(str(tmp_path))

    def test_prefix_and_folder_are_one_model(self, blip):
        plain, prefixed = load_captioner(str(blip)), load_captioner(f"local-dir:{blip}")
        assert plain.fingerprint == prefixed.fingerprint
        assert len(plain.fingerprint) == 64
        assert plain.image_size == 32

    def test_fingerprint_follows_weights_and_processor(self, blip, tmp_path):
        ours = load_captioner(str(blip)).fingerprint
        other = write_tiny_blip(tmp_path / "other", seed=1)
        assert load_captioner(str(other)).fingerprint != ours
        twin = write_tiny_blip(tmp_path / "twin")
        assert load_captioner(str(twin)).fingerprint == ours
        config = json.loads((twin / "processor_config.json").read_text())
        config["image_processor"]["image_mean"] = [0.5, 0.5, 0.5]
        (twin / "processor_config.json").write_text(json.dumps(config))
        assert load_captioner(str(twin)).fingerprint != ours

    def test_weights_stored_as_float16_run_as_float32(self, blip, tmp_path):
        for file in blip.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        half = {key: value.half() for key, value in load_file(blip / "model.safetensors").items()}
        save_file(half, tmp_path / "model.safetensors", metadata={"format": "pt"})
        captioner = load_captioner(str(tmp_path), device="cpu")
        assert {weight.dtype for weight in captioner.model.parameters()} == {torch.float32}
        assert captioner.caption(pictures(2)) == captioner.caption(pictures(2))

    def test_loading_is_quiet_and_restores_logging(self, blip, capfd):
        from transformers.utils import logging as transformers_logging

        before = transformers_logging.get_verbosity()
        load_captioner(str(blip), device="cpu").caption(pictures(1))
        assert capfd.readouterr() == ("", "")
        assert transformers_logging.get_verbosity() == before
        assert transformers_logging.is_progress_bar_enabled()
        assert logging.getLogger().level == logging.WARNING


def test_models_that_take_instructions_answer_without_the_question(tmp_path):
    folder = write_tiny_llava(tmp_path)
    captioner = load_captioner(str(folder), "cpu", options=CaptionOptions(max_new_tokens=3))
    captions = captioner.caption(pictures(5))
    assert len(captions) == 5
    assert len(set(captions)) > 1
    assert all(len(text.split()) <= 3 for text in captions)  # the question has more words
    assert captions == captioner.caption(pictures(5))
    assert [len(texts) for texts in captioner.sample(pictures(2), 3, seed=0)] == [3, 3]
    assert captioner.image_size == 32


class TestStrip:
    def test_time_runs_row_by_row(self):
        frames = np.stack([np.full((2, 3, 3), value, np.uint8) for value in (1, 2, 3, 4)])
        grid = strip(frames)
        assert grid.shape == (4, 6, 3)
        assert grid[0, 0, 0] == 1
        assert grid[0, 5, 0] == 2
        assert grid[3, 0, 0] == 3
        assert grid[3, 5, 0] == 4

    def test_takes_four(self):
        with pytest.raises(ValueError, match="strip"):
            strip(np.zeros((3, 2, 2, 3), np.uint8))


@pytest.mark.parametrize(
    "wrong", [{"max_new_tokens": 0}, {"num_beams": 0}, {"batch_size": 0}, {"top_p": 0.0}]
)
def test_options_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CaptionOptions(**wrong)
