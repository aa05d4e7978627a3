"""An array in a file, in the file's axis order: the common base of all formats (sccs.data.formats)."""

from __future__ import annotations

import itertools
import math
import os
import re
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from registry.base import UserError
from registry.requirements import pip_install
from sccs.data.bounds import check_file

_METRES = {"pico": 1e-3, "nano": 1.0, "micro": 1e3, "milli": 1e6, "centi": 1e7, "deci": 1e8, "": 1e9}
_NANOMETRES = {
    **{f"{prefix}met{end}": nm for prefix, nm in _METRES.items() for end in ("er", "ers", "re", "res")},
    "pm": 1e-3,
    "nm": 1.0,
    "um": 1e3,
    "\u03bcm": 1e3,
    "mm": 1e6,
    "cm": 1e7,
    "dm": 1e8,
    "m": 1e9,
    **dict.fromkeys(("a", "\u00e5", "angstrom", "angstroms", "\u00e5ngstr\u00f6m", "\u00e5ngstr\u00f6ms"), 0.1),
    **dict.fromkeys(("micron", "microns"), 1e3),
    **dict.fromkeys(("in", "inch", "inches"), 2.54e7),
}
_NO_UNIT = ("pixel", "pixels", "px", "voxel", "voxels", "reference frame")  # of images whose size nobody stated
# Packages that provide missing codecs; for others we know of no Python package.
_PACKAGES = {
    "pcodec": "numcodecs[pcodec]",
    "zfpy": "numcodecs[zfpy]",
    "crc32c": "numcodecs[crc32c]",
    "flac": "flac-numcodecs",
    "wavpack": "wavpack-numcodecs",
}
_NO_CODEC = re.compile(
    r"(?:codec not available: |Unknown codec: )[\"']*([\w.-]+)|[\"']([\w.-]+)[\"'] is not registered"
)
_DIGITS = re.compile(r"\d+")
TO_GREY = "convert it to grey (Fiji: Image > Type > 8-bit)"
LARGE_CHUNK = 1 << 24  # bytes; larger chunks are decoded one at a time, not in parallel
COUNTED_CHUNKS = 100_000  # of an array with more, this many are checked, evenly spaced


class NoSuchLevel(UserError):
    """A pyramid has fewer levels."""


