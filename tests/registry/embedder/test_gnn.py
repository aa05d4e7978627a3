"""Embedding by any convolution of DGL: shapes, the paper's network as a special case, training, scale, state, words."""

import numpy as np
import pytest
import torch

from registry.base import UserError
from registry.embedder.gnn import GNN
from registry.embedder.lgc import LGC
from tests.registry.dgl_kernels import watched_kernels

CONVS = {
    "GraphConv": {},
    "SGConv": {"k": 2},
    "TAGConv": {"k": 3},
    "ChebConv": {"k": 2},
    "APPNPConv": {"k": 3, "alpha": 0.1},
    "GCN2Conv": {"alpha": 0.2},
    "SAGEConv": {"aggregator_type": "mean"},
    "GATv2Conv": {"num_heads": 2},
    "GATConv": {"num_heads": 2, "residual": True},
    "GINConv": {},
}
every_conv = pytest.mark.parametrize("conv", CONVS)


def fitted(graphs, conv="GraphConv", **options) -> GNN:
    part = GNN(**{"conv": conv, "options": CONVS[conv], "u": 3, "channels": [5, 4], "seed": 0, **options})
    part.fit(graphs)
    return part


def like(part: GNN, graphs, **options) -> LGC:
    """`lgc` with the weights of a GraphConv network without bias."""
    other = LGC(u=3, channels=[5, 4], columns="graph", **options)
    other.fit(graphs)
    with torch.no_grad():
        for W, layer in zip(other.weights, part.layers):
            W.copy_(layer.conv.weight)
    other.after_step(0, graphs[0], None)
    return other


@pytest.fixture
def graphs(make_graph):
    return [make_graph(n=n, seed=n) for n in (20, 15, 9)]


@every_conv
def test_dgls_kernels_do_the_work_forward_and_backward(graphs, conv, monkeypatch):
    kernels = watched_kernels(monkeypatch)
    part = fitted(graphs, conv, scale="none").train()
    kernels.clear()
    Z = part.embed(graphs[0])
    assert Z.shape == (20, 3) and torch.isfinite(Z).all() and "_gspmm" in kernels
    kernels.clear()
    part.loss(graphs[0], Z)["spe"].backward()
    assert kernels and all(p.grad is not None and torch.isfinite(p.grad).all() for p in part.parameters())


