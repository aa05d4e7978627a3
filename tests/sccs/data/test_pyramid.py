"""Levels of the label pyramid: shapes, steps, and the label of a coarser voxel."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sccs.data.pyramid import SMALLEST_LEVEL, halve, pyramid


def test_the_pyramid_makes_voxels_as_long_as_they_are_wide():
    levels = pyramid((40, 5000, 1100), (50, 5, 5))
    assert [level.factor for level in levels] == [(1, 1, 1), (1, 2, 2), (1, 4, 4), (1, 8, 8), (2, 16, 16)]
    assert [level.shape for level in levels][-2:] == [(40, 625, 138), (20, 313, 69)]
    assert [level.shape for level in pyramid((9, 513, 3))] == [(9, 513, 3), (5, 257, 2)]
    assert len(pyramid((900, 512, 512))) == 1


@given(shape=st.tuples(*[st.integers(1, 5)] * 3), step=st.tuples(*[st.integers(1, 2)] * 3), seed=st.integers(0, 99))
def test_halving_takes_the_most_frequent_label_of_a_cell(shape, step, seed):
    labels = np.random.default_rng(seed).choice(np.array([0, 1, 2, 255], np.uint8), shape)
    small = halve(labels, step)
    padded = np.pad(labels, [(0, -n % s) for n, s in zip(shape, step)], mode="edge")
    for at in np.ndindex(*small.shape):
        cell = padded[tuple(slice(i * s, (i + 1) * s) for i, s in zip(at, step))].ravel()
        counts = Counter(cell.tolist())
        assert counts[small[at]] == max(counts.values())
        assert small[at] == next(label for label in cell if counts[label] == max(counts.values()))


@pytest.mark.parametrize("shape", [(1, 20_000, 20_000), (4, 8192, 8192), (2, 3, 5000), (1, 5000, 1), (3, 1, 1025)])
@pytest.mark.parametrize("size", [None, (50, 5, 5), (5, 50, 50), (8, 8, 80)])
def test_the_pyramid_of_few_slices_ends(shape, size):
    levels = pyramid(shape, size)
    assert len(levels) < 12 and max(levels[-1].shape[1:]) <= SMALLEST_LEVEL
    assert all(max(level.step) == 2 for level in levels[1:])
