"""Numerical spectral embedding against a plain dense decomposition, on graphs of every awkward kind."""

import warnings

import numpy as np
import pytest
import torch

from registry.base import UserError
from registry.embedder.eigsh import Eigsh
from registry.embedder.identity import Identity
from registry.spg.graphs import RegionGraph


def graph_of(A):
    """RegionGraph with the dense affinity A (n, n)."""
    A = np.asarray(A, np.float32)
    src, dst = np.nonzero(A)
    n = len(A)
    return RegionGraph.from_edges(
        np.arange(n)[None], np.arange(2 * n).reshape(n, 2), np.ones(n), np.zeros((n, 2)), src, dst, A[src, dst]
    )


def neighbours(n, seed=0, m=8, d=3):
    """A symmetric m-nearest-neighbour affinity (n, n) with self-loops."""
    X = np.random.default_rng(seed).normal(size=(n, d))
    d2 = np.square(X[:, None] - X[None]).sum(-1)
    A = np.where(d2 <= np.sort(d2, axis=1)[:, m : m + 1], np.exp(-d2), 0)
    return np.maximum(A, A.T)


def blocks(*matrices):
    n = sum(len(M) for M in matrices)
    A, start = np.zeros((n, n)), 0
    for M in matrices:
        A[start : start + len(M), start : start + len(M)] = M
        start += len(M)
    return A


def plain(A):
    """Eigenvalues, eigenvectors of L = I - D^-1/2 A D^-1/2, by NumPy; and the trivial vector."""
    A = np.asarray(A, np.float32).astype(np.float64)
    degree = A.sum(1)
    scale = np.where(degree > 0, 1 / np.sqrt(np.maximum(degree, 1e-30)), 0)
    values, V = np.linalg.eigh(np.eye(len(A)) - scale[:, None] * A * scale[None])
    return values, V, np.sqrt(degree / degree.sum())


@pytest.mark.parametrize("solver", ["eigsh", "lobpcg", "dense"])
@pytest.mark.parametrize("drop_first", [True, False])
def test_equals_a_dense_decomposition(solver, drop_first):
    A = neighbours(400)
    values, V, trivial = plain(A)
    assert values[1] > 1e-3  # connected
    got, W = Eigsh(solver=solver, drop_first=drop_first).spectrum(graph_of(A))
    first = int(drop_first)
    np.testing.assert_allclose(got, values[first : first + 12], atol=1e-7)
    cosines = np.linalg.svd(V[:, first : first + 12].T @ W)[1]  # of the principal angles
    np.testing.assert_allclose(cosines, 1, atol=1e-5)
    np.testing.assert_allclose(W.T @ W, np.eye(12), atol=1e-5)
    if drop_first:
        np.testing.assert_allclose(trivial @ W, 0, atol=1e-5)
    else:
        np.testing.assert_allclose(W[:, 0], trivial, atol=1e-6)


@pytest.mark.parametrize("solver", ["eigsh", "lobpcg", "dense"])
def test_disconnected_graph_has_all_its_null_vectors(solver):
    A = blocks(neighbours(200, 1), neighbours(150, 2), np.ones((1, 1)), neighbours(40, 3))
    values, V, _ = plain(A)
    assert (values[:4] < 1e-6).all() and values[4] > 1e-3
    got, W = Eigsh(solver=solver, drop_first=False).spectrum(graph_of(A))
    np.testing.assert_allclose(got, values[:12], atol=1e-6)
    for low, high in ((0, 4), (4, 12)):
        np.testing.assert_allclose(np.linalg.svd(V[:, low:high].T @ W[:, low:high])[1], 1, atol=1e-5)


def test_random_walk_vectors_are_constant_on_components():
    A = blocks(neighbours(30, 1), neighbours(50, 2))
    Z = Eigsh(u=1, vectors="random_walk").embed(graph_of(A)).numpy()[:, 0]
    assert np.ptp(Z[:30]) < 1e-5 and np.ptp(Z[30:]) < 1e-5 and abs(Z[0] - Z[-1]) > 1


def test_random_walk_vectors_solve_the_generalised_problem():
    A = neighbours(100).astype(np.float32).astype(np.float64)
    graph = graph_of(A)
    Z = Eigsh(u=5, vectors="random_walk").embed(graph).numpy().astype(np.float64)
    values, _ = Eigsh(u=5).spectrum(graph)
    D = np.diag(A.sum(1))
    np.testing.assert_allclose((D - A) @ Z, D @ Z * values, atol=1e-4)


