"""Linear graph convolution against dense NumPy; its two ways of computing; start, scale, state."""

import numpy as np
import pytest
import torch

from registry.base import UserError
from registry.embedder.lgc import LGC
from registry.spg.dgl_adapter import dgl
from registry.spg.losses import spectral, spectral_of_products


def fitted(graphs, **options) -> LGC:
    part = LGC(u=3, channels=[5, 4], seed=0, **options)
    part.fit(graphs)
    return part


def plain(graph, part) -> np.ndarray:
    """Â(Â(Â F W1) W2) W3 in double precision."""
    A = graph.dense_affinity().double().numpy()
    scale = 1 / np.sqrt(A.sum(1))
    Z = graph.feature.double().numpy()
    for layer, W in enumerate(part.weights):
        Z = scale[:, None] * A * scale[None] @ Z @ W.detach().double().numpy()
        Z = Z + (part.biases[layer].detach().numpy() if part.bias else 0)
    return Z


@pytest.fixture
def graphs(make_graph):
    return [make_graph(n=n, seed=n) for n in (20, 15, 9)]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("options", [{}, {"bias": True, "columns": "graph", "scale": "none"}])
def test_coordinates_are_the_papers_layers(graphs, options, training):
    part = fitted(graphs, **options).train(training)
    with torch.no_grad():
        for b in part.biases:
            b.normal_()
    for graph in graphs:
        assert np.allclose(part.coordinates(graph).detach().numpy(), plain(graph, part), atol=1e-4)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_it_is_a_stack_of_dgls_graph_convolutions_forward_and_backward(graphs, bias, training):
    """Whatever the order of products: it is GraphConv on the weights that EdgeWeightNorm makes of the affinity."""
    part = fitted(graphs, bias=bias, columns="graph", scale="none").train(training)
    stack = torch.nn.ModuleList(
        dgl.nn.GraphConv(*W.shape, norm="none", bias=bias, allow_zero_in_degree=True) for W in part.weights
    )
    with torch.no_grad():
        for number, (layer, W) in enumerate(zip(stack, part.weights)):
            layer.weight.copy_(W)
            if bias:
                layer.bias.copy_(part.biases[number].normal_())
    for graph in graphs:
        weight = dgl.nn.EdgeWeightNorm("both")(graph.graph, graph.affinity)
        torch.testing.assert_close(weight, graph.normalised)
        X = graph.graph.ndata["feature"]
        for layer in stack:
            X = layer(graph.graph, X, edge_weight=weight)
        Z = part.embed(graph)
        torch.testing.assert_close(Z, X, atol=1e-5, rtol=1e-4)
        losses = part.loss(graph, Z)["spe"], spectral(graph, X)
        torch.testing.assert_close(*losses)
        for module, loss in zip((part, stack), losses):
            module.zero_grad()
            loss.backward()
        for number, (layer, W) in enumerate(zip(stack, part.weights)):
            assert W.grad.abs().sum() > 0
            torch.testing.assert_close(W.grad, layer.weight.grad, atol=1e-5, rtol=1e-3)
            if bias:
                torch.testing.assert_close(part.biases[number].grad, layer.bias.grad, atol=1e-5, rtol=1e-3)


def test_gradients_of_the_fast_way_are_those_of_the_plain_one(graphs):
    gradients = []
    for training in (True, False):
        part = fitted(graphs, columns="graph", scale="explained").train(training)
        part.loss(graphs[0], part.embed(graphs[0]))["spe"].backward()
        gradients.append(torch.cat([W.grad.flatten() for W in part.weights]))
    assert torch.allclose(*gradients, atol=1e-5) and gradients[0].abs().sum() > 0


