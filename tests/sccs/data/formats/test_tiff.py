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
    fails(tmp_path / "a.ome.tif", "has 2 level(s), but `level: 2` was requested", level=2)


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
    said(caught, "a.tif, slice z=1: cannot be read; the file is truncated or damaged")


def test_images_of_different_kinds_in_one_tiff(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for shape in ((4, 9, 7), (4, 5, 5)):
            tif.write(volume(shape), photometric="minisblack")
    fails(tmp_path / "a.tif", "contains 2 images of different kinds", "(4, 9, 7) uint8, (4, 5, 5) uint8")


def test_a_missing_codec_comes_with_its_command(tmp_path, monkeypatch):
    write_tiff(tmp_path / "a.tif", volume(), compression="zlib")
    array = open_image(tmp_path / "a.tif").array

    def read(spans):
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(array.stored, "read", read)
    with pytest.raises(UserError, match="needs imagecodecs: pip install 'imagecodecs>="):
        array[0]


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "f4"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"byteorder": ">"}])
def test_white_that_is_smallest_is_turned_round_but_not_in_labels(tmp_path, dtype, options):
    stored = volume(dtype=dtype)
    write_tiff(tmp_path / "a.tif", stored, photometric="miniswhite", **options)
    expected = -stored if dtype == "f4" else ~stored  # of unsigned values, ~ is the largest less the value
    same(tmp_path / "a.tif", expected)
    same(tmp_path / "a.tif", stored, codes=True)


def test_white_that_is_smallest_in_slices_of_their_own_and_in_bits(tmp_path):
    for z, plane in enumerate(volume()):
        write_tiff(tmp_path / f"{z}.tif", plane, photometric="miniswhite")
    same(tmp_path, 255 - volume())
    same(tmp_path, volume(), codes=True)
    bits = volume((9, 16)) > 60
    write_tiff(tmp_path / "bits.tiff", bits, photometric="miniswhite")
    same(tmp_path / "bits.tiff", (~bits).astype("u1")[None])


@pytest.mark.parametrize("own", [True, False, None])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_voxels_of_a_level_follow_from_the_finest(tmp_path, own, level):
    fine = volume((64, 96))
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for i, factor in enumerate((1, 2, 4)):
            per_cm = 1e7 / (8 * (factor if own else 1))
            tags = {} if own is None and i else {"resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER"}
            place = {"subfiletype": 1} if i else {"subifds": 2}
            tif.write(fine[::factor, ::factor], tile=(16, 16), metadata=None, photometric="minisblack", **place, **tags)
    assert open_image(tmp_path / "a.tif", level=level).voxel_size == (8 * 2**level,) * 3


@pytest.mark.parametrize(
    "per, says, expected",
    [
        (125, {"unit": "um", "zunit": "nm", "spacing": 50}, (50, 8, 8)),
        (125, {"unit": "um", "yunit": "nm", "spacing": 0.05}, (50, 0.008, 8)),
        (72, {"unit": "inch", "spacing": 1 / 72}, None),
        (125, {"unit": "um"}, (1000, 8, 8)),
        (125, {"unit": "um", "zunit": "pixel", "spacing": 2}, None),
        (1 / 8, {"unit": "nm", "spacing": -30}, (30, 8, 8)),
    ],
)
def test_units_of_imagej(tmp_path, per, says, expected):
    tifffile.imwrite(tmp_path / "a.tif", volume(), imagej=True, resolution=(per, per), metadata={"axes": "ZYX", **says})
    source = open_image(tmp_path / "a.tif")
    assert source.voxel_size == (expected and pytest.approx(expected))
    told = says.get("zunit") == "pixel" or (expected is not None and "spacing" not in says)
    assert ["`voxel_size`" in note for note in source.notes] == [True] * told


