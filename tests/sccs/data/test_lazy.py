"""The lazy array: chunk layers that are kept, indexing, axes, and values that are refused."""

import numpy as np
import pytest

from registry.base import UserError
from sccs.data import lazy
from sccs.data.readers import open_image
from tests.sccs.data.image_files import fails, said, same, volume, write_hdf5, write_tiff, write_zarr


def test_a_chunk_layer_is_decoded_once(tmp_path, monkeypatch):
    expected = volume((7, 9, 8))
    write_zarr(tmp_path / "a.zarr", expected)
    array, reads = open_image(tmp_path / "a.zarr").array, []
    original = array.stored.read
    monkeypatch.setattr(array.stored, "read", lambda spans: reads.append(spans[0]) or original(spans))
    for z in range(7):
        np.testing.assert_array_equal(array[z], expected[z])
    assert reads == [slice(0, 3), slice(3, 6), slice(6, 7)]
    monkeypatch.setattr(lazy, "SLAB_BYTES", 1)  # no room: slice by slice
    np.testing.assert_array_equal(array[0, :4], expected[0, :4])
    assert reads[-1] == slice(0, 1)


def test_slabs_of_many_images_stay_within_the_limit(tmp_path, monkeypatch):
    expected = volume((3, 9, 8))
    monkeypatch.setattr(lazy, "SLAB_BYTES", 4 * expected.nbytes)
    arrays = []
    for i in range(6):
        write_zarr(tmp_path / f"{i}.zarr", expected)
        arrays.append(open_image(tmp_path / f"{i}.zarr").array)
        np.testing.assert_array_equal(arrays[-1][1], expected[1])
        np.testing.assert_array_equal(arrays[-1][0], expected[0])
    assert sum(a._slab is not None for a in arrays) == 4
    for array in arrays:
        np.testing.assert_array_equal(array[0], expected[0])


def test_what_was_read_may_be_written_to(tmp_path):
    expected = volume((7, 9, 8))
    write_zarr(tmp_path / "a.zarr", expected)
    array = open_image(tmp_path / "a.zarr").array
    array[0][:] = 0
    np.testing.assert_array_equal(array[0], expected[0])


def test_indexing_like_an_array(tmp_path):
    write_tiff(tmp_path / "a.tif", volume())
    array = open_image(tmp_path / "a.tif").array
    assert len(array) == 4 and array.ndim == 3 and array.nbytes == array.size == 4 * 9 * 7
    assert array[..., 0].shape == (4, 9) and array[1:1].shape == (0, 9, 7) and array[::2, 1::3].shape == (2, 3, 7)
    for bad in (4, (0, 0, 0, 0), slice(None, None, -1)):
        with pytest.raises(IndexError):
            array[bad]


def test_bool_becomes_uint8(tmp_path):
    expected = volume() > 60
    write_hdf5(tmp_path / "a.h5", expected)
    same(tmp_path / "a.h5", expected.astype(np.uint8))


@pytest.mark.parametrize(
    "axes, shape, turn",
    [
        ("zyx", (4, 9, 7), (0, 1, 2)),
        ("xyz", (7, 9, 4), (2, 1, 0)),
        ("yxz", (9, 7, 4), (2, 0, 1)),
        ("czyx", (1, 4, 9, 7), (1, 2, 3)),
        ("zyxc", (4, 9, 7, 1), (0, 1, 2)),
        ("tzcyx", (1, 4, 1, 9, 7), (1, 3, 4)),
        ("zyx", (1, 4, 9, 7), (1, 2, 3)),
        ("czyx", (4, 9, 7), (0, 1, 2)),
        ("ZYX", (4, 9, 7), (0, 1, 2)),
    ],
)
def test_axes_given_by_the_user(tmp_path, axes, shape, turn):
    data = volume(shape)
    write_hdf5(tmp_path / "a.h5", data)
    rest = tuple(i for i in range(data.ndim) if i not in turn)
    expected = data.transpose(turn + rest).reshape([shape[i] for i in turn])
    same(tmp_path / "a.h5", expected, axes=axes)


@pytest.mark.parametrize(
    "axes, says",
    [
        ("zyy", "write each axis once"),
        ("zy", "including y and x"),
        ("zyxw", "letters of zyxcts"),
        ("yx", "do not fit its shape (4, 9, 7)"),
        ("cyx", "axis c has size 4"),
    ],
)
def test_axes_that_cannot_be(tmp_path, axes, says):
    write_hdf5(tmp_path / "a.h5", volume())
    fails(tmp_path / "a.h5", says, axes=axes)


def test_more_axes_than_a_volume_has(tmp_path):
    write_hdf5(tmp_path / "a.h5", volume((2, 4, 9, 7)))
    fails(tmp_path / "a.h5", "has shape (2, 4, 9, 7)", "give `axes`")
    write_hdf5(tmp_path / "b.h5", volume((1, 4, 9, 7)))
    same(tmp_path / "b.h5", volume((1, 4, 9, 7))[0])


def test_a_voxel_size_turns_with_the_axes(tmp_path):
    h5py = pytest.importorskip("h5py")
    write_hdf5(tmp_path / "a.h5", volume())
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["em/raw"].attrs["element_size_um"] = [0.05, 0.01, 0.02]
    assert open_image(tmp_path / "a.h5").voxel_size == (50, 10, 20)
    assert open_image(tmp_path / "a.h5", axes="xyz").voxel_size == (20, 10, 50)


def test_rgb_in_formats_that_know_no_colours(tmp_path):
    write_hdf5(tmp_path / "a.h5", volume((9, 7, 3)))
    fails(tmp_path / "a.h5", "has 3 channels (RGB)", "or give `axes`")
    same(tmp_path / "a.h5", volume((9, 7, 3)), axes="zyx")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_name_the_slice(tmp_path, bad):
    data = volume(dtype="f4")
    data[2, 3, 4] = bad
    write_tiff(tmp_path / "a.tif", data)
    array = open_image(tmp_path / "a.tif").array
    np.testing.assert_array_equal(array[1], data[1])
    for key in (2, slice(None), (slice(None), 3)):
        with pytest.raises(UserError) as caught:
            array[key]
        said(caught, "a.tif, slice z=2: 1 NaN or infinite values")
    np.testing.assert_array_equal(array[2, :3], data[2, :3])


def test_complex_text_and_empty_arrays(tmp_path):
    for name, data, says in (
        ("complex", np.zeros((4, 9, 7), "c8"), "complex values (complex64): save the magnitude"),
        ("record", np.zeros((4, 9, 7), [("a", "u1"), ("b", "f4")]), "SCCS reads integers and floats"),
        ("empty", np.zeros((4, 0, 7), "u1"), "image of size zero, shape (4, 0, 7)"),
        ("line", np.zeros(7, "u1"), "an image needs two or three axes"),
    ):
        write_hdf5(tmp_path / f"{name}.h5", data)
        fails(f"{tmp_path / name}.h5:/em/raw", says)
    write_tiff(tmp_path / "a.tif", np.zeros((4, 9, 7), "c8"))
    fails(tmp_path / "a.tif", "complex values")
