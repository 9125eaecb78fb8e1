import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_training import Interrupted, coop, make_examples, make_network, snapshot

from zsvg.backbones.clip import load_backbone
from zsvg.errors import RecipeError
from zsvg.moments import iou
from zsvg.training.batches import drawn_between
from zsvg.training.denoising import LEAST_DOUBT, denoised, describe_round, noise_weights, refined
from zsvg.training.examples import collate
from zsvg.training.loop import train
from zsvg.training.options import History, Training, TrainingOptions
from zsvg.training.recipes import Recipe, load_recipe

pytestmark = pytest.mark.numeric

UNIT = st.floats(0, 1)
PAIRS = st.lists(st.tuples(UNIT, UNIT), min_size=1, max_size=12)
WINDOW = st.tuples(st.floats(0, 50), st.floats(0.5, 50)).map(lambda w: (w[0], w[0] + w[1]))
ANSWERS = st.lists(st.tuples(WINDOW, UNIT), min_size=1, max_size=6)


# ---- formulas -----------------------------------------------------------------------------------


def test_weights_equal_a_hand_computation():
    # a = 1 / (1 - IoU): 2, 1, 5 with mean 8 / 3; b = 1 / (1 - score): 1, 2, 4 with mean 7 / 3.
    expected = [
        0.75 * 2 / (8 / 3) + 0.25 * 1 / (7 / 3),
        0.75 * 1 / (8 / 3) + 0.25 * 2 / (7 / 3),
        0.75 * 5 / (8 / 3) + 0.25 * 4 / (7 / 3),
    ]
    np.testing.assert_allclose(noise_weights([0.5, 0.0, 0.8], [0.0, 0.5, 0.75]), expected)


@given(PAIRS, UNIT)
def test_weights_are_bounded_and_have_the_mean_one(pairs, alpha):
    overlap, score = np.array(pairs).T
    weights = noise_weights(overlap, score, alpha)
    assert weights.mean() == pytest.approx(1)
    assert weights.min() > 0
    assert weights.max() <= weights.min() / LEAST_DOUBT * (1 + 1e-9)


@given(PAIRS, st.floats(0, 0.89))
def test_a_label_weighs_more_the_better_the_answer_agrees(pairs, worse):
    overlap, score = np.array([*pairs, (worse, 0.5), (0.9, 0.5)]).T
    weights = noise_weights(overlap, score)
    assert weights[-2] < weights[-1]


def test_weights_of_nonsense_are_refused():
    for overlap, score in (([], []), ([0.1], [0.1, 0.2]), ([1.1], [0.5]), ([np.nan], [0.5])):
        with pytest.raises(ValueError, match="overlaps"):
            noise_weights(overlap, score)


def test_refinement_equals_a_hand_computation():
    candidates = [[0.0, 9.0], [20.0, 30.0]]
    # Answer 0: .75 * .9 + .25 s; the label: .75 + .25 * s of answer 0, so it never moves there.
    assert refined([0.0, 10.0], candidates, [0.9, 0.1]).tolist() == [0.0, 10.0]
    # Label [0, 10], nearest [0, 9.5] with score .2: .8. [0.5, 10] with score 1: .75 * .95 + .25.
    near = [[0.0, 9.6], [0.5, 10.0]]
    assert refined([0.0, 10.0], near, [0.2, 1.0]).tolist() == [0.5, 10.0]
    assert refined([0.0, 10.0], near, [0.9, 1.0]).tolist() == [0.0, 10.0]
    # Nothing overlaps the label: it has no score. .25 * 1 < .75, but .75 * 1 > .25.
    far = [[20.0, 30.0]]
    assert refined([0.0, 10.0], far, [1.0]).tolist() == [0.0, 10.0]
    assert refined([0.0, 10.0], far, [1.0], beta=0.25).tolist() == [20.0, 30.0]
    assert refined([0.0, 10.0], np.zeros((0, 2)), []).tolist() == [0.0, 10.0]


@given(WINDOW, ANSWERS)
def test_refinement_keeps_the_label_at_one_and_takes_the_best_answer_at_zero(label, answers):
    candidates, scores = [window for window, _ in answers], [score for _, score in answers]
    assert iou([refined(label, candidates, scores, beta=1)], [label])[0, 0] == pytest.approx(1)
    best = candidates[int(np.argmax(scores))]
    assert tuple(refined(label, candidates, scores, beta=0)) == best


