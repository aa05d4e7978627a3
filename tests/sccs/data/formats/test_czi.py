"""ZEISS's CZI, written by ZEISS's own library."""

import numpy as np
import pytest

from registry.base import UserError
from sccs.data.readers import open_image
from sccs.data.survey import survey

czi = pytest.importorskip("pylibCZIrw.czi")
IMAGE = np.random.default_rng(0).integers(0, 255, (3, 100, 96)).astype(np.uint8)


def write(path, image, channels=1, tiles=1, scale=(50e-9, 8e-9, 8e-9)):
    """A CZI of (Z, Y, X), its slices cut in `tiles` along x; scale: (z, y, x) in m."""
    with czi.create_czi(str(path)) as file:
        for channel in range(channels):
            for z, plane in enumerate(image):
                for left in range(0, image.shape[2], image.shape[2] // tiles):
                    tile = np.ascontiguousarray(plane[:, left : left + image.shape[2] // tiles, None])
                    file.write(tile, plane={"C": channel, "Z": z}, location=(left, 0))
        file.write_metadata("cell", scale_z=scale[0], scale_y=scale[1], scale_x=scale[2])


@pytest.mark.parametrize("dtype, tiles", [("u1", 1), ("u1", 3), ("u2", 1), ("f4", 1)])
def test_a_stack_comes_back_by_parts_with_its_voxel_size(tmp_path, dtype, tiles):
    write(tmp_path / "a.czi", IMAGE.astype(dtype), tiles=tiles)
    source = open_image(tmp_path / "a.czi")
    assert source.shape == IMAGE.shape and source.voxel_size == pytest.approx([50, 8, 8])
    assert source.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(source.array[:], IMAGE)
    np.testing.assert_array_equal(source.array[1:3, 20:90, 30:31], IMAGE[1:3, 20:90, 30:31])


def test_without_a_scale_the_voxel_size_is_unknown_and_init_finds_it(tmp_path):
    with czi.create_czi(str(tmp_path / "a.czi")) as file:
        file.write(IMAGE[0][:, :, None], plane={"C": 0})
    assert open_image(tmp_path / "a.czi").voxel_size is None
    found, _ = survey(str(tmp_path))
    assert [each.source.shape for each in found] == [(1, 100, 96)]


def test_an_image_away_from_the_origin_is_read_from_its_corner(tmp_path):
    with czi.create_czi(str(tmp_path / "a.czi")) as file:
        file.write(IMAGE[0][:, :, None], plane={"C": 0, "Z": 0}, location=(-40, 17))
    np.testing.assert_array_equal(open_image(tmp_path / "a.czi").array[0], IMAGE[0])


def test_channels_and_colours_are_refused(tmp_path):
    write(tmp_path / "a.czi", IMAGE, channels=2)
    with pytest.raises(UserError, match="a.czi: .*channel"):
        open_image(tmp_path / "a.czi")
    with czi.create_czi(str(tmp_path / "b.czi")) as file:
        file.write(np.zeros((90, 90, 3), np.uint8), plane={"C": 0})
    with pytest.raises(UserError, match="b.czi: has pixels of Bgr24"):
        open_image(tmp_path / "b.czi")


def test_cut_and_damaged_files_are_named(tmp_path):
    path = tmp_path / "a.czi"
    write(path, IMAGE)
    whole = path.read_bytes()
    for damaged in (b"", b"no image", whole[:400], whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"a\.czi: ") as error:
            open_image(path).array[:]
        assert "\n" not in str(error.value)
