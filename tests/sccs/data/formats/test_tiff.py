"""TIFF, ImageJ and OME-TIFF: pages, compression, voxel sizes, levels, colours, damage."""

import tracemalloc

import numpy as np
import pytest
import tifffile

from registry.base import UserError
from sccs.data.readers import open_image
from tests.sccs.data.image_files import fails, said, same, volume, write_tiff


def test_pages_written_one_by_one_are_a_stack(tmp_path):
    expected = volume()
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for plane in expected:
            tif.write(plane, photometric="minisblack", compression="zlib")
    same(tmp_path / "a.tif", expected)


@pytest.mark.parametrize("compression", ["lzw", "zstd", "packbits"])
def test_compressed_tiff_with_predictor(tmp_path, compression):
    pytest.importorskip("imagecodecs")
    expected = volume((3, 40, 50), "u2")
    predictor = compression != "packbits"
    write_tiff(tmp_path / "a.tif", expected, compression=compression, tile=(16, 32), predictor=predictor)
    same(tmp_path / "a.tif", expected)
    np.testing.assert_array_equal(open_image(tmp_path / "a.tif").array[1, 5:38, 30:41], expected[1, 5:38, 30:41])


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (128, 128)}])
def test_one_slice_of_a_tiff_does_not_load_the_stack(tmp_path, options):
    expected = np.zeros((64, 512, 512), np.uint8)
    expected[40, 3] = 7
    write_tiff(tmp_path / "a.tif", expected, **options)
    open_image(tmp_path / "a.tif")  # imports
    tracemalloc.start()
    plane = open_image(tmp_path / "a.tif").array[40]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(plane, expected[40])
    assert peak < 3 * plane.nbytes + 2**20 < expected.nbytes / 4


@pytest.mark.parametrize("unit, nm", [("nm", 1), ("um", 1e3), ("micron", 1e3), ("\\u00B5m", 1e3), ("pixel", None)])
def test_imagej_voxel_size(tmp_path, unit, nm):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, volume(), imagej=True, resolution=(1 / 4, 1 / 8), metadata={"axes": "ZYX", "spacing": 16, "unit": unit}
    )
    assert same(path, volume()).voxel_size == (nm and pytest.approx((16 * nm, 8 * nm, 4 * nm)))


def test_imagej_stack_of_frames_is_a_volume(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", volume(), imagej=True, metadata={"axes": "TYX"})
    same(tmp_path / "a.tif", volume())


def test_ome_tiff_voxel_size(tmp_path):
    sizes = {"PhysicalSizeX": 0.004, "PhysicalSizeY": 8, "PhysicalSizeYUnit": "nm", "PhysicalSizeZ": 0.016}
    tifffile.imwrite(
        tmp_path / "a.ome.tif", volume(), ome=True, photometric="minisblack", metadata={"axes": "ZYX", **sizes}
    )
    assert same(tmp_path / "a.ome.tif", volume()).voxel_size == (16, 8, 4)


def test_resolution_tags_of_a_2d_tiff(tmp_path):
    write_tiff(tmp_path / "a.tif", volume()[0], resolution=(1e7 / 4, 1e7 / 8), resolutionunit="CENTIMETER")
    assert open_image(tmp_path / "a.tif").voxel_size == (8, 8, 4)
    write_tiff(tmp_path / "b.tif", volume()[0], resolution=(72, 72), resolutionunit="INCH")
    assert open_image(tmp_path / "b.tif").voxel_size is None


def test_levels_of_a_pyramidal_tiff(tmp_path):
    fine = volume((64, 48))
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        sizes = {f"PhysicalSize{a}": 4 for a in "XY"} | {f"PhysicalSize{a}Unit": "nm" for a in "XY"}
        options = {"photometric": "minisblack", "tile": (16, 16)}
        tif.write(fine, subifds=1, metadata={"axes": "YX", **sizes}, **options)
        tif.write(fine[::2, ::2], subfiletype=1, **options)
    assert same(tmp_path / "a.ome.tif", fine[None]).voxel_size == (4, 4, 4)
    assert same(tmp_path / "a.ome.tif", fine[None, ::2, ::2], level=1).voxel_size == (8, 8, 8)
    fails(tmp_path / "a.ome.tif", "has 2 level(s), `level: 2` was asked for", level=2)


@pytest.mark.parametrize("shape", [(4, 9, 7, 3), (9, 7, 3), (3, 9, 7)])
def test_rgb_stacks_and_planes(tmp_path, shape):
    planar = shape[0] == 3
    tifffile.imwrite(
        tmp_path / "a.tif",
        volume(shape),
        photometric="rgb",
        planarconfig="separate" if planar else "contig",
        metadata=None,
    )
    fails(tmp_path / "a.tif", "has 3 channels (RGB)")
    if planar:  # the user knows better
        same(tmp_path / "a.tif", volume(shape), axes="zyx")


def test_imagej_channels(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", volume((2, 9, 7)), imagej=True, metadata={"axes": "CYX"})
    fails(tmp_path / "a.tif", "has 2 channels")


@pytest.mark.parametrize(
    "options", [{}, {"metadata": {}}, {"compression": "zlib"}, {"tile": (16, 16)}, {"imagej": True}]
)
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.97])
def test_truncated_tiff(tmp_path, options, kept):
    path = tmp_path / "a.tif"
    write_tiff(path, np.random.default_rng(0).integers(0, 255, (5, 64, 64)).astype("u1"), **options)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    fails(path, "a.tif: ", "truncated")


def test_damaged_pixels(tmp_path):
    path = tmp_path / "a.tif"
    write_tiff(path, volume((3, 64, 64)), compression="zlib")
    with tifffile.TiffFile(path) as tif:
        at = tif.pages[1].dataoffsets[0]
    content = bytearray(path.read_bytes())
    content[at : at + 20] = b"\xff" * 20
    path.write_bytes(content)
    array = open_image(path).array
    array[0]
    with pytest.raises(UserError) as caught:
        array[1]
    said(caught, "a.tif, slice z=1: cannot be read, the file is truncated or damaged")


def test_images_of_different_kinds_in_one_tiff(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for shape in ((4, 9, 7), (4, 5, 5)):
            tif.write(volume(shape), photometric="minisblack")
    fails(tmp_path / "a.tif", "holds 2 images of different kinds", "(4, 9, 7) uint8, (4, 5, 5) uint8")


def test_a_missing_codec_comes_with_its_command(tmp_path, monkeypatch):
    write_tiff(tmp_path / "a.tif", volume(), compression="zlib")
    array = open_image(tmp_path / "a.tif").array

    def read(spans):
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(array.stored, "read", read)
    with pytest.raises(UserError, match="needs imagecodecs: pip install 'imagecodecs>="):
        array[0]
