"""Two-dimensional images, one by one and as the slices of a folder or a glob."""

import itertools

import numpy as np
import pytest
from PIL import Image

from registry.base import UserError
from sccs.data.readers import open_image
from sccs.data.stored import natural
from tests.sccs.data.image_files import fails, said, same, volume, write_tiff


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "pgm"])
def test_a_2d_image_is_a_volume_with_one_slice(tmp_path, suffix):
    expected = volume((9, 7))
    Image.fromarray(expected).save(tmp_path / f"a.{suffix}")
    source = same(tmp_path / f"a.{suffix}", expected[None])
    assert source.voxel_size is None
    same(tmp_path / f"a.{suffix}", expected[None], axes="yx")
    same(tmp_path / f"a.{suffix}", expected.T[None], axes="xy")


def test_16_bit_png_and_jpeg(tmp_path):
    deep = volume((9, 7), "u2") * 500
    Image.fromarray(deep).save(tmp_path / "a.png")
    same(tmp_path / "a.png", deep[None])
    Image.fromarray(volume((9, 7))).save(tmp_path / "a.jpg")
    assert open_image(tmp_path / "a.jpg").array[0].dtype == np.uint8


def write_slices(folder, data, suffix="png"):
    folder.mkdir()
    for z, plane in enumerate(data):
        Image.fromarray(plane).save(folder / f"s_{z}.{suffix}")


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_folder_and_glob_in_natural_order(tmp_path, suffix):
    expected = volume((12, 9, 7))
    write_slices(tmp_path / "em", expected, suffix)
    (tmp_path / "em" / "notes.txt").write_text("s_2 is blurred")
    same(tmp_path / "em", expected)
    same(tmp_path / "em" / f"s_*.{suffix}", expected)
    np.testing.assert_array_equal(open_image(tmp_path / "em").array[9:12, 2:4, 1], expected[9:12, 2:4, 1])


def test_the_odd_slice_is_named(tmp_path):
    write_slices(tmp_path / "em", volume((5, 9, 7)))
    Image.fromarray(volume((9, 8))).save(tmp_path / "em" / "s_3.png")
    fails(tmp_path / "em", "s_3.png: is (9, 8) uint8, but 4 of 5 images beside it are (9, 7) uint8")
    Image.fromarray(volume((9, 7), "u2")).save(tmp_path / "em" / "s_3.png")
    fails(tmp_path / "em", "s_3.png: is (9, 7) uint16")


def test_empty_folders_and_globs(tmp_path):
    fails(tmp_path, "an empty folder: give a folder of TIFF, PNG or JPEG slices")
    (tmp_path / "notes.txt").write_text("x")
    fails(tmp_path, "a folder without images (contains notes.txt)")
    fails(tmp_path / "*.tif", "no file matches this pattern")


def test_stacks_in_a_folder(tmp_path):
    write_tiff(tmp_path / "a.tif", volume())
    fails(tmp_path, "a.tif: is a stack of 4 slices: give the file,")


def test_damaged_png(tmp_path):
    Image.fromarray(volume((64, 64))).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError) as caught:
        open_image(tmp_path / "a.png").array[0]
    said(caught, "a.png: cannot be read; the file is truncated or damaged")


def test_a_png_whose_second_half_is_zeros_is_told(tmp_path):
    smooth = np.add.outer(np.arange(200), np.arange(180)).astype("u1") // 2
    Image.fromarray(smooth).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    source = open_image(tmp_path / "a.png")
    with pytest.raises(UserError) as caught:
        source.array[:]
    said(caught, "a.png", "truncated or damaged")


def test_a_palette_gives_grey_values_labels_keep_their_codes_and_colours_are_refused(tmp_path):
    codes = volume((9, 7))
    image = Image.fromarray(codes).convert("P")
    for name, palette in (("inverted", [v for i in range(256) for v in [255 - i] * 3]), ("colours", [9, 8, 7] * 256)):
        image.putpalette(palette)
        image.save(tmp_path / f"{name}.png")
    same(tmp_path / "inverted.png", 255 - codes[None])
    same(tmp_path / "inverted.png", codes[None], codes=True)
    same(tmp_path / "colours.png", codes[None], codes=True)
    with pytest.raises(UserError) as caught:
        open_image(tmp_path / "colours.png").array[:]
    said(caught, "colour palette", "convert it to grey")


def test_one_slice_in_two_files_is_told(tmp_path):
    write_slices(tmp_path / "em", volume((3, 9, 7)))
    Image.fromarray(volume((9, 7))).save(tmp_path / "em" / "s_1.jpg")
    fails(tmp_path / "em", "contains one slice twice, s_1.jpg and s_1.png", "give a pattern")
    same(tmp_path / "em" / "*.png", volume((3, 9, 7)))


@pytest.mark.parametrize(
    "more, told",
    [("s_1 (copy).png", "named unlike the others: s_1 (copy).png"), ("s_01.png", "slices with the same number: 1")],
)
def test_a_slice_that_is_probably_none_is_told(tmp_path, more, told):
    write_slices(tmp_path / "em", volume((3, 9, 7)))
    Image.fromarray(volume((9, 7))).save(tmp_path / "em" / more)
    assert [told in note for note in open_image(tmp_path / "em").notes] == [True]


def test_names_that_differ_by_capitals_or_zeros_have_one_order():
    names = ["A1.png", "a01.png", "a1.png", "a2.png", "a10.png"]
    for order in itertools.permutations(names):
        assert sorted(order, key=natural) == names


def test_an_animation_is_no_slice(tmp_path):
    first, *others = (Image.fromarray(plane) for plane in volume())
    first.save(tmp_path / "a.png", save_all=True, append_images=others)
    fails(tmp_path / "a.png", "an animation of 4 images")


def test_an_orientation_of_a_camera_is_told_and_not_applied(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(volume((9, 7))).save(tmp_path / "a.jpg", exif=exif)
    source = open_image(tmp_path / "a.jpg")
    assert source.shape == (1, 9, 7) and "its orientation (6) is not applied" in source.notes[0]
