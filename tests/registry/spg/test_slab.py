"""Slabs: overlaps against a count by hand, joined graphs against the dense matrix."""

import itertools

import numpy as np
import pytest
import torch

from registry.graph.superpixel import Superpixel
from registry.spg.graphs import Nodes, touching_pairs
from registry.spg.slab import joined, link, overlaps

ONE = np.array([[0, 0, 1, 1]] * 2)
TWO = np.array([[0, 1, 1, 1]] * 2)


def test_overlaps_are_shares_of_the_two_areas():
    i, j, share = overlaps(ONE, TWO)
    assert list(zip(i.tolist(), j.tolist())) == [(0, 0), (0, 1), (1, 1)]
    assert share.tolist() == pytest.approx([2 / np.sqrt(4 * 2), 2 / np.sqrt(4 * 6), 4 / np.sqrt(4 * 6)])


def graph(regions, seed, part):
    n = regions.max() + 1
    feature = np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32)
    area = np.bincount(regions.ravel()).astype(np.float32)
    return part.connect(
        Nodes(regions.astype(np.int32), feature, area, np.zeros((n, 2), np.float32), touching_pairs(regions))
    )


@pytest.fixture
def part():
    part = Superpixel(standardize="none", kappa=20.0, alpha=4.0, neighbours=2)
    part.kappa_ = 20.0
    return part


def test_joined_graphs_are_blocks_with_overlaps_between_neighbours(part):
    graphs = [graph(regions, seed, part) for seed, regions in enumerate((ONE, TWO, ONE))]
    slab = joined(graphs, [link(part, one, two, 3.0) for one, two in itertools.pairwise(graphs)])
    expected = np.zeros((6, 6), np.float32)
    for start, each in zip((0, 2, 4), graphs):
        expected[start : start + 2, start : start + 2] = each.dense_affinity()
    for one, two, first, second in ((0, 1, 0, 2), (1, 2, 2, 4)):
        for i, j, share in zip(*(each.tolist() for each in overlaps(graphs[one].regions, graphs[two].regions))):
            d2 = float((graphs[one].feature[i] - graphs[two].feature[j]).square().sum())
            weight = 3 * share * max(np.exp(-d2 / 20) - 0.25, 0)
            expected[first + i, second + j] = expected[second + j, first + i] = weight
    np.testing.assert_allclose(slab.dense_affinity(), expected, rtol=1e-5)
    assert slab.regions.shape == (3, 2, 4) and slab.regions[2].min() == 4
    assert torch.equal(slab.feature, torch.cat([each.feature for each in graphs]))
    assert slab.area.tolist() == [4, 4, 2, 6, 4, 4]


def test_one_slice_alone_is_its_own_graph(part):
    alone = graph(ONE, 0, part)
    assert torch.equal(joined([alone], []).dense_affinity(), alone.dense_affinity())
