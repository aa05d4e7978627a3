"""Images of every usual EM format as one thing: a lazy (Z, Y, X) array of grey values with its voxel size in nm.

`open_image` reads headers only. Pixels are read when the array is indexed, and no more of them than the format makes
necessary: a page or its strips and tiles of a TIFF, the chunks that a region touches in HDF5, Zarr and N5. An opened
image holds a path and numbers, so that it can be pickled; each process opens its own file handles.
"""
from __future__ import annotations

import difflib
import glob
import json
import logging
import math
import os
import re
import threading
import weakref
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Sequence

import numpy as np

from registry.base import UserError

TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")
FLAT_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".pgm")
MRC_SUFFIXES = (".mrc", ".rec", ".st", ".ali", ".map")
_HDF5 = re.compile(r"^(?P<file>.*?\.(?:h5|hdf5|hdf|he5))(?::(?P<inside>.*))?$", re.IGNORECASE)
_CHUNKED_INSIDE = re.compile(r"^(?P<file>.*?\.(?:zarr|n5)):(?P<inside>.*)$", re.IGNORECASE)
_KNOWN = "TIFF, PNG, JPEG, BMP, PGM, HDF5 (file.h5:/path), MRC, OME-Zarr, Zarr, N5, or a folder or glob of 2-D images"

# Slices are read one at a time, chunks are many slices deep: the other slices of a chunk layer are kept, up to this
# size over all open images.
SLAB_BYTES = 256 * 2**20

_NANOMETRES = {
    "pm": 1e-3, "picometer": 1e-3,
    "a": 0.1, "å": 0.1, "angstrom": 0.1, "ångström": 0.1,
    "nm": 1.0, "nanometer": 1.0, "nanometre": 1.0,
    "um": 1e3, "µm": 1e3, "μm": 1e3, "\\u00b5m": 1e3, "micron": 1e3, "microns": 1e3, "micrometer": 1e3,
    "micrometre": 1e3,
    "mm": 1e6, "millimeter": 1e6, "millimetre": 1e6,
    "cm": 1e7, "centimeter": 1e7, "centimetre": 1e7,
    "m": 1e9, "meter": 1e9, "metre": 1e9,
    "inch": 2.54e7,
}

# tifffile logs what it finds odd in a file; here that ends in one UserError or is of no consequence.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


@dataclass
class ImageSource:
    """An image that was opened, not read.

    path: as expanded, with the path inside a container. array: lazy, shape (Z, Y, X), integer or float; basic
    indexing gives ndarrays. voxel_size: (z, y, x) in nm, or None where neither user nor file says.
    """

    path: str
    array: "LazyArray"
    voxel_size: tuple[float, float, float] | None

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype


def open_image(
    path: str | os.PathLike,
    *,
    axes: str | None = None,
    voxel_size: Sequence[float] | float | None = None,
    level: int | None = None,
) -> ImageSource:
    """Open an image as a lazy (Z, Y, X) array; a 2-D image is a volume with Z = 1.

    path: a file, folder or glob (2-D images in natural order), or a path inside a container (``a.h5:/em/raw``,
        ``a.zarr/em/s0``, ``a.n5/em/s0``). ``~`` and ``${VARIABLES}`` are expanded.
    axes: the order of the axes as NumPy sees the file (for N5: slowest first), letters of ``zyxcts``, overrides what
        the file says; axes other than z, y, x must have size 1 and are dropped.
    voxel_size: (z, y, x) in nm, or one number for all three; overrides what the file says.
    level: of a pyramid (OME-Zarr, N5, pyramidal TIFF), 0 = finest = default.

    Raises
        UserError: one line that names the file, the fault and the remedy.
    """
    location = expand(path)
    size = _user_voxel_size(voxel_size, location)
    stored = _open_stored(location, level)
    if level is not None and not stored.has_levels and level != 0:
        raise UserError(f"{stored.path}: has no levels, `level: {level}` was asked for: leave it out")
    _check_type(stored)
    letters = _resolve_axes(axes, stored)
    return ImageSource(stored.path, LazyArray(stored, letters), size or _stored_voxel_size(stored, letters))


def expand(path: str | os.PathLike) -> str:
    """`path` with ``~``, ``$VARIABLE`` and ``${VARIABLE}`` filled in. A variable that is not set is a UserError."""
    text = os.fspath(path)

    def value(match: re.Match) -> str:
        name = match[1] or match[2]
        if not os.environ.get(name):
            raise UserError(f"{text}: the environment variable {name} is not set: export {name}=<folder>")
        return os.environ[name]

    return os.path.expanduser(re.sub(r"\$(?:\{([^}]*)\}|([A-Za-z_]\w*))", value, text))


def check_slice(array: np.ndarray, where: str) -> None:
    """Refuse an image slice (or a sample of slices) that holds nothing to learn from.

    Raises
        UserError: values that are not finite, or one and the same value everywhere; `where` names file and slice.
    """
    _check_finite(array, where)
    if array.size and array.min() == array.max():
        raise UserError(f"{where}: constant image, every pixel is {array.flat[0]}: check the file or leave it out")


