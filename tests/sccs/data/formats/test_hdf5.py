"""HDF5: paths inside the file, names of axes, sizes, signs and filters."""

import json
import sys

import numpy as np
import pytest

from sccs.data.readers import open_image
from tests.sccs.data.image_files import fails, same, volume, write_hdf5


def test_hdf5_paths(tmp_path):
    h5py = pytest.importorskip("h5py")
    write_hdf5(tmp_path / "a.h5", volume())
    for inside in ("", ":em/raw", ":/em/raw", ":"):
        assert same(f"{tmp_path}/a.h5{inside}", volume()).path == f"{tmp_path}/a.h5:/em/raw"
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["labels"] = volume(dtype="u2")
        file["name"] = "a cell"
    fails(tmp_path / "a.h5", "several datasets, none chosen", "/em/raw (4, 9, 7) uint8", "/labels (4, 9, 7) uint16")
    same(f"{tmp_path}/a.h5:/labels", volume(dtype="u2"))
    fails(f"{tmp_path}/a.h5:/em/row", "no dataset /em/row", "/em/raw")
    fails(f"{tmp_path}/a.h5:/em", "no dataset /em;")
    fails(f"{tmp_path}/b.h5:/em", f"did you mean {tmp_path}/a.h5?")


def write(path, data, order=None, tags=False, **attributes):
    """A dataset `d` whose axes are named, by dimension labels or by ilastik's `axistags`."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("d", data=data)
        if order and tags:
            dataset.attrs["axistags"] = json.dumps({"axes": [{"key": a, "typeFlags": 2} for a in order]})
        elif order:
            for dimension, name in zip(dataset.dims, order):
                dimension.label = name
        dataset.attrs.update(attributes)


@pytest.mark.parametrize("tags", [True, False])
@pytest.mark.parametrize("order", ["xyz", "zxy", "zyxc", "czyx", "tzyxc"])
def test_names_of_axes(tmp_path, order, tags):
    expected = volume()
    sizes = dict(zip("zyx", expected.shape))
    turn = expected.transpose(["zyx".index(a) for a in order if a in "zyx"])
    write(tmp_path / "a.h5", turn.reshape([sizes.get(a, 1) for a in order]), order, tags)
    same(tmp_path / "a.h5", expected)
    assert open_image(tmp_path / "a.h5", axes="".join(order)).shape == expected.shape


def test_long_names_of_axes_and_such_as_say_nothing(tmp_path):
    write(tmp_path / "a.h5", volume().T, ["width", "height", "depth"])
    same(tmp_path / "a.h5", volume())
    write(tmp_path / "b.h5", volume(), ["a", "b", "c"])
    assert "are named a, b, c" in same(tmp_path / "b.h5", volume()).notes[0]
    write(tmp_path / "c.h5", volume(), ["dim_0", "dim_1", "dim_2"])
    assert same(tmp_path / "c.h5", volume()).notes == ()
    write(tmp_path / "d.h5", volume((2, 4, 9, 7)), "czyx")
    fails(tmp_path / "d.h5", "has 2 channels")


@pytest.mark.parametrize(
    "shape, order, attributes, size, first",
    [
        ((1, 4, 9, 7), None, {"element_size_um": [0.05, 0.01, 0.02]}, (50, 10, 20), (0, 0, 0)),
        ((1, 4, 1, 9, 7), "tzcyx", {"element_size_um": [0.05, 0.01, 0.02]}, (50, 10, 20), (0, 0, 0)),
        ((7, 9, 4), "xyz", {"element_size_um": [0.05, 0.01, 0.02]}, (50, 10, 20), (0, 0, 0)),
        ((7, 9, 4), "xyz", {"resolution": [4, 8, 16], "offset": [1, 2, 3]}, (16, 8, 4), (3, 2, 1)),
        ((4, 9, 7), None, {"resolution": [40, 4, 8], "offset": [400, 40, 80]}, (40, 4, 8), (400, 40, 80)),
        ((1, 4, 9, 7), "czyx", {"voxel_size": [40, 4, 8], "units": ["nm"] * 3}, (40, 4, 8), (0, 0, 0)),
        ((9, 7), None, {"element_size_um": [0.004, 0.008]}, (4, 4, 8), (0, 0, 0)),
        ((4, 9, 7), None, {"resolution": 8}, (8, 8, 8), (0, 0, 0)),
    ],
)
def test_sizes_and_places(tmp_path, shape, order, attributes, size, first):
    write(tmp_path / "a.h5", volume(shape), order, **attributes)
    source = open_image(tmp_path / "a.h5")
    assert (source.voxel_size, source.translation, source.notes) == (size, first, ())


@pytest.mark.parametrize(
    "attributes, says",
    [
        ({"element_size_um": [1.0] * 5}, "`element_size_um` has 5 values for 3 axes"),
        ({"resolution": [1.0] * 4}, "`resolution` has 4 values for 3 axes"),
        ({"resolution": "fine"}, "`resolution` is 'fine', not numbers"),
        ({"resolution": [1.0] * 3, "units": ["s"] * 3}, "not lengths"),
        ({"resolution": [1.0] * 3, "offset": [1.0] * 5}, "`offset` has 5 values"),
    ],
)
def test_attributes_that_are_not_understood_are_told(tmp_path, attributes, says):
    write(tmp_path / "a.h5", volume(), **attributes)
    assert says in " ".join(open_image(tmp_path / "a.h5").notes)


@pytest.mark.parametrize(
    "said, unsigned", [(None, True), ("uint16", True), (b"uint16", True), ("int16", False), ("INT16", False)]
)
def test_values_of_bigdataviewer_are_unsigned_unless_it_says_otherwise(tmp_path, said, unsigned):
    h5py = pytest.importorskip("h5py")
    stored = (volume(dtype="u2") * 500).view("i2")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["t00000/s00/0/cells"] = stored
        file.create_group("s00").attrs.update({"dataType": said} if said else {})
    same(f"{tmp_path}/a.h5:/t00000/s00/0/cells", stored.view("u2") if unsigned else stored)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["cells"] = stored
    same(tmp_path / "b.h5", stored)


def test_a_filter_that_is_not_installed_is_named_with_its_command(tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py")
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: False)
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_chunk((1, 9, 7))
    layout.set_filter(32001, h5py.h5z.FLAG_OPTIONAL, (2, 2, 1, 63, 5, 1, 0))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        space = h5py.h5s.create_simple((4, 9, 7))
        h5py.h5d.create(file.id, b"d", h5py.h5t.NATIVE_UINT8, space, layout)
    fails(tmp_path / "a.h5", "HDF5 filter 32001, Blosc", "pip install hdf5plugin")


def test_pixels_in_other_files_that_are_gone_or_cut_are_told(tmp_path):
    h5py = pytest.importorskip("h5py")
    data = volume()
    layout = h5py.VirtualLayout(data.shape, data.dtype)
    for z, plane in enumerate(data):
        with h5py.File(tmp_path / f"z{z}.h5", "w") as file:
            file["d"] = plane
        layout[z] = h5py.VirtualSource(f"z{z}.h5", "d", plane.shape)
    (tmp_path / "raw").write_bytes(data.tobytes())
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("outside", data.shape, data.dtype, external=[(f"{tmp_path}/raw", 0, data.nbytes)])
        file["link"] = h5py.ExternalLink("nowhere.h5", "/d")
    same(f"{tmp_path}/a.h5:/virtual", data)
    same(f"{tmp_path}/a.h5:/outside", data)
    fails(f"{tmp_path}/a.h5:/link", "links to nowhere.h5:/d, which does not exist")
    (tmp_path / "z2.h5").unlink()
    fails(f"{tmp_path}/a.h5:/virtual", f"its pixels are in {tmp_path}/z2.h5, which is missing")
    (tmp_path / "raw").write_bytes(data.tobytes()[:-1])
    fails(f"{tmp_path}/a.h5:/outside", "truncated")


def test_a_file_without_an_image_says_so(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["d"] = 5
    fails(tmp_path / "a.h5", "contains no image")


def test_labels_of_axes_of_a_fixed_length(tmp_path):
    write(tmp_path / "a.h5", volume().T, DIMENSION_LABELS=np.array([b"x", b"y", b"z"]))
    same(tmp_path / "a.h5", volume())


def test_an_empty_dataset_and_damaged_axistags_are_told(tmp_path):
    h5py = pytest.importorskip("h5py")
    write(tmp_path / "a.h5", volume(), axistags="{")
    assert "`axistags` are damaged" in same(tmp_path / "a.h5", volume()).notes[0]
    write(tmp_path / "b.h5", h5py.Empty("u1"))
    fails(f"{tmp_path}/b.h5:/d", "an empty dataset")


def test_a_link_to_another_file_is_the_image_where_there_is_no_other(tmp_path):
    h5py = pytest.importorskip("h5py")
    write(tmp_path / "b.h5", volume())
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["em"] = h5py.ExternalLink("b.h5", "/d")
    same(tmp_path / "a.h5", volume())
    (tmp_path / "b.h5").unlink()
    fails(tmp_path / "a.h5", "/em: links to b.h5:/d, which does not exist")


def test_a_virtual_dataset_of_virtual_ones_whose_pixels_are_gone(tmp_path):
    h5py = pytest.importorskip("h5py")
    write(tmp_path / "pixels.h5", volume())
    for name, source in (("inner", "pixels"), ("outer", "inner")):
        layout = h5py.VirtualLayout(volume().shape, "u1")
        layout[:] = h5py.VirtualSource(f"{source}.h5", "d", volume().shape)
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file.create_virtual_dataset("d", layout)
    same(tmp_path / "outer.h5", volume())
    with h5py.File(tmp_path / "pixels.h5", "a") as file:
        file.move("d", "e")
    fails(tmp_path / "outer.h5", f"its pixels are in {tmp_path}/pixels.h5:d, which is missing")
