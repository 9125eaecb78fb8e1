"""TAG's clusters and windows (Lee et al., BMVC 2025): by hand, and as the authors' code has them.

What is not theirs is said here too: the power of `box_cox`, and the score of the whole video.
"""

from __future__ import annotations

import numpy as np
import pytest

from zsvg.events.cuts import Cutting, coherent, coherent_clusters, pooled, unit_rows
from zsvg.scorers.options import ScorerOptions
from zsvg.scorers.scorers import SCORERS

pytestmark = pytest.mark.numeric


def test_pooling_by_hand():
    points = np.array([[0.0], [3.0], [6.0], [0.0]])
    # Beyond the ends stand the first and the last point.
    np.testing.assert_allclose(pooled(points, 3), [[1.0], [3.0], [3.0], [2.0]])
    np.testing.assert_array_equal(pooled(points, 1), points)
    np.testing.assert_allclose(pooled(points, 9)[0], [(5 * 0 + 3 + 6 + 2 * 0) / 9])


def test_distances_are_averaged_by_hand():
    # Plain k-means takes the single 4 among zeros for what the last four are.
    points = np.array([0.0, 0, 0, 4, 0, 0, 4, 4, 4, 4])[:, None]
    assert coherent_clusters(points, [0, 9], 1).tolist() == [0, 0, 0, 1, 0, 0, 1, 1, 1, 1]
    # Over three, its distance to 0 is a mean of 0, 4, 0, to 4 one of 4, 0, 4.
    assert coherent_clusters(points, [0, 9], 3).tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 1, 1]
    # Three clusters from equal points: one has none, and stays.
    assert set(coherent_clusters(np.ones((5, 1)), [0, 1, 2], 3)) == {0}


def test_five_frames_keep_the_borders_that_twenty_one_blur():
    recall = {5: [], 21: []}
    for seed in range(12):
        random = np.random.default_rng(seed)
        # Nine scenes from 6 to 40 frames long, and what all frames of a video have in common.
        lengths = random.permutation([6, 6, 8, 8, 10, 14, 16, 20, 40])
        looks = np.repeat(random.normal(size=(9, 64)), lengths, axis=0)
        frames = looks + 2 * random.normal(size=64) + 0.25 * random.normal(size=looks.shape)
        for pool, found in recall.items():
            parts = coherent(unit_rows(frames), Cutting(clusters=9, pool=pool), random)
            off = np.abs(np.cumsum(lengths)[:-1, None] - parts[:, 0]).min(axis=1)
            found.append((off <= 2).mean())
    assert np.mean(recall[5]) > 0.75
    assert np.mean(recall[21]) < 0.6


@pytest.fixture(scope="module")
def expected(data_folder):
    def read(name: str) -> dict[str, np.ndarray]:
        return dict(np.load(data_folder / "expected" / f"{name}.npz", allow_pickle=False))

    return read


def cases(table: dict[str, np.ndarray], *names: str):
    """Give each case's rows of `names`; where one has no starts, those of the name before count."""
    starts: list[np.ndarray] = []
    for name in names:
        starts.append(table[f"{name}_start"] if f"{name}_start" in table else starts[-1])
    for case in range(len(starts[0]) - 1):
        yield [
            table[name][begun[case] : begun[case + 1]]
            for name, begun in zip(names, starts, strict=True)
        ]


def test_clusters_are_theirs(expected):
    their = expected("tag_clustering")
    names = ("features", "smoothed", "kmeans_labels", "tckmeans_labels")
    every = cases(their, *names, "initial_rows", "tckmeans_segments")
    for case, (features, smoothed, plain, labels, first, segments) in enumerate(every):
        window = int(their["smooth_window"][case])
        np.testing.assert_allclose(features[:, -1], np.arange(len(plain)) / len(plain), atol=1e-6)
        np.testing.assert_allclose(pooled(features.astype(float), window), smoothed, atol=1e-6)
        points = smoothed.astype(np.float64)
        assert coherent_clusters(points, first, 1).tolist() == plain.tolist(), case
        ours = coherent_clusters(points, first, int(their["tc_window"][case]))
        assert ours.tolist() == labels.tolist(), case
        # Their last segment is an end mark.
        assert np.flatnonzero(np.diff(ours)).tolist() == (segments[:-2, 1] - 1).tolist(), case


def test_windows_and_scores_are_theirs(expected):
    """All but the whole video: nothing is outside it, and their score is the mean inside."""
    their, compared = expected("tag_scores"), 0
    for curve, windows, scores in cases(their, "curve", "proposals", "proposal_scores"):
        if len(curve) > 96:  # longer ones are not laid out in full
            continue
        moments, ours = SCORERS["inside_outside"](
            curve.astype(float), np.arange(len(curve) + 1.0), ScorerOptions(length_weight=0.0), None
        )
        known = dict(zip(map(tuple, moments.astype(int)), ours, strict=True))
        for (start, stop), score in zip(windows.tolist(), scores, strict=True):
            whole = (start, stop) == (0, len(curve))
            assert known[start, stop] == pytest.approx(0 if whole else score, abs=6e-5)
            compared += not whole
    assert compared > 1000


def test_their_power_is_not_the_most_likely_one(expected):
    from scipy.stats import boxcox_llf

    their = expected("tag_boxcox")
    np.testing.assert_allclose(their["best_lambda"], 2.0, atol=1e-4)  # their bound
    unlike = 0
    for (curve,) in cases(their, "curve"):
        laid = 0.01 + 0.99 * (curve - curve.min()) / np.ptp(curve)
        likelihoods = [boxcox_llf(power, laid) for power in np.arange(-2, 2.01, 0.1)]
        unlike += max(likelihoods) > likelihoods[-1] + 1
    assert unlike > 100
