"""Gatan's DM3 and DM4 (DigitalMicrograph, 3View): ncempy reads the header, the pixels are plain."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from registry.base import UserError
from sccs.data.stored import Stored, listed, missing_package, nanometres, read_plain

DM_SUFFIXES = (".dm3", ".dm4")
_RGB = 23  # also the type of the thumbnail that most files begin with
_TYPES = {1: "<i2", 2: "<f4", 6: "u1", 7: "<i4", 9: "i1", 10: "<u2", 11: "<u4", 12: "<f8"}


class DMArray(Stored):
    """The image or stack in a DM3 or DM4 file; thumbnails do not count."""

    def __init__(self, path: str):
        try:
            from ncempy.io.dm import fileDM
        except ImportError as error:
            raise missing_package("ncempy", path, error) from error
        self.path = path
        with fileDM(path) as header:
            tags = dict(header.allTags)
        prefix, kind = _only_image(path, tags)
        self.dtype = np.dtype(_TYPES[kind])
        sides = _counted(tags, f"{prefix}.Dimensions.", "")
        self.shape, self.axes = tuple(int(n) for n in sides[::-1]), "tzyx"[-len(sides) :]
        calibration = f"{prefix}.Calibrations.Dimension."
        steps, units = _counted(tags, calibration, ".Scale"), _counted(tags, calibration, ".Units")
        known = [step * (nanometres(unit) or 0) for step, unit in zip(steps, units)]
        if len(known) == len(sides):
            self.scales = tuple(float(step) or None for step in known[::-1])
        self.offset = int(tags[f"{prefix}.Data.arrayOffset"])
        if self.offset + math.prod(self.shape) * self.dtype.itemsize > os.path.getsize(path):
            raise UserError(f"{path}: truncated, shorter than its header says, {self.shape}: copy the file again")

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        return read_plain(self.path, self.dtype, self.offset, self.shape, spans)


def _only_image(path: str, tags: dict[str, Any]) -> tuple[str, int]:
    """The prefix of the tags of the file's only image, and DM's number for its type."""
    ends = ".ImageData.DataType"
    kinds = {key[: -len(".DataType")]: int(kind) for key, kind in tags.items() if key.endswith(ends)}
    images = {prefix: kind for prefix, kind in kinds.items() if kind != _RGB and f"{prefix}.Dimensions.2" in tags}
    if not images:
        what = "only colour images" if _RGB in kinds.values() else "no image"
        raise UserError(f"{path}: contains {what}: export a greyscale image from DigitalMicrograph as TIFF")
    if len(images) > 1:
        sizes = listed(" x ".join(str(n) for n in _counted(tags, f"{p}.Dimensions.", "")) for p in images)
        raise UserError(f"{path}: contains {len(images)} images ({sizes}): export the one that you want as TIFF")
    ((prefix, kind),) = images.items()
    if kind not in _TYPES:
        raise UserError(f"{path}: pixels of DM's type {kind} are not grey values: export the image as TIFF")
    return prefix, kind


def _counted(tags: dict[str, Any], before: str, after: str) -> list[Any]:
    """Values of the tags before1after, before2after, ..., up to DM's four dimensions."""
    keys = [f"{before}{number}{after}" for number in range(1, 5)]
    return [tags[key] for key in keys if key in tags]
