"""N5, as OpenOrganelle publishes it; zarr-python 3 does not read it, but tensorstore does."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from registry.base import UserError
from sccs.data.bounds import check_decoded, check_metadata
from sccs.data.formats.attributes import ome_axes, ome_transform
from sccs.data.stored import (
    ChunkFolder,
    Stored,
    length,
    level_name,
    listed,
    missing_codec,
    missing_package,
    natural,
    optional,
)

_LEVEL = re.compile(r"s(\d+)")
_ATTRIBUTES = "attributes.json"
_PIXELS = ("dimensions", "blockSize", "dataType", "compression")  # attributes that say how pixels are stored


def _n5_attributes(folder: str) -> dict:
    file = os.path.join(folder, _ATTRIBUTES)
    if not os.path.lexists(file):
        return {}
    check_metadata(file)
    return json.loads(Path(file).read_text())


def is_n5(folder: str) -> bool:
    """A folder with N5 attributes, or one inside a container (groups may go without attributes)."""
    parts = [folder, *map(str, Path(folder).parents)]
    return os.path.lexists(os.path.join(folder, _ATTRIBUTES)) or any(p.lower().endswith(".n5") for p in parts)


class N5Array(ChunkFolder):
    """A dataset of an N5 container, or one level (s0, s1, ...) of a group, as OpenOrganelle publishes them.

    N5 writes its axes fastest first, (x, y, z): they are reversed here to (z, y, x), as in every other format.
    """

    def __init__(self, path: str, level: int | None):
        super().__init__()
        self._tensorstore(path)
        attributes = _n5_attributes(path)
        if "dimensions" not in attributes:
            levels = _levels(path)
            if not levels:
                path = _only_dataset(path)
                levels = _levels(path)
            if levels:
                self.has_levels = True
                path = os.path.join(path, level_name(path, level, levels))
            attributes = _n5_attributes(path)
        self.path = path.rstrip("/")
        check_decoded(self.path, "a block", attributes.get("blockSize") or (), 1)
        array = self._checked(attributes)
        self.shape, self.dtype = tuple(array.shape)[::-1], np.dtype(array.dtype.numpy_dtype)
        self.decoded = self.chunks = tuple(array.chunk_layout.read_chunk.shape)[::-1]
        check_decoded(self.path, "a block", self.chunks, self.dtype.itemsize)
        self.axes = "tczyx"[-len(self.shape) :] if len(self.shape) <= 5 else None
        found = optional(self, lambda: _n5_transform(self, path, attributes, len(self.shape)))
        self.scales, translations = found or (None, None)
        self.translations = translations and tuple(t or 0.0 for t in translations)

    def _checked(self, attributes: Mapping[str, Any]) -> Any:
        """The handle; translates tensorstore's error about an unknown compression."""
        try:
            return self.handle()
        except ValueError as error:
            said = attributes.get("compression") or attributes.get("compressionType")
            codec = said.get("type") if isinstance(said, Mapping) else said
            if codec and f'"{codec}"' in str(error):
                raise missing_codec(self.path, f"{codec} of N5") from error
            raise

    @property
    def metadata(self) -> str:
        return os.path.join(self.path, _ATTRIBUTES)

    def chunk_file(self, index: tuple[int, ...]) -> str:
        return os.path.join(self.path, *map(str, index[::-1]))

    @staticmethod
    def _tensorstore(path: str) -> Any:
        try:
            import tensorstore
        except ImportError as error:
            raise missing_package("tensorstore", path, error) from error
        return tensorstore

    def _open(self) -> Any:
        attributes = _n5_attributes(self.path)
        if "compressionType" in attributes:  # before version 2
            attributes.setdefault("compression", {"type": attributes["compressionType"]})
        if lacks := [key for key in _PIXELS if key not in attributes]:
            raise UserError(f"{self.metadata}: has no {', '.join(lacks)}: it is damaged; copy it again")
        spec = {
            "driver": "n5",
            "kvstore": {"driver": "file", "path": os.path.join(os.path.abspath(self.path), "")},
            "metadata": {key: attributes[key] for key in _PIXELS},
        }
        # Other attributes are not for tensorstore, which is strict about `units`, `resolution` and `axes`.
        return self._tensorstore(self.path).open(spec, open=True, read=True, assume_metadata=True).result()

    def _read(self, spans: tuple[slice, ...]) -> np.ndarray:
        return self.handle()[spans[::-1]].read().result().T


def _levels(path: str) -> list[str]:
    """Names of the levels of a group, finest first."""
    if "dimensions" in _n5_attributes(path):
        return []
    return sorted((n for n in os.listdir(path) if _LEVEL.fullmatch(n)), key=natural)


def _only_dataset(path: str) -> str:
    """The one data set under a group, or the one group of levels."""
    each = (Path(inside) for inside in _n5_datasets(Path(path)))
    found = sorted({str(inside.parent if _LEVEL.fullmatch(inside.name) else inside) for inside in each}, key=natural)
    if len(found) == 1:
        return os.path.join(path, found[0])
    if not found:
        raise UserError(f"{path}: an N5 group without a dataset: give the path of a dataset inside it")
    raise UserError(f"{path}: several datasets, none chosen; write {path}/<one of: {listed(found)}>")


