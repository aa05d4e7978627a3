"""The region graph: geometry, normalised product, diagnostics."""
import numpy as np
import pytest
import torch

from registry.graphs import RegionGraph, region_geometry, touching_pairs


def dense_normalised(graph: RegionGraph) -> np.ndarray:
    A = graph.dense_affinity().numpy().astype(np.float64)
    degree = A.sum(1)
    scale = np.where(degree > 0, 1 / np.sqrt(np.maximum(degree, 1e-30)), 0)
    return scale[:, None] * A * scale[None]


@pytest.mark.parametrize("mode", ["dense", "csr", "dgl"])
@pytest.mark.parametrize("density", [0.05, 0.5, 1.0])
def test_every_operator_is_the_product_with_the_normalised_affinity(make_graph, mode, density):
    graph = make_graph(n=20, density=density)
    X = torch.randn(20, 3)
    assert np.allclose(graph.operator(mode)(X).numpy(), dense_normalised(graph) @ X.numpy(), atol=1e-5)


def test_propagate_has_the_gradient_of_the_dense_product(make_graph):
    graph = make_graph(n=10)
    X = torch.randn(10, 3, requires_grad=True)
    weight = torch.randn(10, 3)
    (graph.propagate(X) * weight).sum().backward()
    assert np.allclose(X.grad.numpy(), dense_normalised(graph).T @ weight.numpy(), atol=1e-5)


def test_hop_is_repeated_propagation(make_graph):
    graph = make_graph()
    assert torch.allclose(graph.hop(3), graph.propagate(graph.propagate(graph.propagate(graph.feature))), atol=1e-6)


def test_isolated_node_without_self_loop_gives_zero_not_nan():
    graph = RegionGraph.from_edges(np.array([[0, 1]]), np.ones((2, 1)), np.ones(2), np.zeros((2, 2)), [0], [0], [1.0])
    assert graph.propagate(torch.ones(2, 1)).flatten().tolist() == [1.0, 0.0]


def test_touching_pairs_and_geometry():
    regions = np.array([[0, 0, 1], [2, 2, 1]])
    assert touching_pairs(regions).T.tolist() == [[0, 1], [0, 2], [1, 2]]
    area, centroid = region_geometry(regions)
    assert area.tolist() == [2, 2, 2]
    assert centroid.tolist() == [[0, 0.5], [0.5, 2], [1, 0.5]]


def test_diagnostics_count_isolated_nodes_and_components():
    graph = RegionGraph.from_edges(np.array([[0, 1, 2]]), np.ones((3, 1)), np.ones(3), np.zeros((3, 2)),
                                   [0, 1, 0, 1, 2], [1, 0, 0, 1, 2], [0.5, 0.5, 1, 1, 1])
    assert graph.diagnostics() == {"nodes": 3, "edges": 1, "density": pytest.approx(5 / 9), "isolated": 1, "components": 2}


def test_arrays_round_trip(make_graph):
    graph = make_graph()
    again = RegionGraph.from_arrays(graph.to_arrays())
    assert torch.equal(again.dense_affinity(), graph.dense_affinity())
    assert torch.equal(again.feature, graph.feature) and np.array_equal(again.regions, graph.regions)
