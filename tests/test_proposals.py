"""Event proposals: planted segments are found, spans tile the video, equal seeds agree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zsvg.pseudo.proposals import ProposalOptions, atomic_events, composites, self_similarity


def planted(
    scenes: list[int], lengths: list[int], *, dim: int = 64, noise: float = 0.25, seed: int = 0
) -> np.ndarray:
    """Frames whose scene changes at known places, with the large common component of CLIP."""
    rng = np.random.default_rng(seed)
    common = 2.0 * rng.normal(size=dim) / np.sqrt(dim)
    looks = rng.normal(size=(max(scenes) + 1, dim)) / np.sqrt(dim)
    rows = np.repeat(looks[scenes], lengths, axis=0)
    frames = common + rows + noise * rng.normal(size=rows.shape) / np.sqrt(dim)
    return (frames / np.linalg.norm(frames, axis=1, keepdims=True)).astype(np.float32)


def grid(frames: np.ndarray, fps: float = 2.0) -> np.ndarray:
    return np.arange(len(frames) + 1) / fps


class TestSelfSimilarity:
    def test_is_the_cosine_of_every_pair(self):
        frames = np.random.default_rng(0).normal(size=(7, 5))
        matrix = self_similarity(frames)
        assert matrix.shape == (7, 7)
        np.testing.assert_allclose(np.diag(matrix), 1.0)
        np.testing.assert_allclose(matrix, matrix.T)
        expected = frames[2] @ frames[5] / np.linalg.norm(frames[2]) / np.linalg.norm(frames[5])
        assert matrix[2, 5] == pytest.approx(expected)

    def test_centring_uncovers_what_a_common_component_hides(self):
        frames = planted([0, 1], [10, 10])
        assert self_similarity(frames)[:10, 10:].mean() > 0.6
        assert self_similarity(frames, centre=True)[:10, 10:].mean() < -0.6

    def test_rounding_of_a_still_picture_is_not_content(self):
        still = np.tile(np.random.default_rng(0).normal(size=512), (40, 1))
        still = (still / np.linalg.norm(still[0])).astype(np.float32)
        flicker = np.random.default_rng(1).normal(size=still.shape) * 1e-5
        rounded = (still + flicker).astype(np.float16).astype(np.float32)
        assert np.abs(self_similarity(rounded, centre=True)).max() == 0


class TestAtomicEvents:
    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize("length", [40, 60, 256])
    def test_planted_boundaries_are_found(self, length: int, seed: int):
        lengths = [length // 4, length // 2, length // 4]
        frames = planted([0, 1, 2], lengths, seed=seed)
        spans = atomic_events(frames, grid(frames), options=ProposalOptions(clusters=3))
        edges = np.cumsum(lengths)[:-1] / 2
        step = max(1, length / 128) / 2  # one frame, or the distance of two points
        assert spans.shape == (3, 2)
        np.testing.assert_allclose(spans[1:, 0], edges, atol=step + 1e-9)

    def test_default_k_keeps_planted_boundaries_among_its_own(self):
        frames = planted([0, 1, 2, 3, 4], [24, 30, 16, 40, 18])
        spans = atomic_events(frames, grid(frames))
        np.testing.assert_allclose(spans[1:, 0], np.cumsum([24, 30, 16, 40]) / 2, atol=0.5)

    def test_a_recurring_scene_is_two_events(self):
        frames = planted([0, 1, 0], [40, 48, 40])
        spans = atomic_events(frames, grid(frames), options=ProposalOptions(clusters=2))
        np.testing.assert_allclose(spans, [[0, 20], [20, 44], [44, 64]])

    def test_a_run_too_short_joins_the_neighbour_it_resembles(self):
        frames = planted([0, 1, 2], [60, 6, 62])
        blend = frames[:60].mean(axis=0) * 0.2 + frames[66:].mean(axis=0) * 0.6
        frames[60:66] = 0.7 * frames[60:66] + blend
        spans = atomic_events(frames, grid(frames), options=ProposalOptions(clusters=3))
        np.testing.assert_allclose(spans, [[0, 30], [30, 64]])

    def test_a_flash_inside_a_scene_does_not_cut_it(self):
        frames = planted([0, 1, 0, 2], [40, 3, 40, 45])
        spans = atomic_events(frames, grid(frames), options=ProposalOptions(clusters=3))
        np.testing.assert_allclose(spans, [[0, 41.5], [41.5, 64]])

    @pytest.mark.parametrize("length", [1, 3])
    def test_very_short_videos_are_one_event(self, length: int):
        frames = planted([0], [length])
        np.testing.assert_allclose(atomic_events(frames, grid(frames)), [[0, length / 2]])

    @pytest.mark.parametrize("weight", [0.0, 1.0])
    def test_a_still_video(self, weight: float):
        frames = np.tile(planted([0], [1]), (90, 1))
        spans = atomic_events(frames, grid(frames), options=ProposalOptions(temporal_weight=weight))
        # Nothing changes, so only time itself can make events.
        assert (len(spans) == 1) == (weight == 0)

    def test_the_last_clip_may_be_shorter(self):
        frames = planted([0, 1], [30, 31])
        edges = grid(frames)
        edges[-1] -= 0.37
        spans = atomic_events(frames, edges)
        assert spans[0, 0] == 0
        assert spans[-1, 1] == edges[-1]

    @settings(max_examples=40, deadline=None)
    @given(
        length=st.integers(1, 300),
        scenes=st.integers(1, 8),
        weight=st.sampled_from([0.0, 0.5]),
        centre=st.booleans(),
        seed=st.integers(0, 2**32 - 1),
    )
    def test_events_tile_the_video_and_are_long_enough(self, length, scenes, weight, centre, seed):
        rng = np.random.default_rng(seed)
        labels = np.sort(rng.integers(0, scenes, size=length))
        frames = planted([0], [length], seed=seed % 1000) + rng.normal(size=(scenes, 64))[labels]
        options = ProposalOptions(centre=centre, temporal_weight=weight)
        spans = atomic_events(frames, grid(frames), options=options, seed=seed)
        assert spans[0, 0] == 0
        assert spans[-1, 1] == length / 2
        np.testing.assert_array_equal(spans[1:, 0], spans[:-1, 1])
        # 11 of 128 points, less what snapping both ends to frames can take.
        shortest = 11 / 128 * length / 2 - max(1, length / 128) / 2
        assert (spans[:, 1] - spans[:, 0]).min() > max(shortest, 0)
        again = atomic_events(frames, grid(frames), options=options, seed=seed)
        np.testing.assert_array_equal(spans, again)

    def test_edges_must_fit(self):
        with pytest.raises(ValueError, match="10 frames need 11 edges"):
            atomic_events(planted([0], [10]), np.arange(10))
        with pytest.raises(ValueError, match="T >= 1"):
            atomic_events(np.zeros((0, 4)), np.zeros(1))


class TestComposites:
    atoms = np.column_stack([np.arange(5), np.arange(1, 6)]).astype(float)

    def test_all_but_the_whole_video(self):
        pairs = composites(self.atoms, rule="all")
        assert len(pairs) == 14
        assert (0, 4) not in pairs
        assert all((i, i) in pairs for i in range(5))

    def test_one_event_is_kept(self):
        assert composites(self.atoms[:1]) == [(0, 0)]

    def test_max_atoms(self):
        pairs = composites(self.atoms, rule="all", max_atoms=2)
        assert sorted({j - i for i, j in pairs}) == [0, 1]

    def test_draws_are_seeded_distinct_and_uniform(self):
        assert composites(self.atoms, count=6, seed=3) == composites(self.atoms, count=6, seed=3)
        counts: dict[tuple[int, int], int] = {}
        for seed in range(2000):
            pairs = composites(self.atoms, count=4, seed=seed)
            assert len(set(pairs)) == 4
            assert pairs == sorted(pairs)
            for pair in pairs:
                counts[pair] = counts.get(pair, 0) + 1
        expected = 2000 * 4 / 14
        assert len(counts) == 14
        assert all(abs(n - expected) < 5 * np.sqrt(expected) for n in counts.values())


@pytest.mark.parametrize(
    "wrong",
    [
        {"points": 0},
        {"clusters": 129},
        {"min_run": 0},
        {"temporal_weight": -1.0},
        {"rule": "compact"},
        {"max_atoms": 0},
    ],
)
def test_options_are_checked(wrong: dict):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ProposalOptions(**wrong)
