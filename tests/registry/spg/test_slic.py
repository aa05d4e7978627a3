"""SLIC against scikit-image's: equal labels, whatever the image."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from skimage.segmentation import slic as of_scikit_image

from registry.spg.slic import slic


def both(grey, count, compactness, iterations, sigma=0.0):
    expected = of_scikit_image(
        grey,
        n_segments=count,
        compactness=compactness,
        max_num_iter=iterations,
        sigma=sigma,
        channel_axis=None,
        start_label=0,
    )
    return slic(grey, count, compactness, iterations, sigma), expected


def smooth(shape, width, seed):
    return gaussian_filter(np.random.default_rng(seed).standard_normal(shape), width).astype(np.float32)


@settings(max_examples=200, deadline=None)
@given(
    st.tuples(st.integers(1, 120), st.integers(1, 120)),
    st.floats(0, 1),
    st.floats(-2, 1),
    st.integers(1, 12),
    st.sampled_from([0.0, 1.3]),
    st.floats(0.3, 4),
    st.integers(0, 9),
)
def test_labels_are_those_of_scikit_image(shape, many, compactness, iterations, sigma, width, seed):
    count = max(1, round(many * shape[0] * shape[1] / 4))
    ours, theirs = both(smooth(shape, width, seed), count, 10**compactness, iterations, sigma)
    assert ours.dtype == np.int32
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("grey", [np.full((40, 60), 0.5, np.float32), np.eye(50, dtype=np.float32)])
def test_flat_and_singular_images(grey):
    np.testing.assert_array_equal(*both(grey, 24, 0.2, 10))


def test_a_field_of_view_of_the_usual_size():
    grey = np.clip(smooth((560, 560), 3, 0) * 3 + 0.5, 0, 1)
    ours, theirs = both(grey, 3136, 0.2, 10)
    np.testing.assert_array_equal(ours, theirs)
    assert len(np.unique(ours)) > 2000


def test_the_number_of_threads_changes_nothing():
    grey, before = smooth((61, 70), 2, 1), torch.get_num_threads()
    try:
        labels = []
        for threads in (1, 3, 64):
            torch.set_num_threads(threads)
            labels.append(slic(grey, 40, 0.2, 5))
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(labels[0], labels[1]) and np.array_equal(labels[0], labels[2])


def test_the_image_is_left_as_it_is():
    grey = smooth((30, 30), 2, 0)
    before = grey.copy()
    slic(grey, 9, 0.2, 3)
    np.testing.assert_array_equal(grey, before)
