"""The region graph: geometry, normalised product, devices, DGL, diagnostics."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from registry.spg.graphs import RegionGraph, region_geometry, region_means, touching_pairs


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
    graph = RegionGraph.from_edges(
        np.array([[0, 1, 2]]),
        np.ones((3, 1)),
        np.ones(3),
        np.zeros((3, 2)),
        [0, 1, 0, 1, 2],
        [1, 0, 0, 1, 2],
        [0.5, 0.5, 1, 1, 1],
    )
    assert graph.diagnostics() == {
        "nodes": 3,
        "edges": 1,
        "density": pytest.approx(5 / 9),
        "isolated": 1,
        "components": 2,
    }


def assert_same(one: RegionGraph, other: RegionGraph) -> None:
    a, b = one.to_arrays(), other.to_arrays()
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype and np.array_equal(a[name], b[name]), name


def test_mean_grey_values_of_regions_travel_with_the_graph(make_graph):
    regions = np.array([[0, 0, 1], [0, 1, 1]], np.int32)
    image = np.array([[1, 2, 7], [6, 8, 9]], np.float32)
    grey = region_means(image, regions, region_geometry(regions)[0])
    assert grey.tolist() == [3, 8] and grey.dtype == np.float32
    graph = make_graph(n=5)
    assert graph.grey is None and "grey" not in graph.to_arrays()
    graph.grey = torch.arange(5.0)
    assert torch.equal(RegionGraph.from_arrays(graph.to_arrays()).grey, graph.grey)
    assert torch.equal(RegionGraph.from_dgl(graph.graph, graph.regions).grey, graph.grey)


def test_arrays_round_trip(make_graph):
    graph = make_graph()
    assert_same(RegionGraph.from_arrays(graph.to_arrays()), graph)


def test_dgl_round_trip(make_graph):
    graph = make_graph()
    assert graph.graph is graph.graph and graph.graph.num_nodes() == graph.n
    assert set(graph.graph.ndata) == {"feature", "area", "centroid"} and set(graph.graph.edata) == {"affinity"}
    assert_same(RegionGraph.from_dgl(graph.graph, graph.regions), graph)


def test_dgl_keeps_nodes_without_edges():
    graph = RegionGraph.from_edges(np.array([[0, 1]]), np.ones((2, 1)), np.ones(2), np.zeros((2, 2)), [], [], [])
    assert graph.graph.num_nodes() == 2 and graph.graph.num_edges() == 0
    assert_same(RegionGraph.from_dgl(graph.graph, graph.regions), graph)


def test_message_passing_is_refused_off_the_cpu(make_graph):
    graph = make_graph().to("meta")
    assert graph.device.type == "meta" and graph.affinity.device.type == "meta"
    with pytest.raises(ValueError, match="CPU only"):
        graph.operator("dgl")


def test_moving_to_where_it_is_gives_the_graph_itself(make_graph):
    graph = make_graph()
    assert graph.to("cpu") is graph and graph.to(torch.device("cpu")) is graph


def test_dgl_is_not_imported_before_it_is_asked_for():
    code = "import sys, registry.spg.graphs, registry.spg.losses, registry.spg.affinity; sys.exit('dgl' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.gpu
@pytest.mark.parametrize("density", [0.02, 0.5])  # csr, dense
def test_the_same_product_on_a_gpu(make_graph, density):
    graph = make_graph(n=100, density=density)
    there = graph.to("cuda:0")
    assert there.device == torch.device("cuda:0") and there.src.is_cuda and there.to("cuda:0") is there
    assert torch.allclose(there.hop(3).cpu(), graph.hop(3), atol=1e-4)
    X = torch.randn(100, 3, device="cuda:0", requires_grad=True)
    Y = there.propagate(X)
    Y.sum().backward()
    assert torch.allclose(Y.detach().cpu(), graph.propagate(X.detach().cpu()), atol=1e-4)
    assert torch.allclose(X.grad.cpu(), graph.propagate(torch.ones(100, 3)), atol=1e-4)
    assert there.graph.device.type == "cpu" and there.diagnostics() == graph.diagnostics()
    assert_same(there.to("cpu"), graph)
