"""Compiled loops over the voxels of labelled blocks."""

from __future__ import annotations

import numpy as np

from registry.numeric.compiled import compiled

OUTSIDE = 255  # in `what`: beyond the volume
KINDS = 7  # of steps to the 26 neighbours, regardless of sign: x, y, yx, z, zx, zy, zyx


@compiled
def describe(
    labels: np.ndarray, n: int, corner: np.ndarray, shape: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For labels 1..n of a block (Z, Y, X) at `corner` of a volume of `shape`: voxels (n,), the first voxel's index in
    the volume in C order (n,), box (n, 6) as z0, y0, x0, z1, y1, x1, half-open."""
    count, first = np.zeros(n, np.int64), np.full(n, -1, np.int64)
    box = np.zeros((n, 6), np.int64)
    for z in range(labels.shape[0]):
        for y in range(labels.shape[1]):
            for x in range(labels.shape[2]):
                i = np.int64(labels[z, y, x]) - 1
                if i < 0:
                    continue
                a, b, c = z + corner[0], y + corner[1], x + corner[2]
                count[i] += 1
                if first[i] < 0:
                    first[i] = (a * shape[1] + b) * shape[2] + c
                    box[i, 0], box[i, 1], box[i, 2] = a, b, c
                    box[i, 3], box[i, 4], box[i, 5] = a + 1, b + 1, c + 1
                else:
                    box[i, 1], box[i, 2] = min(box[i, 1], b), min(box[i, 2], c)
                    box[i, 3] = a + 1
                    box[i, 4], box[i, 5] = max(box[i, 4], b + 1), max(box[i, 5], c + 1)
    return count, first, box


@compiled
def measure(
    local: np.ndarray,
    n: int,
    ids: np.ndarray,
    what: np.ndarray,
    kinds: int,
    corner: np.ndarray,
    grey: np.ndarray,
    near: np.ndarray,
    far: np.ndarray,
    origin: np.ndarray,
    factor: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """For labels 1..n of a block, `local` (Z, Y, X): sums (n, 9) of z, y, x, zz, yy, xx, zy, zx, yx, counted from
    `corner`; steps (n, kinds, 7) to neighbours of another id, by the neighbour's kind and by the kind of step; sums of
    grey (n,); the minima of `near` and of `far` (n, t), inf if there are none.

    ids, what: (Z + 2, Y + 2, X + 2), the block with a margin of one voxel: the object's number in the whole volume; the
    voxel's kind, below `kinds`, or OUTSIDE. grey: (Z, Y, X) or empty. near: (t, Z, Y, X) or empty. far: (t, z, y, x) in
    cells of `factor` voxels, or empty; origin: the block's first voxel in its first cell.
    """
    sums, steps = np.zeros((n, 9), np.int64), np.zeros((n, kinds, 7), np.int64)
    shade = np.zeros(n, np.float64)
    close = np.full((n, near.shape[0]), np.inf, np.float64)
    away = np.full((n, far.shape[0]), np.inf, np.float64)
    for z in range(local.shape[0]):
        for y in range(local.shape[1]):
            for x in range(local.shape[2]):
                i = np.int64(local[z, y, x]) - 1
                if i < 0:
                    continue
                a, b, c = z + corner[0], y + corner[1], x + corner[2]
                sums[i, 0] += a
                sums[i, 1] += b
                sums[i, 2] += c
                sums[i, 3] += a * a
                sums[i, 4] += b * b
                sums[i, 5] += c * c
                sums[i, 6] += a * b
                sums[i, 7] += a * c
                sums[i, 8] += b * c
                if grey.size:
                    shade[i] += grey[z, y, x]
                for t in range(near.shape[0]):
                    close[i, t] = min(close[i, t], near[t, z, y, x])
                for t in range(far.shape[0]):
                    p, q, r = (z + origin[0]) // factor[0], (y + origin[1]) // factor[1], (x + origin[2]) // factor[2]
                    away[i, t] = min(away[i, t], far[t, p, q, r])
                mine = ids[z + 1, y + 1, x + 1]
                for dz in range(-1, 2):
                    for dy in range(-1, 2):
                        for dx in range(-1, 2):
                            if ids[z + 1 + dz, y + 1 + dy, x + 1 + dx] != mine:
                                there = what[z + 1 + dz, y + 1 + dy, x + 1 + dx]
                                if there != OUTSIDE:
                                    steps[i, there, 4 * abs(dz) + 2 * abs(dy) + abs(dx) - 1] += 1
    return sums, steps, shade, close, away
