"""OME-Zarr 0.4 and 0.5, and plain Zarr arrays."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from registry.base import UserError
from sccs.data.stored import Stored, level_name, listed, missing_package, natural, ome_transform


def is_zarr(folder: str) -> bool:
    """Whether a folder is a Zarr array or group, of format 2 or 3."""
    return any(os.path.exists(os.path.join(folder, name)) for name in ("zarr.json", ".zarray", ".zgroup"))


class ZarrArray(Stored):
    """An OME-Zarr image (0.4, 0.5) at one level, or a plain Zarr array (formats 2 and 3)."""

    def __init__(self, path: str, level: int | None):
        try:
            import zarr
        except ImportError as error:
            raise missing_package("zarr", path, error) from error
        node = zarr.open(path, mode="r")
        if isinstance(node, zarr.Group):
            image = _multiscale(node.attrs)
            if image is None:
                path = os.path.join(path, _only_member(node, path))
                node = zarr.open(path, mode="r")
                image = _multiscale(node.attrs) if isinstance(node, zarr.Group) else None
            if image is not None:
                self.has_levels = True
                chosen = level_name(path, level, [d["path"] for d in image["datasets"]])
                path = os.path.join(path, chosen)
            node = zarr.open_array(path, mode="r")
        self.path = path
        self.shape, self.dtype, self.chunks = node.shape, np.dtype(node.dtype), node.shards or node.chunks
        self._describe(node)

    def _describe(self, node: Any) -> None:
        """Axes and scales from the image that this array is a level of, else from the array's own names."""
        names = getattr(node.metadata, "dimension_names", None)
        if names and all(n and len(n) == 1 for n in names):
            self.axes = "".join(names).lower()
        parent, name = os.path.split(self.path.rstrip("/"))
        image, names = _enclosing_multiscale(parent, name)
        if image is None:
            return
        dataset = next(d for d in image["datasets"] if d["path"].strip("/") == names)
        axes = [a if isinstance(a, dict) else {"name": a} for a in image.get("axes") or "tczyx"[-len(self.shape) :]]
        if len(axes) != len(self.shape):
            raise UserError(f"{self.path}: its metadata names {len(axes)} axes, its shape is {self.shape}: mend them")
        self.axes = "".join(
            {"channel": "c", "time": "t"}.get(str(a.get("type")), str(a["name"])[:1].lower()) for a in axes
        )
        self.scales, self.translations = ome_transform(image, dataset, axes)

    def _open(self) -> Any:
        import zarr

        return zarr.open_array(self.path, mode="r")

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        return self.handle()[spans]


def _multiscale(attributes: Any) -> dict | None:
    """The first image of a group: OME-Zarr 0.5 keeps it under `ome`, earlier versions at the top."""
    images = (attributes.get("ome") or {}).get("multiscales") or attributes.get("multiscales")
    return images[0] if images else None


def _enclosing_multiscale(parent: str, name: str) -> tuple[dict | None, str]:
    """The image above an array, and the array's path in it; a level may lie several folders deep."""
    import zarr

    for _ in range(3):
        if parent and is_zarr(parent):
            node = zarr.open(parent, mode="r")
            image = _multiscale(node.attrs)
            if image and any(d["path"].strip("/") == name for d in image["datasets"]):
                return image, name
        parent, above = os.path.split(parent)
        name = f"{above}/{name}"
    return None, name


def _only_member(group: Any, path: str) -> str:
    """Path in a group of the one image or array that it has; labels that belong to an image do not count."""
    import zarr

    members = sorted(group.members(max_depth=None), key=lambda item: natural(item[0]))
    images = [n for n, item in members if isinstance(item, zarr.Group) and _multiscale(item.attrs)]
    images = [n for n in images if not any(n.startswith(f"{image}/") for image in images)]
    arrays = [n for n, item in members if isinstance(item, zarr.Array)]
    found = images + [n for n in arrays if not any(n.startswith(f"{image}/") for image in images)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UserError(f"{path}: a Zarr group without an array: give the path of an image inside it")
    raise UserError(f"{path}: several arrays and none named; write {path}/<one of: {listed(found)}>")
