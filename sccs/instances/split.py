"""Objects that touch, parted: a watershed on the distance to the surface, from its peaks, in nm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MOST = 1 << 22  # voxels of the box that an object is split in
LEAST = 64  # voxels of an object that is split
STEPS = 16  # that the depth of a peak is told in


def default_depth(voxel_size: Sequence[float], shape: Sequence[int]) -> float:
    """Two voxel edges: their geometric mean, of axes that the image has."""
    edges = [size for size, n in zip(voxel_size, shape) if n > 1]
    return 2 * float(np.exp(np.mean(np.log(edges or voxel_size))))


def split(
    mask: np.ndarray, voxel_size: Sequence[float], depth: float, connectivity: int, axes: Sequence[int] = (0, 1, 2)
) -> np.ndarray:
    """Parts 1, 2, ... uint32 of one object, `mask` (Z, Y, X) bool in its own box; 0 elsewhere.

    A peak of the distance to the surface makes a part where the way to any higher peak leads down by `depth` (nm) or
    more: of two balls of radius R that touch by a neck of radius r, R - r. connectivity: 6, 18 or 26. axes: those that
    the image has; a 2-D image lacks one.
    """
    import edt
    from scipy.ndimage import generate_binary_structure, label
    from skimage.morphology import local_maxima, reconstruction
    from skimage.segmentation import watershed

    plain = tuple(slice(None) if axis in axes else 0 for axis in range(3))
    padded = np.pad(mask[plain], 1)  # beyond its box an object has a surface, at the image's border too
    distance = edt.edt(padded, anisotropy=[voxel_size[axis] for axis in axes])
    height = np.rint(distance * (STEPS / depth)).astype(np.int32)  # whole numbers: peaks as high as another are equal
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
