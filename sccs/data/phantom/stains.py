"""How specimens take the stain and how each was imaged: the numbers that tell one phantom volume from the next."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stain:
    """How one specimen takes the stain and how it was imaged. Grey values: 0 = black, 1 = white."""

    cytoplasm: float = 0.64
    membrane: float = 0.27
    lumen: float = 0.80  # inside of ER and vesicles
    outside: float = 0.82  # extracellular space
    euchromatin: float = 0.54
    heterochromatin: float = 0.40
    heterochromatin_share: float = 0.0  # shifts the threshold; larger is more
    nucleolus: float = 0.38
    matrix: float = 0.47
    core: float = 0.15
    halo: float = 0.80
    immature: float = 0.38
    immature_share: float = 0.15
    granule_fraction: float = 0.18  # of the cell's voxels
    mitochondria_fraction: float = 0.12
    gain: float = 1.0  # contrast around mid grey
    bias: float = 0.0
    blur: float = 0.7  # px, standard deviation
    shot: float = 0.040  # noise at white, standard deviation
    read: float = 0.020  # noise at black
    curtain: float = 0.018
    drift: float = 0.05


STAINS = (
    Stain(),
    Stain(
        cytoplasm=0.66,
        euchromatin=0.55,
        heterochromatin=0.39,
        heterochromatin_share=0.15,
        core=0.18,
        matrix=0.49,
        halo=0.83,
        gain=1.1,
        bias=0.02,
        shot=0.046,
        granule_fraction=0.17,
        immature_share=0.2,
        curtain=0.012,
    ),
    Stain(
        cytoplasm=0.62,
        euchromatin=0.53,
        heterochromatin=0.41,
        core=0.13,
        matrix=0.45,
        halo=0.78,
        gain=0.9,
        bias=-0.03,
        blur=0.8,
        shot=0.034,
        read=0.024,
        granule_fraction=0.19,
        curtain=0.025,
    ),
    Stain(
        cytoplasm=0.65,
        euchromatin=0.54,
        heterochromatin=0.40,
        heterochromatin_share=0.05,
        core=0.16,
        matrix=0.47,
        halo=0.81,
        gain=0.95,
        bias=0.03,
        blur=0.75,
        shot=0.043,
        immature_share=0.18,
    ),
)