# --- the lazy array ---------------------------------------------------------------------------------------------------


class LazyArray:
    """(Z, Y, X) view of a stored array of any axis order; ``array[z]``, ``array[a:b, y0:y1, x0:x1]`` read pixels.

    Values keep their type, bool becomes uint8, byte order becomes native. A float slice with NaN or infinity, a chunk
    or page that cannot be decoded, a file that ends early: UserError with path and slice.
    """

    ndim = 3

    def __init__(self, stored: "_Stored", letters: str):
        """letters: one of ``zyx`` for each stored axis, ``.`` for axes of size 1 to be dropped; z may be missing."""
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
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)

    def __getitem__(self, key) -> np.ndarray:
        ranges, drop = _basic_key(key, self.shape)
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
            _check_finite(plane, f"{self.stored.path}, slice z={z}")
        return block

    def _layer(self, zs: range, y: slice, x: slice) -> np.ndarray:
        """Slices `zs` of a region, from the slab that was kept, or with the rest of their chunk layer kept as slab."""
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
        spans = {"z": z, "y": y, "x": x, ".": slice(0, 1)}
        where = f"{self.stored.path}, slice z={z.start}" + (f"..{z.stop - 1}" if z.stop - z.start > 1 else "")
        try:
            block = np.asarray(self.stored.read(tuple(spans[letter] for letter in self.letters)))
        except (UserError, MemoryError):
            raise
        except Exception as error:  # foreign decoders raise whatever they like; each of them means: unreadable pixels
            raise _unreadable(where, error) from error
        block = block.astype(self.dtype, copy=False)
        block = block.reshape([n for n, letter in zip(block.shape, self.letters) if letter != "."])
        order = self.letters.replace(".", "")
        if "z" not in order:
            block, order = block[None], "z" + order
        return np.ascontiguousarray(block.transpose([order.index(letter) for letter in "zyx"]))


_slab_owners: list[weakref.ref] = []  # latest last
_slab_lock = threading.Lock()


def _keep_slab(array: LazyArray, slab: tuple[tuple, np.ndarray]) -> None:
    """Leave `slab` with its array; the arrays that were given theirs longest ago lose them when space runs out."""
    with _slab_lock:
        array._slab = slab
        owners = [o for ref in _slab_owners if (o := ref()) is not None and o is not array and o._slab] + [array]
        while sum(o._slab[1].nbytes for o in owners) > SLAB_BYTES:
            owners.pop(0)._slab = None
        _slab_owners[:] = map(weakref.ref, owners)


def _basic_key(key: Any, shape: tuple[int, int, int]) -> tuple[list[range], list[bool]]:
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


def _check_finite(array: np.ndarray, where: str) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = np.count_nonzero(~np.isfinite(array))
        raise UserError(f"{where}: {bad} NaN or infinite values: replace them (numpy.nan_to_num) and save again")


def _unreadable(where: str, error: Exception) -> UserError:
    reason = " ".join(f"{error}".split()) or type(error).__name__
    if "imagecodecs" in reason:
        return UserError(f'{where}: its compression needs imagecodecs: pip install "sccs[tiff]"')
    return UserError(f"{where}: cannot be read, the file is truncated or damaged ({reason[:200]}): copy it anew")


# --- axes, types, voxel sizes -----------------------------------------------------------------------------------------


def _resolve_axes(given: str | None, stored: "_Stored") -> str:
    """One letter of ``zyx`` for each stored axis, ``.`` for an axis of size 1 to be dropped."""
    if given is not None:
        return _user_axes(given, stored)
    shape, axes = stored.shape, stored.axes
    if axes is None or "y" not in axes or "x" not in axes:
        axes = "?" * (len(shape) - 2) + "yx"
    if len(shape) < 2:
        raise UserError(f"{stored.path}: has shape {shape}: an image needs two or three axes")
    letters = "".join("." if a not in "zyx" and n == 1 else a for a, n in zip(axes, shape))
    if any(n > 1 and a not in "zyx" for a, n in zip(letters, shape)):  # slices saved as times or channels
        letters = "".join("." if a == "z" and n == 1 else a for a, n in zip(letters, shape))
    others = [(a, n) for a, n in zip(letters, shape) if a not in "yx."]
    channels = dict(others).get("s") or dict(others).get("c")
    if not channels and len(others) == 1 and others[0][0] in "?qi" and shape[-1] in (3, 4) and shape[-2] > 4:
        channels = shape[-1]  # (Y, X, 3) without a word about its axes
    if channels:
        colour = " (RGB)" if channels == 3 else " (RGBA)" if channels == 4 else ""
        raise UserError(
            f"{stored.path}: has {channels} channels{colour}, SCCS takes grey images: convert it to grey "
            f"(Fiji: Image > Type > 8-bit), or say `axes:` if they are slices (shape {shape})"
        )
    if len(others) > 1:
        raise UserError(
            f"{stored.path}: has shape {shape}, axes {axes.replace('?', '-')}: more than one axis beside y and x; "
            "save one volume of it, or say `axes:` (letters of zyxcts, all but z, y, x of size 1)"
        )
    return "".join(a if a in "yx." else "z" for a in letters)


