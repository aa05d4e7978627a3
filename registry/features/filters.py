"""Classical filter responses at several scales: what a practitioner would try before any network."""
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from registry.base import FeatureMap, Features, UserError
from registry.smoothing import gaussian


class Filters(Features):
    """image (H, W) float32 -> FeatureMap with five responses for each of `sigmas`, values (H, W, 5 len(sigmas)).

    At each scale sigma (px): the Gaussian-smoothed image, its gradient magnitude and Laplacian (both times sigma and
    sigma^2, so that scales compare; Lindeberg 1998), the standard deviation within a Gaussian window, and the coherence
    of the structure tensor, (l1 - l2) / (l1 + l2), integrated over the same window. The image is continued by
    reflection. Defaults give 25 channels.

    sigmas: scales, in px.
    """

    def __init__(self, *, sigmas: list[float] = [1.0, 2.0, 4.0, 8.0, 16.0]):
        self.sigmas = sigmas
        if not sigmas or min(sigmas) <= 0:
            raise UserError(f"features.sigmas: {sigmas} must be one scale or more, each above 0 px")

    def extract(self, image: np.ndarray) -> FeatureMap:
        image = np.ascontiguousarray(image, np.float32)
        order = np.argsort(self.sigmas)[::-1].tolist()  # the widest, which takes longest, first
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            found = dict(zip(order, threads.map(lambda i: _responses(image, self.sigmas[i]), order)))
        values = np.concatenate([found[i] for i in range(len(order))], axis=2)
        return FeatureMap(values=values, step=1.0, offset=0.0, shape=image.shape)


def _responses(image: np.ndarray, sigma: float) -> np.ndarray:
    """(H, W, 5) of one scale."""
    from scipy.ndimage import laplace, sobel

    def smooth(x: np.ndarray) -> np.ndarray:
        return gaussian(x, sigma)

    mean = smooth(image)
    dy, dx = (sobel(mean, axis, mode="reflect") * (sigma / 8) for axis in (0, 1))  # sobel sums over eight pixels
    deviation = np.sqrt(np.maximum(smooth(image * image) - mean * mean, 0))
    yy, xx, yx = smooth(dy * dy), smooth(dx * dx), smooth(dy * dx)
    coherence = np.sqrt((yy - xx) ** 2 + 4 * yx * yx) / (yy + xx + 1e-6)
    blob = laplace(mean, mode="reflect") * sigma**2
    return np.stack([mean, np.hypot(dy, dx), blob, deviation, coherence], axis=2).astype(np.float32)
