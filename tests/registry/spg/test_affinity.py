"""Eq. 1 and the choices around it, against plain NumPy."""

import numpy as np
import pytest
import torch

from registry.base import FeatureMap, UserError
from registry.graph.patch import Patch
from registry.graph.pixel import Pixel
from registry.graph.superpixel import Superpixel, consecutive
from registry.spg.affinity import (
    _nearest_on_device,
    first_of_equals,
    nearest_pairs,
    pairwise_squared,
    rounded,
    squared_lengths,
)
from registry.spg.graphs import Nodes


def nodes_of(features: np.ndarray, touching=()) -> Nodes:
    n = len(features)
    return Nodes(
        np.arange(n, dtype=np.int32).reshape(1, n),
        features.astype(np.float32),
        np.ones(n, np.float32),
        np.zeros((n, 2), np.float32),
        np.array(touching, np.int64).reshape(-1, 2).T,
    )


@pytest.fixture
def features():
    return np.random.default_rng(0).normal(1, 2, (30, 4))


def affinity(part: Superpixel, features: np.ndarray, **kw) -> np.ndarray:
    nodes = nodes_of(features, **kw)
    part.fit([nodes])
    return part.connect(nodes).dense_affinity().numpy()


def test_all_edges_are_equation_1(features):
    A = affinity(Superpixel(standardize="none", kappa=20.0, alpha=4.0, edges="all"), features)
    d2 = ((features[:, None] - features[None]) ** 2).sum(2)
    expected = np.maximum(np.exp(-d2 / 20) - 1 / 4, 0)
    assert np.allclose(A, expected, atol=1e-5) and (A > 0).mean() < 1


def test_later_code_uses_the_plain_distance(features):
    A = affinity(Superpixel(standardize="none", kappa=2.0, alpha=8.0, distance="plain", edges="all"), features)
    d = np.sqrt(((features[:, None] - features[None]) ** 2).sum(2))
    assert np.allclose(A, np.maximum(np.exp(-d / 2) - 1 / 8, 0), atol=1e-4)


@pytest.mark.parametrize("edges", ["all", "knn"])
def test_graphs_of_the_warmup_have_an_alpha_of_their_own(features, edges):
    part = Superpixel(standardize="none", kappa=20.0, alpha=4.0, warmup_alpha=8.0, edges=edges)
    other = Superpixel(standardize="none", kappa=20.0, alpha=8.0, edges=edges)
    nodes = nodes_of(features)
    for each in (part, other):
        each.fit([nodes])
    graph = part.connect(nodes)
    assert np.array_equal(graph.warmup.dense_affinity(), other.connect(nodes).dense_affinity())
    assert graph.affinity.numel() < graph.warmup.affinity.numel() and graph.warmup.warmup is None
    assert other.connect(nodes).warmup is None


def test_standardize_set_uses_statistics_of_all_training_nodes(features):
    part = Superpixel(standardize="set", kappa=8.0, alpha=None, edges="all")
    a, b = nodes_of(features[:10]), nodes_of(features[10:])
    part.fit([a, b])
    expected = (features - features.mean(0)) / features.std(0)
    assert np.allclose(part.connect(a).feature.numpy(), expected[:10], atol=1e-5)


@pytest.mark.parametrize("how", ["node", "node+l2"])
def test_standardize_node_is_over_the_channels_of_each_node(features, how):
    part = Superpixel(standardize=how, kappa=1.0, edges="all")
    part.fit([nodes_of(features)])
    X = part.connect(nodes_of(features)).feature.numpy()
    assert np.allclose(X.mean(1), 0, atol=1e-5)
    assert np.allclose(np.square(X).sum(1), 1 if how == "node+l2" else 4, atol=1e-3)


def test_knn_keeps_the_nearest_in_both_directions(features):
    A = affinity(Superpixel(standardize="none", kappa=1e6, alpha=None, edges="knn", neighbours=3), features)
    d2 = ((features[:, None] - features[None]) ** 2).sum(2)
    np.fill_diagonal(d2, np.inf)
    near = np.zeros_like(A, bool)
    np.put_along_axis(near, np.argsort(d2, 1)[:, :3], True, 1)
    assert np.array_equal(A > 0, near | near.T | np.eye(30, dtype=bool))


def test_adjacent_joins_touching_regions_only(features):
    part = Superpixel(standardize="none", kappa=1e6, alpha=None, edges="adjacent")
    A = affinity(part, features, touching=[(0, 1), (4, 9)])
    expected = np.eye(30, dtype=bool)
    expected[[0, 1, 4, 9], [1, 0, 9, 4]] = True
    assert np.array_equal(A > 0, expected)


def test_every_choice_of_edges_is_symmetric_with_self_loops(features):
    for edges in ("all", "knn", "adjacent", "knn+adjacent"):
        A = affinity(Superpixel(edges=edges), features, touching=[(0, 1)])
        assert np.array_equal(A, A.T) and np.allclose(np.diag(A), 0.75)


