"""How a volume is divided for segmentation: fields of view (FOVs) with halos, and blocks. Only numbers; nothing here
reads pixels or knows a model.

Every segmentation uses the FOVs of `overlapping`; those of `separate` are the paper's evaluation protocol.

FOVs depend only on the region's shape, their side and the halo. Blocks consist of whole FOVs and whole chunks: no FOV
is computed twice, no two workers write the same chunk, and labels do not depend on the blocks or their order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from registry.base import CONTEXT, UserError
from sccs.data.pyramid import CHUNK, box, grid
from sccs.data.tiler import WINDOW, split

WIDE = 40  # px; the default halo in small slices, where a wider halo adds no FOV
BLOCK = (32, 1120, 1120)  # voxels; the default, before rounding to whole FOVs
FOV_VOXELS = 1 << 26  # most voxels of a FOV's slices in a block, unless one slice has more


class Span(NamedTuple):
    """One FOV along an axis: it sees [low, high) and writes [start, stop), in px of the region."""

    start: int
    stop: int
    low: int
    high: int

    @property
    def core(self) -> slice:
        """The written part, relative to the seen part."""
        return slice(self.start - self.low, self.stop - self.low)


def default_halo(shape: Sequence[int], fov: int | str, context: int) -> int:
    """px by which the FOVs of a slice of `shape` (Y, X) see into their neighbours: `WIDE` if no axis has more than two,
    else the `context` of the features; at most 1/14 of a FOV.

    >>> [default_halo((side, side), 560, 20) for side in (1024, 1041)], default_halo((2000, 2000), 160, 20)
    ([40, 20], 11)
    """
    if isinstance(fov, str):
        return 0
    wide = min(WIDE, fov // 14)
    return wide if all(len(spans(length, fov, wide)) <= 2 for length in shape) else min(context, fov // 14)


def spans(length: int, fov: int | str, halo: int) -> list[Span]:
    """FOVs along an axis: equal steps, on multiples of the MAE's window (80 px) where `fov` allows for it.

    A side of at most `fov` px is one FOV, and no FOV sees more (unless the last one would see less than a window).
    Of three or more with a halo, those at the ends extend inwards to see as much as the others; of two, each sees one
    halo, and the second starts on the grid. Without a halo, FOVs see what they write. Raises UserError for a halo that
    leaves no centre.

    >>> [(span.start, span.stop, span.low, span.high) for span in spans(1024, 560, 40)]
    [(0, 520, 0, 560), (520, 1024, 480, 1024)]
    """
    if isinstance(fov, str) or length <= fov:
        return [Span(0, length, 0, length)]
    limit = fov - 2 * halo
    if halo < 0 or limit < 1:
        raise UserError(f"--halo {halo}: FOVs of {fov} px allow a halo of 0 to {(fov - 1) // 2} px")
    grid = WINDOW if limit >= WINDOW else 1
    limit = limit // grid * grid
    if two := length <= limit + (fov if halo else limit):
        low = min(grid * math.ceil((length - 2 * halo) / (2 * grid)), limit)
        step = max(low + halo, math.ceil(length / 2))
    else:
        step = grid * math.ceil(math.ceil(length / grid) / math.ceil(length / limit))
    least = min(step + 2 * halo if halo and not two else grid, length)
    # The last FOV's windows align with those of its neighbours; it sees at least one whole window.
    last = min(math.ceil((length - least) / grid), (length - grid) // grid) * grid
    lows = [0, min(low, last)] if two else [max(0, min(start - halo, last)) for start in range(0, length, step)]
    return [
        Span(start, min(start + step, length), low, min(max(start + step + halo, low + least), length))
        for start, low in zip(range(0, length, step), lows)
    ]


Place = tuple[int, int]  # row and column of a FOV in a slice


@dataclass(frozen=True)
class Fields:
    """The FOVs of a slice. y, x: along its axes. halo: px by which they see into their neighbours; 0: no overlap."""

    halo: int
    y: list[Span]
    x: list[Span]

    def __len__(self) -> int:
        return len(self.y) * len(self.x)

    def __iter__(self) -> Iterator[tuple[Place, Span, Span]]:
        return (((i, j), y, x) for i, y in enumerate(self.y) for j, x in enumerate(self.x))

    @property
    def sides(self) -> tuple[int, int]:
        """(Y, X) of the slice."""
        return self.y[-1].stop, self.x[-1].stop

    @property
    def seen(self) -> int:
        """Pixels seen by all FOVs in total."""
        return math.prod(sum(span.high - span.low for span in along) for along in (self.y, self.x))


def overlapping(shape: Sequence[int], fov: int | str, halo: int | None = None, context: int = CONTEXT) -> Fields:
    """FOVs of a slice of `shape` (Y, X), to be stitched; None: `default_halo`. Raises UserError as `spans` does."""
    halo = default_halo(shape, fov, context) if halo is None else halo
    y, x = (spans(length, fov, halo) for length in shape)
    return Fields(halo, y, x)


def separate(shape: Sequence[int], fov: int | str) -> Fields:
    """The tiles (`sccs.data.tiler`) of a slice of `shape` (Y, X), as FOVs that see what they write."""
    cuts = ([(0, length)] if isinstance(fov, str) else split(length, fov) for length in shape)
    y, x = ([Span(start, stop, start, stop) for start, stop in cut] for cut in cuts)
    return Fields(0, y, x)


@dataclass(frozen=True)
class Plan(Fields):
    """shape: (Z, Y, X) of the region. block, chunk: shapes in voxels; chunks divide blocks."""

    shape: tuple[int, int, int]
    block: tuple[int, int, int]
    chunk: tuple[int, int, int]

    @property
    def count(self) -> int:
        """Number of blocks."""
        return math.prod(grid(self.shape, self.block))

    @property
    def slot(self) -> tuple[int, int]:
        """(h, w) large enough for what any FOV sees."""
        h, w = (max(span.high - span.low for span in along) for along in (self.y, self.x))
        return h, w

    def corner(self, i: int, j: int) -> tuple[int, int]:
        """Corner of FOV (i, j)'s slot, with slots side by side."""
        return i * self.slot[0], j * self.slot[1]

    def box(self, number: int) -> tuple[slice, ...]:
        """Voxels of a block, within the region."""
        return box(self.shape, self.block, number)

    def within(self, number: int) -> tuple[range, list[int], list[int]]:
        """Slices of a block, and the numbers of its FOVs along y and x."""
        z, *sides = self.box(number)
        y, x = (
            [n for n, span in enumerate(along) if side.start <= span.start < side.stop]
            for along, side in zip((self.y, self.x), sides)
        )
        return range(z.start, z.stop), y, x