@given(WINDOW, ANSWERS, UNIT)
def test_refinement_gives_the_best_of_label_and_answers(label, answers, beta):
    candidates, scores = [window for window, _ in answers], [score for _, score in answers]
    overlap = iou([label], candidates)[0]
    own = scores[int(overlap.argmax())] if overlap.max() > 0 else 0.0
    merits = {label: beta + (1 - beta) * own}
    for window, o, score in zip(candidates, overlap, scores, strict=True):
        merits[window] = max(merits.get(window, 0.0), beta * o + (1 - beta) * score)
    chosen = tuple(refined(label, candidates, scores, beta))
    assert merits[chosen] == pytest.approx(max(merits.values()))


# ---- rounds -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def backbone(tiny_clip_folder):
    return load_backbone(f"local-dir:{tiny_clip_folder}", device="cpu")


def test_a_round_handles_several_windows_missing_answers_and_own_weights(backbone):
    examples = make_examples(backbone, count=3)
    span = np.array([e.windows[0] / e.duration for e in examples])
    examples[1] = replace(examples[1], windows=np.array([[0.0, 0.5], [1.0, 2.0]]))
    moments = np.stack((span, span + 0.01), 1).astype(np.float32)
    moments[2, 0] = 0.5  # empty
    scores = np.array([[0.9, 0.8], [0.9, 0.8], [0.9, 0.0]], np.float32)
    examples = [replace(e, weight=w) for e, w in zip(examples, (0.5, 1.5, 1.0), strict=True)]
    # Earlier rounds have moved the first window and changed the weights.
    earlier = [replace(e, weight=1.0) for e in examples]
    shift = 0.01 * examples[0].duration
    earlier[0] = replace(earlier[0], windows=examples[0].windows + shift)
    after = denoised(earlier, examples, moments, scores, move=True, weigh=True)
    assert after[1].windows is examples[1].windows
    assert after[2].windows.tolist() == examples[2].windows.tolist()
    overlap = [1.0, iou(span[1:2] * examples[1].duration, examples[1].windows).max(), 0.0]
    expected = np.array([0.5, 1.5, 1.0]) * noise_weights(overlap, [0.9, 0.9, 0.0])
    weights = [example.weight for example in after]
    np.testing.assert_allclose(weights, expected / expected.mean(), rtol=1e-5)
    np.testing.assert_allclose(after[0].windows, examples[0].windows, rtol=1e-6)
    summary = describe_round(earlier, after)
    assert summary["label_iou"] == pytest.approx((((2 - shift) / (2 + shift)) + 2) / 3)
    assert summary["effective_share"] == pytest.approx(9 / (3 * np.square(weights).sum()))


def plant(examples, share=0.3):
    """Shift the windows of a share of the examples to where nothing of theirs is."""
    wrong = np.arange(len(examples)) < round(share * len(examples))
    planted = []
    for example, is_wrong in zip(examples, wrong, strict=True):
        start, end = example.windows[0]
        room = example.duration - end
        shifted = [end, end + min(2.0, room)] if room >= start else [max(0.0, start - 2), start]
        windows = np.array([shifted]) if is_wrong else example.windows
        planted.append(replace(example, windows=windows, weight=1.0))
    return planted, wrong


PLANTED = TrainingOptions(
    steps=44, batch_size=8, warmup=2, validate_every=100, checkpoint_every=4, seed=3,
    crop_rate=0.5, concatenate_rate=0.5, denoise="both", denoise_from=36, denoise_every=4,
    head_learning_rate=1e-3, average=0.0,
)  # fmt: skip


def run(backbone, examples, options, folder, *, prompts=None, stop_after=None):
    def interrupt(step, loss):
        if step == stop_after:
            raise Interrupted

    network = make_network(backbone, prompts)
    try:
        history = train(network, examples, (), options, folder, interrupt)
        return snapshot(network), history
    finally:
        network.release()


def kept_labels(folder):
    """Windows and weights (n, 3) of the folder's checkpoint."""
    return np.array(json.loads((folder / "checkpoint.json").read_text())["progress"]["labels"])


