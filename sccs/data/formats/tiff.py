"""TIFF, BigTIFF, ImageJ and OME-TIFF, read by pages, strips and tiles."""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from registry.base import UserError
from sccs.data.stored import NoSuchLevel, Stored, listed, nanometres, read_plain

TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")

# tifffile logs what it finds odd in a file; here that ends in one UserError or is of no consequence.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


class TiffStack(Stored):
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
            found = listed(f"{s.shape} {s.dtype}" for s in series)
            raise UserError(f"{self.path}: holds {len(series)} images of different kinds ({found}): save one of them")
        if not self.level:
            return series
        count = len(series[0].levels)
        if len(series) > 1 or not 0 <= self.level < count:
            raise NoSuchLevel(
                f"{self.path}: has {count} level(s), `level: {self.level}` was asked for: 0 is the finest"
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
        if end > size or _tiff_chain_broken(tif):
            raise UserError(f"{self.path}: truncated TIFF, the file ends before its last slice: copy it anew")

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
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
                raise UserError(f"{self.path}: page {number} is missing: copy the file and its companions anew")
            if len(self.page) != 2:
                return page.asarray()[spans]
            keyframe, file = page.keyframe, page.parent.filehandle.path
            offsets, counts = page.dataoffsets, page.databytecounts
            tables = {"jpegtables": page.jpegtables, "jpegheader": keyframe.jpegheader} if _is_jpeg(keyframe) else {}
        if keyframe.is_memmappable and keyframe.is_contiguous:
            return read_plain(file, self.dtype, offsets[0], self.page, spans)
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
        z, y, x = (
            float(found[f"PhysicalSize{a}"]) * factor
            if f"PhysicalSize{a}" in found and (factor := nanometres(found.get(f"PhysicalSize{a}Unit", "µm")))
            else None
            for a in "ZYX"
        )
        return z, y, x
    per_y, per_x = _per_unit(series.keyframe, "YResolution"), _per_unit(series.keyframe, "XResolution")
    if tif.is_imagej:
        found = tif.imagej_metadata or {}
        factor = nanometres(found.get("unit"))
        if not factor:
            return None, None, None
        spacing = found.get("spacing")
        y, x = (factor / per if per else None for per in (per_y, per_x))
        return (abs(float(spacing)) * factor if spacing else None), y, x
    factor = {2: 2.54e7, 3: 1e7}.get(int(series.keyframe.resolutionunit or 1))
    y, x = (factor / r if factor and r else None for r in (per_y, per_x))
    # Dots per inch of a screen or a printer are no voxel size: no electron microscope has pixels of 10 µm.
    return (None, y, x) if y and x and max(y, x) < 1e4 else (None, None, None)


def _per_unit(keyframe: Any, name: str) -> float | None:
    tag = keyframe.tags.get(name)
    if tag is None or not tag.value[1]:
        return None
    return tag.value[0] / tag.value[1] or None
