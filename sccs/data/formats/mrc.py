"""MRC/CCP4 maps, read without a library: a fixed header and plain pixels."""

from __future__ import annotations

import math
import os

import numpy as np

from registry.base import UserError
from sccs.data.bounds import MOST_SIDE
from sccs.data.stored import Stored, looks_unsigned, read_plain

MRC_SUFFIXES = (".mrc", ".rec", ".st", ".ali", ".map")
_IMOD = 1146047817  # IMOD's stamp; bit 0 of the next word means signed bytes
_STACK = 401  # space groups from here on mark a stack of volumes
_LOOKED_AT = 1 << 20  # values examined to tell signed from unsigned


class MRCArray(Stored):
    """MRC/CCP4 maps: the fixed header of MRC2014 (https://doi.org/10.1016/j.jsb.2015.04.002), then plain pixels."""

    _TYPES = {0: "i1", 1: "i2", 2: "f4", 4: "c8", 6: "u2", 12: "f2"}

    def __init__(self, path: str):
        self.path = path
        with open(path, "rb") as stream:
            raw = stream.read(1024)
        if len(raw) < 1024:
            raise UserError(f"{path}: truncated MRC file, shorter than a header: copy it again")
        known = [o for o in "<>" if np.frombuffer(raw, o + "i4", 1, 12)[0] in (*self._TYPES, 16, 101)]
        if not known:
            raise UserError(f"{path}: not an MRC file, or an unknown mode in its header: check what it is")
        # Mode 0 is the same in both orders; sizes are not.
        order = next((o for o in known if np.frombuffer(raw, o + "i4", 3).max() <= MOST_SIDE), known[0])
        words, numbers = np.frombuffer(raw, order + "i4"), np.frombuffer(raw, order + "f4")
        mode = int(words[3])
        if mode not in self._TYPES:
            raise UserError(f"{path}: MRC mode {mode} (RGB or 4 bits) is not supported: save 8, 16 or 32 bit grey")
        self.dtype = np.dtype(order + self._TYPES[mode])
        self.shape = tuple(int(n) for n in words[2::-1])
        self.axes = self._axes(words[18:15:-1].tolist())
        # cell edges in Å over the sampling along them, stored (x, y, z)
        sizes = {a: float(numbers[10 + i]) / int(words[7 + i]) / 10 for i, a in enumerate("xyz") if words[7 + i] > 0}
        self.scales = tuple(sizes.get(a) for a in self.axes)
        self.offset = 1024 + int(words[23])
        end = self.offset + math.prod(self.shape) * self.dtype.itemsize
        if min(*self.shape, self.offset - 1024) < 0 or end > os.path.getsize(path):
            raise UserError(
                f"{path}: truncated MRC file, too short for the shape in its header, {self.shape}: copy it again"
            )
        depth = int(words[9])
        if words[22] >= _STACK and 0 < depth < self.shape[0] and self.shape[0] % depth == 0:
            self.shape = (self.shape[0] // depth, depth, *self.shape[1:])
            self.axes, self.scales = "t" + self.axes, (None, *self.scales)
        stamped = mode == 0 and words[38] == _IMOD
        if mode in (0, 1) and (not words[39] & 1 if stamped else self._unsigned(numbers)):
            self.dtype = np.dtype(order + self._TYPES[mode].replace("i", "u"))

    def _axes(self, stored: list[int]) -> str:
        """Letters of sections, rows and columns by MAPS, MAPR, MAPC: 1 is x, 2 is y, 3 is z; 0 in old files."""
        if sorted(stored) == [1, 2, 3]:
            return "".join("xyz"[number - 1] for number in stored)
        if any(stored):
            self.notes += (
                f"MAPC, MAPR, MAPS in its header are {stored[::-1]}, not a valid order of axes: 1, 2, 3 is assumed",
            )
        return "zyx"

    def _unsigned(self, numbers: np.ndarray) -> bool:
        """Whether integers that MRC2014 defines as signed are unsigned, as many programs write them: judged by the
        range in the header, else by the central pixels."""
        if 0 <= float(numbers[19]) < float(numbers[20]) > np.iinfo(self.dtype).max:
            return True
        flat = (math.prod(self.shape[:-1]), self.shape[-1])
        rows = min(flat[0], max(1, _LOOKED_AT // max(1, flat[1])))
        if 0 in flat:
            return False
        first = (flat[0] - rows) // 2
        spans = slice(first, first + rows), slice(0, flat[1])
        unsigned = looks_unsigned(read_plain(self.path, self.dtype, self.offset, flat, spans))
        if unsigned:
            self.notes += ("its values are read as unsigned: read as signed, as its header says, they would jump",)
        return unsigned

    def read(self, spans: tuple[slice, ...]) -> np.ndarray:
        return read_plain(self.path, self.dtype, self.offset, self.shape, spans)
