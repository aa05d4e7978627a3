"""Folders and globs of 2-D images, one file per slice; single PNG, JPEG, BMP and PGM files."""

from __future__ import annotations

import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from registry.base import UserError
from sccs.data.bounds import DEFLATED, MOST_FLAT, check_decoded, check_file
from sccs.data.formats.dm import DM_SUFFIXES, DMArray
from sccs.data.formats.tiff import TIFF_SUFFIXES, TURNED, TiffStack
from sccs.data.lazy import LazyArray, check_type, resolve_axes
from sccs.data.stored import TO_GREY, Stored, gone, guarded, listed, natural, oddities

_ORIENTATION = 274  # tag of EXIF; 1 is upright
FLAT_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".pgm")
LAZY_SUFFIXES = (*TIFF_SUFFIXES, *DM_SUFFIXES)  # of slices that are read in parts


class FlatImages(Stored):
    """A stack (Z, Y, X) of 2-D images, one file per slice; also a single PNG or JPEG.

    codes: see `TiffStack`.
    """

    axes = "zyx"

    def __init__(self, path: str, files: list[str], codes: bool = False):
        self.path, self.files, self.codes = path, files, codes
        kinds = [_flat_kind(file) for file in files]
        usual, count = Counter(kinds).most_common(1)[0]
        odd = next((i for i, kind in enumerate(kinds) if kind != usual), None)
        if odd is not None:
            raise UserError(
                f"{files[odd]}: is {kinds[odd][0]} {kinds[odd][1]}, but {count} of {len(files)} images beside it are "
                f"{usual[0]} {usual[1]}: all slices must have the same size and type; fix it or move it away"
            )
        self.shape, self.dtype = (len(files), *usual[0]), np.dtype(usual[1])
        self.notes = (*oddities(files), *_turned(files[0]))
        self._last: tuple[int, Any] | None = None

    def __getstate__(self) -> dict:
        return {**super().__getstate__(), "_last": None}

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        z, y, x = spans
        return np.stack([self._slice(i, y, x) for i in range(z.start, z.stop)])

    def _slice(self, number: int, y: slice, x: slice) -> np.ndarray:
        """A part of a slice; the latest file is kept open, so that its decoded pixels are reused."""
        file, last = self.files[number], self._last
        if last is None or last[0] != number:
            last = self._last = (number, guarded(file, lambda: _flat_open(file, self.codes)))
        if isinstance(last[1], LazyArray):
            return last[1][0, y, x]
        return np.asarray(last[1].crop((x.start, y.start, x.stop, y.stop)))


def folder_images(folder: str) -> list[str]:
    """The images of a folder in natural order. Raises UserError if there are none, or one is not a file."""
    names = [n for n in os.listdir(folder) if not n.startswith(".")]
    images = [os.path.join(folder, n) for n in names if Path(n).suffix.lower() in (*LAZY_SUFFIXES, *FLAT_SUFFIXES)]
    if not images:
        what = "an empty folder" if not names else f"a folder without images (contains {listed(sorted(names), 5)})"
        raise UserError(f"{folder}: {what}: give a folder of TIFF, PNG or JPEG slices, or a Zarr or N5 folder")
    for image in images:
        check_file(image)
    images.sort(key=natural)
    stems: dict[str, str] = {}
    for image in images:
        if (other := stems.setdefault(os.path.splitext(image)[0], image)) != image:
            raise UserError(
                f"{folder}: contains one slice twice, {os.path.basename(other)} and {os.path.basename(image)}: move "
                f"one kind away, or give a pattern ({os.path.join(folder, '*' + Path(other).suffix)})"
            )
    return images


def _flat_kind(file: str) -> tuple[tuple[int, int], str]:
    """((H, W), dtype) of a grey 2-D image, from its header."""
    check_file(file)
    if Path(file).suffix.lower() in LAZY_SUFFIXES:
        array = _lazy(file)
        if array.shape[0] != 1:
            raise UserError(f"{file}: is a stack of {array.shape[0]} slices: give the file, not its folder")
        return array.shape[1:], str(array.dtype)
    if Path(file).suffix.lower() not in FLAT_SUFFIXES:
        raise UserError(
            f"{file}: not a 2-D image format that SCCS knows: slices must be TIFF, DM3, DM4, PNG, JPEG, BMP or PGM"
        )
    with _pillow(file) as image:
        bands = len(image.getbands())
        if bands > 1:
            colour = f"{bands} channels ({image.mode})"
            raise UserError(f"{file}: has {colour}, but SCCS needs greyscale images: {TO_GREY}")
        if (frames := getattr(image, "n_frames", 1)) > 1:
            raise UserError(f"{file}: an animation of {frames} images: save each as a file, or all as a TIFF stack")
        kind = {"1": "uint8", "L": "uint8", "P": "uint8", "I": "int32", "F": "float32"}.get(image.mode, "uint16")
        shape = image.height, image.width
    size = os.path.getsize(file)
    if Path(file).suffix.lower() == ".png" and math.prod(shape) // 8 > DEFLATED * size:
        raise UserError(
            f"{file}: its header claims {shape[0]} x {shape[1]} px, too many for its {size} bytes: it is "
            "truncated or damaged; copy it again"
        )
    check_decoded(file, "an image", shape, np.dtype(kind).itemsize, MOST_FLAT)
    return shape, kind


def _turned(file: str) -> list[str]:
    """What to tell of an image that is to be shown turned: the pixels are taken as they are stored."""
    if Path(file).suffix.lower() in LAZY_SUFFIXES:  # say so themselves
        return list(_lazy(file).notes)
    with _pillow(file) as image:  # of a PNG, all of it would be decoded
        turned = guarded(file, lambda: image.getexif().get(_ORIENTATION, 1)) if image.format == "JPEG" else 1
    return [] if turned == 1 else [TURNED.format(turned)]


def _flat_open(file: str, codes: bool) -> Any:
    """A lazy array for a TIFF or DM file, which reads on demand; otherwise an image that is decoded in one piece."""
    if not os.path.lexists(file):
        raise gone(file)
    check_file(file)
    if Path(file).suffix.lower() in LAZY_SUFFIXES:
        return _lazy(file, codes)
    with _pillow(file) as image:
        if image.format == "PNG":  # Pillow goes on decoding after flipped or missing bytes
            image.verify()
    with _pillow(file) as image:
        image.load()
        return image if codes or image.mode != "P" else _grey(image, file)


def _grey(image: Any, file: str) -> Any:
    """Grey values of an image with a grey palette. Raises UserError for a palette of colours."""
    shown = np.reshape(image.getpalette("RGB"), (-1, 3))[np.unique(image)]
    if (shown != shown[:, :1]).any():
        raise UserError(f"{file}: has a colour palette, but SCCS needs greyscale images: {TO_GREY}")
    return image.convert("L")


def _lazy(file: str, codes: bool = False) -> LazyArray:
    dm = Path(file).suffix.lower() in DM_SUFFIXES
    stored = guarded(file, lambda: DMArray(file) if dm else TiffStack(file, None, codes))
    check_type(stored)
    return LazyArray(stored, resolve_axes(None, stored))


def _pillow(file: str) -> Any:
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # slices of EM volumes exceed Pillow's guard against hostile downloads
    try:
        return Image.open(file)
    except Exception as error:
        raise UserError(f"{file}: not a readable image, either damaged or of another format: write it again") from error
