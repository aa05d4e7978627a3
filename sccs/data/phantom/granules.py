"""Paints round bodies: granules, vesicles, and the lysosomes and lipid droplets that resemble granules."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from sccs.data.phantom.geometry import direction, offsets, ramp
from sccs.data.phantom.scene import GRANULES, UNRECOGNIZED, Scene

RADII = (8.5, 11.0)  # px, of granules
ROUNDS = 8  # of looking for room


def paint_confounders(scene: Scene) -> None:
    """Lysosomes (dark, patchy) and lipid droplets (even, grey): `unrecognized`, yet like granules at a glance."""
    s, rng = scene.stain, scene.rng
    wanted = max(2, round(np.count_nonzero(scene.free) / 4.5e5))
    for kind in ("lysosome", "lipid"):
        placed = 0
        for _ in range(30 * wanted):
            if placed >= wanted:
                break
            radius = rng.uniform(9, 19) if kind == "lysosome" else rng.uniform(7, 13)
            centre = scene.centre(radius)
            ball = scene.is_free(centre) and scene.ball(centre, radius * rng.uniform(0.85, 1.2, 3), 1.2)
            if not ball:
                continue
            box, d = ball
            if not scene.claim(box, d < 0.5, d < 3, UNRECOGNIZED):
                continue
            if kind == "lysosome":
                value = 0.36 + 0.13 * scene.mottle[box] + 0.08 * scene.wobble[box] + 0.03 * scene.grain[box]
            else:
                value = 0.66 + 0.01 * scene.mottle[box]
            rim = np.clip(1.6 - np.abs(d), 0, 1)
            scene.blend(box, value + rim * (s.membrane - value), ramp(-d, -1, 0.3))
            placed += 1


def paint_granules(scene: Scene) -> None:
    """Paint granules until they fill their share of the cell, or no room is left; each lies close to something else."""
    goal = scene.stain.granule_fraction * np.count_nonzero(scene.cell < 0.5)
    rng, filled = scene.rng, 0
    for _ in range(ROUNDS):
        room = 2 * ndimage.distance_transform_edt(scene.free[::2, ::2, ::2])
        spots = np.argwhere((room > RADII[0]) & (room < RADII[1] + 3))
        for spot in rng.permutation(spots)[: scene.grey.size // 8000]:
            if filled >= goal:
                return
            radius = rng.uniform(*RADII)
            if radius < room[tuple(spot)]:
                filled += _paint_granule(scene, 2 * spot + rng.uniform(-0.5, 0.5, 3), radius)


def _paint_granule(scene: Scene, centre: np.ndarray, radius: float) -> int:
    """Dense-core granule: membrane, light halo, dark core off centre; immature ones are grey and full.

    Returns the voxels that it took inside the cell (0: no room).
    """
    rng, s = scene.rng, scene.stain
    ball = scene.ball(centre, radius * rng.uniform(0.92, 1.08, 3), 0.35)
    if ball is None:
        return 0
    box, d = ball
    if not scene.claim(box, d < 0.5, d < 1.0, GRANULES):
        return 0
    if rng.uniform() < s.immature_share:
        core, dark = radius * rng.uniform(0.86, 0.95), s.immature + rng.uniform(-0.08, 0.08)
        halo, soft = 0.5 * (s.halo + s.cytoplasm), 1.6
    else:
        core = radius * (rng.uniform(0.8, 0.92) if rng.uniform() < 0.85 else rng.uniform(0.6, 0.8))
        dark = s.core + rng.uniform(-0.05, 0.08)
        halo, soft = s.halo + rng.uniform(-0.07, 0.05), 1.0
    shift = direction(rng) * rng.uniform(0, 0.8) * max(0, radius - core - 1)
    z, y, x = offsets(box, centre + shift)
    shape = rng.uniform(0.88, 1.12, 3)
    e = np.sqrt((z / shape[0]) ** 2 + (y / shape[1]) ** 2 + (x / shape[2]) ** 2) - core + 0.5 * scene.wobble[box]
    value = halo + 0.02 * scene.mottle[box]
    value = value + ramp(-e, -soft, soft) * (dark + 0.025 * scene.grain[box] - value)
    rim = np.clip(1.3 - np.abs(d), 0, 1) * 0.7
    value = value + rim * (s.membrane + 0.08 - value)
    scene.blend(box, value, ramp(-d, -1, 0.3))
    return int(np.count_nonzero((d < 0.5) & (scene.cell[box] < 0.5)))


def paint_vesicles(scene: Scene) -> None:
    """Paint small clear vesicles in the remaining room."""
    s, rng = scene.stain, scene.rng
    for _ in range(int(1.4e-3 * np.count_nonzero(scene.free))):
        radius = rng.uniform(1.8, 4.2)
        centre = scene.centre(radius)
        ball = scene.is_free(centre) and scene.ball(centre, np.full(3, radius), 0.2)
        if not ball:
            continue
        box, d = ball
        if scene.claim(box, d < 0.5, d < 1.5, UNRECOGNIZED):
            rim = np.clip(1.4 - np.abs(d), 0, 1) * 0.75
            scene.blend(box, s.lumen + rim * (s.membrane + 0.05 - s.lumen), ramp(-d, -1, 0.3))
