"""Incremental centroids: running means once per window, re-seeding, exact resume."""

import numpy as np
import pytest
import torch

from registry.base import UserError
from registry.numeric.centroids import IncrementalCentroids, device_of

ANCHOR = np.array([[0.0], [0], [10], [10]], np.float32)


def feed(centroids, *values):
    Z = np.array(values, np.float32)[:, None]
    return centroids.observe(Z, centroids.assign(Z))


def begun(**arguments):
    centroids = IncrementalCentroids(2, **{"update_every": 2, **arguments})
    labels = centroids.begin(ANCHOR)
    return centroids, int(labels[0]), int(labels[2])


def test_anchor_gives_centroids_and_labels():
    centroids, low, high = begun()
    assert {low, high} == {0, 1}
    assert centroids.centroids[[low, high], 0].tolist() == [0, 10]
    assert centroids.use_.tolist() == [2, 2]


def test_running_mean_over_all_nodes_so_far_once_per_window():
    centroids, low, high = begun()
    assert feed(centroids, 3, 3, 10) is False
    assert centroids.centroids[low, 0] == 0  # the window is open
    assert feed(centroids, 4, 12) is True
    assert centroids.centroids[low, 0] == pytest.approx((0 + 0 + 3 + 3 + 4) / 5)
    assert centroids.centroids[high, 0] == pytest.approx((10 + 10 + 10 + 12) / 4)
    assert centroids.use_[[low, high]].tolist() == [5, 4]
    assert centroids.window_use_[[low, high]].tolist() == [3, 2]


def test_decay_forgets():
    centroids, low, _ = begun(decay=0.5, update_every=1)
    feed(centroids, 3, 10)
    assert centroids.centroids[low, 0] == pytest.approx((0.5 * 2 * 0 + 3) / (0.5 * 2 + 1))
    centroids, low, _ = begun(decay=0.0, update_every=1)
    feed(centroids, 3, 10)
    assert centroids.centroids[low, 0] == 3


def test_follows_a_drift_that_the_full_mean_lags_behind():
    ends = {}
    for decay in (None, 0.5):
        centroids, low, _ = begun(decay=decay, update_every=1)
        for step in range(40):
            feed(centroids, -0.1 * step, 10)
        ends[decay] = centroids.centroids[low, 0]
    assert ends[0.5] < -3.5 < ends[None]


def test_an_emptied_cluster_goes_to_the_farthest_node_of_the_window():
    centroids, low, high = begun()
    feed(centroids, 0, 1)
    feed(centroids, 0, -4)
    assert centroids.reseeds_ == 1
    assert centroids.centroids[high, 0] == -4
    assert centroids.counts_[high] == 1
    feed(centroids, -6, 0)
    feed(centroids, -8, 0)
    assert centroids.centroids[high, 0] == pytest.approx((-4 - 6 - 8) / 3)


def test_an_emptied_cluster_stays_without_reseed():
    centroids, _, high = begun(reseed=False)
    feed(centroids, 0, 1)
    feed(centroids, 0, -4)
    assert centroids.centroids[high, 0] == 10 and centroids.reseeds_ == 0


def test_two_emptied_clusters_take_two_places():
    centroids = IncrementalCentroids(3, update_every=1)
    centroids.begin(np.array([[0.0], [100], [200]], np.float32))
    Z = np.array([[0.0], [1], [-30], [-30], [20]], np.float32)
    centroids.observe(Z, centroids.assign(Z))
    assert centroids.reseeds_ == 2 and sorted(centroids.centroids[:, 0])[::2] == [-30, 20]


def test_nothing_to_reseed_with_when_nodes_coincide():
    centroids, low, high = begun(update_every=1)
    feed(centroids, 0, 0)
    assert centroids.centroids[[low, high], 0].tolist() == [0, 10] and centroids.reseeds_ == 0


def test_flush_moves_centroids_but_reseeds_nothing():
    centroids, low, high = begun(update_every=8)
    feed(centroids, 3)
    centroids.flush()
    assert centroids.centroids[low, 0] == pytest.approx(1) and centroids.centroids[high, 0] == 10
    before = centroids.updates_
    centroids.flush()
    assert centroids.updates_ == before == 1


def test_an_empty_graph_counts_as_a_graph():
    centroids, _, _ = begun()
    empty = np.zeros((0, 1), np.float32)
    assert centroids.assign(empty).shape == (0,)
    assert centroids.observe(empty, centroids.assign(empty)) is False
    assert feed(centroids, 0, 10) is True


def stream(seed, count):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield torch.from_numpy(rng.normal(size=(50, 4)).astype(np.float32) * rng.uniform(0.2, 3))


@pytest.mark.parametrize("stop", [0, 3, 8, 13])
def test_resume_is_exact_wherever_it_stops(stop):
    graphs = list(stream(0, 30))
    whole, first, second = (IncrementalCentroids(8, decay=0.9, seed=1) for _ in range(3))
    assert first.get_state() == {}
    whole.begin(graphs[0])
    first.begin(graphs[0])
    for Z in graphs[:stop]:
        first.observe(Z, first.assign(Z))
    state = {name: np.ascontiguousarray(value) for name, value in first.get_state().items()}
    for Z in graphs[:10]:  # the state is a copy
        first.observe(Z, first.assign(Z))
    second.set_state(state)
    for Z in graphs:
        whole.observe(Z, whole.assign(Z))
    for Z in graphs[stop:]:
        second.observe(Z, second.assign(Z))
    a, b = whole.get_state(), second.get_state()
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_tensors_stay_tensors_and_need_no_gradient():
    Z = next(stream(1, 1)).requires_grad_()
    centroids = IncrementalCentroids(8)
    labels = centroids.begin(Z)
    assert labels.dtype == torch.int64 and torch.equal(labels, centroids.assign(Z))
    centroids.observe(Z, labels)
    assert centroids.centroids.dtype == np.float32


def test_state_of_another_k_is_refused():
    centroids, _, _ = begun()
    with pytest.raises(ValueError, match="k=3"):
        IncrementalCentroids(3).set_state(centroids.get_state())


def test_too_few_anchor_nodes():
    with pytest.raises(UserError, match="k=8 is larger than the 2 distinct nodes"):
        IncrementalCentroids(8).begin(np.repeat(ANCHOR, 5, axis=0))


def test_use_before_begin_is_our_mistake():
    with pytest.raises(RuntimeError, match="begin"):
        IncrementalCentroids(2).assign(ANCHOR)


def test_faiss_works_where_the_coordinates_are():
    assert device_of(torch.zeros(1, device="meta")) == torch.device("meta")
    assert device_of(ANCHOR) == "cpu"
