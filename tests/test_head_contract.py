"""What every kind of trained head promises, and what the parts of each one compute."""

from dataclasses import replace
from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from conftest import encode_video
from hypothesis import given, settings
from hypothesis import strategies as st
from test_heads import batch, make_inputs, mean_iou, rows, synthetic
from typer.testing import CliRunner

import zsvg
from zsvg.backbones.clip import load_backbone
from zsvg.cli.app import app
from zsvg.errors import RecipeError
from zsvg.grounding.model_folder import detach_adapters
from zsvg.heads.by_name import HEADS, describe_head, make_head
from zsvg.heads.encoder import Truth
from zsvg.heads.layers import coarse
from zsvg.heads.losses import alignment_loss, offset_loss, scaled_iou_loss
from zsvg.heads.map import _Grid, _MaskedConv, sparse_cells, stack_clips
from zsvg.heads.runs import Runs, find_runs
from zsvg.heads.set import match
from zsvg.heads.span import all_pairs, best_pairs
from zsvg.heads.span_arithmetic import (
    certain,
    clip_edges,
    coverage,
    expected_iou,
    generalised_iou,
    look_at,
    shift,
    span_iou,
    suppress,
    true_moments,
)
from zsvg.heads.windows import sliding_windows
from zsvg.moments import iou, nms
from zsvg.records import Annotation, write_annotations
from zsvg.training.options import TuneOptions
from zsvg.training.recipes import HeadRecipe, load_recipe
from zsvg.training.tune import tune

pytestmark = pytest.mark.numeric

KINDS = [*HEADS, "three regression", "three embedding"]  # `members`, that answer as one
SMALL = {"map": {"scales": (16, 8), "dense": 4, "map_width": 8}, "windows": {"lengths": (0.2, 0.5)}}
TARGET = torch.tensor([[0.2, 0.6], [0.1, 0.35], [0.5, 1.0]])


def asked(kind, small=SMALL):
    """The kind, and what is asked of it."""
    kind = kind.rpartition(" ")
    return kind[2], small.get(kind[2], {}) | ({"members": 3} if kind[0] else {})


def make(kind, seed=0, stir=0.05, **options):
    """A small head without dropout, away from its quiet start, so that every path matters."""
    torch.manual_seed(seed)
    given = {"dim": 16, "hidden": 32, "dropout": 0.0, "content_dropout": 0.0}
    kind, more = asked(kind)
    head = make_head(kind, given | more | options)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(stir * torch.randn_like(parameter))
    return head.eval()


def close(first, second):
    torch.testing.assert_close(first, second, atol=2e-5, rtol=1e-4)


def total(head, inputs, target, **about):
    return sum(head.loss(head(**inputs, target=target), Truth(target=target, **about)).values())


