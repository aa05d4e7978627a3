"""Write label volumes to TIFF or OME-Zarr, slice by slice, with voxel size, names and colours, atomically."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from registry.base import UserError
from registry.requirements import pip_install
from sccs.data.formats.zarr import is_zarr
from sccs.system.files import atomic_path, check_place

TIFF_SUFFIXES = (".tif", ".tiff")
ZARR_SUFFIXES = (".zarr",)
# Classic TIFF addresses 4 GiB, headers included; compression can lengthen incompressible data a little.
CLASSIC_TIFF_BYTES = 2**32 - 2**26
# The slices of a Zarr chunk layer are collected before they are written, up to this many bytes.
LAYER_BYTES = 64 * 2**20
_CHUNK = (32, 512, 512)
IN_PYTHON = "pass overwrite=True"  # a remedy, see `check_output`


def check_output(path: str | os.PathLike, overwrite: bool = False, remedy: str = "pass --overwrite") -> Path:
    """The output path, if it can be written: the suffix is known, and nothing exists there unless `overwrite`.

    remedy: how the caller's interface replaces an output.

    Raises
        UserError: another suffix; the file exists, or is a folder that is not an OME-Zarr.
    """
    path = Path(path)
    if path.suffix.lower() not in TIFF_SUFFIXES + ZARR_SUFFIXES:
        raise UserError(f"{path}: unknown output format {path.suffix!r}: name it .tif, .tiff or .ome.zarr")
    if os.path.lexists(path) and not overwrite:
        raise UserError(f"{path}: already exists; choose another name, or {remedy}")
    check_place(path, folder=path.suffix.lower() in ZARR_SUFFIXES)
    if path.is_dir() and any(path.iterdir()) and not is_zarr(str(path)):
        raise UserError(f"{path}: a folder that is not a Zarr store is never replaced: choose another name")
    return path


def write_labels(
    path: str | os.PathLike,
    slices: Iterable[np.ndarray],
    shape: Sequence[int],
    voxel_size: Sequence[float] | None = None,
    *,
    names: Mapping[int, str] | None = None,
    colours: Mapping[int, Sequence[int]] | None = None,
    overwrite: bool = False,
) -> None:
    """Write labels 0..255 as uint8: ``.tif``/``.tiff`` (ImageJ, or OME beyond 4 GB) or ``.zarr`` (OME-Zarr 0.5).

    slices: Z arrays (Y, X) of integers, taken one at a time, so that memory does not grow with the volume.
    shape: (Z, Y, X). voxel_size: (z, y, x) in nm, written to the file. names, colours: label -> name, and label ->
    (r, g, b) in 0..255: a lookup table in ImageJ files, `image-label` metadata in OME-Zarr.

    An exception, including one raised by `slices`, leaves `path` unchanged.

    Raises
        UserError: see `check_output`; `path` cannot be written.
        ValueError: number or shape of slices does not match `shape`, or labels beyond 0..255; a TIFF one pixel
        wide, which its metadata cannot tell from one with a channel axis.
    """
    path = check_output(path, overwrite, IN_PYTHON)
    shape = tuple(int(n) for n in shape)
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"shape {shape}: a volume has three axes (Z, Y, X), none of size 0")
    checked = _checked(slices, shape)
    names, colours = dict(names or {}), dict(colours or {})
    with atomic_path(path) as temporary:
        write = _write_tiff if path.suffix.lower() in TIFF_SUFFIXES else _write_zarr
        write(temporary, checked, shape, voxel_size, names, colours)
        if next(checked, None) is not None:
            raise ValueError(f"more slices than the expected {shape[0]}")


def _checked(slices: Iterable[np.ndarray], shape: tuple[int, int, int]) -> Iterator[np.ndarray]:
    count = 0
    for count, labels in enumerate(slices, start=1):
        labels = np.asarray(labels)
        if labels.shape != shape[1:]:
            raise ValueError(f"slice {count - 1} has shape {labels.shape}, expected {shape[1:]}")
        if labels.dtype != np.uint8:
            if labels.dtype.kind not in "biu" or labels.min() < 0 or labels.max() > 255:
                raise ValueError(f"slice {count - 1} ({labels.dtype}): labels must be integers in 0..255")
            labels = labels.astype(np.uint8)
        yield np.ascontiguousarray(labels)
    if count < shape[0]:
        raise ValueError(f"got {count} slices, expected {shape[0]}")


def _write_tiff(
    path: Path,
    slices: Iterator[np.ndarray],
    shape: tuple[int, ...],
    voxel_size: Sequence[float] | None,
    names: Mapping[int, str],
    colours: Mapping[int, Sequence[int]],
) -> None:
    import tifffile

    if shape[2] == 1:
        raise ValueError(f"shape {shape}: a TIFF one pixel wide is ambiguous")
    big = math.prod(shape) > CLASSIC_TIFF_BYTES
    resolution = None if voxel_size is None else (1 / voxel_size[2], 1 / voxel_size[1])
    if big:  # ImageJ's own layout ends at 4 GB
        metadata: dict = {"axes": "ZYX"}
        if voxel_size is not None:
            for axis, size in zip("ZYX", voxel_size):
                metadata |= {f"PhysicalSize{axis}": float(size), f"PhysicalSize{axis}Unit": "nm"}
        resolution = None
    else:
        metadata = {"axes": "ZYX", "mode": "grayscale", "min": 0, "max": 255}
        if voxel_size is not None:
            metadata |= {"spacing": float(voxel_size[0]), "unit": "nm"}
        if names:
            metadata["Info"] = "\n".join(f"{label} = {names[label]}" for label in sorted(names))
        if colours:
            metadata |= {"LUTs": [_lookup_table(colours)], "Ranges": (0.0, 255.0)}
    with tifffile.TiffWriter(path, bigtiff=big, ome=big, imagej=not big) as tif:
        tif.write(
            _exactly(slices, shape[0]),
            shape=shape,
            dtype=np.uint8,
            photometric="minisblack",
            compression="zlib",
            resolution=resolution,
            metadata=metadata,
            maxworkers=1,
        )


def _exactly(slices: Iterator[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """`count` slices; a missing one raises in `_checked`."""
    for _ in range(count):
        try:
            yield next(slices)
        except StopIteration:
            return


def _lookup_table(colours: Mapping[int, Sequence[int]]) -> np.ndarray:
    """(3, 256) uint8; labels without a colour are grey levels."""
    table = np.tile(np.arange(256, dtype=np.uint8), (3, 1))
    for label, colour in colours.items():
        table[:, label] = colour[:3]
    return table


def _write_zarr(
    path: Path,
    slices: Iterator[np.ndarray],
    shape: tuple[int, ...],
    voxel_size: Sequence[float] | None,
    names: Mapping[int, str],
    colours: Mapping[int, Sequence[int]],
) -> None:
    try:
        import zarr
    except ImportError as error:
        raise UserError(f"{path.name}: writing OME-Zarr needs zarr: {pip_install('zarr')}") from error
    depth = max(1, min(_CHUNK[0], shape[0], LAYER_BYTES // (shape[1] * shape[2])))
    group = zarr.create_group(path, zarr_format=3, attributes={"ome": _ome(voxel_size, names, colours)})
    array = group.create_array(
        "0",
        shape=shape,
        dtype="uint8",
        chunks=(depth, *map(min, _CHUNK[1:], shape[1:])),
        fill_value=0,
        dimension_names=("z", "y", "x"),
    )
    for start in range(0, shape[0], depth):
        layer = list(_exactly(slices, min(depth, shape[0] - start)))
        array[start : start + len(layer)] = np.stack(layer)


def _ome(voxel_size: Sequence[float] | None, names: Mapping[int, str], colours: Mapping[int, Sequence[int]]) -> dict:
    """OME-Zarr 0.5 metadata of one level, and the label colours and names."""
    unit = {} if voxel_size is None else {"unit": "nanometer"}
    scale = [1.0] * 3 if voxel_size is None else [float(s) for s in voxel_size]
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
    axes = [{"name": name, "type": "space", **unit} for name in "zyx"]
    metadata: dict = {"version": "0.5", "multiscales": [{"name": "labels", "axes": axes, "datasets": [level]}]}
    if names or colours:
        metadata["image-label"] = image_label(names, colours)
    return metadata


def image_label(names: Mapping[int, str], colours: Mapping[int, Sequence[int]], version: str = "0.5") -> dict:
    """OME-Zarr's `image-label`: label -> (r, g, b) and label -> name; a label without a colour is transparent."""
    content: dict = {"version": version}
    labels = sorted({*names, *colours})
    if colours:
        rgba = {label: [*map(int, colours[label][:3]), 255] if label in colours else [0] * 4 for label in labels}
        content["colors"] = [{"label-value": int(label), "rgba": rgba[label]} for label in labels]
    if names:
        content["properties"] = [{"label-value": int(label), "name": names.get(label, "")} for label in labels]
    return content
