"""Smooth and fine random fields, from which the phantom takes its shapes and textures."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def _spline_weights(length: int, scale: float, phase: float) -> np.ndarray:
    """(length, n) matrix that interpolates n coarse values, `scale` px apart, by cubic B-splines."""
    position = (np.arange(length) + phase) / scale
    first = np.floor(position).astype(int)
    f = position - first
    taps = np.stack([(1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3]) / 6
    weights = np.zeros((length, first[-1] + 4))
    for k in range(4):
        weights[np.arange(length), first + k] = taps[k]
    return weights


def smooth_field(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> np.ndarray:
    """(Z, Y, X) float32 isotropic smooth noise, mean 0, variance about 1, structures about `scale` px wide."""
    z, y, x = (_spline_weights(n, scale, phase) for n, phase in zip(shape, rng.uniform(0, scale, 3)))
    coarse = rng.standard_normal((z.shape[1], y.shape[1] * x.shape[1]))
    coarse /= 0.3315  # deviation of a cubic B-spline sum in 3-D
    field = (z @ coarse).reshape(-1, y.shape[1], x.shape[1])  # (Z, ny, nx)
    return ((y @ field) @ x.T).astype(np.float32)  # (Z, Y, X)


def fine_grain(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    """(Z, Y, X) float32 fine isotropic noise, mean 0, variance about 1."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, sigma, mode="reflect", truncate=3)
    return noise * np.float32((4 * np.pi * sigma**2) ** 0.75)
