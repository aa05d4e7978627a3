"""ZEISS's CZI, read with ZEISS's own library."""

from __future__ import annotations

import itertools
from typing import Any
from xml.etree import ElementTree

import numpy as np

from registry.base import UserError
from sccs.data.stored import Stored, missing_package

CZI_SUFFIXES = (".czi",)
_TYPES = {"Gray8": "u1", "Gray16": "<u2", "Gray32Float": "<f4"}


class CZIArray(Stored):
    """The finest level of a CZI file, with all tiles and scenes in one plane."""

    axes = "tczyx"

    def __init__(self, path: str):
        try:
            import pylibCZIrw.czi  # noqa: F401
        except ImportError as error:
            raise missing_package("pylibCZIrw", path, error) from error
        self.path = path
        reader = self.handle()
        box = reader.total_bounding_box_no_pyramid
        ends = [box.get(letter.upper(), (0, 1)) for letter in self.axes]
        self.first = tuple(int(first) for first, _ in ends)
        self.shape = tuple(int(end - first) for first, end in ends)
        kinds = {reader.get_channel_pixel_type(channel) for channel in range(*box.get("C", (0, 1)))}
        if len(kinds) > 1 or not kinds <= set(_TYPES):
            raise UserError(
                f"{path}: has pixels of {', '.join(sorted(kinds))}, but SCCS needs greyscale images: export one channel"
            )
        self.dtype = np.dtype(_TYPES[kinds.pop()])
        steps = _steps(reader.raw_metadata)
        self.scales = (None, None, *(steps.get(letter) for letter in "zyx"))

    def _open(self) -> Any:
        from pylibCZIrw.czi import CziReader

        return CziReader(self.path)

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        *planes, y, x = ((first + span.start, first + span.stop) for first, span in zip(self.first, spans))
        out = np.empty([span.stop - span.start for span in spans], self.dtype)
        for index, plane in zip(np.ndindex(*out.shape[:3]), itertools.product(*(range(*along) for along in planes))):
            roi = x[0], y[0], x[1] - x[0], y[1] - y[0]
            out[index] = self.handle().read(roi=roi, plane=dict(zip("TCZ", plane)))[..., 0]
        return out


def _steps(metadata: str) -> dict[str, float]:
    """nm per voxel along x, y, z, from a CZI's XML, which has metres."""
    found = {}
    for distance in ElementTree.fromstring(metadata).iterfind("Metadata/Scaling/Items/Distance"):
        value = float(distance.findtext("Value") or 0) * 1e9
        if value > 0:
            found[distance.get("Id", "").lower()] = value
    return found