@every_conv
def test_training_brings_the_spectral_loss_down(graphs, conv):
    part = fitted(graphs, conv).train()
    optimiser = torch.optim.Adam(part.parameters(), lr=0.01)
    losses = []
    for step in range(150):
        Z = part.embed(graphs[0])
        loss = part.loss(graphs[0], Z)["spe"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        part.after_step(step, graphs[0], Z.detach())
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@every_conv
def test_state_round_trip(graphs, conv):
    part = fitted(graphs, conv, activation="elu")
    other = GNN(conv=conv, options=CONVS[conv], u=3, channels=[5, 4], activation="elu", seed=9)
    other.set_state(part.get_state())
    assert torch.equal(other.eval().embed(graphs[0]), part.eval().embed(graphs[0]))


@pytest.mark.parametrize("scale", ["explained", "unit", "graph", "none"])
def test_graphconv_without_bias_is_the_papers_network(graphs, scale):
    part = fitted(graphs, options={"bias": False}, scale=scale)
    other = like(part, graphs, scale=scale)
    for graph in graphs:
        torch.testing.assert_close(part.embed(graph), other.embed(graph), atol=1e-4, rtol=1e-3)


def test_the_activation_stands_between_layers_and_not_behind_the_last(graphs):
    part = fitted(graphs, options={"bias": False}, activation="relu", scale="none")
    X, (graph, *_) = graphs[0].feature, graphs
    with torch.no_grad():
        part.layers[2].conv.weight.abs_().neg_()
    for number, layer in enumerate(part.layers):
        X = graph.propagate(X @ layer.conv.weight)
        X = X.relu() if number < 2 else X
    torch.testing.assert_close(part.embed(graph), X, atol=1e-4, rtol=1e-3)
    assert (X < 0).any()  # an activation behind the last layer would show


def test_unit_scale_gives_unit_deviation_over_the_training_set(graphs):
    part = fitted(graphs, "TAGConv", scale="unit", activation="tanh").eval()
    Z = torch.cat([part.embed(graph) for graph in graphs])
    assert torch.allclose(Z.square().mean(0), torch.ones(3), atol=1e-3)


def test_the_scale_follows_the_weights_once_training_is_over(graphs):
    part = fitted(graphs, scale="unit").train()
    with torch.no_grad():
        part.layers[0].conv.weight *= 7
    part.after_step(0, graphs[0], None)
    Z = torch.cat([part.eval().embed(graph) for graph in graphs])
    assert torch.allclose(Z.square().mean(0), torch.ones(3), atol=1e-3)


def test_the_scale_is_renewed_after_a_pass_over_the_training_graphs(graphs):
    part = fitted(graphs, scale="unit").train()
    with torch.no_grad():
        part.layers[0].conv.weight *= 7
    seen = []
    for step, graph in enumerate(graphs):
        part.after_step(step, graph, None)
        seen.append(part.scale_.clone())
    assert torch.equal(seen[0], seen[1]) and torch.allclose(seen[2], seen[0] / 7)


def test_a_checkpoint_in_training_leaves_the_scale_as_it_is(graphs):
    """Else a run that was interrupted there would go on otherwise than one that was not."""
    part = fitted(graphs, scale="unit").train()
    with torch.no_grad():
        part.layers[0].conv.weight *= 7
    part.after_step(0, graphs[0], None)
    state, before = part.get_state(), part.scale_.clone()
    resumed = fitted(graphs, scale="unit").train()
    resumed.set_state(state)
    for each in (part, resumed):
        assert torch.equal(each.scale_, before)
        for step in (1, 2):
            each.after_step(step, graphs[step], None)
    assert torch.equal(part.scale_, resumed.scale_) and not torch.equal(part.scale_, before)


def test_a_state_that_is_final_gets_its_scale_from_the_training_graphs(graphs):
    part = fitted(graphs, scale="unit").train()
    with torch.no_grad():
        part.layers[0].conv.weight *= 7
    part.after_step(0, graphs[0], None)
    resumed = fitted(graphs, scale="unit").train()
    resumed.set_state(part.get_state())
    assert torch.equal(resumed.eval().embed(graphs[1]), part.eval().embed(graphs[1]))


@pytest.mark.parametrize(
    "options, words",
    [
        ({"u": 0}, "u = 0"),
        ({"conv": "TAGCov"}, "did you mean 'TAGConv'"),
        ({"conv": "TAGConv", "options": {"order": 2}}, r"embedder\.options\.order: unknown option"),
        ({"conv": "TAGConv", "options": {"k": "three"}}, r"embedder\.options: TAGConv does not work with"),
        ({"conv": "GatedGraphConv", "options": {"n_steps": 1, "n_etypes": 1}}, "must be not less than"),
        ({"conv": "GINConv", "options": {"aggregator_type": "median"}}, "GINConv does not work with"),
    ],
)
def test_what_dgl_would_refuse_is_refused_before_anything_runs(options, words):
    with pytest.raises(UserError, match=words):
        GNN(**options)


def test_the_random_state_of_others_is_neither_used_nor_moved(graphs):
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    part = GNN(conv="GATv2Conv", options={"num_heads": 2, "feat_drop": 0.5})
    part.fit(graphs)
    part.set_state(part.get_state())
    assert torch.equal(torch.rand(2), expected)


def test_state_holds_arrays_with_axes(graphs):
    part = fitted(graphs, "GINConv", options={"learn_eps": True})
    assert all(isinstance(value, np.ndarray) and value.ndim > 0 for value in part.get_state().values())
