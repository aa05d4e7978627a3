"""Eigensegments of Deep Spectral Methods against a plain generalised decomposition, on every path to them."""

import numpy as np
import pytest
import torch

from registry.base import UserError
from registry.embedder import dsm
from registry.embedder.dsm import DSM
from registry.numeric import memory
from registry.spg.graphs import RegionGraph


def graph_of(feature, grey=None, side=None) -> RegionGraph:
    """Nodes with these features (n, d) on a grid with `side` columns (one row if not told), without edges."""
    feature = np.asarray(feature, np.float32)
    n, none = len(feature), np.zeros(0, np.int64)
    regions = np.arange(n).reshape(-1, side or max(n, 1)) if n else np.zeros((0, 0))
    place = np.stack(np.unravel_index(np.arange(n), regions.shape), 1) if n else np.zeros((0, 2))
    return RegionGraph.from_edges(regions, feature, np.ones(n), place, none, none, none, grey)


def features(n: int, q: int, offset: float, seed: int = 0) -> np.ndarray:
    """(n, q) around a point `offset` away from the origin: far away, all within a right angle."""
    X = np.random.default_rng(seed).normal(size=(n, q)) * np.linspace(1, 2, q)
    return X + offset * np.eye(q)[0]


def plain(feature, colour=0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All solutions of (D - W) v = lambda D v, ascending, by SciPy; and the degrees."""
    from scipy.linalg import eigh

    F = np.asarray(feature, np.float32).astype(np.float64)
    F = F / np.linalg.norm(F, axis=1, keepdims=True)
    W = np.maximum(F @ F.T, 0) + colour
    D = np.diag(W.sum(1))
    values, V = eigh(D - W, D)
    return values, V, W.sum(1)


def agree(part: DSM, graph: RegionGraph, values, V, degree, tolerance: float) -> None:
    """The same eigenvalues, and the same space, solution by solution (up to sign)."""
    got, U = part.spectrum(graph)
    np.testing.assert_allclose(got, values[1 : 1 + part.u], atol=tolerance)
    cosines = np.abs(np.sum(U * degree[:, None] * V[:, 1 : 1 + part.u], axis=0)) / np.sqrt(degree.sum())
    np.testing.assert_allclose(cosines, 1, atol=30 * tolerance)


@pytest.mark.parametrize("n", [100, 400])
@pytest.mark.parametrize("offset", [0, 20], ids=["all directions", "one direction"])
def test_solves_the_generalised_problem_without_its_constant_solution(n, offset):
    feature = features(n, 12, offset)
    part, graph = DSM(u=4, channels="all"), graph_of(feature)
    agree(part, graph, *plain(feature), tolerance=1e-5)


def test_both_ways_to_the_solutions_agree(monkeypatch):
    """Features that all lie near one direction need no n x n matrix; made all the same, it gives the same."""
    graph = graph_of(features(400, 12, 20))
    part = DSM(u=4, channels="all")
    Z = part.embed(graph)
    monkeypatch.setattr(dsm, "within_a_right_angle", lambda F: False)
    torch.testing.assert_close(part.embed(graph), Z, atol=1e-2, rtol=0)


def test_the_matrix_is_made_in_blocks_of_any_size(monkeypatch):
    graph = graph_of(features(400, 12, 0))
    Z = DSM(u=4).embed(graph)
    monkeypatch.setattr(dsm, "BLOCK", 7)
    torch.testing.assert_close(DSM(u=4).embed(graph), Z, atol=1e-3, rtol=0)


def test_two_groups_of_nodes_by_hand():
    # W is 1 within groups of 2 and 3 and 1/2 between: D = 3.5 and 4; v is constant on groups, v^T D 1 = 0
    half = np.sqrt(3) / 2
    feature = [[1, 0], [1, 0], [0.5, half], [0.5, half], [0.5, half]]
    Z = DSM(u=3, channels="all").embed(graph_of(feature))
    v = np.array([12, 12, -7, -7, -7]) / np.sqrt((7 * 144 + 12 * 49) / 19)
    np.testing.assert_allclose(Z[:, 0], v, atol=1e-5)
    assert (Z[:, 1:] == 0).all()  # rank 2 has no more solutions


def test_groups_at_right_angles_are_told_apart():
    feature = np.eye(3)[np.arange(300) % 3] + 0.01 * np.random.default_rng(0).random((300, 3))
    Z = DSM(u=2, channels="all").embed(graph_of(feature)).numpy()
    means = np.stack([Z[i::3].mean(0) for i in range(3)])
    within = max(np.abs(Z[i::3] - means[i]).max() for i in range(3))
    apart = min(np.linalg.norm(means[i] - means[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert within < 0.1 < 1 < apart


@pytest.mark.parametrize("offset", [0, 20])
def test_columns_have_the_same_length_by_degree_and_a_positive_peak(offset):
    feature = features(300, 12, offset)
    Z = DSM(u=5, channels="all").embed(graph_of(feature)).double()
    degree = torch.from_numpy(plain(feature)[2])
    torch.testing.assert_close(Z.T @ (degree[:, None] * Z) / degree.sum(), torch.eye(5).double(), atol=1e-3, rtol=0)
    assert (Z.gather(0, Z.abs().argmax(0, keepdim=True)) > 0).all()


def test_only_means_count_and_not_their_length():
    feature = features(60, 8, 0)
    Z = DSM(u=3).embed(graph_of(feature))
    other = feature.copy()
    other[:, 4:] = np.random.default_rng(1).normal(size=(60, 4))  # deviations
    other[:, :4] *= np.arange(1, 61)[:, None]
    torch.testing.assert_close(DSM(u=3).embed(graph_of(other)), Z, atol=1e-4, rtol=0)
    assert not torch.allclose(DSM(u=3, channels="all").embed(graph_of(other)), Z, atol=1e-2)


@pytest.mark.parametrize("d", [1, 5])
def test_an_odd_number_of_channels_is_taken_whole(d):
    graph = graph_of(features(30, d, 1))
    assert torch.equal(DSM().embed(graph), DSM(channels="all").embed(graph))


# -------------------------------------------------------------------------------------------------------- the colour
def test_neighbours_by_grey_value_and_place_by_hand():
    # as many nodes as neighbours or fewer: both searches find all, so each pair counts twice from either end
    C = dsm.neighbours_by_grey(graph_of(np.ones((5, 2)), grey=np.arange(5)))
    np.testing.assert_array_equal(C.toarray(), np.full((5, 5), 4))


def test_neighbours_are_alike_in_grey_value_where_places_weigh_little():
    grey = np.where(np.arange(144) % 12 < 6, -2, 2)
    C = dsm.neighbours_by_grey(graph_of(np.ones((144, 2)), grey=grey, side=12)).tocoo()
    assert (C != C.T).nnz == 0
    assert (grey[C.row] == grey[C.col]).all()
    assert C.sum() == 2 * 144 * (20 + 10)


@pytest.mark.parametrize("n", [100, 400])
@pytest.mark.parametrize("offset", [0, 20])
def test_colour_is_added_to_the_similarity_of_features(n, offset):
    feature = features(n, 12, offset)
    graph = graph_of(feature, grey=np.random.default_rng(1).normal(size=n), side=20)
    colour = 3.0 * dsm.neighbours_by_grey(graph).toarray()
    agree(DSM(u=4, channels="all", colour_weight=3.0), graph, *plain(feature, colour), tolerance=1e-4)


def test_colour_needs_grey_values():
    with pytest.raises(UserError, match="^embedder.colour_weight: .*grey"):
        DSM(colour_weight=1.0).embed(graph_of(np.ones((4, 2))))


# ---------------------------------------------------------------------------------------------------- awkward graphs
@pytest.mark.parametrize("n", [0, 1, 2, 5, 15, 16, 17])
@pytest.mark.parametrize("offset", [0, 20])
def test_tiny_graphs_are_padded_with_zeros(n, offset):
    Z = DSM(channels="all").embed(graph_of(features(n, 40, offset) if n else np.zeros((0, 40))))
    assert Z.shape == (n, 15) and Z.dtype == torch.float32 and torch.isfinite(Z).all()
    filled = max(min(15, n - 1), 0)
    assert (Z[:, :filled].abs().amax(0) > 0.1).all() if filled else True
    assert (Z[:, filled:] == 0).all()


@pytest.mark.parametrize("n", [20, 400])
def test_nodes_all_alike_and_nodes_without_any_feature(n):
    assert (DSM().embed(graph_of(np.ones((n, 6)))) == 0).all()
    assert torch.isfinite(DSM().embed(graph_of(np.zeros((n, 6))))).all()
    mixed = features(n, 6, 0)
    mixed[3] = 0
    Z = DSM(u=3, channels="all").embed(graph_of(mixed))
    assert torch.isfinite(Z).all()


@pytest.mark.parametrize("offset", [0, 20])
@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_same_at_every_call(offset, weight):
    graph = graph_of(features(400, 12, offset), grey=np.zeros(400), side=20)
    first = DSM(colour_weight=weight).embed(graph)
    torch.manual_seed(5)
    np.random.seed(5)
    assert torch.equal(DSM(colour_weight=weight).embed(graph), first)


def test_more_pairs_than_memory_holds_are_refused(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 4 * 60**2 - 1)
    with pytest.raises(UserError, match="^embedder: dsm .*60 nodes"):
        DSM().embed(graph_of(features(60, 6, 0)))
    DSM().embed(graph_of(features(60, 6, 20)))  # needs no matrix


@pytest.mark.parametrize("arguments", [{"u": 0}, {"colour_weight": -1.0}, {"colour_weight": float("nan")}])
def test_bad_arguments_are_named(arguments):
    (key,) = arguments
    with pytest.raises(UserError, match=rf"^embedder\.{key}: "):
        DSM(**arguments)


def test_keeps_no_state():
    assert DSM().get_state() == {}
