"""The blocks that an array is written in, and the levels of the label pyramid, each half as fine as the last."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from registry.numeric.compiled import compiled

EMPTY = 255  # label of voxels that were not segmented
CHUNK = (32, 320, 320)  # voxels, at most
SMALLEST_LEVEL = 512  # px; the first level with no longer side is the last


def grid(shape: Sequence[int], block: Sequence[int]) -> tuple[int, ...]:
    """Number of blocks along each axis."""
    return tuple(math.ceil(n / b) for n, b in zip(shape, block))


def box(shape: Sequence[int], block: Sequence[int], number: int) -> tuple[slice, ...]:
    """Voxels of the block of that number, in C order."""
    corner = [int(i) * b for i, b in zip(np.unravel_index(number, grid(shape, block)), block)]
    return tuple(slice(c, min(c + b, n)) for c, b, n in zip(corner, block, shape))


@dataclass(frozen=True)
class Level:
    """A level of the label pyramid: shape, steps (z, y, x) from the previous level, 1 or 2, and from the finest."""

    shape: tuple[int, int, int]
    step: tuple[int, int, int]
    factor: tuple[int, int, int]


def pyramid(shape: Sequence[int], voxel_size: Sequence[float] | None = None) -> list[Level]:
    """Levels from the finest on, until no side exceeds 512 px. An axis is halved if its voxels are less than twice
    as long as the shortest, so that voxels become isotropic; axes of a single voxel do not count.

    >>> [level.shape for level in pyramid((40, 2000, 1100), (50, 5, 5))]
    [(40, 2000, 1100), (40, 1000, 550), (40, 500, 275)]
    """
    size = np.array(voxel_size or (1.0, 1.0, 1.0))
    Z, Y, X = map(int, shape)
    levels = [Level((Z, Y, X), (1, 1, 1), (1, 1, 1))]
    while max(levels[-1].shape[1:]) > SMALLEST_LEVEL:
        last = levels[-1]
        now = size * last.factor
        shortest = min(s for s, n in zip(now, last.shape) if n > 1)
        z, y, x = (2 if s < 2 * shortest and n > 1 else 1 for s, n in zip(now, last.shape))
        step, fz, fy, fx = (z, y, x), *last.factor
        Z, Y, X = (-(-n // by) for n, by in zip(last.shape, step))
        levels.append(Level((Z, Y, X), step, (fz * z, fy * y, fx * x)))
    return levels


def halve(labels: np.ndarray, step: Sequence[int]) -> np.ndarray:
    """The most frequent label of each cell of `step` voxels; in a tie, the first voxel's. Cells that reach beyond the
    array (Z, Y, X) repeat its last voxels."""
    best = np.empty(grid(labels.shape, step), labels.dtype)
    _most_frequent(np.ascontiguousarray(labels), *step, best)
    return best


@compiled
def _most_frequent(labels: np.ndarray, dz: int, dy: int, dx: int, best: np.ndarray) -> None:
    Z, Y, X = labels.shape
    voxels = np.empty(dz * dy * dx, labels.dtype)
    for a in range(best.shape[0]):
        for b in range(best.shape[1]):
            for c in range(best.shape[2]):
                n = 0
                for z in range(a * dz, (a + 1) * dz):
                    for y in range(b * dy, (b + 1) * dy):
                        for x in range(c * dx, (c + 1) * dx):
                            voxels[n] = labels[min(z, Z - 1), min(y, Y - 1), min(x, X - 1)]
                            n += 1
                most = 0
                for i in range(n):
                    votes = 0
                    for j in range(n):
                        votes += voxels[i] == voxels[j]
                    if votes > most:
                        most, best[a, b, c] = votes, voxels[i]
                    if 2 * most >= n:  # no other has more
                        break
