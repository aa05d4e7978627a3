"""Area openings and closings, which remove bright or dark structures below a given size from an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from registry.numeric.compiled import compiled


def area_openings(levels: np.ndarray, areas: Sequence[int]) -> np.ndarray:
    """Openings (t, H, W) uint8 of an image (H, W) uint8 by t areas, px.

    A pixel gets the highest level at which it lies in a 4-connected region of at least that level and that many pixels.

    One max-tree (Salembier et al. 1998), built by union-find (Najman & Couprie 2006), serves all areas. Equal to
    `skimage.morphology.area_opening(levels, area)`, except where no level has such a large region: there a pixel keeps
    the lowest level.
    """
    return _openings(np.ascontiguousarray(levels, np.uint8), np.asarray(areas, np.int64))


def area_closings(levels: np.ndarray, areas: Sequence[int]) -> np.ndarray:
    """Closings (t, H, W) uint8 of an image (H, W) uint8 by t areas, px: the same for dark structures."""
    return 255 - area_openings(255 - np.asarray(levels, np.uint8), areas)


@compiled
def _openings(levels: np.ndarray, areas: np.ndarray) -> np.ndarray:
    H, W = levels.shape
    wide = W + 2  # with a border that is never reached, so that no pixel needs its coordinates
    f = np.zeros((H + 2) * wide, np.uint8)
    starts = np.zeros(257, np.int64)
    for y in range(H):
        for x in range(W):
            f[(y + 1) * wide + x + 1] = levels[y, x]
            starts[levels[y, x] + 1] += 1
    for value in range(256):
        starts[value + 1] += starts[value]
    order, place = np.empty(H * W, np.int32), starts[:-1].copy()
    for y in range(H):  # counting sort: pixels by level, then by position
        for x in range(W):
            order[place[levels[y, x]]] = (y + 1) * wide + x + 1
            place[levels[y, x]] += 1
    # From the highest pixel down, each becomes the parent of the regions beside it. `root` leads, by shortened paths,
    # to the pixel that was last added to a region; `size` is right for the last pixel of each level of a region.
    parent, root, size = np.empty(len(f), np.int32), np.full(len(f), np.int32(-1)), np.ones(len(f), np.int32)
    for index in range(len(order) - 1, -1, -1):
        p = order[index]
        parent[p] = root[p] = p
        for away in (-wide, wide, -1, 1):
            q = root[p + away]
            if q < 0:  # lower, not yet reached, or outside
                continue
            while root[q] != q:
                root[q] = root[root[q]]
                q = root[q]
            root[p + away] = q
            if q != p:
                parent[q] = root[q] = p
                size[p] += size[q]
    t = len(areas)
    out = np.empty((len(f), t), np.uint8)
    for p in order:  # parents first
        up = parent[p]
        own, line, above = f[p], out[p], out[up]
        if up == p:
            line[:] = own
        else:
            pixels = size[p] if f[up] < own else 0
            for i in range(t):
                line[i] = own if pixels >= areas[i] else above[i]
    return out.reshape(H + 2, wide, t)[1:-1, 1:-1].transpose(2, 0, 1)