def test_wrong_labels_weigh_less_and_windows_only_move_to_answers(backbone, tmp_path):
    examples, wrong = plant(make_examples(backbone, count=30))
    original = np.array([e.windows[0] for e in examples])
    network = make_network(backbone)
    texts = {e.query: backbone.tokenize([e.query])[0] for e in examples}
    answers = {}

    def look(step, loss):
        """Ask the network itself what it answers when a round is due."""
        if step in (36, 40):
            network.eval()
            with torch.no_grad():
                parts = [examples[i : i + 8] for i in range(0, 30, 8)]
                batches = [collate([(e, 0) for e in p], texts, torch.device("cpu")) for p in parts]
                found = [row for batch in batches for row in network(batch).moments.numpy()]
            answers[step] = [
                row.astype(np.float64) * e.duration for row, e in zip(found, examples, strict=True)
            ]
            answers[f"labels {step}"] = kept_labels(tmp_path)

    history = train(network, examples, (), PLANTED, tmp_path, look)
    assert [entry["step"] for entry in history.rounds] == [36, 40]
    after_first, after_second = answers["labels 36"], answers["labels 40"]
    for labels in (after_first, after_second):
        weights = labels[:, 2]
        assert weights.mean() == pytest.approx(1)
        assert weights[wrong].mean() < 0.5 * weights[~wrong].mean()
    for before, after, rows in (
        (original, after_first, answers[36]),
        (after_first[:, :2], after_second, answers[40]),
    ):
        moved = ~(before == after[:, :2]).all(1)
        for i in np.flatnonzero(moved):
            assert np.abs(rows[i] - after[i, :2]).max(1).min() < 1e-4
    assert (after_second[:, :2] != original).any()
    assert 0.2 < history.rounds[0]["label_iou"] < 1
    assert 0 < history.rounds[0]["effective_share"] < 1
    np.testing.assert_array_equal(kept_labels(tmp_path), after_second)
    assert History.from_json(history.to_json()).rounds == history.rounds


@pytest.mark.parametrize("prompted", [False, True])
@pytest.mark.parametrize("stop_after", [5, 7])
def test_a_run_killed_around_a_round_ends_with_the_same_bytes(
    backbone, tmp_path, prompted, stop_after
):
    examples, _ = plant(make_examples(backbone))
    options = replace(
        PLANTED, steps=9, batch_size=4, checkpoint_every=2, denoise_from=4, denoise_every=2
    )
    prompts = coop(backbone) if prompted else None
    expected, whole = run(backbone, examples, options, tmp_path / "whole", prompts=prompts)
    with pytest.raises(Interrupted):
        run(backbone, examples, options, tmp_path / "cut", prompts=prompts, stop_after=stop_after)
    weights, history = run(backbone, examples, options, tmp_path / "cut", prompts=prompts)
    assert history.resumed_at == stop_after - 1
    assert [entry["step"] for entry in history.rounds] == [4, 6, 8]
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert history.to_json() == whole.to_json()
    for path in (tmp_path / "whole").iterdir():
        assert (tmp_path / "cut" / path.name).read_bytes() == path.read_bytes()


def test_each_kind_of_denoising_changes_what_it_says(backbone, tmp_path):
    examples, _ = plant(make_examples(backbone))
    original = np.array([e.windows[0] for e in examples])
    options = replace(PLANTED, steps=12, batch_size=4, denoise_from=11)
    for kind in ("no", "weights", "labels"):
        _, history = run(backbone, examples, replace(options, denoise=kind), tmp_path / kind)
        assert len(history.rounds) == (kind != "no")
    weighed, moved = kept_labels(tmp_path / "weights"), kept_labels(tmp_path / "labels")
    np.testing.assert_array_equal(weighed[:, :2], original)
    assert weighed[:, 2].std() > 0
    assert (moved[:, :2] != original).any()
    assert (moved[:, 2] == 1).all()


def test_no_denoising_is_the_run_that_was_before_there_was_any(backbone, tmp_path):
    examples, _ = plant(make_examples(backbone))
    plain = TrainingOptions(
        steps=6, batch_size=4, warmup=2, checkpoint_every=2, seed=3, denoise="no"
    )
    idle = replace(plain, denoise="no", denoise_from=2, denoise_every=1)
    late = replace(plain, denoise="both", denoise_from=5, denoise_every=9)
    expected, history = run(backbone, examples, plain, tmp_path / "plain")
    same, _ = run(backbone, examples, idle, tmp_path / "idle")
    assert all(torch.equal(same[name], expected[name]) for name in expected)
    assert "rounds" not in history.to_json()
    progress = json.loads((tmp_path / "plain" / "checkpoint.json").read_text())["progress"]
    assert not {"rounds", "labels"} & progress.keys()
    # Steps before the first round are those of a run without; the one after it is not.
    weights, denoised_history = run(backbone, examples, late, tmp_path / "late")
    assert denoised_history.losses[:5] == history.losses[:5]
    assert denoised_history.losses[5] != history.losses[5]
    assert not all(torch.equal(weights[name], expected[name]) for name in expected)


