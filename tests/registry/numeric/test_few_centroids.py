"""The compiled loops sum as NumPy does; test_nearest.py holds their labels against a plain argmin."""

import numpy as np
import pytest

from registry.numeric.few_centroids import nearest_of_few


@pytest.mark.parametrize("length", [0, 1, 7, 8, 127, 128, 129, 192, 255, 300, 1000])
def test_sums_are_those_of_numpy_bit_by_bit(length):
    points = np.random.default_rng(length).standard_normal((50, length)) * 1e3
    np.testing.assert_array_equal(nearest_of_few(points, np.zeros((1, length)))[1], (points * points).sum(-1))
