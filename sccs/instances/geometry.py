"""Lengths, surfaces and distances of voxels that are not cubes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sccs.data.pyramid import grid
from sccs.instances import loops


def coarse(shape: Sequence[int], edges: Sequence[float], most: int) -> tuple[int, int, int]:
    """Voxels (z, y, x) of a nearly cubic cell, so that `shape` has at most `most` cells.

    >>> coarse((100, 1000, 1000), (50, 10, 10), 10_000_000)
    (1, 4, 3)
    """
    factor = [1, 1, 1]
    while math.prod(grid(shape, factor)) > most:
        length = [f * e if n > f else math.inf for f, e, n in zip(factor, edges, shape)]
        factor[length.index(min(length))] += 1
    return factor[0], factor[1], factor[2]


def distances(mask: np.ndarray, edges: Sequence[float]) -> np.ndarray:
    """Distance from each voxel's centre to the nearest one in `mask` (Z, Y, X), float32; inf if it is empty."""
    import edt

    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    return edt.edt(~mask, anisotropy=list(edges), black_border=False)


def step_areas(edges: Sequence[float] | np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Surface (in 2-D, length) represented by one step out of an object, by the kind of step, (7,).

    Crofton's formula: the surface follows from how often lines in all directions leave an object; here the rows of
    voxels along the 26 (8) directions to neighbours, each weighted by the share of directions nearest to it.
    """
    from scipy.spatial import SphericalVoronoi

    flat = [axis for axis, n in enumerate(shape) if n > 1]
    out = np.zeros(loops.KINDS)
    steps = np.array([step for step in np.ndindex(3, 3, 3) if step != (1, 1, 1)]) - 1
    if len(flat) == 3:
        vectors = steps * np.array(edges)
        lengths = np.linalg.norm(vectors, axis=1)
        share = SphericalVoronoi(vectors / lengths[:, None]).calculate_areas() / (4 * math.pi)
        each = 4 * share * math.prod(edges) / lengths  # 2 for both senses of a direction, which are counted alike
    else:
        plane = flat if len(flat) == 2 else [1, 2]
        lone = next(axis for axis in range(3) if axis not in plane)
        vectors = (steps * np.array(edges))[:, plane]
        lengths = np.linalg.norm(vectors, axis=1)
        used = steps[:, lone] == 0
        angle = np.arctan2(vectors[used, 0], vectors[used, 1])
        order = np.argsort(angle)
        turn = np.diff(angle[order], append=angle[order][0] + 2 * math.pi)
        share = np.zeros(len(steps))
        share[np.flatnonzero(used)[order]] = (turn + np.roll(turn, 1)) / (4 * math.pi)
        each = math.pi * share * edges[plane[0]] * edges[plane[1]]
        each[used] /= lengths[used]  # elsewhere both are 0
    for step, area in zip(abs(steps), each):
        out[4 * step[0] + 2 * step[1] + step[2] - 1] = area
    return out


def spread(parts: np.ndarray) -> np.ndarray:
    """Give cells without a part (0) that of the nearest cell; without any parts, all are part 1."""
    from scipy.ndimage import distance_transform_edt

    if not parts.any():
        return np.ones_like(parts)
    at = distance_transform_edt(parts == 0, return_distances=False, return_indices=True)
    return parts[tuple(at)]
