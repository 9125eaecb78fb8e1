"""Trained heads on long videos: windows, and what is put together from them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zsvg.backbones.base import TextStates
from zsvg.heads.long_videos import WINDOW, answer_video
from zsvg.heads.regression import AttentionRegressionConfig, AttentionRegressionHead
from zsvg.moments import mask_to_spans

pytestmark = pytest.mark.numeric


def a_video(clips, width=16, seed=0):
    """Features (T, D) of unit length and borders of half-second clips, the last one shorter."""
    rows = np.random.default_rng(seed).normal(size=(clips, width)).astype(np.float32)
    edges = np.arange(clips + 1) / 2.0
    edges[-1] -= 0.2
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), edges


def a_sentence(width=16, words=4):
    tokens = torch.nn.functional.normalize(torch.ones(1, words, width), dim=-1)
    mask = torch.ones(1, words, dtype=torch.bool)
    return TextStates(pooled=tokens[:, 0], tokens=tokens, mask=mask)


def a_head(width=16):
    torch.manual_seed(0)
    head = AttentionRegressionHead(AttentionRegressionConfig(dim=width, hidden=32))
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return head.eval()


class Reader:
    """A head that finds every run of clips whose first feature is positive, the longest first.

    It keeps the sizes of what it was shown.
    """

    def __init__(self):
        self.sizes = []

    def __call__(
        self, frames, frame_mask, centres, tokens, token_mask, pooled, points, *, target=None
    ):
        self.sizes.append(tuple(frames.shape[:2]))
        count, clips = centres.shape
        moments, scores = torch.zeros(count, clips, 2), torch.zeros(count, clips)
        for row in range(count):
            spans = mask_to_spans(frames[row, :, 0] > 0, np.arange(clips + 1) / clips)
            spans = spans[np.argsort(spans[:, 0] - spans[:, 1], kind="stable")]
            moments[row, : len(spans)] = torch.from_numpy(spans).float()
            scores[row, : len(spans)] = torch.from_numpy(spans[:, 1] - spans[:, 0]).float()
        return SimpleNamespace(
            moments=moments,
            scores=scores,
            relevance=(frames[..., 0] > 0) * 1.0,
            presence=scores.amax(-1),
        )


@torch.no_grad()
@pytest.mark.parametrize("clips", [1, 2, 40])
def test_a_video_that_fits_is_answered_as_by_one_call(clips):
    head, text = a_head(), a_sentence()
    features, edges = a_video(clips)
    centres = torch.from_numpy((edges[1:] + edges[:-1]) / 2 / edges[-1]).float()[None]
    output = head(
        frames=torch.from_numpy(features)[None],
        frame_mask=torch.ones_like(centres, dtype=torch.bool),
        centres=centres,
        tokens=text.tokens,
        token_mask=text.mask,
        pooled=text.pooled,
    )
    for window in (max(2, clips), WINDOW):
        seen = answer_video(head, features, edges, text, window=window)
        count = len(seen.moments)
        assert count >= 1
        np.testing.assert_allclose(seen.relevance, output.relevance[0], atol=1e-6)
        np.testing.assert_allclose(seen.scores, output.scores[0, :count], atol=1e-6)
        np.testing.assert_allclose(seen.moments, output.moments[0, :count] * edges[-1], rtol=1e-5)
        assert seen.presence == pytest.approx(float(output.presence[0]))
    assert (output.scores[0, count:] == 0).all()


@given(
    clips=st.integers(2, 130),
    window=st.integers(8, 24),
    walls=st.lists(st.integers(0, 130), max_size=12),
)
@settings(max_examples=80, deadline=None)
def test_moments_come_out_whole_wherever_windows_end(clips, window, walls):
    features = np.full((clips, 4), -1.0, np.float32)
    for start, stop in zip(*[iter(sorted(set(walls)))] * 2, strict=False):
        features[start:stop, 0] = 1.0
    if not (features[:, 0] > 0).any():
        features[: (clips + 1) // 2, 0] = 1.0
    edges = np.arange(clips + 1) * 0.5
    seen = answer_video(Reader(), features, edges, a_sentence(4), window=window)
    np.testing.assert_array_equal(seen.relevance, features[:, 0] > 0)
    expected = mask_to_spans(features[:, 0] > 0, edges)
    found = seen.moments[np.argsort(seen.moments[:, 0])]
    # Every answer is a true one; only the number of answers per video is limited.
    close = np.abs(found[:, None] - expected[None]).max(axis=2)
    assert (close.min(axis=1) < 1e-3).all()
    which = close.argmin(axis=1)
    np.testing.assert_array_equal(which, np.unique(which))
    assert (np.diff(seen.scores) <= 0).all()


def test_a_sentence_is_in_the_video_as_surely_as_in_its_best_window():
    head, text = a_head(), a_sentence()
    features, edges = a_video(40)
    # Runs that are more and more like the sentence, and of which no two windows have the same.
    for number, first in enumerate((2, 10, 20, 30)):
        features[first : first + 4] += 0.5 * number * text.pooled.numpy()
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    alone = [
        answer_video(head, features[start : start + 16], edges[: 16 + 1], text).presence
        for start in (0, 8, 16)
    ]
    alone.append(answer_video(head, features[24:], edges[24:] - edges[24], text).presence)
    seen = answer_video(head, features, edges, text, window=16)
    assert seen.presence == pytest.approx(max(alone), abs=1e-4)
    assert np.diff(np.sort(alone)).min() > 1e-3  # or it could be that of any window


def test_an_hour_is_seen_in_windows_of_one_size():
    features, edges = a_video(7200)
    reader = Reader()
    answer_video(reader, features, edges, a_sentence())
    assert {clips for _, clips in reader.sizes} == {WINDOW}
    assert max(count for count, _ in reader.sizes) <= 4
    assert sum(count for count, _ in reader.sizes) == 28  # one begins every 256 clips, and the last
    seen = answer_video(a_head(), features, edges, a_sentence())
    assert seen.relevance.shape == (7200,)
    assert 1 <= len(seen.moments) <= 5
    assert (seen.moments[:, 0] < seen.moments[:, 1]).all()
    assert seen.moments.max() <= edges[-1]
