"""Principal coordinates after walks, against a dense computation."""

import numpy as np
import pytest
import torch

from registry.spg import principal
from registry.spg.principal import Coordinates, directions
from tests.registry.parts.small import without_edges


def dense(graph, hops: int) -> np.ndarray:
    A = graph.dense_affinity().numpy().astype(np.float64)
    return np.linalg.matrix_power(A / A.sum(1, keepdims=True), hops) @ graph.feature.numpy()


def test_each_is_the_features_along_a_direction_of_most_variance_with_unit_deviation(make_graph):
    graphs = [make_graph(n=n, seed=seed) for seed, n in enumerate((60, 40))]
    found = Coordinates(3, (0, 2)).fit(graphs)
    ours = np.concatenate([found.of(graph) for graph in graphs]).astype(np.float64)
    for column, hops in ((0, 0), (3, 2)):
        X = np.concatenate([dense(graph, hops) for graph in graphs])
        X -= X.mean(0)
        values, vectors = np.linalg.eigh(X.T @ X / len(X))
        for i in range(3):
            theirs = X @ vectors[:, -1 - i] / np.sqrt(values[-1 - i])
            mine = ours[:, column + i]
            assert min(abs(mine - theirs).max(), abs(mine + theirs).max()) < 1e-3
        expected = np.sqrt(values[::-1][:3] / values[-1])
        np.testing.assert_allclose(found.deviation_[column // 3], expected, atol=1e-4)


def test_coordinates_that_features_cannot_fill_are_zero_and_nodes_without_edges_keep_theirs():
    graph = without_edges(n=9, d=4)
    found = Coordinates(6, (0, 6)).fit([graph])
    points = found.of(graph)
    assert points.shape == (9, 12) and (points[:, 4:6] == 0).all()
    np.testing.assert_allclose(points[:, :6], points[:, 6:], atol=1e-5)


def test_the_state_makes_it_again_and_another_is_refused(make_graph):
    graph = make_graph(n=30)
    found, other = Coordinates(3, (0, 2)).fit([graph]), Coordinates(3, (0, 2))
    other.set_state(found.get_state())
    assert (other.of(graph) == found.of(graph)).all()
    with pytest.raises(ValueError, match="mean"):
        Coordinates(3, (0,)).set_state(found.get_state())
    assert torch.isfinite(torch.from_numpy(found.of(make_graph(n=1)))).all()


def test_they_are_fitted_on_one_thread(monkeypatch):
    """Whether several would sum in another order depends on shapes and machine, so the number itself is tested."""
    seen = []

    def watched(*arguments):
        seen.append(torch.get_num_threads())
        return directions(*arguments)

    monkeypatch.setattr(principal, "directions", watched)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        Coordinates(u=3, hops=(0, 1)).fit([without_edges()])
        assert seen == [1, 1] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
