"""Every format gives the same lazy (Z, Y, X) array; every bad input gives one line."""

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sccs.data.readers import expand, open_image
from tests.sccs.data.image_files import fails, same, volume, write_hdf5, write_mrc, write_tiff, write_zarr

DTYPES = ["u1", "u2", "i2", "u4", "f2", "f4", "f8"]


WRITERS = {
    "plain.tif": write_tiff,
    "big.tif": lambda p, d: write_tiff(p, d, bigtiff=True),
    "big_endian.tif": lambda p, d: write_tiff(p, d, byteorder=">"),
    "shaped.tif": lambda p, d: write_tiff(p, d, metadata={}),
    "zlib.tif": lambda p, d: write_tiff(p, d, compression="zlib", rowsperstrip=2),
    "tiled.tif": lambda p, d: write_tiff(p, d, tile=(16, 16)),
    "a.h5": write_hdf5,
    "zarr2.zarr": lambda p, d: write_zarr(p, d, 2),
    "zarr3.zarr": write_zarr,
}


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=12)
@given(data=st.data())
def test_any_type_shape_and_region(tmp_path_factory, name, data):
    shape = data.draw(st.tuples(st.integers(1, 5), st.integers(2, 20), st.integers(5, 20)), "shape")
    expected = volume(shape, data.draw(st.sampled_from(DTYPES), "dtype"))
    path = tmp_path_factory.mktemp("any") / name
    WRITERS[name](path, expected)
    source = open_image(path)
    assert source.shape == shape and source.dtype == expected.dtype
    key = tuple(data.draw(st.integers(-n, n - 1) | st.slices(n).filter(lambda s: (s.step or 1) > 0)) for n in shape)
    np.testing.assert_array_equal(source.array[key], expected[key])
    np.testing.assert_array_equal(np.asarray(source.array), expected)


@pytest.mark.parametrize("name", ["zlib.tif", "plain.tif", "a.h5", "zarr3.zarr"])
def test_an_opened_image_can_be_pickled_and_read_by_threads(tmp_path, name):
    expected = volume((8, 9, 7))
    WRITERS[name](tmp_path / name, expected)
    source = open_image(tmp_path / name)
    source.array[0]
    copy = pickle.loads(pickle.dumps(source))
    assert copy.path == source.path and copy.voxel_size == source.voxel_size
    with ThreadPoolExecutor(4) as pool:
        planes = list(pool.map(copy.array.__getitem__, list(range(8)) * 4))
    np.testing.assert_array_equal(np.stack(planes[:8]), expected)
    np.testing.assert_array_equal(np.stack(planes[-8:]), expected)


def test_the_users_voxel_size_wins(tmp_path):
    write_mrc(tmp_path / "a.mrc", volume(dtype="u2"), (40, 40, 40))
    assert open_image(tmp_path / "a.mrc").voxel_size == (4, 4, 4)
    assert open_image(tmp_path / "a.mrc", voxel_size=[16, 8, 8]).voxel_size == (16, 8, 8)
    assert open_image(tmp_path / "a.mrc", voxel_size=8).voxel_size == (8, 8, 8)
    for bad in ([16, 8], [0, 1, 1], ["a", 1, 1], [1, 1, float("nan")]):
        fails(tmp_path / "a.mrc", "write three positive numbers in nm, [z, y, x]", voxel_size=bad)


def test_a_missing_file_names_the_nearest_one(tmp_path):
    write_tiff(tmp_path / "platelet_image.tif", volume())
    fails(tmp_path / "platelet_imag.tif", "no such file or folder", f"did you mean {tmp_path}/platelet_image.tif?")
    (tmp_path / "cell3.ome.zarr.lock").touch()  # of a command that writes cell3.ome.zarr
    fails(tmp_path / "cell3.ome.zar", f"check the path; {tmp_path}/cell3.ome.zar does not exist")
    fails(tmp_path / "nowhere" / "a" / "b.tif", f"{tmp_path}/nowhere does not exist")