def _user_axes(given: str, stored: "_Stored") -> str:
    letters, shape = given.lower(), stored.shape
    if set(letters) - set("zyxcts") or len(set(letters)) != len(letters) or not {"y", "x"} <= set(letters):
        raise UserError(f"{stored.path}: axes {given!r}: write each axis once, letters of zyxcts, y and x among them")
    for droppable in "sctz":  # a file does not store every axis of size 1
        if len(letters) > len(shape):
            letters = letters.replace(droppable, "")
    single = [i for i, n in enumerate(shape) if n == 1]
    dropped = single[: max(0, len(shape) - len(letters))]
    if len(letters) != len(shape) - len(dropped):
        raise UserError(f"{stored.path}: axes {given!r} do not fit its shape {shape}: name each axis of it")
    rest = iter(letters)
    full = "".join("." if i in dropped else next(rest) for i in range(len(shape)))
    for letter, n in zip(full, shape):
        if letter in "cts" and n > 1:
            raise UserError(f"{stored.path}: axis {letter} has size {n}: SCCS takes one grey volume, save one of them")
    return re.sub("[cts]", ".", full)


def _check_type(stored: "_Stored") -> None:
    dtype = stored.dtype
    if dtype.kind == "c":
        raise UserError(f"{stored.path}: complex values ({dtype}): save the magnitude or the real part")
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise UserError(f"{stored.path}: values of type {dtype}: SCCS takes integers and floats up to 64 bits")
    if 0 in stored.shape:
        raise UserError(f"{stored.path}: image of size zero, shape {stored.shape}: write the file anew")


def _user_voxel_size(value: Sequence[float] | float | None, path: str) -> tuple[float, float, float] | None:
    if value is None:
        return None
    try:
        numbers = tuple(float(v) for v in (value if np.ndim(value) else [value] * 3))
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != 3 or not all(math.isfinite(v) and v > 0 for v in numbers):
        raise UserError(f"{path}: voxel_size {value!r}: write three positive numbers in nm, [z, y, x]")
    return numbers


def _stored_voxel_size(stored: "_Stored", letters: str) -> tuple[float, float, float] | None:
    """What the file says, (z, y, x) nm; a lone slice without a thickness is taken as thick as its pixels are high."""
    found = {a: s for a, s in zip(letters, stored.scales or ()) if s and math.isfinite(s) and s > 0}
    depth = dict(zip(letters, stored.shape)).get("z", 1)
    if depth == 1 and "z" not in found and "y" in found:
        found["z"] = found["y"]
    return tuple(float(f"{found[a]:.9g}") for a in "zyx") if {"z", "y", "x"} <= set(found) else None


def _nanometres(unit: Any) -> float | None:
    return _NANOMETRES.get(str(unit).strip().lower()) if unit else None


# --- finding the format -----------------------------------------------------------------------------------------------


def _open_stored(location: str, level: int | None) -> "_Stored":
    hdf5 = _HDF5.match(location)
    if hdf5 and not os.path.isdir(location):
        _require(hdf5["file"])
        return _guarded(hdf5["file"], lambda: _HDF5Array(hdf5["file"], hdf5["inside"]))
    inside = _CHUNKED_INSIDE.match(location)
    if inside:
        location = os.path.join(inside["file"], inside["inside"].strip("/"))
    if os.path.isdir(location):
        if _is_zarr(location):
            return _guarded(location, lambda: _ZarrArray(location, level))
        if _is_n5(location):
            return _guarded(location, lambda: _N5Array(location, level))
        return _FlatImages(location, _folder_images(location))
    if not os.path.exists(location) and glob.has_magic(location):
        files = sorted((f for f in glob.glob(location, recursive=True) if os.path.isfile(f)), key=_natural)
        if not files:
            raise UserError(f"{location}: no file matches this pattern: check the folder and the suffix")
        return _FlatImages(location, files)
    _require(location)
    suffix = Path(location).suffix.lower()
    if suffix in TIFF_SUFFIXES:
        return _guarded(location, lambda: _TiffStack(location, level))
    if suffix in FLAT_SUFFIXES:
        return _FlatImages(location, [location])
    if suffix in MRC_SUFFIXES:
        return _guarded(location, lambda: _MRCArray(location))
    raise UserError(f"{location}: unknown image format {suffix or 'without suffix'!r}: SCCS reads {_KNOWN}")


def _guarded(path: str, opener: Callable[[], "_Stored"]) -> "_Stored":
    """Whatever a format library raises on a file that is not what its name says becomes one line."""
    try:
        return opener()
    except (UserError, MemoryError):
        raise
    except Exception as error:
        raise _unreadable(path, error) from error


