"""Cells, surfaces and distances of voxels that are not cubes."""

import math

import numpy as np
import pytest

from sccs.instances.geometry import coarse, distances, spread, step_areas
from sccs.instances.loops import KINDS


def test_cells_are_nearly_cubes_and_fit():
    assert coarse((100, 1000, 1000), (50, 10, 10), 10_000_000) == (1, 4, 3)
    assert coarse((10, 10, 10), (1, 1, 1), 1000) == (1, 1, 1)
    assert coarse((1, 100, 100), (1, 1, 1), 25) == (1, 20, 20)


@pytest.mark.parametrize("edges", [(1, 1, 1), (50, 8, 8), (30, 4, 7)])
def test_a_face_has_its_area_on_the_mean_of_directions(edges):
    """Faces along the axes are the worst case of 26 directions: 7 % too little for cubes, more for flat voxels."""
    weights = step_areas(edges, (9, 9, 9))
    assert weights.shape == (KINDS,) and (weights >= 0).all()
    steps = np.array([step for step in np.ndindex(2, 2, 2) if any(step)])
    for axis in range(3):  # a face across this axis, of one voxel: the ways out of it, of each kind
        ways = np.array([2.0 ** (sum(step) - step[axis]) * step[axis] for step in steps])
        face = math.prod(edges) / edges[axis]
        assert ways @ weights == pytest.approx(face, rel=0.1 if min(edges) == max(edges) else 0.3)


def test_distances_are_between_centres_and_endless_without_a_mask():
    mask = np.zeros((3, 4, 5), bool)
    assert np.isinf(distances(mask, (1, 1, 1))).all()
    mask[0, 0, 0] = True
    assert distances(mask, (50, 8, 4))[1, 2, 3] == pytest.approx(math.hypot(50, 16, 12))


def test_cells_without_a_part_get_the_nearest():
    parts = np.array([[[1, 0, 0, 0, 2]]])
    assert spread(parts).ravel().tolist() in ([1, 1, 1, 2, 2], [1, 1, 2, 2, 2])
    assert (spread(np.zeros((2, 2, 2), int)) == 1).all()
