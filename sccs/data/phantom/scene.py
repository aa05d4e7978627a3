"""The specimen under construction: where the cell, its neighbours and its nucleus are, and what room is left."""

from __future__ import annotations

import numpy as np

from sccs.data.phantom.fields import fine_grain, smooth_field
from sccs.data.phantom.geometry import Box, box_between, offsets, ramp
from sccs.data.phantom.stains import Stain

UNRECOGNIZED, NUCLEUS, GRANULES, MITOCHONDRIA, IGNORE = 0, 1, 2, 3, 255
CLASSES = {UNRECOGNIZED: "unrecognized", NUCLEUS: "nucleus", GRANULES: "granules", MITOCHONDRIA: "mitochondria"}

SMALLEST_CELL = 500  # px across; a smaller volume shows a part of such a cell, at the rim of its nucleus


class Scene:
    """A volume under construction: `grey` (Z, Y, X) float32, `labels`, and `free`, the room left for organelles."""

    grey: np.ndarray  # made by paint_cells, the first painter

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int, int], stain: Stain):
        self.rng, self.shape, self.stain = rng, shape, stain
        self.last = np.array(shape) - 1
        self.labels = np.zeros(shape, np.uint8)
        self.wobble = smooth_field(rng, shape, 8)
        self.swell = smooth_field(rng, shape, 30)
        self.mottle = smooth_field(rng, shape, 4)
        self.grain = fine_grain(rng, shape, 1.15)
        self._place_cell()

    def _place_cell(self) -> None:
        """Distances to the cell's membrane, to the neighbours' and to the nuclear envelope (< 0 inside)."""
        rng, shape = self.rng, self.shape
        extent = np.maximum(shape, SMALLEST_CELL).astype(float)
        half = extent[1:].min() / 2
        centre = np.array(shape) / 2 + rng.uniform(-4, 4, 3)
        self.nucleus_radii = half * 0.37 * rng.uniform(0.92, 1.1, 3)
        nucleus_shift = np.array([0, *rng.uniform(-0.1, 0.1, 2)]) * half
        if min(shape[1:]) < SMALLEST_CELL:  # a part of a cell: look at the rim of the nucleus
            centre = np.array(shape) / 2 - nucleus_shift
            centre[1:] -= self.nucleus_radii[1:] * 0.72
        self.nucleus_centre = centre + nucleus_shift
        # the cell is a rounded polyhedron: as in tissue, every face belongs to one neighbour
        z, y, x = (np.arange(n, dtype=np.float32) - np.float32(c) for n, c in zip(shape, centre))
        faces = int(rng.integers(6, 9))
        angles = 2 * np.pi * (np.arange(faces) + rng.uniform(-0.25, 0.25, faces)) / faces + rng.uniform(0, 7)
        waves = smooth_field(rng, shape, 60), smooth_field(rng, shape, 38)
        first = np.full(shape, -1e3, np.float32)
        second, scratch = first.copy(), np.empty_like(first)
        for angle in angles:
            ny, nx, nz = np.sin(angle), np.cos(angle), rng.uniform(-0.25, 0.25)
            reach = 0.97 * np.sqrt((ny * extent[1]) ** 2 + (nx * extent[2]) ** 2) / 2 * rng.uniform(0.92, 1.0)
            plane = (z * np.float32(nz))[:, None, None] + (y * np.float32(ny))[:, None]
            plane = plane + (x * np.float32(nx) - np.float32(reach))
            for wave, size in zip(waves, rng.uniform(-8, 8, 2)):  # no face is flat, nor are two neighbours' borders
                plane += np.multiply(wave, np.float32(size), out=scratch)
            np.maximum(second, np.minimum(first, plane, out=scratch), out=second)
            np.maximum(first, plane, out=first)
        for sign in (-1, 1):
            np.maximum(first, (sign * z - np.float32(0.85 * half))[:, None, None], out=first)
        round_off = np.maximum(60 - (first - second), 0)
        bumps = 4 * self.swell + 0.6 * self.wobble
        self.cell = first + round_off * round_off / 240 + bumps
        gap = 3.5 + 9 * ramp(smooth_field(rng, shape, 60), 0.4, 1.6)
        self.neighbour = np.minimum(self.cell - gap, 1.1 * (first - second) - 2.2)  # > 0 inside
        z, y, x = (
            ((np.arange(n) - c) / r).astype(np.float32)
            for n, c, r in zip(shape, self.nucleus_centre, self.nucleus_radii)
        )
        q = np.sqrt((z * z)[:, None, None] + (y * y)[:, None] + x * x)
        self.nucleus = (q - 1) * np.float32(self.nucleus_radii.min()) + 2.5 * self.swell[::-1] + 0.6 * self.wobble
        self.nucleus += 7 * smooth_field(rng, shape, 55)
        room = np.maximum(-self.cell, self.neighbour)
        self.free = np.minimum(room, self.nucleus) > 3.5

    def blend(self, box: Box, value: np.ndarray | float, alpha: np.ndarray) -> None:
        """Paint grey `value` over a box with opacity `alpha` (0..1), both of the box's shape or numbers."""
        target = self.grey[box]
        target += (alpha * (value - target)).astype(np.float32)

    def is_free(self, points: np.ndarray) -> bool:
        """Whether all (..., 3) points, or the voxels of the volume nearest to them, are open cytoplasm."""
        index = np.clip(points, 0, self.last).astype(np.intp)
        return bool(self.free[index[..., 0], index[..., 1], index[..., 2]].all())

    def claim(self, box: Box, mask: np.ndarray, margin: np.ndarray, label: int) -> bool:
        """Take the voxels of `mask` for an object if all of them are free; `margin` then stays empty."""
        if not mask.any() or not self.free[box][mask].all():
            return False
        self.free[box] &= ~margin
        self.labels[box][mask] = label
        return True

    def centre(self, reach: float) -> np.ndarray:
        """Random place for an object, which may stick out of the volume."""
        return self.rng.uniform(-0.6 * reach, np.array(self.shape) - 1 + 0.6 * reach)

    def ball(self, centre: np.ndarray, radii: np.ndarray, rough: float) -> tuple[Box, np.ndarray] | None:
        """Box and signed distance (px, < 0 inside) of a rough ellipsoid; None outside the volume."""
        reach = radii.max() + 4
        box = box_between(centre - reach, centre + reach, self.shape)
        if box is None:
            return None
        z, y, x = (o / r for o, r in zip(offsets(box, centre), radii))
        d = (np.sqrt(z * z + y * y + x * x) - 1) * radii.mean() + rough * self.wobble[box]
        return box, d

    def final_labels(self) -> np.ndarray:
        """(Z, Y, X) uint8 codes of `CLASSES`, 255 outside the cell."""
        self.labels[self.cell >= 0.5] = IGNORE
        return self.labels
