"""The Gaussian filter of the classical features, bit-identical to SciPy's in half the time."""

from __future__ import annotations

import numpy as np

from registry.numeric.compiled import compiled

TRUNCATE = 4.0  # radius of the kernel in deviations (SciPy's default)


def gaussian(image: np.ndarray, sigma: float) -> np.ndarray:
    """The image (H, W) float32 smoothed by a Gaussian of `sigma` px, continued by reflection: (H, W) float32.

    Equal to `scipy.ndimage.gaussian_filter(image, sigma, mode="reflect")`.
    """
    radius = int(TRUNCATE * float(sigma) + 0.5)
    weights = np.exp(-0.5 / (sigma * sigma) * np.arange(-radius, radius + 1) ** 2)
    weights /= weights.sum()
    for _ in range(2):  # along y, then along x
        image = _down(np.ascontiguousarray(image, np.float32), weights).T
    return np.ascontiguousarray(image)


@compiled
def _down(image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Correlation along axis 0 of an image (H, W) float32, continued by reflection, with symmetric weights (2r + 1,).

    Sums are in double precision, the middle first and then pairs from the outermost inwards, as in SciPy.
    """
    H, W = image.shape
    radius = len(weights) // 2
    out, total = np.empty((H, W), np.float32), np.empty(W)
    for y in range(H):
        middle, weight, line = image[y], weights[radius], out[y]
        for x in range(W):
            total[x] = np.float64(middle[x]) * weight
        for away in range(radius, 0, -1):
            above, below = (y - away) % (2 * H), (y + away) % (2 * H)
            one, other = image[min(above, 2 * H - 1 - above)], image[min(below, 2 * H - 1 - below)]
            weight = weights[radius - away]
            for x in range(W):
                total[x] += (np.float64(one[x]) + np.float64(other[x])) * weight
        for x in range(W):
            line[x] = total[x]
    return out
