"""Objects that a person edited: measured as the command measures, written as it writes."""

import numpy as np
import pandas
import pytest

import sccs
from registry.base import UserError
from sccs.data.readers import open_image
from sccs.instances.edited import Edited
from tests.sccs.instances.maps import EDGES, blobs

pytest.importorskip("cc3d")
pytest.importorskip("edt")
CLASSES = {"a": 1, "b": 2}


def found() -> tuple[dict, pandas.DataFrame]:
    return sccs.objects(blobs(), EDGES, classes=CLASSES, image=blobs())


def test_what_nobody_edited_measures_as_before():
    labels, table = found()
    again = Edited(labels, blobs(), CLASSES, EDGES, blobs())
    pandas.testing.assert_frame_equal(again.table, table)
    assert all(np.array_equal(again.found[name], labels[name]) for name in CLASSES)


def test_a_deleted_object_is_gone_and_merged_ones_are_one():
    labels, table = found()
    counts = table.loc[table["class"] == "a", "voxels"].tolist()
    assert len(counts) > 3
    labels["a"][labels["a"] == 1] = 0
    labels["a"][labels["a"] == 3] = 2
    again = Edited(labels, blobs(), CLASSES, EDGES)
    own = again.table[again.table["class"] == "a"]
    assert own["object"].tolist() == list(range(1, len(counts) - 1))
    assert sorted(own["voxels"]) == sorted([counts[1] + counts[2], *counts[3:]])
    assert np.array_equal(again.found["a"] > 0, labels["a"] > 0)


def test_no_object_left_is_no_fault(tmp_path):
    labels, _ = found()
    labels["a"][:] = 0
    again = Edited(labels, blobs(), CLASSES, EDGES)
    assert set(again.table["class"]) == {"b"}
    again.write(tmp_path / "out")


def test_a_folder_as_the_command_writes_it(tmp_path):
    labels, _ = found()
    edited = Edited(labels, blobs(), CLASSES, EDGES, translation=(1.0, 2.0, 3.0))
    edited.write(tmp_path / "out")
    source = open_image(tmp_path / "out" / "objects.ome.zarr" / "labels" / "b", codes=True)
    assert np.array_equal(source.array[:], edited.found["b"])
    assert source.voxel_size == pytest.approx(EDGES) and source.translation == pytest.approx((1, 2, 3))
    assert len(pandas.read_csv(tmp_path / "out" / "objects.csv")) == len(edited.table)
    with pytest.raises(UserError, match="already exists.*overwrite=True"):
        edited.write(tmp_path / "out")
    edited.write(tmp_path / "out", overwrite=True)
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="will not be replaced"):
        edited.write(tmp_path / "mine", overwrite=True)
