"""One interface to all common EM formats: a lazy (Z, Y, X) array of grey values with its voxel size in nm.

`open_image` reads headers only. Indexing the array reads as few pixels as the format allows: a TIFF's page or its
strips and tiles, the chunks that a region touches in HDF5, Zarr and N5. An opened image contains only a path and
numbers, so it can be pickled; each process opens its own file handles.
"""

from __future__ import annotations

import difflib
import glob
import itertools
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from registry.base import UserError
from sccs.data.bounds import LEAST_VOXEL, MOST_FILES, MOST_VOXEL, check_chunks, check_file, check_shape
from sccs.data.formats.czi import CZI_SUFFIXES, CZIArray
from sccs.data.formats.dm import DM_SUFFIXES, DMArray
from sccs.data.formats.flat import FLAT_SUFFIXES, FlatImages, folder_images
from sccs.data.formats.hdf5 import HDF5Array
from sccs.data.formats.mrc import MRC_SUFFIXES, MRCArray
from sccs.data.formats.n5 import N5Array, is_n5
from sccs.data.formats.npy import NPY_SUFFIXES, NPYArray
from sccs.data.formats.tiff import TIFF_SUFFIXES, TiffStack
from sccs.data.formats.zarr import ZarrArray, is_zarr
from sccs.data.lazy import LazyArray, check_type, resolve_axes, stored_translation, stored_voxel_size
from sccs.data.stored import NoSuchLevel, Stored, guarded, natural

