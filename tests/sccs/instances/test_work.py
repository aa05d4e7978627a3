"""Objects are those of the whole volume in memory, whatever the blocks; and those that independent code finds."""

import numpy as np
import pytest
from scipy import ndimage

from registry.base import UserError
from sccs.instances import work as works
from sccs.instances.stores import Memory
from sccs.instances.work import Wishes, Work, carry_out_here
from tests.sccs.instances.maps import EDGES, blobs, in_order

pytest.importorskip("cc3d")
pytest.importorskip("edt")

ALL = dict(split=10.0, fill=np.inf, bridge=2, smooth=10.0, min_size=5, largest=9, inside=["rest"], names={0: "rest"})


def found(labels, block=None, image=None, edges=EDGES, **wishes):
    return carry_out_here(Work(labels, Memory(), Wishes(**wishes), edges, image, block or labels.shape))


def instances(work, name="label_1"):
    return work.store.open(f"labels/{name}/0")


@pytest.mark.parametrize("connectivity", [6, 18, 26])
def test_objects_are_the_connected_components_numbered_by_their_first_voxels(connectivity):
    structure = ndimage.generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[connectivity])
    labels = blobs()
    for block in (None, (7, 9, 13)):
        mine = instances(found(labels, block, connectivity=connectivity))
        np.testing.assert_array_equal(mine, in_order(ndimage.label(labels == 1, structure)[0]))


@pytest.mark.parametrize("block", [(7, 11, 13), (1, 40, 50), (20, 40, 7), (5, 3, 50)])
@pytest.mark.parametrize("wishes", [{}, {"connectivity": 6, "fill": 20.0}, {"split": 10.0}, ALL], ids=str)
def test_blocks_change_nothing(block, wishes):
    labels, image = blobs(), np.arange(20 * 40 * 50, dtype=np.uint16).reshape(20, 40, 50)
    whole, parted = (found(labels, each, image, **wishes) for each in (None, block))
    for number, name in enumerate(whole.classes):
        assert instances(whole, name).any()
        np.testing.assert_array_equal(instances(parted, name), instances(whole, name))
        for column, values in whole.table(number).items():
            np.testing.assert_array_equal(parted.table(number)[column], values, err_msg=column)


def test_blocks_change_nothing_where_objects_and_grids_are_too_large(monkeypatch, capsys):
    monkeypatch.setattr(works, "MOST", 2000)
    monkeypatch.setattr(works, "CELLS", 3000)
    whole, parted = (found(blobs(), each, split=10.0) for each in (None, (7, 11, 13)))
    assert "is split in cells of" in capsys.readouterr().err
    assert whole.precision > 0
    for number, name in enumerate(whole.classes):
        np.testing.assert_array_equal(instances(parted, name), instances(whole, name))
        np.testing.assert_array_equal(parted.table(number)["distance"], whole.table(number)["distance"])


def test_holes_are_filled_as_scipy_fills_them_and_large_ones_are_left():
    mask = np.zeros((12, 20, 30), bool)
    mask[1:11, 1:19, 1:29] = True
    mask[3, 3, 3] = mask[5:9, 5:15, 5:20] = False
    mask[0:6, 10, 25] = False  # open to outside
    labels = mask.astype(np.uint8)
    every = instances(found(labels, (5, 6, 7), fill=np.inf)) > 0
    np.testing.assert_array_equal(every, ndimage.binary_fill_holes(mask))
    small = instances(found(labels, (5, 6, 7), fill=1)) > 0
    assert small[3, 3, 3] and not small[6, 6, 6]


def test_distances_are_those_of_scipy_and_far_ones_nearly(monkeypatch):
    labels = np.zeros((20, 60, 70), np.uint8)
    labels[2:5, 3:8, 3:9], labels[10:14, 40:50, 20:30], labels[0:3, 0:5, 55:70] = 1, 1, 2
    truth = ndimage.distance_transform_edt(labels != 2, sampling=EDGES)
    right = [truth[part].min() for part in (np.s_[2:5, 3:8, 3:9], np.s_[10:14, 40:50, 20:30])]
    np.testing.assert_allclose(found(labels, (7, 20, 30)).table(0)["distance"][:, 1], right, rtol=1e-6)
    monkeypatch.setattr(works, "CELLS", 3000)
    rough = found(labels, (7, 20, 30))
    assert 0 < rough.precision < 100
    np.testing.assert_allclose(rough.table(0)["distance"][:, 1], right, atol=rough.precision)


def test_objects_inside_of_a_class_and_the_largest_are_kept():
    labels = np.zeros((9, 20, 40), np.uint8)
    labels[:, :, :20] = 2
    labels[3:6, 8:12, 8:12] = labels[3:6, 8:13, 28:33] = labels[2:6, 5:13, 34:39] = 1
    work = found(labels, inside=["label_2"], classes={"label_1": 1}, names={2: "label_2"})
    assert instances(work).max() == 1 and instances(work)[4, 10, 10] == 1
    work = found(labels, largest=1, classes={"label_1": 1})
    assert (instances(work) > 0).sum() == 4 * 8 * 5 and work.table(0)["left_out"] == 2


@pytest.mark.parametrize(
    "labels, words",
    [
        (np.full((3, 4, 5), 300, np.int32), "slices 0 to 2 have 300: class codes are 0 to 255"),
        (np.full((3, 4, 5), -1, np.int32), "have -1"),
        (np.zeros((3, 4, 5), np.float32), "values are float32"),
        (np.zeros((3, 4, 5), np.uint8), "contains no classes, only 0"),
        (np.arange(250, dtype=np.uint8).reshape(5, 5, 10), "not a class map"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_labels_that_are_no_classes(labels, words):
    with pytest.raises(UserError, match=words):
        found(labels)


def test_a_class_that_is_not_there():
    with pytest.raises(UserError, match=r"class golgi \(7\) does not occur; the file contains 0, 1, 2"):
        found(blobs(), classes={"golgi": 7})


def test_too_many_pieces_are_said(monkeypatch):
    monkeypatch.setattr(works, "NUMBERS", 5)
    with pytest.raises(UserError, match="more than 5 pieces"):
        found(blobs())
