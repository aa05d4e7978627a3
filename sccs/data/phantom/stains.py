"""How specimens take the stain and how each was imaged: the numbers that tell one phantom volume from the next."""

from __future__ import annotations

from dataclasses import dataclass


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
