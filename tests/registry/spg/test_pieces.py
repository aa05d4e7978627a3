"""Connected pieces by tensors: the labels of the CPU's way, image by image."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.measure import label

from registry.spg.graphs import touching_pairs
from registry.spg.pieces import connected_batch, pieces, touching
from registry.spg.slic_grid import assigned, assigned_batch, connected


def smooth(shape, seed=0):
    grey = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 2)
    return np.clip(grey / (6 * grey.std()) + 0.5, 0, 1).astype(np.float32)


def spiral(n: int) -> np.ndarray:
    """One arm, as long as a piece can be."""
    out, y, x, dy, dx = np.zeros((n, n), np.int64), 0, 0, 0, 1
    out[0, 0] = 1
    for _ in range(n * n):
        for _ in range(4):
            ahead, beyond = (y + dy, x + dx), (y + 2 * dy, x + 2 * dx)
            inside = all(0 <= v < n for v in ahead)
            if inside and not out[ahead] and not (all(0 <= v < n for v in beyond) and out[beyond]):
                break
            dy, dx = dx, -dy
        else:
            break
        y, x = y + dy, x + dx
        out[y, x] = 1
    return out


def test_pieces_are_numbered_as_they_are_met():
    labels = np.stack([spiral(21), np.random.default_rng(0).integers(0, 2, (21, 21)), np.zeros((21, 21), int)])
    found = pieces(torch.from_numpy(labels)).numpy()
    first = 0
    for mine, given in zip(found, labels):
        expected = label(given, background=-1, connectivity=1) - 1
        assert np.array_equal(mine - first, expected)
        first += expected.max() + 1


@pytest.mark.parametrize("shape", [(60, 50), (37, 53), (1, 50), (16, 90)])
def test_clusters_and_regions_of_a_batch_are_those_of_each_image(shape):
    grey = np.stack([*(smooth(shape, seed) for seed in range(2)), np.full(shape, 0.5, np.float32)])
    count, images = max(1, round(grey[0].size / 40)), torch.from_numpy(grey)
    labels = assigned_batch(images, count, 0.2, 5)
    regions = connected_batch(labels, images, 10.0)
    first = 0
    for b, image in enumerate(grey):
        assert np.array_equal(labels[b].numpy(), assigned(image, count, 0.2, 5))
        expected = connected(labels[b].numpy(), image, 10.0)
        assert np.array_equal(regions[b].numpy() - first, expected)
        first += expected.max() + 1


def test_small_pieces_join_as_on_the_cpu():
    labels = np.arange(400).reshape(20, 20)  # every pixel a piece
    images = torch.from_numpy(smooth((20, 20)))[None]
    found = connected_batch(torch.from_numpy(labels)[None], images, 10.0)[0].numpy()
    assert np.array_equal(found, connected(labels, images[0].numpy(), 10.0))


def test_touching_regions_are_those_of_the_cpu_and_never_of_two_images():
    one = np.random.default_rng(0).integers(0, 9, (12, 15))
    both = torch.from_numpy(np.stack([one, one + 9]))
    expected = touching_pairs(one)
    assert np.array_equal(touching(both, 18).numpy(), np.concatenate([expected, expected + 9], 1))
