"""The embedded data set: seeded synthetic volume EM of pancreatic beta-like cells, with exact labels.

Every structure is defined in 3-D (distances to surfaces, level sets of smooth fields), so that slices along any axis
are coherent. Sizes in this file are in voxels of 16 nm: a granule of 17 px is 270 nm, a mitochondrion 25 px (400 nm)
thick. The picture is built as one would stain it (cytoplasm, nucleus, membranes, organelles, each with its texture,
0 = black, 1 = white) and then imaged as a FIB-SEM does (blur, shading, curtains, drift, noise).

Grey values overlap on purpose: euchromatin, cytoplasm, mitochondrial matrix and immature granules differ in texture
far more than in mean intensity, as in real data.

Results must not depend on the machine: whatever may differ in its last bits (sums, sines) is evaluated in float64
and rounded later, the rest is plain arithmetic, and every volume draws from a seed sequence of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from registry.base import UserError

UNRECOGNIZED, NUCLEUS, GRANULES, MITOCHONDRIA, IGNORE = 0, 1, 2, 3, 255
CLASSES = {UNRECOGNIZED: "unrecognized", NUCLEUS: "nucleus", GRANULES: "granules", MITOCHONDRIA: "mitochondria"}
SHAPES = ((24, 560, 560), (24, 520, 560), (24, 560, 540), (24, 540, 560))  # one FOV a slice

SMALLEST_CELL = 500  # px across; a smaller volume shows a part of such a cell, at the rim of its nucleus

# the centre and six points on the surface of a ball: a cheap first look whether an object has room
_CROSS = np.array([(0, 0, 0), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)])

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class PhantomVolume:
    """One synthetic volume.

    Shapes
        image: (Z, Y, X) uint8. labels: (Z, Y, X) uint8, codes of `CLASSES`, 255 outside the cell.
        voxel_size: (z, y, x) in nm.
    """

    name: str
    image: np.ndarray
    labels: np.ndarray
    voxel_size: tuple[float, float, float]


@dataclass(frozen=True)
class Stain:
    """How one specimen takes the stain and how it was imaged. Grey values: 0 = black, 1 = white."""

    cytoplasm: float = 0.58
    membrane: float = 0.27
    lumen: float = 0.70  # inside of ER and vesicles
    outside: float = 0.80  # extracellular space
    euchromatin: float = 0.62
    heterochromatin: float = 0.40
    heterochromatin_share: float = 0.0  # shifts the threshold; larger is more
    nucleolus: float = 0.36
    matrix: float = 0.47
    core: float = 0.17
    halo: float = 0.76
    immature: float = 0.45
    immature_share: float = 0.2
    granule_fraction: float = 0.095  # of the cell's voxels
    mitochondria_fraction: float = 0.10
    gain: float = 1.0  # contrast around mid grey
    bias: float = 0.0
    blur: float = 0.7  # px, standard deviation
    shot: float = 0.05  # noise at white, standard deviation
    read: float = 0.025  # noise at black
    curtain: float = 0.018
    drift: float = 0.05


STAINS = (
    Stain(),
    Stain(
        cytoplasm=0.60,
        euchromatin=0.62,
        heterochromatin=0.38,
        heterochromatin_share=0.15,
        core=0.22,
        matrix=0.51,
        halo=0.80,
        gain=1.15,
        bias=0.02,
        shot=0.058,
        granule_fraction=0.075,
        immature_share=0.3,
        curtain=0.012,
    ),
    Stain(
        cytoplasm=0.55,
        euchromatin=0.60,
        heterochromatin=0.44,
        heterochromatin_share=0.0,
        core=0.14,
        matrix=0.43,
        halo=0.72,
        gain=0.85,
        bias=-0.03,
        blur=0.85,
        shot=0.042,
        read=0.03,
        granule_fraction=0.105,
        curtain=0.025,
    ),
    Stain(
        cytoplasm=0.59,
        euchromatin=0.61,
        heterochromatin=0.41,
        heterochromatin_share=0.05,
        core=0.19,
        matrix=0.47,
        halo=0.78,
        gain=0.95,
        bias=0.03,
        blur=0.75,
        shot=0.054,
        granule_fraction=0.09,
        immature_share=0.25,
        mitochondria_fraction=0.09,
    ),
)


def make_phantom(
    seed: int = 0, *, shapes: Sequence[Sequence[int]] = SHAPES, voxel_nm: float = 16.0
) -> list[PhantomVolume]:
    """Synthetic volumes `phantom_c1`, `phantom_c2`, ...; with the default shapes c1 to c3 train and c4 tests.

    Volume i depends on `seed`, i and its own shape only. A cell fills each volume of 500 px or more (Y, X); smaller
    volumes show a part of a cell that holds nucleus and cytoplasm. Structures are drawn in voxels: `voxel_nm` is
    what the volumes state as their voxel size and changes nothing else.

    Raises UserError for a shape that is not three numbers of at least 4 px, a bad seed or voxel size.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise UserError(f"phantom: seed is {seed!r}; give a whole number >= 0")
    if not voxel_nm > 0:
        raise UserError(f"phantom: voxel_nm is {voxel_nm!r}; give a size in nm > 0")
    for shape in shapes:
        if len(shape) != 3 or min(shape) < 4:
            raise UserError(f"phantom: shape {tuple(shape)!r}; give (Z, Y, X), each at least 4 px")
    sequences = np.random.SeedSequence(int(seed)).spawn(len(shapes))
    volumes = []
    for i, (shape, sequence) in enumerate(zip(shapes, sequences)):
        image, labels = _make_volume(np.random.default_rng(sequence), tuple(map(int, shape)), STAINS[i % len(STAINS)])
        volumes.append(PhantomVolume(f"phantom_c{i + 1}", image, labels, (float(voxel_nm),) * 3))
    return volumes


