"""SLIC as tensor operations: against the same algorithm pixel by pixel, and what every decomposition must hold."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.measure import label

from registry.spg.slic_grid import assigned, connected, grid_slic


def smooth(shape, seed=0):
    grey = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 2)
    return np.clip(grey / (6 * max(grey.std(), 1e-9)) + 0.5, 0, 1).astype(np.float32)


def plainly(grey, count, compactness, iterations):
    """The nearest of the clusters of the nine cells around, pixel by pixel."""
    H, W = grey.shape
    step = (grey.size / count) ** 0.5
    gh, gw = max(1, round(H / step)), max(1, round(W / step))
    row = np.repeat(np.arange(gh), np.diff(np.arange(gh + 1) * H // gh))
    column = np.repeat(np.arange(gw), np.diff(np.arange(gw + 1) * W // gw))
    y, x = np.mgrid[:H, :W] / step
    values = np.stack([y, x, grey / compactness], 2)
    labels = row[:, None] * gw + column[None, :]
    for iteration in range(iterations):
        if iteration == 0:
            centres = np.array([values[labels == c].mean(0) for c in range(gh * gw)])
        new = labels.copy()
        for i in range(H):
            for j in range(W):
                near = [
                    r * gw + c
                    for r in range(max(row[i] - 1, 0), min(row[i] + 2, gh))
                    for c in range(max(column[j] - 1, 0), min(column[j] + 2, gw))
                ]
                new[i, j] = min(near, key=lambda c: ((values[i, j] - centres[c]) ** 2).sum())
        labels = new
        centres = np.array([values[labels == c].mean(0) if (labels == c).any() else centres[c] for c in range(gh * gw)])
    return labels


@pytest.mark.parametrize("shape, count", [((40, 60), 24), ((37, 53), 19), ((30, 8), 5)])
def test_clusters_are_those_of_the_plain_algorithm(shape, count):
    grey = smooth(shape)
    for iterations in (1, 4):
        ours, plain = assigned(grey, count, 0.2, iterations), plainly(grey, count, 0.2, iterations)
        assert (ours == plain).mean() > 0.998  # but for equal distances in single precision


@pytest.mark.parametrize("shape", [(120, 120), (101, 67), (16, 300), (1, 50), (5, 5)])
def test_regions_are_connected_large_enough_and_as_many_as_asked(shape):
    grey = smooth(shape)
    count = max(1, round(grey.size / 100))
    regions = grid_slic(grey, count, 0.2, 5)
    n = regions.max() + 1
    assert regions.shape == shape and regions.dtype == np.int32
    assert (np.bincount(regions.ravel()) >= grey.size / count / 4).all()
    assert label(regions + 1, connectivity=1).max() == n
    assert n <= 1.3 * count + 2 and (grey.size < 5000 or n >= 0.8 * count)


def test_a_constant_image_is_cut_along_the_grid():
    regions = grid_slic(np.full((60, 40), 0.5, np.float32), 24, 0.2, 5)
    assert len(np.unique(regions)) == 24 and (np.bincount(regions.ravel()) == 100).all()


def test_regions_do_not_cross_a_clear_border():
    grey = np.where(np.add.outer(np.arange(100), 0.4 * np.arange(100)) < 70, 0.2, 0.8).astype(np.float32)
    regions = grid_slic(grey, 100, 0.2, 5)
    bright = np.bincount(regions.ravel(), grey.ravel() > 0.5) / np.bincount(regions.ravel())
    assert (np.minimum(bright, 1 - bright) < 0.1).all()


def test_small_pieces_join_the_neighbour_nearest_in_grey():
    labels = np.zeros((10, 20), np.int64)
    labels[:, 10:] = 1
    labels[4:6, 9:11] = 2  # touches both, looks like the right one
    grey = np.where(labels == 0, 0.1, 0.9).astype(np.float32)
    joined = connected(labels, grey, 20)
    assert joined.max() == 1 and (joined[4:6, 9:11] == joined[0, 19]).all() and joined[4, 0] != joined[0, 19]


def test_pieces_of_one_label_become_regions_of_their_own():
    labels = np.zeros((10, 30), np.int64)
    labels[:, 10:20] = 1
    assert connected(labels, labels.astype(np.float32), 20).max() == 2


def test_many_small_pieces_end_in_few_large_ones():
    labels = np.arange(400).reshape(20, 20)  # every pixel a piece
    joined = connected(labels, smooth((20, 20)), 10)
    assert (np.bincount(joined.ravel()) >= 10).all() and label(joined + 1, connectivity=1).max() == joined.max() + 1
