"""The region graph: geometry, normalised product, devices, DGL, diagnostics."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from registry.spg.dgl_adapter import dgl
from registry.spg.graphs import RegionGraph, by_row, region_geometry, region_means, touching_pairs
from registry.spg.propagation import DENSE_ABOVE, product


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
    assert np.allclose(
        product(graph.graph, graph.normalised, mode)(X).numpy(), dense_normalised(graph) @ X.numpy(), atol=1e-5
    )


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
    assert np.array_equal(one.regions, other.regions) and one.n == other.n
    assert all(map(torch.equal, one.edges, other.edges))
    for a, b in ((one.graph.ndata, other.graph.ndata), (one.graph.edata, other.graph.edata)):
        assert a.keys() == b.keys()
        assert all(a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a)


def test_a_spg_is_a_dglgraph_with_its_data(make_graph):
    graph = make_graph()
    assert isinstance(graph.graph, dgl.DGLGraph) and graph.graph.num_nodes() == graph.n
    assert set(graph.graph.ndata) == {"feature", "area", "centroid"} and set(graph.graph.edata) == {"affinity"}
    assert graph.feature is graph.graph.ndata["feature"] and graph.affinity is graph.graph.edata["affinity"]
    assert graph.src.data_ptr() == graph.graph.edges(order="eid")[0].data_ptr()  # no second copy of the edges


def test_edges_are_in_order_of_rows_whatever_order_they_came_in(make_graph):
    graph = make_graph(n=30)
    shuffled = torch.randperm(graph.graph.num_edges())
    mixed = dgl.edge_subgraph(graph.graph, shuffled, relabel_nodes=False, store_ids=False)
    assert not torch.equal(mixed.edges(order="eid")[0], graph.src)
    assert_same(RegionGraph(graph.regions, mixed), graph)
    assert by_row(graph.graph) is graph.graph
    indptr, indices, edges = graph.graph.adj_tensors("csr")
    assert torch.equal(indices, graph.dst) and torch.equal(edges, torch.arange(len(edges)))


def test_degrees_and_normalisation_are_those_of_dgl(make_graph):
    graph = make_graph(n=30)
    assert torch.allclose(graph.degree, graph.dense_affinity().sum(1))
    assert torch.equal(graph.normalised, dgl.nn.EdgeWeightNorm("both")(graph.graph, graph.affinity))


def test_mean_grey_values_of_regions_travel_with_the_graph(make_graph):
    regions = np.array([[0, 0, 1], [0, 1, 1]], np.int32)
    image = np.array([[1, 2, 7], [6, 8, 9]], np.float32)
    grey = region_means(image, regions, region_geometry(regions)[0])
    assert grey.tolist() == [3, 8] and grey.dtype == np.float32
    assert make_graph(n=5).grey is None
    graph = RegionGraph.from_edges(regions, np.ones((2, 1)), [3, 3], np.zeros((2, 2)), [0, 1], [1, 0], [1, 1], grey)
    assert graph.grey.tolist() == [3, 8] and graph.graph.ndata["grey"] is graph.grey


def test_a_spg_is_saved_and_read_by_dgl(make_graph, tmp_path):
    graph = make_graph()
    dgl.save_graphs(str(tmp_path / "graphs.bin"), [graph.graph])
    ((read,), _) = dgl.load_graphs(str(tmp_path / "graphs.bin"))
    assert_same(RegionGraph(graph.regions, read), graph)


def test_nodes_without_edges_stay():
    graph = RegionGraph.from_edges(np.array([[0, 1]]), np.ones((2, 1)), np.ones(2), np.zeros((2, 2)), [], [], [])
    assert graph.graph.num_nodes() == 2 and graph.graph.num_edges() == 0 and graph.degree.tolist() == [0, 0]
    assert graph.propagate(torch.ones(2, 1)).flatten().tolist() == [0, 0]


def test_where_dgl_has_no_kernels_its_graph_stays_and_the_data_move(make_graph):
    graph = make_graph(n=40, density=0.05).to("meta")
    assert graph.device.type == graph.affinity.device.type == graph.src.device.type == "meta"
    assert graph.graph.device.type == "cpu" and graph.product == "csr on meta, DGLGraph on cpu"
    with pytest.raises(ValueError, match="no kernels for meta"):
        product(graph.graph, graph.normalised, "dgl")


def test_the_product_is_chosen_by_density_and_by_wish(make_graph):
    sparse, dense = make_graph(n=40, density=DENSE_ABOVE / 4), make_graph(n=40, density=1.0)
    assert sparse.product == "csr on cpu, DGLGraph on cpu" and dense.product.startswith("dense")
    sparse.propagation = "dgl"
    assert sparse.product.startswith("dgl") and sparse.to("meta").propagation == "dgl"
    with pytest.raises(ValueError, match="'auto', 'csr', 'dense' or 'dgl', got 'other'"):
        product(sparse.graph, sparse.normalised, "other")


def test_moving_to_where_it_is_gives_the_graph_itself(make_graph):
    graph = make_graph()
    assert graph.to("cpu") is graph and graph.to(torch.device("cpu")) is graph


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
    assert there.diagnostics() == graph.diagnostics()
    assert_same(there.to("cpu"), graph)


def test_a_pickled_graph_is_read_where_nobody_has_imported_dgl(make_graph, tmp_path):
    """As workers of another process do: DGL is imported by its own class, before anything is asked of the adapter."""
    (tmp_path / "spg").write_bytes(pickle.dumps(make_graph(n=7)))
    code = f"import pickle; print(pickle.load(open({str(tmp_path / 'spg')!r}, 'rb')).feature.shape[0])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "7\n", done.stderr
