"""An image that goes away while it is read is told, never read as empty; chunks that were never written are legal."""

import os
import shutil
import time

import numpy as np
import pytest

from registry.base import UserError
from sccs.data.readers import open_image
from sccs.inference.source import say_absent
from tests.sccs.data.image_files import said, volume, write_hdf5, write_mrc, write_n5, write_tiff, write_zarr


def write_png(path, data):
    from PIL import Image

    path.mkdir()
    for z, plane in enumerate(data):
        Image.fromarray(plane).save(path / f"{z}.png")


WRITERS = {
    "a.zarr": lambda path, data: write_zarr(path, data, 2),
    "b.zarr": write_zarr,
    "a.n5": write_n5,
    "a.mrc": write_mrc,
    "a.tif": write_tiff,
    "z.tif": lambda path, data: write_tiff(path, data, compression="zlib"),
    "slices": write_png,
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("how", ["deleted", "unmounted"])
def test_an_image_that_goes_while_it_is_read_is_told(tmp_path, name, how):
    path = tmp_path / name
    WRITERS[name](path, volume((7, 9, 8), "i1" if name.endswith("mrc") else "u1"))
    array = open_image(path).array
    array[0]
    if path.is_dir():
        shutil.rmtree(path)
        if how == "unmounted":
            path.mkdir()
    else:
        path.unlink()
    with pytest.raises(UserError) as caught:
        array[5]
    said(caught, str(path), "deleted, moved or unmounted", "restore it")


@pytest.mark.parametrize("name", ["a.zarr", "b.zarr", "a.n5"])
def test_chunks_that_go_while_the_metadata_is_still_there_are_told(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path, volume((7, 9, 8)))
    array = open_image(path).array
    np.testing.assert_array_equal(array[0], volume((7, 9, 8))[0])
    time.sleep(0.02)  # the clock of file systems ticks slowly
    for inside in path.iterdir():
        if inside.name not in (".zarray", ".zattrs", "zarr.json", "attributes.json"):
            shutil.rmtree(inside) if inside.is_dir() else inside.unlink()
    with pytest.raises(UserError) as caught:
        array[5]
    said(caught, "is missing and its folder changed while the image was being read")


@pytest.mark.parametrize("name, chunk", [("a.zarr", "0.1.0"), ("b.zarr", "c/0/1/0"), ("a.n5", "0/1/0")])
def test_chunks_that_were_never_written_are_the_fill_value_and_are_counted(tmp_path, name, chunk, capsys):
    expected = volume((3, 9, 9))
    WRITERS[name](tmp_path / name, expected)
    (tmp_path / name / chunk).unlink()
    expected[:, 3:6, :3] = 0
    source = open_image(tmp_path / name)
    np.testing.assert_array_equal(source.array[:], expected)
    assert source.array.absent(slice(0, 3), slice(0, 9), slice(0, 9)) == pytest.approx(1 / 9)
    assert source.array.absent(slice(0, 3), slice(6, 9), slice(0, 9)) == 0
    say_absent(source, [[0, 3], [0, 9], [0, 3]])
    assert "33.3% of the chunks in the region were never written" in capsys.readouterr().err
    say_absent(source, [[0, 3], [0, 3], [0, 9]])
    assert capsys.readouterr().err == ""


def test_a_pipe_in_the_place_of_a_chunk_is_not_waited_for(tmp_path):
    write_zarr(tmp_path / "a.zarr", volume((3, 9, 9)))
    (tmp_path / "a.zarr" / "c/0/1/0").unlink()
    os.mkfifo(tmp_path / "a.zarr" / "c/0/1/0")
    with pytest.raises(UserError, match="a pipe, not a file"):
        open_image(tmp_path / "a.zarr").array[0]


def test_hdf5_counts_chunks_that_were_never_written(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("d", shape=(4, 9, 9), dtype="u1", chunks=(1, 9, 9))[0] = 5
    array = open_image(tmp_path / "a.h5").array
    assert array.absent(*[slice(0, n) for n in array.shape]) == pytest.approx(3 / 4)
    write_hdf5(tmp_path / "b.h5", volume())
    assert open_image(tmp_path / "b.h5").array.absent(slice(0, 4), slice(0, 9), slice(0, 7)) == 0


def test_a_file_that_is_cut_while_it_is_read_is_told(tmp_path):
    write_tiff(tmp_path / "a.tif", volume((4, 60, 60)))
    array = open_image(tmp_path / "a.tif").array
    os.truncate(tmp_path / "a.tif", 5000)
    with pytest.raises(UserError) as caught:
        array[3]
    said(caught, "a.tif, slice z=3: cannot be read", "it ends early")
