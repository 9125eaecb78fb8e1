"""Event proposals: planted events come first, every generator keeps the rules, seeds agree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zsvg.events import cuts
from zsvg.events.cuts import METHODS, Cutting, dissolved, self_similarity, unit_rows
from zsvg.events.proposals import KINDS, RANKS, SPL, ProposalOptions, fits, grid, propose
from zsvg.label.queries import fit
from zsvg.moments import iou


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


def seconds(frames: np.ndarray, fps: float = 2.0) -> np.ndarray:
    return np.arange(len(frames) + 1) / fps


def cut(method: str, frames: np.ndarray, **options) -> np.ndarray:
    rows = unit_rows(frames, centre=options.get("centre", False))
    return METHODS[method](rows, Cutting(**options), np.random.default_rng(0))


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


class TestCuts:
    @pytest.mark.parametrize("method", ["psvl", "frames", "coherent", "changes", "steps"])
    @pytest.mark.parametrize("seed", range(3))
    def test_planted_borders_are_found(self, method: str, seed: int):
        frames = planted([0, 1, 2], [40, 52, 36], seed=seed)
        parts = cut(method, frames, clusters=3)
        np.testing.assert_allclose(parts, [[0, 40], [40, 92], [92, 128]], atol=1)

    def test_change_points_need_no_exact_number(self):
        for scenes in ([0], [0, 1], [0, 1, 2, 3]):
            frames = planted(scenes, [32] * len(scenes))
            np.testing.assert_array_equal(
                cut("changes", frames, clusters=6)[:, 0], 32 * np.arange(len(scenes))
            )

    def test_change_points_are_the_best_of_all(self):
        rng = np.random.default_rng(0)
        frames = rng.normal(size=(9, 4)) + np.repeat([[0], [2], [0]], [3, 2, 4], axis=0)
        rows = unit_rows(frames)

        def scatter(a: int, b: int) -> float:
            return float(((rows[a:b] - rows[a:b].mean(axis=0)) ** 2).sum())

        costs = [
            scatter(0, 9),
            *(
                min(
                    sum(scatter(a, b) for a, b in zip((0, *c), (*c, 9), strict=True))
                    for c in borders
                )
                for borders in (
                    [(i,) for i in range(1, 9)],
                    [(i, j) for i in range(1, 9) for j in range(i + 1, 9)],
                )
            ),
        ]
        parts = cut("changes", frames, clusters=3, least=0.0)
        assert sum(scatter(a, b) for a, b in parts) == pytest.approx(costs[len(parts) - 1])

    def test_a_recurring_scene_is_two_parts_for_psvl_and_a_long_one_for_spl(self):
        # So unlike that the time, which counts in SPL, does not matter.
        frames = np.eye(2)[np.repeat([0, 1, 0], [40, 48, 40])]
        np.testing.assert_array_equal(
            cut("psvl", frames, clusters=2), [[0, 40], [40, 88], [88, 128]]
        )
        np.testing.assert_array_equal(cut("spl", frames, clusters=2), [[0, 128], [40, 88]])

    def test_spl_dissolves_small_clusters(self):
        frames = np.eye(3)[np.repeat([0, 1, 2], [60, 6, 62])]
        assert len(cut("spl", frames, clusters=3, least=0.0)) == 3
        assert len(cut("spl", frames, clusters=3)) == 2

    def test_a_small_cluster_moves_whole_to_the_nearest_mean(self):
        points = np.array([0.0, 0.0, 0.0, 0.4, 1.8, 2.0, 2.0, 2.0])[:, None]
        labels = np.array([7, 7, 7, 4, 4, 9, 9, 9])
        # Of its mean, 1.1, cluster 9 is nearer, though its first point lies beside cluster 7.
        assert dissolved(labels, points, 3).tolist() == [7, 7, 7, 9, 9, 9, 9, 9]
        assert dissolved(labels, points, 2).tolist() == labels.tolist()
        assert dissolved(labels, points, 4).tolist() == labels.tolist()

    def test_small_clusters_do_not_make_each_other_large(self):
        points = np.array([0.0, 0.0, 0.0, 6.0, 7.0])[:, None]
        assert dissolved(np.array([0, 0, 0, 1, 2]), points, 2).tolist() == [0] * 5

    def test_a_run_too_short_joins_the_neighbour_it_resembles(self):
        frames = planted([0, 1, 2], [60, 6, 62])
        blend = frames[:60].mean(axis=0) * 0.2 + frames[66:].mean(axis=0) * 0.6
        frames[60:66] = 0.7 * frames[60:66] + blend
        np.testing.assert_array_equal(cut("psvl", frames, clusters=3), [[0, 60], [60, 128]])

    @pytest.mark.parametrize("weight", [0.0, 1.0])
    def test_only_time_can_cut_a_still_video(self, weight: float):
        frames = np.tile(planted([0], [1]), (90, 1))
        assert (len(cut("psvl", frames, temporal_weight=weight)) == 1) == (weight == 0)

    def test_standardising_lets_time_weigh_less(self):
        frames = planted([0, 1, 0], [40, 48, 40])
        borders = {
            standardise: cut(
                "psvl", frames, clusters=2, temporal_weight=1.0, standardise=standardise
            )
            for standardise in (False, True)
        }
        np.testing.assert_array_equal(borders[True], [[0, 40], [40, 88], [88, 128]])
        assert len(borders[False]) == 2  # an early and a late half

    @pytest.mark.parametrize("method", sorted(METHODS))
    @settings(max_examples=25, deadline=None)
    @given(
        length=st.integers(1, 150),
        scenes=st.integers(1, 8),
        clusters=st.integers(1, 9),
        seed=st.integers(0, 2**32 - 1),
    )
    def test_parts_are_parts(self, method, length, scenes, clusters, seed):
        rng = np.random.default_rng(seed)
        labels = np.sort(rng.integers(0, scenes, size=length))
        frames = planted([0], [length], seed=seed % 1000) + rng.normal(size=(scenes, 64))[labels]
        parts = cut(method, frames, clusters=clusters)
        assert (parts[:, 0] < parts[:, 1]).all()
        assert parts[0, 0] == 0
        assert parts[:, 1].max() == length
        assert (np.diff(parts[:, 0]) >= 0).all()
        if method != "spl":
            np.testing.assert_array_equal(parts[1:, 0], parts[:-1, 1])
        if method in ("changes", "uniform", "steps"):
            assert len(parts) <= clusters


class TestFit:
    def test_is_the_correlation_of_the_mean_frame_with_inside(self):
        rows = unit_rows(np.random.default_rng(0).normal(size=(12, 5)))
        places = np.array([[0, 3], [4, 9], [11, 12], [0, 12]])
        expected = []
        for first, stop in places:
            inside = np.zeros(12, bool)
            inside[first:stop] = True
            expected += fit((rows @ rows[first:stop].mean(axis=0))[None], inside).tolist()
        np.testing.assert_allclose(fits(rows, places), expected, atol=1e-9)
        assert expected[-1] == 0

    def test_a_planted_event_fits_perfectly_without_noise(self):
        rows = unit_rows(planted([0, 1, 0], [20, 30, 50], noise=0.0))
        scores = fits(rows, np.array([[20, 50], [20, 49], [0, 20], [50, 100]]))
        assert scores[0] == pytest.approx(1.0)
        assert scores[0] > scores[1:].max()

    def test_a_still_video_says_nothing(self):
        rows = unit_rows(np.ones((6, 3)))
        np.testing.assert_array_equal(fits(rows, np.array([[0, 3], [2, 4]])), [0, 0])


class TestPropose:
    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize("length", [64, 100, 300])
    def test_planted_events_come_first(self, length: int, seed: int):
        lengths = [length // 4, length // 5, length // 3, length // 6]
        frames = planted([0, 1, 2, 3], lengths, seed=seed)
        # Two scenes may happen to look alike; their union then comes before either.
        options = ProposalOptions(count=6, nms=0.6)
        spans, scores = propose(frames, seconds(frames), options=options)
        edges = np.cumsum([0, *lengths]) / 2
        truth = np.column_stack((edges[:-1], edges[1:]))
        assert (iou(truth, spans).max(axis=1) > 0.9).all()
        assert (np.diff(scores) <= 0).all()

    def test_another_videos_events_do_not_fit(self):
        found, other = (
            propose(f, seconds(f), options=ProposalOptions(count=3))[0]
            for f in (planted([0, 1, 2], [20, 50, 30]), planted([0, 1, 2], [45, 25, 30], seed=1))
        )
        truth = np.array([[0, 10], [10, 35], [35, 50]])
        assert iou(truth, found).max(axis=1).mean() > iou(truth, other).max(axis=1).mean() + 0.2

    @pytest.mark.parametrize("kind", sorted(KINDS))
    @settings(max_examples=15, deadline=None)
    @given(
        length=st.integers(1, 200),
        rank=st.sampled_from(sorted(RANKS)),
        count=st.integers(1, 25),
        seed=st.integers(0, 2**32 - 1),
    )
    def test_every_generator_keeps_the_rules(self, kind, length, rank, count, seed):
        frames = planted([0], [length], seed=seed % 1000)
        edges = seconds(frames)
        edges[-1] -= 0.2  # the last clip may be shorter
        options = ProposalOptions(kind=kind, rank=rank, count=count)
        spans, scores = propose(frames, edges, options=options, seed=seed)
        assert 1 <= len(spans) <= count
        assert spans.shape == (len(scores), 2)
        assert (spans[:, 0] < spans[:, 1]).all()
        assert spans.min() >= 0
        assert spans.max() <= edges[-1]
        if kind != "spl":  # its walls lie where 128 points have them
            assert np.isin(spans, edges).all()
        assert (np.diff(scores) <= 0).all()
        assert len(np.unique(spans, axis=0)) == len(spans)
        overlaps = iou(spans, spans) - np.eye(len(spans))
        assert overlaps.max() <= options.nms + 1e-9
        if len(spans) > 1:
            share = (spans[:, 1] - spans[:, 0]) / edges[-1]
            assert share.max() <= options.longest + 1 / min(length, options.points)
        again = propose(frames, edges, options=options, seed=seed)
        np.testing.assert_array_equal(spans, again[0])

    @pytest.mark.parametrize("length", [1, 2])
    def test_very_short_videos_are_one_event(self, length: int):
        frames = planted([0], [length])
        options = ProposalOptions(longest=0.2)
        spans, scores = propose(frames, seconds(frames), options=options)
        np.testing.assert_allclose(spans, [[0, length / 2]])
        assert scores.tolist() == [0]

    def test_edges_must_fit(self):
        with pytest.raises(ValueError, match="10 frames need 11 edges"):
            propose(planted([0], [10]), np.arange(10))
        with pytest.raises(ValueError, match="T >= 1"):
            propose(np.zeros((0, 4)), np.zeros(1))

    @pytest.mark.parametrize(("frames", "points"), [(5, 64), (64, 64), (1000, 64), (7, 3)])
    def test_the_grid_is_even(self, frames: int, points: int):
        walls, index = grid(frames, points)
        assert len(index) == min(frames, points) == len(walls) - 1
        assert (walls[:-1] <= index).all()
        assert (index < walls[1:]).all()
        assert np.ptp(np.diff(walls)) <= 2

    @pytest.mark.parametrize(
        "wrong",
        [
            {"points": 0},
            {"clusters": 0},
            {"least": 1.0},
            {"temporal_weight": -1.0},
            {"kind": "oracle"},
            {"rank": "best"},
            {"count": 0},
            {"nms": 2.0},
            {"shortest": 0.6},
        ],
    )
    def test_options_are_checked(self, wrong: dict):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ProposalOptions(**wrong)


class TestSpl:
    def test_three_frames_by_hand(self):
        # Eight points lie at .125, .375, ... 1.875 on the way from the first frame to the last:
        # two are nearest to the first, four to the second, two to the third.
        options = ProposalOptions(**{**vars(SPL), "points": 8, "clusters": 3, "least": 2 / 8})
        spans, _ = propose(np.eye(3), np.array([0.0, 4.0, 8.0, 12.0]), options=options)
        # A point is an eighth of the 12 s; parts are [0, 3), [3, 9) and [9, 12).
        expected = [(0, 3), (0, 9), (0, 12), (3, 9), (3, 12), (9, 12)]
        assert sorted(map(tuple, spans.tolist())) == expected

    def test_a_union_ends_with_the_later_of_its_ends(self, monkeypatch):
        # Clusters reach over points 0 to 5, 1 to 9, and 6 to 8 of ten.
        monkeypatch.setattr(cuts, "_clusters", lambda *_: np.array([0, 1, 0, 0, 0, 0, 2, 2, 2, 1]))
        options = ProposalOptions(**{**vars(SPL), "points": 10, "clusters": 3, "least": 0.0})
        spans, _ = propose(np.eye(10), np.arange(11.0), options=options)
        # From the first to the last it is 0 to 8, although the second is 1 to 9.
        expected = [(0, 6), (0, 9), (0, 10), (1, 10), (6, 9)]
        assert sorted(map(tuple, spans.tolist())) == expected

    @pytest.mark.parametrize(("name", "cases"), [("spl_events", 300), ("spl_clusters_k", 60)])
    def test_every_event_is_its_codes(self, data_folder, monkeypatch, name, cases):
        with np.load(data_folder / "expected" / f"{name}.npz", allow_pickle=False) as stored:
            found = dict(stored)

        def rows(what: str, case: int) -> np.ndarray:
            places = found[f"{what}_start"]
            return found[what][places[case] : places[case + 1]].astype(float)

        for case in range(cases):
            labels, seen = found["labels"][case].astype(np.int64), []

            def clusters(points, *_, labels=labels, seen=seen):  # k-means is left to chance there
                seen.append(points)
                return labels

            monkeypatch.setattr(cuts, "_clusters", clusters)
            features = rows("features", case)
            edges = np.arange(len(features) + 1.0)
            kinds = int(found["k"][case]) if "k" in found else 5
            options = ProposalOptions(**{**vars(SPL), "clusters": kinds, "count": 100})
            spans, _ = propose(features, edges, options=options)
            # Times of theirs are 128ths of the video, of the last point as well.
            wide = spans * 128 / len(features) - [0, 1]
            if "events" in found:
                expected = rows("events", case)
            else:
                parts = rows("clusters", case)
                i, j = np.triu_indices(len(parts))
                expected = np.stack((parts[i, 0], np.maximum(parts[i, 1], parts[j, 1])), axis=1)
            np.testing.assert_allclose(
                np.unique(wide.round(6), axis=0), np.unique(expected, axis=0), atol=1e-6
            )
            if "x_first3" in found and case < 3:
                np.testing.assert_allclose(seen[0], found["x_first3"][case], atol=1e-5)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_few_frames_are_enough_for_every_kind_and_length(kind):
    rng = np.random.default_rng(0)
    for count in range(1, 7):
        frames = rng.normal(size=(count, 5))
        for shortest, longest in ((0.05, 0.5), (0.5, 0.5), (0.3, 0.3), (0.0, 0.0), (0.9, 1.0)):
            options = ProposalOptions(kind=kind, shortest=shortest, longest=longest)
            spans, scores = propose(frames, seconds(frames), options=options)
            assert len(spans) == len(scores) >= 1
            assert (spans[:, 0] < spans[:, 1]).all()
            assert spans.min() >= 0
            assert spans.max() <= count / 2


def test_windows_of_a_length_between_frames_have_the_nearest_one():
    frames = np.eye(9)
    options = ProposalOptions(kind="windows", shortest=0.3, longest=0.3)  # 2.7 frames
    spans, _ = propose(frames, seconds(frames), options=options)
    assert len(spans) > 1
    np.testing.assert_allclose(spans[:, 1] - spans[:, 0], 1.5)
