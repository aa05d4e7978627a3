"""k-means by mini-batches: what it finds, and what it shares with k-means."""

import numpy as np
import pytest
import torch

from registry.base import UserError
from registry.clusterer.kmeans import KMeans
from registry.clusterer.minibatch_kmeans import MiniBatchKMeans


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
    found = [part.predict(graph, Z).argmax(1).numpy() for graph, Z in zip(graphs, embeddings)]
    assert all(np.array_equal(labels, found[0]) for labels in found)
    assert len(set(zip(found[0], np.arange(60) % 3))) == 3


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
    with pytest.raises(UserError, match="k=3 larger than the 2 nodes that differ"):
        MiniBatchKMeans(k=3).fit(graphs[:1], [torch.ones(60, 2) * (torch.arange(60) % 2)[:, None]])


def test_coordinates_that_are_no_numbers_are_the_users_mistake_as_for_k_means(blobs):
    graphs, embeddings = blobs
    embeddings[1][7, 2] = torch.nan
    for cls in (KMeans, MiniBatchKMeans):
        with pytest.raises(UserError, match="NaN or infinite coordinates"):
            cls(k=3).fit(graphs, embeddings)
