"""What all embedders must keep to."""

import pytest
import torch

from tests.registry.parts.small import every, ready, without_edges


@every("embedder")
def test_coordinates_have_a_row_for_each_node(name, build, graphs):
    part = build("embedder", name)
    part.fit(graphs)
    for graph in graphs:
        Z = ready(part).embed(graph).detach()
        assert Z.shape == (graph.n, getattr(part, "u", graph.feature.shape[1]))
        assert Z.dtype == torch.float32 and Z.device == graph.device and torch.isfinite(Z).all()


@every("embedder")
def test_the_same_seed_gives_the_same_coordinates_and_saving_keeps_them(name, build, again, graphs):
    parts = [build("embedder", name) for _ in range(2)]
    for number, part in enumerate(parts):
        torch.manual_seed(number)  # a part has its own seed, whatever the global one is
        part.fit(graphs)
    first, second = (ready(part).embed(graphs[1]) for part in parts)
    assert torch.equal(first, second)
    assert torch.equal(again("embedder", name, parts[0]).embed(graphs[1]), first)


@every("embedder")
@pytest.mark.parametrize("n", [1, 2])
def test_tiny_graphs_have_coordinates_too(name, n, build, graphs, make_graph):
    part = build("embedder", name)
    part.fit(graphs)
    Z = ready(part).embed(make_graph(n=n)).detach()
    assert len(Z) == n and torch.isfinite(Z).all()


@every("embedder")
def test_graphs_without_edges_have_coordinates_too(name, build, graphs):
    for training in (graphs, [without_edges()]):
        part = build("embedder", name)
        part.fit(training)
        assert torch.isfinite(ready(part).embed(without_edges()).detach()).all()


@every("embedder")
def test_fewer_features_than_coordinates_will_do(name, build, make_graph):
    graphs = [make_graph(n=20, d=2, seed=seed) for seed in range(2)]
    part = build("embedder", name)
    part.fit(graphs)
    Z = ready(part).embed(graphs[0]).detach()
    assert Z.shape == (20, getattr(part, "u", 2)) and torch.isfinite(Z).all()


@every("embedder")
def test_a_channel_that_never_varies_does_no_harm(name, build, make_graph):
    """The deviation of grey values in one-pixel regions, say: the graph part sets such a channel to zero."""
    graph = make_graph(n=20, d=2)
    graph.graph.ndata["feature"] = graph.feature * torch.tensor([1.0, 0.0])
    part = build("embedder", name)
    part.fit([graph])
    for step in range(3 if part.trainable else 0):
        part.after_step(step, graph, part.train().embed(graph).detach())
    assert torch.isfinite(ready(part).embed(graph).detach()).all()


@every("embedder")
def test_trainable_embedders_offer_losses_and_learn(name, build, graphs):
    part = build("embedder", name)
    if not part.trainable:
        pytest.skip("nothing to train")
    part.fit(graphs)
    part.train()
    Z = part.embed(graphs[0])
    terms = part.loss(graphs[0], Z)
    assert terms and all(value.ndim == 0 and torch.isfinite(value) for value in terms.values())
    assert set(terms) == set(part.terms)
    sum(terms.values()).backward()
    gradients = [parameter.grad for parameter in part.parameters()]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)
    assert any(gradient.any() for gradient in gradients)
    part.after_step(0, graphs[0], Z.detach())
