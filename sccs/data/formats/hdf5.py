"""Datasets of HDF5 files."""

from __future__ import annotations

from typing import Any

import numpy as np

from registry.base import UserError
from sccs.data.stored import Stored, listed, missing_package


class HDF5Array(Stored):
    """A dataset of an HDF5 file; the only one, where the path names none."""

    def __init__(self, file: str, inside: str | None):
        try:
            import h5py
        except ImportError as error:
            raise missing_package("h5py", file, error) from error
        self.file = file
        with h5py.File(file, "r") as root:
            found: dict[str, Any] = {}
            root.visititems(lambda name, item: found.update({"/" + name: item}) if _is_image(item, h5py) else None)
            name = "/" + (inside or "").strip("/")
            if name == "/" and len(found) == 1:
                name = next(iter(found))
            if name not in root or not isinstance(root[name], h5py.Dataset):
                kinds = listed(f"{n} {d.shape} {d.dtype}" for n, d in found.items())
                asked = "several datasets and none named" if name == "/" else f"no dataset {name}"
                raise UserError(f"{file}: {asked}; write {file}:<path> with one of: {kinds or '(holds no image)'}")
            dataset = root[name]
            self.inside, self.path = name, f"{file}:{name}"
            self.shape, self.dtype, self.chunks = dataset.shape, dataset.dtype, dataset.chunks
            self.scales = _hdf5_scales(dataset)

    def _open(self) -> Any:
        import h5py

        return h5py.File(self.file, "r")[self.inside]

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        return self.handle()[spans]


def _is_image(item: Any, h5py: Any) -> bool:
    return isinstance(item, h5py.Dataset) and item.ndim >= 2 and item.dtype.kind in "biufc"


def _hdf5_scales(dataset: Any) -> tuple[float, ...] | None:
    """`element_size_um` (µm, written by ilastik and Fiji) or `resolution` (nm, written by CREMI), (z, y, x)."""
    for name, factor in (("element_size_um", 1e3), ("resolution", 1.0)):
        values = np.ravel(dataset.attrs[name]) if name in dataset.attrs else ()
        if len(values) == dataset.ndim and np.asarray(values).dtype.kind in "iuf":
            return tuple(float(v) * factor for v in values)
    return None
