"""Linear graph convolution against dense NumPy; its two ways of computing; start, scale, state."""
import numpy as np
import pytest
import torch

from registry.base import UserError
from registry.embedder.lgc import LGC


def fitted(graphs, **options) -> LGC:
    part = LGC(u=3, channels=[5, 4], seed=0, **options)
    part.fit(graphs)
    return part


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_coordinates_are_the_papers_layers(make_graph, bias, training):
    graph = make_graph(n=15)
    part = fitted([graph], bias=bias, init="random").train(training)
    if bias:
        with torch.no_grad():
            for b in part.biases:
                b.normal_()
    A = graph.dense_affinity().double().numpy()
    scale = 1 / np.sqrt(A.sum(1))
    Z = graph.feature.double().numpy()
    for layer, W in enumerate(part.weights):
        Z = scale[:, None] * A * scale[None] @ Z @ W.detach().double().numpy()
        Z = Z + (part.biases[layer].detach().numpy() if bias else 0)
    assert np.allclose(part.coordinates(graph).detach().numpy(), Z, atol=1e-4)


def test_gradients_of_the_fast_way_are_those_of_the_plain_one(make_graph):
    graph = make_graph(n=15)
    gradients = []
    for training in (True, False):
        part = fitted([graph], init="random").train(training)
        part.loss(graph, part.embed(graph))["spe"].backward()
        gradients.append(torch.cat([W.grad.flatten() for W in part.weights]))
    assert torch.allclose(*gradients, atol=1e-5) and gradients[0].abs().sum() > 0


def test_pca_start_spans_the_principal_directions(make_graph):
    graphs = [make_graph(n=20, seed=s) for s in range(3)]
    part = fitted(graphs)
    X = torch.cat([graph.hop(3) for graph in graphs]).numpy()
    _, _, rows = np.linalg.svd(X, full_matrices=False)
    Z = torch.cat([part.coordinates(graph) for graph in graphs]).detach().numpy()
    assert np.allclose(np.abs(Z), np.abs(X @ rows[:3].T), atol=1e-3)


def test_shared_scale_gives_unit_deviation_over_the_training_set(make_graph):
    graphs = [make_graph(n=20, seed=s) for s in range(3)]
    part = fitted(graphs, scale="shared")
    Z = torch.cat([part.embed(graph) for graph in graphs])
    assert torch.allclose(Z.square().mean(0), torch.ones(3), atol=1e-3)


def test_graph_scale_is_per_graph(make_graph):
    graph = make_graph(n=20)
    Z = fitted([graph, make_graph(n=9, seed=5)], scale="graph").embed(graph)
    assert torch.allclose(Z.square().mean(0), torch.ones(3), atol=1e-3)


def test_same_seed_same_weights_other_seed_others(make_graph):
    graph = make_graph()
    parts = []
    for seed in (0, 0, 1):
        part = LGC(u=3, channels=[5], init="random", seed=seed)
        part.fit([graph])
        parts.append(part.embed(graph))
    assert torch.equal(parts[0], parts[1]) and not torch.equal(parts[0], parts[2])


def test_state_round_trip(make_graph):
    graph = make_graph()
    part = fitted([graph])
    other = LGC(u=3, channels=[5, 4])
    other.set_state(part.get_state())
    assert torch.equal(other.eval().embed(graph), part.eval().embed(graph))


def test_one_node_graph(make_graph):
    part = fitted([make_graph()]).eval()
    assert torch.isfinite(part.embed(make_graph(n=1))).all()


def test_impossible_sizes_are_refused():
    with pytest.raises(UserError, match="u = 0"):
        LGC(u=0)
