"""The lazy (Z, Y, X) view of a stored array of any axis order, and the protocol of such arrays."""

from __future__ import annotations

import itertools
import math
import re
import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from registry.base import UserError
from sccs.data.bounds import LEAST_VOXEL, MOST_VOXEL
from sccs.data.stored import Stored, guarded

# Slices are read one at a time, but chunks span many slices: the rest of a chunk layer is kept, up to this size
# over all open images.
SLAB_BYTES = 256 * 2**20
_slab_owners: list[weakref.ref] = []  # latest last
_slab_lock = threading.Lock()


class VolumeArray(Protocol):
    """An array (Z, Y, X) that reads by basic slices: NumPy's, Zarr's, Dask's, or SCCS's own."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(Z, Y, X)."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """Type of the values."""
        ...

    def __getitem__(self, key: Any, /) -> Any:
        """What NumPy returns for integers and slices, as an array or something NumPy can convert to one."""
        ...


class LazyArray:
    """(Z, Y, X) view of a stored array of any axis order; ``array[z]``, ``array[a:b, y0:y1, x0:x1]`` read pixels.

    Values keep their type, except that bool becomes uint8 and byte order native. Raises UserError, with path and slice,
    for float slices with NaN or infinity, undecodable chunks or pages, and truncated files.
    """

    ndim = 3

    def __init__(self, stored: Stored, letters: str):
        """letters: one of ``zyx`` for each stored axis, ``.`` for axes of size 1 to drop; z may be missing."""
        self.stored = stored
        self.letters = letters
        sizes = dict(zip(letters, stored.shape))
        self.shape = (sizes.get("z", 1), sizes["y"], sizes["x"])
        self.dtype = np.dtype(np.uint8) if stored.dtype.kind == "b" else stored.dtype.newbyteorder("=")
        depths = dict(zip(letters, stored.chunks or ()))
        self.chunk_depth = depths.get("z", 1)
        self._slab: tuple[tuple, np.ndarray] | None = None

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_slab": None}

    def __repr__(self) -> str:
        return f"LazyArray({self.stored.path!r}, shape={self.shape}, dtype={self.dtype})"

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on the file for the user."""
        return self.stored.notes

    @property
    def chunks(self) -> tuple[int, int, int] | None:
        """(z, y, x) of a chunk, None if the file has none."""
        sizes = dict(zip(self.letters, self.stored.chunks or ()))
        return (sizes.get("z", 1), sizes["y"], sizes["x"]) if sizes else None

    def absent(self, z: slice, y: slice, x: slice) -> float:
        """Share of a region's chunks that were never written and read as the fill value."""
        return self.stored.absent(self._spans(z, y, x))

    def slices(self, zs: Sequence[int], y: slice, x: slice) -> Iterator[np.ndarray]:
        """A region (h, w) of some slices, in order. Reads the requested slices of a chunk layer together, as far as
        memory allows: one by one, each would decode the layer again."""
        plane = (y.stop - y.start) * (x.stop - x.start) * self.dtype.itemsize
        most = max(1, SLAB_BYTES // max(1, plane))
        for _, layer in itertools.groupby(zs, key=lambda z: z // self.chunk_depth):
            numbers = list(layer)
            for first in range(0, len(numbers), most):
                yield from self._some(numbers[first : first + most], y, x)

    def _some(self, zs: list[int], y: slice, x: slice) -> np.ndarray:
        chunks = self.chunks
        if len(zs) == 1 or chunks is None:
            out = np.concatenate([self._load(slice(z, z + 1), y, x) for z in zs])
        else:
            out = np.empty((len(zs), y.stop - y.start, x.stop - x.start), self.dtype)
            span = slice(min(zs), max(zs) + 1)
            for top in range(y.start // chunks[1] * chunks[1], y.stop, chunks[1]):
                for left in range(x.start // chunks[2] * chunks[2], x.stop, chunks[2]):
                    a, b = max(top, y.start), min(top + chunks[1], y.stop)
                    c, d = max(left, x.start), min(left + chunks[2], x.stop)
                    block = self._load(span, slice(a, b), slice(c, d))
                    out[:, a - y.start : b - y.start, c - x.start : d - x.start] = block[[z - span.start for z in zs]]
        for z, pixels in zip(zs, out):
            check_finite(pixels, f"{self.stored.path}, slice z={z}")
        return out

    def _spans(self, z: slice, y: slice, x: slice) -> tuple[slice, ...]:
        """The region in the order of the stored axes."""
        spans = {"z": z, "y": y, "x": x, ".": slice(0, 1)}
        return tuple(spans[letter] for letter in self.letters)

    @property
    def size(self) -> int:
        """Voxels."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all voxels in memory."""
        return self.size * self.dtype.itemsize

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)

    def __getitem__(self, key: Any) -> np.ndarray:
        ranges, drop = basic_key(key, self.shape)
        zs, ys, xs = ranges
        if not (len(zs) and len(ys) and len(xs)):
            result = np.empty([len(r) for r in ranges], self.dtype)
        elif zs.step == 1:
            result = self._read(zs, ys, xs)
        else:
            result = np.concatenate([self._read(range(z, z + 1), ys, xs) for z in zs])
        return result[tuple(0 if d else slice(None) for d in drop)]

    def _read(self, zs: range, ys: range, xs: range) -> np.ndarray:
        y, x = slice(ys[0], ys[-1] + 1), slice(xs[0], xs[-1] + 1)
        block = self._layer(zs, y, x)[:, :: ys.step, :: xs.step]
        for z, plane in zip(zs, block):
            check_finite(plane, f"{self.stored.path}, slice z={z}")
        return block

    def _layer(self, zs: range, y: slice, x: slice) -> np.ndarray:
        """Slices `zs` of a region, from the cached slab; if absent, caches their whole chunk layer as the slab."""
        region, slab = (y.start, y.stop, x.start, x.stop), self._slab
        if slab is None or slab[0][2:] != region or not slab[0][0] <= zs[0] <= zs[-1] < slab[0][1]:
            plane = (y.stop - y.start) * (x.stop - x.start) * self.dtype.itemsize
            depth = min(self.chunk_depth - zs[0] % self.chunk_depth, SLAB_BYTES // 4 // plane, self.shape[0] - zs[0])
            if len(zs) >= depth:
                return self._load(slice(zs[0], zs[-1] + 1), y, x)
            stop = zs[0] + depth
            slab = ((zs[0], stop, *region), self._load(slice(zs[0], stop), y, x))
            _keep_slab(self, slab)
        start = zs[0] - slab[0][0]
        return slab[1][start : start + len(zs)].copy()

    def _load(self, z: slice, y: slice, x: slice) -> np.ndarray:
        where = f"{self.stored.path}, slice z={z.start}" + (f"..{z.stop - 1}" if z.stop - z.start > 1 else "")
        key = self._spans(z, y, x)
        block = guarded(where, lambda: np.asarray(self.stored.read(key)))
        block = block.astype(self.dtype, copy=False)
        block = block.reshape([n for n, letter in zip(block.shape, self.letters) if letter != "."])
        order = self.letters.replace(".", "")
        if "z" not in order:
            block, order = block[None], "z" + order
        return np.ascontiguousarray(block.transpose([order.index(letter) for letter in "zyx"]))


def _keep_slab(array: LazyArray, slab: tuple[tuple, np.ndarray]) -> None:
    """Keep `slab` with its array; when space runs out, the oldest slabs are dropped."""
    with _slab_lock:
        array._slab = slab
        owners = [o for ref in _slab_owners if (o := ref()) is not None and o is not array and o._slab] + [array]
        while sum(o._slab[1].nbytes for o in owners) > SLAB_BYTES:
            owners.pop(0)._slab = None
        _slab_owners[:] = map(weakref.ref, owners)


def basic_key(key: Any, shape: tuple[int, int, int]) -> tuple[list[range], list[bool]]:
    """Integers, slices with positive steps and one Ellipsis -> the range of each axis, and which axes to drop."""
    key = key if isinstance(key, tuple) else (key,)
    if Ellipsis in key:
        at = key.index(Ellipsis)
        key = key[:at] + (slice(None),) * (len(shape) - len(key) + 1) + key[at + 1 :]
    if len(key) > len(shape):
        raise IndexError(f"{len(key)} indices for {len(shape)} axes")
    key = key + (slice(None),) * (len(shape) - len(key))
    ranges, drop = [], []
    for k, n in zip(key, shape):
        if isinstance(k, slice):
            span = range(*k.indices(n))
            if span.step < 0:
                raise IndexError("slices with negative steps are not supported")
            ranges.append(span)
            drop.append(False)
        else:
            i = k.__index__()
            if not -n <= i < n:
                raise IndexError(f"index {i} is out of bounds for an axis of size {n}")
            ranges.append(range(i % n, i % n + 1))
            drop.append(True)
    return ranges, drop


def check_finite(array: np.ndarray, where: str) -> None:
    """Raises UserError if the array contains NaN or infinity; `where` names file and slice."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = np.count_nonzero(~np.isfinite(array))
        raise UserError(f"{where}: {bad} NaN or infinite values: replace them (numpy.nan_to_num) and save again")


def check_type(stored: Stored) -> None:
    """Raises UserError for values that are not grey levels, and for an empty array."""
    dtype = stored.dtype
    if dtype.kind == "c":
        raise UserError(f"{stored.path}: complex values ({dtype}): save the magnitude or the real part")
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise UserError(f"{stored.path}: values of type {dtype}: SCCS reads integers and floats of up to 64 bits")
    if min(stored.shape, default=1) < 1:
        raise UserError(f"{stored.path}: image of size zero, shape {stored.shape}: write the file again")


def resolve_axes(given: str | None, stored: Stored) -> str:
    """One letter of ``zyx`` for each stored axis, ``.`` for an axis of size 1 to be dropped.

    given: the user's axes, or None for the file's. Raises UserError for axes that do not fit, for colours, and for
    more axes than a volume has.
    """
    if given is not None:
        return _user_axes(given, stored)
    shape, axes = stored.shape, stored.axes
    if axes is None or "y" not in axes or "x" not in axes:
        axes = "?" * (len(shape) - 2) + "yx"
    if len(axes) != max(len(shape), 2):
        raise UserError(
            f"{stored.path}: its metadata names {len(axes)} axes ({axes}), not {len(shape)}: fix it, or give `axes`"
        )
    if twice := [letter for letter in "zyx" if axes.count(letter) > 1]:
        raise UserError(f"{stored.path}: its metadata names axis {twice[0]} twice ({axes}): fix it, or give `axes`")
    if len(shape) < 2:
        raise UserError(f"{stored.path}: has shape {shape}: an image needs two or three axes")
    letters = "".join("." if a not in "zyx" and n == 1 else a for a, n in zip(axes, shape))
    if any(n > 1 and a not in "zyx" for a, n in zip(letters, shape)):  # slices saved as times or channels
        letters = "".join("." if a == "z" and n == 1 else a for a, n in zip(letters, shape))
    others = [(a, n) for a, n in zip(letters, shape) if a not in "yx."]
    channels = dict(others).get("s") or dict(others).get("c")
    if not channels and len(others) == 1 and others[0][0] in "?qi" and shape[-1] in (3, 4) and shape[-2] > 4:
        channels = shape[-1]  # (Y, X, 3) without named axes
    if channels:
        colour = " (RGB)" if channels == 3 else " (RGBA)" if channels == 4 else ""
        raise UserError(
            f"{stored.path}: has {channels} channels{colour}, but SCCS needs greyscale images: convert it to grey "
            f"(Fiji: Image > Type > 8-bit), or give `axes` if they are slices (shape {shape})"
        )
    if len(others) > 1:
        raise UserError(
            f"{stored.path}: has shape {shape}, axes {axes.replace('?', '-')}: more than one axis besides y and x; "
            "save one volume of it, or give `axes` (letters of zyxcts; axes other than z, y, x must have size 1)"
        )
    return "".join(a if a in "yx." else "z" for a in letters)


def _user_axes(given: str, stored: Stored) -> str:
    letters, shape = given.lower(), stored.shape
    if set(letters) - set("zyxcts") or len(set(letters)) != len(letters) or not {"y", "x"} <= set(letters):
        raise UserError(f"{stored.path}: axes {given!r}: write each axis once, as letters of zyxcts, including y and x")
    for droppable in "sctz":  # a file may omit axes of size 1
        if len(letters) > len(shape):
            letters = letters.replace(droppable, "")
    single = [i for i, n in enumerate(shape) if n == 1]
    dropped = single[: max(0, len(shape) - len(letters))]
    if len(letters) != len(shape) - len(dropped):
        raise UserError(f"{stored.path}: axes {given!r} do not fit its shape {shape}: name each of its axes")
    rest = iter(letters)
    full = "".join("." if i in dropped else next(rest) for i in range(len(shape)))
    for letter, n in zip(full, shape):
        if letter in "cts" and n > 1:
            raise UserError(
                f"{stored.path}: axis {letter} has size {n}, but SCCS needs a single greyscale volume: save one of them"
            )
    return re.sub("[cts]", ".", full)


def stored_voxel_size(stored: Stored, letters: str) -> tuple[float, float, float] | None:
    """The file's voxel size, (z, y, x) nm; for a single slice of unknown thickness, the pixel height is used."""
    stated = {**(stored.named_scales or {}), **dict(zip(letters, stored.scales or ()))}
    found = {a: s for a, s in stated.items() if s and LEAST_VOXEL <= s <= MOST_VOXEL}
    if odd := [f"{s:g}" for a, s in stated.items() if s and a in "zyx" and a not in found]:
        stored.notes += (f"its voxel size, {' x '.join(odd)} nm, is implausible and ignored: give `voxel_size`",)
    depth = dict(zip(letters, stored.shape)).get("z", 1)
    if depth == 1 and "z" not in found and "y" in found:
        found["z"] = found["y"]
    if not {"z", "y", "x"} <= set(found):
        if {"y", "x"} <= set(found):
            stored.notes += (
                f"it gives pixels of {found['y']:g} x {found['x']:g} nm, but no slice spacing: give `voxel_size`",
            )
        return None
    z, y, x = (float(f"{found[a]:.9g}") for a in "zyx")
    return z, y, x


def stored_translation(stored: Stored, letters: str) -> tuple[float, float, float]:
    """(z, y, x) nm from the origin to the first voxel; 0 if the file does not say, or nothing that is a number."""
    found = {a: t for a, t in zip(letters, stored.translations or ()) if a in "zyx"}
    if any(not math.isfinite(t) for t in found.values()):
        stored.notes += ("its translation is not a finite number and is ignored",)
    z, y, x = (float(f"{t:.9g}") if math.isfinite(t := found.get(a, 0.0)) else 0.0 for a in "zyx")
    return z, y, x