def _require(path: str) -> None:
    """UserError where `path` does not exist, with the nearest name that does."""
    if os.path.exists(path):
        return
    missing = Path(path)
    while not missing.parent.exists():
        missing = missing.parent
    names = os.listdir(missing.parent) if missing.parent.is_dir() else []
    close = difflib.get_close_matches(missing.name, names, n=1, cutoff=0.4)
    hint = f"did you mean {missing.parent / close[0]}?" if close else f"check the path, {missing} does not exist"
    raise UserError(f"{path}: no such file or folder: {hint}")


def _listed(names: Iterable[str], most: int = 20) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _natural(name: str) -> list:
    """Sorting key: slice_2 before slice_10."""
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.split(r"(\d+)", name.lower())]


def _missing(package: str, extra: str, path: str, error: ImportError) -> UserError:
    return UserError(f'{path}: this format needs {package}: pip install "sccs[{extra}]" ({error})')


# --- stored arrays, one class a format --------------------------------------------------------------------------------


class _Stored:
    """An array in a file, in the file's own axis order.

    path str; shape; dtype; axes: lower-case letters, one an axis, or None where the file does not say; scales: nm per
    step of each axis, None where unknown; chunks: shape of a chunk, or None; `read(slices)` with one slice of step 1
    for each axis gives the ndarray.
    """

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype
    axes: str | None = None
    scales: tuple[float | None, ...] | None = None
    chunks: tuple[int, ...] | None = None
    has_levels = False
    _opened: tuple[int, Any] | None = None

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
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


def _read_plain(
    path: str, dtype: np.dtype, offset: int, shape: tuple[int, ...], spans: tuple[slice, ...]
) -> np.ndarray:
    """A region of an uncompressed array. The file is mapped for this one read, so that pages do not pile up."""
    return np.array(np.memmap(path, dtype, "r", offset, shape)[spans])


class _TiffStack(_Stored):
    """TIFF, BigTIFF, ImageJ, OME-TIFF: pages, or one block; only strips and tiles that a region touches are read."""

    def __init__(self, path: str, level: int | None):
        self.path, self.level = path, level
        tif, pages, _ = self.handle()
        series = self._series(tif)
        self.has_levels = bool(level) or len(series[0].levels) > 1
        first = series[0]
        keyframe = first.keyframe
        if keyframe.dtype is None:
            raise UserError(f"{path}: pixels of {keyframe.bitspersample} bits are not supported: save 8, 16 or 32 bits")
        self.dtype = np.dtype(first.dtype).newbyteorder(tif.byteorder) if first.dtype.kind != "b" else first.dtype
        self.page = tuple(keyframe.shape)
        shape, axes = tuple(first.get_shape(False)), first.get_axes(False).lower()
        if axes.endswith("s") and shape[-1] == 1:
            shape, axes = shape[:-1], axes[:-1]
        lead = len(shape) - len(self.page)
        if len(series) > 1:
            shape, axes = (len(pages), *self.page), "q" + first.axes.lower()[-len(self.page) :]
        elif lead < 0 or shape[lead:] != self.page or math.prod(shape[:lead]) * math.prod(self.page) != first.size:
            shape, axes = tuple(first.shape), first.axes.lower()
        self.shape, self.axes = shape, axes
        self.block = first.dataoffset if len(series) == 1 else None
        self._check_complete(tif, pages)
        z, y, x = _tiff_scales(tif, first)
        fine = series[0] if level in (None, 0) else tif.series[0]
        y, x = (s and s * full / n for s, full, n in zip((y, x), fine.keyframe.shape[-2:], self.page[-2:]))
        self.scales = tuple({"y": y, "x": x}.get(a, z) for a in axes)

    def _open(self) -> tuple[Any, list, threading.Lock]:
        import tifffile

        tif = tifffile.TiffFile(self.path)
        try:
            if not tif.series:
                raise UserError(f"{self.path}: holds no image, the file is truncated or damaged: copy it anew")
            series = self._series(tif)
        except Exception:
            tif.close()
            raise
        pages = series[0] if len(series) == 1 else [page for s in series for page in s.pages]
        return tif, pages, threading.Lock()

    def __del__(self) -> None:
        if self._opened is not None:
            self._opened[1][0].close()

    def _series(self, tif: Any) -> list:
        """The image of the file: one series, or pages that were written one by one and so are a series each."""
        series = [s for s in tif.series if s.size and not getattr(s.keyframe, "is_reduced", False)] or list(tif.series)
        shapes = [(tuple(s.shape), s.dtype) for s in series]
        if len(set(shapes)) > 1 or (len(series) > 1 and any(len(s.pages) != 1 for s in series)):
            found = _listed(f"{s.shape} {s.dtype}" for s in series)
            raise UserError(f"{self.path}: holds {len(series)} images of different kinds ({found}): save one of them")
        if not self.level:
            return series
        count = len(series[0].levels)
        if len(series) > 1 or not 0 <= self.level < count:
            raise UserError(f"{self.path}: has {count} level(s), `level: {self.level}` was asked for: 0 is the finest")
        return [series[0].levels[self.level]]

    def _check_complete(self, tif: Any, pages: Any) -> None:
        size = os.path.getsize(self.path)
        if self.block is not None:
            end = self.block + math.prod(self.shape) * self.dtype.itemsize
        else:
            last = pages[len(pages) - 1]
            same_file = last is not None and last.parent is tif
            end = max((o + n for o, n in zip(last.dataoffsets, last.databytecounts)), default=0) if same_file else 0
        if end > size or _tiff_chain_broken(tif):
            raise UserError(f"{self.path}: truncated TIFF, the file ends before its last slice: copy it anew")

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        if self.block is not None:
            return _read_plain(self.path, self.dtype, self.block, self.shape, spans)
        lead = len(self.shape) - len(self.page)
        numbers = np.arange(math.prod(self.shape[:lead])).reshape(self.shape[:lead])[spans[:lead]]
        planes = [self._page(int(i), spans[lead:]) for i in numbers.flat]
        return np.stack(planes).reshape(*numbers.shape, *planes[0].shape)

    def _page(self, number: int, spans: tuple[slice, ...]) -> np.ndarray:
        tif, pages, lock = self.handle()
        with lock:
            page = pages[number]
            if page is None:
                raise UserError(f"{self.path}: page {number} is missing: copy the file and its companions anew")
            if len(self.page) != 2:
                return page.asarray()[spans]
            keyframe, file = page.keyframe, page.parent.filehandle.path
            offsets, counts = page.dataoffsets, page.databytecounts
            tables = {"jpegtables": page.jpegtables, "jpegheader": keyframe.jpegheader} if _is_jpeg(keyframe) else {}
        if keyframe.is_memmappable and keyframe.is_contiguous:
            return _read_plain(file, self.dtype, offsets[0], self.page, spans)
        return _read_segments(file, keyframe, offsets, counts, tables, spans)