# ---- every kind ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
class TestEveryHead:
    @torch.no_grad()
    def test_shapes_ranges_and_order(self, kind):
        inputs = make_inputs()
        output = make(kind)(**inputs)
        assert output.moments.shape == (3, 5, 2)
        assert output.scores.shape == (3, 5)
        assert output.relevance.shape == output.logits.shape == output.centres.shape == (3, 40)
        assert ((output.moments >= 0) & (output.moments <= 1)).all()
        real = output.scores > 0
        assert (output.moments[..., 0] < output.moments[..., 1])[real].all()
        assert real[:, 0].all()
        assert (output.scores.diff(dim=1) <= 1e-7).all()
        assert (output.scores <= 1).all()
        assert output.presence.shape == (3,)
        assert (output.relevance[~inputs["frame_mask"]] == 0).all()
        assert make(kind, answers=2)(**inputs).moments.shape == (3, 2, 2)

    @torch.no_grad()
    def test_padding_never_changes_an_answer(self, kind):
        head, inputs = make(kind), make_inputs()
        together = head(**inputs)
        for row, length in enumerate((40, 23, 7)):
            alone = rows(inputs, slice(row, row + 1))
            words = int(alone["token_mask"].sum())
            for name in ("frames", "frame_mask", "centres"):
                alone[name] = alone[name][:, :length]
            for name in ("tokens", "token_mask"):
                alone[name] = alone[name][:, :words]
            single = head(**alone)
            close(single.moments[0], together.moments[row])
            close(single.scores[0], together.scores[row])
            close(single.presence[0], together.presence[row])
            close(single.relevance[0], together.relevance[row, :length])

    @torch.no_grad()
    def test_what_stands_in_padding_is_never_read(self, kind):
        head, inputs = make(kind), make_inputs()
        padding = ~inputs["frame_mask"]
        dirty = inputs | {
            "frames": inputs["frames"].masked_fill(padding[..., None], float("nan")),
            "centres": inputs["centres"].masked_fill(padding, 7.0),
        }
        clean, same = head(**inputs), head(**dirty)
        close(clean.moments, same.moments)
        close(clean.scores, same.scores)
        close(clean.presence, same.presence)

    @torch.no_grad()
    def test_batch_order_does_not_matter(self, kind):
        head, inputs, order = make(kind), make_inputs(), torch.tensor([2, 0, 1])
        expected, output = head(**inputs), head(**rows(inputs, order))
        close(output.moments, expected.moments[order])
        close(output.scores, expected.scores[order])

    def test_padding_does_not_change_gradients(self, kind):
        head, inputs, gradients = make(kind), make_inputs(lengths=(20,)), []
        for extra in (0, 11):
            padded = dict(inputs)
            for name in ("frames", "frame_mask", "centres"):
                filler = torch.zeros(1, extra, *inputs[name].shape[2:], dtype=inputs[name].dtype)
                padded[name] = torch.cat((inputs[name], filler), 1)
            head.zero_grad()
            total(head, padded, TARGET[:1]).backward()
            gradients.append({n: p.grad.clone() for n, p in head.named_parameters()})
        for name, value in gradients[0].items():
            torch.testing.assert_close(gradients[1][name], value, atol=1e-5, rtol=1e-3)

    def test_every_parameter_gets_a_gradient(self, kind):
        head = make(kind).train()
        total(head, make_inputs(), TARGET).backward()
        assert [n for n, p in head.named_parameters() if p.grad is None or not p.grad.any()] == []

    def test_weights_of_samples_weigh_their_losses(self, kind):
        head, inputs = make(kind), make_inputs()
        output = head(**inputs, target=TARGET)

        def losses_by(weight):
            return head.loss(output, Truth(target=TARGET, weight=weight))

        singly = [losses_by(torch.eye(3)[row])["inside"] for row in range(3)]
        weight = torch.tensor([2.0, 0.0, 0.5])
        losses = losses_by(weight)
        close(losses["inside"], 2 * singly[0] + 0.5 * singly[2])
        nothing = losses_by(torch.zeros(3))
        assert all(value == 0 for value in nothing.values())
        assert set(nothing) == set(losses) == set(history_terms(kind))

    def test_processes_that_share_a_batch_add_up_to_one(self, kind):
        """What is exchanged is all that the loss needs of samples elsewhere."""
        head, inputs = make(kind), rows(make_inputs(), torch.tensor([0, 1, 2, 1]))
        target = torch.cat((TARGET, TARGET[:1]))
        whole = head.loss(head(**inputs, target=target), Truth(target=target))
        halves = [slice(0, 2), slice(2, 4)]
        outputs = [head(**rows(inputs, half), target=target[half]) for half in halves]
        parts = [
            head.loss(outputs[i], Truth(target=target[halves[i]], away=outputs[1 - i].exchanged))
            for i in (0, 1)
        ]
        for name, value in whole.items():
            close((parts[0][name] + parts[1][name]) / 2, value)

    def test_eight_videos_are_learned_by_heart(self, kind):
        items = synthetic(8, seed=1, noise=0.2)
        score, best = mean_iou(fit(kind, items), items), np.mean([ceiling(kind, i) for i in items])
        assert score > 0.95 * best, (score, best)

    @torch.no_grad()
    def test_before_training_it_follows_relevance(self, kind):
        torch.manual_seed(0)
        kind, more = asked(kind, {})
        head = make_head(kind, {"dim": 16} | more).eval()
        inputs = make_inputs(lengths=(60, 60, 60), seed=3)
        for row, first in enumerate((8, 20, 44)):
            inputs["frames"][row, first : first + 12] += 2 * inputs["pooled"][row]
        inputs["frames"] = torch.nn.functional.normalize(inputs["frames"], dim=-1)
        answers = head(**inputs).moments[:, 0].double().numpy()
        true = np.array([[8, 20], [20, 32], [44, 56]]) / 60
        assert np.diag(iou(answers, true)).min() > 0.6

    @torch.no_grad()
    def test_bfloat16_stays_close(self, kind):
        head, inputs = make(kind, stir=0.0), make_inputs(lengths=(60, 60, 60))
        inputs["frames"][:, 20:35] += inputs["pooled"][:, None]
        inputs["frames"] = torch.nn.functional.normalize(inputs["frames"], dim=-1)
        expected = head(**inputs)
        with torch.autocast("cpu", torch.bfloat16):
            output = head(**inputs)
        assert output.moments.dtype == output.scores.dtype == output.logits.dtype == torch.float32
        assert (output.relevance - expected.relevance).abs().max() < 0.05
        assert (output.moments[:, 0] - expected.moments[:, 0]).abs().max() < 0.1
        head.train()
        with torch.enable_grad():
            with torch.autocast("cpu", torch.bfloat16):
                output = head(**inputs, target=TARGET)
            sum(head.loss(output, Truth(target=TARGET)).values()).backward()
        assert all(torch.isfinite(p.grad).all() for p in head.parameters())

    @torch.no_grad()
    @pytest.mark.parametrize("length", [1, 2, 3])
    def test_very_short_videos(self, kind, length):
        head, inputs = make(kind), make_inputs(lengths=(length,))
        output = head(**inputs)
        assert torch.isfinite(output.moments).all()
        assert output.scores[0, 0] > 0
        assert 0 <= output.moments[0, 0, 0] < output.moments[0, 0, 1] <= 1
        with torch.enable_grad():
            total(head, inputs, torch.tensor([[0.3, 0.4]])).backward()
        assert all(torch.isfinite(p.grad).all() for p in head.parameters())

    @torch.no_grad()
    def test_the_span_of_a_single_clip_video_is_all_of_it(self, kind):
        torch.manual_seed(0)
        kind, more = asked(kind, {})
        output = make_head(kind, {"dim": 16} | more).eval()(**make_inputs(lengths=(1,)))
        assert output.moments[0, 0].tolist() == pytest.approx([0, 1], abs=0.02)

    @torch.no_grad()
    def test_ten_thousand_frames(self, kind):
        torch.manual_seed(0)
        kind, more = asked(kind, {})
        output = make_head(kind, {"dim": 16} | more).eval()(**make_inputs(lengths=(10_000,)))
        assert output.relevance.shape == (1, 10_000)
        assert torch.isfinite(output.moments).all()
        assert output.scores[0, 0] > 0

    def test_a_model_folder_loads_and_grounds(self, kind, world, backbone, tmp_path):
        videos, labels, cache = world
        recipe = load_recipe("ppt" if kind == "pointing" else "head-only")
        kind, more = asked(kind)
        head = HeadRecipe(kind=kind, hidden=16, attention_heads=2, **more)
        recipe = recipe.model_copy(update={"head": head}).with_training(
            steps=2, batch_size=2, validate_every=2, warmup=1, denoise_from=1
        )
        outcome = tune(labels, videos, backbone, tmp_path / "model", recipe=recipe,
                       options=TuneOptions(fps=2.0), cache=cache)  # fmt: skip
        assert list(outcome.history.terms) == history_terms(kind)
        grounder = zsvg.load(tmp_path / "model", backbone=backbone)
        described = grounder.manifest["head"]
        assert described["kind"] == kind
        head = make_head(kind, described["config"])
        head.load_state_dict(grounder.head.state_dict())
        assert describe_head(head) == describe_head(grounder.head)
        inputs = make_inputs(dim=backbone.embed_dim)
        assert torch.equal(head.eval()(**inputs).moments, grounder.head(**inputs).moments)
        answer = grounder.ground(grounder.encode(videos["a"], cache=cache), "a red ball")
        assert all(0 <= m.start < m.end <= 6.001 for m in answer.moments)
        assert answer.moments


