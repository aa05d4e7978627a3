"""Classical filter responses at several scales: what a practitioner would try before any network."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from registry.base import FeatureMap, Features, UserError
from registry.numeric.areas import area_closings, area_openings
from registry.numeric.compiled import at_once, compiled
from registry.numeric.smoothing import gaussian
from registry.ranges import Count, Pixels, Scale

FINEST = 1.0  # px, the smoothing before structures are sought
LEVELS = 255 / 6  # grey levels per standard deviation, with 256 levels over +-3


class Filters(Features):
    """image (H, W) float32 -> FeatureMap, values (H, W, 5 len(sigmas) + 2 len(sides) + 3 len(areas)).

    At each scale sigma (px) of `sigmas`: the Gaussian-smoothed image, its gradient magnitude and Laplacian (times sigma
    and sigma^2, so that scales are comparable; Lindeberg 1998), the standard deviation in a Gaussian window, and the
    coherence of the structure tensor, (l1 - l2) / (l1 + l2), integrated over the same window. The image is extended by
    reflection. Defaults give 25 channels.

    Two further kinds measure the size of the structure around a pixel. They use the image smoothed with 1 px:

    - for each of `sides`, minimum and maximum in the square around the pixel;
    - for each of `areas`, how much an area opening lowers the pixel, how much an area closing raises it, and the mean
    of the opened and the closed image. An opening removes bright structures of fewer pixels, a closing dark ones, of
    any shape, and leaves outlines of larger ones unchanged (attribute profiles: Dalla Mura et al. 2010). The image is
    quantised to 256 grey levels over +-3 standard deviations.

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
        scales, sides, areas = 5 * len(self.sigmas), 2 * len(self.sides), 3 * len(self.areas)
        planes = np.empty((scales + sides + areas, *image.shape), np.float32)
        square = image * image
        jobs: list[tuple[float, Callable[[], None]]] = [  # approximate time; what to do
            (sigma, partial(_responses, image, square, sigma, planes[5 * i : 5 * i + 5]))
            for i, sigma in enumerate(self.sigmas)
        ]
        if self.areas or self.sides:
            smooth = gaussian(image, FINEST)
            jobs += [
                (0.5, partial(_extremes, smooth, side, planes[scales + 2 * i : scales + 2 * i + 2]))
                for i, side in enumerate(self.sides)
            ]
        changed: dict[Callable, np.ndarray] = {}
        if self.areas:
            levels = grey_levels(smooth)
            change = lambda how: changed.update({how: how(levels, self.areas)})  # noqa: E731
            jobs += [(8.0, partial(change, how)) for how in (area_openings, area_closings)]
        jobs.sort(key=lambda job: -job[0])  # longest first
        at_once(lambda part: jobs[part.start][1](), len(jobs), 1)
        if self.areas:
            _profile(levels, changed[area_openings], changed[area_closings], LEVELS, planes[scales + sides :])
        return FeatureMap(values=planes.transpose(1, 2, 0), step=1.0, offset=0.0, shape=image.shape)


def grey_levels(image: np.ndarray) -> np.ndarray:
    """Grey levels uint8 of a standardised image (H, W): 0 for -3 standard deviations or less, 255 for 3 or more."""
    return np.clip(np.round((image + 3) * LEVELS), 0, 255).astype(np.uint8)


def _responses(image: np.ndarray, square: np.ndarray, sigma: float, planes: np.ndarray) -> None:
    """Fill `planes` (5, H, W) of one scale; square: of the image."""
    planes[0] = gaussian(image, sigma)
    wide = np.pad(planes[0], 1, mode="edge")
    products = _derivatives(wide, np.float32(sigma / 8), np.float32(sigma**2), planes[1], planes[2])
    _deviation_and_coherence(gaussian(square, sigma), *(gaussian(each, sigma) for each in products), planes)


