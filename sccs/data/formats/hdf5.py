"""Datasets of HDF5 files."""

from __future__ import annotations

import contextlib
import math
import os
import re
from typing import Any

import numpy as np

from registry.base import UserError
from registry.requirements import pip_install
from sccs.data.bounds import check_decoded
from sccs.data.formats.attributes import axistags, name_axes, plain
from sccs.data.stored import Stored, listed, missing_package

_BIGDATAVIEWER = re.compile(r"^/t\d{5,}/(s\d{2,})/\d+/cells$")
# Filters by registered number, for those without a name; the package that decodes them all.
_FILTERS = {307: "bzip2", 32000: "LZF", 32001: "Blosc", 32004: "LZ4", 32008: "Bitshuffle", 32013: "ZFP", 32015: "Zstd"}
_PLUGIN = "hdf5plugin"
_UNLIMITED = 1 << 63  # from here on, a dataset may use an external file without limit


class HDF5Array(Stored):
    """A dataset of an HDF5 file; if the path names none, the only one."""

    def __init__(self, file: str, inside: str | None):
        try:
            import h5py
        except ImportError as error:
            raise missing_package("h5py", file, error) from error
        self.file = file
        with h5py.File(file, "r") as root:
            name = "/" + (inside or "").strip("/")
            _check_link(file, root, name, h5py)
            if name not in root or not isinstance(root[name], h5py.Dataset):
                name = _only_dataset(root, file, name, h5py)
            dataset = root[name]
            self.inside, self.path = name, f"{file}:{name}"
            self.shape, self.dtype, self.chunks = dataset.shape, dataset.dtype, dataset.chunks
            self.sign = _true_type(root, name, dataset.dtype)
            self.dtype = self.sign or dataset.dtype
            if self.chunks:
                check_decoded(self.path, "a chunk", self.chunks, self.dtype.itemsize)
            _check_filters(self.path, dataset, h5py)
            _check_elsewhere(self.path, file, dataset)
            self._describe(dataset)

    def _describe(self, dataset: Any) -> None:
        names = axistags(dataset.attrs["axistags"]) if "axistags" in dataset.attrs else []
        if names:
            name_axes(self, names)
        elif any(dimension.label for dimension in dataset.dims):
            name_axes(self, [dimension.label for dimension in dataset.dims])
        keys = ("element_size_um", "voxel_size", "resolution", "offset", "units", "unit", "axis_names", "transform")
        plain(self, {key: dataset.attrs[key] for key in keys if key in dataset.attrs})

    def _open(self) -> Any:
        import h5py

        return h5py.File(self.file, "r")[self.inside]

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        block = self.handle()[spans]
        return block.view(self.sign) if self.sign else block

    def absent(self, spans: tuple[slice, ...]) -> float:
        """Of the whole dataset: HDF5 counts its chunks at once."""
        if not self.chunks:
            return 0.0
        total = math.prod(-(-n // c) for n, c in zip(self.shape, self.chunks))
        return 1 - self.handle().id.get_num_chunks() / total


def _only_dataset(root: Any, file: str, name: str, h5py: Any) -> str:
    """The only image of a file, if the path names none. Otherwise raises UserError that lists the images."""
    found: dict[str, Any] = {}
    root.visititems(lambda inside, item: found.update({"/" + inside: item}) if _is_image(item, h5py) else None)
    if name == "/" and len(found) == 1:
        return next(iter(found))
    kinds = listed(f"{n} {d.shape} {d.dtype}" for n, d in found.items())
    if not found:
        raise UserError(f"{file}: contains no image (a numeric dataset with two or more axes): check what it is")
    asked = "several datasets, none chosen" if name == "/" else f"no dataset {name}"
    raise UserError(f"{file}: {asked}; write {file}:<path> with one of: {kinds}")


def _is_image(item: Any, h5py: Any) -> bool:
    return isinstance(item, h5py.Dataset) and item.ndim >= 2 and item.dtype.kind in "biufc"


def _check_link(file: str, root: Any, name: str, h5py: Any) -> None:
    """Raises UserError for a broken link in the file."""
    link = root.get(name, getlink=True) if name != "/" and name in root else None
    if isinstance(link, (h5py.SoftLink, h5py.ExternalLink)) and root.get(name) is None:
        place = f"{link.filename}:{link.path}" if isinstance(link, h5py.ExternalLink) else link.path
        raise UserError(f"{file}:{name}: links to {place}, which does not exist: restore it")


def _check_elsewhere(path: str, file: str, dataset: Any) -> None:
    """Raises UserError if an external file with pixels is missing or truncated: HDF5 would read fill values."""
    folder = os.path.dirname(os.path.abspath(file))
    if dataset.is_virtual:
        names = {source.file_name for source in dataset.virtual_sources()} - {"."}
        parts = [(name, 0) for name in sorted(names) if "%b" not in name]  # a pattern of any number of files
    else:
        parts = [(name, offset + size) for name, offset, size in dataset.external or ()]
    for name, end in parts:
        part = os.path.join(folder, name)
        if not os.path.exists(part):
            raise UserError(f"{path}: its pixels are in {part}, which is missing: restore it, or copy both files")
        if end < _UNLIMITED and os.path.getsize(part) < end:
            raise UserError(f"{path}: its pixels are in {part}, which is truncated: copy it again")


def _true_type(root: Any, name: str, dtype: np.dtype) -> np.dtype | None:
    """The true type of BigDataViewer's values, which it stores as signed even if unsigned, as noted (if at all) in the
    `dataType` of the view's setup. None: the stored type."""
    match = _BIGDATAVIEWER.match(name)
    if match is None or dtype.kind != "i":
        return None
    setup = root.get(match[1])
    said = setup.attrs.get("dataType", "u") if setup is not None else "u"
    said = said.decode() if isinstance(said, bytes) else str(said)
    return None if said.lower().startswith("int") else np.dtype(f"{dtype.byteorder}u{dtype.itemsize}")


def _check_filters(path: str, dataset: Any, h5py: Any) -> None:
    """Raises UserError for a compression that is not installed; `hdf5plugin` provides most."""
    layout = dataset.id.get_create_plist()
    for number in range(layout.get_nfilters()):
        code, _, _, name = layout.get_filter(number)
        if h5py.h5z.filter_avail(code):
            continue
        with contextlib.suppress(ImportError):
            import hdf5plugin  # noqa: F401  # registers its filters
        if not h5py.h5z.filter_avail(code):
            said = _FILTERS.get(code) or name.decode(errors="replace").split(";")[0].strip() or "unknown"
            raise UserError(
                f"{path}: its compression (HDF5 filter {code}, {said}) is not installed: {pip_install(_PLUGIN)}, or "
                "write it with gzip"
            )
