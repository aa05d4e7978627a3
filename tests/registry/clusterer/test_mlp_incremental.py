"""The clustering head: targets, gradients, state."""

import numpy as np
import pytest
import torch

from registry.base import UserError
from registry.clusterer.mlp_incremental import MLPIncremental


@pytest.fixture
def blobs(make_graph):
    graph = make_graph(n=60, d=4)
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(3), 20)
    Z = torch.tensor(rng.normal(0, 0.1, (60, 2)) + np.array([[0, 0], [3, 0], [0, 3]])[truth]).float()
    return graph, Z, truth


def begun(blobs, **options) -> MLPIncremental:
    graph, Z, _ = blobs
    part = MLPIncremental(k=3, hidden=8, seed=0, **options)
    part.prepare(2, torch.device("cpu"))
    part.begin(graph, Z)
    return part


def test_training_makes_the_head_say_what_the_centroids_say(blobs):
    graph, Z, truth = blobs
    part = begun(blobs)
    optimizer = torch.optim.Adam(part.parameters(), lr=0.05)
    for _ in range(150):
        loss = sum(part.loss(graph, Z).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = part.predict(graph, Z).argmax(1).numpy()
    assert len({(a, b) for a, b in zip(truth, found)}) == 3 and len(set(found)) == 3


def test_dropout_acts_in_training_only(blobs):
    graph, Z, _ = blobs
    part = begun(blobs, dropout=0.5, head="elu+softmax")
    part.train()
    assert not torch.equal(part(Z), part(Z))
    part.eval()
    assert torch.equal(part(Z), part(Z))
    with pytest.raises(UserError, match="clusterer.dropout"):
        MLPIncremental(dropout=1.0)


@pytest.mark.parametrize("head", ["softmax", "sigmoid", "elu+softmax"])
def test_rows_of_the_prediction_sum_to_one(blobs, head):
    graph, Z, _ = blobs
    P = begun(blobs, head=head).predict(graph, Z)
    assert P.shape == (60, 3) and torch.allclose(P.sum(1), torch.ones(60), atol=1e-5)


@pytest.mark.parametrize("detach", [True, False])
def test_detach_keeps_gradients_from_the_embedding(blobs, detach):
    graph, Z, _ = blobs
    Z = Z.clone().requires_grad_()
    part = begun(blobs, detach=detach)
    sum(part.loss(graph, Z).values()).backward()
    assert (Z.grad is None or not Z.grad.any()) == detach


def test_state_round_trip_in_the_midst_of_a_window(blobs):
    graph, Z, _ = blobs
    part = begun(blobs)
    part.loss(graph, Z)
    other = MLPIncremental(k=3, hidden=8)
    other.set_state(part.get_state())
    for _ in range(8):
        assert part.loss(graph, Z)["clu"].item() == other.loss(graph, Z)["clu"].item()
    assert np.array_equal(part.centroids.centroids, other.centroids.centroids)


def test_fewer_nodes_than_clusters_to_begin_with(make_graph):
    part = MLPIncremental(k=8)
    part.prepare(2, torch.device("cpu"))
    with pytest.raises(UserError, match="k=8"):
        part.begin(make_graph(n=5), torch.randn(5, 2))


@pytest.mark.parametrize("options, word", [({"k": 1}, "k = 1"), ({"decay": 1.5}, "decay")])
def test_values_that_make_no_sense_are_refused(options, word):
    with pytest.raises(UserError, match=word):
        MLPIncremental(**options)
