"""Openings and closings by area: those of scikit-image, and known answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.numeric.areas import area_closings, area_openings


@settings(max_examples=150, deadline=None)
@given(st.tuples(st.integers(3, 40), st.integers(3, 40)), st.integers(2, 256), st.integers(0, 9))
def test_they_are_those_of_scikit_image(shape, levels, seed):
    from skimage.morphology import area_closing, area_opening

    image = np.random.default_rng(seed).integers(0, levels, shape).astype(np.uint8)
    areas = [area for area in (1, 2, 5, 20, 300) if area <= image.size]
    opened, closed = area_openings(image, areas), area_closings(image, areas)
    for i, area in enumerate(areas):
        np.testing.assert_array_equal(opened[i], area_opening(image, area))
        np.testing.assert_array_equal(closed[i], area_closing(image, area))


def test_a_structure_goes_when_it_is_smaller_than_the_area_and_keeps_its_outline_when_not():
    image = np.full((40, 50), 100, np.uint8)
    image[5:10, 5:11] = 200  # 30 px, bright
    image[20:30, 20:22] = 160  # 20 px, bright
    image[32:34, 40:45] = 10  # 10 px, dark
    opened, closed = area_openings(image, [30, 31]), area_closings(image, [10, 11])
    without = image.copy()
    without[20:30, 20:22] = 100
    np.testing.assert_array_equal(opened[0], without)
    without[5:10, 5:11] = 100
    np.testing.assert_array_equal(opened[1], without)
    np.testing.assert_array_equal(closed[0], image)
    np.testing.assert_array_equal(closed[1], np.maximum(image, 100))


def test_regions_join_by_edges_and_not_by_corners():
    image = np.zeros((4, 4), np.uint8)
    image[0, 0] = image[1, 1] = 9
    assert area_openings(image, [2]).max() == 0
    image[0, 1] = 9
    np.testing.assert_array_equal(area_openings(image, [3])[0], image)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1)])
def test_one_line_or_pixel_will_do(shape):
    image = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    np.testing.assert_array_equal(area_openings(image, [1])[0], image)
    assert (area_openings(image, [image.size]) == 0).all() and (area_openings(image, [100]) == 0).all()
    assert (area_closings(image, [image.size]) == image.max()).all()