def test_path_of_two_nodes_by_hand():
    # A = [[1, .5], [.5, 1]]: Â has the eigenvalues 1 and 1/3, for (1, 1) and (1, -1)
    graph = graph_of([[1, 0.5], [0.5, 1]])
    values, _ = Eigsh(u=2, drop_first=False).spectrum(graph)
    np.testing.assert_allclose(values, [0, 2 / 3], atol=1e-7)
    np.testing.assert_allclose(Eigsh(u=2).embed(graph), [[1, 0], [-1, 0]], atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 12, 13, 14])
@pytest.mark.parametrize("vectors", ["symmetric", "random_walk"])
@pytest.mark.parametrize("drop_first", [True, False])
def test_tiny_graphs_are_padded_with_zeros(n, vectors, drop_first):
    Z = Eigsh(u=12, drop_first=drop_first, vectors=vectors).embed(graph_of(neighbours(n, m=min(2, n - 1))))
    assert Z.shape == (n, 12) and Z.dtype == torch.float32 and torch.isfinite(Z).all()
    filled = min(12, n - int(drop_first))
    np.testing.assert_allclose(Z.square().sum(0)[:filled], n, rtol=1e-4)
    assert (Z[:, filled:] == 0).all()


def test_empty_graph():
    assert Eigsh().embed(graph_of(np.zeros((0, 0)))).shape == (0, 12)


@pytest.mark.parametrize("n", [20, 400])
def test_only_isolated_nodes(n):
    Z = Eigsh().embed(graph_of(np.eye(n)))
    np.testing.assert_allclose(Z.T @ Z / n, np.eye(12), atol=1e-5)


@pytest.mark.parametrize("n", [20, 400])
def test_a_node_without_even_a_self_loop(n):
    Z = Eigsh().embed(graph_of(blocks(neighbours(n), np.zeros((1, 1)))))
    assert torch.isfinite(Z).all() and (Z[-1].abs() < 1e-12).all()
    one = Eigsh(vectors="random_walk", row_normalize=True).embed(graph_of(np.zeros((1, 1))))
    assert one.shape == (1, 12) and torch.isfinite(one).all()


@pytest.mark.parametrize("solver", ["eigsh", "lobpcg"])
@pytest.mark.parametrize("A", [neighbours(300), np.ones((300, 300)), np.eye(300)], ids=["knn", "alike", "isolated"])
def test_the_same_at_every_call(solver, A):
    part, graph = Eigsh(solver=solver), graph_of(A)
    first = part.embed(graph)
    for _ in range(3):
        assert torch.equal(first, part.embed(graph))


def test_signs_do_not_depend_on_the_solver():
    graph = graph_of(neighbours(300))
    Z = {solver: Eigsh(u=6, solver=solver).embed(graph) for solver in ("eigsh", "lobpcg", "dense")}
    torch.testing.assert_close(Z["eigsh"], Z["dense"], atol=1e-3, rtol=0)
    torch.testing.assert_close(Z["lobpcg"], Z["dense"], atol=1e-2, rtol=0)
    peak = Z["dense"].gather(0, Z["dense"].abs().argmax(0, keepdim=True))
    assert (peak > 0).all()


def test_scale_of_columns_and_rows():
    graph = graph_of(neighbours(300))
    np.testing.assert_allclose(Eigsh().embed(graph).square().mean(0), 1, rtol=1e-5)
    np.testing.assert_allclose(Eigsh(row_normalize=True).embed(graph).square().sum(1), 1, rtol=1e-5)


def test_no_warnings_reach_the_user():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for solver in ("eigsh", "lobpcg", "dense"):
            Eigsh(solver=solver).embed(graph_of(neighbours(300)))


def test_keeps_no_state_and_refuses_bad_arguments():
    assert Eigsh().get_state() == {}
    with pytest.raises(UserError, match="embedder.u: 0"):
        Eigsh(u=0)


def test_identity_is_the_node_features():
    graph = graph_of(neighbours(10))
    assert torch.equal(Identity().embed(graph), graph.feature)
    assert Identity().get_state() == {}
