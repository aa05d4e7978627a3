"""Paints the cell itself: cytoplasm, plasma membranes, and the nucleus with its envelope, chromatin and nucleoli."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from sccs.data.phantom.fields import smooth_field
from sccs.data.phantom.geometry import box_between, offsets, ramp
from sccs.data.phantom.scene import NUCLEUS, Scene


def paint_cells(scene: Scene) -> None:
    """Cytoplasm with its grain, extracellular space, and plasma membranes as thin dark lines."""
    s = scene.stain
    dots = np.clip(scene.grain - 0.6, 0, 0.9)  # ribosomes and filaments: sparse dark dots
    clouds = 0.08 * scene.mottle + 0.03 * scene.wobble + 0.02 * scene.swell
    cytoplasm = s.cytoplasm + clouds - 0.35 * dots + 0.09
    inside = np.maximum(-scene.cell, scene.neighbour)
    scene.grey = (s.outside + 0.02 * scene.mottle).astype(np.float32)
    scene.grey += ramp(inside, -0.8, 0.8) * (cytoplasm - scene.grey)
    line = np.clip(1.45 - np.abs(inside), 0, 1)
    scene.grey += line * (s.membrane - scene.grey)


def paint_nucleus(scene: Scene) -> None:
    """Even, fine-grained euchromatin, heterochromatin at the rim, a nucleolus, and the envelope with its pores."""
    s, d, rng = scene.stain, scene.nucleus, scene.rng
    box = box_between(*_nucleus_extent(scene), scene.shape)
    if box is None:
        return
    d = d[box]
    grain, mottle = scene.grain[box], scene.mottle[box]
    patches = 0.8 * smooth_field(rng, d.shape, 10) + 0.3 * scene.wobble[box] + 0.2 * mottle
    rim = ramp(d, -14, -7)
    hetero = ramp(patches + 2.0 * rim + s.heterochromatin_share, 1.5, 2.1)
    pores = (rng.random(d.shape, np.float32) < 4e-3) & (np.abs(d + 1.5) < 0.8)
    pores = ndimage.binary_dilation(pores, ndimage.generate_binary_structure(3, 1), iterations=5)
    pores = ndimage.uniform_filter(pores.astype(np.float32), 3)
    channels = np.minimum(2.5 * ndimage.uniform_filter(pores, 9), 1)  # chromatin keeps clear of pores
    hetero *= 1 - channels
    chromatin = s.euchromatin + 0.015 * mottle + 0.052 * grain + hetero * (s.heterochromatin - s.euchromatin)
    scene.blend(box, chromatin, ramp(-d, -0.5, 0.5))
    _paint_nucleolus(scene)
    # outer membrane at d = 0, inner at d = -3, the light perinuclear space between
    shell = np.interp(
        d,
        (-5, -4, -3, -1.5, 0, 1.2),
        (s.heterochromatin, s.membrane, s.membrane + 0.03, s.lumen, s.membrane, s.membrane + 0.05),
    )
    alpha = np.interp(d, (-5, -4, 1, 2), (0, 1, 1, 0))
    scene.blend(box, shell, alpha * (1 - pores))
    scene.labels[box][d < 0.5] = NUCLEUS


def _nucleus_extent(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    reach = scene.nucleus_radii * 1.35 + 20
    return scene.nucleus_centre - reach, scene.nucleus_centre + reach


def _paint_nucleolus(scene: Scene) -> None:
    rng, s = scene.rng, scene.stain
    radii = rng.uniform(13, 19) * rng.uniform(0.85, 1.15, 3)
    centre = scene.nucleus_centre + rng.uniform(-0.5, 0.5, 3) * scene.nucleus_radii * (0.2, 1, 1)
    box = box_between(centre - 1.4 * radii, centre + 1.4 * radii, scene.shape)
    if box is None:
        return
    z, y, x = (o / r for o, r in zip(offsets(box, centre), radii))
    d = (np.sqrt(z * z + y * y + x * x) - 1) * radii.mean() + 2.5 * scene.wobble[box]
    inside = np.minimum(ramp(-d, -2, 2), ramp(-scene.nucleus[box], 8, 14))
    strands = ramp(scene.mottle[box], -0.6, 0.9)
    scene.blend(box, s.nucleolus + 0.07 * strands + 0.03 * scene.grain[box], 0.92 * inside)