def test_variables_and_home(tmp_path, monkeypatch):
    write_tiff(tmp_path / "a.tif", volume())
    monkeypatch.setenv("SCCS_TEST_DATA", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in ("${SCCS_TEST_DATA}/a.tif", "$SCCS_TEST_DATA/a.tif", "~/a.tif"):
        assert expand(path) == str(tmp_path / "a.tif")
        same(path, volume())
    monkeypatch.delenv("SCCS_TEST_DATA")
    fails("${SCCS_TEST_DATA}/a.tif", "the environment variable SCCS_TEST_DATA is not set")


@pytest.mark.parametrize(
    "suffix, mode, says",
    [
        ("png", "RGB", "3 channels (RGB)"),
        ("png", "RGBA", "4 channels (RGBA)"),
        ("jpg", "RGB", "3 channels (RGB)"),
        ("png", "LA", "2 channels (LA)"),
        ("tif", "RGB", "3 channels (RGB)"),
        ("tif", "RGBA", "4 channels (RGBA)"),
    ],
)
def test_rgb(tmp_path, suffix, mode, says):
    Image.new(mode, (9, 7)).save(tmp_path / f"a.{suffix}")
    fails(tmp_path / f"a.{suffix}", f"a.{suffix}: has {says}, but SCCS needs greyscale images: convert it to grey")


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.h5", "a.mrc"])
@pytest.mark.parametrize("content", [b"", b"this is no image" * 100])
def test_files_that_are_not_what_their_name_says(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    fails(tmp_path / name, f"{name}: ")


def test_unknown_formats(tmp_path):
    for name in ("a.xyz", "a"):
        (tmp_path / name).write_bytes(b"x")
        fails(tmp_path / name, "unknown image format", "SCCS reads TIFF, PNG")
    (tmp_path / "s_²_٣").write_bytes(b"x")  # digits to Python, numbers to nobody
    fails(tmp_path / "*", "not a 2-D image format that SCCS knows")


def test_a_level_of_a_file_without_levels(tmp_path):
    write_hdf5(tmp_path / "a.h5", volume())
    same(tmp_path / "a.h5", volume(), level=0)
    fails(tmp_path / "a.h5", "has no levels, but `level: 1` was requested", level=1)


@pytest.mark.parametrize("name, package", [("a.h5", "h5py"), ("a.zarr", "zarr"), ("a.n5", "tensorstore")])
def test_a_missing_package_comes_with_its_command(tmp_path, monkeypatch, name, package):
    if package == "h5py":
        (tmp_path / name).touch()
    else:
        (tmp_path / name).mkdir()
        (tmp_path / name / ("zarr.json" if package == "zarr" else "attributes.json")).touch()
    monkeypatch.setitem(sys.modules, package, None)
    fails(tmp_path / name, f"needs {package}: pip install '{package}>=")


def test_importing_the_readers_is_light():
    code = "import sys, sccs.data.readers, sccs.data.writers; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"tifffile", "zarr", "h5py", "tensorstore", "PIL", "imagecodecs", "torch"}
    assert "sccs.data.readers" in loaded and not heavy & set(loaded)


@pytest.mark.parametrize("address", ["s3://em/a.zarr", "https://x.org/a.tif", "gs://em/a.n5", "HTTP://x.org/a.h5:/em"])
def test_addresses_are_no_files(address):
    fails(address, "SCCS reads files, not URLs", "download it")


def test_what_to_write_for_what_is_nearly_right(tmp_path):
    fails(f"file://{tmp_path}/a.tif", f"write {tmp_path}/a.tif")
    write_hdf5(tmp_path / "a.h5", volume())
    fails(tmp_path / "a.h5" / "em" / "raw", f"write {tmp_path}/a.h5:/em/raw")
    write_tiff(tmp_path / "a.tif", volume())
    fails(tmp_path / "a.tif" / "0", f"give {tmp_path}/a.tif itself")
    (tmp_path / "a.zip").write_bytes(b"PK")
    fails(tmp_path / "a.zip", "unpack it first")
    (tmp_path / "cell[3]").mkdir()
    for z, plane in enumerate(volume()):
        write_tiff(tmp_path / "cell[3]" / f"{z}.tif", plane)
    fails(tmp_path / "cell[3]" / "*.tif", "for a literal bracket, write", "cell[[]3]/*.tif")
    same(f"{tmp_path}/cell[[]3]/*.tif", volume())
    same(tmp_path / "cell[3]", volume())
    fails(f"{tmp_path}/a[12].png", "[ and ] match one of the characters")
    fails("a\0b.tif", "NUL")


def test_a_gap_in_the_numbers_of_slices_is_noted(tmp_path):
    for z in (1, 2, 5, 6):
        write_tiff(tmp_path / f"s{z:03}.tif", volume()[0])
    assert open_image(tmp_path).notes == ("slices seem to be missing: there are none between numbers 2 and 5",)
    for z in (3, 4):
        write_tiff(tmp_path / f"s{z:03}.tif", volume()[0])
    assert open_image(tmp_path).notes == ()


@pytest.mark.parametrize("name", ["$cell.png", "~cell.png", "${cell}.png", "a.zarr:cell/a.png", "cell[3]*?.png"])
def test_a_name_that_is_there_is_taken_as_it_is(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    Image.fromarray(volume((9, 7))).save(tmp_path / name)
    same(tmp_path / name, volume((9, 7))[None])


@pytest.mark.parametrize(
    "write, name, says",
    [
        (write_hdf5, "a.ims", "is an HDF5 file, but its suffix says otherwise"),
        (write_mrc, "a.ccp4", "an MRC file"),
        (write_tiff, "a b.lsm", "/a b.lsm' 'a b.tif'`"),
        (lambda path, data: Image.fromarray(data[0]).save(path, "png"), "a.tif", "a PNG file"),
    ],
)
def test_a_file_under_another_suffix_is_told_what_it_is(tmp_path, write, name, says):
    write(tmp_path / name, volume())
    assert "damaged" not in fails(tmp_path / name, says, "rename it, or link to it with `ln -s ")