def history_terms(kind):
    frames = ["guidance", "inside"]
    return {
        "regression": ["span", *frames, "rank", "contrast"],
        "map": ["map", *frames],
        "span": ["span", *frames],
        "pointing": ["span", *frames],
        "embedding": ["contrast", "rank", *frames],
        "set": ["span", "overlap", "class", *frames],
        "windows": ["align", "rank", "offset", *frames],
    }[asked(kind)[0]]


LEARNING = {"map": {"scales": (32,), "map_width": 16}}


def fit(kind, items, steps=90, rate=4e-3):
    torch.manual_seed(0)
    kind, more = asked(kind, LEARNING)
    head = make_head(kind, {"dim": 32, "hidden": 32} | more).train()
    optimizer = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=0.01)
    inputs, target = batch(items)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 20, 2 * (1 - step / steps))
        optimizer.zero_grad()
        total(head, inputs, target).backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
    return head.eval()


def ceiling(kind, item):
    """The best IoU that an answer of this kind can have."""
    frames, _, span = item
    kind, _ = asked(kind)
    clips = {"map": 32, "embedding": 48, "span": len(frames), "pointing": len(frames)}.get(kind)
    if clips is None:
        return 1.0  # borders can be anywhere
    cells = [(i / clips, j / clips) for i, j in combinations(range(clips + 1), 2)]
    if kind in ("map", "embedding"):
        on_map = sparse_cells(clips, {"map": 16, "embedding": 8}[kind])
        cells = [(i / clips, (j + 1) / clips) for i, j in on_map.nonzero().tolist()]
    return iou([span], cells).max()


