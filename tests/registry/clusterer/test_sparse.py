"""Heads that learn from a few labelled nodes."""

import numpy as np
import pytest
import torch

import registry
from registry.base import UserError
from registry.clusterer.sparse import balanced, shares
from registry.spg.graphs import RegionGraph

HEADS = ("label_spreading", "sparse_trees", "sparse_logistic")
every_head = pytest.mark.parametrize("name", HEADS)


def two_sides(n: int = 200, seed: int = 0) -> tuple[RegionGraph, np.ndarray]:
    """A ring of nodes whose two halves have other features, under noise; the half that each is of."""
    rng = np.random.default_rng(seed)
    truth = (np.arange(n) >= n // 2).astype(np.int64)
    feature = 3 * truth[:, None] * np.array([1, -1, 0, 0, 0, 0.5]) + rng.normal(size=(n, 6))
    i = np.arange(n)
    src, dst = np.concatenate([i, i, (i + 1) % n]), np.concatenate([i, (i + 1) % n, i])
    regions = np.arange(n).reshape(1, n)
    graph = RegionGraph.from_edges(regions, feature, np.ones(n), np.zeros((n, 2)), src, dst, np.ones(3 * n))
    return graph, truth


def labels(truth: np.ndarray, nodes: list[int], C: int = 2) -> np.ndarray:
    counts = np.zeros((len(truth), C), np.int64)
    counts[nodes, truth[nodes]] = 3
    return counts


def classes(head, graph) -> np.ndarray:
    return head.predict(graph, torch.zeros(graph.n, 1)).argmax(1).numpy()


@every_head
def test_three_labels_a_side_find_both_sides_in_another_graph(name):
    graph, truth = two_sides()
    head = registry.get("clusterer", name)(k=3)
    head.fit([graph], [None], [labels(truth, [5, 40, 80, 110, 150, 190])])
    other, truth = two_sides(seed=1)
    assert (classes(head, other) == truth).mean() > 0.9
    assert (head.predict(other, torch.zeros(other.n, 1))[:, 2] == 0).all()  # a class without labels


@every_head
def test_labels_add_up_and_the_newest_of_a_node_counts(name):
    graph, truth = two_sides()
    head = registry.get("clusterer", name)(k=2)
    head.fit([graph], [None], [labels(1 - truth, [5, 150])])  # both wrong
    head.partial_fit([graph], [None], [labels(truth, [5, 40, 150, 190])])
    assert len(head.points_) == 4 and sorted(head.classes_) == [0, 0, 1, 1]
    assert (classes(head, graph) == truth).mean() > 0.9
    whole = registry.get("clusterer", name)(k=2)
    whole.fit([graph], [None], [labels(truth, [5, 40, 150, 190])])
    assert torch.allclose(whole.predict(graph, torch.zeros(1)), head.predict(graph, torch.zeros(1)), atol=0.2)


@every_head
def test_one_class_alone_is_certain_and_none_is_the_users_mistake(name):
    graph, truth = two_sides()
    head = registry.get("clusterer", name)(k=2)
    head.fit([graph], [None], [labels(truth, [5, 6])])
    assert (head.predict(graph, torch.zeros(1))[:, 0] == 1).all()
    with pytest.raises(UserError, match="needs labels, but no training node has any"):
        head.fit([graph], [None], [labels(truth, [])])
    with pytest.raises(UserError, match="clusterer.k: 2 is less than the data's 3 classes"):
        head.partial_fit([graph], [None], [labels(truth, [5], C=3)])


@every_head
def test_a_stored_state_that_does_not_fit_is_refused(name):
    graph, truth = two_sides()
    head = registry.get("clusterer", name)(k=2)
    head.fit([graph], [None], [labels(truth, [5, 150])])
    state = head.get_state()
    for wrong in ({**state, "points": state["points"][:, 1:]}, {**state, "classes": state["classes"] + 2}):
        with pytest.raises(ValueError):
            registry.get("clusterer", name)(k=2).set_state(wrong)
    with pytest.raises((ValueError, KeyError)):
        registry.get("clusterer", name)(k=2).set_state({k: v for k, v in state.items() if not k.startswith("head.")})


def test_labelled_nodes_keep_their_class_until_neighbours_outvote_it_and_smoothing_calms_the_rest():
    graph, truth = two_sides()
    rough = registry.get("clusterer", "label_spreading")(k=2, smooth=0.0, correct=0.0)
    rough.fit([graph], [None], [labels(1 - truth, [50]) + labels(truth, [5, 150])])
    assert classes(rough, graph)[50] == 1  # labelled against its features
    smooth = registry.get("clusterer", "label_spreading")(k=2, smooth=0.9, steps=20)
    smooth.fit([graph], [None], [labels(truth, [5, 40, 150, 190])])
    P = smooth.predict(graph, torch.zeros(1))[:, 0]
    assert (P[1:] - P[:-1]).abs().mean() < (rough.predict(graph, torch.zeros(1))[:, 0].diff()).abs().mean()


def test_the_spread_is_so_many_walks_back_to_the_start_in_whatever_threads_and_nodes_without_edges_stay():
    rng = np.random.default_rng(0)
    n = 300
    A = np.triu(rng.random((n, n)) * (rng.random((n, n)) < 0.05), 1).astype(np.float32)
    A[-1], A[:, -1] = 0, 0
    A += A.T
    src, dst = np.nonzero(A)
    regions, feature = np.arange(n).reshape(1, n), rng.normal(size=(n, 3))
    graph = RegionGraph.from_edges(regions, feature, np.ones(n), np.zeros((n, 2)), src, dst, A[src, dst])
    start = rng.random((n, 3)).astype(np.float32)
    W = A.astype(np.float64) / np.maximum(A.sum(1, keepdims=True), 1e-12)
    W[-1, -1] = 1
    expected = start.astype(np.float64)
    for _ in range(6):
        expected = 0.7 * W @ expected + 0.3 * start
    head = registry.get("clusterer", "label_spreading")(k=3)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(head._spread(graph, torch.from_numpy(start), 0.7))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_allclose(found[0], expected, atol=1e-6)
    assert torch.equal(*found) and (found[0][-1].numpy() == start[-1]).all()


def test_only_a_node_with_all_coordinates_of_a_labelled_one_is_labelled():
    head = registry.get("clusterer", "label_spreading")(k=2, coordinates=1)
    head.points_, head.classes_ = np.float32([[1, 2, 3], [4, 5, 6]]), np.array([1, 0])
    points = np.float32([[4, 5, 6], [1, 2, 4], [0, 2, 3], [1, 2, 3], [1, 2, 3]])
    assert head._known(points).tolist() == [0, -1, -1, 1, 1]


def test_every_class_weighs_the_same():
    weight = balanced(np.array([0, 0, 0, 2]))
    np.testing.assert_allclose([weight[:3].sum(), weight[3]], [2, 2])


def test_sizes_of_classes_are_found_from_points_without_labels_though_none_is_believed_to_be_tiny():
    rng = np.random.default_rng(0)
    truth = (rng.random(4000) < 0.1).astype(int)
    x = rng.normal(2.0 * truth, 1)
    rare = 1 / (1 + np.exp(2 - 2 * x))  # what is known where both are alike
    P = np.stack([1 - rare, rare], 1)
    assert P.mean(0)[1] > 0.2
    np.testing.assert_allclose(shares(P, 0.02), [0.9, 0.1], atol=0.02)
    np.testing.assert_allclose(shares(np.tile([[1.0, 0.0]], (10, 1)), 0.02), [1, 0.02])


def test_a_rare_class_is_seen_less_often_once_its_size_is_known_and_an_older_state_knows_none():
    graph, truth = two_sides()
    alike, weighed = (
        registry.get("clusterer", "label_spreading")(k=2, prior=prior, chosen=0.5) for prior in (0.0, 1.0)
    )
    order = np.flatnonzero(truth == 0)[:20].tolist() + np.flatnonzero(truth == 1).tolist()  # one half is rare here
    for head in (alike, weighed):
        head.begin_with([graph])
        points = head.points(graph)
        head.coordinates_.sample_ = points[order]
        head.learn(points[[5, 40, 150, 190]], truth[[5, 40, 150, 190]])
    assert weighed.weight_[0] < 0.4 < weighed.weight_[1]
    assert (weighed.judge(points)[:, 0] < alike.judge(points)[:, 0]).all()
    state = {
        name: value for name, value in weighed.get_state().items() if name not in ("head.weight", "coordinates.sample")
    }
    older = registry.get("clusterer", "label_spreading")(k=2, prior=1.0)
    older.set_state(state)
    np.testing.assert_allclose(older.judge(points), alike.judge(points), atol=1e-6)
    with pytest.raises(ValueError, match="weight"):
        older.set_state({**state, "head.weight": np.zeros(2, np.float32)})


def test_an_older_teachers_logistic_regression_judges_as_it_did():
    graph, truth = two_sides()
    head = registry.get("clusterer", "sparse_logistic")(k=2, coordinates=8)  # more than there are features
    head.fit([graph], [None], [labels(truth, [5, 40, 150, 190])])
    state, points = head.get_state(), head.points(graph)
    deviation = head.coordinates_.deviation_[-1]
    assert (deviation == 0).any()
    older = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
    score = points[:, -8:] * np.sqrt(deviation) @ older + head.bias_
    head.set_state({**state, "head.weights": older})
    np.testing.assert_allclose(head.judge(points), torch.softmax(torch.from_numpy(score), 1), atol=1e-5)


def test_the_rarest_classes_decide_how_much_trees_count_and_a_stored_head_keeps_that():
    graph, truth = two_sides()
    head = registry.get("clusterer", "label_spreading")(k=2, even=4)
    head.fit([graph], [None], [labels(truth, [1, *range(100, 199)])])
    assert head.share_ == pytest.approx(4 / (4 + 2 / (1 + 1 / 99)))
    state, points = head.get_state(), head.points(graph)
    stored = registry.get("clusterer", "label_spreading")(k=2, even=4)
    stored.set_state(state)
    assert (stored.judge(points) == head.judge(points)).all()
    stored.set_state({name: value for name, value in state.items() if name != "head.share"})
    assert stored.share_ == pytest.approx(4 / (4 + 50))  # an older one's, by the mean
    for wrong in (np.zeros(1, np.float32), np.full(1, 2, np.float32), np.ones(2, np.float32), np.ones(1)):
        with pytest.raises(ValueError, match="share"):
            stored.set_state({**state, "head.share": wrong})


def test_a_few_labels_say_little_about_how_they_were_chosen():
    graph, truth = two_sides()
    weights = []
    for trust in (0.0, 4.0, 1e6):
        head = registry.get("clusterer", "label_spreading")(k=2, trust=trust, prior=0.0, chosen=0.5)
        head.begin_with([graph])
        points = head.points(graph)
        head.coordinates_.sample_ = points[np.r_[0:100, 100:110]]  # the second class is rare
        head.learn(points[[5, 40, 70, 80, 150]], truth[[5, 40, 70, 80, 150]])
        weights.append(head.weight_[1] / head.weight_[0])
    assert weights[0] > weights[1] > weights[2] == pytest.approx(1, abs=1e-3)