class Stored:
    """An array in a file, in the file's own axis order.

    path str; shape; dtype; axes: lower-case letters, one per axis, or None if the file does not say; scales: nm per
    step along each axis, None if unknown; named_scales: the same by letter; translations: nm from the origin to the
    first voxel, one per axis, or None; chunks: shape of a chunk, or None; notes: remarks for the user.
    """

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype
    axes: str | None = None
    scales: tuple[float | None, ...] | None = None
    named_scales: dict[str, float] | None = None
    translations: tuple[float, ...] | None = None
    chunks: tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()
    has_levels = False
    _opened: tuple[int, Any] | None = None

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        """The region `spans`, one slice of step 1 for each axis."""
        raise NotImplementedError

    def absent(self, spans: tuple[slice, ...]) -> float:
        """Share of a region's chunks that were never written."""
        return 0.0

    def _open(self) -> Any:
        raise NotImplementedError

    def handle(self) -> Any:
        """This process's open file: handles survive neither pickling nor a fork."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), self._open())
        return self._opened[1]

    def __getstate__(self) -> dict:
        return {k: v for k, v in self.__dict__.items() if k != "_opened"}


class ChunkFolder(Stored):
    """An array with one file per chunk (Zarr, N5). Absent chunks read as the fill value.

    If the array is deleted or its disk disappears, all chunks look absent to the libraries. So every read checks that
    the metadata still exists, and that no chunk disappeared while the array was open.

    decoded: shape that is decoded at once, if chunks are shards of it.
    """

    chunks: tuple[int, ...]
    decoded: tuple[int, ...]

    def __init__(self) -> None:
        self.since = time.time_ns()

    @property
    def metadata(self) -> str:
        """The file that describes the array."""
        raise NotImplementedError

    def chunk_file(self, index: tuple[int, ...]) -> str:
        """Path of a chunk; index: its number along each axis."""
        raise NotImplementedError

    def _read(self, spans: tuple[slice, ...]) -> np.ndarray:
        raise NotImplementedError

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        files = [self.chunk_file(index) for index in itertools.product(*_touched(spans, self.chunks))]
        for file in files:
            if os.path.lexists(file):
                check_file(file)
        block = self._read_by_chunks(spans)
        if not os.path.isfile(self.metadata):
            raise gone(self.path)
        for file in files:
            if not os.path.exists(file) and _changed_at(os.path.dirname(file), self.path) > self.since:
                raise UserError(
                    f"{self.path}: chunk {os.path.relpath(file, self.path)} is missing and its folder changed while "
                    "the image was being read: make sure that no other program writes or deletes it, and start again"
                )
        return block

    def _read_by_chunks(self, spans: tuple[slice, ...]) -> np.ndarray:
        if math.prod(self.decoded) * self.dtype.itemsize <= LARGE_CHUNK:
            return self._read(spans)
        block = np.empty([span.stop - span.start for span in spans], self.dtype)
        cuts = [
            [slice(max(span.start, i * n), min(span.stop, (i + 1) * n)) for i in along]
            for span, n, along in zip(spans, self.decoded, _touched(spans, self.decoded))
        ]
        for part in itertools.product(*cuts):
            place = tuple(slice(p.start - s.start, p.stop - s.start) for p, s in zip(part, spans))
            block[place] = self._read(part)
        return block

    def absent(self, spans: tuple[slice, ...]) -> float:
        if not os.path.isfile(self.metadata):  # it disappeared after it was read
            return 0.0
        along = _touched(spans, self.chunks)
        counts = [len(numbers) for numbers in along]
        total = math.prod(counts)
        looked_at = range(0, total, -(-total // COUNTED_CHUNKS)) if total else range(0)
        missing = 0
        for number in looked_at:
            index = tuple(int(i) + numbers[0] for i, numbers in zip(np.unravel_index(number, counts), along))
            missing += not os.path.exists(self.chunk_file(index))
        return missing / max(1, len(looked_at))


def _touched(spans: Sequence[slice], chunks: Sequence[int]) -> list[range]:
    """Numbers of the chunks along each axis that a region touches."""
    return [range(span.start // n, -(-span.stop // n)) for span, n in zip(spans, chunks)]


def _changed_at(folder: str, root: str) -> int:
    """When `folder` last changed, in ns; if it is gone, its nearest existing parent, up to `root`."""
    while not os.path.isdir(folder) and len(folder) > len(root):
        folder = os.path.dirname(folder)
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        raise gone(root) from None


def gone(path: str) -> UserError:
    """The error to raise if an image disappears while it is being read."""
    return UserError(f"{path}: was deleted, moved or unmounted while it was being read: restore it")


def read_plain(path: str, dtype: np.dtype, offset: int, shape: tuple[int, ...], spans: tuple[slice, ...]) -> np.ndarray:
    """A region of an uncompressed array.

    It is read, not mapped: if the disk disappears or the file is truncated, a read raises an error, whereas a mapped
    page would kill the process.
    """
    out = np.empty([span.stop - span.start for span in spans], dtype)
    whole = len(shape)  # axes from here on are contiguous
    while whole > 1 and spans[whole - 1] == slice(0, shape[whole - 1]):
        whole -= 1
    steps = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    inner = sum(span.start * step for span, step in zip(spans[whole - 1 :], steps[whole - 1 :]))
    with open(path, "rb", buffering=0) as stream:
        for index in np.ndindex(*out.shape[: whole - 1]):
            outer = sum((i + span.start) * step for i, span, step in zip(index, spans, steps))
            _fill(stream, offset + (outer + inner) * dtype.itemsize, out[index])
    return out


def _fill(stream: Any, offset: int, out: np.ndarray) -> None:
    stream.seek(offset)
    view = out.reshape(-1).view(np.uint8).data
    while view:
        count = stream.readinto(view)
        if not count:
            raise EOFError("it ends early")
        view = view[count:]


def nanometres(unit: Any) -> float | None:
    """nm in a unit of length, by its name or symbol; None if it is missing or not a length."""
    text = re.sub(r"\\u([0-9a-f]{4})", lambda match: chr(int(match[1], 16)), str(unit or "").strip().lower())
    return _NANOMETRES.get(unicodedata.normalize("NFKC", text).lower())


def length(stored: Stored, unit: Any) -> float | None:
    """`nanometres`, with a note if a unit is given that is not a length."""
    factor = nanometres(unit)
    said = str(unit or "").strip()
    note = f"its unit {said[:40]} is not a length that SCCS knows: give `voxel_size`"
    if factor is None and said and said.lower() not in _NO_UNIT and note not in stored.notes:
        stored.notes += (note,)
    return factor


def optional(stored: Stored, read: Callable[[], Any]) -> Any:
    """The voxel size and position that `read` finds; None, with a note, if the file's metadata makes no sense, as its
    pixels can still be used."""
    try:
        return read()
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        stored.notes += (f"its voxel size is not understood ({error}): give `voxel_size`",)
        return None


def looks_unsigned(sample: np.ndarray) -> bool:
    """Whether signed integers (..., H, W) are really unsigned: read as such, neighbours differ clearly less.

    Between 127 and 128 a signed byte jumps to -128; an image has no such jumps.
    """
    plane = np.ascontiguousarray(sample)
    as_unsigned = plane.view(f"{plane.dtype.byteorder}u{plane.dtype.itemsize}")
    return _roughness(as_unsigned) < 0.9 * _roughness(plane)


def _roughness(plane: np.ndarray) -> float:
    values = plane.astype(np.float64)
    return sum(float(np.abs(np.diff(values, axis=axis)).sum()) for axis in (-2, -1))


def level_name(path: str, level: int | None, names: Sequence[str]) -> str:
    """The name of a pyramid's level; None is the finest. Raises UserError for a level outside `path`."""
    number = level or 0
    if not 0 <= number < len(names):
        levels = f"has {len(names)} level(s) ({listed(names)})" if names else "has no levels in its metadata"
        raise NoSuchLevel(f"{path}: {levels}, but `level: {number}` was requested")
    if os.path.isabs(names[number]) or ".." in names[number].replace("\\", "/").split("/"):
        raise UserError(
            f"{path}: its metadata lists the level {names[number]!r}, which is outside it: fix its metadata"
        )
    return names[number]


