"""Non-overlapping fields of view (FOVs) that cover a slice of any size, including its edges.

Used in training and by `evaluation.fovs: separate`; in segmentation FOVs overlap (sccs/inference/blocks.py).

The paper cuts slices into 560 x 560 FOVs and does not mention edges. Here a side that exceeds the limit is cut
into the fewest tiles; inner borders lie on multiples of the MAE's window (80 px) if that costs no extra tile, so
that no window is padded inside the slice, and sizes are balanced, so that all graphs have about the same number of
nodes: 800 -> 400 + 400, 1024 -> 560 + 464, 2000 -> 560 + 480 + 480 + 480.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple, cast

import numpy as np

WINDOW = 80  # px, side of the MAE's window


class Tile(NamedTuple):
    """Half-open pixel ranges of one FOV within a slice."""

    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def window(self) -> tuple[slice, slice]:
        """(rows, columns), to index a slice with."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)


def split(length: int, limit: int, grid: int = WINDOW) -> list[tuple[int, int]]:
    """Cut range(length) into the fewest consecutive parts of at most `limit`.

    Inner borders are multiples of `grid`, unless this would add a part or make the last part thinner than `grid`;
    then the parts differ by at most one pixel. With limit >= 2 * grid no part is thinner than min(grid, length).
    """
    if length < 1 or limit < 1:
        raise ValueError(f"split needs a positive length and limit, got {length} and {limit}")
    count = -(-length // limit)
    cells = -(-length // grid)
    fewer, more = divmod(cells, count)  # the first `more` parts have an extra cell
    sizes = [grid * (fewer + (i < more)) for i in range(count)]
    sizes[-1] -= cells * grid - length
    if count > 1 and (sizes[0] > limit or sizes[-1] < grid):
        small, larger = divmod(length, count)
        sizes = [small + (i < larger) for i in range(count)]
    borders = np.concatenate([[0], np.cumsum(sizes)]).tolist()
    return list(itertools.pairwise(borders))


def tiles(shape: tuple[int, int], fov: int | str) -> list[Tile]:
    """Tiles of a slice of shape (H, W), row by row; `fov` is the longest side in px, or ``"full"`` for one tile."""
    height, width = shape
    if fov == "full":
        return [Tile(0, height, 0, width)]
    side = cast(int, fov)
    return [Tile(y0, y1, x0, x1) for y0, y1 in split(height, side) for x0, x1 in split(width, side)]
