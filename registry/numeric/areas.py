"""Openings and closings by area: what is left of an image without its bright, or dark, structures below some size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from registry.numeric.compiled import compiled


def area_openings(levels: np.ndarray, areas: Sequence[int]) -> np.ndarray:
    """Openings (t, H, W) uint8 of an image (H, W) uint8 by t areas, px.

    A pixel gets the highest level at which it lies in a 4-connected region of that level or more with at least so many
    pixels.

    One max-tree (Salembier et al. 1998), built by union-find (Najman & Couprie 2006), serves all areas. Equal to
    `skimage.morphology.area_opening(levels, area)`, but where no level has so large a region: the lowest level stays.
    """
    return _openings(np.ascontiguousarray(levels, np.uint8), np.asarray(areas, np.int64))


def area_closings(levels: np.ndarray, areas: Sequence[int]) -> np.ndarray:
    """Closings (t, H, W) uint8 of an image (H, W) uint8 by t areas, px: the same of dark structures."""
    return 255 - area_openings(255 - np.asarray(levels, np.uint8), areas)


@compiled
def _openings(levels: np.ndarray, areas: np.ndarray) -> np.ndarray:
    H, W = levels.shape
    n, f = H * W, levels.ravel()
    starts = np.zeros(257, np.int64)
    for value in f:
        starts[value + 1] += 1
    for value in range(256):
        starts[value + 1] += starts[value]
    order, place = np.empty(n, np.int32), starts[:-1].copy()
    for p in range(n):  # counting sort: pixels by level, and then as they lie
        order[place[f[p]]] = p
        place[f[p]] += 1
    # From the highest pixel down, each becomes the parent of the regions beside it. `root` leads, by shortened ways, to
    # the pixel that was last added to a region; `size` is right for the last pixel of each level of a region.
    parent, root, size = np.empty(n, np.int32), np.full(n, -1, np.int32), np.ones(n, np.int32)
    for index in range(n - 1, -1, -1):
        p = order[index]
        parent[p] = root[p] = p
        y, x = p // W, p % W
        for side in range(4):
            if side == 0:
                if y == 0:
                    continue
                q = p - W
            elif side == 1:
                if y == H - 1:
                    continue
                q = p + W
            elif side == 2:
                if x == 0:
                    continue
                q = p - 1
            else:
                if x == W - 1:
                    continue
                q = p + 1
            if root[q] < 0:  # lower, or not yet reached
                continue
            while root[q] != q:
                root[q] = root[root[q]]
                q = root[q]
            if q != p:
                parent[q] = root[q] = p
                size[p] += size[q]
    out = np.empty((len(areas), n), np.uint8)
    for t in range(len(areas)):
        least, line = areas[t], out[t]
        for p in order:  # parents first
            up = parent[p]
            line[p] = f[p] if up == p or (f[up] < f[p] and size[p] >= least) else line[up]
    return out.reshape(len(areas), H, W)