def _n5_datasets(root: Path) -> Iterator[str]:
    """Paths of the datasets under `root`, each once; does not enter the folders of blocks below a dataset."""
    pending, seen = [root], set()
    while pending:
        folder = pending.pop()
        real = os.path.realpath(folder)
        if real in seen:  # a link leads back to it
            continue
        seen.add(real)
        if "dimensions" in _n5_attributes(str(folder)):
            yield str(folder.relative_to(root))
        else:
            pending += [p for p in folder.iterdir() if p.is_dir()]


def _n5_transform(stored: Stored, path: str, attributes: dict, ndim: int) -> tuple[tuple | None, tuple | None]:
    """Voxel size (nm) and position of the first voxel's centre (nm) of a data set, for each axis, slowest first.

    `transform` (OpenOrganelle) names its axes and describes the level itself, as do OME's `coordinateTransformations`.
    Both may be part of the group's `multiscales`. `pixelResolution` (N5 viewer) and `resolution`, `offset`
    (BigDataViewer, Neuroglancer, Paintera) list x first and describe the finest level; so do `pixelWidth`,
    `pixelHeight`, `pixelDepth` (ImageJ). `downsamplingFactors` of the level, or the group's `scales`, convert these
    to this level, whose voxels lie at the centre of those that they replace.
    """
    parent, name = os.path.split(os.path.abspath(path))
    group = _n5_attributes(parent)
    for image in group.get("multiscales") or []:
        for dataset in image.get("datasets", []):
            if dataset.get("path", "").strip("/") != name:
                continue
            if "transform" in dataset:
                attributes = {"transform": dataset["transform"], **attributes}
            elif "coordinateTransformations" in dataset and "transform" not in attributes:
                return _ome(image, dataset, ndim)
    transform = attributes.get("transform")
    if isinstance(transform, dict) and "scale" in transform:
        axes = transform.get("axes") or "zyx"[-ndim:]
        units = transform.get("units") or "nm"
        factors = [length(stored, unit) for unit in ([units] * len(axes) if isinstance(units, str) else units)]
        return (
            _named(axes, [float(s) * f if f else None for s, f in zip(transform["scale"], factors)], ndim),
            _named(axes, [float(t) * (f or 0.0) for t, f in zip(transform.get("translate") or (), factors)], ndim),
        )
    for source in (attributes, group):
        sizes, factor = _n5_resolution(stored, source)
        if sizes:
            number = _LEVEL.fullmatch(name)
            steps = group.get("scales") or []
            listed = steps[int(number[1])] if number and int(number[1]) < len(steps) else [1] * ndim
            down = attributes.get("downsamplingFactors") or (listed if source is group else [1] * ndim)
            down = list(down) if isinstance(down, (list, tuple)) else [down] * ndim
            offset = [*(attributes.get("offset") or group.get("offset") or ()), *[0.0] * ndim]
            values = [float(s) * float(d) * factor for s, d in zip(sizes, down)][:ndim]
            firsts = [(float(o) + float(s) * (float(d) - 1) / 2) * factor for s, d, o in zip(sizes, down, offset)]
            firsts = firsts[:ndim]
            return (
                tuple([None] * (ndim - len(values)) + values[::-1]),
                tuple([0.0] * (ndim - len(firsts)) + firsts[::-1]),
            )
    return None, None


def _ome(image: dict, dataset: dict, ndim: int) -> tuple[tuple, tuple]:
    axes = ome_axes(image, ndim)
    names = [str(axis["name"])[:1].lower() for axis in axes]
    scales, translations = ome_transform(image, dataset, axes)
    return _named(names, scales, ndim), _named(names, translations, ndim)


def _named(axes: Sequence[str], values: Sequence[float | None], ndim: int) -> tuple[float | None, ...]:
    """Values of named axes, in the order of the array's axes."""
    found = dict(zip(axes, values))
    return tuple(found.get(axis) for axis in "tczyx"[-ndim:])


def _n5_resolution(stored: Stored, attributes: dict) -> tuple[list | None, float]:
    """(x, y, z) sizes and the nm of their unit."""
    if "pixelWidth" in attributes:
        width = attributes["pixelWidth"]
        sizes = [width, attributes.get("pixelHeight", width), attributes.get("pixelDepth", 1)]
        factor = length(stored, attributes.get("pixelUnit"))
        return (sizes, factor) if factor else (None, 1.0)
    value = attributes.get("pixelResolution")
    if isinstance(value, dict):
        factor = length(stored, value.get("unit"))
        return (value.get("dimensions"), factor) if factor else (None, 1.0)
    value = value or attributes.get("resolution")
    if not isinstance(value, list):
        return None, 1.0
    units = attributes.get("units") or "nm"
    factor = length(stored, units if isinstance(units, str) else units[0])
    return (value, factor) if factor else (None, 1.0)
