"""Directions of most variance that the graph keeps: against plain NumPy, and at its ends."""

import numpy as np
import pytest

from registry.base import UserError
from registry.embedder.lgc_principal import LGCPrincipal


def propagated(graph, X: np.ndarray, times: int, normalisation: str = "symmetric") -> np.ndarray:
    A = graph.dense_affinity().double().numpy()
    degree = A.sum(1)
    P = A / degree[:, None] if normalisation == "walk" else A / np.sqrt(np.outer(degree, degree))
    return np.linalg.matrix_power(P, times) @ X


@pytest.fixture
def graphs(make_graph):
    return [make_graph(n=40, d=8, seed=seed) for seed in range(3)]


@pytest.mark.parametrize("normalisation", ["symmetric", "walk"])
@pytest.mark.parametrize("hops", [0, 1, 4])
def test_the_trace_is_the_greatest_that_orthonormal_directions_have(graphs, hops, normalisation):
    part = LGCPrincipal(u=3, hops=hops, normalisation=normalisation)
    part.fit(graphs)
    mean = np.concatenate([graph.feature.numpy() for graph in graphs]).mean(0)
    X = [propagated(graph, graph.feature.numpy() - mean, hops, normalisation) for graph in graphs]
    if normalisation == "walk":
        M = np.cov(np.concatenate(X).T) * (sum(map(len, X)) - 1)
    else:
        M = sum(x.T @ propagated(graph, x, 1) for x, graph in zip(X, graphs))
    W = part.weights_
    assert np.allclose(W.T @ W, np.eye(3), atol=1e-5)
    assert np.trace(W.T @ M @ W) == pytest.approx(np.sort(np.linalg.eigvalsh(M))[-3:].sum(), rel=1e-4)
    assert part.share_ == pytest.approx(np.sort(np.linalg.eigvalsh(M))[::-1][:3].clip(0) / np.trace(M), rel=1e-3)


@pytest.mark.parametrize("normalisation", ["symmetric", "walk"])
def test_coordinates_are_the_propagated_projections(graphs, normalisation):
    part = LGCPrincipal(u=3, hops=2, normalisation=normalisation)
    part.fit(graphs)
    expected = propagated(graphs[1], (graphs[1].feature.numpy() - part.mean_) @ part.weights_, 2, normalisation)
    assert np.allclose(part.embed(graphs[1]).numpy(), expected, atol=1e-5)


def test_without_edges_or_hops_it_is_pca(make_graph):
    graph = make_graph(n=200, d=5, density=0)
    part = LGCPrincipal(u=2, hops=3)
    part.fit([graph])
    X = graph.feature.numpy() - graph.feature.numpy().mean(0)
    _, _, Vt = np.linalg.svd(X, full_matrices=False)
    assert np.abs(np.abs((Vt[:2] * part.weights_.T).sum(1)) - 1).max() < 1e-4


def test_a_direction_that_the_graph_does_not_keep_comes_last():
    """Two channels of equal variance: one alike along edges, one opposite."""
    from registry.spg.graphs import RegionGraph

    n = 40
    src = np.r_[np.arange(n), np.arange(n), (np.arange(n) + 1) % n]
    dst = np.r_[np.arange(n), (np.arange(n) + 1) % n, np.arange(n)]
    smooth, rough = np.sign(np.arange(n) - n / 2 + 0.5), (-1.0) ** np.arange(n)
    graph = RegionGraph.from_edges(
        np.arange(n).reshape(1, n),
        np.stack([rough, smooth], 1),
        np.ones(n),
        np.zeros((n, 2)),
        src,
        dst,
        np.ones(len(src)),
    )
    part = LGCPrincipal(u=2, hops=1)
    part.fit([graph])
    assert np.abs(part.weights_[:, 0]) == pytest.approx([0, 1], abs=1e-2) and part.share_[0] > 0.9


@pytest.mark.parametrize("options", [{"u": 0}, {"hops": -1}])
def test_values_out_of_range_are_refused(options):
    with pytest.raises(UserError, match="embedder"):
        LGCPrincipal(**options)
