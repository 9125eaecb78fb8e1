"""Captions as a backbone: ready caption files, captions of real frames, and clear refusals."""

import importlib
import importlib.util
import json

import numpy as np
import pytest
from typer.testing import CliRunner

import zsvg
from zsvg.backbones.captions import load_caption_backbone, read_captions
from zsvg.cli.app import app
from zsvg.errors import BackboneError, RecordError
from zsvg.microworld.world import write_world
from zsvg.scorers.options import DRAWINGS

STORY = [
    *["A man stands in a kitchen."] * 4,
    *["A woman opens the fridge and takes milk."] * 3,
    "",
    *["A dog sleeps on the floor of the kitchen."] * 5,
]


@pytest.fixture
def folder(tmp_path):
    for name, keys in {"one": ("clip", "caption"), "two": ("moment", "description")}.items():
        lines = [json.dumps(dict(zip(keys, pair, strict=True))) for pair in enumerate(STORY)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    return tmp_path


def test_ready_captions_are_grounded_in_seconds(folder):
    grounder = zsvg.load("captions:tfidf")
    grounder.scorer = DRAWINGS  # words that are there or not need no smoothing
    video = grounder.encode(folder / "one.jsonl")
    assert (video.vid, video.duration) == ("one", 26)
    assert video.frames.features.shape == (13, grounder.backbone.embed_dim)
    assert not video.frames.features[7].any()
    best = grounder.ground(video, "she takes milk from the fridge").moments[0]
    assert (best.start, best.end) == (8, 14)
    best = grounder.ground(video, "the dog sleeps").moments[0]
    assert (best.start, best.end) == (16, 26)
    twin = grounder.encode(folder / "two.jsonl")
    np.testing.assert_array_equal(twin.frames.features, video.frames.features)


def test_rare_words_weigh_more_than_common_ones(folder):
    grounder = zsvg.load("captions:tfidf")
    video = grounder.encode(folder / "one.jsonl")
    curve = grounder.ground(video, "milk in the kitchen").curve
    assert curve[4:7].min() > curve[:4].max() > 0  # "milk" is in 3 clips, "kitchen" in 9


def test_a_query_without_a_known_word_still_gets_an_answer(folder):
    answer = zsvg.load("captions:tfidf").ground(folder / "one.jsonl", "zebra")
    assert len(answer.moments) == 1
    assert not answer.curve.any()


def test_frames_are_captioned_and_cached(tmp_path):
    write_world(tmp_path, domain="studio", videos=1, seed=3)
    (clip,) = (tmp_path / "videos").iterdir()
    grounder = zsvg.load("captions:tfidf@micro")
    video = grounder.encode(clip, cache=tmp_path / "features")
    assert np.diff(video.frames.times).round(3).tolist() == [2.0] * (len(video.frames.times) - 1)
    words = video.frames.features.any(axis=1)
    assert words.mean() > 0.9
    again = zsvg.load("captions:tfidf@micro").encode(clip, cache=tmp_path / "features")
    np.testing.assert_array_equal(again.frames.features, video.frames.features)
    with pytest.raises(BackboneError, match="captions:tfidf@CAPTIONER"):
        zsvg.load("captions:tfidf").encode(clip)
    with pytest.raises(ValueError, match="another model"):
        zsvg.load("captions:tfidf").ground(video, "a red circle")


def test_the_commands_take_a_folder_of_captions(folder, tmp_path):
    arguments = ["ground", str(folder), "the dog sleeps", "--model", "captions:tfidf"]
    done = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "out.json")])
    assert done.exit_code == 0, done.output
    best = zsvg.load("captions:tfidf").ground(folder / "one.jsonl", "the dog sleeps").moments[0]
    assert f"0:00:{best.start:04.1f}" in done.output
    assert best.start < 18 < 26 == best.end
    done = CliRunner().invoke(app, ["features", str(folder), "--backbone", "captions:tfidf"])
    assert done.exit_code != 0


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "[]",
        '{"clip": 0}',
        '{"clip": -1, "caption": "a"}',
        '{"clip": true, "caption": "a"}',
        '{"clip": 0, "caption": 3}',
        '{"clip": 1e9, "caption": "a"}',
        '{"clip": 0, "caption": "a"}\n{"clip": 0, "caption": "b"}',
        "",
    ],
)
def test_malformed_captions_are_one_line(tmp_path, line):
    (tmp_path / "v.jsonl").write_text(line)
    with pytest.raises(RecordError, match=r"v\.jsonl") as caught:
        read_captions(tmp_path / "v.jsonl")
    assert "\n" not in str(caught.value)


def test_encoders_that_cannot_be_had_are_named(tmp_path):
    with pytest.raises(BackboneError, match="tfidf"):
        load_caption_backbone("captions:")
    # Without the extra: how to get it; with it: which folder is wrong.
    has_extra = importlib.util.find_spec("sentence_transformers") is not None
    with pytest.raises(BackboneError, match="cannot be loaded" if has_extra else "captions"):
        load_caption_backbone(f"captions:{tmp_path / 'nothing'}")


def test_a_folder_of_a_sentence_encoder_is_loaded(tmp_path, folder):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    from tests.conftest import write_tiny_tokenizer

    inner = tmp_path / "inner"
    inner.mkdir()
    size = write_tiny_tokenizer(inner)
    PreTrainedTokenizerFast.from_pretrained(inner).save_pretrained(inner)
    config = BertConfig(
        vocab_size=size,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    BertModel(config).save_pretrained(inner)
    models = importlib.import_module("sentence_transformers.models")
    word = models.Transformer(str(inner))
    whole = sentence_transformers.SentenceTransformer(modules=[word, models.Pooling(16)])
    whole.save(str(tmp_path / "encoder"))
    grounder = zsvg.load(f"captions:{tmp_path / 'encoder'}")
    same = zsvg.load(f"captions:{tmp_path / 'encoder'}")
    assert grounder.backbone.fingerprint == same.backbone.fingerprint
    video = grounder.encode(folder / "one.jsonl")
    assert video.frames.features.shape == (13, 16)
    lengths = np.linalg.norm(video.frames.features, axis=1)
    assert lengths[7] == 0
    np.testing.assert_allclose(np.delete(lengths, 7), 1, atol=1e-5)
    assert grounder.ground(video, "a man opens the fridge").moments