def _is_jpeg(keyframe: Any) -> bool:
    return int(keyframe.compression) in (6, 7, 33007, 34892)


def _read_segments(
    file: str, keyframe: Any, offsets: Sequence[int], counts: Sequence[int], tables: dict, spans: tuple[slice, ...]
) -> np.ndarray:
    """The region `spans` (y, x) of a page, from the strips or tiles that it touches."""
    height, width = keyframe.shape
    rows, cols = (
        (keyframe.tilelength, keyframe.tilewidth) if keyframe.is_tiled else (min(keyframe.rowsperstrip, height), width)
    )
    across = math.ceil(width / cols)
    (y0, y1), (x0, x1) = ((s.start, s.stop) for s in spans)
    out = np.full((y1 - y0, x1 - x0), keyframe.nodata, keyframe.dtype)
    with open(file, "rb") as stream:
        for i in range(y0 // rows, math.ceil(y1 / rows)):
            for j in range(x0 // cols, math.ceil(x1 / cols)):
                index = i * across + j
                stream.seek(offsets[index])
                data = stream.read(counts[index])
                if len(data) < counts[index]:
                    raise EOFError(f"strip or tile {index} ends early")
                tile = keyframe.decode(data, index, _fullsize=False, **tables)[0] if data else None
                if tile is None:  # a segment left out by the writer holds the background
                    continue
                tile = tile[0, :, :, 0]
                top, left = i * rows, j * cols
                bottom, right = min(top + tile.shape[0], y1), min(left + tile.shape[1], x1)
                a, b = max(top, y0), max(left, x0)
                out[a - y0 : bottom - y0, b - x0 : right - x0] = tile[a - top : bottom - top, b - left : right - left]
    return out


def _tiff_chain_broken(tif: Any) -> bool:
    """Whether the list of pages breaks off: the last page that was found points to one that is not there."""
    last, layout = tif.pages[len(tif.pages) - 1], tif.tiff
    stream = tif.filehandle
    stream.seek(last.offset)
    count = int.from_bytes(stream.read(layout.tagnosize), "little" if tif.byteorder == "<" else "big")
    stream.seek(last.offset + layout.tagnosize + count * layout.tagsize)
    following = stream.read(layout.offsetsize)
    return len(following) < layout.offsetsize or any(following)


def _tiff_scales(tif: Any, series: Any) -> tuple[float | None, float | None, float | None]:
    """(z, y, x) nm from OME, ImageJ or plain resolution tags, None where the file does not say."""
    if tif.is_ome:
        import xml.etree.ElementTree as xml

        pixels = next((e for e in xml.fromstring(tif.ome_metadata).iter() if e.tag.endswith("}Pixels")), None)
        found = pixels.attrib if pixels is not None else {}
        return tuple(
            float(found[f"PhysicalSize{a}"]) * factor
            if f"PhysicalSize{a}" in found and (factor := _nanometres(found.get(f"PhysicalSize{a}Unit", "µm")))
            else None
            for a in "ZYX"
        )
    per_y, per_x = _per_unit(series.keyframe, "YResolution"), _per_unit(series.keyframe, "XResolution")
    if tif.is_imagej:
        found = tif.imagej_metadata or {}
        factor = _nanometres(found.get("unit"))
        if not factor:
            return None, None, None
        spacing = found.get("spacing")
        return (spacing and abs(float(spacing)) * factor), (per_y and factor / per_y), (per_x and factor / per_x)
    factor = {2: 2.54e7, 3: 1e7}.get(int(series.keyframe.resolutionunit or 1))
    y, x = (factor / r if factor and r else None for r in (per_y, per_x))
    # Dots per inch of a screen or a printer are no voxel size: no electron microscope has pixels of 10 µm.
    return (None, y, x) if y and x and max(y, x) < 1e4 else (None, None, None)


def _per_unit(keyframe: Any, name: str) -> float | None:
    tag = keyframe.tags.get(name)
    if tag is None or not tag.value[1]:
        return None
    return tag.value[0] / tag.value[1] or None


class _FlatImages(_Stored):
    """2-D images in a row, (Z, Y, X), one file a slice; also a single PNG or JPEG."""

    axes = "zyx"

    def __init__(self, path: str, files: list[str]):
        self.path, self.files = path, files
        kinds = [_flat_kind(file) for file in files]
        usual, count = Counter(kinds).most_common(1)[0]
        odd = next((i for i, kind in enumerate(kinds) if kind != usual), None)
        if odd is not None:
            raise UserError(
                f"{files[odd]}: is {kinds[odd][0]} {kinds[odd][1]}, {count} of {len(files)} images beside it are "
                f"{usual[0]} {usual[1]}: slices of a volume must be alike; mend it or move it away"
            )
        self.shape, self.dtype = (len(files), *usual[0]), np.dtype(usual[1])
        self._last: tuple[int, np.ndarray] | None = None

    def __getstate__(self) -> dict:
        return {**super().__getstate__(), "_last": None}

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        z, y, x = spans
        return np.stack([self._slice(i)[y, x] for i in range(z.start, z.stop)])

    def _slice(self, number: int) -> np.ndarray:
        last = self._last
        if last is None or last[0] != number:
            try:
                last = self._last = (number, _flat_read(self.files[number]))
            except (UserError, MemoryError):
                raise
            except Exception as error:
                raise _unreadable(self.files[number], error) from error
        return last[1]


def _folder_images(folder: str) -> list[str]:
    names = [n for n in os.listdir(folder) if not n.startswith(".")]
    images = [n for n in names if Path(n).suffix.lower() in (*TIFF_SUFFIXES, *FLAT_SUFFIXES)]
    if not images:
        what = "an empty folder" if not names else f"a folder without images (holds {_listed(sorted(names), 5)})"
        raise UserError(f"{folder}: {what}: give a folder of TIFF, PNG or JPEG slices, a Zarr or an N5 folder")
    return [os.path.join(folder, n) for n in sorted(images, key=_natural)]


def _flat_kind(file: str) -> tuple[tuple[int, int], str]:
    """((H, W), dtype) of a grey 2-D image, from its header."""
    if Path(file).suffix.lower() in TIFF_SUFFIXES:
        array = open_image(file).array
        if array.shape[0] != 1:
            raise UserError(f"{file}: is a stack of {array.shape[0]} slices: give the file itself, not its folder")
        return array.shape[1:], str(array.dtype)
    if Path(file).suffix.lower() not in FLAT_SUFFIXES:
        raise UserError(f"{file}: not a 2-D image format that SCCS knows: slices are TIFF, PNG, JPEG, BMP or PGM")
    with _pillow(file) as image:
        bands = len(image.getbands())
        if bands > 1:
            colour = f"{bands} channels ({image.mode})"
            raise UserError(
                f"{file}: has {colour}, SCCS takes grey images: convert it to grey (Fiji: Image > Type > 8-bit)"
            )
        kind = {"1": "uint8", "L": "uint8", "P": "uint8", "I": "int32", "F": "float32"}.get(image.mode, "uint16")
        return (image.height, image.width), kind


def _flat_read(file: str) -> np.ndarray:
    if Path(file).suffix.lower() in TIFF_SUFFIXES:
        return open_image(file).array[0]
    with _pillow(file) as image:
        return np.asarray(image)


def _pillow(file: str) -> Any:
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # slices of EM volumes exceed Pillow's guard against hostile downloads
    try:
        return Image.open(file)
    except Exception as error:
        raise UserError(f"{file}: not a readable image, damaged or of another format: write it anew") from error


class _MRCArray(_Stored):
    """MRC/CCP4 maps: the fixed header of MRC2014 (https://doi.org/10.1016/j.jsb.2015.04.002), then plain pixels."""

    axes = "zyx"
    _TYPES = {0: "i1", 1: "i2", 2: "f4", 4: "c8", 6: "u2", 12: "f2"}

    def __init__(self, path: str):
        self.path = path
        with open(path, "rb") as stream:
            raw = stream.read(1024)
        if len(raw) < 1024:
            raise UserError(f"{path}: truncated MRC file, shorter than a header: copy it anew")
        order = next((o for o in "<>" if np.frombuffer(raw, o + "i4", 1, 12)[0] in (*self._TYPES, 16, 101)), None)
        if order is None:
            raise UserError(f"{path}: no MRC file, its header names no known mode: check what it is")
        words, numbers = np.frombuffer(raw, order + "i4"), np.frombuffer(raw, order + "f4")
        mode = int(words[3])
        if mode not in self._TYPES:
            raise UserError(f"{path}: MRC mode {mode} (RGB or 4 bits) is not supported: save 8, 16 or 32 bit grey")
        kind = self._TYPES[mode]
        if mode == 0 and words[38] == 1146047817 and not words[39] & 1:  # IMOD's stamp: bytes are unsigned
            kind = "u1"
        self.dtype = np.dtype(order + kind)
        self.shape = tuple(int(n) for n in words[2::-1])
        # cell edges in Å over the sampling along them, stored (x, y, z)
        edges, steps = numbers[12:9:-1], words[9:6:-1]
        self.scales = tuple(float(edge) / int(n) / 10 if n > 0 else None for edge, n in zip(edges, steps))
        self.offset = 1024 + int(words[23])
        end = self.offset + math.prod(self.shape) * self.dtype.itemsize
        if min(*self.shape, self.offset - 1024) < 0 or end > os.path.getsize(path):
            raise UserError(f"{path}: truncated MRC file, shorter than its header says, {self.shape}: copy it anew")

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        return _read_plain(self.path, self.dtype, self.offset, self.shape, spans)


class _HDF5Array(_Stored):
    """A dataset of an HDF5 file; the only one, where the path names none."""

    def __init__(self, file: str, inside: str | None):
        try:
            import h5py
        except ImportError as error:
            raise _missing("h5py", "hdf5", file, error) from error
        self.file = file
        with h5py.File(file, "r") as root:
            found: dict[str, Any] = {}
            root.visititems(lambda name, item: found.update({"/" + name: item}) if _is_image(item, h5py) else None)
            name = "/" + (inside or "").strip("/")
            if name == "/" and len(found) == 1:
                name = next(iter(found))
            if name not in root or not isinstance(root[name], h5py.Dataset):
                kinds = _listed(f"{n} {d.shape} {d.dtype}" for n, d in found.items())
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


# --- Zarr -------------------------------------------------------------------------------------------------------------


def _is_zarr(folder: str) -> bool:
    return any(os.path.exists(os.path.join(folder, name)) for name in ("zarr.json", ".zarray", ".zgroup"))


class _ZarrArray(_Stored):
    """An OME-Zarr image (0.4, 0.5) at one level, or a plain Zarr array (formats 2 and 3)."""

    def __init__(self, path: str, level: int | None):
        try:
            import zarr
        except ImportError as error:
            raise _missing("zarr", "zarr", path, error) from error
        node = zarr.open(path, mode="r")
        if isinstance(node, zarr.Group):
            image = _multiscale(node.attrs)
            if image is None:
                path = _only_array(node, path)
                level = None
            else:
                self.has_levels = True
                chosen = _level(path, level, [d["path"] for d in image["datasets"]])
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
        self.axes = "".join({"channel": "c", "time": "t"}.get(a.get("type"), str(a["name"])[:1].lower()) for a in axes)
        scale = np.ones(len(axes))
        for step in (dataset.get("coordinateTransformations") or []) + (image.get("coordinateTransformations") or []):
            if step.get("type") == "scale" and len(step.get("scale", ())) == len(axes):
                scale = scale * np.asarray(step["scale"], float)
        factors = [_nanometres(a.get("unit")) for a in axes]
        self.scales = tuple(float(s) * f if f else None for s, f in zip(scale, factors))

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
        if parent and _is_zarr(parent):
            node = zarr.open(parent, mode="r")
            image = _multiscale(node.attrs)
            if image and any(d["path"].strip("/") == name for d in image["datasets"]):
                return image, name
        parent, above = os.path.split(parent)
        name = f"{above}/{name}"
    return None, name


def _only_array(group: Any, path: str) -> str:
    import zarr

    members = sorted(group.members(max_depth=None), key=lambda item: _natural(item[0]))
    images = [n for n, item in members if isinstance(item, zarr.Group) and _multiscale(item.attrs)]
    arrays = [n for n, item in members if isinstance(item, zarr.Array)]
    if len(arrays) == 1:
        return os.path.join(path, arrays[0])
    if not arrays:
        raise UserError(f"{path}: a Zarr group without an array: give the path of an image inside it")
    raise UserError(f"{path}: several arrays and none named; write {path}/<one of: {_listed(images or arrays)}>")


def _level(path: str, level: int | None, names: Sequence[str]) -> str:
    number = level or 0
    if not 0 <= number < len(names):
        raise UserError(f"{path}: has {len(names)} level(s) ({_listed(names)}), `level: {level}` was asked for")
    return names[number]


# --- N5 ---------------------------------------------------------------------------------------------------------------


def _n5_attributes(folder: str) -> dict:
    file = os.path.join(folder, "attributes.json")
    return json.loads(Path(file).read_text()) if os.path.isfile(file) else {}


def _is_n5(folder: str) -> bool:
    """A folder with N5 attributes, or one inside a container (groups may go without attributes)."""
    parts = [folder, *map(str, Path(folder).parents)]
    return os.path.isfile(os.path.join(folder, "attributes.json")) or any(p.lower().endswith(".n5") for p in parts)


class _N5Array(_Stored):
    """A dataset of an N5 container, or one level (s0, s1, ...) of a group, as OpenOrganelle publishes them.

    N5 writes its axes fastest first, (x, y, z): they are turned here into (z, y, x), as with every other format.
    """

    def __init__(self, path: str, level: int | None):
        self._tensorstore(path)
        attributes = _n5_attributes(path)
        if "dimensions" not in attributes:
            levels = sorted((n for n in os.listdir(path) if re.fullmatch(r"s\d+", n)), key=_natural)
            if levels:
                self.has_levels = True
                path = os.path.join(path, _level(path, level, levels))
            else:
                path = _only_dataset(path)
            attributes = _n5_attributes(path)
        self.path = path
        array = self.handle()
        self.shape, self.dtype = tuple(array.shape)[::-1], np.dtype(array.dtype.numpy_dtype)
        self.chunks = tuple(array.chunk_layout.read_chunk.shape)[::-1]
        self.axes = "tczyx"[-len(self.shape) :] if len(self.shape) <= 5 else None
        self.scales = _n5_scales(path, attributes, len(self.shape))

    @staticmethod
    def _tensorstore(path: str) -> Any:
        try:
            import tensorstore
        except ImportError as error:
            raise _missing("tensorstore", "n5", path, error) from error
        return tensorstore

    def _open(self) -> Any:
        spec = {"driver": "n5", "kvstore": {"driver": "file", "path": os.path.join(os.path.abspath(self.path), "")}}
        return self._tensorstore(self.path).open(spec, open=True, read=True).result()

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        return self.handle()[spans[::-1]].read().result().T


def _only_dataset(path: str) -> str:
    found = sorted(_n5_datasets(Path(path)), key=_natural)
    if len(found) == 1:
        return os.path.join(path, found[0])
    if not found:
        raise UserError(f"{path}: an N5 group without a dataset: give the path of a dataset inside it")
    raise UserError(f"{path}: several datasets and none named; write {path}/<one of: {_listed(found)}>")


def _n5_datasets(root: Path) -> Iterator[str]:
    """Paths of the datasets under `root`; the folders of blocks below a dataset are not entered."""
    pending = [root]
    while pending:
        folder = pending.pop()
        if "dimensions" in _n5_attributes(str(folder)):
            yield str(folder.relative_to(root))
        else:
            pending += [p for p in folder.iterdir() if p.is_dir()]


def _n5_scales(path: str, attributes: dict, ndim: int) -> tuple[float | None, ...] | None:
    """nm for each axis, slowest first, of the dataset at `path`.

    `transform` (OpenOrganelle) names its axes and holds for the level itself. `pixelResolution` (N5 viewer) and
    `resolution` (Neuroglancer, Paintera) list x first and hold for the finest level; `downsamplingFactors` of the
    level, or the group's `scales`, lead from there to this one.
    """
    parent, name = os.path.split(os.path.abspath(path))
    group = _n5_attributes(parent)
    for image in group.get("multiscales") or []:
        for dataset in image.get("datasets", []):
            if dataset.get("path", "").strip("/") == name and "transform" in dataset:
                attributes = {"transform": dataset["transform"], **attributes}
    transform = attributes.get("transform")
    if isinstance(transform, dict) and "scale" in transform:
        axes = transform.get("axes", "zyx"[-ndim:])
        units = transform.get("units") or ["nm"] * len(axes)
        found = {a: float(s) * f for a, s, u in zip(axes, transform["scale"], units) if (f := _nanometres(u))}
        return tuple(found.get(a) for a in "tczyx"[-ndim:])
    for source in (attributes, group):
        sizes, factor = _n5_resolution(source)
        if sizes:
            number = re.fullmatch(r"s(\d+)", name)
            steps = group.get("scales") or []
            listed = steps[int(number[1])] if number and int(number[1]) < len(steps) else [1] * ndim
            down = attributes.get("downsamplingFactors") or (listed if source is group else [1] * ndim)
            down = list(down) if isinstance(down, (list, tuple)) else [down] * ndim
            values = [float(s) * float(d) * factor for s, d in zip(sizes, down)][:ndim]
            return tuple([None] * (ndim - len(values)) + values[::-1])
    return None


def _n5_resolution(attributes: dict) -> tuple[list | None, float]:
    """(x, y, z) sizes and the nm of their unit."""
    value = attributes.get("pixelResolution")
    if isinstance(value, dict):
        factor = _nanometres(value.get("unit"))
        return (value.get("dimensions"), factor) if factor else (None, 1.0)
    value = value or attributes.get("resolution")
    units = attributes.get("units") or ["nm"]
    return (value, _nanometres(units[0]) or 1.0) if isinstance(value, list) else (None, 1.0)