def test_shared_columns_are_those_of_all_training_nodes_together(graphs):
    part = fitted(graphs)
    Z = np.concatenate([plain(graph, part) for graph in graphs])
    smooth = np.zeros((3, 3))
    for graph in graphs:
        A = graph.dense_affinity().double().numpy()
        scale = 1 / np.sqrt(A.sum(1))
        smooth += plain(graph, part).T @ (scale[:, None] * A * scale[None]) @ plain(graph, part)
    expected = spectral_of_products(torch.tensor(Z.T @ Z), torch.tensor(smooth))
    assert part.loss(graphs[0], None)["spe"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_pca_start_gives_the_principal_directions(graphs):
    part = fitted(graphs, init="pca")
    X = torch.cat([graph.hop(3) for graph in graphs]).double().numpy()
    _, values, rows = np.linalg.svd(X, full_matrices=False)
    Z = torch.cat([part.embed(graph) for graph in graphs]).detach().numpy()
    ratio = Z / (X @ rows[:3].T)
    assert np.allclose(np.abs(ratio), np.abs(ratio[0, 0]), rtol=1e-2)  # one common factor: weak directions stay weak


def test_explained_scale_weighs_columns_by_the_deviation_they_explain(graphs):
    part = fitted(graphs, scale="explained")
    X = torch.cat([graph.hop(3) for graph in graphs])
    Z = torch.cat([part.embed(graph) for graph in graphs]).detach()
    explained = (X.T @ torch.nn.functional.normalize(Z, dim=0)).norm(dim=0)
    assert torch.allclose(Z.norm(dim=0) / explained, (Z.norm(dim=0) / explained)[0].expand(3), rtol=1e-3)


def test_unit_scale_gives_unit_deviation_over_the_training_set(graphs):
    part = fitted(graphs, scale="unit")
    Z = torch.cat([part.embed(graph) for graph in graphs])
    assert torch.allclose(Z.square().mean(0), torch.ones(3), atol=1e-3)


def test_graph_scale_gives_unit_deviation_in_each_graph(graphs):
    part = fitted(graphs, scale="graph")
    for graph in graphs:
        assert torch.allclose(part.embed(graph).square().mean(0), torch.ones(3), atol=1e-3)


def test_scale_follows_the_weights(graphs):
    part = fitted(graphs, scale="unit")
    with torch.no_grad():
        part.weights[0] *= 7
    part.after_step(0, graphs[0], None)
    Z = torch.cat([part.embed(graph) for graph in graphs])
    assert torch.allclose(Z.square().mean(0), torch.ones(3), atol=1e-3)


def test_training_brings_the_spectral_loss_down(graphs):
    part = fitted(graphs)
    optimizer = torch.optim.Adam(part.parameters(), lr=0.01)
    losses = []
    for _ in range(300):
        loss = part.loss(graphs[0], None)["spe"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_same_seed_same_weights_other_seed_others(graphs):
    parts = []
    for seed in (0, 0, 1):
        part = LGC(u=3, channels=[5], seed=seed)
        part.fit(graphs)
        parts.append(part.embed(graphs[0]))
    assert torch.equal(parts[0], parts[1]) and not torch.equal(parts[0], parts[2])


@pytest.mark.parametrize("init", ["random", "pca"])
def test_state_round_trip(graphs, init):
    part, other = fitted(graphs, init=init), LGC(u=3, channels=[5, 4])
    other.set_state(part.get_state())
    assert torch.equal(other.eval().embed(graphs[0]), part.eval().embed(graphs[0]))


@pytest.mark.parametrize("init", ["random", "pca"])
def test_fewer_features_than_coordinates(make_graph, init):
    graph = make_graph(n=20, d=2)
    Z = fitted([graph], init=init).embed(graph)
    assert Z.shape == (20, 3) and torch.isfinite(Z).all()


def test_one_node_graph(graphs, make_graph):
    assert torch.isfinite(fitted(graphs).eval().embed(make_graph(n=1))).all()


@pytest.mark.parametrize("options, word", [({"u": 0}, "u = 0"), ({"bias": True}, "columns: graph")])
def test_impossible_options_are_refused(options, word):
    with pytest.raises(UserError, match=word):
        LGC(**options)


def test_graph_by_graph_l_spe_is_of_the_columns_before_they_are_weighed(graphs):
    part = fitted(graphs, columns="graph", scale="span").train()
    found = part.loss(graphs[0], part.embed(graphs[0]))["spe"]
    assert torch.equal(found, spectral(graphs[0], part.coordinates(graphs[0])))
    assert not torch.allclose(found, spectral(graphs[0], part.embed(graphs[0])), rtol=1e-2)
