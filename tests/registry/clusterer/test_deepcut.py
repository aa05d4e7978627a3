"""DeepCut: its two losses and its convolution by their formulas, and what training on one graph finds."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from registry.base import UserError
from registry.clusterer.deepcut import DeepCut, correlation, normalised_cut
from registry.numeric import memory
from registry.spg.dgl_adapter import dgl

every_cut = pytest.mark.parametrize("cut", ["ncut", "cc"])
GROUPS = 4


def groups(seed: int, n: int = 120, q: int = 12) -> tuple[torch.Tensor, np.ndarray]:
    """Features (n, q) in GROUPS well separated directions, the same for every seed, and the group of each node."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.arange(n) % GROUPS)
    F = 3 * np.eye(GROUPS, q)[truth] + 0.3 * rng.normal(size=(n, q))
    return torch.from_numpy(F).float(), truth


def fitted(Z: torch.Tensor, **arguments) -> DeepCut:
    part = DeepCut(**{"k": GROUPS, "channels": "all", "seed": 0, **arguments})
    part.fit([SimpleNamespace(n=len(Z))], [Z])
    return part


def predict(part: DeepCut, Z: torch.Tensor) -> torch.Tensor:
    return part.predict(SimpleNamespace(n=len(Z)), Z)


def soft(n: int, k: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed)).softmax(1)


# ------------------------------------------------------------------------------------------------------- the formulas
@pytest.mark.parametrize("negative", [True, False])
def test_normalised_cut_and_its_gradient_are_those_of_the_formula(negative):
    G = torch.randn(30, 5, generator=torch.Generator().manual_seed(1))
    G = G if negative else G.abs()
    W = (G @ G.T).clamp(min=0)
    D = torch.diag(W.sum(1))

    def formula(S):
        cut = torch.trace(S.T @ W @ S) / torch.trace(S.T @ D @ S)
        return -cut + torch.norm(S.T @ S / torch.norm(S.T @ S) - torch.eye(4) / torch.norm(torch.eye(4)))

    S, T = (soft(30, 4).requires_grad_() for _ in range(2))
    ours, theirs = normalised_cut(S, W.sum(1), W if negative else None, G), formula(T)
    ours.backward()
    theirs.backward()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(S.grad, T.grad)


def test_correlation_clustering_and_its_gradient_are_those_of_the_formula():
    G = torch.randn(30, 5, generator=torch.Generator().manual_seed(1))
    S, T = (soft(30, 4).requires_grad_() for _ in range(2))
    ours, theirs = correlation(S, G, 3.0), -((G @ G.T - 1 / 3) * (T @ T.T)).sum() / 30**2
    ours.backward()
    theirs.backward()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(S.grad, T.grad)


def test_perfect_groups_have_the_least_losses():
    G = torch.eye(GROUPS)[torch.arange(20) % GROUPS]  # W is 1 within groups, 0 between
    S = G.clone()
    assert normalised_cut(S, (G @ G.T).sum(1), None, G).item() == pytest.approx(-1)
    assert correlation(S, G, 3.0).item() == pytest.approx(-(1 - 1 / 3) / GROUPS)  # all of the positive pairs, no other


@every_cut
def test_the_convolution_is_symmetrically_normalised_with_loops(cut):
    F, _ = groups(0, n=20)
    F[3] = 0  # similar to no node, itself included: its loop is 1
    product = F.double() @ F.double().T
    W = product.clamp(min=0) / product.max() if cut == "ncut" else (product - product.max() / 3).clamp(min=0)
    W[W.diagonal() == 0, W.diagonal() == 0] = 1
    scale = torch.diag(W.sum(1) ** -0.5)
    X, _ = DeepCut(cut=cut)._prepare(F)
    torch.testing.assert_close(X, (scale @ W @ scale @ F.double()).float(), rtol=1e-4, atol=1e-5)


