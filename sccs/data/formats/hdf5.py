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
from sccs.data.formats.attributes import axistags, listed_attribute, name_axes, plain
from sccs.data.stored import Stored, listed, missing_package, optional

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
            if dataset.shape is None:
                raise UserError(
                    f"{self.path}: an empty dataset, without a shape: name another, or write the file again"
                )
            self.shape, self.dtype, self.chunks = dataset.shape, dataset.dtype, dataset.chunks
            self.sign = _true_type(root, name, dataset.dtype)
            self.dtype = self.sign or dataset.dtype
            if self.chunks:
                check_decoded(self.path, "a chunk", self.chunks, self.dtype.itemsize)
            _check_filters(self.path, dataset, h5py)
            _check_elsewhere(self.path, dataset, h5py)
            optional(self, lambda: self._describe(dataset))

    def _describe(self, dataset: Any) -> None:
        if "axistags" in dataset.attrs:
            name_axes(self, axistags(self, dataset.attrs["axistags"]))
        elif "DIMENSION_LABELS" in dataset.attrs:  # not through `dims`: HDF5 dies of labels of a fixed length
            name_axes(self, listed_attribute(dataset.attrs["DIMENSION_LABELS"]))
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
    away: list[str] = []  # links to other files, which are not visited
    root.visititems_links(
        lambda inside, link: away.append("/" + inside) if isinstance(link, h5py.ExternalLink) else None
    )
    for inside in away:
        _check_link(file, root, inside, h5py)
        if _is_image(root[inside], h5py):
            found[inside] = root[inside]
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
    link = root.get(name, getlink=True) if name != "/" else None
    if isinstance(link, (h5py.SoftLink, h5py.ExternalLink)) and root.get(name) is None:
        place = f"{link.filename}:{link.path}" if isinstance(link, h5py.ExternalLink) else link.path
        raise UserError(f"{file}:{name}: links to {place}, which does not exist: restore it")


def _check_elsewhere(path: str, dataset: Any, h5py: Any, depth: int = 8) -> None:
    """Raises UserError where pixels lie elsewhere, and a file or dataset is gone or cut: HDF5 reads fill values there.

    depth: how often virtual datasets may be made of virtual ones.
    """
    if depth == 0:
        raise UserError(f"{path}: its virtual datasets lead to ever more virtual ones: name one that contains pixels")
    file = dataset.file.filename
    folder = os.path.dirname(os.path.abspath(file))
    for name, offset, size in dataset.external or ():
        part = _elsewhere(path, folder, name)
        if offset + size < _UNLIMITED and os.path.getsize(part) < offset + size:
            raise UserError(f"{path}: its pixels are in {part}, which is truncated: copy it again")
    for source in dataset.virtual_sources() if dataset.is_virtual else ():
        if "%b" in source.file_name + source.dset_name:  # a pattern, of as many as there are
            continue
        part = file if source.file_name == "." else _elsewhere(path, folder, source.file_name)
        with h5py.File(part, "r") as root:
            held = root.get(source.dset_name)
            if not isinstance(held, h5py.Dataset):
                place = f"{part}:{source.dset_name}"
                raise UserError(f"{path}: its pixels are in {place}, which is missing: restore it")
            _check_elsewhere(path, held, h5py, depth - 1)


def _elsewhere(path: str, folder: str, name: str) -> str:
    part = os.path.join(folder, name)
    if not os.path.exists(part):
        raise UserError(f"{path}: its pixels are in {part}, which is missing: restore it, or copy both files")
    return part


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
