"""Orthogonal planes: a volume (Z, Y, X) as a stack of xy, xz or yz planes, and back."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np

from registry.base import UserError
from sccs.data.lazy import SLAB_BYTES, VolumeArray, basic_key
from sccs.system.files import full_temporary

Plane = Literal["xy", "xz", "yz"]
ORDERS = {"xy": (0, 1, 2), "xz": (1, 0, 2), "yz": (2, 0, 1)}  # axes of (Z, Y, X): across, rows, columns
ISOTROPIC = 1.5  # planes through z need voxels whose sides differ by no more than this factor


def axes_of(plane: Plane) -> str:
    """Letters of the axes in the order of the stack: "zyx", "yzx" or "xzy"."""
    return "".join("zyx"[axis] for axis in ORDERS[plane])


def turn(values: Sequence, plane: Plane) -> tuple:
    """Three values in the order (z, y, x) -> (across, rows, columns) of the plane."""
    return tuple(values[axis] for axis in ORDERS[plane])


def turn_back(values: Sequence, plane: Plane) -> tuple:
    """The inverse of `turn`."""
    return tuple(values[axis] for axis in np.argsort(ORDERS[plane]))


def check_plane(plane: Plane, voxel_size: Sequence[float] | None, path: str) -> None:
    """Raises UserError for planes through z if the voxel size (z, y, x) nm is unknown or clearly anisotropic, as models
    expect square pixels."""
    if plane not in ORDERS:
        raise UserError(f"plane: {plane!r} is not one of {', '.join(ORDERS)}")
    if plane == "xy":
        return
    if voxel_size is None:
        raise UserError(
            f"{path}: its voxel size is unknown, but {plane} planes need nearly isotropic voxels; "
            "give the voxel size (z, y, x in nm), or use plane xy"
        )
    if max(voxel_size) > ISOTROPIC * min(voxel_size):
        sizes = " x ".join(f"{size:g}" for size in voxel_size)
        raise UserError(
            f"{path}: voxels of {sizes} nm (z, y, x) are not isotropic, so {plane} planes would be distorted; "
            "rescale the image to isotropic voxels, or use plane xy"
        )


class TurnedArray:
    """A lazy array (Z, Y, X) as a stack (S, H, W) of planes; both read by basic slices.

    Each plane crosses all slices of a file, so several planes are read at once, and the latest are kept.
    """

    ndim = 3

    def __init__(self, array: VolumeArray, plane: Plane):
        self.array, self.plane = array, plane
        self.shape, self.dtype = turn(array.shape, plane), np.dtype(array.dtype)
        self._slab: tuple[tuple[range, range, range], np.ndarray] | None = None

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_slab": None}

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)

    def __getitem__(self, key: Any) -> np.ndarray:
        spans, drop = basic_key(key, self.shape)
        return self._read(*spans)[tuple(0 if dropped else slice(None) for dropped in drop)]

    def _read(self, across: range, rows: range, columns: range) -> np.ndarray:
        if isinstance(self.array, np.ndarray) or len(across) != 1 or not (rows and columns):
            return self._load(across, rows, columns)
        first = across[0]
        if self._slab is None or self._slab[0][1:] != (rows, columns) or first not in self._slab[0][0]:
            plane = len(rows) * len(columns) * self.dtype.itemsize
            stop = min(first + max(1, SLAB_BYTES // 4 // plane), self.shape[0])
            self._slab = None  # never keep two
            self._slab = (range(first, stop), rows, columns), self._load(range(first, stop), rows, columns)
        return self._slab[1][[first - self._slab[0][0][0]]]

    def _load(self, *spans: range) -> np.ndarray:
        key = tuple(slice(span.start, span.stop, span.step) for span in turn_back(spans, self.plane))
        return np.ascontiguousarray(np.asarray(self.array[key]).transpose(ORDERS[self.plane]))


def turned(array: VolumeArray, plane: Plane) -> VolumeArray:
    """`array` (Z, Y, X) as the stack of a plane; itself for xy."""
    return array if plane == "xy" else TurnedArray(array, plane)


def restored(planes: Iterable[np.ndarray], shape: Sequence[int], plane: Plane) -> Iterator[np.ndarray]:
    """Label planes (H, W) uint8 of a stack -> slices (Y, X) of the volume `shape` (Z, Y, X), in order.

    xy planes pass through. Others are first collected in a temporary file, as every slice needs all of them, and then
    read a few slices at a time. Raises UserError if the disk with that file is full.
    """
    if plane == "xy":
        yield from planes
        return
    across, rows, columns = turn(shape, plane)  # rows are along z
    at_once = max(1, SLAB_BYTES // 4 // (across * columns))
    with tempfile.TemporaryFile(buffering=0) as file:  # nameless, so that nothing is left if the command is killed
        for labels in planes:
            rest = np.ascontiguousarray(labels, np.uint8).data.cast("B")
            try:
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError as error:
                raise full_temporary(error) from error
        for first in range(0, rows, at_once):
            slab = np.zeros((across, min(at_once, rows - first), columns), np.uint8)
            for index in range(across):
                file.seek((index * rows + first) * columns)
                file.readinto(slab[index])
            for piece in slab.transpose(turn_back(range(3), plane)):
                yield np.array(piece)
