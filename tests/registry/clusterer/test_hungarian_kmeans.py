"""Per-graph k-means whose clusters are named after an anchor's: names survive what eigenvectors do not."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from registry.base import UserError
from registry.clusterer.hungarian_kmeans import HungarianKMeans, match


def make_graph(seed, n=120, k=4, turn=True, classes=None):
    """Groups with fixed node features, and Z in which their places differ from graph to graph (when `turn`)."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, k, n) if classes is None else np.asarray(classes)
    feature = 5 * np.eye(k, 6)[truth] + 0.2 * rng.normal(size=(len(truth), 6))
    places = 10 * np.eye(k)[rng.permutation(k)] if turn else 10 * np.eye(k)
    Z = places[truth] + 0.2 * rng.normal(size=(len(truth), k))
    graph = SimpleNamespace(n=len(truth), feature=torch.from_numpy(feature).float())
    return graph, torch.from_numpy(Z).float(), truth


def fitted(**arguments):
    part = HungarianKMeans(k=4, n_init=3, **arguments)
    anchor, Z, truth = make_graph(0)
    part.fit([anchor], [Z])
    names = np.array([part.predict(anchor, Z).argmax(1).numpy()[truth == j][0] for j in range(4)])
    return part, names


def test_names_carry_over_although_coordinates_do_not():
    part, names = fitted()
    for seed in range(1, 6):
        graph, Z, truth = make_graph(seed)
        P = part.predict(graph, Z)
        assert P.shape == (120, 4) and P.dtype == torch.float32 and (P.sum(1) == 1).all()
        np.testing.assert_array_equal(P.argmax(1), names[truth])


def test_matching_by_embedding_needs_comparable_coordinates():
    part = HungarianKMeans(k=4, n_init=3, match="embedding")
    anchor, Z, truth = make_graph(0, turn=False)
    part.fit([anchor], [Z])
    names = np.array([part.predict(anchor, Z).argmax(1).numpy()[truth == j][0] for j in range(4)])
    graph, Z, truth = make_graph(1, turn=False)
    np.testing.assert_array_equal(part.predict(graph, Z).argmax(1), names[truth])


def test_the_anchor_is_the_graph_that_was_named():
    graphs, embeddings, _ = zip(*(make_graph(seed) for seed in range(3)))
    part, only = HungarianKMeans(k=4), HungarianKMeans(k=4)
    part.anchor = 2
    part.fit(graphs, embeddings)
    only.fit(graphs[2:], embeddings[2:])
    np.testing.assert_array_equal(part.reference_, only.reference_)


@pytest.mark.parametrize("classes", [[], [2], [2, 0], [1, 1, 3]])
def test_graphs_with_fewer_nodes_than_k(classes):
    part, names = fitted()
    graph, Z, truth = make_graph(9, classes=np.array(classes, int))
    P = part.predict(graph, Z)
    assert P.shape == (len(classes), 4) and (P.sum(1) == 1).all()
    if len(set(classes)) == len(classes):
        np.testing.assert_array_equal(P.argmax(1), names[truth])


def test_nodes_that_coincide_share_a_cluster():
    part, names = fitted()
    graph, Z, truth = make_graph(9, classes=[3, 0])
    twice = SimpleNamespace(n=20, feature=graph.feature.repeat(10, 1))
    np.testing.assert_array_equal(part.predict(twice, Z.repeat(10, 1)).argmax(1), np.tile(names[truth], 10))


def test_deterministic_and_saved_without_loss():
    part, _ = fitted()
    other = HungarianKMeans(k=4, n_init=3)
    assert other.get_state() == {}
    other.set_state({name: np.ascontiguousarray(value) for name, value in part.get_state().items()})
    graph, Z, _ = make_graph(5)
    assert torch.equal(part.predict(graph, Z), part.predict(graph, Z))
    assert torch.equal(part.predict(graph, Z), other.predict(graph, Z))


def test_anchor_smaller_than_k_is_refused():
    graph, Z, _ = make_graph(0, n=3)
    with pytest.raises(UserError, match="k=4 is larger than the 3 distinct nodes"):
        HungarianKMeans(k=4).fit([graph], [Z])


def test_match_is_the_best_of_all_permutations():
    from itertools import permutations

    rng = np.random.default_rng(0)
    means, reference = rng.normal(size=(3, 2)), rng.normal(size=(5, 2))
    cost = {p: np.square(means - reference[list(p)]).sum() for p in permutations(range(5), 3)}
    assert tuple(match(means, reference)) == min(cost, key=cost.get)


@pytest.mark.parametrize("arguments", [{"k": 0}, {"n_init": 0}, {"iterations": 0}])
def test_bad_arguments(arguments):
    with pytest.raises(UserError, match=f"clusterer.{next(iter(arguments))}"):
        HungarianKMeans(**arguments)
