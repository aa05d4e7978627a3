"""Small graphs that tests of several parts share."""

import numpy as np
import pytest
import torch

from registry.spg.graphs import RegionGraph


def random_graph(n: int = 12, d: int = 6, density: float = 0.4, seed: int = 0) -> RegionGraph:
    """A symmetric random graph with self-loops on a (1, n) strip of one-pixel regions."""
    rng = np.random.default_rng(seed)
    A = np.triu(rng.random((n, n)) * (rng.random((n, n)) < density), 1)
    A = A + A.T + 0.75 * np.eye(n)
    src, dst = np.nonzero(A)
    return RegionGraph.from_edges(
        np.arange(n).reshape(1, n), rng.normal(size=(n, d)), np.ones(n), np.zeros((n, 2)), src, dst, A[src, dst]
    )


@pytest.fixture
def make_graph():
    return random_graph


@pytest.fixture(autouse=True)
def one_thread():
    """Results of tests do not depend on the machine's cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
