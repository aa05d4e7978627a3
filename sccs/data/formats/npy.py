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
    """An array that `numpy.save` wrote. Axes and voxel size are not in the file."""

    def __init__(self, path: str):
        self.path = path
        with open(path, "rb") as stream:
            try:
                self.shape, transposed, self.dtype = _HEADERS[npy.read_magic(stream)](stream)
            except (ValueError, KeyError, EOFError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
                raise UserError(
                    f"{path}: no .npy file of numbers that NumPy wrote, or truncated: save it anew"
                ) from error
            self.offset = stream.tell()
        if self.dtype.hasobject or self.dtype.fields:
            raise UserError(f"{path}: holds Python objects or records, no image: save an array of numbers")
        if transposed and len(self.shape) > 1:
            raise UserError(f"{path}: is stored in Fortran order: save numpy.ascontiguousarray(array) anew")
        if self.offset + math.prod(self.shape) * self.dtype.itemsize > os.path.getsize(path):
            raise UserError(f"{path}: truncated, shorter than its header says, {self.shape}: copy it anew")

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        return read_plain(self.path, self.dtype, self.offset, self.shape, spans)