def test_nearest_pairs_do_not_depend_on_the_block_size(features):
    import torch

    X = torch.from_numpy(features.astype(np.float32))
    assert torch.equal(nearest_pairs(X, 4, rows=7), nearest_pairs(X, 4))


def test_constant_channels_are_left_at_zero(features):
    features[:, 2] = 5
    part = Superpixel()
    part.fit([nodes_of(features)])
    assert (part.connect(nodes_of(features)).feature[:, 2] == 0).all()


def distances(features: np.ndarray) -> np.ndarray:
    return np.square(features[:, None] - features[None]).sum(2)


@pytest.mark.parametrize("distance", ["squared", "plain"])
def test_kappa_median_is_over_all_pairs_of_training_nodes(features, distance):
    part = Superpixel(standardize="none", kappa="median", distance=distance)
    part.fit([nodes_of(features[:9]), nodes_of(features[9:])])
    pairs = distances(features)[~np.eye(30, dtype=bool)]
    expected = np.median(pairs if distance == "squared" else np.sqrt(pairs))
    assert part.kappa_ == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("standardize", ["none", "set"])
def test_kappa_neighbour_is_within_each_graph_whatever_their_number(features, standardize):
    parts = [Superpixel(standardize=standardize, kappa="neighbour", neighbours=3) for _ in range(2)]
    parts[0].fit([nodes_of(features)])
    parts[1].fit([nodes_of(features)] * 4)  # over all graphs the nearest nodes would be the copies, at 0
    X = features if standardize == "none" else (features - features.mean(0)) / features.std(0)
    nearest = np.sort(distances(X), axis=1)[:, 1:4]
    assert parts[0].kappa_ == pytest.approx(parts[1].kappa_, rel=1e-5) == pytest.approx(np.median(nearest), rel=0.02)


@pytest.mark.parametrize("kappa", ["median", "neighbour"])
def test_the_kernel_is_measured_on_few_nodes_of_many(features, kappa, monkeypatch):
    monkeypatch.setattr("registry.spg.affinity.SAMPLE", 8)
    asked = []
    monkeypatch.setattr(
        "registry.spg.affinity.pairwise_squared", lambda X, Y: asked.append(len(X)) or pairwise_squared(X, Y)
    )
    Superpixel(kappa=kappa).fit([nodes_of(features)] * 4)
    assert sum(asked) == 8


@pytest.mark.parametrize("n", [1, 2])
def test_tiny_graphs(n):
    A = affinity(Superpixel(), np.ones((n, 4)))
    assert A.shape == (n, n) and np.isfinite(A).all()


@pytest.mark.parametrize(
    "option, value",
    [("alpha", 1.0), ("warmup_alpha", 1.0), ("kappa", 0.0), ("neighbours", 0), ("pixels_per_superpixel", 0.5)],
)
def test_values_that_make_no_sense_are_refused(option, value):
    with pytest.raises(UserError, match=option):
        Superpixel(**{option: value})


def test_state_round_trip(features):
    part, other = Superpixel(), Superpixel()
    part.fit([nodes_of(features)])
    other.set_state(part.get_state())
    assert np.array_equal(*(p.connect(nodes_of(features)).dense_affinity().numpy() for p in (part, other)))


def textured(size: int = 96) -> np.ndarray:
    rng = np.random.default_rng(0)
    image = rng.normal(0, 0.3, (size, size)).astype(np.float32)
    image[20:60, 30:80] += 2
    return image


def test_superpixels_have_the_size_asked_for_and_follow_edges():
    part = Superpixel(pixels_per_superpixel=64)
    regions = part.decompose(textured())
    n = regions.max() + 1
    assert np.array_equal(np.unique(regions), np.arange(n)) and 0.6 < n * 64 / 96**2 < 1.4
    bright = textured() > 1
    inside = np.bincount(regions.ravel(), bright.ravel()) / np.bincount(regions.ravel())
    assert np.minimum(inside, 1 - inside).mean() < 0.05


def test_consecutive_labels():
    assert consecutive(np.array([[5, 2], [9, 5]])).tolist() == [[1, 0], [2, 1]]
    assert consecutive(np.array([[1, 0], [2, 1]])).dtype == consecutive(np.array([[5, 2]])).dtype == np.int32


@pytest.mark.parametrize("part, n", [(Patch(cell=4), 24 * 24), (Patch(cell=7), 14 * 14), (Pixel(), 96 * 96)])
def test_grid_graphs(part, n):
    image = textured()
    features = FeatureMap(image[..., None], 1.0, 0.0, image.shape)
    nodes = part.pool(image, features)
    assert nodes.n == n and nodes.area.sum() == image.size
    part.fit([nodes])
    assert part.connect(nodes).n == n


def test_pixel_nodes_have_the_feature_of_their_pixel_and_no_edges():
    image = textured(80)
    part = Pixel()
    nodes = part.pool(image, FeatureMap(image[..., None], 1.0, 0.0, image.shape))
    part.fit([nodes])
    graph = part.connect(nodes)
    assert np.allclose(graph.feature[:, 0].numpy(), image.ravel()) and len(graph.affinity) == 0


