import json
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import HANG, environment, run_python, started

from zsvg.backbones.base import TextStates
from zsvg.backbones.clip import load_backbone
from zsvg.errors import ModelFolderError
from zsvg.heads.regression import AttentionRegressionConfig, AttentionRegressionHead
from zsvg.training.examples import Example, collate, concatenate, crop, draw_sample, stitch
from zsvg.training.loop import TrainingError, train
from zsvg.training.network import GroundingNetwork, _rows
from zsvg.training.options import TrainingOptions
from zsvg.tuners import PromptConfig, prompt_config_for

pytestmark = pytest.mark.numeric

TEMPLATE = "a video of"
QUERIES = ("a person opens the door", "a person closes the door", "a red ball")
SIDE = 32


@pytest.fixture(scope="session")
def backbone(tiny_clip_folder):
    return load_backbone(f"local-dir:{tiny_clip_folder}", device="cpu")


def make_examples(backbone, count=12, clips=14, seed=0, frames=False):
    """Videos of noise in which a run of frames resembles the query's own embedding."""
    rng = np.random.default_rng(seed)
    texts = [f"{TEMPLATE} {query}" for query in QUERIES]
    pooled = backbone.encode_text(texts).pooled.numpy()
    made = []
    for number in range(count):
        length = clips + int(rng.integers(-3, 4))
        which = number % len(texts)
        first = int(rng.integers(0, length - 4))
        values = rng.normal(size=(length, backbone.embed_dim))
        values /= np.linalg.norm(values, axis=1, keepdims=True)
        values[first : first + 4] += 1.5 * pooled[which]
        values /= np.linalg.norm(values, axis=1, keepdims=True)
        pixels = rng.integers(0, 255, (length, SIDE, SIDE, 3), dtype=np.uint8)
        made.append(
            Example(
                vid=f"v{seed}-{number}",
                features=values.astype(np.float32),
                centres=(np.arange(length) + 0.5) / length,
                duration=length / 2.0,
                query=texts[which],
                windows=np.array([[first / 2.0, first / 2.0 + 2.0]]),
                weight=1.0 + number % 3,
                frames=(lambda pixels=pixels: pixels) if frames else None,
            )
        )
    return made


def make_network(backbone, prompts=None, seed=0):
    torch.manual_seed(seed)
    config = AttentionRegressionConfig(
        dim=backbone.embed_dim, hidden=16, layers=1, attention_heads=2
    )
    return GroundingNetwork(backbone, AttentionRegressionHead(config), prompts=prompts)


def coop(backbone):
    return prompt_config_for(backbone.tokenize, TEMPLATE)


PROMPTS = {
    "head alone": lambda backbone: None,
    "coop": coop,
    "cocoop": lambda backbone: prompt_config_for(backbone.tokenize, TEMPLATE, conditional=True),
    "dapl": lambda backbone: prompt_config_for(
        backbone.tokenize, TEMPLATE, domains=["night", "day"], domain_tokens=1
    ),
    "ppt": lambda backbone: prompt_config_for(backbone.tokenize, "", suffix="from [S] to [E]"),
    "tvp": lambda backbone: prompt_config_for(backbone.tokenize, TEMPLATE, border=4),
    "vpt": lambda backbone: PromptConfig(vision_tokens=2, vision_depth="all"),
    "maple": lambda backbone: prompt_config_for(
        backbone.tokenize, TEMPLATE, vision_tokens=3, text_depth=2, vision_depth=2, coupled=True
    ),
}
QUICK = TrainingOptions(
    steps=6, batch_size=4, warmup=2, validate_every=3, checkpoint_every=2, average=0.8, seed=3,
    crop_rate=0.0, concatenate_rate=0.0, denoise="no",
)  # fmt: skip


@pytest.fixture
def network_of(backbone):
    made = []

    def make(name="head alone", seed=0):
        made.append(make_network(backbone, PROMPTS[name](backbone), seed))
        return made[-1]

    yield make
    for network in made:
        network.release()


def snapshot(network):
    return {name: value.detach().clone() for name, value in network.trainable().items()}


