"""k-means, and the two clusterers that use one set of centroids for every image."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from registry.base import UserError
from registry.clusterer.incremental_kmeans import IncrementalKMeans
from registry.clusterer.kmeans import KMeans
from registry.numeric import nearest
from registry.numeric.nearest import kmeans


def blobs(n, k, d, seed, spread=0.3):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(k, d))[rng.integers(0, k, n)] + spread * rng.normal(size=(n, d))).astype(np.float32)


def test_recovers_separated_groups():
    centres = np.array([[0, 0], [10, 0], [0, 10]], np.float32)
    points = np.repeat(centres, 5, axis=0) + np.tile([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]], (3, 1))
    centroids, labels, inertia = kmeans(points.astype(np.float32), 3, seed=0)
    np.testing.assert_allclose(sorted(map(tuple, centroids)), sorted(map(tuple, centres)), atol=1e-6)
    assert inertia == pytest.approx(12)
    assert [len(set(labels[i : i + 5])) for i in (0, 5, 10)] == [1, 1, 1] and len(set(labels)) == 3


@pytest.mark.parametrize("spread", [0.2, 0.6, 2.0])
def test_inertia_as_good_as_scikit_learn(spread):
    from sklearn.cluster import KMeans as Reference

    points = blobs(1500, 8, 6, seed=3, spread=spread)
    reference = Reference(8, n_init=10, random_state=0).fit(points).inertia_
    assert kmeans(points, 8, seed=0)[2] <= 1.01 * reference


def test_inertia_belongs_to_labels_and_centroids():
    points = blobs(300, 4, 3, seed=0)
    centroids, labels, inertia = kmeans(points, 4, seed=1, n_init=2)
    assert inertia == pytest.approx(np.square(points - centroids[labels]).sum(), rel=1e-5)
    np.testing.assert_allclose(centroids, [points[labels == j].mean(0) for j in range(4)], atol=0.02)
    assert centroids.dtype == np.float32 and labels.dtype == np.int64


def test_same_seed_same_result():
    points = blobs(400, 8, 5, seed=0, spread=1.5)
    a, b, c = (kmeans(points, 8, seed=seed, n_init=2) for seed in (5, 5, 6))
    np.testing.assert_array_equal(a[0], b[0])
    np.testing.assert_array_equal(a[1], b[1])
    assert not np.array_equal(a[0], c[0])


def test_as_many_clusters_as_distinct_points():
    distinct = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    _, labels, inertia = kmeans(np.repeat(distinct, 50, axis=0), 6, seed=0, n_init=1)
    assert inertia == 0 and sorted(np.bincount(labels)) == [50] * 6


def test_more_clusters_than_distinct_points_is_refused():
    points = np.repeat(np.eye(5, dtype=np.float32), 20, axis=0)
    with pytest.raises(UserError, match="k=8 larger than the 5 nodes"):
        kmeans(points, 8, seed=0)
    with pytest.raises(UserError, match="k=8 larger than the 3 nodes"):
        kmeans(points[:3], 8, seed=0)


def test_empty_clusters_take_the_farthest_points():
    points = np.concatenate([np.zeros((50, 1)), np.full((5, 1), 10), np.full((1, 1), 11)]).astype(np.float32)
    start = np.array([[0], [1e6], [2e6]], np.float32)  # two centroids that no point is near
    centroids, labels, _ = nearest._lloyd(points, np.ones(56), start, 50, "cpu")
    assert sorted(centroids[:, 0]) == [0, 10, 11] and len(set(labels)) == 3


def test_weights_count_like_copies_and_zero_removes():
    points = np.array([[0.0], [1], [10], [500]], np.float32)
    centroids, labels, inertia = kmeans(points, 2, seed=0, weights=np.array([3, 1, 2, 0]))
    assert sorted(centroids[:, 0]) == [0.25, 10]
    assert inertia == pytest.approx(3 * 0.25**2 + 0.75**2)
    assert labels[3] == labels[2]


def test_many_points_are_seeded_on_a_sample(monkeypatch):
    monkeypatch.setattr(nearest, "SEED_POINTS", 200)
    points = blobs(3000, 5, 4, seed=1)
    reference = kmeans(points, 5, seed=0, n_init=3)[2]
    monkeypatch.undo()
    assert reference == pytest.approx(kmeans(points, 5, seed=0, n_init=3)[2], rel=0.01)


def test_a_sample_without_the_rare_points_falls_back_to_all(monkeypatch):
    monkeypatch.setattr(nearest, "SEED_POINTS", 10)
    points = np.zeros((1000, 1), np.float32)
    points[[17, 801]] = [[1], [2]]
    assert sorted(kmeans(points, 3, seed=0)[0][:, 0]) == [0, 1, 2]


def test_far_from_the_origin_as_near_it():
    points = blobs(400, 5, 3, seed=2)
    near = kmeans(np.float64(points), 5, seed=0)[2]
    assert kmeans(points + np.float64(1e7), 5, seed=0)[2] == pytest.approx(near, rel=1e-3)


# ---- the clusterers -------------------------------------------------------------------------------------------------


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
        with pytest.raises(UserError, match="k=4 larger than the 3 nodes"):
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
    labels = nearest.assign(everything, part.centroids_)[0]
    np.testing.assert_allclose(part.centroids_, [everything[labels == j].mean(0) for j in range(4)], atol=1e-5)