def _make_volume(rng: np.random.Generator, shape: tuple[int, int, int], stain: Stain):
    scene = _Scene(rng, shape, stain)
    scene.paint_cells()
    scene.paint_nucleus()
    scene.paint_endoplasmic_reticulum()
    scene.paint_stacks()
    scene.paint_mitochondria()
    scene.paint_confounders()
    scene.paint_granules()
    scene.paint_vesicles()
    return _image(rng, scene.grey, stain), scene.final_labels()


# --- smooth random fields and small geometry ---


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


def _field(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> np.ndarray:
    """(Z, Y, X) float32 isotropic smooth noise, mean 0, variance about 1, structures about `scale` px wide."""
    z, y, x = (_spline_weights(n, scale, phase) for n, phase in zip(shape, rng.uniform(0, scale, 3)))
    coarse = rng.standard_normal((z.shape[1], y.shape[1] * x.shape[1]))
    coarse /= 0.3315  # deviation of a cubic B-spline sum in 3-D
    field = (z @ coarse).reshape(-1, y.shape[1], x.shape[1])  # (Z, ny, nx)
    return ((y @ field) @ x.T).astype(np.float32)  # (Z, Y, X)


def _grain(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    """(Z, Y, X) float32 fine isotropic noise, mean 0, variance about 1."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, sigma, mode="reflect", truncate=3)
    return noise * np.float32((4 * np.pi * sigma**2) ** 0.75)


def _ramp(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _unit(rng: np.random.Generator, flatten: float = 1.0) -> np.ndarray:
    """Random direction (z, y, x); `flatten` < 1 turns it towards the image plane."""
    v = rng.standard_normal(3) * (flatten, 1, 1)
    return v / np.sqrt(v @ v)


def _box(low: np.ndarray, high: np.ndarray, shape: Sequence[int]) -> Box | None:
    """Slices of the voxels between two corners, cut to the volume; None if nothing is left."""
    start = [max(0, int(np.floor(a))) for a in low]
    stop = [min(n, int(np.ceil(b)) + 1) for b, n in zip(high, shape)]
    if any(a >= b for a, b in zip(start, stop)):
        return None
    return tuple(slice(a, b) for a, b in zip(start, stop))


def _offsets(box: Box, point: np.ndarray) -> list[np.ndarray]:
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


def _tube(points: np.ndarray, radii: np.ndarray, frame: np.ndarray, shape: Sequence[int]) -> Tube | None:
    """Signed distance to a poly-line of (n, 3) points with (n,) radii; `frame` holds two directions across it."""
    reach = radii.max() + 4
    box = _box(points.min(0) - reach, points.max(0) + reach, shape)
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
        part = _box(np.minimum(a, b) - reach, np.maximum(a, b) + reach, shape)
        if part is not None:
            inner = tuple(slice(p.start - o.start, p.stop - o.start) for p, o in zip(part, box))
            z, y, x = _offsets(part, a)
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


# --- the specimen ---


class _Scene:
    """A volume under construction: `grey` (Z, Y, X) float32, `labels`, and `free`, the room left for organelles."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int, int], stain: Stain):
        self.rng, self.shape, self.stain = rng, shape, stain
        self.last = np.array(shape) - 1
        self.labels = np.zeros(shape, np.uint8)
        self.wobble = _field(rng, shape, 8)
        self.swell = _field(rng, shape, 30)
        self.mottle = _field(rng, shape, 4)
        self.grain = _grain(rng, shape, 1.15)
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
        waves = _field(rng, shape, 60), _field(rng, shape, 38)
        first = np.full(shape, -1e3, np.float32)
        second, scratch = first.copy(), np.empty_like(first)
        for angle in angles:
            ny, nx, nz = np.sin(angle), np.cos(angle), rng.uniform(-0.25, 0.25)
            reach = 0.93 * np.sqrt((ny * extent[1]) ** 2 + (nx * extent[2]) ** 2) / 2 * rng.uniform(0.92, 1.0)
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
        gap = 3.5 + 9 * _ramp(_field(rng, shape, 60), 0.4, 1.6)
        self.neighbour = np.minimum(self.cell - gap, 1.1 * (first - second) - 2.2)  # > 0 inside
        z, y, x = (
            ((np.arange(n) - c) / r).astype(np.float32)
            for n, c, r in zip(shape, self.nucleus_centre, self.nucleus_radii)
        )
        q = np.sqrt((z * z)[:, None, None] + (y * y)[:, None] + x * x)
        self.nucleus = (q - 1) * np.float32(self.nucleus_radii.min()) + 2.5 * self.swell[::-1] + 0.6 * self.wobble
        self.nucleus += 7 * _field(rng, shape, 55)
        room = np.maximum(-self.cell, self.neighbour)
        self.free = np.minimum(room, self.nucleus) > 5

    def _blend(self, box: Box, value, alpha) -> None:
        target = self.grey[box]
        target += (alpha * (value - target)).astype(np.float32)

    def paint_cells(self) -> None:
        """Cytoplasm with its grain, extracellular space, and plasma membranes as thin dark lines."""
        s = self.stain
        dots = np.maximum(self.grain - 0.6, 0)  # ribosomes and filaments: sparse dark dots
        cytoplasm = s.cytoplasm + 0.03 * self.mottle + 0.02 * self.swell - 0.17 * dots + 0.026
        inside = np.maximum(-self.cell, self.neighbour)
        self.grey = (s.outside + 0.02 * self.mottle).astype(np.float32)
        self.grey += _ramp(inside, -0.8, 0.8) * (cytoplasm - self.grey)
        line = np.clip(1.45 - np.abs(inside), 0, 1)
        self.grey += line * (s.membrane - self.grey)

    def paint_nucleus(self) -> None:
        """Mottled chromatin, nucleoli, and the envelope: two membranes with pores."""
        s, d, rng = self.stain, self.nucleus, self.rng
        box = _box(*self._nucleus_extent(), self.shape)
        if box is None:
            return
        d = d[box]
        grain, mottle = self.grain[box], self.mottle[box]
        patches = 0.75 * _field(rng, d.shape, 11) + 0.4 * self.wobble[box] + 0.25 * mottle
        rim = _ramp(d, -15, -6)
        hetero = _ramp(patches + 1.15 * rim + s.heterochromatin_share, 0.4, 1.0)
        pores = (rng.random(d.shape, np.float32) < 4e-3) & (np.abs(d + 1.5) < 0.8)
        pores = ndimage.binary_dilation(pores, ndimage.generate_binary_structure(3, 1), iterations=5)
        pores = ndimage.uniform_filter(pores.astype(np.float32), 3)
        channels = np.minimum(2.5 * ndimage.uniform_filter(pores, 9), 1)  # chromatin keeps clear of pores
        hetero *= (0.8 + 0.2 * np.clip(mottle, -1, 1)) * (1 - channels)
        chromatin = s.euchromatin + 0.045 * mottle + 0.015 * grain + hetero * (s.heterochromatin - s.euchromatin)
        self._blend(box, chromatin, _ramp(-d, -0.5, 0.5))
        for _ in range(int(rng.integers(1, 3))):
            self._paint_nucleolus()
        # outer membrane at d = 0, inner at d = -3, the light perinuclear space between
        shell = np.interp(
            d,
            (-5, -4, -3, -1.5, 0, 1.2),
            (s.heterochromatin, s.membrane, s.membrane + 0.03, s.lumen, s.membrane, s.membrane + 0.05),
        )
        alpha = np.interp(d, (-5, -4, 1, 2), (0, 1, 1, 0))
        self._blend(box, shell, alpha * (1 - pores))
        self.labels[box][d < 0.5] = NUCLEUS

    def _nucleus_extent(self) -> tuple[np.ndarray, np.ndarray]:
        reach = self.nucleus_radii * 1.35 + 20
        return self.nucleus_centre - reach, self.nucleus_centre + reach

    def _paint_nucleolus(self) -> None:
        rng, s = self.rng, self.stain
        radii = rng.uniform(17, 27) * rng.uniform(0.85, 1.15, 3)
        centre = self.nucleus_centre + rng.uniform(-0.5, 0.5, 3) * self.nucleus_radii * (0.2, 1, 1)
        box = _box(centre - 1.4 * radii, centre + 1.4 * radii, self.shape)
        if box is None:
            return
        z, y, x = (o / r for o, r in zip(_offsets(box, centre), radii))
        d = (np.sqrt(z * z + y * y + x * x) - 1) * radii.mean() + 2.5 * self.wobble[box]
        inside = np.minimum(_ramp(-d, -2, 2), _ramp(-self.nucleus[box], 8, 14))
        strands = _ramp(self.mottle[box], -0.6, 0.9)
        self._blend(box, s.nucleolus + 0.11 * strands + 0.03 * self.grain[box], 0.92 * inside)

    def paint_endoplasmic_reticulum(self) -> None:
        """Single cisternae: pieces of the zero level sets of two smooth fields, with ribosome dots."""
        for scale, threshold in ((34, 0.0), (24, 0.1), (20, 0.4)):
            level = _field(self.rng, self.shape, scale)
            steep = [np.gradient(level, axis=a) if level.shape[a] > 1 else 0 for a in range(3)]
            distance = np.abs(level) / (np.sqrt(sum(g * g for g in steep)) + np.float32(0.012))
            presence = _field(self.rng, self.shape, 26) > threshold
            near = (distance < 4) & presence & self.free
            self._paint_sheet(near, distance[near], self.mottle[near], 1.7)

    def _paint_sheet(self, where: np.ndarray, distance: np.ndarray, dots: np.ndarray, half_width: float) -> None:
        """Cisterna: light lumen between two membranes `half_width` px off its middle."""
        s = self.stain
        h = half_width
        value = np.interp(distance, (0, h - 1, h, h + 1), (s.lumen, s.lumen, s.membrane + 0.08, s.membrane + 0.14))
        alpha = np.interp(distance, (0, h + 0.3, h + 1.2), (0.85, 0.85, 0))
        # ribosomes sit on the outer face
        ribosome = np.interp(distance, (h, h + 0.8, h + 2.2), (0, 0.8, 0)) * _ramp(dots, 0.3, 1.0)
        grey = self.grey[where]
        grey += alpha * (value - grey)
        grey += ribosome * (s.membrane + 0.05 - grey)
        self.grey[where] = grey

    def paint_stacks(self) -> None:
        """Rough ER as piles of parallel curved sheets, and Golgi: a tight pile of short sheets."""
        rng = self.rng
        tiles = self.shape[1] * self.shape[2] * (1 + self.shape[0] / 80)
        for _ in range(max(1, round(tiles / 75e3))):
            radii = np.array([rng.uniform(22, 40), rng.uniform(16, 30), rng.uniform(40, 75)])
            self._paint_stack(radii, rng.uniform(8.5, 11), 1.8, rng.uniform(90, 260))
        for _ in range(max(1, round(tiles / 150e3))):
            radii = np.array([rng.uniform(22, 34), rng.uniform(11, 16), rng.uniform(26, 42)])
            self._paint_stack(radii, rng.uniform(5.2, 6.2), 1.2, rng.uniform(50, 110))

    def _paint_stack(self, radii: np.ndarray, spacing: float, half_width: float, bend: float) -> None:
        """Parallel sheets: shells `spacing` px apart around a far point (`bend` px off), cut by an ellipsoid."""
        rng = self.rng
        normal = _unit(rng, 0.4)
        across = np.cross(normal, _unit(rng))
        across /= np.sqrt(across @ across)
        axes = np.stack([np.cross(normal, across), normal, across])
        for _ in range(40):
            centre = rng.uniform(0, 1, 3) * self.shape
            if self._is_free(centre):
                break
        else:
            return
        box = _box(centre - radii.max(), centre + radii.max(), self.shape)
        z, y, x = _offsets(box, centre)
        q = 0
        for axis, radius in zip(axes, radii):
            q = q + ((z * axis[0] + y * axis[1] + x * axis[2]) / radius) ** 2
        inside = (q + 0.18 * self.wobble[box] < 1) & self.free[box]
        z, y, x = _offsets(box, centre - bend * normal)
        shells = np.sqrt(z * z + y * y + x * x) - bend + 3.0 * self.swell[box] + 0.9 * self.wobble[box]
        distance = np.abs(shells - spacing * np.round(shells / spacing))
        broken = self.mottle[box] + 0.8 * self.wobble[box] < -1.5
        where = np.zeros(self.shape, bool)
        where[box] = inside & (distance < 4) & ~broken
        self._paint_sheet(where, distance[where[box]], self.mottle[where], half_width)
        self.free[box] &= ~ndimage.binary_erosion(inside, iterations=2)

    def _is_free(self, points: np.ndarray) -> bool:
        """Whether all (..., 3) points, or the voxels of the volume nearest to them, are open cytoplasm."""
        index = np.clip(points, 0, self.last).astype(np.intp)
        return bool(self.free[index[..., 0], index[..., 1], index[..., 2]].all())

    def _claim(self, box: Box, mask: np.ndarray, margin: np.ndarray, label: int) -> bool:
        """Take the voxels of `mask` for an object if all of them are free; `margin` then stays empty."""
        if not mask.any() or not self.free[box][mask].all():
            return False
        self.free[box] &= ~margin
        self.labels[box][mask] = label
        return True

    def _centre(self, reach: float) -> np.ndarray:
        """Random place for an object, which may stick out of the volume."""
        return self.rng.uniform(-0.6 * reach, np.array(self.shape) - 1 + 0.6 * reach)

    def paint_mitochondria(self) -> None:
        goal = self.stain.mitochondria_fraction * np.count_nonzero(self.cell < 0.5)
        attempts = 300 + int(2e-4 * self.grey.size)
        filled = 0
        for _ in range(attempts):
            if filled >= goal:
                break
            filled += self._paint_mitochondrion()

    def _paint_mitochondrion(self) -> int:
        """One bent tube with two membranes and cristae; returns the voxels it took inside the cell (0: no room)."""
        rng, s = self.rng, self.stain
        radius, length = rng.uniform(10.5, 15.5), rng.uniform(45, 150)
        heading, step = _unit(rng, 0.55), 8.0
        bend = rng.standard_normal(3) * 0.06
        points = [self._centre(radius)]
        for _ in range(int(length / step)):
            heading = heading + bend + rng.standard_normal(3) * 0.08
            heading /= np.sqrt(heading @ heading)
            points.append(points[-1] + step * heading)
        points = np.array(points)
        if not self._is_free(points[:, None] + 0.9 * radius * _CROSS):
            return 0
        radii = radius * (1 + 0.08 * np.cumsum(rng.standard_normal(len(points))) / np.sqrt(len(points)))
        across = np.cross(heading, _unit(rng))
        across /= np.sqrt(across @ across)
        tube = _tube(points, radii, np.stack([across, np.cross(heading, across)]), self.shape)
        if tube is None:
            return 0
        box, wobble = tube.box, self.wobble[tube.box]
        d = tube.d + 0.7 * wobble
        if not self._claim(box, d < 0.5, d < 3.5, MITOCHONDRIA):
            return 0
        cristae = self._cristae(tube, d, wobble, radius)
        matrix = s.matrix + rng.uniform(-0.03, 0.03) + 0.02 * self.mottle[box] + 0.025 * self.grain[box]
        value = matrix + cristae
        wall = np.interp(d, (-5, -4, -3, -1.7, -0.3, 1), (0, 0.5, 0.8, 0.75, 1, 1))
        tone = np.interp(
            d, (-4, -3, -1.7, -0.3, 1), (s.membrane + 0.04, s.membrane + 0.04, s.matrix + 0.10, s.membrane, s.membrane)
        )
        value = value + wall * (tone - value)
        self._blend(box, value, _ramp(-d, -1.3, 0.2))
        return np.count_nonzero((d < 0.5) & (self.cell[box] < 0.5))

    def _cristae(self, tube: Tube, d: np.ndarray, wobble: np.ndarray, radius: float) -> np.ndarray:
        """Grey value change by lamellae: thin sheets across or along the tube, light core between dark membranes."""
        rng = self.rng
        spacing = rng.uniform(5.5, 8.0)
        swell = self.swell[tube.box]
        if rng.uniform() < 0.75:
            phase = tube.s + rng.uniform(-0.4, 0.4) * tube.u + 1.3 * wobble + 3 * swell
        else:
            phase = tube.u + 1.3 * wobble + 4 * swell
        phase = phase / spacing + 50
        number = np.floor(phase)
        distance = np.abs(phase - number - 0.5) * spacing
        number = number.astype(int) % 64
        # each lamella grows from one side of the tube and ends somewhere on its way
        angle, depth = rng.uniform(0, 2 * np.pi, 64), rng.uniform(-0.3, 1.0, 64)
        side = np.cos(angle)[number] * tube.u + np.sin(angle)[number] * tube.v
        present = (side < depth[number] * radius) & (d < -2.5)
        profile = np.interp(distance, (0, 0.6, 1.5, 2.4), (0.14, 0.08, -0.17, 0))
        return profile * present

    def _ball(self, centre: np.ndarray, radii: np.ndarray, rough: float):
        """Box and signed distance (px, < 0 inside) of a rough ellipsoid; None outside the volume."""
        reach = radii.max() + 4
        box = _box(centre - reach, centre + reach, self.shape)
        if box is None:
            return None
        z, y, x = (o / r for o, r in zip(_offsets(box, centre), radii))
        d = (np.sqrt(z * z + y * y + x * x) - 1) * radii.mean() + rough * self.wobble[box]
        return box, d

    def paint_confounders(self) -> None:
        """Lysosomes (dark, patchy) and lipid droplets (even, grey): `unrecognized`, yet like granules at a glance."""
        s, rng = self.stain, self.rng
        wanted = max(2, round(np.count_nonzero(self.free) / 4.5e5))
        for kind in ("lysosome", "lipid"):
            placed = 0
            for _ in range(30 * wanted):
                if placed >= wanted:
                    break
                radius = rng.uniform(9, 19) if kind == "lysosome" else rng.uniform(7, 13)
                centre = self._centre(radius)
                ball = self._is_free(centre) and self._ball(centre, radius * rng.uniform(0.85, 1.2, 3), 1.2)
                if not ball:
                    continue
                box, d = ball
                if not self._claim(box, d < 0.5, d < 3, UNRECOGNIZED):
                    continue
                if kind == "lysosome":
                    value = 0.36 + 0.13 * self.mottle[box] + 0.08 * self.wobble[box] + 0.03 * self.grain[box]
                else:
                    value = 0.66 + 0.01 * self.mottle[box]
                rim = np.clip(1.6 - np.abs(d), 0, 1)
                self._blend(box, value + rim * (s.membrane - value), _ramp(-d, -1, 0.3))
                placed += 1

    def paint_granules(self) -> None:
        goal = self.stain.granule_fraction * np.count_nonzero(self.cell < 0.5)
        filled = 0
        for _ in range(2000 + int(2e-3 * self.grey.size)):
            if filled >= goal:
                break
            filled += self._paint_granule()

    def _paint_granule(self) -> int:
        """Dense-core granule: membrane, light halo, dark core off centre; immature ones are grey and full."""
        rng, s = self.rng, self.stain
        radius = rng.uniform(6.2, 11.0)
        centre = self._centre(radius)
        if not self._is_free(centre + 0.85 * radius * _CROSS):
            return 0
        ball = self._ball(centre, radius * rng.uniform(0.9, 1.1, 3), 0.35)
        if ball is None:
            return 0
        box, d = ball
        if not self._claim(box, d < 0.5, d < 1.5, GRANULES):
            return 0
        if rng.uniform() < s.immature_share:
            core, dark = radius * rng.uniform(0.84, 0.95), s.immature + rng.uniform(-0.08, 0.08)
            halo, soft = 0.5 * (s.halo + s.cytoplasm), 1.6
        else:
            core, dark = radius * rng.uniform(0.52, 0.84), s.core + rng.uniform(-0.05, 0.14)
            halo, soft = s.halo + rng.uniform(-0.07, 0.05), 1.0
        shift = _unit(rng) * rng.uniform(0, 0.85) * max(0, radius - core - 1.5)
        z, y, x = _offsets(box, centre + shift)
        shape = rng.uniform(0.88, 1.12, 3)
        e = np.sqrt((z / shape[0]) ** 2 + (y / shape[1]) ** 2 + (x / shape[2]) ** 2) - core + 0.5 * self.wobble[box]
        value = halo + 0.02 * self.mottle[box]
        value = value + _ramp(-e, -soft, soft) * (dark + 0.025 * self.grain[box] - value)
        rim = np.clip(1.3 - np.abs(d), 0, 1) * 0.7
        value = value + rim * (s.membrane + 0.08 - value)
        self._blend(box, value, _ramp(-d, -1, 0.3))
        return np.count_nonzero((d < 0.5) & (self.cell[box] < 0.5))

    def paint_vesicles(self) -> None:
        """Small clear vesicles in what room is left."""
        s, rng = self.stain, self.rng
        for _ in range(int(7e-4 * np.count_nonzero(self.free))):
            radius = rng.uniform(1.8, 4.2)
            centre = self._centre(radius)
            ball = self._is_free(centre) and self._ball(centre, np.full(3, radius), 0.2)
            if not ball:
                continue
            box, d = ball
            if self._claim(box, d < 0.5, d < 1.5, UNRECOGNIZED):
                rim = np.clip(1.4 - np.abs(d), 0, 1) * 0.75
                self._blend(box, s.lumen + rim * (s.membrane + 0.05 - s.lumen), _ramp(-d, -1, 0.3))

    def final_labels(self) -> np.ndarray:
        self.labels[self.cell >= 0.5] = IGNORE
        return self.labels


# --- the microscope ---


def _walk(rng: np.random.Generator, length: int, memory: float) -> np.ndarray:
    """(length,) stationary random walk, unit deviation, correlated over about `memory` steps."""
    noise = rng.standard_normal(length + 1)
    keep = 1 - 1 / memory
    out = [noise[0]]
    for value in noise[1:length]:
        out.append(keep * out[-1] + np.sqrt(1 - keep * keep) * value)
    return np.array(out)


def _image(rng: np.random.Generator, grey: np.ndarray, stain: Stain) -> np.ndarray:
    """What a FIB-SEM records of the specimen: (Z, Y, X) float32 grey values -> uint8."""
    shape = grey.shape
    grey = ndimage.gaussian_filter(grey, stain.blur, truncate=3)
    gain = stain.gain * (1 + stain.drift * _walk(rng, shape[0], 15))
    level = 0.5 + stain.bias + 0.35 * stain.drift * _walk(rng, shape[0], 12)
    # curtains run along y, where the ion beam mills; they change slowly from slice to slice
    curtain = _field(rng, (shape[0], 1, shape[2]), 3.5) + _field(rng, (shape[0], 1, shape[2]), 14)
    curtain = curtain * (0.6 + 0.4 * np.linspace(0, 1, shape[1])[:, None])
    shading = _field(rng, (shape[0], shape[1], shape[2]), max(shape[1:]) / 1.5)
    grey -= np.float32(0.52)
    grey *= gain.astype(np.float32)[:, None, None]
    grey += level.astype(np.float32)[:, None, None]
    grey += (stain.curtain * curtain).astype(np.float32)
    grey += np.float32(0.03) * shading
    deviation = np.sqrt(stain.shot**2 * np.clip(grey, 0, 1) + stain.read**2, dtype=np.float32)
    grey += deviation * rng.standard_normal(shape, dtype=np.float32)
    return np.clip(np.rint(grey * 235 + 10), 0, 255).astype(np.uint8)