@every_cut
def test_the_convolution_is_that_of_dgl_on_the_graph_of_positive_similarities(cut):
    """dgl.nn.GraphConv with EdgeWeightNorm('both'), forward, and its gradients in weight and bias."""
    F, _ = groups(0, n=20)
    F[3] = 0  # similar to no node, itself included: its loop is 1
    W = F @ F.T if cut == "ncut" else F @ F.T - F.square().sum(1).max() / 3
    W[3, 3] = 1
    src, dst = (W > 0).nonzero(as_tuple=True)
    assert 20 < len(src) < 400
    graph = dgl.graph((src, dst), num_nodes=20)
    weight = dgl.nn.EdgeWeightNorm("both")(graph, W[src, dst])
    conv = dgl.nn.GraphConv(F.shape[1], 64, norm="none")
    part = fitted(F, cut=cut, hidden=64, length=None)
    ours = {name: w.clone().requires_grad_() for name, w in part.weights_.items() if name.startswith("conv")}
    with torch.no_grad():
        conv.weight.copy_(ours["conv.weight"])
        conv.bias.copy_(ours["conv.bias"].normal_())
    theirs = conv(graph, F, edge_weight=weight)
    X, _ = part._prepare(F)
    mine = X @ ours["conv.weight"] + ours["conv.bias"]
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
    for output in (mine, theirs):
        output.relu().square().sum().backward()
    torch.testing.assert_close(ours["conv.weight"].grad, conv.weight.grad, rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(ours["conv.bias"].grad, conv.bias.grad, rtol=1e-3, atol=1e-2)


# ------------------------------------------------------------------------------------------------------- what it finds
def found(part: DeepCut, seeds: range) -> set[tuple[int, int]]:
    """All pairs of a cluster and the group of one of its nodes, over several graphs."""
    graphs = [groups(seed) for seed in seeds]
    return {pair for Z, truth in graphs for pair in zip(predict(part, Z).argmax(1).tolist(), truth.tolist())}


def test_normalised_cuts_find_separate_groups_which_mean_the_same_in_graphs_that_are_alike():
    pairs = found(fitted(groups(0)[0], k=GROUPS), range(3))
    assert len(pairs) == GROUPS == len({cluster for cluster, _ in pairs})


def test_correlation_clustering_with_clusters_to_spare_mixes_no_groups():
    """A group may be another cluster in the next graph, or two clusters."""
    pairs = found(fitted(groups(0)[0], cut="cc", k=8), range(3))
    assert len(pairs) == len({cluster for cluster, _ in pairs})


@every_cut
def test_the_loss_has_nearly_settled_after_the_default_epochs(cut):
    Z, _ = groups(0)
    _, losses = fitted(Z, cut=cut, epochs=400).optimise(Z)
    epochs = DeepCut().epochs
    reached = (losses[0] - np.mean(losses[epochs - 10 : epochs])) / (losses[0] - np.mean(losses[-10:]))
    assert reached > 0.9


def test_correlation_clustering_leaves_clusters_empty_where_all_nodes_are_alike():
    Z = 5 + 0.1 * groups(0)[0]
    assert len(predict(fitted(Z, cut="cc", k=8), Z).argmax(1).unique()) == 1


@every_cut
def test_each_graph_is_trained_alone(cut):
    """What comes before does not matter: the weights that every graph starts from are not touched."""
    Z, other = groups(1)[0], groups(2, n=50)[0]
    part = fitted(Z, cut=cut, epochs=20)
    before = part.get_state()
    P = predict(part, Z)
    predict(part, other)
    assert torch.equal(predict(part, Z), P)
    assert all(np.array_equal(value, before[name]) for name, value in part.get_state().items())


def test_the_random_state_of_others_is_neither_used_nor_moved():
    Z, _ = groups(0)
    torch.manual_seed(1)
    P = predict(fitted(Z, epochs=5), Z)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(predict(fitted(Z, epochs=5), Z), P)
    assert torch.equal(torch.get_rng_state(), state)


def test_another_seed_starts_from_other_weights():
    Z, _ = groups(0)
    assert not torch.equal(predict(fitted(Z, epochs=5, seed=1), Z), predict(fitted(Z, epochs=5), Z))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_training_goes_on_where_gradients_are_switched_off(mode):
    Z, _ = groups(0)
    part = fitted(Z, epochs=5)
    P = predict(part, Z)
    with mode():
        assert torch.equal(predict(part, Z.clone()), P)
    assert not P.requires_grad


# ---------------------------------------------------------------------------------------------------------- arguments
def test_deviations_do_not_count_where_the_mean_is_asked_for():
    Z, _ = groups(0)
    part = fitted(Z, channels="mean", epochs=5)
    P = predict(part, Z)
    Z[:, 6:] = torch.rand(len(Z), 6)
    assert torch.equal(predict(part, Z), P)
    Z[:, 5] += 1
    assert not torch.equal(predict(part, Z), P)


def test_an_odd_number_of_channels_is_taken_whole():
    Z, _ = groups(0, q=11)
    assert fitted(Z, channels="mean").weights_["conv.weight"].shape[0] == 11


def test_only_directions_count_where_features_have_one_length():
    Z, _ = groups(0)
    scaled = Z * 2.0 ** torch.arange(-3, 3).repeat(20)[:, None]
    part, as_it_is = fitted(Z, epochs=5), fitted(Z, epochs=5, length=None)
    torch.testing.assert_close(predict(part, scaled), predict(part, Z))
    assert not torch.allclose(predict(as_it_is, scaled), predict(as_it_is, Z))


@every_cut
@pytest.mark.parametrize("Z", [torch.zeros(6, 4), torch.ones(1, 4), torch.zeros(0, 4)], ids=["zeros", "one", "none"])
def test_graphs_without_anything_to_tell_apart_are_segmented(cut, Z):
    P = predict(fitted(torch.ones(4, 4), cut=cut, epochs=3), Z)
    assert P.shape == (len(Z), GROUPS) and torch.isfinite(P).all()


@pytest.mark.parametrize(
    "option, value",
    [
        ("k", 0),
        ("epochs", 0),
        ("hidden", 0),
        ("mlp_hidden", 0),
        ("alpha", 1.0),
        ("dropout", 1.0),
        ("lr", 0.0),
        ("length", 0.0),
    ],
)
def test_arguments_out_of_range_are_refused(option, value):
    with pytest.raises(UserError, match=rf"^clusterer\.{option}: {value}"):
        DeepCut(**{option: value})


def test_one_graph_of_k_nodes_is_enough_to_start_from():
    large, small = groups(0, n=8)[0], groups(1, n=3)[0]
    DeepCut(k=8).fit([], [small, large])
    with pytest.raises(UserError, match="^clusterer.k: 8 is larger than the 3 nodes"):
        DeepCut(k=8).fit([], [small])


def test_more_nodes_than_memory_has_room_for_are_refused_at_once(monkeypatch):
    Z, _ = groups(0)
    monkeypatch.setattr(memory, "free_memory", lambda device: 4 * 120**2 - 1)
    with pytest.raises(UserError, match="^clusterer: deepcut .*120 nodes in one image"):
        predict(fitted(Z), Z)


def test_features_that_are_no_numbers_are_the_users_mistake():
    Z, _ = groups(0)
    Z[5, 1] = torch.nan
    with pytest.raises(UserError, match="NaN"):
        predict(fitted(Z), Z)
