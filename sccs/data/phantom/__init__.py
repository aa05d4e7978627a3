"""The bundled data set: seeded synthetic volume EM of pancreatic beta-like cells, with exact labels.

Every structure is defined in 3-D (distances to surfaces, level sets of smooth fields), so that slices along any axis
are coherent. Sizes in this package are in voxels of 16 nm, after FIB-SEM of high-pressure frozen mouse beta cells
(Mueller et al. 2021, J. Cell Biol., "BetaSeg"): a granule is 17 to 22 px across (270 to 350 nm), a mitochondrion 21 to
31 px (340 to 500 nm). Of the cell's area about .13 is nucleus, .18 granules, .12 mitochondria. The specimen is
painted as if stained (cytoplasm, nucleus, membranes, organelles, each with its texture, 0 = black, 1 = white) and then
imaged as a FIB-SEM would (blur, shading, curtains, drift, noise).

Grey values overlap on purpose: euchromatin, mitochondrial matrix and much of the cytoplasm differ in texture more than
in grey value. k-means on features of the bundled MAE scores about as high as the paper's k-means on real cells; k-means
on grey values scores clearly lower (`benchmarks/studies/phantom.py`).

Results must not depend on the machine: whatever may differ in its last bits (sums, sines) is evaluated in float64
and rounded later, the rest is plain arithmetic, and every volume has its own seed sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from registry.base import UserError
from sccs.data.phantom.cell import paint_cells, paint_nucleus
from sccs.data.phantom.granules import paint_confounders, paint_granules, paint_vesicles
from sccs.data.phantom.microscope import record
from sccs.data.phantom.mitochondria import paint_mitochondria
from sccs.data.phantom.reticulum import paint_endoplasmic_reticulum, paint_stacks
from sccs.data.phantom.scene import CLASSES, GRANULES, IGNORE, MITOCHONDRIA, NUCLEUS, Scene
from sccs.data.phantom.stains import STAINS, Stain

__all__ = ["CLASSES", "GRANULES", "IGNORE", "MITOCHONDRIA", "NUCLEUS", "PhantomVolume", "make_phantom"]

SHAPES = ((24, 560, 560), (24, 520, 560), (24, 560, 540), (24, 540, 560))  # one FOV a slice


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


def make_phantom(
    seed: int = 0, *, shapes: Sequence[Sequence[int]] = SHAPES, voxel_nm: float = 16.0
) -> list[PhantomVolume]:
    """Synthetic volumes `phantom_c1`, `phantom_c2`, ...; with the default shapes c1 to c3 train and c4 tests.

    Volume i depends on `seed`, i and its own shape only. A cell fills each volume of 500 px or more (Y, X); smaller
    volumes show a part of a cell with nucleus and cytoplasm. Structures are drawn in voxels: `voxel_nm` is
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
        z, y, x = map(int, shape)
        image, labels = _make_volume(np.random.default_rng(sequence), (z, y, x), STAINS[i % len(STAINS)])
        volumes.append(PhantomVolume(f"phantom_c{i + 1}", image, labels, (float(voxel_nm),) * 3))
    return volumes


def _make_volume(rng: np.random.Generator, shape: tuple[int, int, int], stain: Stain) -> tuple[np.ndarray, np.ndarray]:
    scene = Scene(rng, shape, stain)
    paint_cells(scene)
    paint_nucleus(scene)
    paint_endoplasmic_reticulum(scene)
    paint_stacks(scene)
    paint_mitochondria(scene)
    paint_confounders(scene)
    paint_granules(scene)
    paint_vesicles(scene)
    return record(rng, scene.grey, stain), scene.final_labels()
