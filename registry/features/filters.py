"""Classical filter responses at several scales: what a practitioner would try before any network."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch

from registry.base import FeatureMap, Features, UserError
from registry.numeric.areas import area_closings, area_openings
from registry.numeric.compiled import compiled
from registry.numeric.smoothing import gaussian
from registry.ranges import Count, Pixels, Scale

FINEST = 1.0  # px, the smoothing before structures are sought
LEVELS = 255 / 6  # grey levels of a standard deviation, of the 256 that +-3 of them are cut into


class Filters(Features):
    """image (H, W) float32 -> FeatureMap, values (H, W, 5 len(sigmas) + 2 len(sides) + 3 len(areas)).

    At each scale sigma (px) of `sigmas`: the Gaussian-smoothed image, its gradient magnitude and Laplacian (both times
    sigma and sigma^2, so that scales compare; Lindeberg 1998), the standard deviation within a Gaussian window, and the
    coherence of the structure tensor, (l1 - l2) / (l1 + l2), integrated over the same window. The image is continued by
    reflection. Defaults give 25 channels.

    Two kinds more tell how large the structure is that a pixel lies in. They are of the image smoothed with 1 px:

    - for each of `sides`, minimum and maximum of the square around the pixel;
    - for each of `areas`, how far opening by area takes the pixel down, how far closing by area lifts it, and the mean
      of the opened and the closed image. An opening levels bright structures of fewer pixels, a closing dark ones, of
      any shape, and outlines of what is larger stay as they are (attribute profiles: Dalla Mura et al. 2010). 256 grey
      levels are told apart, over +-3 standard deviations.

    sigmas: scales, in px. areas: in pixels. sides: in px, odd.
    """

    def __init__(
        self, *, sigmas: list[Scale] = [1.0, 2.0, 4.0, 8.0, 16.0], sides: list[Pixels] = [], areas: list[Count] = []
    ):
        self.sigmas = sigmas
        self.sides = sides
        self.areas = areas
        if not sigmas or min(sigmas) <= 0:
            raise UserError(f"features.sigmas: {sigmas} must be one scale or more, each above 0 px")
        if any(side < 1 or side % 2 == 0 for side in sides):
            raise UserError(f"features.sides: {sides} must be odd numbers of px")
        if min(areas, default=1) < 1:
            raise UserError(f"features.areas: {areas} must be numbers of pixels, each at least 1")

    def extract(self, image: np.ndarray) -> FeatureMap:
        image = np.ascontiguousarray(image, np.float32)
        jobs = [(sigma, partial(_responses, image, sigma)) for sigma in self.sigmas]  # time taken, about; what to do
        if self.areas or self.sides:
            smooth = gaussian(image, FINEST)
            jobs += [(1.0, partial(_extremes, smooth, side)) for side in self.sides]
        if self.areas:
            levels = grey_levels(smooth)
            jobs += [(8.0, partial(change, levels, self.areas)) for change in (area_openings, area_closings)]
        order = sorted(range(len(jobs)), key=lambda i: -jobs[i][0])  # what takes longest first
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            found = dict(zip(order, threads.map(lambda i: jobs[i][1](), order)))
        parts = [found[i] for i in range(len(jobs))]
        if self.areas:
            parts = [*parts[:-2], _profile(levels, *parts[-2:], LEVELS)]
        return FeatureMap(values=np.concatenate(parts, axis=2), step=1.0, offset=0.0, shape=image.shape)


def grey_levels(image: np.ndarray) -> np.ndarray:
    """Of a standardised image (H, W): uint8, 0 for -3 standard deviations or less, 255 for 3 or more."""
    return np.clip(np.round((image + 3) * LEVELS), 0, 255).astype(np.uint8)


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


def _extremes(image: np.ndarray, side: int) -> np.ndarray:
    """(H, W, 2)."""
    from scipy.ndimage import maximum_filter, minimum_filter

    return np.stack([minimum_filter(image, side, mode="reflect"), maximum_filter(image, side, mode="reflect")], axis=2)


@compiled
def _profile(levels: np.ndarray, opened: np.ndarray, closed: np.ndarray, unit: float) -> np.ndarray:
    """(H, W, 3t), in standard deviations of `unit` grey levels, of an image (H, W) uint8 and its openings and closings
    (t, H, W) by t areas."""
    t, H, W = opened.shape
    out = np.empty((H, W, 3 * t), np.float32)
    for y in range(H):
        for x in range(W):
            for i in range(t):
                level, low, high = np.float32(levels[y, x]), np.float32(opened[i, y, x]), np.float32(closed[i, y, x])
                out[y, x, 3 * i] = (level - low) / unit
                out[y, x, 3 * i + 1] = (high - level) / unit
                out[y, x, 3 * i + 2] = (low + high) / (2 * unit) - 3
    return out
