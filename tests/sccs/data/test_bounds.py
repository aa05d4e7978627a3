"""Absurd sizes, pipes, devices and links in circles are answered from headers and names, before anything is read."""

import json
import os
import struct
import zlib

import numpy as np
import pytest
import tifffile

from registry.base import UserError
from sccs.data.bounds import MOST_METADATA
from sccs.data.readers import open_image
from sccs.data.survey import find_volumes
from tests.sccs.data.image_files import fails, said, same, volume, write_mrc, write_n5, write_tiff, write_zarr

BEYOND = "more than any volume has"


def png(height, width):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def edit(file, **changes):
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize("side", [2**31 - 1, 60_000])
def test_a_png_that_cannot_fit_into_its_file(tmp_path, side):
    (tmp_path / "a.png").write_bytes(png(side, side))
    fails(tmp_path / "a.png", f"its header claims {side} x {side} px, too many for its")


@pytest.mark.parametrize("header", [b"P5 2000000000 2000000000 255\n", b"P5 40000 40000 255\n"])
def test_flat_images_that_are_too_large_to_decode(tmp_path, header):
    (tmp_path / "a.pgm").write_bytes(header + bytes(100))
    fails(tmp_path / "a.pgm", "GiB to decode", "save it in smaller pieces")


@pytest.mark.parametrize("shape", [(10**9,) * 3, (2**21, 10, 10), (10, 2**20, 2**20), (2**20, 2**19, 2**19)])
def test_hdf5_of_absurd_shapes(tmp_path, shape):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("d", shape=shape, dtype="u1", chunks=(1, 64, 64) if shape[1] > 64 else (1, 10, 10))
    fails(tmp_path / "a.h5", BEYOND)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr_of_absurd_shapes_and_chunks(tmp_path, zarr_format):
    write_zarr(tmp_path / "a.zarr", volume(), zarr_format)
    file = tmp_path / "a.zarr" / ("zarr.json" if zarr_format == 3 else ".zarray")
    edit(file, shape=[10**9] * 3)
    fails(tmp_path / "a.zarr", BEYOND)

    def chunks(*shape):
        grid = {"name": "regular", "configuration": {"chunk_shape": shape}}
        edit(file, shape=[4, 9, 7], **({"chunk_grid": grid} if zarr_format == 3 else {"chunks": shape}))

    chunks(10**9, 10**9, 10**9)
    fails(tmp_path / "a.zarr", "a chunk of 1000000000 x", "save it in smaller pieces")
    chunks(0, 3, 3)
    fails(tmp_path / "a.zarr", "a.zarr: ", "damaged")
    chunks(4, 2, 2)
    edit(file, shape=[4, 30_000, 30_000])
    fails(tmp_path / "a.zarr", "a slice spans 225,000,000 chunks of 2 x 2 px")


def test_n5_of_absurd_shapes_and_blocks(tmp_path):
    write_n5(tmp_path / "a.n5", volume())
    file = tmp_path / "a.n5" / "attributes.json"
    edit(file, dimensions=[10**9] * 3)
    fails(tmp_path / "a.n5", BEYOND)
    edit(file, dimensions=[7, 9, 4], blockSize=[10**6] * 3)
    fails(tmp_path / "a.n5", "a block of 1000000 x", "save it in smaller pieces")
    edit(file, blockSize=[0, 3, 3])
    fails(tmp_path / "a.n5", "damaged")


def test_mrc_of_absurd_shapes(tmp_path):
    write_mrc(tmp_path / "a.mrc", volume(dtype="i2"))
    content = bytearray((tmp_path / "a.mrc").read_bytes())
    content[:12] = struct.pack("<3i", *[2**31 - 1] * 3)
    (tmp_path / "a.mrc").write_bytes(content)
    fails(tmp_path / "a.mrc", "truncated MRC file")


def test_ome_xml_that_announces_two_milliards_of_slices(tmp_path):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, volume(), ome=True, photometric="minisblack", metadata={"axes": "ZYX"})
    text = tifffile.TiffFile(path).ome_metadata.replace('SizeZ="4"', 'SizeZ="2000000000"')
    tifffile.imwrite(path, volume()[0], description=text.encode(), metadata=None, photometric="minisblack")
    fails(path, "2000000000 x 9 x 7 voxels", BEYOND)


