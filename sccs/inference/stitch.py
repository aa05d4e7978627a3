"""Seamless stitching of overlapping FOVs: the border between two of them runs where both agree.

Two neighbouring FOVs both label the pixels within `halo` of their border. Dynamic programming moves the border to the
path of least disagreement (the cut of Efros and Freeman, 2001), slice by slice. It is pinned at the corners where four
FOVs meet and leaves them at 45 degrees at most, so that borders along y and along x never meet elsewhere: a pixel's
label depends only on its FOV and the four neighbours, and thus not on the blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from registry.numeric.compiled import compiled
from sccs.inference.blocks import Span

Read = Callable[[int, int, slice, slice], np.ndarray]  # FOV (i, j); rows, columns of the region -> (Z, h, w)


def stitched(
    i: int,
    j: int,
    rows: Sequence[Span],
    columns: Sequence[Span],
    halo: int,
    labels: Read,
    empty: int,
    values: Read | None = None,
) -> np.ndarray:
    """The centre of FOV (i, j): (Z, h, w), from the FOV itself and, beyond moved borders, from its neighbours.

    labels: of all FOVs, over all that they see. If a FOV is entirely `empty` in a slice, its borders stay straight.
    values: what to assemble instead of the labels (such as the FOVs' numbers, to see which FOV a pixel is from).
    """
    values = values or labels
    y, x = rows[i], columns[j]
    out = np.array(values(i, j, slice(y.start, y.stop), slice(x.start, x.stop)))
    for across, spans, at, along, along_spans in ((2, columns, j, y, rows), (1, rows, i, x, columns)):
        for side in (-1, 0):  # the border before the FOV, the border after it
            first = at + side
            if not 0 <= first < len(spans) - 1:
                continue
            border = spans[first].stop
            reach = min(halo, *((span.stop - span.start) // 2 for span in spans[first : first + 2]))
            if reach < 2:
                continue
            strip = slice(border - reach, border + reach)
            pair = [(i, n) if across == 2 else (n, j) for n in (first, first + 1)]
            window = (slice(along.start, along.stop), strip) if across == 2 else (strip, slice(along.start, along.stop))
            one, other = (turned(labels(*fov, *window), across) for fov in pair)  # (Z, length, 2 reach)
            pinned = along.start > 0, along.stop < along_spans[-1].stop
            path = cut(one, other, pinned, empty)  # (Z, length), px from the strip's middle
            there = pair[1 if side == 0 else 0]
            theirs, mine = turned(values(*there, *window), across), turned(out, across)
            steps = np.arange(reach)
            if side == 0:  # they own the last -path pixels
                taken = steps >= reach + path[..., None]
                mine[:, :, -reach:][taken] = theirs[:, :, :reach][taken]
            else:  # they own the first `path` pixels
                taken = steps < path[..., None]
                mine[:, :, :reach][taken] = theirs[:, :, reach:][taken]
    return out


def turned(array: np.ndarray, across: int) -> np.ndarray:
    """Move the axis across the border to the end."""
    return array if across == 2 else array.swapaxes(1, 2)


def cut(one: np.ndarray, other: np.ndarray, pinned: tuple[bool, bool], empty: int) -> np.ndarray:
    """The path of least disagreement between two labellings of a strip (Z, length, 2 reach), as (Z, length) int.

    With p, pixels before the middle plus p come from `one`, the rest from `other`; p changes by at most one px from
    row to row, and is 0 at a pinned end. In a tie, the straighter path wins.
    """
    path = _path(np.ascontiguousarray(one), np.ascontiguousarray(other), *pinned)
    plain = (one == empty).all((1, 2)) | (other == empty).all((1, 2))
    path[plain] = 0
    return path


@compiled
def _path(one: np.ndarray, other: np.ndarray, first: bool, last: bool) -> np.ndarray:
    """`cut`, without regard to `empty`; first, last: the pinned ends."""
    depth, length, width = one.shape
    reach, never = width // 2, 4 * length
    places = 2 * reach - 1  # positions of the path in a row: p = -(reach - 1) .. reach - 1
    path, moves = np.empty((depth, length), np.int64), np.zeros((length, places), np.int8)
    best, before = np.zeros(places, np.int64), np.zeros(places, np.int64)
    for z in range(depth):
        for row in range(length):
            limit = min(reach, row if first else reach, length - 1 - row if last else reach)
            mine, theirs = one[z, row], other[z, row]
            for at in range(places):
                # both labellings at both pixels next to the cut, and the step from one to the other
                cost = np.int64(mine[at] != theirs[at]) + np.int64(mine[at + 1] != theirs[at + 1])
                cost += np.int64(mine[at] != theirs[at + 1])
                if abs(at + 1 - reach) > limit:
                    cost = never
                least, move = before[at], 0
                if at > 0 and before[at - 1] < least:
                    least, move = before[at - 1], -1
                if at + 1 < places and before[at + 1] < least:
                    least, move = before[at + 1], 1
                best[at], moves[row, at] = least + cost if row else cost, move
            best, before = before, best
        at = reach - 1
        for away in range(1, reach):
            for end in (reach - 1 - away, reach - 1 + away):
                if before[end] < before[at]:
                    at = end
        for row in range(length - 1, -1, -1):
            path[z, row] = at + 1 - reach
            at += moves[row, at]
    return path