def test_a_round_judges_what_is_drawn_until_the_next(backbone, tmp_path):
    examples, _ = plant(make_examples(backbone, count=30))
    options = replace(PLANTED, steps=12, batch_size=4, denoise_from=8, denoise_every=2)
    stream = [drawn_between(30, options, step, step + 1) for step in range(12)]
    assert all(len(set(some)) == 4 for some in stream)
    assert len({index for some in stream[:7] for index in some}) == 28  # an epoch has each once
    run(backbone, examples, options, tmp_path)
    judged = {index for some in stream[10:] for index in some}
    weights = kept_labels(tmp_path)[:, 2]
    assert {index for index in range(30) if weights[index] != 1} == judged


def test_the_last_round_judges_all_that_is_drawn_after_it(backbone, tmp_path):
    examples, _ = plant(make_examples(backbone, count=30))
    options = replace(PLANTED, steps=12, batch_size=4, denoise_from=6, denoise_every=4)
    # As of recipes whose visual prompts join after 7 steps, from when on there are no rounds.
    rounds = [step for step in range(13) if options.round_after(step, visual=False)]
    assert rounds == [6, 10]
    visual = replace(options, visual_share=5 / 12)
    assert [step for step in range(13) if visual.round_after(step, visual=True)] == [6]
    run(backbone, examples, options, tmp_path)
    judged = set(drawn_between(30, options, 10, 12))
    assert {n for n, weight in enumerate(kept_labels(tmp_path)[:, 2]) if weight != 1} == judged


def test_labels_without_weight_stay_so(backbone):
    examples = [replace(e, weight=0.0) for e in make_examples(backbone, count=4)]
    true = [replace(e, doubtful=False) for e in make_examples(backbone, count=2, seed=3)]
    moments = np.tile([[[0.1, 0.3]]], (6, 1, 1))
    mixed = [*examples, *true]
    after = denoised(mixed, mixed, moments, np.full((6, 1), 0.9), move=False, weigh=True)
    assert [example.weight for example in after] == [example.weight for example in mixed]


# ---- options ------------------------------------------------------------------------------------


def test_rounds_come_when_the_options_say():
    options = TrainingOptions(steps=100, denoise="both", denoise_every=20)
    assert [n for n in range(101) if options.round_after(n)] == [50, 70, 90]
    own = replace(options, denoise_from=95)
    assert [n for n in range(101) if own.round_after(n)] == [95]
    assert not any(replace(own, denoise="no").round_after(n) for n in range(101))
    for change in (
        {"denoise": "some"},
        {"denoise_from": 0},
        {"denoise_from": 100},
        {"denoise_every": 0},
    ):
        with pytest.raises(ValueError, match=next(iter(change))):
            replace(options, **change)


def test_true_labels_are_not_doubted(backbone, tmp_path):
    pseudo = make_examples(backbone, count=8)
    true = [replace(example, doubtful=False) for example in make_examples(backbone, 8, seed=3)]
    options = replace(
        PLANTED, steps=6, batch_size=4, denoise="both", denoise_from=2, denoise_every=2
    )
    _, history = run(backbone, true, options, tmp_path / "true")
    _, trusting = run(backbone, true, replace(options, denoise="no"), tmp_path / "no")
    assert not history.rounds
    assert history.losses == trusting.losses
    moments = np.tile([[[0.1, 0.3]]], (16, 1, 1))
    mixed = [*true, *pseudo]
    after = denoised(mixed, mixed, moments, np.full((16, 1), 0.9), move=True, weigh=True)
    for old, new in zip(mixed[:8], after[:8], strict=True):
        assert new.weight == old.weight
        assert (new.windows == old.windows).all()
    assert any((o.windows != n.windows).any() for o, n in zip(mixed[8:], after[8:], strict=True))
    assert sum(e.weight for e in after) == pytest.approx(sum(e.weight for e in mixed))


def test_recipes_take_the_keys_and_name_mistakes(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("training: {steps: 80, denoise: both, denoise_from: 30, denoise_every: 10}")
    recipe = load_recipe(str(path))

    options = recipe.training_options()
    assert [n for n in range(81) if options.round_after(n)] == [30, 40, 50, 60, 70, 80]
    assert Recipe.model_validate(recipe.model_dump()) == recipe
    path.write_text("training: {denoise: no}")  # YAML's false
    assert load_recipe(str(path)).training == Training(denoise="no")
    path.write_text("training: {denoise: often}")
    with pytest.raises(RecipeError, match=r"training\.denoise"):
        load_recipe(str(path))
    with pytest.raises(RecipeError, match="recipe mine: training: denoise_from 30"):
        recipe.with_training(steps=9)
