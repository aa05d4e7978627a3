"""Storage for a job's arrays and tables: in memory, or in a folder shared by several processes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from registry.base import UserError
from sccs.data.label_store import import_zarr
from sccs.system.archive import UNREADABLE
from sccs.system.files import atomic_path

# raised by zarr for a damaged array
DAMAGE = (*UNREADABLE, TypeError, AttributeError)
RESULT = "objects.ome.zarr"


class Memory:
    """Storage of a single process."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.tables: dict[str, dict[str, np.ndarray]] = {}

    def create(self, name: str, shape: Sequence[int], chunk: Sequence[int], dtype: str) -> None:
        """An array of zeros."""
        self.arrays[name] = np.zeros(shape, dtype)

    def open(self, name: str) -> Any:
        """An array, to read and write by slices."""
        return self.arrays[name]

    def save(self, name: str, **columns: np.ndarray) -> None:
        """Keep a table."""
        self.tables[name] = columns

    def load(self, name: str) -> dict[str, np.ndarray]:
        """A table stored by `save`."""
        return self.tables[name]

    def keep(self, name: str, array: np.ndarray) -> None:
        """Keep an array that will only be read from now on."""
        self.arrays[name] = array

    def kept(self, name: str) -> np.ndarray:
        """An array stored by `keep`."""
        return self.arrays[name]


class Folder:
    """work/ in a job's folder; arrays named labels/... are in the store that becomes the result."""

    def __init__(self, folder: Path):
        self.folder = folder

    def _path(self, name: str) -> Path:
        return self.folder / (f"result/{RESULT}" if name.startswith("labels/") else "work") / name

    def create(self, name: str, shape: Sequence[int], chunk: Sequence[int], dtype: str) -> None:
        """Create an array of zeros, unless it exists."""
        if not self._path(name).exists():
            with atomic_path(self._path(name)) as path:
                import_zarr(path).create_array(path, shape=shape, chunks=tuple(chunk), dtype=dtype, fill_value=0)

    def open(self, name: str) -> Any:
        """An array, to read and write by slices."""
        try:
            return import_zarr(self.folder).open_array(self._path(name), mode="r+")
        except DAMAGE as error:
            raise self.damaged(error) from None

    def save(self, name: str, **columns: np.ndarray) -> None:
        """Keep a table."""
        with atomic_path(self._path(name + ".npz")) as path:
            np.savez(path, **columns)  # type: ignore[arg-type]  # columns are no options

    def load(self, name: str) -> dict[str, np.ndarray]:
        """A table stored by `save`."""
        try:
            with np.load(self._path(name + ".npz"), allow_pickle=False) as table:
                return dict(table)
        except DAMAGE as error:
            raise self.damaged(error) from None

    def keep(self, name: str, array: np.ndarray) -> None:
        """Keep an array that will only be read from now on."""
        with atomic_path(self._path(name + ".npy")) as path:
            np.save(path, array)

    def kept(self, name: str) -> np.ndarray:
        """An array stored by `keep`, memory-mapped from its file."""
        try:
            return np.load(self._path(name + ".npy"), mmap_mode="r", allow_pickle=False)
        except DAMAGE as error:
            raise self.damaged(error) from None

    def damaged(self, error: Exception) -> UserError:
        """The error for a folder that can no longer be read."""
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        return UserError(f"{self.folder}: the unfinished work is damaged ({reason}); pass --overwrite to start over")
