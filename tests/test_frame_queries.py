"""Labels without sentences: the query is made of the event's frames (language-free training)."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import zsvg
from zsvg.backbones.clip import load_backbone
from zsvg.errors import ZsvgError
from zsvg.heads.regression import AttentionRegressionConfig, AttentionRegressionHead
from zsvg.microworld.world import truth, write_world
from zsvg.records import FROM_FRAMES
from zsvg.training.examples import Example, collate
from zsvg.training.frame_queries import FrameQuery
from zsvg.training.loop import train
from zsvg.training.network import GroundingNetwork
from zsvg.training.options import TrainingOptions, TuneOptions
from zsvg.training.recipes import Recipe, load_recipe
from zsvg.training.tune import plan, tune
from zsvg.video.finding import find_videos

pytestmark = pytest.mark.numeric

DIM = 24


@pytest.fixture(scope="module")
def backbone(tiny_clip_folder):
    return load_backbone(f"local-dir:{tiny_clip_folder}", "cpu")


def frames_and_inside(seed=0):
    torch.manual_seed(seed)
    frames = torch.nn.functional.normalize(torch.randn(5, 12, DIM), dim=-1)
    inside = torch.zeros(5, 12, dtype=torch.bool)
    for row, (first, stop) in enumerate(((0, 1), (3, 7), (11, 12), (0, 12), (5, 8))):
        inside[row, first:stop] = True
    return frames, inside


@pytest.mark.parametrize("training", [True, False])
def test_a_query_is_a_frame_of_the_inside_when_there_is_no_noise(training):
    frames, inside = frames_and_inside()
    queries = FrameQuery(DIM, noise=0.0).train(training)(frames, inside)
    for query, rows, mask in zip(queries, frames, inside, strict=True):
        assert (rows[mask] @ query).max() > 1 - 1e-5
        if not mask.all():
            assert (rows[~mask] @ query).max() < 0.999


def test_noise_moves_queries_as_far_as_it_says_and_only_in_training():
    frames, inside = frames_and_inside()
    frames = frames.repeat(200, 1, 1)
    inside = inside.repeat(200, 1)
    for noise in (0.5, 2.0):
        torch.manual_seed(0)
        module = FrameQuery(DIM, noise=noise).train()
        queries = module(frames, inside).detach()
        assert torch.allclose(queries.norm(dim=-1), torch.ones(len(queries)), atol=1e-5)
        # Rows with one frame inside tell how far it moved: noise of length n turns by atan(n).
        turned = (queries[::5] * frames[::5, 0]).sum(-1).mean()
        assert turned == pytest.approx((1 + noise**2) ** -0.5, abs=0.05)
        module.eval()
        with torch.no_grad():
            torch.testing.assert_close(module(frames, inside)[:5], module(frames, inside)[5:10])


def test_the_choice_of_a_frame_is_learned():
    frames, inside = frames_and_inside()
    module = FrameQuery(DIM).train()
    (module(frames, inside) * torch.randn(5, DIM)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.judge.parameters()
               if p.ndim > 1)  # fmt: skip


def make_examples(backbone, count, seed, wordless=True):
    """In each video a run of frames looks like one of some texts, far from it as pictures are."""
    rng = np.random.default_rng(seed)
    texts = ["a person opens the door", "a red ball", "a dog runs", "the car stops"]
    pooled = backbone.encode_text(texts).pooled.numpy()
    gap = np.random.default_rng(5).normal(size=backbone.embed_dim) / backbone.embed_dim**0.5
    made = []
    for number in range(count):
        which, first, length = (
            int(rng.integers(4)),
            int(rng.integers(0, 10)),
            int(rng.integers(3, 6)),
        )
        values = 1.2 * rng.normal(size=(16, backbone.embed_dim)) / backbone.embed_dim**0.5
        values[first : first + length] += pooled[which] - pooled.mean(axis=0)
        values += gap
        values /= np.linalg.norm(values, axis=1, keepdims=True)
        stop = min(first + length, 16)
        made.append(
            Example(
                vid=f"v{seed}-{number}",
                features=values.astype(np.float32),
                centres=(np.arange(16) + 0.5) / 16,
                duration=16.0,
                query=FROM_FRAMES if wordless else texts[which],
                windows=np.array([[float(first), float(stop)]]),
                wordless=wordless,
            )
        )
    return made


def make_network(backbone, seed=0, words=False):
    torch.manual_seed(seed)
    config = AttentionRegressionConfig(
        dim=backbone.embed_dim, hidden=16, layers=1, attention_heads=2, words=words
    )
    head = AttentionRegressionHead(config)
    return GroundingNetwork(backbone, head, frame_query=FrameQuery(backbone.embed_dim))


def test_rows_with_a_sentence_are_not_touched_by_rows_without(backbone):
    network = make_network(backbone, words=True).eval()
    spoken = make_examples(backbone, 4, seed=1, wordless=False)
    mixed = [spoken[0], replace(spoken[1], query=FROM_FRAMES, wordless=True), *spoken[2:]]
    queries = sorted({e.query for e in [*spoken, *mixed]})
    ids = dict(zip(queries, backbone.tokenize(queries), strict=True))
    with torch.no_grad():
        whole, part = (
            network(collate([(e, 0) for e in batch], ids, torch.device("cpu")))
            for batch in (spoken, mixed)
        )
    for row in (0, 2, 3):
        assert torch.allclose(whole.logits[row], part.logits[row], atol=1e-5)
    assert not torch.allclose(whole.logits[1], part.logits[1], atol=1e-3)


def test_a_head_without_words_reads_the_sentence_as_a_whole():
    torch.manual_seed(0)
    head = AttentionRegressionHead(
        AttentionRegressionConfig(dim=DIM, hidden=16, layers=1, attention_heads=2, words=False)
    ).eval()
    frames, _ = frames_and_inside()
    given = {
        "frames": frames,
        "frame_mask": torch.ones(5, 12, dtype=torch.bool),
        "centres": ((torch.arange(12) + 0.5) / 12).expand(5, 12),
        "pooled": torch.nn.functional.normalize(torch.randn(5, DIM), dim=-1),
    }
    with torch.no_grad():
        first, other = (
            head(**given, tokens=torch.randn(5, n, DIM), token_mask=torch.ones(5, n).bool())
            for n in (3, 7)
        )
    assert torch.equal(first.logits, other.logits)
    assert torch.equal(first.moments, other.moments)


def test_training_without_a_sentence_helps_to_answer_sentences(backbone, tmp_path):
    sentences = make_examples(backbone, 24, seed=9, wordless=False)
    options = TrainingOptions(steps=60, batch_size=16, head_learning_rate=5e-3, warmup=5,
                              validate_every=60)  # fmt: skip
    score = {}
    for steps in (1, 60):
        network = make_network(backbone)
        history = train(network, make_examples(backbone, 60, seed=2), sentences,
                        replace(options, steps=steps), tmp_path / str(steps))  # fmt: skip
        score[steps] = history.best_score
    assert score[60] > score[1] + 0.1
    assert score[60] > 0.5


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, domain="studio", videos=4, seed=11, workers=1)
    labels = [replace(a, query=FROM_FRAMES) for a in truth("studio", "train", 11, 4)]
    return find_videos(folder / "videos"), labels


def recipe(name):
    return Recipe.model_validate(
        load_recipe(name).model_dump()
        | {
            "training": {"steps": 4, "batch_size": 4, "validate_every": 2, "warmup": 1},
            "head": {"hidden": 16, "layers": 1, "attention_heads": 2},
            "held_out": 0.25,
        }
    )


def test_text_prompts_cannot_be_learned_without_sentences(world, backbone):
    videos, labels = world
    with pytest.raises(ZsvgError, match=r"no sentences.*--recipe head-only"):
        plan(labels, videos, backbone, recipe("coop"), TuneOptions(fps=1.0))


def test_a_folder_tuned_without_sentences_answers_them_and_claims_nothing(
    world, backbone, tmp_path
):
    videos, labels = world
    outcome = tune(labels, videos, backbone, tmp_path / "model", recipe=recipe("head-only"),
                   options=TuneOptions(fps=1.0))  # fmt: skip
    assert outcome.held_out is None
    assert not outcome.helped
    assert "--validation" in " ".join(outcome.summary())
    manifest = json.loads((tmp_path / "model" / "zsvg.json").read_text())
    assert manifest["held_out"] == {}
    assert manifest["head"]["config"]["words"] is False
    grounder = zsvg.load(tmp_path / "model", backbone=backbone)
    video = grounder.encode(next(iter(videos.values())))
    one, two = (grounder.ground(video, q).moments for q in ("a red ball", "the dog runs"))
    assert one
    assert one != two
