"""Boxes, directions and bent tubes in voxel coordinates (z, y, x), and the soft step from distance to opacity."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# the centre and six points on the surface of a ball: a cheap first look whether an object has room
CROSS = np.array([(0, 0, 0), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)])

Box = tuple[slice, slice, slice]


def ramp(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def direction(rng: np.random.Generator, flatten: float = 1.0) -> np.ndarray:
    """Random direction (z, y, x); `flatten` < 1 turns it towards the image plane."""
    v = rng.standard_normal(3) * (flatten, 1, 1)
    return v / np.sqrt(v @ v)


def box_between(low: np.ndarray, high: np.ndarray, shape: Sequence[int]) -> Box | None:
    """Slices of the voxels between two corners, cut to the volume; None if nothing is left."""
    start = [max(0, int(np.floor(a))) for a in low]
    stop = [min(n, int(np.ceil(b)) + 1) for b, n in zip(high, shape)]
    if any(a >= b for a, b in zip(start, stop)):
        return None
    z, y, x = (slice(a, b) for a, b in zip(start, stop))
    return z, y, x


def offsets(box: Box, point: np.ndarray) -> list[np.ndarray]:
    """z, y, x of the box's voxels relative to a point, as broadcastable float64 arrays."""
    axes = np.ogrid[box]
    return [a - p for a, p in zip(axes, point)]


class Tube(NamedTuple):
    """A bent tube in a box: depth below its surface is -d; s runs along it, u and v across."""

    box: Box
    d: np.ndarray
    s: np.ndarray
    u: np.ndarray
    v: np.ndarray


def bent_tube(points: np.ndarray, radii: np.ndarray, frame: np.ndarray, shape: Sequence[int]) -> Tube | None:
    """Signed distance to a poly-line of (n, 3) points with (n,) radii; `frame` holds two directions across it."""
    reach = radii.max() + 4
    box = box_between(points.min(0) - reach, points.max(0) + reach, shape)
    if box is None:
        return None
    size = tuple(b.stop - b.start for b in box)
    d = np.full(size, 1e3)
    s, u, v = np.zeros(size), np.zeros(size), np.zeros(size)
    start = 0.0
    last = len(points) - 2
    for i, (a, b) in enumerate(itertools.pairwise(points)):
        axis = b - a
        length = np.sqrt(axis @ axis)
        part = box_between(np.minimum(a, b) - reach, np.maximum(a, b) + reach, shape)
        if part is not None:
            inner = tuple(slice(p.start - o.start, p.stop - o.start) for p, o in zip(part, box))
            z, y, x = offsets(part, a)
            along = (z * axis[0] + y * axis[1] + x * axis[2]) / length**2
            t = np.clip(along, 0, 1)
            z, y, x = z - t * axis[0], y - t * axis[1], x - t * axis[2]
            distance = np.sqrt(z * z + y * y + x * x) - (radii[i] + t * (radii[i + 1] - radii[i]))
            # beyond the two ends s goes on growing, so that what is drawn across the tube also fills its caps
            run = np.clip(along, -9.0 if i == 0 else 0, 9.0 if i == last else 1)
            near = distance < d[inner]
            for target, value in (
                (d, distance),
                (s, start + run * length),
                (u, z * frame[0, 0] + y * frame[0, 1] + x * frame[0, 2]),
                (v, z * frame[1, 0] + y * frame[1, 1] + x * frame[1, 2]),
            ):
                np.copyto(target[inner], value, where=near)
        start += length
    return Tube(box, d, s, u, v)
