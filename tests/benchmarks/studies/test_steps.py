"""Steps in place of the recipe's: each changes what it says, and nothing else."""

import numpy as np
import pytest
import torch

from benchmarks.studies import steps
from benchmarks.studies.leads import LEADS
from benchmarks.studies.views import View
from registry.spg.graphs import Nodes, RegionGraph, touching_pairs


@pytest.fixture
def blobs():
    """Eight groups of points (400, 12) in two FOVs, well apart."""
    rng = np.random.default_rng(0)
    centres = 10 * np.eye(12)[:8]
    groups = np.arange(800) % 8
    points = (centres[groups] + rng.normal(0, 0.5, (800, 12))).astype(np.float32)
    return [points[:400], points[400:]], groups


@pytest.mark.parametrize(
    "name",
    [
        "teacher: spherical Gaussians of equal shares",
        "teacher: Gaussians of equal shares",
        "teacher: normalised cut of all training nodes",
        "coordinates of length 1",
    ],
)
def test_a_teacher_finds_groups_that_lie_apart_also_where_it_was_not_taught(blobs, name):
    Z, groups = blobs
    found = np.concatenate(LEADS[name].teach(Z, 1, 0))
    assert len({(a, b) for a, b in zip(found.tolist(), groups.tolist())}) == 8 == len(set(found.tolist()))


def test_a_consensus_of_coordinates_finds_them_as_well(blobs):
    Z, groups = blobs
    found = np.concatenate(steps.consensus([Z, [2 * z for z in Z]], 1, 0))
    assert len({(a, b) for a, b in zip(found.tolist(), groups.tolist())}) == 8


def test_discriminant_directions_leave_out_what_varies_within_clusters(blobs):
    Z, groups = blobs
    rng = np.random.default_rng(1)
    X = [torch.from_numpy(np.concatenate([z, rng.normal(0, 3, (400, 1)).astype(np.float32)], 1)) for z in Z]
    found = np.concatenate(steps.discriminant(X, 1))
    means = np.stack([found[groups == c].mean(0) for c in range(8)])
    within = np.square(found - means[groups]).sum(1).mean()
    assert found.shape == (800, 7) and within < 0.2 * np.square(means - means.mean(0)).sum(1).mean()


def strip() -> tuple[RegionGraph, Nodes, np.ndarray]:
    """Four regions in a row, a step in grey between the second and the third."""
    regions = np.repeat(np.arange(4), 8)[None].repeat(8, 0).astype(np.int32)
    image = np.where(np.arange(32) < 16, 0, 1)[None].repeat(8, 0).astype(np.float32)
    feature = np.array([[0.0], [1.0], [3.0], [3.5]], np.float32)
    touching = touching_pairs(regions)
    i, j = np.concatenate([touching, touching[::-1], np.stack([np.arange(4)] * 2)], axis=1)
    area, centroid = np.full(4, 64, np.float32), np.zeros((4, 2), np.float32)
    graph = RegionGraph.from_edges(regions, feature, area, centroid, i, j, np.ones(len(i), np.float32))
    return graph, Nodes(regions, feature, area, centroid, touching), image


def test_borders_weaken_the_edges_that_cross_them_and_nothing_else():
    graph, nodes, image = strip()
    weight = steps.by_borders(1.0)(graph, View(nodes, image, np.zeros((4, 2), np.int64)))
    across = {(int(a), int(b)): float(w) for a, b, w in zip(graph.src, graph.dst, weight)}
    assert across[1, 2] == across[2, 1] < min(across[0, 1], across[2, 3])
    assert all(across[i, i] == 1 for i in range(4))


def test_a_self_tuned_kernel_measures_each_edge_by_the_edges_at_its_ends():
    graph, nodes, image = strip()
    weight = steps.self_tuned(graph, None)
    across = {(int(a), int(b)): float(w) for a, b, w in zip(graph.src, graph.dst, weight)}
    # squared lengths 1, 4, .25; medians (the lower of two): 1, 1, .25, .25
    for pair, expected in {(0, 1): 1 / 1, (1, 2): 4 / 0.5, (2, 3): 0.25 / 0.25, (3, 3): 0}.items():
        assert across[pair] == pytest.approx(np.exp(-expected), rel=1e-5)
