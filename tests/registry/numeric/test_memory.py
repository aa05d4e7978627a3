"""What compares every pair of nodes is refused by name where memory has no room for it, before it is made."""

from pathlib import Path

import numpy as np
import pytest
import torch

from registry.base import UserError
from registry.embedder.eigsh import Eigsh
from registry.graph.superpixel import Superpixel
from registry.numeric import memory
from registry.numeric.memory import GIB, check_pairs, free_memory
from registry.spg import affinity
from registry.spg.graphs import Nodes, RegionGraph
from registry.spg.propagation import product

N = 300  # nodes, enough that no solver takes them for few


@pytest.fixture
def room(monkeypatch):
    """room(bytes): so much memory is free."""
    return lambda size: monkeypatch.setattr(memory, "free_memory", lambda device: size)


@pytest.fixture(scope="module")
def nodes():
    feature = np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32)
    regions = np.arange(N, dtype=np.int32)[None]
    touching = np.stack([np.arange(N - 1), np.arange(1, N)])
    return Nodes(regions, feature, np.ones(N, np.float32), np.zeros((N, 2), np.float32), touching)


def fitted(nodes: Nodes, **options) -> Superpixel:
    part = Superpixel(alpha=None, **options)
    part.fit([nodes])
    return part


def test_what_fits_passes_and_the_message_says_all(room):
    room(9 * GIB)
    check_pairs("graph.edges: all", 15_000, 40, "take fewer")
    with pytest.raises(UserError) as error:
        check_pairs("graph.edges: all", 20_000, 40, "take fewer")
    assert str(error.value) == (
        "graph.edges: all compares every pair of nodes: 20000 nodes in one image need 14.9 GiB of memory, "
        "but only 9.0 GiB are free; take fewer"
    )


def test_all_pairs_are_refused_before_they_are_made(room, nodes, monkeypatch):
    part = fitted(nodes, edges="all")
    room(affinity.BYTES_PER_PAIR * N**2)
    assert part.connect(nodes).density == 1
    room(affinity.BYTES_PER_PAIR * N**2 - 1)
    monkeypatch.setattr(affinity, "pairwise_squared", lambda X, Y: pytest.fail("made all the same"))
    with pytest.raises(UserError, match="^graph.edges: all .* 300 nodes .*knn.adjacent.*pixels_per_superpixel"):
        part.connect(nodes)


def test_sparse_edges_need_no_such_room(room, nodes):
    room(0)
    graph = fitted(nodes, edges="knn+adjacent").connect(nodes)
    assert graph.propagate(torch.ones(N, 1)).shape == (N, 1)


def test_a_dense_product_is_refused(room, nodes):
    room(40 * N**2)
    graph = fitted(nodes, edges="all").connect(nodes)
    room(4 * N**2 - 1)
    with pytest.raises(UserError, match="^graph.propagation: dense .*csr"):
        product(graph.graph, graph.normalised)


def test_a_full_decomposition_is_refused(room, nodes):
    graph: RegionGraph = fitted(nodes, edges="knn+adjacent").connect(nodes)
    room(40 * N**2 - 1)
    with pytest.raises(UserError, match="^embedder.solver: dense .*eigsh"):
        Eigsh(u=3, solver="dense").embed(graph)
    assert Eigsh(u=3).embed(graph).shape == (N, 3)


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="reads what Linux tells")
def test_free_memory_is_some_of_this_machine():
    total = int(next(x for x in Path("/proc/meminfo").read_text().splitlines() if x.startswith("MemTotal")).split()[1])
    assert 2**20 < free_memory() <= total * 1024
