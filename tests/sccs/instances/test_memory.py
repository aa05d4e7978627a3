"""`sccs.objects` on arrays."""

import doctest

import numpy as np
import pytest

import sccs
from registry.base import UserError
from sccs.instances import classes, memory
from tests.sccs.instances.maps import EDGES, blobs
from tests.sccs.instances.test_split import EDGES as BALL_EDGES
from tests.sccs.instances.test_split import balls

pytest.importorskip("cc3d")
pytest.importorskip("edt")


def test_a_mask_gives_labels_and_a_table():
    found, table = sccs.objects(blobs() == 1, EDGES)
    assert found.dtype == np.uint32 and found.shape == blobs().shape
    np.testing.assert_array_equal(np.bincount(found.ravel())[1:], table["voxels"])
    assert table["class"].unique().tolist() == ["objects"]


def test_classes_give_labels_by_name():
    found, table = sccs.objects(blobs(), classes={"a": 1, "b": 2}, min_size=10, split=2.0, image=blobs())
    assert sorted(found) == ["a", "b"] and table["voxels"].min() >= 10
    assert table["mean_grey"].tolist() == [1.0] * found["a"].max() + [2.0] * found["b"].max()
    alone, _ = sccs.objects(blobs(), classes={"a": 1}, min_size=10, split=2.0)
    np.testing.assert_array_equal(alone, found["a"])


def test_a_2d_image_of_pixels_with_a_size():
    found, table = sccs.objects(blobs()[10] == 1, (8.0, 10.0))
    assert found.shape == (40, 50)
    np.testing.assert_allclose(table["area_nm2"], 80 * table["voxels"])


def test_split_by_default_depth():
    both = balls((175.0, 200.0, 200.0), (175.0, 200.0, 440.0))
    _, whole = sccs.objects(both, BALL_EDGES)
    _, parted = sccs.objects(both, BALL_EDGES, split=True)
    assert len(whole) == 1 and len(parted) == 2 and parted["voxels"].sum() == both.sum()


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"labels": np.zeros(5, np.uint8)}, "labels: shape"),
        ({"labels": blobs(), "image": blobs()[1:]}, "image: shape"),
        ({"labels": blobs(), "voxel_size": (1, 2)}, "voxel_size"),
        ({"labels": blobs(), "voxel_size": (1, 2, 0)}, "voxel_size"),
        ({"labels": blobs(), "connectivity": 8}, "connectivity 8: give 6, 18 or 26"),
        ({"labels": blobs(), "classes": {"a": 9}}, "class a"),
        ({"labels": blobs(), "to": ["b"]}, "class b does not occur"),
    ],
)
def test_bad_input(arguments, words):
    with pytest.raises(UserError, match=words):
        sccs.objects(**arguments)


@pytest.mark.parametrize("module", [memory, classes], ids=lambda module: module.__name__)
def test_the_examples(module):
    assert doctest.testmod(module).attempted and not doctest.testmod(module).failed


@pytest.mark.parametrize("wish, value", [("bridge", 10**18), ("smooth", 1e8)])
def test_lengths_beyond_the_image_are_those_of_the_image(wish, value):
    labels = blobs((6, 20, 24), 2)
    found, whole = (memory.objects(labels, **{wish: each})[1] for each in (value, type(value)(24)))
    assert found.equals(whole)
