"""Where a volume has tissue: masks, which may be coarser than the image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from registry.base import UserError
from sccs.data.lazy import VolumeArray
from sccs.data.planes import Plane, turn, turned

Inside = Callable[[int, slice, slice], np.ndarray]  # slice z, rows, columns of the region -> (h, w) bool


class Mask:
    """The part of a region to use, read from a mask image that may be coarser than the region; 0 leaves a voxel out.

    array: the mask; shape: of the image; origin: of the region; all in the file's order (z, y, x). path: the mask's,
    for messages. Raises UserError if the shapes do not fit.
    """

    def __init__(self, array: VolumeArray, shape: Sequence[int], origin: Sequence[int], path: str, plane: Plane = "xy"):
        self.array, self.origin = turned(array, plane), turn(tuple(origin), plane)
        factors = [max(1, round(n / m)) for n, m in zip(shape, array.shape)]
        if any(abs(n - m * f) >= f for n, m, f in zip(shape, array.shape, factors)):
            raise UserError(
                f"{path}: has shape {tuple(array.shape)} (z, y, x), but the image has {tuple(shape)}; "
                "a mask must have the same shape, or be coarser by integer factors"
            )
        self.factors = turn(tuple(factors), plane)

    def __call__(self, z: int, y: slice, x: slice) -> np.ndarray:
        """(h, w) bool of a window of slice z, rows y, columns x of the region's planes."""
        index = []
        for axis, (start, stop) in enumerate(((z, z + 1), (y.start, y.stop), (x.start, x.stop))):
            at = (np.arange(start, stop) + self.origin[axis]) // self.factors[axis]
            index.append(np.minimum(at, self.array.shape[axis] - 1))
        part = self.array[index[0][0], index[1][0] : index[1][-1] + 1, index[2][0] : index[2][-1] + 1] != 0
        return part[index[1] - index[1][0]][:, index[2] - index[2][0]]
