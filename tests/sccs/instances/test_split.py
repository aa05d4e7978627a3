"""Objects that touch are parted where their neck is, in nm."""

import numpy as np
import pytest

from sccs.instances.split import default_depth, split

pytest.importorskip("edt")

EDGES = (25.0, 10.0, 10.0)


def balls(*centres, radius=150.0, shape=(15, 40, 90)) -> np.ndarray:
    z, y, x = np.meshgrid(*[np.arange(n) * e for n, e in zip(shape, EDGES)], indexing="ij")
    return np.any([(z - a) ** 2 + (y - b) ** 2 + (x - c) ** 2 <= radius**2 for a, b, c in centres], axis=0)


@pytest.mark.parametrize("distance, parts", [(290.0, 2), (240.0, 2), (60.0, 1)])
def test_two_balls_are_two_where_their_neck_is_narrow(distance, parts):
    first, second = (175.0, 200.0, 200.0), (175.0, 200.0, 200.0 + distance)
    found = split(balls(first, second), EDGES, 30.0, 26)
    assert np.unique(found).tolist() == list(range(parts + 1))
    if parts == 2:
        x = np.nonzero(balls(first, second))[2] * EDGES[2]
        side = found[balls(first, second)] == found[7, 20, 20]
        assert np.mean(side == (x < 200 + distance / 2)) > 0.98


def test_the_neck_must_be_as_deep_as_asked_for():
    both = balls((175.0, 200.0, 200.0), (175.0, 200.0, 440.0))  # the neck has a radius of 90 nm: 60 nm deep
    assert split(both, EDGES, 40.0, 26).max() == 2
    assert split(both, EDGES, 80.0, 26).max() == 1


def test_voxels_are_as_long_as_they_are():
    """Of cubes, the same voxels are one body: a bar that is cut across by a notch of a quarter of its width in nm."""
    both = balls((175.0, 200.0, 200.0), (175.0, 200.0, 440.0))
    scaled = split(both, tuple(3 * e for e in EDGES), 120.0, 26)
    np.testing.assert_array_equal(scaled, split(both, EDGES, 40.0, 26))


def test_a_plane_of_a_volume_and_a_2d_image():
    disk = balls((175.0, 200.0, 200.0), (175.0, 200.0, 440.0))[7:8]
    assert split(disk, EDGES, 40.0, 26).max() == 1  # one voxel thick: nowhere deeper than that
    assert split(disk, EDGES, 40.0, 26, axes=(1, 2)).max() == 2


def test_the_default_depth_is_two_voxel_edges():
    assert default_depth((8.0, 8.0, 8.0), (9, 9, 9)) == pytest.approx(16)
    assert default_depth((50.0, 4.0, 9.0), (1, 9, 9)) == pytest.approx(12)