def assert_equal_weights(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


# ---- the network --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(PROMPTS))
def test_every_kind_of_prompt_trains_and_leaves_the_backbone_alone(
    name, backbone, network_of, tmp_path
):
    before = {key: value.clone() for key, value in backbone.model.state_dict().items()}
    network = network_of(name)
    examples = make_examples(backbone, frames=True)
    network.attach()
    initial = snapshot(network)
    options = replace(QUICK, steps=3)
    history = train(network, examples[:8], examples[8:], options, tmp_path)
    assert len(history.losses) == 3
    assert all(torch.isfinite(value).all() for value in snapshot(network).values())
    changed = [key for key, value in snapshot(network).items() if not value.equal(initial[key])]
    assert any(key.startswith("head.") for key in changed)
    assert name == "head alone" or any(not key.startswith("head.") for key in changed)
    network.release()
    after = backbone.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_tokens_of_a_domain_move_with_its_own_samples_only(backbone, network_of, tmp_path):
    examples = make_examples(backbone)
    started = None
    for chosen in (["night"], ["day"], ["night", "day"]):
        network = network_of("dapl")
        network.attach()
        if started is None:
            started = snapshot(network)
        mine = [replace(e, domain=chosen[i % len(chosen)]) for i, e in enumerate(examples)]
        train(network, mine[:8], mine[8:], QUICK, tmp_path / "-".join(chosen))
        moved = {name: ~value.isclose(started[name], rtol=0, atol=0)
                 for name, value in snapshot(network).items()}  # fmt: skip
        (own,) = (value for name, value in moved.items() if ".prompt_domains." in name)
        (shared,) = (value for name, value in moved.items() if ".prompt_tokens." in name)
        assert own.any((1, 2)).tolist() == ["night" in chosen, "day" in chosen]
        assert shared.any()
        network.release()


def test_borders_have_their_own_rate(backbone, network_of, tmp_path):
    network = network_of("tvp")
    examples = make_examples(backbone, frames=True)
    options = replace(QUICK, steps=1, warmup=0, border_learning_rate=0.25)
    train(network, examples[:4], [], options, tmp_path)
    (border,) = (v for n, v in snapshot(network).items() if ".prompt_border." in n)
    assert border.abs().max().item() == pytest.approx(0.25, rel=1e-3)  # Adam's first step


@pytest.mark.parametrize("name", ["vpt", "tvp", "maple"])
def test_checkpointed_gradients_train_alike_and_are_switched_off_again(
    name, backbone, network_of, tmp_path
):
    examples = make_examples(backbone, frames=True)
    passes: list[int] = []
    block = backbone.model.visual.transformer.resblocks[1].mlp.c_fc
    hook = block.register_forward_hook(lambda *_: passes.append(1))
    histories, counts = [], []
    for checkpointed in (False, True):
        network = network_of(name)
        passes.clear()
        options = replace(QUICK, steps=3, checkpoint_gradients=checkpointed)
        histories.append(train(network, examples[:8], [], options, tmp_path / str(checkpointed)))
        counts.append(len(passes))
        network.release()
        assert not backbone.model.visual.transformer.grad_checkpointing
    hook.remove()
    assert counts == [3, 6]  # one pass a step, and one more where it goes back
    assert histories[1].losses == pytest.approx(histories[0].losses, rel=1e-5)


def test_counting_parameters_leaves_the_backbone_unwrapped(backbone, network_of):
    network = network_of("coop")
    prompts, head = network.parameter_counts()
    assert (
        prompts == network.prompts.text_tokens * backbone.model.text.token_embedding.weight.shape[1]
    )
    assert head == sum(p.numel() for p in network.head.parameters())
    assert not network.attached
    assert network_of("head alone").parameter_counts()[0] == 0


def test_saved_prompts_and_head_are_files_that_load(backbone, network_of, tmp_path):
    from safetensors.torch import load_file

    from zsvg.tuners import load_adapter

    network = network_of("coop")
    examples = make_examples(backbone)
    train(network, examples, (), QUICK, tmp_path / "checkpoint")
    network.save(tmp_path / "model")
    with torch.no_grad():
        ids = backbone.tokenize([examples[0].query])
        expected = backbone.encode_tokens(ids, model=network.model).pooled
    network.release()
    with pytest.raises(ValueError, match="save before release"):
        network.save(tmp_path / "late")
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert {"head.safetensors", "adapter_config.json", "adapter_model.safetensors"} <= names
    again = AttentionRegressionHead(network.head.config)
    again.load_state_dict(load_file(tmp_path / "model" / "head.safetensors"))
    adapter = load_adapter(backbone.model, tmp_path / "model")
    with torch.no_grad():
        assert torch.equal(backbone.encode_tokens(ids, model=adapter).pooled, expected)
    adapter.unload()


def test_frozen_text_is_encoded_once(backbone, network_of, tmp_path, monkeypatch):
    calls, examples = [], make_examples(backbone)
    encode = backbone.encode_tokens
    monkeypatch.setattr(
        backbone,
        "encode_tokens",
        lambda ids, model=None: calls.append(len(ids)) or encode(ids, model),
    )
    train(network_of(), examples, (), QUICK, tmp_path)
    assert sum(calls) == len(QUERIES)


def test_frozen_texts_are_kept_as_their_real_tokens_in_half_precision(backbone, network_of):
    network = network_of()
    texts = ["a red ball", "the dog opens the fridge", "a cat"]
    ids = network.tokenize(texts)
    exact = backbone.encode_tokens(ids)
    kept = network._frozen_text(ids)
    lengths = [5, 7, 4]  # start, words and end, of 24
    assert kept.mask.sum(1).tolist() == lengths
    assert kept.tokens.shape == (3, 7, 32)
    assert torch.equal(kept.pooled, exact.pooled)
    assert torch.equal(kept.mask, exact.mask[:, :7])
    for row, length in enumerate(lengths):
        got, wanted = kept.tokens[row, :length], exact.tokens[row, :length]
        torch.testing.assert_close(got, wanted, rtol=2**-11, atol=2**-25)
        assert torch.equal(got, wanted.half().float())
    assert torch.equal(network._frozen_text(ids[[2, 0]]).tokens, kept.tokens[[2, 0], :5])
    # Two bytes a number of each real token, four of the pooled vector, one byte of mask.
    own = [value for parts in network._texts.values() for value in parts]
    size = sum(value.untyped_storage().nbytes() for value in own)
    assert size == sum(2 * 32 * n + 4 * 32 + n for n in lengths)


def test_missing_raw_frames_are_explained(backbone, network_of, tmp_path):
    with pytest.raises(ValueError, match="raw frames"):
        train(network_of("vpt"), make_examples(backbone), (), QUICK, tmp_path)


# A GPU that is only spoken of; nothing is computed on it.
DEVICES = """
import sys
sys.path.insert(0, {tests!r})
import test_training as t, torch
from pathlib import Path
from accelerate import Accelerator, PartialState
from zsvg.backbones.clip import load_backbone
from zsvg.backbones.base import pick_device

torch.cuda.is_available = lambda: True
assert pick_device().type == "cuda"
torch.cuda.is_available = lambda: False
backbone = load_backbone("local-dir:{clip}", "cpu")
examples = t.make_examples(backbone)
for name, bad in (("run", False), ("bad", True)):
    network = t.make_network(backbone)
    try:
        assert not bad or not t.train(network, [], (), t.QUICK, Path({out!r}) / name)
        t.train(network, examples, (), t.QUICK, Path({out!r}) / name)
    except t.TrainingError:
        assert bad
    assert not PartialState._shared_state
torch.cuda.is_available = lambda: True
assert pick_device().type == "cuda"
torch.cuda.is_available = lambda: False
mine = Accelerator(cpu=True)  # what somebody else has set up stays, and is followed
t.train(t.make_network(backbone), examples, (), t.QUICK, Path({out!r}) / "again")
torch.cuda.is_available = lambda: True
assert mine.device == pick_device() == torch.device("cpu")
"""


def test_a_run_on_the_cpu_binds_no_later_one(tiny_clip_folder, tmp_path):
    tests = str(Path(__file__).parent)
    code = DEVICES.format(tests=tests, clip=tiny_clip_folder, out=str(tmp_path))
    done = run_python("-c", code, env=environment(ACCELERATE_USE_CPU="false"))
    assert done.returncode == 0, done.stderr


# ---- the loop -----------------------------------------------------------------------------------


def test_training_learns_and_keeps_the_best_step(backbone, network_of, tmp_path):
    network = network_of("coop")
    examples, held = make_examples(backbone, count=24), make_examples(backbone, 12, seed=9)
    options = replace(QUICK, steps=80, batch_size=8, validate_every=20, checkpoint_every=40)
    seen = []
    history = train(
        network, examples, held, options, tmp_path, lambda step, loss: seen.append((step, loss))
    )
    assert [step for step, _ in seen] == list(range(1, 81))
    assert [loss for _, loss in seen] == history.losses
    inside = history.terms["inside"]
    assert np.mean(inside[-10:]) < 0.6 * np.mean(inside[:5])
    assert [step for step, _ in history.validation] == [20, 40, 60, 80]
    assert history.best_score == max(score for _, score in history.validation)
    assert dict(history.validation)[history.best_step] == history.best_score
    assert history.best_score > 0.5
    assert json.loads(json.dumps(history.to_json())) == history.to_json()
    # The weights that are left are those of the best step: validating them again agrees.
    from zsvg.moments import iou

    texts = {e.query: backbone.tokenize([e.query])[0] for e in held}
    with torch.no_grad():
        batch = collate([(e, 0) for e in held], texts, torch.device("cpu"))
        answers = network(batch).moments[:, 0].double().numpy()
    scores = [
        iou(a[None] * e.duration, e.windows)[0, 0] for a, e in zip(answers, held, strict=True)
    ]
    assert np.mean(scores) == pytest.approx(history.best_score, abs=1e-5)


def test_the_same_call_twice_gives_the_same_bytes(backbone, network_of, tmp_path):
    examples = make_examples(backbone)
    weights = []
    for run in range(2):
        torch.manual_seed(run)  # the caller's random state must not matter
        network = network_of("coop")
        train(network, examples[:8], examples[8:], QUICK, tmp_path / str(run))
        weights.append(snapshot(network))
        network.release()
    assert_equal_weights(*weights)
    other = network_of("coop")
    train(other, examples[:8], examples[8:], replace(QUICK, seed=4), tmp_path / "other")
    assert not all(value.equal(weights[0][key]) for key, value in snapshot(other).items())


def test_accumulation_equals_a_larger_batch(backbone, network_of, tmp_path):
    examples = make_examples(backbone)
    losses = []
    for size, parts in ((8, 1), (2, 4)):
        network = network_of()
        network.head.eval()
        # The contrast across a batch only sees its pass, as everywhere.
        config = replace(network.head.config, dropout=0.0, content_dropout=0.0, contrast_weight=0.0)
        network.head = AttentionRegressionHead(config)
        network.head.load_state_dict(make_network(backbone).head.state_dict())
        options = replace(QUICK, batch_size=size, accumulation=parts, steps=4)
        history = train(network, examples, (), options, tmp_path / str(size))
        losses.append(history.losses)
    np.testing.assert_allclose(losses[0], losses[1], rtol=2e-3)


@pytest.mark.parametrize("average", [0.0, 0.5, 0.8])
def test_a_running_mean_of_the_weights_is_left(backbone, network_of, tmp_path, average):
    network, every = network_of("coop"), []
    options = replace(QUICK, average=average)
    history = train(
        network, make_examples(backbone), [], options, tmp_path,
        on_step=lambda step, loss: every.append(snapshot(network)),
    )  # fmt: skip
    assert history.best_step == len(every) == 6
    for name, left in snapshot(network).items():
        expected = every[0][name].double()
        for step in range(1, 6):
            kept = min(average, (step + 1) / (step + 10))
            expected = kept * expected + (1 - kept) * every[step][name].double()
        torch.testing.assert_close(left, expected.float())
    moved = [not value.equal(every[-1][name]) for name, value in snapshot(network).items()]
    assert any(moved) == (average > 0)


def test_patience_stops_early(backbone, network_of, tmp_path):
    examples = make_examples(backbone)
    # Steps too small to change a single weight: no validation is better than the first.
    options = replace(
        QUICK, steps=40, validate_every=1, patience=2, head_learning_rate=1e-30, average=0.0
    )
    history = train(network_of(), examples[:8], examples[8:], options, tmp_path)
    assert len({score for _, score in history.validation}) == 1
    assert history.best_step == 1
    assert history.steps == 3
    again = train(network_of(), examples[:8], examples[8:], options, tmp_path)
    assert again.to_json() == history.to_json()


def test_bfloat16_trains(backbone, network_of, tmp_path):
    examples = make_examples(backbone)
    options = replace(QUICK, mixed_precision="bf16")
    history = train(network_of("coop"), examples[:8], examples[8:], options, tmp_path)
    assert np.isfinite(history.losses).all()


def test_a_loss_that_is_not_finite_names_step_and_videos(backbone, network_of, tmp_path):
    examples = make_examples(backbone, count=2)
    examples[1].features[3] = np.nan
    with pytest.raises(TrainingError, match=r"not finite at step 1 .*v0-0, v0-1"):
        train(network_of(), examples, (), QUICK, tmp_path)


def test_impossible_runs_are_explained(backbone, network_of, tmp_path):
    with pytest.raises(TrainingError, match="no training examples"):
        train(network_of(), (), (), QUICK, tmp_path)
    idle = [replace(example, weight=0.0) for example in make_examples(backbone, 3)]
    with pytest.raises(TrainingError, match="weight 0"):
        train(network_of(), idle, (), QUICK, tmp_path)
    with pytest.raises(ValueError, match="steps"):
        TrainingOptions(steps=0)
    with pytest.raises(ValueError, match="mixed_precision"):
        TrainingOptions(mixed_precision="fp8")
    with pytest.raises(ValueError, match="average"):
        TrainingOptions(average=1.0)


# ---- prompts in the image tower join later ------------------------------------------------------

LATER = replace(QUICK, steps=10, visual_share=0.4, visual_batch_size=2, validate_every=2)


def test_passes_follow_each_other_when_their_size_changes():
    options = replace(LATER, accumulation=3)
    spans = [options.positions(index) for index in range(30)]
    assert [len(span) for span in spans] == [4] * 18 + [2] * 12
    assert [i for span in spans for i in span] == list(range(18 * 4 + 12 * 2))
    assert replace(LATER, visual_batch_size=None).positions(9) == range(36, 40)


def test_prompts_start_again_when_the_image_tower_joins():
    options = replace(LATER, steps=100, warmup=10)
    assert options.prompt_rate(59) < 0.01 < options.prompt_rate(60) < options.prompt_rate(64) < 1
    assert options.prompt_rate(68) == 1.0
    assert options.prompt_rate(99) < 0.01
    at_once = replace(options, visual_share=1.0)
    assert all(at_once.head_rate(step) == at_once.prompt_rate(step) > 0 for step in range(100))
    assert options.head_rate(10) == 1
    assert 0 < options.head_rate(59) < 0.01
    assert options.head_rate(60) == options.head_rate(99) == 0
    assert replace(options, visual_share=1e-9).visual_from == 99
    with pytest.raises(ValueError, match="visual_share"):
        replace(options, visual_share=0)


def test_stretches_of_a_few_clips_stand_for_videos_once_frames_are_encoded(
    backbone, network_of, tmp_path, monkeypatch
):
    import zsvg.training.loop as module

    shown, collate_batch = [], module.collate
    monkeypatch.setattr(
        module,
        "collate",
        lambda chosen, *rest, **options: (
            shown.append([(len(e.centres), e.windows, e.duration) for e, _ in chosen])
            or collate_batch(chosen, *rest, **options)
        ),
    )
    examples = make_examples(backbone, frames=True)
    longest = max(len(example.centres) for example in examples)
    options = replace(LATER, visual_clips=5, concatenate_rate=1.0)
    train(network_of("vpt"), examples, (), options, tmp_path)
    lengths = [max(count for count, _, _ in batch) for batch in shown]
    assert min(lengths[:6]) > longest  # put together
    assert max(lengths[6:]) <= 5
    for batch in shown[6:]:
        for _, windows, duration in batch:
            assert ((windows >= 0) & (windows <= duration + 1e-9)).all()
            assert (windows[:, 0] < windows[:, 1]).all()


@pytest.mark.parametrize("name", ["vpt", "maple"])
def test_frames_are_read_once_before_visual_prompts_are_trained(
    name, backbone, network_of, tmp_path, monkeypatch
):
    import zsvg.training.loop as module

    examples = make_examples(backbone, frames=True)
    read = []

    def counted(example):
        load = example.frames
        return replace(example, frames=lambda: read.append(example.vid) or load())

    network = network_of(name)
    network.attach()
    start = snapshot(network)
    visual = [key for key in start if ".visual." in key]
    with torch.no_grad():
        as_they_start = {e.vid: network.encode_frames(e.load_frames()) for e in examples}
    assert any(
        not np.allclose(e.features, as_they_start[e.vid].numpy(), atol=1e-3) for e in examples
    )
    seen, joined, end, collate_batch = {}, {}, {}, module.collate

    def collated(chosen, *rest, **options):
        batch = collate_batch(chosen, *rest, **options)
        if len(seen) < LATER.visual_from:
            for row, (example, _) in enumerate(chosen):
                features = as_they_start[example.vid]
                assert batch.features[row, : len(features)].equal(features)
        return batch

    monkeypatch.setattr(module, "collate", collated)

    def after(step, loss):
        seen[step] = len(read)
        if step == LATER.visual_from:
            assert visual
            if name == "maple":  # its text prompts would have moved the others
                still = (key for key in start if key.startswith("model."))
                assert all(network.trainable()[key].equal(start[key]) for key in still)
            joined.update(snapshot(network))
            assert all(value.equal(start[key]) for key, value in network.trainable().items()
                       if key in visual)  # fmt: skip
        end.update(snapshot(network))

    history = train(
        network, [counted(e) for e in examples[:8]], examples[8:], LATER, tmp_path, after
    )
    assert seen[LATER.visual_from] == 8
    assert seen[10] == 8 + 4 * 2
    assert [step for step, _ in history.validation] == [2, 4, 6, 8, 10]
    assert not all(end[key].equal(start[key]) for key in visual)
    assert joined
    assert all(end[key].equal(joined[key]) for key in joined if key.startswith("head."))


def test_answers_with_visual_prompts_read_each_video_once(backbone, network_of, tmp_path):
    examples = make_examples(backbone, count=6, frames=True)
    shared = [replace(examples[0], query=example.query) for example in examples]
    read = []
    load = examples[0].frames
    held = [replace(e, frames=lambda: read.append(1) or load()) for e in shared]
    train(network_of("vpt"), examples, held, replace(QUICK, validate_every=6), tmp_path)
    assert len(read) == 1


# ---- checkpoints --------------------------------------------------------------------------------


class Interrupted(Exception):
    pass


@pytest.mark.parametrize(
    ("name", "stop_after", "visual_share"),
    [
        ("coop", 1, 1.0),
        ("coop", 3, 1.0),
        ("coop", 5, 1.0),
        ("head alone", 3, 1.0),
        ("head alone", 5, 1.0),
        ("vpt", 3, 1.0),
        ("vpt", 3, 0.5),
        ("vpt", 5, 0.5),
    ],
)
def test_continuing_gives_the_bytes_of_an_undisturbed_run(
    backbone, network_of, tmp_path, name, stop_after, visual_share
):
    examples = make_examples(backbone, frames=name == "vpt")
    options = replace(QUICK, crop_rate=0.5, concatenate_rate=0.5, visual_share=visual_share)

    def run(folder, on_step=None, seed=0):
        network = network_of(name, seed)
        try:
            history = train(network, examples[:8], examples[8:], options, folder, on_step)
            return snapshot(network), history
        finally:
            network.release()

    def interrupt(step, loss):
        if step == stop_after:
            raise Interrupted

    expected, whole = run(tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", interrupt)
    weights, history = run(tmp_path / "cut")
    assert history.resumed_at == stop_after // 2 * 2
    assert_equal_weights(weights, expected)
    assert history.to_json() == whole.to_json()
    files = [path.name for path in sorted((tmp_path / "cut").iterdir())]
    assert files == ["checkpoint.json", "step-00000006.safetensors"]
    for file in files:
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    weights, history = run(tmp_path / "cut")  # a finished run is only read
    assert history.resumed_at == 6
    assert_equal_weights(weights, expected)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"options": {"head_learning_rate": 5e-3}}, "options"),
        ({"data": True}, "training data"),
        ({"prompts": "coop"}, "network"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(backbone, network_of, tmp_path, change, named):
    examples = make_examples(backbone)
    train(network_of(), examples[:8], examples[8:], QUICK, tmp_path)
    options = replace(QUICK, **change.get("options", {}))
    data = examples[1:8] if change.get("data") else examples[:8]
    network = network_of(change.get("prompts", "head alone"))
    with pytest.raises(ModelFolderError, match=f"another run \\(other {named}\\)"):
        train(network, data, examples[8:], options, tmp_path)


def test_a_damaged_checkpoint_is_explained(backbone, network_of, tmp_path):
    examples = make_examples(backbone)
    train(network_of(), examples, (), QUICK, tmp_path)
    (tensors,) = tmp_path.glob("*.safetensors")
    tensors.write_bytes(tensors.read_bytes()[:100])
    with pytest.raises(ModelFolderError, match="cannot be read"):
        train(network_of(), examples, (), QUICK, tmp_path)
    (tmp_path / "checkpoint.json").write_text("{")
    with pytest.raises(ModelFolderError, match="cannot be read"):
        train(network_of(), examples, (), QUICK, tmp_path)


WORKER = """
import sys, time
sys.path.insert(0, {tests!r})
import test_training as t
from zsvg.backbones.clip import load_backbone

def on_step(step, loss):
    print(step, flush=True)
    time.sleep(0.05 if step < 9 else 3600)

t.run_to_be_killed(load_backbone("local-dir:" + sys.argv[1], device="cpu"), sys.argv[2], on_step)
"""


def run_to_be_killed(backbone, folder, on_step=None):
    network = make_network(backbone, coop(backbone))
    examples = make_examples(backbone)
    options = replace(QUICK, steps=12, checkpoint_every=1)
    try:
        history = train(network, examples[:8], examples[8:], options, folder, on_step)
        return snapshot(network), history
    finally:
        network.release()


def test_sigkill_at_any_time_then_the_same_call_ends_with_the_same_bytes(
    backbone, tiny_clip_folder, tmp_path
):
    script = tmp_path / "worker.py"
    script.write_text(WORKER.format(tests=str(Path(__file__).parent)))
    line = (script, tiny_clip_folder, tmp_path / "killed")
    with started(*line, stdout=subprocess.PIPE, text=True) as killed:
        for step in killed.stdout:
            if int(step) == 5:
                time.sleep(0.06)  # die anywhere in the next step, or in writing its checkpoint
                break
        killed.kill()
        assert killed.wait(HANG) == -signal.SIGKILL

    expected, whole = run_to_be_killed(backbone, tmp_path / "whole")
    weights, history = run_to_be_killed(backbone, tmp_path / "killed")
    assert 5 <= history.resumed_at <= 9
    assert history.to_json() == whole.to_json()
    assert_equal_weights(weights, expected)
    name = "step-00000012.safetensors"
    assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


# ---- examples -----------------------------------------------------------------------------------


def plain_example(clips=20, windows=((3.0, 5.0), (7.5, 9.0)), seconds=10.0, vid="v"):
    pixels = np.arange(clips, dtype=np.uint8)[:, None, None, None].repeat(3, -1)
    return Example(
        vid=vid,
        features=np.arange(clips, dtype=np.float32)[:, None],
        centres=(np.arange(clips) + 0.5) / clips,
        duration=seconds,
        query="q",
        windows=np.array(windows),
        frames=lambda: pixels,
    )


@pytest.mark.parametrize("target", [0, 1])
def test_cropping_keeps_the_target_and_its_frames(target):
    whole = plain_example()
    for seed in range(60):
        part, kept = crop(whole, target, np.random.default_rng(seed))
        assert len(part.features) == len(part.centres) == len(part.frames())
        assert part.features[:, 0].astype(int).tolist() == part.frames()[:, 0, 0, 0].tolist()
        origin = part.features[0, 0] * 0.5
        np.testing.assert_allclose(part.windows[kept] + origin, whole.windows[target], atol=1e-9)
        times = part.centres * part.duration + origin
        np.testing.assert_allclose(times, part.features[:, 0] * 0.5 + 0.25, atol=1e-9)
        assert part.windows.max() <= part.duration + 1e-9


@pytest.mark.parametrize("before", [False, True])
def test_concatenation_shifts_the_moments(before):
    own, other = (
        plain_example(),
        plain_example(clips=8, seconds=4.0, windows=((0.0, 1.0),), vid="w"),
    )
    joined = concatenate(own, other, before=before)
    assert joined.duration == 14.0
    assert joined.features.shape == (28, 1)
    assert len(joined.frames()) == 28
    np.testing.assert_allclose(joined.windows, own.windows + (4.0 if before else 0.0))
    assert (np.diff(joined.centres) > 0).all()
    inside = (joined.centres * 14.0 >= joined.windows[0, 0]) & (
        joined.centres * 14.0 < joined.windows[0, 1]
    )
    assert joined.features[inside, 0].tolist() == [6, 7, 8, 9]


@pytest.mark.parametrize("place", [0, 3, 8])
def test_a_stitched_moment_has_exact_borders_in_another_video(place):
    own = plain_example()  # clips 6 to 9 are its first moment, 15 to 17 its second
    other = plain_example(clips=8, seconds=4.0, windows=((0.0, 1.0),), vid="w")
    joined = stitch(own, 1, other, place)
    assert joined.query == own.query
    assert joined.features[:, 0].tolist() == [*range(place), 15, 16, 17, *range(place, 8)]
    assert joined.duration == pytest.approx(5.5)
    np.testing.assert_allclose(joined.windows, [[place / 2, place / 2 + 1.5]])
    np.testing.assert_allclose(joined.edges * 5.5, np.arange(12) / 2)
    assert joined.frames()[place : place + 3].tolist() == own.frames()[15:18].tolist()
    assert len(joined.frames()) == 11


def test_stitching_is_drawn_only_where_it_is_wanted():
    pair = [plain_example(), plain_example(clips=8, seconds=4.0, windows=((0.0, 1.0),), vid="w")]
    for seed in range(20):
        plain = draw_sample(pair, 0, np.random.default_rng(seed), crop_rate=0.5)
        none = draw_sample(pair, 0, np.random.default_rng(seed), crop_rate=0.5, stitch_rate=0.0)
        assert plain[1] == none[1]
        np.testing.assert_array_equal(plain[0].features, none[0].features)
    drawn = [draw_sample(pair, 0, np.random.default_rng(n), stitch_rate=1.0) for n in range(40)]
    lengths = {len(example.features) for example, _ in drawn}
    assert lengths == {20, 8 + 3, 8 + 4}  # itself, where it is drawn as the other one
    assert all(target == 0 for example, target in drawn if len(example.features) < 20)


def test_a_batch_marks_all_moments_and_even_those_between_centres():
    example = plain_example()
    short = plain_example(clips=4, windows=((0.1, 0.2),))
    ids = {"q": torch.tensor([1, 2, 0])}
    batch = collate([(example, 1), (short, 0)], ids, torch.device("cpu"))
    assert batch.features.shape == (2, 20, 1)
    assert batch.frame_mask.sum(1).tolist() == [20, 4]
    assert batch.inside[0].nonzero().flatten().tolist() == [6, 7, 8, 9, 15, 16, 17]
    assert batch.inside[1].nonzero().flatten().tolist() == [0]
    np.testing.assert_allclose(batch.target.numpy(), [[0.75, 0.9], [0.01, 0.02]], atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"centres": np.arange(20.0)}, "not seconds"),
        ({"centres": np.arange(3) / 3}, "must be"),
        ({"windows": np.array([[5.0, 5.0]])}, "start < end"),
        ({"windows": np.zeros((0, 2))}, r"\(n, 2\)"),
        ({"weight": -1.0}, "weight"),
    ],
)
def test_malformed_examples_are_explained(change, message):
    with pytest.raises(ValueError, match=message):
        replace(plain_example(), **change)


def test_repeated_sentences_train_alike_with_several_threads():
    states = TextStates(
        pooled=torch.randn(1, 512, requires_grad=True),
        tokens=torch.randn(1, 16, 512, requires_grad=True),
        mask=torch.ones(1, 16, dtype=torch.bool),
    )
    upstream = torch.randn(32, 16, 512)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        gradients = []
        for _ in range(50):
            states.tokens.grad = None
            _rows(states, torch.zeros(32, dtype=torch.long)).tokens.backward(upstream)
            gradients.append(states.tokens.grad)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(gradients[0], other) for other in gradients)
