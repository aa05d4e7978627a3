"""What a FIB-SEM makes of the specimen: blur, drift, curtains, shading and noise."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from sccs.data.phantom.fields import smooth_field
from sccs.data.phantom.stains import Stain


def _walk(rng: np.random.Generator, length: int, memory: float) -> np.ndarray:
    """(length,) stationary random walk, unit deviation, correlated over about `memory` steps."""
    noise = rng.standard_normal(length + 1)
    keep = 1 - 1 / memory
    out = [noise[0]]
    for value in noise[1:length]:
        out.append(keep * out[-1] + np.sqrt(1 - keep * keep) * value)
    return np.array(out)


def record(rng: np.random.Generator, grey: np.ndarray, stain: Stain) -> np.ndarray:
    """What a FIB-SEM records of the specimen: (Z, Y, X) float32 grey values -> uint8."""
    shape = grey.shape
    grey = ndimage.gaussian_filter(grey, stain.blur, truncate=3)
    gain = stain.gain * (1 + stain.drift * _walk(rng, shape[0], 15))
    level = 0.5 + stain.bias + 0.35 * stain.drift * _walk(rng, shape[0], 12)
    # curtains run along y, where the ion beam mills; they change slowly from slice to slice
    curtain = smooth_field(rng, (shape[0], 1, shape[2]), 3.5) + smooth_field(rng, (shape[0], 1, shape[2]), 14)
    curtain = curtain * (0.6 + 0.4 * np.linspace(0, 1, shape[1])[:, None])
    shading = smooth_field(rng, (shape[0], shape[1], shape[2]), max(shape[1:]) / 1.5)
    grey -= np.float32(0.52)
    grey *= gain.astype(np.float32)[:, None, None]
    grey += level.astype(np.float32)[:, None, None]
    grey += (stain.curtain * curtain).astype(np.float32)
    grey += np.float32(0.03) * shading
    deviation = np.sqrt(stain.shot**2 * np.clip(grey, 0, 1) + stain.read**2, dtype=np.float32)
    grey += deviation * rng.standard_normal(shape, dtype=np.float32)
    return np.clip(np.rint(grey * 235 + 10), 0, 255).astype(np.uint8)
