"""TIFF, BigTIFF, ImageJ and OME-TIFF, read by pages, strips and tiles."""

from __future__ import annotations

import logging
import math
import os
import threading
import xml.etree.ElementTree as xml
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from registry.base import UserError
from registry.requirements import pip_install
from sccs.data.bounds import MOST_METADATA, MOST_SIDE, check_decoded, check_shape
from sccs.data.stored import TO_GREY, NoSuchLevel, Stored, length, listed, optional, read_plain

TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")
_LARGEST_PIXEL = 1e4  # nm; no electron microscope has pixels of 10 µm, but screens and printers have
_WHITE, _MIN_IS_WHITE, _PALETTE = 262, 0, 3
# Tags in which the pages of a stack must agree: of most pages, tifffile takes it for granted.
_AGREED = {
    256: "width",
    257: "height",
    258: "depth",
    259: "compression",
    _WHITE: "photometric interpretation",
    277: "channels",
    317: "predictor",
}
_MOST_TAGS = 1 << 16  # bytes of tags of a page that are looked at
_ONE_STACK = "save it again as one stack (Fiji: File > Save As)"
_ONE = (258, 259, 277, 317)  # are 1 where they are not stated
_SUBFILE = 254  # what a page is: 0 an image, else a thumbnail or a mask
TURNED = "its orientation ({}) is not applied: rotate the image itself if necessary"

# tifffile logs oddities of a file; here they either raise one UserError or do not matter.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