@compiled
def _derivatives(
    wide: np.ndarray, unit: np.float32, unit2: np.float32, slope: np.ndarray, blob: np.ndarray
) -> np.ndarray:
    """Products dy^2, dx^2 and dx dy (3, H, W) of the gradient of an image, by Sobel's sums of eight pixels, times
    `unit`. Fill `slope` (H, W) with its magnitude and `blob` (H, W) with the Laplacian times `unit2`.

    wide: the image, its border repeated (H + 2, W + 2). Rounded as `scipy.ndimage.sobel` and `laplace` do. Each loop
    fills one array, which suits vector instructions.
    """
    H, W = blob.shape
    products = np.empty((3, H, W), np.float32)
    down, dy, dx = np.empty(W + 2, np.float32), np.empty(W, np.float32), np.empty(W, np.float32)
    two = np.float64(2)
    for y in range(H):
        above, here, below = wide[y], wide[y + 1], wide[y + 2]
        for x in range(W + 2):
            down[x] = np.float64(below[x]) - np.float64(above[x])
        for x in range(W):
            dy[x] = np.float32(two * np.float64(down[x + 1]) + (np.float64(down[x]) + np.float64(down[x + 2]))) * unit
        for x in range(W):  # the differences are rounded first, then summed
            first = np.float32(np.float64(above[x + 2]) - np.float64(above[x]))
            middle = np.float32(np.float64(here[x + 2]) - np.float64(here[x]))
            last = np.float32(np.float64(below[x + 2]) - np.float64(below[x]))
            dx[x] = np.float32(two * np.float64(middle) + (np.float64(first) + np.float64(last))) * unit
        for x in range(W):
            centre = -two * np.float64(here[x + 1])
            vertical = np.float32(centre + (np.float64(above[x + 1]) + np.float64(below[x + 1])))
            horizontal = np.float32(centre + (np.float64(here[x]) + np.float64(here[x + 2])))
            blob[y, x] = (vertical + horizontal) * unit2
        for x in range(W):
            slope[y, x] = np.sqrt(np.float64(dy[x]) * np.float64(dy[x]) + np.float64(dx[x]) * np.float64(dx[x]))
        for x in range(W):
            products[0, y, x] = dy[x] * dy[x]
        for x in range(W):
            products[1, y, x] = dx[x] * dx[x]
        for x in range(W):
            products[2, y, x] = dy[x] * dx[x]
    return products


@compiled
def _deviation_and_coherence(
    square: np.ndarray, yy: np.ndarray, xx: np.ndarray, yx: np.ndarray, planes: np.ndarray
) -> None:
    """Fill the planes 3 and 4 of `planes` (5, H, W) from smoothed images (H, W); plane 0 is the smoothed image."""
    H, W = square.shape
    none, four, least = np.float32(0), np.float32(4), np.float32(1e-6)
    for y in range(H):
        mean, deviation, coherence = planes[0, y], planes[3, y], planes[4, y]
        for x in range(W):
            variance = square[y, x] - mean[x] * mean[x]
            deviation[x] = np.sqrt(none if variance < none else variance)
        for x in range(W):
            along, apart, both = yx[y, x], yy[y, x] - xx[y, x], yy[y, x] + xx[y, x]
            coherence[x] = np.sqrt(apart * apart + four * along * along) / (both + least)


def _extremes(image: np.ndarray, side: int, planes: np.ndarray) -> None:
    """Fill `planes` (2, H, W) with minimum and maximum of the squares around the pixels."""
    around = np.pad(image, side // 2, mode="symmetric")
    for plane, extreme in zip(planes, (np.minimum, np.maximum)):
        found = around
        for _ in range(2):  # along y, then along x
            found, length = found.T, 1
            while length < side:  # of runs of `length` px to those of twice as many
                step = min(length, side - length)
                found, length = extreme(found[:, :-step], found[:, step:]), length + step
        plane[:] = found


@compiled
def _profile(levels: np.ndarray, opened: np.ndarray, closed: np.ndarray, unit: float, planes: np.ndarray) -> None:
    """Fill `planes` (3t, H, W), in standard deviations of `unit` grey levels, from an image (H, W) uint8 and its
    openings and closings (t, H, W) by t areas."""
    t, H, W = opened.shape
    for i in range(t):
        for y in range(H):
            level, low, high = levels[y], opened[i, y], closed[i, y]
            lowered, raised, mean = planes[3 * i, y], planes[3 * i + 1, y], planes[3 * i + 2, y]
            for x in range(W):
                lowered[x] = (np.float32(level[x]) - np.float32(low[x])) / unit
            for x in range(W):
                raised[x] = (np.float32(high[x]) - np.float32(level[x])) / unit
            for x in range(W):
                mean[x] = (np.float32(low[x]) + np.float32(high[x])) / (2 * unit) - 3
