"""NumPy's .npy: a short header and plain pixels."""

from __future__ import annotations

import math
import os

import numpy as np
from numpy.lib import format as npy

from registry.base import UserError
from sccs.data.stored import Stored, read_plain

NPY_SUFFIXES = (".npy",)
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class NPYArray(Stored):
    """An array written by `numpy.save`, without axes or voxel size."""

    def __init__(self, path: str):
        self.path = path
        with open(path, "rb") as stream:
            try:
                self.shape, transposed, self.dtype = _HEADERS[npy.read_magic(stream)](stream)
            except (ValueError, KeyError, EOFError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
                raise UserError(
                    f"{path}: not a .npy file of numbers written by NumPy, or truncated: save it again"
                ) from error
            self.offset = stream.tell()
        if self.dtype.hasobject or self.dtype.fields:
            raise UserError(f"{path}: contains Python objects or records, not an image: save an array of numbers")
        if transposed and len(self.shape) > 1:
            raise UserError(f"{path}: is stored in Fortran order: save numpy.ascontiguousarray(array) instead")
        if self.offset + math.prod(self.shape) * self.dtype.itemsize > os.path.getsize(path):
            raise UserError(f"{path}: truncated, too short for the shape in its header, {self.shape}: copy it again")

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        return read_plain(self.path, self.dtype, self.offset, self.shape, spans)