@pytest.fixture(scope="module")
def backbone(tiny_clip_folder):
    return load_backbone(f"local-dir:{tiny_clip_folder}", device="cpu")


@pytest.fixture(autouse=True)
def bare(request):
    yield
    if "backbone" in request.fixturenames:
        detach_adapters(request.getfixturevalue("backbone"))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Four videos of 6 s with a label each."""
    folder, videos, labels = tmp_path_factory.mktemp("world"), {}, []
    rng = np.random.default_rng(5)
    for vid in "abcd":
        scenes = rng.integers(0, 255, (6, 1, 6, 8, 3), np.uint8)
        frames = scenes.repeat(8, 2).repeat(8, 3).repeat(10, 1).reshape(60, 48, 64, 3)
        videos[vid] = encode_video(folder / f"{vid}.mp4", frames)
        about = {"qid": vid, "vid": vid, "query": "a red ball moves", "duration": 6.0}
        labels.append(Annotation(**about, relevant_windows=((1.0, 3.0),)))
    return videos, labels, folder / "features"


# ---- several heads that answer as one -----------------------------------------------------------


@torch.no_grad()
def test_members_differ_and_their_mean_answers():
    head, inputs = make("three regression"), make_inputs()
    said = [member(**inputs) for member in head.members]
    output = head(**inputs)
    for other in said[1:]:
        assert not torch.allclose(said[0].relevance, other.relevance, atol=1e-2)
    close(output.relevance, sum(one.relevance for one in said) / 3)
    close(output.presence, sum(one.presence for one in said) / 3)
    best = torch.stack([one.scores[:, 0] for one in said])
    close(output.scores[:, 0], best.max(dim=0).values)
    for row, member in enumerate(best.argmax(dim=0).tolist()):
        close(output.moments[row, 0], said[member].moments[row, 0])
    losses = [member.loss(member(**inputs, target=TARGET), Truth(target=TARGET))
              for member in head.members]  # fmt: skip
    for name, value in head.loss(head(**inputs, target=TARGET), Truth(target=TARGET)).items():
        close(value, sum(one[name] for one in losses) / 3)


# ---- choosing a kind ----------------------------------------------------------------------------


def test_the_command_line_names_all_kinds():
    shown = CliRunner().invoke(app, ["tune", "--help"]).output.replace("│", " ")
    assert "regression, map, span, set, windows, embedding, or pointing" in " ".join(shown.split())
    assert list(HEADS) == ["regression", "map", "span", "set", "windows", "embedding", "pointing"]


def test_the_command_line_trains_several(world, tiny_clip_folder, tmp_path):
    videos, labels, cache = world
    write_annotations(tmp_path / "labels.jsonl", labels)
    given = ["tune", str(tmp_path / "labels.jsonl"), "--videos", str(videos["a"].parent),
             "--backbone", f"local-dir:{tiny_clip_folder}", "--recipe", "head-only", "--steps", "1",
             "--cache", str(cache), "-o", str(tmp_path / "model")]  # fmt: skip
    done = CliRunner().invoke(app, [*given, "--members", "2"])
    assert done.exit_code == 0, done.output
    grounder = zsvg.load(tmp_path / "model")
    assert len(grounder.head.members) == 2
    assert grounder.manifest["head"]["kind"] == "regression"
    wrong = CliRunner().invoke(app, [*given, "--members", "0"])
    assert isinstance(wrong.exception, RecipeError)
    assert "members" in str(wrong.exception)


def test_a_recipe_chooses_and_an_option_overrides(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("head: {kind: map, scales: [32, 16], hidden: 32}")
    recipe = load_recipe(str(path))
    assert recipe.head.options == {"scales": [32, 16], "hidden": 32}
    head = make_head(recipe.head.kind, recipe.head.options | {"dim": 8})
    assert head.config.scales == (32, 16)
    assert recipe.with_head("map") is recipe
    assert recipe.with_head("set").head == HeadRecipe(kind="set")
    three = recipe.with_head("map", members=3).head
    assert three.options == recipe.head.options | {"members": 3}
    assert recipe.with_head("set", members=3).head.options == {"members": 3}
    with pytest.raises(RecipeError, match="unknown head 'dream'; choose one of regression, map"):
        recipe.with_head("dream")
    with pytest.raises(RecipeError, match="members"):
        recipe.with_head("map", members=0)
    path.write_text("head: {kind: span, scales: [32]}")
    with pytest.raises(RecipeError, match="scales: not a key of head span, which has dim"):
        load_recipe(str(path))


@pytest.mark.parametrize(
    ("kind", "values", "why"),
    [
        ("map", {"scales": (17,)}, "17 clips do not divide into the 2"),
        ("map", {"scales": ()}, "give 1 to 16 scales"),
        ("map", {"kernel": 4}, "an odd kernel, not 4"),
        ("map", {"low": 0.8, "high": 0.5}, "low 0.8 must be below high 0.5"),
        ("span", {"nms": 3}, "nms: Input should be less than or equal to 1, got 3"),
        ("set", {"queries": 3}, "queries 3 must be at least answers 5"),
        (
            "windows",
            {"lengths": (0.5, 2)},
            "lengths.1: Input should be less than or equal to 1, got 2",
        ),
        ("windows", {"overlap": 1}, "overlap: Input should be less than 1, got 1"),
    ],
)
def test_wrong_config_is_explained(kind, values, why):
    with pytest.raises(ValueError, match=why):
        make_head(kind, {"dim": 8, **values})


# ---- layers -------------------------------------------------------------------------------------


def test_long_videos_are_remembered_coarsely_each_by_its_own_length():
    x = torch.arange(10.0)[None, :, None].repeat(3, 1, 2)
    mask = torch.arange(10) < torch.tensor([[10], [7], [3]])
    assert coarse(x, mask, 10)[0] is x
    kept, real = coarse(x.masked_fill(~mask[..., None], 99.0), mask, 4)
    assert kept[..., 0].tolist() == [[1, 4, 7, 9], [0.5, 2.5, 4.5, 6], [0, 1, 2, 0]]
    assert real.tolist() == [[True] * 4, [True] * 4, [True, True, True, False]]


# ---- spans --------------------------------------------------------------------------------------


def random_spans(count, seed):
    return np.sort(np.random.default_rng(seed).random((count, 2)), axis=1)


def test_spans_overlap_as_moments_do():
    a, b = random_spans(30, 0), random_spans(20, 1)
    found = span_iou(torch.tensor(a)[:, None], torch.tensor(b))
    np.testing.assert_allclose(found.numpy(), iou(a, b), atol=1e-9)
    apart = generalised_iou(torch.tensor([0.0, 0.2]), torch.tensor([0.5, 0.6]))
    assert apart.item() == pytest.approx(-0.3 / 0.6)
    assert generalised_iou(torch.tensor([0.1, 0.4]), torch.tensor([0.1, 0.4])).item() == 1


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7])
def test_suppression_is_that_of_moments(threshold):
    spans = np.stack([random_spans(40, seed) for seed in (2, 3)])
    scores = np.random.default_rng(4).normal(size=(2, 40))
    index, exists = suppress(torch.tensor(spans), torch.tensor(scores), threshold, 40)
    for row in range(2):
        kept = index[row][exists[row]].tolist()
        assert kept == nms(spans[row], scores[row], threshold).tolist()
        assert exists[row].sort(descending=True).values.equal(exists[row])


def test_clips_take_their_share_of_a_span():
    mask = torch.tensor([[True, True, True, False]])
    edges = clip_edges(torch.tensor([[0.1, 0.3, 0.8, 0.0]]), mask)
    close(edges[0], torch.tensor([[0.0, 0.2], [0.2, 0.55], [0.55, 1.0], [1.0, 1.0]]))
    cover = coverage(torch.tensor([[0.1, 0.5], [0.0, 1.0], [-0.5, 0.5]]), edges)[0]
    close(cover[0], torch.tensor([0.25, 0.75, 0.0, 0.0]))
    close(cover[1], torch.tensor([0.2, 0.35, 0.45, 0.0]))
    assert cover[2].sum().item() == pytest.approx(0.5)  # half of it is before the video


def test_the_expected_iou_is_that_of_runs():
    torch.manual_seed(0)
    probability, mask = torch.rand(2, 30), torch.ones(2, 30, dtype=torch.bool)
    masks, expected, _ = find_runs(probability, mask, 4)
    edges = clip_edges(((torch.arange(30) + 0.5) / 30).expand(2, -1), mask)
    first = masks.int().argmax(-1) / 30
    spans = torch.stack((first, first + masks.sum(-1) / 30), -1)
    found = expected_iou(spans, probability, edges, coverage(spans, edges))
    real = masks.any(-1)
    torch.testing.assert_close(found[real], expected[real], atol=1e-4, rtol=1e-3)


def test_looking_at_a_span_sees_it_and_its_borders():
    edges = clip_edges(((torch.arange(8) + 0.5) / 8)[None], torch.ones(1, 8, dtype=torch.bool))
    x = torch.arange(8.0)[None, :, None]
    inside, start, end = look_at(torch.tensor([[[0.25, 0.75]]]), x, edges)[0, 0].tolist()
    assert (inside, start, end) == pytest.approx((3.5, 1.5, 5.5))


def test_borders_move_by_half_a_length_at_most():
    spans = torch.tensor([[0.2, 0.6]])
    close(shift(spans, torch.zeros(1, 2)), spans)
    close(shift(spans, torch.tensor([[-50.0, 50.0]])), torch.tensor([[0.0, 0.8]]))
    inward = shift(spans, torch.tensor([[50.0, -50.0]]))
    assert inward[0, 0] <= inward[0, 1] + 1e-6


def test_other_true_moments_are_neither_right_nor_wrong():
    shared = torch.tensor([0.9, 0.0, 0.0, 0.2])
    inside = torch.tensor([1.0, 0.1, 0.8, 0.5])
    assert certain(shared, inside).tolist() == [True, True, False, False]
    edges = clip_edges(((torch.arange(10) + 0.5) / 10).repeat(2, 1), torch.ones(2, 10).bool())
    inside = torch.zeros(2, 10, dtype=torch.bool)
    inside[0, 1:3] = inside[0, 5:7] = inside[1, 4] = True
    target = torch.tensor([[0.12, 0.28], [0.42, 0.44]])
    first, second = true_moments(target, inside, edges)
    close(first, torch.tensor([[0.12, 0.28], [0.5, 0.7]]))
    close(second, target[1:])


# Spans in tenths of a video whose one true moment is [2, 8]; only those of the second kind are
# neither right nor wrong: most of them is true, yet their IoU is 1/8 or 1/6.
JUDGED = [(2, 8), (2, 6), (0, 10), (0, 1), (8, 9), (0, 2)]
LEFT_OUT = [(2, 3), (4, 5), (7, 8), (0, 3), (7, 10)]


@pytest.mark.parametrize("kind", ["map", "windows", "embedding", "regression"])
def test_short_spans_inside_the_moment_take_no_part_in_what_is_meant(kind):
    about = {"map": {"scales": (10,), "dense": 10}, "windows": {"lengths": (0.1,), "overlap": 0}}
    head, inputs = make(kind, **about.get(kind, {})), rows(make_inputs(), slice(0, 1))
    target = torch.tensor([[0.2, 0.8]])
    output = head(**inputs, target=target)
    tenths = torch.tensor(JUDGED + LEFT_OUT)
    logits = torch.zeros(1, len(tenths), requires_grad=True)
    if kind == "regression":
        frames = torch.arange(40)
        masks = (frames >= 4 * tenths[:, :1]) & (frames < 4 * tenths[:, 1:])
        runs = Runs(masks=masks[None], logits=logits, fit=torch.zeros_like(logits))
        output = replace(output, runs=runs)
    elif kind == "map":
        where = [output.cells.mul(10).round().tolist().index([*span]) for span in tenths.tolist()]
        judged = torch.zeros(1, len(output.cells)).index_copy(1, torch.tensor(where), logits)
        output = replace(output, judged=judged)
    elif kind == "embedding":
        nothing = torch.zeros_like(logits)
        output = replace(output, spans=tenths / 10, judged=logits, fit=nothing)
    else:
        changed = {"windows": tenths / 10, "moved": (tenths / 10)[None], "judged": logits}
        output = replace(output, **changed)
    name = "map" if kind == "map" else "rank"
    head.loss(output, Truth(target=target))[name].backward()
    assert (logits.grad[0] != 0).tolist() == [True] * len(JUDGED) + [False] * len(LEFT_OUT)


# ---- map ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("clips", "dense"), [(16, 16), (64, 16), (128, 16), (32, 4), (1, 16)])
def test_sparse_cells_are_those_of_a_slow_reading(clips, dense):
    mask = sparse_cells(clips, dense)
    for first in range(clips):
        for last in range(clips):
            stride = 1
            while last - first + 1 > dense * stride:
                stride *= 2
            there = last >= first and first % stride == 0 and (last + 1) % stride == 0
            assert mask[first, last].item() == there


def test_sparse_cells_are_those_that_were_published():
    """2D-TAN, N = 64: k = ceil(log2(length / 8)), a mod s = 0, (b - s') mod s = 0."""
    mask = sparse_cells(64, 16)
    for a in range(64):
        for b in range(a, 64):
            k = max(1, int(np.ceil(np.log2((b - a + 1) / 8))))
            s, offset = 2 ** (k - 1), 0 if k == 1 else 2 ** (k + 2) - 1
            assert mask[a, b].item() == (a % s == 0 and (b - offset) % s == 0)


def test_the_map_is_the_maximum_from_first_to_last_clip():
    clips, mask = torch.randn(2, 3, 12), sparse_cells(12, 6)
    stacked = stack_clips(clips, mask)
    for first in range(12):
        for last in range(12):
            expected = torch.zeros(2, 3)
            if mask[first, last]:
                expected = clips[:, :, first : last + 1].amax(-1)
            assert torch.equal(stacked[:, :, first, last], expected)


def test_map_targets_are_those_of_a_slow_reading():
    grid = _Grid(16, 4)
    target, logits = torch.tensor([[0.21, 0.63]]), torch.randn(1, len(grid.spans))
    cells = [(i / 16, (j + 1) / 16) for i, j in sparse_cells(16, 4).nonzero().tolist()]
    np.testing.assert_allclose(grid.spans.numpy(), cells, atol=1e-6)
    expected = 0.0
    for (start, end), logit in zip(cells, logits[0].tolist(), strict=True):
        overlap = max(0.0, min(end, 0.63) - max(start, 0.21))
        shared = overlap / (end - start + 0.42 - overlap)
        wanted = min(max((shared - 0.5) / (1.0 - 0.5), 0.0), 1.0)
        p = 1 / (1 + np.exp(-logit))
        expected -= wanted * np.log(p) + (1 - wanted) * np.log(1 - p)
    shared = span_iou(grid.spans, target[:, None])
    found = scaled_iou_loss(logits, shared, torch.ones_like(shared).bool(), low=0.5, high=1.0)
    assert found.item() == pytest.approx(expected, rel=1e-4)


@torch.no_grad()
def test_a_masked_convolution_counts_what_it_sees():
    conv, mask = _MaskedConv(2, 3), sparse_cells(8, 4)
    conv.bias.normal_()
    x = torch.randn(1, 2, 8, 8)
    found = conv(x * mask, mask)
    for first, last in ((0, 0), (2, 4), (0, 7), (7, 7)):
        seen, count = torch.zeros(2), 0
        for i in range(max(first - 1, 0), min(first + 2, 8)):
            for j in range(max(last - 1, 0), min(last + 2, 8)):
                if mask[i, j]:
                    count += 1
                    seen += conv.conv.weight[:, :, i - first + 1, j - last + 1] @ x[0, :, i, j]
        mixed = seen * 9 / count + conv.bias[:, 0, 0]
        close(found[0, :, first, last], x[0, :, first, last] + torch.nn.functional.gelu(mixed))
    assert (found[0, :, ~mask] == 0).all()


# ---- span ---------------------------------------------------------------------------------------


@given(st.integers(1, 12), st.integers(0, 4), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_pairs_are_those_of_an_exhaustive_search(clips, padding, seed):
    torch.manual_seed(seed)
    opens, closes = torch.randn(2, 1, clips + padding)
    mask = torch.arange(clips + padding)[None] < clips
    every = {
        (s, e): (opens[0, s] + closes[0, e]).item() for s in range(clips) for e in range(s, clips)
    }
    pairs, scores = best_pairs(opens, closes, mask)
    best = scores.argmax().item()
    assert tuple(pairs[0, best].tolist()) == max(every, key=every.get)
    assert scores[0, best].item() == pytest.approx(max(every.values()), abs=1e-5)
    for (s, e), score in zip(pairs[0].tolist(), scores[0].tolist(), strict=True):
        assert score == -np.inf or score == pytest.approx(every[s, e], abs=1e-5)
    expected = np.log(np.sum(np.exp(list(every.values()))))
    assert all_pairs(opens, closes, mask).item() == pytest.approx(expected, abs=1e-4)


# ---- set ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 3), (4, 4), (2, 4), (6, 1)])
def test_matching_is_the_best_of_all(shape):
    for seed in range(20):
        cost = np.random.default_rng(seed).normal(size=shape)
        queries, moments = match(cost)
        few, many = sorted(shape)
        wide = cost if shape[0] == few else cost.T
        best = min(
            sum(wide[i, j] for i, j in enumerate(chosen))
            for chosen in permutations(range(many), few)
        )
        assert cost[queries, moments].sum() == pytest.approx(best)
        assert len(set(queries)) == len(set(moments)) == few


def test_all_true_moments_find_a_query():
    head, inputs = make("set", stir=0.0), make_inputs(lengths=(40,))
    inside = torch.zeros(1, 40, dtype=torch.bool)
    inside[:, 8:24] = inside[:, 30:36] = True
    output = head(**inputs, target=TARGET[:1])
    true = true_moments(TARGET[:1], inside, clip_edges(output.centres, output.frame_mask))
    chosen, moments = head._match(output.guesses[-1], output.exists, true)
    found = sorted(moments[chosen].tolist())
    assert found == [pytest.approx([0.2, 0.6]), pytest.approx([0.75, 0.9])]


# ---- windows ------------------------------------------------------------------------------------


def test_windows_cover_the_video_and_overlap():
    windows = np.array(sliding_windows((0.1, 0.25, 1.0), 0.8))
    for length in (0.1, 0.25, 1.0):
        chosen = windows[np.isclose(np.diff(windows, axis=1)[:, 0], length)]
        assert chosen[0, 0] == 0
        assert chosen[-1, 1] == pytest.approx(1)
        assert (np.diff(chosen[:, 0]) <= 0.2 * length + 1e-9).all()
    assert len(windows) == 46 + 16 + 1


def test_alignment_and_offset_losses_by_hand():
    fit = torch.tensor([[1.0, 2.0, -1.0], [0.5, 0.0, 3.0]])
    same = torch.tensor([[True, False, True], [False, True, False]])
    softplus = lambda x: np.log1p(np.exp(x))  # noqa: E731
    rows_ = [
        softplus(-1.0) + softplus(2.0),
        softplus(0.0) + (softplus(0.5) + softplus(3.0)) / 2,
    ]
    assert alignment_loss(fit, same).item() == pytest.approx(np.mean(rows_), rel=1e-5)
    moved = torch.tensor([[[0.1, 0.5], [0.0, 1.0]]])
    windows, right = torch.tensor([[0.0, 0.4], [0.0, 0.8]]), torch.tensor([[True, False]])
    # A quarter of a length off at the start: .25 - .05; the end is right.
    target = torch.tensor([[0.0, 0.5]])
    assert offset_loss(moved, target, windows, right).item() == pytest.approx(0.2, abs=1e-6)


# ---- embedding ----------------------------------------------------------------------------------


@torch.no_grad()
def test_spans_are_embedded_without_a_sentence():
    """What a library would keep of a video says how near any sentence is, before it is asked."""
    head, inputs = make("embedding", clips=12, dense=4), make_inputs()
    points = head.embed_video(inputs["frames"], inputs["frame_mask"], inputs["centres"])
    close(points.norm(dim=-1), torch.ones(points.shape[:2]))
    output = head(**inputs)
    close(torch.einsum("bsd,bd->bs", points, head.embed_sentence(inputs["pooled"])), output.fit)
    close(output.presence, output.fit[torch.arange(3), output.judged.argmax(-1)])


@torch.no_grad()
def test_an_untrained_span_is_its_mean_frame_less_half_of_the_video():
    torch.manual_seed(0)
    head = make_head("embedding", {"dim": 16, "hidden": 32, "clips": 4, "dense": 4}).eval()
    torch.nn.init.zeros_(head.embed[-1].weight)
    frames = torch.eye(16)[None, :4]
    points = head.embed_video(frames, torch.ones(1, 4).bool(), torch.tensor([[1, 3, 5, 7]]) / 8)
    place = head.spans.mul(4).tolist().index([1, 3])
    expected = torch.tensor([-1.0, 3.0, 3.0, -1.0]) / 20**0.5  # 1/2 - 1/8 inside, -1/8 outside
    close(points[0, place, :4], expected)


@torch.no_grad()
def test_relevance_is_how_probably_a_frame_lies_in_the_span_that_is_meant():
    head = make("embedding", clips=2, dense=2)
    output = head(**rows(make_inputs(), slice(0, 1)))
    assert output.spans.tolist() == [[0, 0.5], [0, 1], [0.5, 1]]
    first, both, second = output.judged.softmax(-1)[0]
    close(
        output.relevance[0], torch.cat([(first + both)[None]] * 20 + [(both + second)[None]] * 20)
    )
