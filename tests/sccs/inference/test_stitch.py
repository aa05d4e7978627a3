"""Where fields of view that overlap are cut."""

import itertools

import numpy as np
import pytest

from sccs.inference.blocks import spans
from sccs.inference.stitch import cut, stitched

EMPTY = 255


def price(one, other, path) -> int:
    """Of a cut through a strip (length, 2 reach): disagreements beside it, and steps across it."""
    middle = one.shape[1] // 2
    return sum(
        int(one[y, middle + p - 1] != other[y, middle + p - 1])
        + int(one[y, middle + p] != other[y, middle + p])
        + int(one[y, middle + p - 1] != other[y, middle + p])
        for y, p in enumerate(path)
    )


@pytest.mark.parametrize("pinned", [(False, False), (True, False), (False, True), (True, True)])
def test_no_path_is_cheaper(pinned):
    length, reach = 5, 3
    one, other = np.random.default_rng(sum(pinned)).integers(0, 2, (2, 20, length, 2 * reach)).astype(np.uint8)
    paths = cut(one, other, pinned, EMPTY)
    allowed = [
        path
        for path in itertools.product(range(1 - reach, reach), repeat=length)
        if max(abs(np.diff(path))) <= 1 and not (pinned[0] and path[0]) and not (pinned[1] and path[-1])
    ]
    for a, b, path in zip(one, other, paths):
        assert tuple(path) in allowed and price(a, b, path) == min(price(a, b, each) for each in allowed)


def test_where_both_agree_or_one_is_empty_the_cut_is_straight():
    one = np.random.default_rng(0).integers(0, 3, (2, 9, 8)).astype(np.uint8)
    other = one.copy()
    other[1] = EMPTY
    one[0] = other[0] = 1
    assert not cut(one, other, (False, False), EMPTY).any()


def put_together(labels: dict, rows, columns, halo: int, values=None) -> np.ndarray:
    def reader(fovs):
        return lambda i, j, y, x: fovs[i, j][
            :, y.start - rows[i].low : y.stop - rows[i].low, x.start - columns[j].low : x.stop - columns[j].low
        ]

    parts = [
        [
            stitched(i, j, rows, columns, halo, reader(labels), EMPTY, reader(values or labels))
            for j in range(len(columns))
        ]
        for i in range(len(rows))
    ]
    return np.block([list(row) for row in parts])


def seen(image: np.ndarray, rows, columns) -> dict:
    return {
        (i, j): image[:, y.low : y.high, x.low : x.high].copy()
        for i, y in enumerate(rows)
        for j, x in enumerate(columns)
    }


def test_fovs_that_agree_give_the_image():
    image = np.random.default_rng(0).integers(0, 4, (2, 330, 170)).astype(np.uint8)
    rows, columns = spans(330, 160, 30), spans(170, 160, 30)
    assert np.array_equal(put_together(seen(image, rows, columns), rows, columns, 30), image)


def test_every_pixel_is_its_fovs_or_a_neighbours_and_borders_meet_at_corners_only():
    rng = np.random.default_rng(1)
    rows, columns = spans(330, 160, 30), spans(250, 160, 30)
    fovs = seen(np.zeros((2, 330, 250), np.uint8), rows, columns)
    fovs = {at: rng.integers(0, 2, part.shape).astype(np.uint8) for at, part in fovs.items()}
    numbers = {(i, j): np.full(part.shape, 10 * i + j) for (i, j), part in fovs.items()}
    owner, labels = (put_together(fovs, rows, columns, 30, values) for values in (numbers, None))
    straight = put_together(fovs, rows, columns, 0, numbers)
    assert (owner != straight).any()
    assert set(np.unique(abs(owner - straight))) <= {0, 1, 10}
    for i, j in fovs:  # a pixel's label is what its owner said
        mine = owner == 10 * i + j
        y, x = rows[i], columns[j]
        assert not mine[:, : y.low].any() and not mine[:, :, : x.low].any()
        whole = np.full(owner.shape, EMPTY, np.uint8)
        whole[:, y.low : y.high, x.low : x.high] = fovs[i, j]
        assert np.array_equal(labels[mine], whole[mine])


def test_a_disagreement_is_walked_around():
    rows, columns = spans(100, 160, 40), spans(300, 160, 40)
    fovs = seen(np.zeros((1, 100, 300), np.uint8), rows, columns)
    border = columns[0].stop
    fovs[0, 1][:, 40:60, border - 10 - columns[1].low : border + 10 - columns[1].low] = 1  # a spot that one FOV sees
    whole = put_together(fovs, rows, columns, 40)
    assert whole.max() == 0 or (whole == 1).sum() == 400  # as a whole or not at all
    assert 0 < (put_together(fovs, rows, columns, 0) == 1).sum() < 400
