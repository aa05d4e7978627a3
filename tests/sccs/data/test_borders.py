"""Borders of aligned stacks: they are found, and spoil neither mean and deviation nor the word on drift."""

import numpy as np
import pytest
from scipy.ndimage import rotate

from sccs.data import volumes
from sccs.data.borders import border
from sccs.data.phantom import make_phantom
from sccs.data.volumes import Volume


@pytest.fixture(scope="module")
def image():
    return make_phantom(0, shapes=[(4, 240, 240)])[0].image


def framed(image, how, value=0):
    """The image with borders that differ from slice to slice, and which pixels are inside of them."""
    inside = np.zeros(image.shape, bool)
    for z, mask in enumerate(inside):
        if how == "moved":
            mask[15 * z : 200 + 10 * z, 20 : 240 - 25 * z] = True
        else:
            mask[:] = rotate(np.ones(mask.shape, np.uint8), 4 * z - 10, reshape=False, order=0)
    return np.where(inside, image, value), inside


@pytest.mark.parametrize("how, value", [("moved", 0), ("turned", 0), ("moved", 255)])
def test_a_border_is_found_pixel_by_pixel(image, how, value):
    for plane, mask in zip(*framed(image.clip(1, 254), how, value)):
        np.testing.assert_array_equal(border(plane), ~mask)


def test_ordinary_slices_have_none(image):
    assert [border(plane) for plane in image] == [None] * len(image)
    assert border(np.zeros((64, 64))) is None  # nothing is within


@pytest.mark.parametrize("how", ["moved", "turned"])
@pytest.mark.parametrize("at_once", [1 << 24, 240 * 50])  # of a slice in bands, too
def test_borders_leave_mean_and_deviation_as_they_are_and_are_no_drift(image, how, at_once, monkeypatch):
    monkeypatch.setattr(volumes, "PLANE_AT_ONCE", at_once)
    clean, bordered = Volume("a", image), Volume("b", framed(image, how)[0])
    assert clean.notes == [] and len(bordered.notes) == 1
    assert bordered.notes[0].startswith("borders of one value (z = 0, 1")
    assert abs(bordered.mean - clean.mean) < 0.1 * clean.std  # with the borders: 0.9 (moved)
    assert bordered.std == pytest.approx(clean.std, rel=0.1)  # with the borders: 1.7 times


def test_hot_pixels_beside_a_border_are_left_out_as_well(image):
    bordered, _ = framed(image.astype("u2"), "moved")
    before = Volume("a", bordered)
    bordered[:, 100, 100] = 65535
    after = Volume("b", bordered)
    assert after.mean == pytest.approx(before.mean, abs=0.1) and after.std == pytest.approx(before.std, abs=0.1)


def test_an_image_of_two_values_is_no_border(image):
    halves = np.zeros((2, 96, 96), np.uint8)
    halves[:, :, 48:] = 200
    assert (Volume("a", halves).mean, Volume("a", halves).std) == (100, 100)
