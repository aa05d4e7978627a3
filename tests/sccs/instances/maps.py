"""Class maps of two classes, and the objects that independent code finds in them."""

import numpy as np
from scipy import ndimage

EDGES = (20.0, 8.0, 10.0)


def blobs(shape=(20, 40, 50), seed=1) -> np.ndarray:
    """(Z, Y, X) uint8: 1 in many pieces with holes and touching parts, 2 in few, 0 elsewhere."""
    rng = np.random.default_rng(seed)
    fine, coarse = (ndimage.gaussian_filter(rng.normal(size=shape), s) for s in (1.5, 3))
    labels = (fine > 0.06).astype(np.uint8)
    labels[coarse > 0.03] = 2
    return labels


def ellipsoid(radii, edges, shift=0.13) -> np.ndarray:
    """(Z, Y, X) bool, away from the border; radii, edges in nm."""
    shape = [int(2 * r / e) + 7 for r, e in zip(radii, edges)]
    grid = np.meshgrid(*[(np.arange(n) - (n - 1) / 2 + shift) * e for n, e in zip(shape, edges)], indexing="ij")
    return sum((g / r) ** 2 for g, r in zip(grid, radii)) <= 1


def in_order(labels: np.ndarray) -> np.ndarray:
    """Labels numbered by their first voxels."""
    found, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    order = np.argsort(np.where(found == 0, -1, first))
    number = np.empty(len(found), np.int64)
    number[order] = np.arange(len(found)) + (found[order[0]] != 0)
    return number[inverse].reshape(labels.shape)
