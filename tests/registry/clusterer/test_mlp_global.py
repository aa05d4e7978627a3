"""The head taught by clusters over all graphs: what it learns, and that it is the head alone that answers."""

import numpy as np
import pytest
import torch

from registry.base import UserError
from registry.clusterer.mlp_global import MLPGlobal, mixture


def blobs(make_graph, spread, counts, seed=0):
    """Graphs without edges but self-loops, and Z in groups around the corners of a simplex."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(len(counts)), counts)
    graphs = [make_graph(n=len(truth), density=0, seed=s) for s in range(2)]
    Z = [
        torch.from_numpy(
            4 * np.eye(len(counts))[truth] + np.array(spread)[truth, None] * rng.normal(size=(len(truth), len(counts)))
        ).float()
        for _ in graphs
    ]
    return graphs, Z, truth


@pytest.mark.parametrize("teacher", ["kmeans", "mixture"])
def test_clear_groups_are_found_and_mean_the_same_in_all_graphs(make_graph, teacher):
    graphs, Z, truth = blobs(make_graph, [0.2, 0.2, 0.2], [50, 40, 10])
    part = MLPGlobal(k=3, teacher=teacher, iterations=300, seed=0)
    part.fit(graphs, Z)
    found = [part.predict(graph, z).argmax(1).numpy() for graph, z in zip(graphs, Z)]
    assert np.array_equal(found[0], found[1]) and len(set(zip(found[0], truth))) == 3


def test_the_head_answers_as_its_teacher_does(make_graph):
    graphs, Z, _ = blobs(make_graph, [1.0, 1.0, 1.0, 1.0], [60, 60, 60, 60])
    part = MLPGlobal(k=4, teacher="kmeans", smo=0.0, iterations=2000, seed=0)
    part.fit(graphs, Z)
    nearest = torch.cdist(Z[0], torch.from_numpy(part.means_)).argmin(1)
    assert (part.predict(graphs[0], Z[0]).argmax(1) == nearest).float().mean() > 0.95


def test_a_mixture_keeps_a_wide_group_whole_where_k_means_cuts_it(make_graph):
    rng = np.random.default_rng(0)
    wide, narrow = rng.normal(0, [6, 0.3], (300, 2)), rng.normal([0, 3], 0.3, (60, 2))
    Z = torch.from_numpy(np.vstack([wide, narrow])).float()
    graph = make_graph(n=360, density=0)
    wrong = {}
    for teacher in ("kmeans", "mixture"):
        part = MLPGlobal(k=2, teacher=teacher, smo=0.0, iterations=1500, seed=0)
        part.fit([graph], [Z])
        found = part.predict(graph, Z).argmax(1).numpy() == 1
        truth = np.arange(360) >= 300
        wrong[teacher] = min((found != truth).mean(), (found == truth).mean())
    assert wrong["mixture"] < 0.05 < 0.2 < wrong["kmeans"]


def test_smoothness_reaches_the_head(make_graph):
    graphs, Z, _ = blobs(make_graph, [1.0, 1.0, 1.0], [40, 40, 40])
    answers = []
    for smo in (0.0, 5.0):
        part = MLPGlobal(k=3, smo=smo, iterations=200, seed=0)
        part.fit(graphs, Z)
        answers.append(part.predict(graphs[0], Z[0]))
    assert not torch.allclose(*answers)


@pytest.mark.parametrize("options", [{"k": 1}, {"hidden": 0}, {"n_init": 0}, {"iterations": 0}, {"max_points": 3}])
def test_values_out_of_range_are_refused(options):
    with pytest.raises(UserError, match="clusterer"):
        MLPGlobal(**options)


@pytest.mark.parametrize("spherical", [False, True])
def test_a_mixture_is_that_of_scikit_learn(spherical):
    from sklearn.mixture import GaussianMixture

    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [300, 200, 60])
    points = (np.array([[0, 0], [3, 1], [1, 4]])[labels] + rng.normal(size=(560, 2)) * [1, 0.5]).astype(np.float32)
    means, variances, shares = mixture(points, labels, 3, spherical=spherical)
    theirs = GaussianMixture(
        3,
        covariance_type="spherical" if spherical else "diag",
        tol=1e-7,
        max_iter=500,
        means_init=np.stack([points[labels == i].mean(0) for i in range(3)]),
    ).fit(points)
    assert np.allclose(means, theirs.means_, atol=0.05) and np.allclose(shares, theirs.weights_, atol=0.02)
    assert np.allclose(variances.T, theirs.covariances_.T, rtol=0.1)


def test_equal_shares_leave_a_rare_cluster_its_nodes():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [4000, 40])
    points = (np.array([[0.0], [3.0]])[labels] + rng.normal(size=(4040, 1))).astype(np.float32)

    def found(**options):
        means, variances, shares = mixture(points, labels, 2, **options)
        score = np.log(shares) - 0.5 * np.log(variances[:, 0]) - (points - means[:, 0]) ** 2 / variances[:, 0] / 2
        return (score.argmax(1) == 1)[labels == 1].mean(), shares

    rare, shares = found()
    kept, equal = found(equal=True)
    assert kept > rare + 0.2 and shares[1] < 0.1 and equal.tolist() == [0.5, 0.5]
