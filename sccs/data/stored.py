"""An array in a file, in the file's own axis order: what the formats (sccs.data.formats) have in common."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from registry.base import UserError
from registry.requirements import pip_install

_NANOMETRES = {
    "pm": 1e-3,
    "picometer": 1e-3,
    "a": 0.1,
    "å": 0.1,
    "angstrom": 0.1,
    "ångström": 0.1,
    "nm": 1.0,
    "nanometer": 1.0,
    "nanometre": 1.0,
    "um": 1e3,
    "µm": 1e3,
    "μm": 1e3,
    "\\u00b5m": 1e3,
    "micron": 1e3,
    "microns": 1e3,
    "micrometer": 1e3,
    "micrometre": 1e3,
    "mm": 1e6,
    "millimeter": 1e6,
    "millimetre": 1e6,
    "cm": 1e7,
    "centimeter": 1e7,
    "centimetre": 1e7,
    "m": 1e9,
    "meter": 1e9,
    "metre": 1e9,
    "inch": 2.54e7,
}


class NoSuchLevel(UserError):
    """A pyramid has fewer levels."""


class Stored:
    """An array in a file, in the file's own axis order.

    path str; shape; dtype; axes: lower-case letters, one an axis, or None where the file does not say; scales: nm per
    step of each axis, None where unknown; translations: nm from the origin to the first voxel, one an axis, or None;
    chunks: shape of a chunk, or None.
    """

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype
    axes: str | None = None
    scales: tuple[float | None, ...] | None = None
    translations: tuple[float, ...] | None = None
    chunks: tuple[int, ...] | None = None
    has_levels = False
    _opened: tuple[int, Any] | None = None

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        """The region `spans`, one slice of step 1 for each axis."""
        raise NotImplementedError

    def _open(self) -> Any:
        raise NotImplementedError

    def handle(self) -> Any:
        """The open file of this process: handles survive neither pickling nor a fork."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), self._open())
        return self._opened[1]

    def __getstate__(self) -> dict:
        return {k: v for k, v in self.__dict__.items() if k != "_opened"}


def read_plain(path: str, dtype: np.dtype, offset: int, shape: tuple[int, ...], spans: tuple[slice, ...]) -> np.ndarray:
    """A region of an uncompressed array. The file is mapped for this one read, so that pages do not pile up."""
    return np.array(np.memmap(path, dtype, "r", offset, shape)[spans])


def nanometres(unit: Any) -> float | None:
    """nm in a unit of length, by its name or sign; None for no unit, or one that is no length."""
    return _NANOMETRES.get(str(unit).strip().lower()) if unit else None


def ome_transform(image: dict, dataset: dict, axes: Sequence[dict]) -> tuple[tuple, tuple]:
    """Scales (nm, None where unknown) and translations (nm) of each of OME's `axes`, of a data set of a multi-scale
    image: its own transformations, then the image's."""
    scale, translation = np.ones(len(axes)), np.zeros(len(axes))
    for step in (dataset.get("coordinateTransformations") or []) + (image.get("coordinateTransformations") or []):
        if step.get("type") == "scale" and len(step.get("scale", ())) == len(axes):
            scale, translation = (each * np.asarray(step["scale"], float) for each in (scale, translation))
        if step.get("type") == "translation" and len(step.get("translation", ())) == len(axes):
            translation = translation + np.asarray(step["translation"], float)
    factors = [nanometres(axis.get("unit")) for axis in axes]
    return (
        tuple(float(s) * f if f else None for s, f in zip(scale, factors)),
        tuple(float(t) * (f or 0) for t, f in zip(translation, factors)),
    )


def level_name(path: str, level: int | None, names: Sequence[str]) -> str:
    """The name of a pyramid's level; None is the finest."""
    number = level or 0
    if not 0 <= number < len(names):
        raise NoSuchLevel(f"{path}: has {len(names)} level(s) ({listed(names)}), `level: {level}` was asked for")
    return names[number]


def guarded(where: str, read: Callable[[], Any]) -> Any:
    """What `read` returns. Whatever a format library raises on a file that it cannot read becomes one line."""
    try:
        return read()
    except (UserError, MemoryError):
        raise
    except Exception as error:  # foreign decoders raise whatever they like
        raise _unreadable(where, error) from error


def _unreadable(where: str, error: Exception) -> UserError:
    reason = " ".join(f"{error}".split()) or type(error).__name__
    if "imagecodecs" in reason:
        return UserError(f"{where}: its compression needs imagecodecs: {pip_install('imagecodecs')}")
    return UserError(f"{where}: cannot be read, the file is truncated or damaged ({reason[:200]}): copy it anew")


def missing_package(package: str, path: str, error: ImportError) -> UserError:
    """The error to raise where the package that reads a format is not installed."""
    return UserError(f"{path}: this format needs {package}: {pip_install(package)} ({error})")


def listed(names: Iterable[str], most: int = 20) -> str:
    """Names in a row for an error message, cut off where they are many."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def natural(name: str) -> list:
    """Sorting key: slice_2 before slice_10."""
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in re.split(r"(\d+)", name.lower())]
