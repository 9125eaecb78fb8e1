import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from zsvg.heads.encoder import Encoded, Truth
from zsvg.heads.losses import (
    attention_guidance_loss,
    contrast_loss,
    inside_loss,
    scaled_iou_loss,
    span_loss,
)
from zsvg.heads.regression import AttentionRegressionConfig, AttentionRegressionHead
from zsvg.heads.runs import RunFit, find_runs, overlap
from zsvg.moments import iou

pytestmark = pytest.mark.numeric

# ---- losses -------------------------------------------------------------------------------------


def test_losses_by_hand():
    moments, target = torch.tensor([[0.5, 0.55]]), torch.tensor([[0.2, 0.5]])
    # |0.3| - 0.05 outside the knee, 0.05^2 / (2 * 0.1) inside.
    assert span_loss(moments, target).item() == pytest.approx(0.25 + 0.0125, abs=1e-6)
    mask = torch.tensor([[True, True, True, True, False]])
    inside = torch.tensor([[False, True, True, False, False]])
    uniform = torch.zeros(1, 5)
    assert attention_guidance_loss(uniform, mask, inside).item() == pytest.approx(np.log(4))
    assert inside_loss(uniform, mask, inside).item() == pytest.approx(np.log(2))
    weight = torch.tensor([0.5])
    half = attention_guidance_loss(uniform, mask, inside, weight=weight).item()
    assert half == pytest.approx(np.log(4) / 2)


def test_padding_does_not_change_a_loss_or_its_gradient():
    logits = torch.randn(2, 6, requires_grad=True)
    inside = torch.zeros(2, 6, dtype=torch.bool)
    inside[:, 1:3] = True
    mask = torch.ones(2, 6, dtype=torch.bool)
    longer = torch.cat((logits, torch.full((2, 3), 50.0)), 1)
    more = torch.zeros(2, 3, dtype=torch.bool)
    for loss in (attention_guidance_loss, inside_loss):
        short = loss(logits, mask, inside)
        long = loss(longer, torch.cat((mask, more), 1), torch.cat((inside, more), 1))
        torch.testing.assert_close(short, long)
        assert torch.isfinite(torch.autograd.grad(long, logits, retain_graph=True)[0]).all()


# ---- attention regression -----------------------------------------------------------------------


def make_head(seed=0, **options):
    torch.manual_seed(seed)
    config = AttentionRegressionConfig(**({"dim": 16, "hidden": 32, "dropout": 0.0} | options))
    head = AttentionRegressionHead(config)
    with torch.no_grad():  # away from the near-zero start, so that every path matters
        for parameter in head.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return head.eval()