class TiffStack(Stored):
    """TIFF, BigTIFF, ImageJ, OME-TIFF: pages, or one block; reads only the strips and tiles that a region touches.

    Values of a MinIsWhite file are inverted, as viewers show them, unless `codes` says that they are not grey values.
    """

    def __init__(self, path: str, level: int | None, codes: bool = False):
        self.path, self.level = path, level
        tif, pages, _ = self.handle()
        series = self._series(tif)
        self.has_levels = bool(level) or len(series[0].levels) > 1
        first = series[0]
        keyframe = first.keyframe
        if keyframe.dtype is None or 16 < int(keyframe.bitspersample) not in (32, 64):
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
        self._check_alike(({*_AGREED} if len(series) == 1 else {_WHITE}) - ({_WHITE} if codes else set()))
        self._check_complete(tif, pages)
        self._check_codec(keyframe)
        self.white = None if codes or int(keyframe.photometric) != _MIN_IS_WHITE else int(keyframe.bitspersample)
        self.palette = None if codes or int(keyframe.photometric) != _PALETTE else self._greys(tif, keyframe)
        if (turned := keyframe.tags.get("Orientation")) is not None and turned.value != 1:
            self.notes += (TURNED.format(int(turned.value)),)
        # Sizes describe the finest level; tags of a coarser level may repeat them or give its own.
        fine = series[0] if level in (None, 0) else tif.series[0]
        stack = math.prod(shape) > math.prod(self.page)
        found = optional(self, lambda: _tiff_scales(self, tif, fine, stack)) or (None, None, None)
        scales = dict(zip("zyx", found))
        scales = {a: s and s * full / n for (a, s), full, n in zip(scales.items(), *_depths(fine, first))}
        self.scales = tuple(scales[a if a in "yx" else "z"] for a in axes)
        if tif.is_imagej and scales["y"] and scales["z"] and "spacing" not in (tif.imagej_metadata or {}):
            unit = (tif.imagej_metadata or {}).get("zunit") or (tif.imagej_metadata or {}).get("unit")
            self.notes += (
                f"ImageJ stored no slice spacing, which it reads as 1 {unit}: give `voxel_size` if that is wrong",
            )

    def _open(self) -> tuple[Any, list, threading.Lock]:
        import tifffile

        self.kinds = _check_pages(self.path)
        tif = tifffile.TiffFile(self.path)
        try:
            if tif.is_ome:
                _check_ome(self.path, tif.ome_metadata or "")
            if not tif.series:
                raise UserError(f"{self.path}: contains no image; the file is truncated or damaged: copy it again")
            series = self._series(tif)
        except Exception as error:
            tif.close()
            if "incompatible keyframe" in str(error):
                raise UserError(f"{self.path}: its pages differ in strips or tiles: {_ONE_STACK}") from error
            raise
        pages = series[0] if len(series) == 1 else [page for s in series for page in s.pages]
        return tif, pages, threading.Lock()

    def __del__(self) -> None:
        if self._opened is not None:
            self._opened[1][0].close()

    def _series(self, tif: Any) -> list:
        """The file's image: one series, or pages that were written one by one, each as its own series."""
        series = [s for s in tif.series if s.size and not s.keyframe.subfiletype & 0b101]  # no thumbnails, no masks
        series = series or list(tif.series)
        shapes = [(tuple(s.shape), s.dtype) for s in series]
        if len(set(shapes)) > 1 or (len(series) > 1 and any(len(s.pages) != 1 for s in series)):
            found = listed(dict.fromkeys(f"{s.shape} {s.dtype}" for s in series))
            raise UserError(
                f"{self.path}: contains {len(series)} images of different kinds ({found}): save one of them"
            )
        if not self.level:
            return series
        count = len(series[0].levels)
        if len(series) > 1 or not 0 <= self.level < count:
            raise NoSuchLevel(
                f"{self.path}: has {count} level(s), but `level: {self.level}` was requested: 0 is the finest"
            )
        return [series[0].levels[self.level]]

    def _check_complete(self, tif: Any, pages: Any) -> None:
        size = os.path.getsize(self.path)
        if self.block is not None:
            end = self.block + math.prod(self.shape) * self.dtype.itemsize
        else:
            last = pages[len(pages) - 1]
            same_file = last is not None and last.parent is tif
            end = max((o + n for o, n in zip(last.dataoffsets, last.databytecounts)), default=0) if same_file else 0
        announced = self._announced(tif) if tif.is_imagej else 1
        if end > size or announced * math.prod(self.page) > math.prod(self.shape):
            said = f" of {announced}" if announced > 1 else ""
            raise UserError(f"{self.path}: truncated TIFF, which ends before its last slice{said}: copy it again")

    def _check_alike(self, agreed: set[int]) -> None:
        """Raises UserError for pages that differ in one of these tags."""
        values = dict(zip(_AGREED, zip(*self.kinds)))
        odd = [_AGREED[tag] for tag in sorted(agreed) if len(set(values.get(tag, ()))) > 1]
        if odd:
            raise UserError(f"{self.path}: its pages differ in {' and '.join(odd)}: {_ONE_STACK}")

    def _greys(self, tif: Any, keyframe: Any) -> np.ndarray | None:
        """The grey values of a palette; None where it is one of colours that ImageJ shows grey values in."""
        colours = np.asarray(keyframe.colormap) >> 8
        if (colours == colours[0]).all():
            return colours[0].astype(np.uint8)
        if tif.is_imagej:
            self.notes += ("ImageJ shows it in false colours: its values are taken as grey",)
            return None
        raise UserError(f"{self.path}: has a colour palette, but SCCS needs greyscale images: {TO_GREY}")

    def _announced(self, tif: Any) -> int:
        """Slices of a stack beyond 4 GB: ImageJ describes only the first, ahead of all pixels. If another program
        extracted a slice and kept ImageJ's description of the stack, pixels come first."""
        page = tif.pages.first
        if (
            len(self.page) != 2
            or len(tif.pages) > 1
            or not page.dataoffsets
            or page.offset > page.dataoffsets[0]
            or page.compression != 1
        ):
            return 1
        found = tif.imagej_metadata or {}
        counts = [found.get(key, 1) for key in ("frames", "slices", "channels")]
        return max(int(found.get("images", 1)), math.prod(map(int, counts)))

    def _check_codec(self, keyframe: Any) -> None:
        import tifffile

        try:
            tifffile.TIFF.DECOMPRESSORS[int(keyframe.compression)]
        except KeyError as error:
            if "imagecodecs" in str(error):
                raise UserError(
                    f"{self.path}: its compression needs imagecodecs: {pip_install('imagecodecs')}"
                ) from None
            raise UserError(f"{self.path}: its compression is not supported ({error}): save it as plain TIFF") from None
        if self.block is None and not (keyframe.is_memmappable and keyframe.is_contiguous):
            if len(self.page) != 2:
                check_decoded(self.path, "a page", self.page, self.dtype.itemsize)
            else:
                check_decoded(self.path, "a strip or tile", _segment(keyframe), self.dtype.itemsize)

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        block = self._stored(spans)
        if self.palette is not None:
            return self.palette[block]
        return block if self.white is None else _turned_round(block, self.white)

    def _stored(self, spans: tuple[slice, ...]) -> np.ndarray:
        if self.block is not None:
            return read_plain(self.path, self.dtype, self.block, self.shape, spans)
        lead = len(self.shape) - len(self.page)
        numbers = np.arange(math.prod(self.shape[:lead])).reshape(self.shape[:lead])[spans[:lead]]
        planes = [self._page(int(i), spans[lead:]) for i in numbers.flat]
        return np.stack(planes).reshape(*numbers.shape, *planes[0].shape)

    def _page(self, number: int, spans: tuple[slice, ...]) -> np.ndarray:
        tif, pages, lock = self.handle()
        with lock:
            page = pages[number]
            if page is None:
                raise UserError(f"{self.path}: page {number} is missing: copy the file and its companions again")
            if len(self.page) != 2:
                return page.asarray()[spans]
            keyframe, file = page.keyframe, page.parent.filehandle.path
            offsets, counts = page.dataoffsets, page.databytecounts
            tables = {"jpegtables": page.jpegtables, "jpegheader": keyframe.jpegheader} if _is_jpeg(keyframe) else {}
        if keyframe.is_memmappable and keyframe.is_contiguous:
            return read_plain(file, self.dtype, offsets[0], self.page, spans)
        return _read_segments(file, keyframe, offsets, counts, tables, spans)


