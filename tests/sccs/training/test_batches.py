"""The order of the training graphs, and embeddings of several at once."""

import itertools

import numpy as np
import pytest
import torch

from registry.spg.graphs import RegionGraph
from sccs.training.batches import batches, embedded


def graph(n: int, seed: int) -> RegionGraph:
    rng = np.random.default_rng(seed)
    A = np.triu(rng.random((n, n)), 1) + np.eye(n)
    src, dst = np.nonzero(A + A.T)
    return RegionGraph.from_edges(
        np.arange(n)[None], rng.normal(size=(n, 4)), np.ones(n), np.zeros((n, 2)), src, dst, (A + A.T)[src, dst]
    )


GRAPHS = [graph(n, n) for n in (5, 7, 9, 6, 8)]


def test_every_graph_is_seen_once_an_epoch():
    drawn = list(itertools.islice(batches(GRAPHS, 2, seed=3), 5))
    assert [len(each) for each in drawn] == [2] * 5
    seen = list(itertools.chain(*drawn))
    assert sorted(seen[:5]) == sorted(seen[5:]) == [0, 1, 2, 3, 4]


def test_the_order_is_a_function_of_seed_and_epoch():
    """The order that trainings of earlier versions had, so that they are repeated."""
    expected = [np.random.default_rng([3, epoch]).permutation(5).tolist() for epoch in range(4)]
    drawn = itertools.islice(batches(GRAPHS, 1, seed=3), 20)
    assert list(itertools.chain(*drawn)) == list(itertools.chain(*expected))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_resumed_training_goes_on_in_the_order(size):
    whole = list(itertools.islice(batches(GRAPHS, size, seed=0), 12))
    assert list(itertools.islice(batches(GRAPHS, size, seed=0, step=7), 5)) == whole[7:]


def test_drawing_leaves_torchs_random_numbers_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    next(batches(GRAPHS, 2, seed=0))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("at_once", [False, True])
def test_graphs_side_by_side_are_embedded_as_each_by_itself(at_once):
    calls = []

    def embed(graph: RegionGraph) -> torch.Tensor:
        calls.append(graph.graph.batch_size)
        return graph.propagate(graph.feature)

    found = embedded(embed, GRAPHS[:3], at_once)
    assert calls == ([3] if at_once else [1, 1, 1])
    for Z, graph in zip(found, GRAPHS):
        assert torch.allclose(Z, graph.propagate(graph.feature), atol=1e-6)
