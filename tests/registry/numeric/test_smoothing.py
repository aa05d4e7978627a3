"""The Gaussian filter against SciPy's: equal bits."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from registry.numeric.smoothing import gaussian


@settings(max_examples=100, deadline=None)
@given(st.tuples(st.integers(1, 60), st.integers(1, 60)), st.floats(0.1, 20), st.integers(0, 9))
def test_it_is_that_of_scipy(shape, sigma, seed):
    image = (np.random.default_rng(seed).standard_normal(shape) * 10.0 ** (seed - 4)).astype(np.float32)
    found = gaussian(image, sigma)
    assert found.dtype == np.float32 and found.flags.c_contiguous
    np.testing.assert_array_equal(found, gaussian_filter(image, sigma, mode="reflect"))
