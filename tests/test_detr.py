"""The head `set` matches and judges moments as Moment-DETR does (Lei et al., NeurIPS 2021).

Worked by hand, and against what the authors' own code returned for random inputs. Of their losses
the saliency is not here: frames of `set` learn as those of every head.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zsvg.heads.losses import set_loss
from zsvg.heads.set import Guess, SetConfig, SetHead
from zsvg.heads.span_arithmetic import generalised_iou

pytestmark = pytest.mark.numeric


def spans_of(centre_length: torch.Tensor) -> torch.Tensor:
    centre, length = centre_length.unbind(-1)
    return torch.stack((centre - length / 2, centre + length / 2), -1)


def matched(guess: Guess, true: list[torch.Tensor], **weights: float):
    head = SetHead(SetConfig(dim=16, **weights))
    exists = torch.ones_like(guess.logits, dtype=torch.bool)
    return (*head._match(guess, exists, true), exists)


def test_matching_by_hand():
    # One moment, and two queries off by .2: the first at its end, so by .1 in centre and .2 in
    # length, the second in centre alone.
    true = [torch.tensor([[0.4, 0.6]])]
    guess = Guess(torch.tensor([[[0.4, 0.8], [0.6, 0.8]]]), torch.zeros(1, 2))
    for spans, overlaps, best in ((1.0, 0.0, 1), (0.0, 1.0, 0), (1.0, 0.1, 1), (1.0, 1.0, 0)):
        # .3 and .2 of L1; generalised IoU .5 and 0.
        chosen, moments, _ = matched(guess, true, span_weight=spans, iou_weight=overlaps)
        assert chosen[0].nonzero().tolist() == [[best]]
        assert moments[0, best].tolist() == pytest.approx([0.4, 0.6])
    # A query that is surer by .5 is worth .5 of class.
    sure = Guess(guess.spans, torch.tensor([[-50.0, 0.0]]))
    weights = {"span_weight": 0.0, "iou_weight": 1.0}
    assert matched(sure, true, **weights, class_weight=0.9)[0].tolist() == [[True, False]]
    assert matched(sure, true, **weights, class_weight=1.1)[0].tolist() == [[False, True]]


def test_losses_by_hand():
    # Two samples of three queries: two moments, and one beside a query that does not take part.
    spans = torch.tensor(
        [[[0.2, 0.4], [0.0, 1.0], [0.0, 0.2]], [[0.5, 0.7], [0.0, 0.1], [0.0, 0.1]]]
    )
    moments = torch.tensor(
        [[[0.3, 0.4], [0.0, 1.0], [0.0, 0.0]], [[0.6, 0.8], [0.0, 0.0], [0.0, 0.0]]]
    )
    chosen = torch.tensor([[True, True, False], [True, False, False]])
    exists = torch.tensor([[True, True, True], [True, True, False]])
    given = (spans, torch.zeros(2, 3), chosen, moments, exists)
    losses = set_loss(*given, background=0.1)
    # Centre and length are off by .05 and .1, by nothing, by .1 and 0: their means, over 3 pairs.
    assert losses["span"].item() == pytest.approx((0.075 + 0 + 0.05) / 3)
    assert losses["overlap"].item() == pytest.approx((0.5 + 0 + 2 / 3) / 3)
    # A mean over the queries, not over what they weigh.
    first, second = np.log(2) * 2.1 / 3, np.log(2) * 1.1 / 2
    assert losses["class"].item() == pytest.approx((first + second) / 2)
    weighted = set_loss(*given, background=0.1, weight=torch.tensor([0.0, 2.0]))
    assert weighted["span"].item() == pytest.approx(2 * 0.05 / 3)
    assert weighted["class"].item() == pytest.approx(second)


def test_generalised_iou_by_hand():
    one = torch.tensor([0.2, 0.4])
    for other, expected in (([0.3, 0.5], 1 / 3), ([0.6, 0.8], -1 / 3), ([0.2, 0.4], 1.0)):
        assert generalised_iou(one, torch.tensor(other)).item() == pytest.approx(expected, abs=1e-6)


@pytest.fixture(scope="module")
def expected(data_folder):
    def read(name: str) -> dict[str, np.ndarray]:
        return dict(np.load(data_folder / "expected" / f"{name}.npz", allow_pickle=False))

    return read


def test_generalised_iou_is_theirs(expected):
    their = expected("detr_giou")
    a, b = torch.tensor(their["spans_a"]), torch.tensor(their["spans_b"])
    np.testing.assert_allclose(generalised_iou(a, b), their["giou"], atol=1e-6)
    square = generalised_iou(a[:40, None], b[None, :40])
    np.testing.assert_allclose(square, their["giou_40"], atol=1e-6)


def test_matching_is_theirs(expected):
    their, ties = expected("detr_matching"), 0
    for case in range(500):
        if their["gap"][case] < 1e-5:
            ties += 1  # another assignment is as cheap, and either is right
            continue
        rows = slice(*their["targets_start"][case : case + 2])
        logits = torch.tensor(their["pred_logits"][case])
        spans = spans_of(torch.tensor(their["pred_spans"][case]))
        windows = spans_of(torch.tensor(their["targets"][rows]))
        span, overlap, label = map(float, their["cost_span_giou_class"][case])
        chosen, moments, _ = matched(
            Guess(spans[None], (logits[:, 0] - logits[:, 1])[None]), [windows],
            span_weight=span, iou_weight=overlap, class_weight=label,
        )  # fmt: skip
        queries = their["query_index"][rows].astype(int)
        assert chosen[0].nonzero().squeeze(-1).tolist() == queries.tolist(), case
        np.testing.assert_array_equal(
            moments[0, queries], windows[their["target_index"][rows].astype(int)]
        )
    assert ties == 3


def test_losses_and_gradients_are_theirs(expected):
    their = expected("detr_losses")
    starts = their["targets_start"]
    for case in range(60):
        places = torch.tensor(their["pred_spans"][case], requires_grad=True)
        logits = torch.tensor(their["pred_logits"][case], requires_grad=True)
        true = [
            spans_of(torch.tensor(their["targets"][starts[item] : starts[item + 1]]))
            for item in range(3 * case, 3 * case + 3)
        ]
        guess = Guess(spans_of(places), logits[..., 0] - logits[..., 1])
        chosen, moments, exists = matched(guess, true)
        losses = set_loss(*guess, chosen, moments, exists, background=0.1)
        terms = [losses["span"], losses["overlap"], losses["class"]]
        values = [term.item() for term in terms]
        np.testing.assert_allclose(values, their["losses"][case, :3], atol=1e-6, err_msg=str(case))
        sum(weight * term for weight, term in zip((10, 1, 4), terms, strict=True)).backward()
        np.testing.assert_allclose(places.grad, their["grad_spans"][case], atol=2e-6)
        np.testing.assert_allclose(logits.grad, their["grad_logits"][case], atol=1e-6)
