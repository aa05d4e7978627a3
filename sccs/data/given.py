"""Turn what a caller gives (a file, an array or a Volume) into a Volume."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from registry.base import UserError
from sccs.data.tiler import WINDOW
from sccs.data.volumes import Dataset, Volume


def as_volume(
    given: Any,
    name: str,
    voxel_size: Sequence[float] | float | None = None,
    fov: int | str = 560,
    min_side: int = WINDOW,
) -> Volume:
    """A file or an array (Z, Y, X) or (Y, X) as a Volume; any object that has a shape and can be sliced will do.

    voxel_size: nm, (z, y, x) or one number, for arrays and for files that do not give it. A file's volume is
    named after it. Raises UserError for anything else.
    """
    if isinstance(given, Volume):
        return given
    if isinstance(given, (str, os.PathLike)):
        from sccs.data.loading import stem
        from sccs.data.readers import open_image

        source = open_image(given, voxel_size=voxel_size)
        return Volume(
            stem(os.fspath(given)),
            source.array,
            path=source.path,
            voxel_size=source.voxel_size,
            fov=fov,
            min_side=min_side,
        )
    from sccs.data.readers import voxel_size_of

    array, size = as_array(given, name), voxel_size_of(voxel_size, name)
    return Volume(name, array, path=name, voxel_size=size, fov=fov, min_side=min_side)


def as_array(given: Any, name: str) -> Any:
    """An array (Z, Y, X), lazy if `given` is; a tensor becomes NumPy's, an image (Y, X) a single slice, booleans 0 and
    1. Raises UserError, with its `name`, for anything else."""
    if not hasattr(given, "shape"):
        raise UserError(f"{name}: a {type(given).__name__} is not an image; give a file's path or an array (Z, Y, X)")
    if isinstance(given, np.ma.MaskedArray):
        raise UserError(f"{name}: is a masked array; fill it, and give the mask in a recipe (`data`, `mask`)")
    if hasattr(given, "detach"):  # a torch tensor
        given = given.detach().cpu().numpy()
    shape = tuple(given.shape)
    if any(n != n for n in shape):  # NaN: a Dask array after a selection
        raise UserError(f"{name}: an array of unknown shape {shape}; call its compute_chunk_sizes() first")
    if len(shape) not in (2, 3):
        raise UserError(f"{name}: an array of shape {shape} is neither a volume (Z, Y, X) nor an image (Y, X)")
    if 0 in shape:
        raise UserError(f"{name}: an array of shape {shape} has no pixels")
    kind = np.dtype(getattr(given, "dtype", np.float32)).kind  # arrays that only read by slices may lack it
    if kind not in "biufO":
        raise UserError(f"{name}: pixels are {given.dtype}, but must be integers or real numbers; convert them")
    if kind == "b":
        given = (given if hasattr(given, "astype") else np.asarray(given)).astype(np.uint8)  # Dask's is lazy
    return np.asarray(given)[None] if len(shape) == 2 else given


def as_dataset(given: Any, voxel_size: Sequence[float] | float | None, min_side: int) -> Dataset:
    """One or several files, arrays or Volumes as the training volumes of a data set. Raises as `as_volume` does."""
    one = isinstance(given, (str, os.PathLike, Volume)) or hasattr(given, "shape")
    if not one and not isinstance(given, Iterable):
        raise UserError(f"a {type(given).__name__} is not an image; give files or arrays (Z, Y, X), one or a list")
    many: Iterable[Any] = [given] if one else given
    volumes: list[Volume] = []
    for i, volume in enumerate(many):
        named = as_volume(volume, f"volume{i}", voxel_size, min_side=min_side)
        if named is not volume and named.name in {other.name for other in volumes}:  # a.tif of two folders
            named.name += f"-{i}"
        volumes.append(named)
    return Dataset("arrays", volumes, [], {})
