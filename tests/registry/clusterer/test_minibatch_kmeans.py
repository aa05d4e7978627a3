"""k-means by mini-batches: what it finds, and what it shares with k-means, whose FAISS finds its nearest centroids."""

import numpy as np
import pytest
import torch

from registry.base import UserError
from registry.clusterer.kmeans import KMeans
from registry.clusterer.minibatch_kmeans import MiniBatchKMeans
from registry.numeric.kmeans import kmeans
from registry.numeric.nearest import assign


@pytest.fixture
def blobs(make_graph):
    graphs = [make_graph(n=60, seed=seed) for seed in range(3)]
    truth = np.arange(60) % 3
    rng = np.random.default_rng(0)
    return graphs, [torch.from_numpy(5 * np.eye(3)[truth] + 0.2 * rng.normal(size=(60, 3))).float() for _ in graphs]


def test_separate_groups_are_found_and_mean_the_same_in_all_graphs(blobs):
    graphs, embeddings = blobs
    part = MiniBatchKMeans(k=3, batch=50, seed=0)
    part.fit(graphs, embeddings)
    clusters = [part.predict(graph, Z).argmax(1).numpy() for graph, Z in zip(graphs, embeddings)]
    assert all(np.array_equal(labels, clusters[0]) for labels in clusters)
    assert len(set(zip(clusters[0], np.arange(60) % 3))) == 3


def test_centroids_are_those_of_k_means_where_groups_are_clear(blobs):
    parts = [cls(k=3, seed=0) for cls in (KMeans, MiniBatchKMeans)]
    for part in parts:
        part.fit(*blobs)
    exact, quick = (part.centroids_[np.argsort(part.centroids_ @ [1, 2, 3])] for part in parts)
    assert np.abs(exact - quick).max() < 0.2


@pytest.mark.parametrize("option", ["k", "batch", "iterations", "n_init"])
def test_counts_below_one_are_refused(option):
    with pytest.raises(UserError, match=f"clusterer.{option}: 0"):
        MiniBatchKMeans(**{option: 0})


def test_repeated_nodes_count_once_when_there_are_too_few(blobs):
    graphs, _ = blobs
    with pytest.raises(UserError, match="k=3 is larger than the 2 distinct nodes"):
        MiniBatchKMeans(k=3).fit(graphs[:1], [torch.ones(60, 2) * (torch.arange(60) % 2)[:, None]])


def test_coordinates_that_are_no_numbers_are_the_users_mistake_as_for_k_means(blobs):
    graphs, embeddings = blobs
    embeddings[1][7, 2] = torch.nan
    for cls in (KMeans, MiniBatchKMeans):
        with pytest.raises(UserError, match="NaN or infinite coordinates"):
            cls(k=3).fit(graphs, embeddings)


def found(part, points):
    """Centroids and inertia of points (N, u)."""
    return part._centroids(points.astype(np.float32), "cpu")


def test_no_more_nodes_than_a_batch_are_plain_k_means():
    points = np.random.default_rng(1).normal(size=(300, 4))
    centroids, inertia = found(MiniBatchKMeans(k=5, batch=300, seed=0), points)
    _, distances = assign(points, centroids)
    assert inertia == pytest.approx(distances.sum(), rel=1e-5)
    assert inertia == pytest.approx(kmeans(points, 5, 0, n_init=10)[2], rel=0.02)


def test_centroids_are_nearly_as_good_as_those_of_k_means():
    rng = np.random.default_rng(2)
    points = rng.normal(size=(6, 5))[rng.integers(0, 6, 4000)] + 0.8 * rng.normal(size=(4000, 5))
    _, inertia = found(MiniBatchKMeans(k=6, batch=200, seed=0), points)
    assert inertia <= 1.05 * kmeans(points, 6, 0)[2]


def test_rare_nodes_that_the_first_batch_misses_are_found():
    points = np.zeros((2000, 1))
    points[[17, 801]] = [[1], [2]]
    centroids, _ = found(MiniBatchKMeans(k=3, batch=10, seed=0), points)
    assert sorted(centroids[:, 0]) == pytest.approx([0, 1, 2], abs=1e-5)


def test_a_centroid_is_the_mean_of_all_nodes_that_it_was_given():
    """One pass: k-means on the first batch, then running means; by hand for one cluster."""
    points = np.random.default_rng(3).normal(size=(50, 2))
    centroids, _ = found(MiniBatchKMeans(k=1, batch=10, iterations=1, seed=0), points)
    np.testing.assert_allclose(centroids, points.mean(0, keepdims=True), atol=1e-6)
