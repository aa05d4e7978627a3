"""What all clusterers must keep to."""

import numpy as np
import pytest
import torch

from registry.base import UserError
from registry.spg.graphs import RegionGraph
from tests.registry.parts.small import every, ready, without_edges

EMBEDDED = 4  # coordinates of the Z that clusterers are given


def coordinates(graph: RegionGraph, seed: int = 0) -> torch.Tensor:
    """Z (n, EMBEDDED) in three groups."""
    rng = np.random.default_rng(seed)
    Z = 4 * np.eye(3, EMBEDDED)[np.arange(graph.n) % 3] + 0.3 * rng.normal(size=(graph.n, EMBEDDED))
    return torch.from_numpy(Z).float()


def pixels_of_three_classes(graph: RegionGraph) -> np.ndarray:
    """Labels (n, 3) for a supervised clusterer: the groups of `coordinates`, every fifth node without a label."""
    labels = np.eye(3, dtype=np.int64)[np.arange(graph.n) % 3]
    labels[4::5] = 0
    return labels


def cluster(part, graphs: list[RegionGraph]):
    """Fit a clusterer; a trainable one gets as much training as makes every kind of state."""
    embeddings = [coordinates(graph, seed) for seed, graph in enumerate(graphs)]
    if part.supervised:
        part.fit(graphs, embeddings, [pixels_of_three_classes(graph) for graph in graphs])
        return part
    if not part.trainable:
        part.fit(graphs, embeddings)
        return part
    part.prepare(EMBEDDED, graphs[0].device)
    part.begin(graphs[0], embeddings[0])
    for graph, Z in zip(graphs, embeddings):
        terms = part.loss(graph, Z)
        assert terms and all(value.ndim == 0 and torch.isfinite(value) for value in terms.values())
        assert set(terms) == set(part.terms)
        sum(terms.values()).backward()
    return ready(part)


def assert_probabilities(P: torch.Tensor, n: int, k: int) -> None:
    assert P.shape == (n, k) and P.dtype == torch.float32
    assert (P >= 0).all() and torch.allclose(P.sum(1), torch.ones(n), atol=1e-5)


@every("clusterer")
def test_each_node_has_a_distribution_over_k_clusters(name, build, graphs):
    part = cluster(build("clusterer", name), graphs)
    for seed, graph in enumerate(graphs):
        assert_probabilities(part.predict(graph, coordinates(graph, seed)).detach(), graph.n, part.k)


@every("clusterer")
def test_the_same_seed_gives_the_same_clusters_and_saving_keeps_them(name, build, again, graphs):
    parts = []
    for number in range(2):
        torch.manual_seed(number)
        np.random.seed(number)
        parts.append(cluster(build("clusterer", name), graphs))
    Z = coordinates(graphs[1], seed=7)
    first, second = (part.predict(graphs[1], Z) for part in parts)
    assert torch.equal(first, second) and torch.equal(parts[0].predict(graphs[1], Z), first)
    assert torch.equal(again("clusterer", name, parts[0]).predict(graphs[1], Z), first)


@every("clusterer")
@pytest.mark.parametrize("n", [1, 2])
def test_graphs_with_fewer_nodes_than_clusters_are_segmented(name, n, build, graphs, make_graph):
    part = cluster(build("clusterer", name), graphs)
    tiny = make_graph(n=n)
    assert_probabilities(part.predict(tiny, coordinates(tiny)).detach(), n, part.k)


@every("clusterer")
def test_nodes_all_alike_and_graphs_without_edges_are_segmented(name, build, graphs):
    part = cluster(build("clusterer", name), graphs)
    bare = without_edges()
    for Z in (coordinates(bare), torch.ones(bare.n, EMBEDDED)):
        assert_probabilities(part.predict(bare, Z).detach(), bare.n, part.k)


@every("clusterer")
def test_training_on_fewer_nodes_than_clusters_is_the_users_mistake(name, build, make_graph):
    with pytest.raises(UserError, match="k"):
        cluster(build("clusterer", name), [make_graph(n=2)])
