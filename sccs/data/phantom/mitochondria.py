"""Paints mitochondria: bent tubes with two membranes and cristae."""

from __future__ import annotations

import numpy as np

from sccs.data.phantom.geometry import CROSS, Tube, bent_tube, direction, ramp
from sccs.data.phantom.scene import MITOCHONDRIA, Scene


def paint_mitochondria(scene: Scene) -> None:
    """Paint mitochondria until they fill their share of the cell, or no room is left."""
    goal = scene.stain.mitochondria_fraction * np.count_nonzero(scene.cell < 0.5)
    attempts = 300 + int(2e-4 * scene.grey.size)
    filled = 0
    for _ in range(attempts):
        if filled >= goal:
            break
        filled += _paint_mitochondrion(scene)


def _paint_mitochondrion(scene: Scene) -> int:
    """One bent tube with two membranes and cristae; returns the voxels it took inside the cell (0: no room)."""
    rng, s = scene.rng, scene.stain
    radius, length = rng.uniform(10.5, 15.5), rng.uniform(45, 150)
    heading, step = direction(rng, 0.55), 8.0
    bend = rng.standard_normal(3) * 0.06
    path = [scene.centre(radius)]
    if not scene.is_free(path[0]):
        return 0
    for _ in range(int(length / step)):
        heading = heading + bend + rng.standard_normal(3) * 0.08
        heading /= np.sqrt(heading @ heading)
        path.append(path[-1] + step * heading)
    points = np.array(path)
    if not scene.is_free(points[:, None] + 0.9 * radius * CROSS):
        return 0
    radii = radius * (1 + 0.08 * np.cumsum(rng.standard_normal(len(points))) / np.sqrt(len(points)))
    across = np.cross(heading, direction(rng))
    across /= np.sqrt(across @ across)
    tube = bent_tube(points, radii, np.stack([across, np.cross(heading, across)]), scene.shape)
    if tube is None:
        return 0
    box, wobble = tube.box, scene.wobble[tube.box]
    d = tube.d + 0.7 * wobble
    if not scene.claim(box, d < 0.5, d < 3.5, MITOCHONDRIA):
        return 0
    cristae = _cristae(scene, tube, d, wobble, radius)
    matrix = s.matrix + rng.uniform(-0.05, 0.05) + 0.02 * scene.mottle[box] + 0.025 * scene.grain[box]
    value = matrix + cristae
    wall = np.interp(d, (-5, -4, -3, -1.7, -0.3, 1), (0, 0.5, 0.8, 0.75, 1, 1))
    tone = np.interp(
        d, (-4, -3, -1.7, -0.3, 1), (s.membrane + 0.04, s.membrane + 0.04, s.matrix + 0.10, s.membrane, s.membrane)
    )
    value = value + wall * (tone - value)
    scene.blend(box, value, ramp(-d, -1.3, 0.2))
    return int(np.count_nonzero((d < 0.5) & (scene.cell[box] < 0.5)))


def _cristae(scene: Scene, tube: Tube, d: np.ndarray, wobble: np.ndarray, radius: float) -> np.ndarray:
    """Grey value change by lamellae: thin sheets across or along the tube, light core between dark membranes."""
    rng = scene.rng
    spacing = rng.uniform(5.5, 8.0)
    swell = scene.swell[tube.box]
    if rng.uniform() < 0.75:
        phase = tube.s + rng.uniform(-0.4, 0.4) * tube.u + 1.3 * wobble + 3 * swell
    else:
        phase = tube.u + 1.3 * wobble + 4 * swell
    phase = phase / spacing + 50
    number = np.floor(phase)
    distance = np.abs(phase - number - 0.5) * spacing
    number = number.astype(int) % 64
    # each lamella grows from one side of the tube and ends somewhere on its way
    angle, depth = rng.uniform(0, 2 * np.pi, 64), rng.uniform(0, 1.0, 64)
    side = np.cos(angle)[number] * tube.u + np.sin(angle)[number] * tube.v
    present = (side < depth[number] * radius) & (d < -2.5)
    profile = np.interp(distance, (0, 0.6, 1.5, 2.4), (0.18, 0.1, -0.21, 0))
    return profile * present