def test_a_lone_slice_of_imagej_is_as_thick_as_its_pixels(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", volume()[0], imagej=True, resolution=(125, 125), metadata={"unit": "um"})
    source = open_image(tmp_path / "a.tif")
    assert source.voxel_size == (8, 8, 8) and not source.notes


def big_imagej(path, data, kept):
    """As ImageJ writes stacks beyond 4 GB: one page, the pixels of all slices after it; `kept` bytes of them."""
    words = f"ImageJ=1.53t\nimages={len(data)}\nslices={len(data)}\nloop=false\n"
    tifffile.imwrite(path, data[0], description=words, metadata=None, byteorder=">")
    head = path.read_bytes()[: -data[0].nbytes]
    path.write_bytes(head + data.tobytes()[:kept])


@pytest.mark.parametrize("slices", [1, 1.5, 2, 3.9])
def test_a_cut_stack_of_imagej_beyond_4_gb(tmp_path, slices):
    data = volume((4, 30, 30))
    big_imagej(tmp_path / "whole.tif", data, data.nbytes)
    same(tmp_path / "whole.tif", data)
    big_imagej(tmp_path / "cut.tif", data, int(slices * data[0].nbytes))
    fails(tmp_path / "cut.tif", "truncated TIFF", "before its last slice of 4")


def test_a_slice_that_was_taken_out_of_a_stack_of_imagej_is_whole(tmp_path):
    from PIL import Image, TiffImagePlugin

    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[270] = "ImageJ=1.53t\nimages=4\nslices=4\n"
    Image.fromarray(volume()[0]).save(tmp_path / "a.tif", tiffinfo=info)  # pixels first
    content = (tmp_path / "a.tif").read_bytes()
    if int.from_bytes(content[4:8], "little") > 8:
        same(tmp_path / "a.tif", volume()[:1])


def test_a_compression_that_nothing_knows_is_told_when_the_file_is_opened(tmp_path):
    write_tiff(tmp_path / "a.tif", volume()[0], compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as tif:
        tif.pages[0].tags["Compression"].overwrite(34661)
    fails(tmp_path / "a.tif", "its compression", "save it as plain TIFF")


@pytest.mark.parametrize(
    "odd, says",
    [
        ({"compression": "zlib"}, "its pages differ in compression"),
        ({"photometric": "miniswhite"}, "its pages differ in photometric interpretation"),
        ({"data": volume((9, 7), "u2")}, "its pages differ in depth"),
        ({"data": volume((8, 7))}, "its pages differ in height"),
        ({"rowsperstrip": 2}, "its pages differ in strips or tiles"),
    ],
)
def test_a_page_unlike_the_others_is_told_not_decoded_as_they_are(tmp_path, odd, says):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for z, plane in enumerate(volume((12, 9, 7))):
            options = {"data": plane, "photometric": "minisblack", "metadata": None, "contiguous": False}
            tif.write(**{**options, **(odd if z == 4 else {})})
    fails(tmp_path / "a.tif", says, "save it again as one stack")


@pytest.mark.parametrize("codes", [False, True])
def test_pages_written_one_by_one_may_be_packed_each_in_its_way_but_white_at_one_end(tmp_path, codes):
    for name, option in (("a", {"compression": "zlib"}), ("b", {"photometric": "miniswhite"})):
        with tifffile.TiffWriter(tmp_path / f"{name}.tif") as tif:
            for z, plane in enumerate(volume()):
                tif.write(**{"data": plane, "photometric": "minisblack", **(option if z == 2 else {})})
    same(tmp_path / "a.tif", volume(), codes=codes)
    if codes:
        same(tmp_path / "b.tif", volume(), codes=True)
    else:
        fails(tmp_path / "b.tif", "differ in photometric interpretation")


def test_masks_and_thumbnails_beside_the_pages_do_not_count(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for plane in volume():
            tif.write(plane, photometric="minisblack", metadata=None, contiguous=False)
        tif.write(volume((9, 7)) > 60, photometric="mask", subfiletype=4, metadata=None)
        tif.write(volume((3, 2)), photometric="minisblack", subfiletype=1, metadata=None)
    same(tmp_path / "a.tif", volume())


def test_a_palette_is_applied_if_it_is_grey_and_is_no_image_if_not(tmp_path):
    down = np.tile(np.arange(255, -1, -1, dtype="u2") * 257, (3, 1))
    colours = np.arange(768, dtype="u2").reshape(3, 256) * 80
    write_tiff(tmp_path / "a.tif", volume(), photometric="palette", colormap=down)
    same(tmp_path / "a.tif", 255 - volume())
    same(tmp_path / "a.tif", volume(), codes=True)
    write_tiff(tmp_path / "b.tif", volume(), photometric="palette", colormap=colours)
    fails(tmp_path / "b.tif", "has a colour palette")
    same(tmp_path / "b.tif", volume(), codes=True)
    tifffile.imwrite(
        tmp_path / "c.tif", volume((9, 7)), imagej=True, photometric="palette", colormap=colours, metadata={}
    )
    assert "false colours" in same(tmp_path / "c.tif", volume((1, 9, 7))[0][None]).notes[0]


@pytest.mark.parametrize("unit, nm", [("nanometers", 1), ("angstroms", 0.1), ("\\u212B", 0.1), ("furlong", None)])
def test_units_by_other_names_and_such_as_are_none(tmp_path, unit, nm):
    metadata = {"axes": "ZYX", "unit": unit, "spacing": 30}
    tifffile.imwrite(tmp_path / "a.tif", volume(), imagej=True, resolution=(1 / 8, 1 / 8), metadata=metadata)
    source = open_image(tmp_path / "a.tif")
    assert source.voxel_size == (nm and pytest.approx((30 * nm, 8 * nm, 8 * nm)))
    assert [f"its unit {unit} is not a length" in note for note in source.notes] == ([] if nm else [True])


def test_sizes_that_are_no_numbers_are_told_and_the_pixels_read(tmp_path):
    sizes = {f"PhysicalSize{a}": 0.125 for a in "ZYX"}
    tifffile.imwrite(
        tmp_path / "a.ome.tif", volume(), ome=True, photometric="minisblack", metadata={"axes": "ZYX", **sizes}
    )
    content = (tmp_path / "a.ome.tif").read_bytes()
    (tmp_path / "a.ome.tif").write_bytes(content.replace(b'PhysicalSizeX="0.125"', b'PhysicalSizeX="a lot"'))
    source = same(tmp_path / "a.ome.tif", volume())
    assert source.voxel_size is None and "voxel size is not understood" in source.notes[0]


def test_an_orientation_is_told_and_not_applied(tmp_path):
    write_tiff(tmp_path / "a.tif", volume((9, 7)), extratags=[(274, 3, 1, 6, True)])
    assert "its orientation (6) is not applied" in same(tmp_path / "a.tif", volume((1, 9, 7))[0][None]).notes[0]