def test_a_list_of_pages_in_a_circle(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        for _ in range(120):
            tif.write(volume()[0], photometric="minisblack", compression="zlib", metadata=None)
    content = bytearray(path.read_bytes())
    first, last = struct.unpack_from("<I", content, 4)[0], tifffile.TiffFile(path).pages[-1].offset
    struct.pack_into("<I", content, last + 2 + 12 * struct.unpack_from("<H", content, last)[0], first)
    path.write_bytes(content)
    fails(path, "its list of pages forms a loop")


def test_a_strip_that_is_too_large_to_decode(tmp_path):
    path = tmp_path / "a.tif"
    write_tiff(path, volume()[0], compression="zlib")
    with tifffile.TiffFile(path, mode="r+b") as tif:
        for tag in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            tif.pages[0].tags[tag].overwrite(60_000)
    fails(path, "a strip or tile of 60000 x 60000", "save it in smaller pieces")


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.h5", "a.mrc"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    fails(tmp_path / name, "a pipe, not a file")
    fails(tmp_path / "*.*", "a pipe, not a file")
    if name in ("a.tif", "a.png"):
        fails(tmp_path, "a pipe, not a file")


def test_devices_and_links_to_themselves(tmp_path):
    (tmp_path / "a.tif").symlink_to("/dev/zero")
    fails(tmp_path / "a.tif", "a device or socket, not a file")
    (tmp_path / "b.tif").symlink_to("b.tif")
    fails(tmp_path / "b.tif", "a broken link")
    (tmp_path / "slices").mkdir()
    (tmp_path / "slices" / "1.tif").symlink_to("2.tif")
    fails(tmp_path / "slices", "a broken link")


def test_metadata_that_is_a_pipe_or_beyond_all_measure(tmp_path):
    for name, file in (("a.zarr", "zarr.json"), ("b.zarr", ".zarray"), ("a.n5", "attributes.json")):
        (tmp_path / name).mkdir()
        os.mkfifo(tmp_path / name / file)
        fails(tmp_path / name, "a pipe, not a file")
        (tmp_path / name / file).unlink()
        with open(tmp_path / name / file, "wb") as stream:
            stream.truncate(MOST_METADATA + 1)
        fails(tmp_path / name, "64 MiB of metadata")


@pytest.mark.parametrize("write, name", [(write_n5, "a.n5"), (write_zarr, "a.zarr")])
def test_folders_that_lead_round_in_circles(tmp_path, write, name):
    if name == "a.zarr":
        zarr = pytest.importorskip("zarr")
        zarr.create_group(str(tmp_path / name))
    write(tmp_path / name / "em", volume())
    for link in ("x", "y"):
        (tmp_path / name / link).symlink_to(".")
    same(tmp_path / name, volume())


def test_patterns_and_init_follow_no_circle(tmp_path):
    for z, plane in enumerate(volume((3, 90, 90))):
        write_tiff(tmp_path / f"s{z}.tif", plane)
    (tmp_path / "again").symlink_to(".")
    same(tmp_path / "**" / "*.tif", volume((3, 90, 90)))
    paths, notes = find_volumes(str(tmp_path))
    assert len(paths) == 1 and any("again: not an image" in note for note in notes)


def test_large_chunks_are_read_one_after_the_other(tmp_path, monkeypatch):
    expected = volume((7, 9, 8))
    write_zarr(tmp_path / "a.zarr", expected)
    write_n5(tmp_path / "a.n5", expected)
    monkeypatch.setattr("sccs.data.stored.LARGE_CHUNK", 1)
    for name in ("a.zarr", "a.n5"):
        array, reads = open_image(tmp_path / name).array, []
        original = array.stored._read
        monkeypatch.setattr(
            array.stored, "_read", lambda spans, read=original, seen=reads: seen.append(1) or read(spans)
        )
        np.testing.assert_array_equal(array[1:6, 2:7, 1:8], expected[1:6, 2:7, 1:8])
        assert len(reads) == 2 * 3 * 3


def test_slices_of_one_layer_of_chunks_are_read_at_once(tmp_path, monkeypatch):
    expected = volume((7, 9, 8))
    write_zarr(tmp_path / "a.zarr", expected)
    array, reads = open_image(tmp_path / "a.zarr").array, []
    original = array.stored.read
    monkeypatch.setattr(array.stored, "read", lambda spans: reads.append(spans) or original(spans))
    found = np.stack(list(array.slices([0, 2, 3, 6], slice(0, 9), slice(1, 8))))
    np.testing.assert_array_equal(found, expected[[0, 2, 3, 6], :, 1:])
    assert len(reads) == 9 + 1 + 1  # nine chunks for slices 0 and 2; 3 and 6 have layers of their own
    bad = expected.astype(np.float32)
    bad[2, 0, 0] = np.nan
    write_zarr(tmp_path / "b.zarr", bad)
    with pytest.raises(UserError) as caught:
        list(open_image(tmp_path / "b.zarr").array.slices([0, 2], slice(0, 9), slice(0, 8)))
    said(caught, "b.zarr, slice z=2: 1 NaN")
