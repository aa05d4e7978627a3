"""The blocks in which a volume is processed, and their surroundings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sccs.data.pyramid import CHUNK, box, grid

BLOCK = (64, 320, 320)  # voxels
Box = tuple[slice, ...]  # half-open, of a volume (Z, Y, X)


@dataclass(frozen=True)
class Blocks:
    """shape: (Z, Y, X) of the volume. block, chunk: shapes in voxels; chunks divide blocks."""

    shape: tuple[int, ...]
    block: tuple[int, ...]
    chunk: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of blocks."""
        return math.prod(grid(self.shape, self.block))

    def box(self, number: int) -> Box:
        """Voxels of a block."""
        return box(self.shape, self.block, number)

    def around(self, area: Box, halo: Sequence[int]) -> tuple[Box, Box]:
        """The box extended by `halo` (z, y, x) within the volume; and the original box inside it."""
        outer = tuple(slice(max(0, s.start - h), min(n, s.stop + h)) for s, h, n in zip(area, halo, self.shape))
        return outer, within(area, outer)

    def meeting(self, area: Box) -> Iterator[tuple[int, Box]]:
        """The blocks that a box overlaps, and the overlaps."""
        counts = grid(self.shape, self.block)
        spans = [range(s.start // b, -(-s.stop // b)) for s, b in zip(area, self.block)]
        for place in np.ndindex(*map(len, spans)):
            at = [int(span[i]) for span, i in zip(spans, place)]
            number = int(np.ravel_multi_index(at, counts))
            yield number, common(area, self.box(number))


def make_blocks(shape: Sequence[int], wished: Sequence[int] | None = None) -> Blocks:
    """`wished`: block (z, y, x) in voxels; if longer than a chunk, rounded to whole chunks."""
    sides, chunks = [], []
    for n, side, most in zip(shape, wished or BLOCK, CHUNK):
        chunk = min(n, side, most)
        sides.append(min(-(-side // chunk), -(-n // chunk)) * chunk)
        chunks.append(chunk)
    return Blocks(tuple(map(int, shape)), tuple(sides), tuple(chunks))


def within(area: Box, outer: Box) -> Box:
    """A box relative to `outer`."""
    return tuple(slice(a.start - o.start, a.stop - o.start) for a, o in zip(area, outer))


def common(one: Box, other: Box) -> Box:
    """The intersection of two boxes."""
    return tuple(slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(one, other))


def sizes(area: Box) -> tuple[int, ...]:
    """The shape of a box."""
    return tuple(side.stop - side.start for side in area)
