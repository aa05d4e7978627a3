"""Split touching objects by a watershed on the distance to the surface (nm), from its peaks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MOST = 1 << 22  # voxels of the box in which an object is split
LEAST = 64  # voxels of the smallest object to split
STEPS = 16  # resolution of a peak's depth


def default_depth(voxel_size: Sequence[float], shape: Sequence[int]) -> float:
    """Twice the geometric mean of the voxel edges, over the image's axes."""
    edges = [size for size, n in zip(voxel_size, shape) if n > 1]
    return 2 * float(np.exp(np.mean(np.log(edges or voxel_size))))


def split(
    mask: np.ndarray, voxel_size: Sequence[float], depth: float, connectivity: int, axes: Sequence[int] = (0, 1, 2)
) -> np.ndarray:
    """Parts 1, 2, ... uint32 of one object, `mask` (Z, Y, X) bool in its own box; 0 elsewhere.

    A peak of the distance to the surface makes a part if every path to a higher peak descends by at least `depth` (nm):
    for two balls of radius R joined by a neck of radius r, that is R - r. connectivity: 6, 18 or 26. axes: those of the
    image; a 2-D image lacks one.
    """
    import edt
    from scipy.ndimage import generate_binary_structure, label
    from skimage.morphology import local_maxima, reconstruction
    from skimage.segmentation import watershed

    plain = tuple(slice(None) if axis in axes else 0 for axis in range(3))
    padded = np.pad(mask[plain], 1)  # an object's surface includes its box's faces, even at the image's border
    distance = edt.edt(padded, anisotropy=[voxel_size[axis] for axis in axes])
    height = np.rint(distance * (STEPS / depth)).astype(np.int32)  # integers, so that equally high peaks compare equal
    structure = generate_binary_structure(len(axes), {6: 1, 18: 2, 26: 3}[connectivity])
    low = reconstruction(np.maximum(height - STEPS, 0), height, footprint=structure)
    peaks = local_maxima(low.astype(np.int32), footprint=structure) & padded
    seeds, n = label(peaks, structure)
    if n < 2:
        return mask.astype(np.uint32)
    out = np.zeros(mask.shape, np.uint32)
    parts = watershed(-distance, seeds, connectivity=structure, mask=padded)
    out[plain] = parts[(slice(1, -1),) * len(axes)]
    return out
