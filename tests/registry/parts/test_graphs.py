"""What all graph parts must keep to."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from registry.base import UserError
from registry.spg.graphs import Nodes
from tests.registry.parts.small import SHAPES, every, feature_map, grey


@every("graph")
@pytest.mark.parametrize("shape", SHAPES)
def test_nodes_are_complete(name, shape, build):
    features = feature_map(shape)
    nodes = build("graph", name).pool(grey(shape), features)
    n = nodes.n
    assert nodes.regions.shape == shape and nodes.regions.dtype == np.int32
    assert np.array_equal(np.unique(nodes.regions), np.arange(n))
    assert nodes.feature.shape[0] == n and nodes.feature.shape[1] in (features.q, 2 * features.q)
    assert nodes.area.shape == (n,) and nodes.centroid.shape == (n, 2)
    for values in (nodes.feature, nodes.area, nodes.centroid):
        assert values.dtype == np.float32 and np.isfinite(values).all()
    assert np.array_equal(nodes.area, np.bincount(nodes.regions.ravel()))
    assert ((nodes.centroid >= 0) & (nodes.centroid <= np.array(shape) - 1)).all()
    low, high = nodes.touching
    assert nodes.touching.dtype == np.int64 and (low < high).all() and (high < n).all()
    unchanged = Nodes.from_arrays(load(save(nodes.to_arrays())))
    assert all(np.array_equal(value, unchanged.to_arrays()[key]) for key, value in nodes.to_arrays().items())


@every("graph")
def test_affinity_is_symmetric_and_each_edge_stands_once(name, build):
    part = build("graph", name)
    image, features = grey((83, 121)), feature_map((83, 121))
    part.fit([part.pool(image, features)])
    graph = part.build(image, features)
    src, dst = graph.edges
    assert src.dtype == dst.dtype == torch.int64 and graph.affinity.shape == src.shape
    assert graph.feature.dtype == graph.affinity.dtype == torch.float32
    assert torch.isfinite(graph.feature).all() and (graph.affinity > 0).all() and (graph.affinity <= 1).all()
    there, back = src * graph.n + dst, dst * graph.n + src
    assert len(torch.unique(there)) == len(there)
    order, mirrored = there.argsort(), back.argsort()
    assert torch.equal(there[order], back[mirrored])
    assert torch.equal(graph.affinity[order], graph.affinity[mirrored])
    loops = int((src == dst).sum())
    assert loops == (graph.n if len(src) else 0)
    assert np.isfinite(graph.propagate(graph.feature).numpy()).all()


@every("graph")
def test_graphs_repeat_themselves_and_survive_saving(name, build, again):
    shape = (83, 121)
    part, twin = build("graph", name), build("graph", name)
    nodes = [part.pool(grey(shape, seed), feature_map(shape, seed=seed)) for seed in range(2)]
    for each in (part, twin):
        each.fit(nodes)
    graph = part.connect(nodes[1])
    for other in (twin, again("graph", name, part)):
        same = other.build(grey(shape, 1), feature_map(shape, seed=1))
        assert np.array_equal(same.regions, graph.regions) and torch.equal(same.feature, graph.feature)
        assert all(map(torch.equal, same.edges, graph.edges)) and torch.equal(same.affinity, graph.affinity)


@every("graph")
@pytest.mark.parametrize("fit_on_it", [True, False])
def test_one_node_and_nodes_all_alike_make_a_graph(name, fit_on_it, build):
    part = build("graph", name)
    one = Nodes(
        np.zeros((8, 9), np.int32),
        np.ones((1, 6), np.float32),
        np.full(1, 72, np.float32),
        np.full((1, 2), 4, np.float32),
        np.zeros((2, 0), np.int64),
    )
    alike = Nodes(
        np.arange(8, dtype=np.int32).reshape(1, 8),
        np.ones((8, 6), np.float32),
        np.ones(8, np.float32),
        np.zeros((8, 2), np.float32),
        np.stack([np.arange(7), np.arange(1, 8)]),
    )
    varied = Nodes(
        alike.regions,
        np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32),
        alike.area,
        alike.centroid,
        alike.touching,
    )
    for nodes in (one, alike):
        part.fit([nodes] if fit_on_it else [varied])
        graph = part.connect(nodes)
        assert graph.n == nodes.n and np.array_equal(graph.regions, nodes.regions)
        assert torch.isfinite(graph.feature).all() and torch.isfinite(graph.affinity).all()


@every("graph")
def test_graphs_without_any_training_node_are_refused(name, build):
    with pytest.raises(UserError, match="data.train"):
        build("graph", name).fit([])