def make_inputs(lengths=(40, 23, 7), words=5, dim=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    count, longest = len(lengths), max(lengths)
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    centres = (torch.arange(longest) + 0.5) / torch.tensor(lengths)[:, None]

    def unit(*shape):
        values = torch.randn(*shape, dim, generator=generator)
        return torch.nn.functional.normalize(values, dim=-1)

    return {
        "frames": unit(count, longest) * mask[..., None],
        "frame_mask": mask,
        "centres": centres * mask,
        "tokens": unit(count, words),
        "token_mask": torch.arange(words) < torch.tensor([[words], [words - 1], [2]])[:count],
        "pooled": unit(count),
        "points": torch.stack((unit(count), unit(count)), 1),
    }


def rows(inputs, index):
    return {name: value[index] for name, value in inputs.items()}


def assert_same(first, second, length=None):
    torch.testing.assert_close(first.moments, second.moments, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(first.scores, second.scores, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        first.relevance[:, :length], second.relevance[:, :length], atol=1e-5, rtol=1e-4
    )


@torch.no_grad()
def test_shapes_ranges_and_order():
    head, inputs = make_head(), make_inputs()
    output = head(**inputs)
    assert output.moments.shape == (3, 5, 2)
    assert output.scores.shape == (3, 5)
    assert output.relevance.shape == (3, 40)
    assert ((output.moments >= 0) & (output.moments <= 1)).all()
    assert (output.moments[:, 0, 0] < output.moments[:, 0, 1]).all()
    assert (output.scores.diff(dim=1) <= 1e-9).all()
    assert (output.scores[:, 0] > 0).all()
    assert (output.relevance[~inputs["frame_mask"]] == 0).all()


@torch.no_grad()
def test_padding_never_changes_an_answer():
    head, inputs = make_head(), make_inputs()
    together = head(**inputs)
    for row, length in enumerate((40, 23, 7)):
        alone = rows(inputs, slice(row, row + 1))
        words = int(alone["token_mask"].sum())
        for name in ("frames", "frame_mask", "centres"):
            alone[name] = alone[name][:, :length]
        for name in ("tokens", "token_mask"):
            alone[name] = alone[name][:, :words]
        single = head(**alone)
        torch.testing.assert_close(single.moments[0], together.moments[row], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(single.scores[0], together.scores[row], atol=1e-5, rtol=1e-4)
        curve = together.relevance[row, :length]
        torch.testing.assert_close(single.relevance[0], curve, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_what_stands_in_padding_is_never_read():
    head, inputs = make_head(), make_inputs()
    dirty = dict(inputs)
    dirty["frames"] = inputs["frames"].masked_fill(~inputs["frame_mask"][..., None], float("nan"))
    dirty["centres"] = inputs["centres"].masked_fill(~inputs["frame_mask"], 7.0)
    assert_same(head(**inputs), head(**dirty))


@torch.no_grad()
def test_batch_order_does_not_matter():
    head, inputs = make_head(), make_inputs()
    order = torch.tensor([2, 0, 1])
    expected, output = head(**inputs), head(**rows(inputs, order))
    torch.testing.assert_close(output.moments, expected.moments[order], atol=1e-5, rtol=1e-4)


def test_padding_does_not_change_gradients():
    head, inputs = make_head(), make_inputs(lengths=(20,))
    target = torch.tensor([[0.2, 0.6]])
    gradients = []
    for extra in (0, 11):
        padded = dict(inputs)
        for name in ("frames", "frame_mask", "centres"):
            value = inputs[name]
            filler = torch.zeros(1, extra, *value.shape[2:], dtype=value.dtype)
            padded[name] = torch.cat((value, filler), 1)
        head.zero_grad()
        sum(head.loss(head(**padded, target=target), Truth(target=target)).values()).backward()
        gradients.append({n: p.grad.clone() for n, p in head.named_parameters()})
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value, atol=1e-5, rtol=1e-3)


def test_every_parameter_gets_a_gradient():
    head, inputs = make_head().train(), make_inputs()
    target = torch.tensor([[0.2, 0.6]]).expand(3, 2)
    sum(head.loss(head(**inputs, target=target), Truth(target=target)).values()).backward()
    # Several processes wait for the gradient of every parameter.
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("layers", [1, 3])
def test_very_short_videos(length, layers):
    inputs = make_inputs(lengths=(length,))
    output = make_head(layers=layers)(**inputs)
    assert torch.isfinite(output.moments).all()
    assert output.scores[0, 0] > 0
    assert (output.scores[0, length:] == 0).all()
    start, end = output.moments[0, 0]
    assert 0 <= start < end <= 1


@torch.no_grad()
def test_the_span_of_a_single_clip_video_is_all_of_it():
    torch.manual_seed(0)
    head = AttentionRegressionHead(AttentionRegressionConfig(dim=16, hidden=32)).eval()
    output = head(**make_inputs(lengths=(1,)))
    assert output.moments[0, 0].tolist() == pytest.approx([0, 1], abs=0.02)


@torch.no_grad()
def test_ten_thousand_frames():
    output = make_head()(**make_inputs(lengths=(10_000,)))
    assert output.relevance.shape == (1, 10_000)
    assert torch.isfinite(output.moments).all()


@torch.no_grad()
def test_bfloat16_stays_close():
    head, inputs = make_head(), make_inputs(lengths=(60, 60))
    expected = head(**inputs)
    with torch.autocast("cpu", torch.bfloat16):
        output = head(**inputs)
    assert output.moments.dtype == output.relevance.dtype == torch.float32
    assert (output.relevance - expected.relevance).abs().max() < 0.05
    half = {n: v.bfloat16() if v.is_floating_point() else v for n, v in inputs.items()}
    lowered = make_head().bfloat16()(**half)
    assert (lowered.relevance - expected.relevance).abs().max() < 0.2


@torch.no_grad()
def test_attention_that_is_uniform_gives_the_run_exactly():
    head = AttentionRegressionHead(AttentionRegressionConfig(dim=16, hidden=32)).eval()
    torch.nn.init.zeros_(head.refine[-1].weight)
    inputs = make_inputs(lengths=(40,))
    run = torch.zeros(1, 40, dtype=torch.bool)
    run[:, 8:24] = True
    seen = Encoded(
        x=torch.zeros(1, 40, 32),
        query=torch.zeros(1, 32),
        frames=inputs["frames"],
        pooled=inputs["pooled"],
        logits=torch.zeros(1, 40),
        frame_mask=inputs["frame_mask"],
        centres=inputs["centres"],
    )
    span = head._read(seen, run)
    assert span[0].tolist() == pytest.approx([0.2, 0.6], abs=1e-6)


def test_runs_are_ordered_by_how_many_thresholds_agree():
    probability = torch.full((2, 60), 0.02)
    probability[:, 5:12], probability[:, 30:42] = 0.5, 0.9
    probability[1, 45:] = 0.0
    mask = torch.ones(2, 60, dtype=torch.bool)
    mask[1, 45:] = False
    runs, expected, agreement = find_runs(probability, mask, 4)
    assert runs.shape == (2, 4, 60)
    for row in range(2):
        assert runs[row, 0].nonzero().flatten().tolist() == list(range(30, 42))
        assert runs[row, 1].nonzero().flatten().tolist() == list(range(5, 12))
        assert not runs[row, 2:].any()
    assert (agreement[:, 0] > agreement[:, 1]).all()
    assert (agreement[:, 2:] == 0).all()
    assert (expected[:, 2:] == 0).all()
    true = torch.zeros(2, 60, dtype=torch.bool)
    true[:, 30:40] = True
    assert overlap(runs, true)[:, :2].tolist() == [[pytest.approx(10 / 12), 0]] * 2


@given(hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(0.015625, 1, width=16)))
@settings(max_examples=80, deadline=None)
def test_runs_are_those_of_a_slow_reading(p):
    found = []
    for level in range(1, 10):
        start = None
        for index, value in enumerate([*np.float32(p), np.float32(-1)]):
            above = value >= np.float32(p).max() * np.float32(level / 10)
            if above and start is None:
                start = index
            elif not above and start is not None:
                found.append((start, index))
                start = None
    vote = iou(np.array(found), np.array(found)).mean(axis=1)
    runs, expected, agreement = find_runs(
        torch.from_numpy(p)[None], torch.ones(1, len(p), dtype=torch.bool), 10
    )
    (first, *others), votes = runs[0].int(), agreement[0].tolist()
    assert votes[0] == pytest.approx(vote.max(), abs=1e-5)
    assert votes == sorted(votes, reverse=True)
    spans = []
    for run in [first, *others]:
        if run.any():
            where = run.nonzero().flatten()
            spans.append((int(where[0]), int(where[-1]) + 1))
            assert spans[-1] in found
            inside = p[slice(*spans[-1])].sum()
            value = inside / (len(where) + p.sum() - inside)
            assert expected[0, len(spans) - 1].item() == pytest.approx(value, abs=1e-5)
    doubles = np.triu(iou(np.array(spans), np.array(spans)), 1)
    assert doubles.max(initial=0) <= 0.7 + 1e-6


def test_of_very_many_runs_the_longest_are_compared():
    probability = torch.zeros(1, 2000)
    probability[0, ::4] = 0.9
    probability[0, 1000:1003] = 0.9
    runs, _, _ = find_runs(probability, torch.ones(1, 2000, dtype=torch.bool), 3)
    assert runs[0, 0].nonzero().flatten().tolist() == [1000, 1001, 1002]


@torch.no_grad()
def test_a_run_is_judged_by_its_direction():
    """Something that goes one way and something that goes back have the same mean feature."""
    along, away = torch.eye(2, 8)
    share = torch.linspace(0, 1, 12)[:, None]
    there = (1 - share) * along + share * away
    frames = torch.cat((there, there.flip(0)))[None]
    runs = torch.zeros(1, 2, 24, dtype=torch.bool)
    runs[0, 0, :12] = runs[0, 1, 12:] = True
    fit = RunFit(8)
    for query, best in ((away, 0), (along, 1)):
        judged = fit(frames, query[None], runs, *torch.full((2, 1, 2), 0.5))
        assert judged.logits.argmax(1).item() == best
    fit.trend.zero_()
    judged = fit(frames, away[None], runs, *torch.full((2, 1, 2), 0.5))
    torch.testing.assert_close(judged.fit[0, 0], judged.fit[0, 1])


@torch.no_grad()
def test_presence_is_the_fit_of_the_run_that_is_answered():
    head, inputs = make_head(answers=1), make_inputs()
    output = head(**inputs)
    runs = output.runs
    for row in range(len(output.moments)):
        there = [i for i in range(runs.masks.shape[1]) if runs.masks[row, i].any()]
        best = max(there, key=lambda i: runs.logits[row, i])
        score = runs.logits[row, best].sigmoid()
        torch.testing.assert_close(output.scores[row, 0], score)
        assert output.presence[row] == runs.fit[row, best]


def test_rank_and_contrast_losses_by_hand():
    logits, both = torch.zeros(1, 2), torch.tensor([[True, True]])
    # IoU .5 is half way between what counts for nothing and for everything.
    assert scaled_iou_loss(logits, torch.tensor([[0.5, 0.0]]), both).item() == pytest.approx(
        2 * np.log(2)
    )
    first = torch.tensor([[True, False]])
    assert scaled_iou_loss(logits + 20, torch.tensor([[0.8, 0.0]]), first).item() < 1e-6
    query, scale = torch.eye(2, 4), torch.tensor(3.0, requires_grad=True)
    others = torch.tensor([[0.0, -torch.inf], [-torch.inf, -torch.inf]])
    loss = contrast_loss(query, query, others, scale)
    expected = (np.log(np.exp(3) + 2) + np.log(np.exp(3) + 1)) / 2 - 3
    assert loss.item() == pytest.approx(expected, abs=1e-5)
    assert torch.isfinite(torch.autograd.grad(loss, scale)[0])
    # The same query twice: its runs are both right.
    twice = query[[0, 0]]
    nothing = torch.full((2, 1), -torch.inf)
    assert contrast_loss(twice, twice, nothing, scale).item() == pytest.approx(0)


def test_wrong_config_is_explained():
    with pytest.raises(ValueError, match="multiple"):
        AttentionRegressionConfig(dim=8, hidden=30, attention_heads=4)
    with pytest.raises(ValueError, match="dropout"):
        AttentionRegressionConfig(dim=8, dropout=1.0)


# ---- learning -----------------------------------------------------------------------------------

CONCEPTS, WIDTH = 12, 32


def synthetic(count, seed, noise=0.1, clips=(30, 50)):
    """Videos of three noisy runs, each of one concept; the query's tokens name one of them.

    Words lie away from the frames of their concept, as CLIP's do, so that the head has to learn.
    """
    world = np.random.default_rng(123)
    concepts, accents = world.normal(size=(2, CONCEPTS, WIDTH)) / np.sqrt(WIDTH)
    common = world.normal(size=WIDTH) / np.sqrt(WIDTH)
    rng = np.random.default_rng(seed)
    items = []
    for _ in range(count):
        length = int(rng.integers(*clips))
        cuts = np.sort(rng.choice(np.arange(2, length - 1), 6, replace=False)).reshape(3, 2)
        chosen = rng.choice(CONCEPTS, 3, replace=False)
        frames = common + rng.normal(size=(length, WIDTH)) * noise
        for (first, last), concept in zip(cuts, chosen, strict=True):
            frames[first:last] += 0.8 * concepts[concept]
        which = int(rng.integers(3))
        text = 0.6 * concepts[chosen[which]] + 0.6 * accents[chosen[which]]
        items.append((frames, text, cuts[which] / length))
    return items


def batch(items):
    lengths = [len(frames) for frames, _, _ in items]
    inputs = make_inputs(lengths=lengths, dim=WIDTH, words=3)
    frames = torch.nn.utils.rnn.pad_sequence(
        [torch.from_numpy(f).float() for f, _, _ in items], batch_first=True
    )
    unit = torch.nn.functional.normalize
    pooled = unit(torch.tensor(np.array([text for _, text, _ in items])).float(), dim=-1)
    inputs |= {
        "frames": unit(frames, dim=-1),
        "pooled": pooled,
        "tokens": pooled[:, None].repeat(1, 3, 1),
        "points": pooled[:, None].repeat(1, 2, 1),
        "token_mask": torch.ones(len(items), 3, dtype=torch.bool),
    }
    return inputs, torch.tensor(np.array([span for _, _, span in items])).float()


def fit(items, steps, rate=4e-3):
    torch.manual_seed(0)
    head = AttentionRegressionHead(AttentionRegressionConfig(dim=WIDTH, hidden=48)).train()
    optimizer = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=0.01)
    rng = np.random.default_rng(0)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 20, 2 * (1 - step / steps))
        inputs, target = batch([items[i] for i in rng.permutation(len(items))[:16]])
        optimizer.zero_grad()
        sum(head.loss(head(**inputs, target=target), Truth(target=target)).values()).backward()
        optimizer.step()
    return head.eval()


@torch.no_grad()
def mean_iou(head, items):
    inputs, target = batch(items)
    answers = head(**inputs).moments[:, 0].double().numpy()
    pairs = zip(answers, target.double().numpy(), strict=True)
    return float(np.mean([iou(a[None], t[None])[0, 0] for a, t in pairs]))


def test_the_head_learns_eight_videos_by_heart():
    items = synthetic(8, seed=1, noise=0.2)
    assert mean_iou(fit(items, 60), items) > 0.9


def test_the_head_generalises_from_three_hundred_samples():
    head = fit(synthetic(300, seed=1), 100)
    score = mean_iou(head, synthetic(100, seed=2))
    assert score > 0.9, score


def test_weights_survive_a_state_dict():
    head = make_head()
    again = AttentionRegressionHead(head.config)
    again.load_state_dict(head.state_dict())
    inputs = make_inputs()
    assert torch.equal(head(**inputs).moments, again.eval()(**inputs).moments)