def test_each_of_several_feature_maps_has_the_same_share_of_the_variance(features):
    nodes = nodes_of(np.hstack([features, 7 * features[:, :1]]))  # four channels of one map, one of another
    part = Superpixel()
    part.fit([nodes])
    alone = part.connect(nodes).feature.numpy()
    nodes.blocks = np.array([4, 1])
    part.fit([nodes])
    both = part.connect(nodes).feature.numpy()
    assert alone.var(0) == pytest.approx(np.ones(5), abs=1e-4)
    assert both[:, :4].var(0).sum() == pytest.approx(2.5, abs=1e-3) == both[:, 4:].var(0).sum()


@pytest.mark.parametrize("n, m", [(2, 1), (5, 10), (130, 4), (1000, 10)])
def test_nearest_pairs_are_those_of_all_distances(n, m):
    X = torch.from_numpy(np.random.default_rng(n).standard_normal((n, 6), np.float32))
    d2 = pairwise_squared(X, X).fill_diagonal_(torch.inf)
    i, j = nearest_pairs(X, m)
    m = min(m, n - 1)
    assert torch.equal(i, torch.arange(n).repeat_interleave(m))
    expected = d2.topk(m, dim=1, largest=False).indices
    assert torch.equal(j.view(n, m).sort(1).values, expected.sort(1).values)


def test_of_equally_near_nodes_the_first():
    X = torch.tensor([[0.0], [1.0], [-1.0], [1.0], [5.0]])
    assert nearest_pairs(X, 1)[1].tolist() == [1, 3, 0, 1, 1]
    for rows in (1, 2, 3, 4):  # within a block of nodes and between two
        same = nearest_pairs(torch.zeros(4, 3), 2, rows)[1].view(4, 2)
        assert same.tolist() == [[1, 2], [0, 2], [0, 1], [0, 1]]


@pytest.mark.parametrize("n, d, far", [(1, 3, 0), (2, 1, 0), (130, 6, 1e3), (700, 37, 0), (600, 384, -5)])
def test_rounded_neighbours_are_those_of_whole_numbers_everywhere(n, d, far, monkeypatch):
    X = torch.from_numpy(np.random.default_rng(n).standard_t(4, (n, d)).astype(np.float32)) + far
    whole = rounded(X)
    assert torch.equal(whole, whole.round()) and whole.abs().max() <= 127
    d2 = (whole[:, None].double() - whole[None]).square().sum(2)
    m = min(10, n - 1)
    expected = first_of_equals(d2).fill_diagonal_(torch.inf).topk(m, largest=False).indices
    found = nearest_pairs(X, 10, precision="int8")[1].view(n, m)
    assert torch.equal(found, expected)
    for rows in (7, 64):
        assert torch.equal(nearest_pairs(X, 10, rows, "int8")[1].view(n, m), expected)
    monkeypatch.setattr("registry.spg.affinity.multiplies_int8", lambda: False)
    assert torch.equal(nearest_pairs(X, 10, precision="int8")[1].view(n, m), expected)
    on_device = torch.empty_like(expected)
    if m:
        _nearest_on_device(whole, 100, True, on_device)
    assert torch.equal(on_device, expected)


def test_rounded_neighbours_are_nearly_the_nearest_and_their_affinity_is_exact():
    rng = np.random.default_rng(0)
    X = torch.from_numpy((rng.standard_normal((900, 8)) @ rng.standard_normal((8, 96))).astype(np.float32))
    exact, near = (nearest_pairs(X, 10, precision=each)[1].view(900, 10) for each in ("float32", "int8"))
    assert 0.95 < (exact[:, :, None] == near[:, None]).any(2).float().mean() < 1
    nodes, graphs = nodes_of(X.numpy()), []
    for precision in ("float32", "int8"):
        part = Superpixel(edges="knn", alpha=None, precision=precision)
        part.fit([nodes])
        graphs.append(part.connect(nodes))
    assert not torch.equal(graphs[0].dst, graphs[1].dst)
    for graph in graphs:
        d2 = (graph.feature[graph.src] - graph.feature[graph.dst]).square().sum(1)
        torch.testing.assert_close(graph.affinity, torch.exp(-d2 / part.kappa_))


def test_equal_nodes_have_rounded_neighbours_too():
    for value in (0.0, 3.5, 1e30):
        assert nearest_pairs(torch.full((4, 3), value), 2, precision="int8")[1].tolist() == [1, 2, 0, 2, 0, 1, 0, 1]


@pytest.mark.parametrize("d", [1, 6, 16, 37, 384])
def test_lengths_are_those_of_the_differences(d):
    X, (i, j) = torch.randn(50, d), torch.randint(50, (2, 333))
    expected = (X[i] - X[j]).double().square().sum(1).float()
    torch.testing.assert_close(squared_lengths(X, i, j), expected, rtol=1e-6, atol=0)
    assert len(squared_lengths(X, i[:0], j[:0])) == 0
