import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sccs.data.tiler import WINDOW, split, tiles

LENGTHS = st.integers(1, 5000)
LIMITS = st.integers(2 * WINDOW, 1200)


@pytest.mark.parametrize(
    "length, sizes",
    [
        (560, [560]),
        (1, [1]),
        (600, [320, 280]),
        (800, [400, 400]),
        (1024, [560, 464]),
        (2000, [560, 480, 480, 480]),
        (561, [320, 241]),
    ],
)
def test_sides_are_cut_at_windows_and_balanced(length, sizes):
    assert [stop - start for start, stop in split(length, 560)] == sizes


@given(length=LENGTHS, limit=st.integers(1, 1200))
def test_parts_follow_one_another_and_are_as_few_as_possible(length, limit):
    parts = split(length, limit)
    assert parts[0][0] == 0 and parts[-1][1] == length
    assert all(before[1] == after[0] for before, after in itertools.pairwise(parts))
    assert all(0 < stop - start <= limit for start, stop in parts)
    assert len(parts) == -(-length // limit)


@given(length=LENGTHS, limit=LIMITS)
def test_no_part_is_thinner_than_a_window_unless_the_image_is(length, limit):
    assert min(stop - start for start, stop in split(length, limit)) >= min(WINDOW, length)


@given(length=LENGTHS, cells=st.integers(2, 14))
def test_parts_differ_by_less_than_two_windows_and_inner_borders_are_windows_or_parts_are_equal(length, cells):
    parts = split(length, cells * WINDOW)
    sizes = [stop - start for start, stop in parts]
    assert max(sizes) - min(sizes) < 2 * WINDOW
    assert all(stop % WINDOW == 0 for _, stop in parts[:-1]) or max(sizes) - min(sizes) <= 1


@given(height=st.integers(1, 400), width=st.integers(1, 400), fov=st.integers(40, 200) | st.just("full"))
def test_tiles_cover_every_pixel_once(height, width, fov):
    count = np.zeros((height, width), int)
    for tile in tiles(count.shape, fov):
        assert 0 <= tile.y0 < tile.y1 <= height and 0 <= tile.x0 < tile.x1 <= width
        count[tile.window] += 1
    assert (count == 1).all()


def test_full_is_one_tile_of_any_size():
    assert [tuple(tile) for tile in tiles((3000, 2), "full")] == [(0, 3000, 0, 2)]


@pytest.mark.parametrize("length, limit", [(0, 5), (5, 0)])
def test_split_refuses_empty_sides(length, limit):
    with pytest.raises(ValueError):
        split(length, limit)