_HDF5 = re.compile(r"^(?P<file>.*?\.(?:h5|hdf5|hdf|he5))(?::(?P<inside>.*))?$", re.IGNORECASE)
_CHUNKED_INSIDE = re.compile(r"^(?P<file>.*?\.(?:zarr|n5)):(?P<inside>.*)$", re.IGNORECASE)
_SUFFIXES = (*TIFF_SUFFIXES, *FLAT_SUFFIXES, *MRC_SUFFIXES, *NPY_SUFFIXES, ".h5", ".hdf5", ".hdf", ".he5")
# How files begin, the suffixes that they may have, and what they are.
_CONTENT = (
    (b"\x89HDF\r\n", (".h5", ".hdf5", ".hdf", ".he5"), "an HDF5 file"),
    *((magic, (*TIFF_SUFFIXES, *FLAT_SUFFIXES), "a TIFF file") for magic in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    (b"\x89PNG", (".png",), "a PNG file"),
    (b"\xff\xd8\xff", (".jpg", ".jpeg"), "a JPEG file"),
    (b"\x93NUMPY", NPY_SUFFIXES, "a NumPy file"),
)
_UNFINISHED = (".lock", ".partial")  # what commands put next to their outputs
_ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://")
_KNOWN = (
    "TIFF, PNG, JPEG, BMP, PGM, HDF5 (a.h5:/path), MRC, DM3, DM4, CZI, .npy, OME-Zarr, Zarr, N5, a folder or a glob of "
    "2-D images"
)


@dataclass
class ImageSource:
    """An image that is open but not yet read.

    path: expanded, with the path inside a container. array: lazy, shape (Z, Y, X), integer or float; basic
    indexing returns ndarrays. voxel_size: (z, y, x) in nm, or None if neither user nor file gives it. translation:
    (z, y, x) in nm of the first voxel, from the file (OME-Zarr, N5), else 0.
    """

    path: str
    array: LazyArray
    voxel_size: tuple[float, float, float] | None
    translation: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on the file for the user, one line each: what was not understood, or was guessed."""
        return self.array.notes

    @property
    def shape(self) -> tuple[int, int, int]:
        """(Z, Y, X)."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        """Type of the pixels, in native byte order."""
        return self.array.dtype


def open_image(
    path: str | os.PathLike,
    *,
    axes: str | None = None,
    voxel_size: Sequence[float] | float | None = None,
    level: int | None = None,
    codes: bool = False,
) -> ImageSource:
    """Open an image as a lazy (Z, Y, X) array; a 2-D image is a volume with Z = 1.

    path: a file, folder or glob (2-D images in natural order), or a path inside a container (``a.h5:/em/raw``,
        ``a.zarr/em/s0``, ``a.n5/em/s0``). ``~`` and ``${VARIABLES}`` are expanded.
    axes: the order of the axes as NumPy sees the file (for N5: slowest first), letters of ``zyxcts``; overrides the
    file's. Axes other than z, y, x must have size 1 and are dropped.
    voxel_size: (z, y, x) in nm, or one number for all three; overrides the file's.
    level: of a pyramid (OME-Zarr, N5, pyramidal TIFF), 0 = finest = default.
    codes: values are class codes or a mask, not grey values, so MinIsWhite does not invert them.

    Raises
        UserError: one line that names the file, the fault and the remedy.
    """
    location = expand(path)
    size = voxel_size_of(voxel_size, location)
    stored = _open_stored(location, level, codes)
    if level is not None and not stored.has_levels and level != 0:
        raise UserError(f"{stored.path}: has no levels, but `level: {level}` was requested: leave it out")
    check_type(stored)
    check_shape(stored.path, stored.shape)
    letters = resolve_axes(axes, stored)
    check_shape(stored.path, stored.shape, [n for a, n in zip(letters, stored.shape) if a in "yx"])
    array = LazyArray(stored, letters)
    if array.chunks is not None:
        check_chunks(stored.path, array.shape, array.chunks)
    return ImageSource(
        stored.path, array, size or stored_voxel_size(stored, letters), stored_translation(stored, letters)
    )


def open_levels(path: str | os.PathLike, axes: str | None = None) -> list[ImageSource]:
    """Every level of an image, finest first, up to the first that is missing; an image without levels has one."""
    sources = [open_image(path, axes=axes)]
    while sources[0].array.stored.has_levels:
        try:
            sources.append(open_image(path, axes=axes, level=len(sources)))
        except NoSuchLevel:
            break
    return sources


def files_of(source: ImageSource) -> list[str]:
    """The files of a multi-file image: slices of a folder or pattern, companions of an OME-TIFF."""
    stored = source.array.stored
    if isinstance(stored, FlatImages):
        return stored.files
    if not isinstance(stored, TiffStack):
        return []
    _, pages, _ = stored.handle()
    several = getattr(pages, "is_multifile", False)
    return sorted({page.parent.filehandle.path for page in pages if page is not None}) if several else []


def expand(path: str | os.PathLike) -> str:
    """`path` with ``~``, ``$VARIABLE`` and ``${VARIABLE}`` expanded. Raises UserError for unset variables and URLs."""
    text = os.fspath(path)
    if address := _ADDRESS.match(text):
        if address[0].lower() == "file://":
            raise UserError(f"{text}: SCCS needs a plain path: write {text[len(address[0]) :]}")
        raise UserError(
            f"{text}: SCCS reads files, not URLs: download it (`aws s3 sync`, `gsutil`, `wget`), or mount it "
            "(`rclone mount`), and give the path on this machine"
        )
    if "\0" in text:
        raise UserError(f"{text!r}: a path cannot contain a NUL character: check it")
    if os.path.lexists(text):  # $ and ~ are letters of its name
        return text

    def value(match: re.Match) -> str:
        name = match[1] or match[2]
        if not os.environ.get(name):
            raise UserError(f"{text}: the environment variable {name} is not set: export {name}=<folder>")
        return os.environ[name]

    return os.path.expanduser(re.sub(r"\$(?:\{([^}]*)\}|([A-Za-z_]\w*))", value, text))


def voxel_size_of(value: Sequence[float] | float | None, path: str) -> tuple[float, float, float] | None:
    """A user's voxel size in nm, (z, y, x) or one number; `path` names the image in errors. Raises UserError."""
    if value is None:
        return None
    try:
        given: Any = value if np.ndim(value) else [value] * 3
        numbers = tuple(float(v) for v in given)
    except (TypeError, ValueError, OverflowError):
        numbers = ()
    if len(numbers) != 3 or not all(LEAST_VOXEL <= v <= MOST_VOXEL for v in numbers):
        raise UserError(
            f"{path}: voxel_size {value!r}: write three positive numbers in nm, [z, y, x], from {LEAST_VOXEL:g} to "
            f"{MOST_VOXEL:g}"
        )
    z, y, x = numbers
    return z, y, x


def _open_stored(location: str, level: int | None, codes: bool) -> Stored:
    hdf5 = _HDF5.match(location)
    if hdf5 and not os.path.isdir(location):
        _require(hdf5["file"])
        return guarded(hdf5["file"], lambda: HDF5Array(hdf5["file"], hdf5["inside"]))
    inside = _CHUNKED_INSIDE.match(location)
    if inside and not os.path.lexists(location):
        location = os.path.join(inside["file"], inside["inside"].strip("/"))
    if os.path.isdir(location):
        if is_zarr(location):
            return guarded(location, lambda: ZarrArray(location, level))
        if is_n5(location):
            return guarded(location, lambda: N5Array(location, level))
        return FlatImages(location, guarded(location, lambda: folder_images(location)), codes)
    if not os.path.lexists(location) and glob.has_magic(location):
        return FlatImages(location, _matching(location), codes)
    _require(location)
    suffix = Path(location).suffix.lower()
    _check_content(location, suffix)
    if suffix in TIFF_SUFFIXES:
        return guarded(location, lambda: TiffStack(location, level, codes))
    if suffix in FLAT_SUFFIXES:
        return FlatImages(location, [location], codes)
    if suffix in MRC_SUFFIXES:
        return guarded(location, lambda: MRCArray(location))
    if suffix in NPY_SUFFIXES:
        return guarded(location, lambda: NPYArray(location))
    if suffix in DM_SUFFIXES:
        return guarded(location, lambda: DMArray(location))
    if suffix in CZI_SUFFIXES:
        return guarded(location, lambda: CZIArray(location))
    mend = " (unpack it first)" if suffix in (".zip", ".gz", ".tar", ".7z", ".bz2", ".xz") else ""
    raise UserError(
        f"{location}: unknown image format {suffix or '(no suffix)'}{mend}: SCCS reads {_KNOWN}; save others as "
        "TIFF with Fiji"
    )


def _check_content(path: str, suffix: str) -> None:
    """Raises UserError for a file of a format that SCCS knows, under the suffix of another or of none that it knows."""
    with open(path, "rb") as stream:
        head = stream.read(212)
    kinds = [(names, said) for magic, names, said in _CONTENT if head.startswith(magic)]
    if not kinds and suffix not in _SUFFIXES and head[208:] == b"MAP ":
        kinds = [(MRC_SUFFIXES, "an MRC file")]
    if not kinds or suffix in kinds[0][0] or (suffix in FLAT_SUFFIXES and kinds[0][0][0] in FLAT_SUFFIXES):
        return
    (right, *_), said = kinds[0]
    raise UserError(
        f"{path}: is {said}, but its suffix says otherwise: rename it, or link to it with "
        f"`ln -s {shlex.quote(os.path.abspath(path))} {shlex.quote(Path(path).stem + right)}`"
    )


def _matching(pattern: str) -> list[str]:
    """The files that a pattern matches, in natural order, each once even if links repeat it."""
    found = list(itertools.islice(glob.iglob(pattern, recursive=True), MOST_FILES + 1))
    if len(found) > MOST_FILES:
        raise UserError(f"{pattern}: matches more than {MOST_FILES:,} files: narrow it down")
    files = {os.path.realpath(file): file for file in sorted(found, key=len, reverse=True) if not os.path.isdir(file)}
    if not files:
        literal = re.sub(r"[\[]", "[[]", pattern)
        hint = "check the folder and the suffix"
        if "[" in pattern and next(glob.iglob(literal, recursive=True), None):
            hint = f"[ and ] match one of the characters between them; for a literal bracket, write {literal}"
        elif "[" in pattern:
            hint += "; [ and ] match one of the characters between them ([[] is a literal bracket)"
        raise UserError(f"{pattern}: no file matches this pattern: {hint}")
    for file in files.values():
        check_file(file)
    return sorted(files.values(), key=natural)


def _require(path: str) -> None:
    """Raises UserError if `path` does not exist, with the closest name that does."""
    if os.path.lexists(path):
        check_file(path)
        return
    missing = Path(path)
    while not missing.parent.exists() and missing.parent != missing:
        missing = missing.parent
    if missing.parent.is_file():
        file, rest = missing.parent, os.path.relpath(path, missing.parent)
        mend = f"for a dataset inside it, write {file}:/{rest}" if _HDF5.match(str(file)) else f"give {file} itself"
        raise UserError(f"{path}: {file} is a file, not a folder: {mend}")
    names = os.listdir(missing.parent) if missing.parent.is_dir() else []
    names = [name for name in names if not name.endswith(_UNFINISHED)]
    close = difflib.get_close_matches(missing.name, names, n=1, cutoff=0.4)
    hint = f"did you mean {missing.parent / close[0]}?" if close else f"check the path; {missing} does not exist"
    raise UserError(f"{path}: no such file or folder: {hint}")
