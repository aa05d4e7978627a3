"""A class's voxels before they are divided into objects: smoothed labels, bridged gaps, holes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import correlate1d


def smoothed(codes: np.ndarray, radius: Sequence[int]) -> np.ndarray:
    """The most frequent code in the box of `radius` (z, y, x) voxels around each voxel of `codes` (Z, Y, X) uint8,
    clipped to the array. In a tie, the voxel's own code, else the smallest."""
    best, most = codes.copy(), np.zeros(codes.shape, np.uint32)
    present = np.unique(codes)
    for code in present:
        votes = _votes(codes == code, radius)
        own = codes == code
        most[own] = votes[own]
    for code in present:
        votes = _votes(codes == code, radius)
        better = votes > most
        best[better], most[better] = code, votes[better]
    return best


def _votes(mask: np.ndarray, radius: Sequence[int]) -> np.ndarray:
    votes = mask.astype(np.uint32)
    for axis, r in enumerate(radius):
        if r:
            votes = correlate1d(votes, np.ones(2 * r + 1), axis, mode="constant")
    return votes


def bridged(mask: np.ndarray, gap: int) -> np.ndarray:
    """`mask` (Z, Y, X), with gaps of at most `gap` voxels along z filled."""
    z = np.arange(len(mask), dtype=np.int32)[:, None, None]
    before = np.maximum.accumulate(np.where(mask, z, np.int32(-2 * gap - 2)), axis=0)
    behind = np.minimum.accumulate(np.where(mask, z, np.int32(len(mask) + 2 * gap + 2))[::-1], axis=0)[::-1]
    return behind - before <= gap + 1
