"""Clustering of segments: what is compared within an image, what between images, and what a segment is known by."""

import numpy as np
import pytest
import torch

from registry.base import UserError
from registry.clusterer.segment_kmeans import SegmentKMeans
from registry.spg.graphs import RegionGraph

MATERIALS = np.array([[4.0, 0, 1], [0, 3, 0], [1, 1, 5]])  # mean features of three kinds of node


def image(n: int = 60, seed: int = 0, area=None) -> tuple[RegionGraph, np.ndarray]:
    """A graph of nodes of three materials, and the material (n,) of each."""
    rng = np.random.default_rng(seed)
    kind = rng.permutation(np.arange(n) % 3)
    feature = MATERIALS[kind] + 0.05 * rng.normal(size=(n, 3))
    none = np.zeros(0, np.int64)
    area = np.ones(n) if area is None else area
    return RegionGraph.from_edges(np.arange(n)[None], feature, area, np.zeros((n, 2)), none, none, none), kind


def coordinates(kind: np.ndarray, seed: int) -> torch.Tensor:
    """Z (n, 2) that tells the materials of one image apart, turned otherwise in each image, as eigenvectors are."""
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(2, 2)))
    corners = np.array([[0, 0], [3, 0], [0, 3]])
    return torch.from_numpy((corners[kind] + 0.1 * rng.normal(size=(len(kind), 2))) @ turn).float()


@pytest.fixture
def images():
    graphs, kinds = zip(*(image(seed=seed) for seed in range(4)))
    return graphs, [coordinates(kind, seed) for seed, kind in enumerate(kinds)], kinds


def test_materials_keep_their_cluster_in_every_image_however_Z_is_turned(images):
    graphs, embeddings, kinds = images
    part = SegmentKMeans(k=3, segments=3)
    part.fit(graphs[:2], embeddings[:2])
    names = part.predict(graphs[0], embeddings[0]).argmax(1).numpy()
    cluster_of = [names[kinds[0] == kind][0] for kind in range(3)]
    assert sorted(cluster_of) == [0, 1, 2]
    for graph, Z, kind in zip(graphs, embeddings, kinds):
        np.testing.assert_array_equal(part.predict(graph, Z).argmax(1), np.array(cluster_of)[kind])


def test_more_segments_than_materials_still_find_the_materials(images):
    graphs, embeddings, kinds = images
    part = SegmentKMeans(k=3, segments=9)
    part.fit(graphs[:2], embeddings[:2])
    found = part.predict(graphs[3], embeddings[3]).argmax(1).numpy()
    assert all(len(np.unique(found[kinds[3] == kind])) == 1 for kind in range(3)) and len(np.unique(found)) == 3


def test_a_segment_goes_to_one_cluster_whatever_its_single_nodes_look_like(images):
    graphs, embeddings, kinds = images
    part = SegmentKMeans(k=3, segments=3)
    part.fit(graphs, embeddings)
    stray = graphs[0].to("cpu")
    before = part.predict(stray, embeddings[0])
    node, other = np.flatnonzero(kinds[0] == 0)[0], np.flatnonzero(kinds[0] == 1)[0]
    stray.feature[node] = stray.feature[other]
    assert torch.equal(part.predict(stray, embeddings[0]), before)


def test_a_segment_is_described_by_its_mean_feature_by_area_at_unit_length_by_hand():
    none = np.zeros(0, np.int64)
    places = np.zeros((3, 2))
    graph = RegionGraph.from_edges([[0, 1, 2]], [[4, 0], [0, 12], [0, 7]], [3, 1, 5], places, none, none, none)
    # (3 * [4, 0] + 1 * [0, 12]) / 4 = [3, 3]
    expected = [[np.sqrt(0.5), np.sqrt(0.5)], [0, 1]]
    np.testing.assert_allclose(SegmentKMeans().describe(graph, np.array([0, 0, 1])), expected, atol=1e-6)


def test_a_segment_without_any_feature_is_described_by_zeros():
    graph, _ = image(6)
    graph.feature[:] = 0
    assert not SegmentKMeans().describe(graph, np.zeros(6, np.int64)).any()


def test_a_graph_with_fewer_distinct_nodes_has_as_many_segments():
    part = SegmentKMeans(segments=15)
    Z = torch.tensor([[0.0], [1], [1], [5], [0]])
    labels = part.segment(Z)
    assert sorted(set(labels)) == [0, 1, 2]
    assert labels[0] == labels[4] and labels[1] == labels[2] and len({labels[0], labels[1], labels[3]}) == 3
    assert part.segment(torch.zeros(0, 3)).shape == (0,)


def test_the_same_seed_gives_the_same_segments(images):
    _, embeddings, _ = images
    first = SegmentKMeans(segments=9, seed=3).segment(embeddings[0])
    np.random.seed(1)
    torch.manual_seed(1)
    np.testing.assert_array_equal(SegmentKMeans(segments=9, seed=3).segment(embeddings[0]), first)


def test_an_empty_graph_is_segmented_into_nothing(images):
    graphs, embeddings, _ = images
    part = SegmentKMeans(k=3, segments=3)
    part.fit(graphs, embeddings)
    none = np.zeros(0, np.int64)
    empty = RegionGraph.from_edges(np.zeros((0, 0)), np.zeros((0, 3)), none, np.zeros((0, 2)), none, none, none)
    assert part.predict(empty, torch.zeros(0, 2)).shape == (0, 3)


def test_fewer_segments_than_clusters_are_the_users_mistake(images):
    graphs, embeddings, _ = images
    with pytest.raises(UserError, match=r"^clusterer\.k: 7 is larger than the 6 distinct segments"):
        SegmentKMeans(k=7, segments=3).fit(graphs[:2], embeddings[:2])
    with pytest.raises(UserError, match=r"^clusterer\.k: "):
        SegmentKMeans(k=1).fit([], [])


@pytest.mark.parametrize("key", ["k", "segments", "n_init", "iterations"])
def test_bad_arguments_are_named(key):
    with pytest.raises(UserError, match=rf"^clusterer\.{key}: 0 must be at least 1"):
        SegmentKMeans(**{key: 0})