def make_plan(
    shape: Sequence[int], fov: int | str, halo: int | None = None, block: Sequence[int] | None = None
) -> Plan:
    """halo: as for `overlapping`. block: requested size in voxels (z, y, x); y and x are rounded to whole FOVs."""
    Z, Y, X = map(int, shape)
    wished = block or BLOCK
    fields = overlapping((Y, X), fov, halo)
    y, x = fields.y, fields.x
    most = max(1, FOV_VOXELS // math.prod(max(span.high - span.low for span in along) for along in (y, x)))
    depth = min(wished[0], Z, most)
    chunks, sides = [min(depth, CHUNK[0])], []
    sides.append(depth // chunks[0] * chunks[0])
    for along, length, side, longest in zip((y, x), (Y, X), wished[1:], CHUNK[1:]):
        step = along[0].stop
        sides.append(min(max(1, side // step), len(along)) * step)
        chunks.append(min(longest, length) if sides[-1] >= length else _divisor(step, longest))
    return Plan(fields.halo, y, x, (Z, Y, X), (sides[0], sides[1], sides[2]), (chunks[0], chunks[1], chunks[2]))


def following(depth: int, shape: Sequence[int], fov: int | str, halo: int | None = None) -> list[int] | None:
    """The block to request for input chunks of `depth` slices: an equal part of a chunk, as deep as memory allows, so
    that few blocks decode the same chunk. None if the default is deep enough.

    >>> following(512, (2000, 4000, 4000), 560), following(16, (2000, 4000, 4000), 560)
    ([128, 1120, 1120], None)
    """
    fields = overlapping(shape[1:], fov, halo)
    most = FOV_VOXELS // math.prod(max(span.high - span.low for span in along) for along in (fields.y, fields.x))
    parts = (depth // n for n in range(1, depth + 1) if depth % n == 0)
    fitting = next((part for part in parts if part <= most and (part % CHUNK[0] == 0 or part < CHUNK[0])), 0)
    return [fitting, *BLOCK[1:]] if depth > BLOCK[0] and fitting >= BLOCK[0] // 2 else None


def _divisor(length: int, most: int) -> int:
    """The largest divisor of `length` that is at most `most`."""
    return next(size for size in range(min(length, most), 0, -1) if length % size == 0)


def chosen_level(sizes: Sequence[Sequence[float]], trained: Sequence[float]) -> int:
    """The level whose pixel size (y, x) is closest in ratio to that of the training images; in a tie, the finer one.

    >>> chosen_level([(50, 5, 5), (50, 10, 10), (50, 20, 20)], trained=(16, 16, 16))
    2
    """
    distance = [abs(math.log(math.prod(size[1:]) / math.prod(trained[1:]))) for size in sizes]
    return int(np.argmin(np.round(distance, 6)))
