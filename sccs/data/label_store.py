"""OME-Zarr label images, filled by many processes, or slice by slice by one: `labels/<kind>` with its pyramid, in a
group that is itself an image.

The top group shows the finest level, too, so that every viewer can open the store, whether or not it supports labels.
Unwritten voxels are 255 and take no space.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice, product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from registry.base import UserError
from registry.requirements import pip_install
from sccs.data.pyramid import CHUNK, EMPTY, Level, box, grid, halve, pyramid
from sccs.data.writers import IN_PYTHON, LAYER_BYTES, check_output, image_label
from sccs.system.files import atomic_path


def import_zarr(path: str | os.PathLike) -> Any:
    """The package zarr. Raises UserError, with `path` and the pip command, if it is not installed."""
    try:
        import zarr
    except ImportError as error:
        raise UserError(f"{path}: writing OME-Zarr needs zarr: {pip_install('zarr')}") from error
    return zarr


def create_store(
    path: Path,
    levels: Sequence[Level],
    chunk: Sequence[int],
    *kinds: str,
    dtype: str = "uint8",
    fill: int = EMPTY,
    version: str = "0.5",
    voxel_size: Sequence[float] | None = None,
    translation: Sequence[float] = (0.0, 0.0, 0.0),
    names: Mapping[int, str] = {},
    colours: Mapping[int, Sequence[int]] = {},
    about: Mapping[str, Any] = {},
) -> None:
    """Create an empty store of labels, kind "clusters" or "classes", in OME-Zarr `version` "0.5" or "0.4". With
    several kinds, the top group shows the first. `fill`: value of unwritten voxels.

    voxel_size, translation: (z, y, x) nm of the finest level's voxels, and of its first voxel's centre (in voxels
    if the size is None). names, colours: label -> name, and label -> (r, g, b). about: stored under `sccs`.
    """
    zarr = import_zarr(path)
    zarr_format = 3 if version == "0.5" else 2
    options: dict[str, Any] = dict(dtype=dtype, fill_value=fill)
    if zarr_format == 3:
        options["dimension_names"] = ("z", "y", "x")
    else:
        options["chunk_key_encoding"] = {"name": "v2", "separator": "/"}
    label = {"source": {"image": "../../"}, **image_label(names, colours, version)}
    label.setdefault("colors", [])  # some readers require it
    top = zarr.create_group(path, zarr_format=zarr_format)
    groups = [
        (top, _multiscale(levels, kinds[0], f"labels/{kinds[0]}/", version, voxel_size, translation)),
        (top.create_group("labels"), {"labels": list(kinds)}),
    ]
    for kind in kinds:
        content = {**_multiscale(levels, kind, "", version, voxel_size, translation), "image-label": label}
        groups.append((top.create_group(f"labels/{kind}"), content))
    for group, content in groups:
        group.attrs.update({"ome": {"version": version, **content}} if version == "0.5" else content)
    top.attrs["sccs"] = dict(about)
    for kind in kinds:
        for number, level in enumerate(levels):
            shape, chunks = level.shape, tuple(map(min, chunk, level.shape))
            top.create_array(f"labels/{kind}/{number}", shape=shape, chunks=chunks, **options)


def create_probabilities(
    path: Path,
    shape: Sequence[int],
    chunk: Sequence[int],
    names: Sequence[str],
    settings: Mapping[str, Any],
    store: Mapping[str, Any],
) -> Any:
    """Create an OME-Zarr image (c, z, y, x) uint8, 0 .. 255 for 0 .. 1: a channel per class, the last for uncertainty.

    names: of the classes. settings: stored under `sccs`; `ome` is the version. store: `voxel_size` and `translation`
    as for `create_store`. Returns the array of its only level.
    """
    zarr, version = import_zarr(path), settings["ome"]
    size, first = store.get("voxel_size") or (1.0, 1.0, 1.0), store.get("translation") or (0.0, 0.0, 0.0)
    unit = {} if store.get("voxel_size") is None else {"unit": "nanometer"}
    options: dict[str, Any] = {"dimension_names": tuple("czyx")}
    if version != "0.5":
        options = {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
    scale = {"type": "scale", "scale": [1.0, *map(float, size)]}
    moved = {"type": "translation", "translation": [0.0, *map(float, first)]}
    multiscale = {
        "name": "probabilities",
        "axes": [{"name": "c", "type": "channel"}, *({"name": axis, "type": "space", **unit} for axis in "zyx")],
        "datasets": [{"path": "0", "coordinateTransformations": [scale, moved]}],
    }
    window = {"start": 0, "end": 255, "min": 0, "max": 255}
    omero = {
        "channels": [{"label": name, "color": "FFFFFF", "active": True, "window": window} for name in (*names, "doubt")]
    }
    content = {"multiscales": [multiscale if version == "0.5" else {"version": version, **multiscale}], "omero": omero}
    top = zarr.create_group(path, zarr_format=3 if version == "0.5" else 2)
    top.attrs.update({"ome": {"version": version, **content}} if version == "0.5" else content)
    top.attrs["sccs"] = dict(settings)
    chunks = (1, *map(min, chunk, shape))
    return top.create_array("0", shape=(len(names) + 1, *shape), chunks=chunks, dtype="uint8", fill_value=0, **options)


def open_level(path: Path, kind: str, number: int) -> Any:
    """The zarr array of one level, to read and write."""
    return import_zarr(path).open_array(os.path.join(path, "labels", kind, str(number)), mode="r+")


def write_store(
    path: str | os.PathLike,
    slices: Iterable[np.ndarray],
    shape: Sequence[int],
    kind: str,
    *,
    voxel_size: Sequence[float] | None = None,
    overwrite: bool = False,
    **store: Any,
) -> None:
    """Write slices (Y, X) uint8, taken one at a time, to a store with its pyramid, atomically.

    shape: (Z, Y, X). store: the arguments of `create_store`. Keeps one layer of chunks in memory (a few slices, if
    slices are large). Raises UserError if `path` cannot be written.
    """
    path = check_output(path, overwrite, IN_PYTHON)
    levels = pyramid(shape, voxel_size)
    chunk = (min(CHUNK[0], shape[0], max(1, LAYER_BYTES // prod(shape[1:]))), *map(min, CHUNK[1:], shape[1:]))
    with atomic_path(path) as temporary:
        create_store(temporary, levels, chunk, kind, voxel_size=voxel_size, **store)
        arrays = [open_level(temporary, kind, number) for number in range(len(levels))]
        left = iter(slices)
        for start in range(0, shape[0], chunk[0]):
            stop = min(start + chunk[0], shape[0])
            arrays[0][start:stop] = np.stack(list(islice(left, stop - start)))
        for number, level in enumerate(levels[1:], start=1):
            for cell in range(prod(grid(level.shape, cells(chunk)))):
                halve_box(arrays[number - 1], arrays[number], level.step, box(level.shape, cells(chunk), cell))


def cells(chunk: Sequence[int]) -> list[int]:
    """Block size for building the pyramid, in voxels: several chunks."""
    return [chunk[0], 2 * chunk[1], 2 * chunk[2]]


def halve_box(before: Any, here: Any, step: Sequence[int], area: Sequence[slice]) -> None:
    """Fill `area` of a level's array, which begins with a chunk, from the array of the level before it, chunk by
    chunk."""
    for corner in product(*(range(side.start, side.stop, n) for side, n in zip(area, here.chunks))):
        piece = tuple(slice(c, min(c + n, side.stop)) for c, n, side in zip(corner, here.chunks, area))
        source = tuple(slice(side.start * s, min(side.stop * s, n)) for side, s, n in zip(piece, step, before.shape))
        labels = before[source]
        if (labels != here.fill_value).any():
            here[piece] = halve(labels, step)


def _multiscale(
    levels: Sequence[Level],
    name: str,
    prefix: str,
    version: str,
    voxel_size: Sequence[float] | None,
    translation: Sequence[float],
) -> dict:
    unit = {} if voxel_size is None else {"unit": "nanometer"}
    size = np.array(voxel_size or (1.0, 1.0, 1.0))
    datasets = []
    for number, level in enumerate(levels):
        factor = np.array(level.factor)
        first = np.array(translation) + size * (factor - 1) / 2  # a voxel's centre is that of the voxels it replaces
        datasets.append(
            {
                "path": f"{prefix}{number}",
                "coordinateTransformations": [
                    {"type": "scale", "scale": (size * factor).tolist()},
                    {"type": "translation", "translation": first.tolist()},
                ],
            }
        )
    axes = [{"name": axis, "type": "space", **unit} for axis in "zyx"]
    multiscale = {"name": name, "type": "mode", "axes": axes, "datasets": datasets}
    return {"multiscales": [multiscale if version == "0.5" else {"version": version, **multiscale}]}