def guarded(where: str, read: Callable[[], Any]) -> Any:
    """Call `read`; turn whatever a format library raises on an unreadable file into a UserError of one line."""
    try:
        return read()
    except (UserError, MemoryError):
        raise
    except Exception as error:  # third-party decoders raise anything
        raise _unreadable(where, error) from error


def _unreadable(where: str, error: Exception) -> UserError:
    reason = " ".join(f"{error}".split()) or type(error).__name__
    if "imagecodecs" in reason:
        return UserError(f"{where}: its compression needs imagecodecs: {pip_install('imagecodecs')}")
    if found := _NO_CODEC.search(reason):
        return missing_codec(where, found[1] or found[2])
    if isinstance(error, FileNotFoundError) and not os.path.exists(where):
        return gone(where)
    if isinstance(error, OSError) and error.errno is not None and error.strerror and error.filename is not None:
        return UserError(f"{where}: cannot be read ({error.strerror}): check the disk and the permissions")
    return UserError(f"{where}: cannot be read; the file is truncated or damaged ({reason[:200]}): copy it again")


def missing_codec(where: str, codec: str, package: str | None = None) -> UserError:
    """The error to raise for a codec that is not installed; package: what provides it, if known."""
    package = package or _PACKAGES.get(codec.removeprefix("numcodecs."))
    lack = f"is not installed: {pip_install(package)}, or" if package else "is not supported:"
    return UserError(f"{where}: its compression {codec} {lack} export it with gzip, blosc or zstd")


def missing_package(package: str, path: str, error: ImportError) -> UserError:
    """The error to raise if the package that reads a format is not installed."""
    return UserError(f"{path}: this format needs {package}: {pip_install(package)} ({error})")


def listed(names: Iterable[str], most: int = 20) -> str:
    """Names for an error message, cut off after `most`."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def natural(name: str) -> list:
    """Sorting key: slice_2 before slice_10; names that differ by capitals or zeros alone, always in one order."""
    parts = [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in re.split(r"(\d+)", name.lower())]
    return [*parts, (-1, 0, name)]


def oddities(names: Sequence[str]) -> list[str]:
    """Remarks on the names of slices: numbers on either side of a gap, repeated numbers, names unlike the rest."""
    bare = [os.path.basename(name) for name in names]
    kind = {name: _DIGITS.sub("0", name.lower()) for name in bare}
    kinds = Counter(kind.values())
    usual, count = kinds.most_common(1)[0]
    if len(names) < 3 or count < len(names) / 2:
        return []
    notes = []
    if strange := [name for name in bare if kind[name] != usual]:
        notes.append(f"some of the {len(names)} slices are named unlike the others: {listed(strange, 3)}")
    fields = [_DIGITS.findall(name) for name in bare if kind[name] == usual]
    varying = [column for column in zip(*fields) if len(set(column)) == len(fields)]
    if not varying:
        return notes
    numbers = sorted(map(int, varying[0]))
    if twice := sorted(number for number, times in Counter(numbers).items() if times > 1):
        return [*notes, f"slices with the same number: {listed(map(str, twice), 3)}"]
    steps = [b - a for a, b in itertools.pairwise(numbers)]
    least = min(steps, default=1)
    holes = [f"{a} and {b}" for a, b, step in zip(numbers, numbers[1:], steps) if step > least]
    if holes and steps.count(least) >= len(steps) / 2:
        notes.append(f"slices seem to be missing: there are none between numbers {listed(holes, 3)}")
    return notes
