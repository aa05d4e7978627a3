"""Degraded test images (paper, Appendix Table 3): five kinds of noise, each at several strengths, drawn slice by slice.

Where noise is added, strengths are in units of the volume's own standard deviation, so that a strength means the same
for 8- and 16-bit images. A strength is the deviation of the added noise (gaussian), the deviation of the shot noise at
the mean intensity (poisson), the share of pixels set to the darkest or brightest 0.1 % (salt_and_pepper), the deviation
of a Gaussian in px (blur), or the factor of contrast about the mean (contrast).
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from sccs.data.volumes import Volume

LEVELS = {
    "gaussian": (0.25, 0.5, 1.0),
    "poisson": (0.25, 0.5, 1.0),
    "salt_and_pepper": (0.01, 0.05, 0.1),
    "blur": (1.0, 2.0, 4.0),
    "contrast": (0.75, 0.5, 0.25),
}


def noise_levels(size: str) -> list[tuple[str, float]]:
    """Kinds and strengths in the noise table; `quick` leaves out the weakest of each kind."""
    return [(kind, level) for kind, levels in LEVELS.items() for level in (levels[1:] if size == "quick" else levels)]


class DegradedImage:
    """A lazy (Z, Y, X) array: slices of `image`, degraded when they are read; the same noise each time."""

    def __init__(self, image: Any, kind: str, strength: float, mean: float, std: float, limits: tuple[float, float]):
        if kind not in LEVELS:
            raise ValueError(f"noise is one of {', '.join(LEVELS)}, got {kind!r}")
        self.image, self.kind, self.strength = image, kind, strength
        self.mean, self.std, self.limits = mean, std, limits
        self.shape, self.dtype, self.ndim = tuple(image.shape), np.dtype(np.float32), 3

    def __getitem__(self, place: Any) -> np.ndarray:
        place = (place if isinstance(place, tuple) else (place,)) + (slice(None),) * 3
        z = range(self.shape[0])[place[0]]
        planes = [self._plane(each) for each in ([z] if isinstance(z, int) else z)]
        cut = [plane[place[1:3]] for plane in planes]
        return cut[0] if isinstance(z, int) else np.stack(cut)

    def _plane(self, z: int) -> np.ndarray:
        plane = np.asarray(self.image[z], np.float32)
        rng = np.random.default_rng([z, list(LEVELS).index(self.kind)])
        return degrade(plane, self.kind, self.strength, rng, self.mean, self.std, self.limits).astype(np.float32)


def degrade(
    plane: np.ndarray,
    kind: str,
    strength: float,
    rng: np.random.Generator,
    mean: float,
    std: float,
    limits: tuple[float, float],
) -> np.ndarray:
    """One slice (Y, X) float32. mean, std, limits (darkest, brightest): of the volume."""
    from scipy.ndimage import gaussian_filter

    low, high = limits
    if kind == "gaussian":
        return plane + rng.normal(scale=strength * std, size=plane.shape)
    if kind == "poisson":  # counts above the darkest pixels, `electrons` of them at the mean
        electrons = ((mean - low) / (strength * std)) ** 2
        counts = np.clip(plane - low, 0, None) / (mean - low) * electrons
        return rng.poisson(counts) / electrons * (mean - low) + low
    if kind == "salt_and_pepper":
        draw = rng.random(plane.shape)
        return np.where(draw < strength / 2, low, np.where(draw < strength, high, plane))
    if kind == "blur":
        return gaussian_filter(plane, strength, mode="reflect")
    # less contrast, at the depth of an 8-bit camera: differences below one grey value are lost
    step = (high - low) / 255
    return np.round(((plane - mean) * strength + mean) / step) * step


def degraded(volume: Volume, kind: str, strength: float) -> Volume:
    """The same region, slices, labels and FOVs of a volume with degraded images, re-standardised as such images would
    be."""
    middle = np.asarray(volume.image[volume.z_slices[len(volume.z_slices) // 2]], np.float32)
    low, high = (float(v) for v in np.quantile(middle, (0.001, 0.999)))
    noisy = copy.copy(volume)
    noisy.image = DegradedImage(volume.image, kind, strength, volume.mean, volume.std, (low, high))
    noisy.mean, noisy.std = noisy._statistics(volume.z_slices)
    return noisy
