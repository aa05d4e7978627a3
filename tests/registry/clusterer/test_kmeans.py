"""The two clusterers that use one set of centroids for every image."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from registry.base import UserError
from registry.clusterer.incremental_kmeans import IncrementalKMeans
from registry.clusterer.kmeans import KMeans
from registry.numeric.nearest import assign


def data(count=10, n=120, k=4, u=3, seed=0):
    centres = 4 * np.random.default_rng(seed).normal(size=(k, u))
    embeddings, truth = [], []
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        truth.append(rng.integers(0, k, n))
        embeddings.append(torch.from_numpy(centres[truth[-1]] + 0.2 * rng.normal(size=(n, u))).float())
    return [SimpleNamespace(n=n, feature=Z) for Z in embeddings], embeddings, truth


def make(kind, **arguments):
    return {"kmeans": KMeans, "incremental": IncrementalKMeans}[kind](k=4, **arguments)


@pytest.mark.parametrize("kind", ["kmeans", "incremental"])
class TestClusterers:
    def test_one_hot_and_consistent_between_graphs(self, kind):
        graphs, embeddings, truth = data()
        part = make(kind)
        part.fit(graphs, embeddings)
        table = np.zeros((4, 4))
        for graph, Z, labels in zip(graphs, embeddings, truth):
            P = part.predict(graph, Z)
            assert P.shape == (graph.n, 4) and P.dtype == torch.float32
            assert (P.sum(1) == 1).all() and ((P == 0) | (P == 1)).all()
            np.add.at(table, (labels, P.argmax(1).numpy()), 1)
        assert (np.count_nonzero(table, axis=0) == 1).all() and (np.count_nonzero(table, axis=1) == 1).all()

    def test_same_seed_same_centroids(self, kind):
        graphs, embeddings, _ = data()
        fitted = []
        for _ in range(2):
            part = make(kind)
            part.seed = 3
            part.fit(graphs, embeddings)
            fitted.append(part.centroids_)
        np.testing.assert_array_equal(*fitted)

    def test_state_round_trip(self, kind):
        graphs, embeddings, _ = data()
        part, other = make(kind), make(kind)
        assert part.get_state() == {}
        part.fit(graphs, embeddings)
        other.set_state({name: np.ascontiguousarray(value) for name, value in part.get_state().items()})
        assert torch.equal(part.predict(graphs[0], embeddings[0]), other.predict(graphs[0], embeddings[0]))

    @pytest.mark.parametrize("n", [0, 1, 2])
    def test_graphs_smaller_than_k(self, kind, n):
        graphs, embeddings, _ = data()
        part = make(kind)
        part.fit(graphs, embeddings)
        P = part.predict(SimpleNamespace(n=n), embeddings[0][:n])
        assert P.shape == (n, 4) and (P.sum(1) == 1).all()

    def test_too_few_nodes_to_fit(self, kind):
        graphs, embeddings, _ = data(count=1, n=3)
        with pytest.raises(UserError, match="k=4 is larger than the 3 distinct nodes"):
            make(kind).fit(graphs, embeddings)

    def test_gradients_are_left_alone(self, kind):
        graphs, embeddings, _ = data()
        part = make(kind)
        part.fit(graphs, [Z.clone().requires_grad_() for Z in embeddings])
        assert not part.predict(graphs[0], embeddings[0].clone().requires_grad_()).requires_grad

    @pytest.mark.parametrize("arguments", [{"k": 0}, {"n_init": 0}])
    def test_bad_arguments(self, kind, arguments):
        with pytest.raises(UserError, match=f"clusterer.{next(iter(arguments))}"):
            {"kmeans": KMeans, "incremental": IncrementalKMeans}[kind](**arguments)


def test_standardize_makes_units_irrelevant():
    graphs, embeddings, _ = data()
    units = torch.tensor([1.0, 1e4, 1e-3])
    plain, scaled = make("kmeans", scale="standardize"), make("kmeans", scale="standardize")
    plain.fit(graphs, embeddings)
    scaled.fit(graphs, [Z * units + 7 for Z in embeddings])
    a, b = plain.predict(graphs[0], embeddings[0]), scaled.predict(graphs[0], embeddings[0] * units + 7)
    assert torch.equal(a, b)


def test_standardize_leaves_constant_columns():
    graphs, embeddings, _ = data()
    part = make("kmeans", scale="standardize")
    part.fit(graphs, [torch.cat([Z, torch.ones(len(Z), 1)], 1) for Z in embeddings])
    assert np.isfinite(part.centroids_).all()


def test_max_points_draws_from_all_graphs():
    graphs, embeddings, _ = data()
    part = make("kmeans", max_points=100)
    rows = part._draw(graphs, embeddings)
    everything = {tuple(row) for Z in embeddings for row in Z.numpy()}
    assert len(rows) == 100 == len({tuple(row) for row in rows} & everything)
    np.testing.assert_array_equal(rows, part._draw(graphs, embeddings))


def test_incremental_starts_at_the_anchor_and_reports_use():
    graphs, embeddings, _ = data()
    part = make("incremental")
    part.anchor = 7
    part.fit(graphs, embeddings)
    assert part.use_.sum() == sum(graph.n for graph in graphs) and part.reseeds_ == 0
    everything = torch.cat(embeddings).numpy()
    labels = assign(everything, part.centroids_)[0]
    np.testing.assert_allclose(part.centroids_, [everything[labels == j].mean(0) for j in range(4)], atol=1e-5)