def _turned_round(block: np.ndarray, bits: int) -> np.ndarray:
    if block.dtype.kind == "b":
        return ~block
    if block.dtype.kind == "u":
        return np.subtract(block.dtype.type((1 << bits) - 1), block)
    return ~block if block.dtype.kind == "i" else -block


def _depths(fine: Any, coarse: Any) -> tuple[list[float], list[float]]:
    """Sizes (z, y, x) of two levels; z: pages."""
    sizes = []
    for series in (fine, coarse):
        height, width = series.keyframe.shape[-2:] if series.keyframe.shape[-1] > 4 else series.keyframe.shape[:2]
        sizes.append([max(1, series.size // math.prod(series.keyframe.shape)), height, width])
    return sizes[0], sizes[1]


def _is_jpeg(keyframe: Any) -> bool:
    return int(keyframe.compression) in (6, 7, 33007, 34892)


def _segment(keyframe: Any) -> tuple[int, int]:
    """(rows, columns) of a strip or tile."""
    height, width = keyframe.shape
    if keyframe.is_tiled:
        return keyframe.tilelength, keyframe.tilewidth
    return min(keyframe.rowsperstrip, height), width


def _read_segments(
    file: str, keyframe: Any, offsets: Sequence[int], counts: Sequence[int], tables: dict, spans: tuple[slice, ...]
) -> np.ndarray:
    """The region `spans` (y, x) of a page, from the strips or tiles that it touches."""
    rows, cols = _segment(keyframe)
    across = math.ceil(keyframe.shape[1] / cols)
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
                if tile is None:  # the writer omits segments of background
                    continue
                tile = tile[0, :, :, 0]
                top, left = i * rows, j * cols
                bottom, right = min(top + tile.shape[0], y1), min(left + tile.shape[1], x1)
                a, b = max(top, y0), max(left, x0)
                out[a - y0 : bottom - y0, b - x0 : right - x0] = tile[a - top : bottom - top, b - left : right - left]
    return out


def _check_pages(path: str) -> set[tuple]:
    """The values of `_AGREED` that occur in pages; thumbnails and masks do not count.

    Raises UserError if the list of pages breaks off or forms a loop.
    """
    size = os.path.getsize(path)
    kinds: set[tuple] = set()
    with open(path, "rb") as stream:
        head = stream.read(16)
        order: Literal["little", "big"] = "big" if head[:2] == b"MM" else "little"
        version = int.from_bytes(head[2:4], order)
        if version not in (42, 43):  # not a TIFF: tifffile raises
            return kinds
        count_size, tag_size, offset_size, at = (2, 12, 4, 4) if version == 42 else (8, 20, 8, 8)
        following, seen = int.from_bytes(head[at : at + offset_size], order), set()
        while following:
            if following in seen:
                raise UserError(f"{path}: its list of pages forms a loop: the file is damaged; write it again")
            seen.add(following)
            stream.seek(following)
            count = stream.read(count_size)
            length = int.from_bytes(count, order) * tag_size
            tags = stream.read(min(length, _MOST_TAGS))
            stream.seek(following + count_size + length)
            after = stream.read(offset_size)
            if len(seen) > MOST_SIDE:
                raise UserError(
                    f"{path}: has more than {MOST_SIDE:,} pages, more than any volume has slices: write it again"
                )
            if following >= size or len(count) < count_size or len(after) < offset_size:
                raise UserError(f"{path}: truncated TIFF, which ends before its last slice: copy it again")
            kinds |= _kind([tags[i : i + tag_size] for i in range(0, len(tags), tag_size)], order, offset_size)
            following = int.from_bytes(after, order)
    return kinds


def _kind(tags: Sequence[bytes], order: Literal["little", "big"], offset_size: int) -> set[tuple]:
    found = {}
    for tag in tags:
        code, kind, count = (int.from_bytes(part, order) for part in (tag[:2], tag[2:4], tag[4 : 4 + offset_size]))
        if count == 1 and kind in (3, 4):  # one number of 2 or 4 bytes; others stand elsewhere
            found[code] = int.from_bytes(tag[4 + offset_size :][: 2 * kind - 4], order)
    return set() if found.get(_SUBFILE) else {tuple(found.get(code, 1 if code in _ONE else None) for code in _AGREED)}


def _ome_pixels(text: str) -> Mapping[str, str]:
    """Attributes of the first image of OME-XML."""
    pixels = next((e for e in xml.fromstring(text).iter() if e.tag.endswith("}Pixels")), None)
    return {} if pixels is None else pixels.attrib


def _check_ome(path: str, text: str) -> None:
    """Raises UserError for OME-XML that claims too much, as tifffile lists all of its planes."""
    if len(text) > MOST_METADATA:
        raise UserError(f"{path}: {len(text) >> 20} MiB of OME-XML, more than any image has: save it again with Fiji")
    try:
        found = _ome_pixels(text)
        sizes = [int(found.get(f"Size{axis}", 1)) for axis in "TCZYX"]
    except (xml.ParseError, ValueError) as error:
        raise UserError(f"{path}: its OME-XML is damaged ({error}): write the file again") from None
    check_shape(path, [math.prod(sizes[:3]), *sizes[3:]], sizes[3:])


def _tiff_scales(stored: Stored, tif: Any, series: Any, stack: bool) -> tuple[float | None, float | None, float | None]:
    """(z, y, x) nm from OME, ImageJ or plain resolution tags, None if unknown."""
    if tif.is_ome:
        found = _ome_pixels(tif.ome_metadata)
        z, y, x = (
            float(found[f"PhysicalSize{a}"]) * factor
            if f"PhysicalSize{a}" in found and (factor := length(stored, found.get(f"PhysicalSize{a}Unit", "µm")))
            else None
            for a in "ZYX"
        )
        return z, y, x
    per_y, per_x = _per_unit(series.keyframe, "YResolution"), _per_unit(series.keyframe, "XResolution")
    if tif.is_imagej:
        found = tif.imagej_metadata or {}
        unit = found.get("unit")
        in_z, in_y, in_x = (length(stored, found.get(key) or unit) for key in ("zunit", "yunit", "unit"))
        y, x = (factor / per if factor and per else None for factor, per in ((in_y, per_y), (in_x, per_x)))
        if not (y and x) or max(y, x) >= _LARGEST_PIXEL:
            return None, None, None
        spacing = found.get("spacing", 1 if stack else None)  # ImageJ omits a spacing of 1
        return (abs(float(spacing)) * in_z if spacing and in_z else None), y, x
    factor = {2: 2.54e7, 3: 1e7}.get(int(series.keyframe.resolutionunit or 1))
    y, x = (factor / r if factor and r else None for r in (per_y, per_x))
    return (None, y, x) if y and x and max(y, x) < _LARGEST_PIXEL else (None, None, None)


def _per_unit(keyframe: Any, name: str) -> float | None:
    tag = keyframe.tags.get(name)
    if tag is None or not tag.value[1]:
        return None
    return tag.value[0] / tag.value[1] or None
