"""OME-Zarr 0.4 to 0.6, and plain Zarr arrays."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from registry.base import UserError
from sccs.data.bounds import check_decoded, check_metadata
from sccs.data.formats.attributes import name_axes, ome_axes, ome_transform, plain
from sccs.data.stored import ChunkFolder, NoSuchLevel, level_name, listed, missing_package, natural, optional

_DEEPEST = 6  # levels of folders searched for an image below a group; links may form loops
_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")


def is_zarr(folder: str) -> bool:
    """Whether a folder is a Zarr array or group, of format 2 or 3."""
    return any(os.path.exists(os.path.join(folder, name)) for name in _METADATA[:3])


class ZarrArray(ChunkFolder):
    """An OME-Zarr image (0.4 to 0.6) at one level, or a plain Zarr array (formats 2 and 3)."""

    def __init__(self, path: str, level: int | None):
        super().__init__()
        zarr = _library(path)
        node = _opened(path)
        if isinstance(node, zarr.Group):
            image = _multiscale(node.attrs, path)
            if image is None:
                path = os.path.join(path, _only_member(node, path))
                node = _opened(path)
                image = _multiscale(node.attrs, path) if isinstance(node, zarr.Group) else None
            if image is not None:
                self.has_levels = True
                chosen = level_name(path, level, [d["path"] for d in image["datasets"]])
                path = os.path.join(path, chosen)
                if not os.path.isdir(path):
                    raise NoSuchLevel(
                        f"{path}: the image's metadata lists this level, but it is missing: copy it again"
                    )
                for name in _METADATA:
                    check_metadata(os.path.join(path, name))
            node = zarr.open_array(path, mode="r")
        self.path = path.rstrip("/")
        self.shape, self.dtype, self.chunks = node.shape, np.dtype(node.dtype), node.shards or node.chunks
        self.decoded = node.chunks
        check_decoded(self.path, "a chunk", self.decoded, self.dtype.itemsize)
        self._key = node.metadata.encode_chunk_key
        self._describe(node)

    def _describe(self, node: Any) -> None:
        """Axes and scales from the multi-scale image of this array, else from its own attributes."""
        parent, name = os.path.split(self.path)
        image, names = _enclosing_multiscale(parent, name)
        if image is None:
            name_axes(self, getattr(node.metadata, "dimension_names", None))
            optional(self, lambda: plain(self, dict(node.attrs)))
            return
        dataset = next(d for d in image["datasets"] if d["path"].strip("/") == names)
        axes = ome_axes(image, len(self.shape))
        if len(axes) != len(self.shape):
            raise UserError(
                f"{self.path}: its metadata names {len(axes)} axes, but its shape is {self.shape}: fix the metadata"
            )
        self.axes = "".join(
            {"channel": "c", "time": "t"}.get(str(a.get("type")), str(a["name"])[:1].lower()) for a in axes
        )
        notes: list[str] = []
        found = optional(self, lambda: ome_transform(image, dataset, axes, notes))
        self.scales, self.translations = found or (None, None)
        self.notes += tuple(notes)

    @property
    def metadata(self) -> str:
        files = [os.path.join(self.path, name) for name in _METADATA[:2]]
        return next((file for file in files if os.path.isfile(file)), files[0])

    def chunk_file(self, index: tuple[int, ...]) -> str:
        return os.path.join(self.path, self._key(index))

    def _open(self) -> Any:
        import zarr

        return zarr.open_array(self.path, mode="r")

    def _read(self, spans: tuple[slice, ...]) -> np.ndarray:
        return self.handle()[spans]


def _library(path: str) -> Any:
    try:
        import zarr
    except ImportError as error:
        raise missing_package("zarr", path, error) from error
    return zarr


def _opened(path: str) -> Any:
    for name in _METADATA:
        check_metadata(os.path.join(path, name))
    return _library(path).open(path, mode="r")


def _multiscale(attributes: Any, path: str) -> dict | None:
    """The first image of a group: OME-Zarr 0.5 keeps it under `ome`, earlier versions at the top.

    Raises UserError for one that names no arrays.
    """
    ome = attributes.get("ome")
    images = (ome.get("multiscales") if isinstance(ome, Mapping) else None) or attributes.get("multiscales")
    if not images:
        return None
    try:
        if all(isinstance(dataset["path"], str) for dataset in images[0]["datasets"]):
            return images[0]
    except (LookupError, TypeError):
        pass
    raise UserError(
        f"{path}: its OME metadata is damaged (`multiscales` lacks `datasets` that each have a `path`): fix .zattrs or "
        "zarr.json, or give the path of an array inside it"
    )


def _enclosing_multiscale(parent: str, name: str) -> tuple[dict | None, str]:
    """The multi-scale image above an array, and the array's path in it; a level may be several folders deep."""
    for _ in range(3):
        if parent and is_zarr(parent):
            image = _multiscale(_opened(parent).attrs, parent)
            if image and any(d["path"].strip("/") == name for d in image["datasets"]):
                return image, name
        parent, above = os.path.split(parent)
        name = f"{above}/{name}"
    return None, name


def _only_member(group: Any, path: str) -> str:
    """Path of the only image or array in a group; an image's own labels do not count."""
    import zarr

    members = sorted(group.members(max_depth=_DEEPEST), key=lambda item: (item[0].count("/"), natural(item[0])))
    once = {os.path.realpath(os.path.join(path, n)): (n, item) for n, item in reversed(members)}  # links duplicate some
    members = list(once.values())[::-1]
    images = [n for n, item in members if isinstance(item, zarr.Group) and _multiscale(item.attrs, f"{path}/{n}")]
    images = [n for n in images if not any(n.startswith(f"{image}/") for image in images)]
    arrays = [n for n, item in members if isinstance(item, zarr.Array) and item.ndim > 1]  # the others are coordinates
    found = images + [n for n in arrays if not any(n.startswith(f"{image}/") for image in images)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UserError(f"{path}: a Zarr group without an array: give the path of an image inside it")
    each = listed(sorted(found, key=natural))
    raise UserError(f"{path}: several arrays, none chosen; write {path}/<one of: {each}>")
