"""k-means: groups, restarts, empty clusters, weights; the sums and the farthest points that it needs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.base import UserError
from registry.numeric import kmeans as module
from registry.numeric.kmeans import cluster_sums, farthest, kmeans
from registry.numeric.nearest import assign


def blobs(n, k, d, seed, spread=0.3):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(k, d))[rng.integers(0, k, n)] + spread * rng.normal(size=(n, d))).astype(np.float32)


def test_recovers_separated_groups():
    centres = np.array([[0, 0], [10, 0], [0, 10]], np.float32)
    points = np.repeat(centres, 5, axis=0) + np.tile([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]], (3, 1))
    centroids, labels, inertia = kmeans(points.astype(np.float32), 3, seed=0)
    np.testing.assert_allclose(sorted(map(tuple, centroids)), sorted(map(tuple, centres)), atol=1e-6)
    assert inertia == pytest.approx(12)
    assert [len(set(labels[i : i + 5])) for i in (0, 5, 10)] == [1, 1, 1] and len(set(labels)) == 3


@pytest.mark.parametrize("spread", [0.2, 0.6, 2.0])
def test_inertia_as_good_as_scikit_learn(spread):
    from sklearn.cluster import KMeans as Reference

    points = blobs(1500, 8, 6, seed=3, spread=spread)
    reference = Reference(8, n_init=10, random_state=0).fit(points).inertia_
    assert kmeans(points, 8, seed=0)[2] <= 1.01 * reference


def test_inertia_belongs_to_labels_and_centroids():
    points = blobs(300, 4, 3, seed=0)
    centroids, labels, inertia = kmeans(points, 4, seed=1, n_init=2)
    assert inertia == pytest.approx(np.square(points - centroids[labels]).sum(), rel=1e-5)
    np.testing.assert_allclose(centroids, [points[labels == j].mean(0) for j in range(4)], atol=0.02)
    assert centroids.dtype == np.float32 and labels.dtype == np.int64


def test_same_seed_same_result():
    points = blobs(400, 8, 5, seed=0, spread=1.5)
    a, b, c = (kmeans(points, 8, seed=seed, n_init=2) for seed in (5, 5, 6))
    np.testing.assert_array_equal(a[0], b[0])
    np.testing.assert_array_equal(a[1], b[1])
    assert not np.array_equal(a[0], c[0])


def test_as_many_clusters_as_distinct_points():
    distinct = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    _, labels, inertia = kmeans(np.repeat(distinct, 50, axis=0), 6, seed=0, n_init=1)
    assert inertia == pytest.approx(0, abs=1e-9) and sorted(np.bincount(labels)) == [50] * 6


def test_more_clusters_than_distinct_points_is_refused():
    points = np.repeat(np.eye(5, dtype=np.float32), 20, axis=0)
    with pytest.raises(UserError, match="k=8 is larger than the 5 distinct nodes"):
        kmeans(points, 8, seed=0)
    with pytest.raises(UserError, match="k=8 is larger than the 3 distinct nodes"):
        kmeans(points[[0, 20, 40]], 8, seed=0)


FEW_APART = np.concatenate([np.zeros((50, 1)), np.full((5, 1), 10), np.full((1, 1), 11)]).astype(np.float32)
NEAR_NONE = np.array([[0], [1e6], [2e6]], np.float32)  # two centroids that no point is near


def test_clusters_still_empty_after_faiss_take_the_farthest_points():
    """FAISS splits a cluster in place of an empty one, in vain where all its points are the same."""
    centroids, inertia = module._filled(FEW_APART, np.ones(56), NEAR_NONE.copy(), "cpu")
    assert sorted(centroids[:, 0]) == [0, 10, 11] and inertia == 0


@pytest.mark.parametrize("weight", [1.0, 1e-6])  # FAISS alone looks for a weight above 1 for ever
def test_no_cluster_stays_empty(weight):
    centroids, _ = module._lloyd(FEW_APART, np.full(56, weight), NEAR_NONE, 50, "cpu")
    assert len(set(assign(FEW_APART, centroids)[0])) == 3


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 80), st.integers(1, 3))
def test_no_cluster_is_empty_on_lattices_full_of_duplicates(seed, k, n, d):
    points = np.random.default_rng(seed).integers(0, 3, (n, d)).astype(np.float32)
    if len(np.unique(points, axis=0)) < k:
        with pytest.raises(UserError, match=f"k={k} is larger than the"):
            kmeans(points, k, seed, n_init=1)
    else:
        centroids, labels, inertia = kmeans(points, k, seed, n_init=1)
        assert len(set(labels)) == k
        assert inertia == pytest.approx(np.square(points - centroids[labels]).sum(), abs=1e-4)


def test_points_that_single_precision_cannot_part_are_no_error():
    points = np.concatenate([np.arange(3) * 1e-12, np.ones(40)])[:, None]
    centroids, labels, _ = kmeans(points, 4, seed=0)
    assert np.isfinite(centroids).all() and set(labels[:3]).isdisjoint(labels[3:])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_coordinates_that_are_no_numbers_are_refused(bad):
    points = np.ones((30, 2), np.float32)
    points[7, 1] = bad
    with pytest.raises(UserError, match="NaN or infinite coordinates"):
        kmeans(points, 1, seed=0)


def test_iterations_are_those_of_faiss_in_rounds(monkeypatch):
    faiss = module.load_faiss()
    trained, train = [], faiss.Kmeans.train

    def spy(self, *args, **kwargs):
        trained.append((self.cp.niter, self.cp.max_points_per_centroid * self.k >= len(args[0])))
        return train(self, *args, **kwargs)

    monkeypatch.setattr(faiss.Kmeans, "train", spy)
    kmeans(blobs(2000, 8, 6, seed=3, spread=2.0), 8, seed=0, n_init=1, iterations=25)
    assert trained == [(10, True), (10, True), (5, True)]


def test_weights_count_like_copies_and_zero_removes():
    points = np.array([[0.0], [1], [10], [500]], np.float32)
    centroids, labels, inertia = kmeans(points, 2, seed=0, weights=np.array([3, 1, 2, 0]))
    assert sorted(centroids[:, 0]) == pytest.approx([0.25, 10], rel=1e-5)
    assert inertia == pytest.approx(3 * 0.25**2 + 0.75**2)
    assert labels[3] == labels[2]


def test_many_points_are_seeded_on_a_sample(monkeypatch):
    monkeypatch.setattr(module, "SEED_POINTS", 200)
    points = blobs(3000, 5, 4, seed=1)
    reference = kmeans(points, 5, seed=0, n_init=3)[2]
    monkeypatch.undo()
    assert reference == pytest.approx(kmeans(points, 5, seed=0, n_init=3)[2], rel=0.01)


def test_a_sample_without_the_rare_points_falls_back_to_all(monkeypatch):
    monkeypatch.setattr(module, "SEED_POINTS", 10)
    points = np.zeros((1000, 1), np.float32)
    points[[17, 801]] = [[1], [2]]
    assert sorted(kmeans(points, 3, seed=0)[0][:, 0]) == pytest.approx([0, 1, 2], abs=1e-6)


def test_far_from_the_origin_as_near_it():
    points = blobs(400, 5, 3, seed=2)
    near = kmeans(np.float64(points), 5, seed=0)[2]
    assert kmeans(points + np.float64(1e7), 5, seed=0)[2] == pytest.approx(near, rel=1e-3)


def test_farthest_points_differ_from_one_another_and_from_centroids():
    points = np.array([[0.0], [9], [9], [5], [0]])
    assert farthest(points, np.array([0.0, 81, 81, 25, 0]), 5).tolist() == [1, 3]
    assert farthest(points, np.zeros(5), 2).tolist() == []


def test_cluster_sums_by_hand():
    points = np.array([[1.0, 2], [3, 4], [5, 6]], np.float32)
    sums, counts = cluster_sums(points, np.array([2, 0, 2]), 4, np.array([1.0, 1, 0.5]))
    assert sums.tolist() == [[3, 4], [0, 0], [3.5, 5], [0, 0]] and counts.tolist() == [1, 0, 1.5, 0]
