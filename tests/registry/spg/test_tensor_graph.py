"""The graph made of tensors, stage by stage, against the CPU's way."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from registry.base import FeatureMap, FeatureStack, TensorMap
from registry.embedder.lgc_principal import LGCPrincipal
from registry.graph.superpixel import Superpixel
from registry.spg import tensor_graph
from registry.spg.affinity import nearest_pairs
from registry.spg.pooling import pool

GRIDS = [(4.0, 1.5), (5.0, 2.0), (1.0, 0.0)]
SHAPE = (60, 76)


def scene(seed: int, shape=SHAPE) -> tuple[np.ndarray, FeatureStack]:
    """An image, and features of it and of noise on three grids."""
    rng = np.random.default_rng(seed)
    image = gaussian_filter(rng.standard_normal(shape), 2).astype(np.float32)
    image /= image.std()
    maps = []
    for step, offset in GRIDS:
        h, w = (-(-length // int(step)) for length in shape)
        at = np.ix_(*(np.minimum(np.arange(n) * int(step), length - 1) for n, length in zip((h, w), shape)))
        values = image[at][..., None] * np.array([1, -2, 0.5]) + rng.normal(3, 0.5, (h, w, 3))
        maps.append(FeatureMap(values.astype(np.float32), step, offset, shape))
    return image, FeatureStack(tuple(maps))


def stacked(stacks: list[FeatureStack]) -> list[TensorMap]:
    return [
        TensorMap(torch.from_numpy(np.stack([each.values for each in maps])), maps[0].step, maps[0].offset)
        for maps in zip(*(stack.maps for stack in stacks))
    ]


@pytest.fixture(scope="module")
def scenes():
    return [scene(seed) for seed in range(3)]


def fitted(scenes, **options) -> Superpixel:
    part = Superpixel(pixels_per_superpixel=40, neighbours=5, **options)
    part.fit([part.pool(*each) for each in scenes])
    return part


def batch_of(part, scenes):
    images = torch.from_numpy(np.stack([image for image, _ in scenes]))
    return part.build_batch(images, stacked([stack for _, stack in scenes]))


@pytest.mark.parametrize("step, offset", GRIDS)
@pytest.mark.parametrize("far", [0, 1000])
def test_means_and_deviations_are_those_of_the_cpu(step, offset, far):
    rng, shape = np.random.default_rng(0), (33, 41)
    h, w = (-(-length // int(step)) for length in shape)
    values = rng.normal(far, 1, (2, h, w, 3)).astype(np.float32)
    regions = np.stack([np.unique(rng.integers(0, n, shape), return_inverse=True)[1].reshape(shape) for n in (7, 9)])
    regions[0, 5, 5] = regions[0].max() + 1  # of one pixel
    starts = [0, n := int(regions[0].max()) + 1, n + int(regions[1].max()) + 1]
    through = torch.from_numpy(regions + np.array([0, n])[:, None, None])
    area = torch.bincount(through.view(-1)).double()
    found = tensor_graph.pool(TensorMap(torch.from_numpy(values), step, offset), through, area, starts).numpy()
    expected = [pool(FeatureMap(each, step, offset, shape), r) for each, r in zip(values, regions)]
    assert np.abs(found - np.concatenate(expected)).max() <= (1e-5 if not far else 2e-4)  # of 1000, single precision


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("sizes, m", [((1,), 3), ((4, 1, 9), 5), ((30, 41), 6)])
def test_neighbours_are_those_of_each_field_of_view(sizes, m, precision, monkeypatch):
    monkeypatch.setattr(tensor_graph, "NUMBERS", 500)  # a few rows at a time
    starts = np.cumsum([0, *sizes]).tolist()
    X = torch.randn(starts[-1], 4, generator=torch.Generator().manual_seed(0))
    found = tensor_graph.nearest(X, starts, m, precision)
    expected = [nearest_pairs(X[a:b], m, precision=precision) + a for a, b in itertools.pairwise(starts)]
    assert torch.equal(found, torch.cat(expected, 1).reshape(2, -1))


@pytest.mark.parametrize(
    "options",
    [
        {"slic": "grid"},
        {"slic": "grid", "precision": "int8"},
        {"slic": "grid", "sigma": 1.0, "edges": "knn"},
        {"edges": "adjacent", "standardize": "node", "alpha": None},
        {"slic": "grid", "distance": "plain", "standardize": "none", "kappa": "neighbour"},
    ],
)
def test_graphs_of_a_batch_are_those_of_the_cpu(scenes, options):
    part = fitted(scenes, **options)
    batch, alone = batch_of(part, scenes), batch_of(part, scenes[1:2])
    embedder = LGCPrincipal(u=4, hops=3, normalisation="walk")
    graphs = [part.build(*each) for each in scenes]
    embedder.fit(graphs)
    whole = embedder.embed(batch)
    for b, (graph, start) in enumerate(zip(graphs, batch.starts)):
        mine = batch.fov(b)
        assert np.array_equal(mine.regions, graph.regions) and mine.n == graph.n
        for name, near in (("feature", 1e-4), ("area", 0), ("centroid", 1e-5), ("grey", 1e-6)):
            assert torch.allclose(getattr(mine, name), getattr(graph, name), rtol=0, atol=near), name
        assert torch.equal(mine.src, graph.src) and torch.equal(mine.dst, graph.dst)
        # the kernel of features that differ by rounding
        assert torch.allclose(mine.affinity, graph.affinity, rtol=0, atol=1e-6 if part.standardize == "set" else 1e-5)
        assert torch.allclose(mine.degree, graph.degree, rtol=1e-5)
        assert torch.allclose(mine.normalised, graph.normalised, rtol=0, atol=1e-5)
        Z = embedder.embed(graph)
        assert (embedder.embed(mine) - Z).abs().max() <= 1e-4 * Z.std()
        assert (whole[start : start + graph.n] - Z).abs().max() <= 1e-4 * Z.std()
    single, of_batch = alone.fov(0), batch.fov(1)
    assert all(torch.equal(getattr(single, name), getattr(of_batch, name)) for name in ("numbers", "indptr", "indices"))
    assert torch.allclose(single.affinity, of_batch.affinity, rtol=0, atol=1e-6)


def test_a_graph_of_tensors_becomes_a_dgl_graph(scenes):
    mine = batch_of(fitted(scenes, slic="grid"), scenes).fov(2)
    graph = mine.to_dgl()
    assert np.array_equal(graph.regions, mine.regions) and torch.equal(graph.feature, mine.feature)
    assert torch.equal(graph.src, mine.src) and torch.equal(graph.affinity, mine.affinity)
    X = torch.randn(mine.n, 3)
    assert torch.allclose(graph.propagate(X), mine.propagate(X), atol=1e-6)


def test_an_image_of_one_region_is_a_graph_of_one_node():
    part = fitted([scene(0)], slic="grid")
    image, stack = scene(1, (5, 6))
    graph = batch_of(part, [(image, stack)])
    assert graph.n == 1 and graph.src.tolist() == graph.dst.tolist() == [0]
    assert graph.propagate(torch.ones(1, 1)).item() == pytest.approx(1)


@pytest.mark.gpu
def test_a_graph_on_a_gpu_is_that_of_the_cpu(scenes):
    part = fitted(scenes, slic="grid")
    here = batch_of(part, scenes)
    images = torch.from_numpy(np.stack([image for image, _ in scenes])).cuda()
    maps = [replace(each, values=each.values.cuda()) for each in stacked([stack for _, stack in scenes])]
    there = part.build_batch(images, maps)
    assert there.feature.is_cuda and (there.numbers.cpu() == here.numbers).float().mean() > 0.999
    assert there.to_dgl().n == there.n
