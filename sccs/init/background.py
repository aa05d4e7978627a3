"""Empty background (resin, the space around cells, padding): found without labels, and left out by a mask.

Background is bright, as nothing in it took up stain, as smooth as the noise allows, and wider than a few micrometres.
"""

from __future__ import annotations

import numpy as np

from sccs.data.lazy import VolumeArray

CELL = 16  # px; brightness and smoothness are judged in cells of this side
FLOOR = 5  # percentile of the cells' deviations that stands for the noise
SMOOTH = 1.75  # times that deviation, which background does not exceed
BRIGHT = 0.5  # deviations of a slice above its mean, from which a cell is bright
LEAST_PART = 0.005  # share of a slice that a connected background has
LEAST = 0.05  # share of a volume from which its background is worth a mask
MOST_SLICES = 64  # to look at; slices between have the mask of the nearest one
MOST_PIXELS = 1 << 28  # to look at


def find_tissue(image: VolumeArray, most: int = MOST_PIXELS) -> np.ndarray | None:
    """Where a volume (Z, Y, X) has tissue: (m, Y, X) uint8, 1 or 0; None if too little of it is background, or if a
    slice has more than `most` px. m: slices, as many as `most` and `MOST_SLICES` allow; `sccs.data.mask` reads them as
    a coarser image.
    """
    Z, Y, X = image.shape
    step = slices_apart(Z, min(MOST_SLICES, most // (Y * X)))
    if not step or min(Y, X) < CELL:
        return None
    empty = []
    for z in range(0, Z, step):
        empty.append(_empty(*_cells(image, min(z + step // 2, Z - 1))))
    if np.mean(empty) < LEAST:
        return None
    rows, columns = (np.minimum(np.arange(n) // CELL, cells - 1) for n, cells in zip((Y, X), empty[0].shape))
    return np.stack([~each[rows][:, columns] for each in empty]).astype(np.uint8)


def slices_apart(Z: int, most: int) -> int:
    """The smallest step that keeps at most `most` of Z slices, and by which a mask of these slices is read as coarser;
    0 if there is none.

    >>> [slices_apart(*each) for each in ((1, 64), (64, 64), (100, 64), (1000, 64), (10, 0))]
    [1, 1, 2, 16, 0]
    """
    for step in range(1, Z + 1) if most else ():
        if -(-Z // step) <= most and round(Z / -(-Z // step)) == step:
            return step
    return 0


def _cells(image: VolumeArray, z: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation (h, w) of the cells of a slice; rows and columns beyond the last whole cell are left out."""
    _, Y, X = image.shape
    means, deviations = [], []
    rows = max(1, (1 << 24) // (X * CELL)) * CELL  # at once
    for top in range(0, Y - Y % CELL, rows):
        bottom = min(top + rows, Y - Y % CELL)
        band = np.asarray(image[z, top:bottom, : X - X % CELL]).astype(np.float32)
        band = band.reshape((bottom - top) // CELL, CELL, X // CELL, CELL)
        means.append(band.mean((1, 3), dtype=np.float64))
        deviations.append(band.std((1, 3), dtype=np.float64))
    return np.concatenate(means), np.concatenate(deviations)


def _empty(mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Cells (h, w) bool of the background of a slice."""
    from scipy import ndimage

    constant = deviation == 0  # padding
    if constant.all():
        return constant
    noise = np.percentile(deviation[~constant], FLOOR)
    inner = mean[~constant]
    spread = np.sqrt(inner.var() + (deviation[~constant] ** 2).mean())  # of the pixels
    bright = mean > inner.mean() + BRIGHT * spread
    core = ndimage.binary_opening(bright & (deviation <= SMOOTH * noise) | constant, np.ones((3, 3)))
    parts, _ = ndimage.label(core)
    large = np.bincount(parts.ravel()) >= LEAST_PART * core.size
    large[0] = False
    core = large[parts]
    return core | (ndimage.binary_dilation(core) & bright)
