"""MRC/CCP4 maps, without a library: a fixed header and plain pixels."""

from __future__ import annotations

import math
import os

import numpy as np

from registry.base import UserError
from sccs.data.stored import Stored, read_plain

MRC_SUFFIXES = (".mrc", ".rec", ".st", ".ali", ".map")


class MRCArray(Stored):
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
        return read_plain(self.path, self.dtype, self.offset, self.shape, spans)
