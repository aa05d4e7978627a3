"""Paints membrane sheets: the cisternae of the endoplasmic reticulum, rough ER in stacks, and Golgi."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from sccs.data.phantom.fields import smooth_field
from sccs.data.phantom.geometry import box_between, direction, offsets, ramp
from sccs.data.phantom.scene import Scene


def paint_endoplasmic_reticulum(scene: Scene) -> None:
    """Single cisternae: pieces of the zero level sets of two smooth fields, with ribosome dots."""
    for scale, threshold in ((34, 0.0), (24, 0.1), (20, 0.4)):
        level = smooth_field(scene.rng, scene.shape, scale)
        steep = [np.gradient(level, axis=a) if level.shape[a] > 1 else 0 for a in range(3)]
        distance = np.abs(level) / (np.sqrt(sum(g * g for g in steep)) + np.float32(0.012))
        presence = smooth_field(scene.rng, scene.shape, 26) > threshold
        near = (distance < 4) & presence & scene.free
        _paint_sheet(scene, near, distance[near], scene.mottle[near], 1.7)


def paint_stacks(scene: Scene) -> None:
    """Rough ER as piles of parallel curved sheets, and Golgi: a tight pile of short sheets."""
    rng = scene.rng
    tiles = scene.shape[1] * scene.shape[2] * (1 + scene.shape[0] / 80)
    for _ in range(max(1, round(tiles / 75e3))):
        radii = np.array([rng.uniform(22, 40), rng.uniform(16, 30), rng.uniform(40, 75)])
        _paint_stack(scene, radii, rng.uniform(8.5, 11), 1.8, rng.uniform(90, 260))
    for _ in range(max(1, round(tiles / 150e3))):
        radii = np.array([rng.uniform(22, 34), rng.uniform(11, 16), rng.uniform(26, 42)])
        _paint_stack(scene, radii, rng.uniform(5.2, 6.2), 1.2, rng.uniform(50, 110))


def _paint_stack(scene: Scene, radii: np.ndarray, spacing: float, half_width: float, bend: float) -> None:
    """Parallel sheets: shells `spacing` px apart around a far point (`bend` px off), cut by an ellipsoid."""
    rng = scene.rng
    normal = direction(rng, 0.4)
    across = np.cross(normal, direction(rng))
    across /= np.sqrt(across @ across)
    axes = np.stack([np.cross(normal, across), normal, across])
    for _ in range(40):
        centre = rng.uniform(0, 1, 3) * scene.shape
        if scene.is_free(centre):
            break
    else:
        return
    box = box_between(centre - radii.max(), centre + radii.max(), scene.shape)
    assert box is not None  # the centre lies in the volume
    z, y, x = offsets(box, centre)
    q = 0
    for axis, radius in zip(axes, radii):
        q = q + ((z * axis[0] + y * axis[1] + x * axis[2]) / radius) ** 2
    inside = (q + 0.18 * scene.wobble[box] < 1) & scene.free[box]
    z, y, x = offsets(box, centre - bend * normal)
    shells = np.sqrt(z * z + y * y + x * x) - bend + 3.0 * scene.swell[box] + 0.9 * scene.wobble[box]
    distance = np.abs(shells - spacing * np.round(shells / spacing))
    broken = scene.mottle[box] + 0.8 * scene.wobble[box] < -1.5
    where = np.zeros(scene.shape, bool)
    where[box] = inside & (distance < 4) & ~broken
    _paint_sheet(scene, where, distance[where[box]], scene.mottle[where], half_width)
    scene.free[box] &= ~ndimage.binary_erosion(inside, iterations=2)


def _paint_sheet(scene: Scene, where: np.ndarray, distance: np.ndarray, dots: np.ndarray, half_width: float) -> None:
    """Cisterna: light lumen between two membranes `half_width` px off its middle."""
    s = scene.stain
    h = half_width
    value = np.interp(distance, (0, h - 1, h, h + 1), (s.lumen, s.lumen, s.membrane + 0.08, s.membrane + 0.14))
    alpha = np.interp(distance, (0, h + 0.3, h + 1.2), (0.85, 0.85, 0))
    # ribosomes sit on the outer face
    ribosome = np.interp(distance, (h, h + 0.8, h + 2.2), (0, 0.8, 0)) * ramp(dots, 0.3, 1.0)
    grey = scene.grey[where]
    grey += alpha * (value - grey)
    grey += ribosome * (s.membrane + 0.05 - grey)
    scene.grey[where] = grey
