"""SLIC superpixels (Achanta et al. 2012): the labels of `skimage.segmentation.slic` in a fifth of the time.

Windows, distances and sums are the same, in the same order and in single precision, so that labels are identical
(tests/registry/spg/test_slic.py). It is faster because windows are traversed row by row, which suits vector
instructions.
"""

from __future__ import annotations

import numpy as np

from registry.numeric.compiled import at_once, compiled

SMALLEST, LARGEST = 0.5, 3  # areas of connected regions, in mean areas (scikit-image's defaults)


def slic(grey: np.ndarray, count: int, compactness: float, iterations: int, sigma: float = 0.0) -> np.ndarray:
    """Connected regions (H, W) int32, labels 0 .. n - 1, some possibly missing, of a grey image (H, W).

    count: target number of regions. compactness: weight of position against grey value, for images scaled to [0, 1].
    sigma: of the Gaussian smoothing beforehand, px.
    Equal to `skimage.segmentation.slic(grey, n_segments=count, compactness=compactness, max_num_iter=iterations,
    sigma=sigma, channel_axis=None, start_label=0)` of version 0.26 on a float32 image.
    """
    from skimage.util import regular_grid

    image = np.array(grey, np.float32)
    image -= image.min()
    image /= image.max() or 1
    if sigma:
        from skimage.filters import gaussian

        image = gaussian(image[None, :, :, None], sigma=[np.float32(sigma)] * 3 + [0], mode="reflect")[0, :, :, 0]
    image = np.ascontiguousarray(image * (1 / compactness), np.float32)
    H, W = image.shape
    rows, columns = regular_grid((1, H, W), count)[1:]
    y, x = np.arange(H, dtype=np.float32)[rows], np.arange(W, dtype=np.float32)[columns]
    centres = np.zeros((len(y) * len(x), 3), np.float32)
    centres[:, 0], centres[:, 1] = np.repeat(y, len(x)), np.tile(x, len(y))
    step = np.float32(max(rows.step or 1, columns.step or 1))
    # windows depend on the actual number of centres, not the requested one
    reach_y, reach_x = (np.float32(2 * int(axis.step or 1)) for axis in regular_grid((1, H, W), len(centres))[1:])
    nearest = _clusters(image, centres, reach_y, reach_x, np.float32(1 / np.float64(step * step)), iterations)
    area = H * W / len(centres)
    return _connected(nearest, int(SMALLEST * area), int(LARGEST * area))


def _clusters(
    image: np.ndarray,
    centres: np.ndarray,
    reach_y: np.float32,
    reach_x: np.float32,
    weight: np.float32,
    iterations: int,
) -> np.ndarray:
    """k-means over (y, x, grey): image (H, W) and centres (n, 3) float32 -> cluster of each pixel (H, W) int32.

    A centre sees the pixels up to `reach` px away, and moves to the mean of its own pixels after each iteration; one
    without pixels is NaN from then on. weight: of squared px against squared grey. Bands of rows are assigned in
    parallel.
    """
    nearest = np.full(image.shape, np.int32(-1))

    def assign(rows: slice) -> None:
        _assign(image[rows], centres, rows.start, reach_y, reach_x, weight, nearest[rows])

    for _ in range(iterations):
        at_once(assign, len(image))
        _move(image, nearest, centres)
    return nearest


@compiled
def _assign(
    image: np.ndarray,
    centres: np.ndarray,
    first: int,
    reach_y: np.float32,
    reach_x: np.float32,
    weight: np.float32,
    nearest: np.ndarray,
) -> None:
    """Put the nearest centre of each pixel into `nearest` (h, W), for a band of h rows from the image's row `first` on.
    A pixel that no centre sees keeps its value."""
    h, W = image.shape
    distance = np.full((h, W), np.float32(np.inf))
    across = np.empty(W, np.float32)
    one, none, above, below = np.float32(1), np.float32(0), np.float32(first), np.float32(first + h)
    for k in range(np.int32(len(centres))):
        cy, cx, grey = centres[k, 0], centres[k, 1], centres[k, 2]
        if cy != cy:
            continue
        top, bottom = int(max(cy - reach_y, above)) - first, int(min(cy + reach_y + one, below)) - first
        left, right = int(max(cx - reach_x, none)), int(min(cx + reach_x + one, np.float32(W)))
        if top >= bottom:
            continue
        for x in range(right - left):
            dx = cx - np.float32(left + x)
            across[x] = dx * dx
        for y in range(top, bottom):
            dy = cy - np.float32(first + y)
            dy *= dy
            line, label, least = image[y, left:right], nearest[y, left:right], distance[y, left:right]
            for x in range(right - left):  # branch-free, for vector instructions
                t = line[x] - grey
                d = (dy + across[x]) * weight + t * t
                closer = d < least[x]
                label[x] = k if closer else label[x]
                least[x] = d if closer else least[x]


@compiled
def _move(image: np.ndarray, nearest: np.ndarray, centres: np.ndarray) -> None:
    """Move each of `centres` (n, 3) to the mean of its pixels (H, W)."""
    H, W = image.shape
    pixels = np.zeros(len(centres), np.int32)
    centres[:] = 0
    for y in range(H):
        x = 0
        while x < W:  # adjacent pixels of one cluster, whose sums stay in registers
            k = nearest[y, x]
            count, sum_y, sum_x, grey = pixels[k], centres[k, 0], centres[k, 1], centres[k, 2]
            while x < W and nearest[y, x] == k:
                count += np.int32(1)
                sum_y += np.float32(y)
                sum_x += np.float32(x)
                grey += image[y, x]
                x += 1
            pixels[k], centres[k, 0], centres[k, 1], centres[k, 2] = count, sum_y, sum_x, grey
    for k in range(len(centres)):
        for c in range(3):
            centres[k, c] = centres[k, c] / np.float32(pixels[k]) if pixels[k] else np.float32(np.nan)


@compiled
def _connected(nearest: np.ndarray, smallest: int, largest: int) -> np.ndarray:
    """The 4-connected pieces (H, W) int32 of clusters (H, W), numbered in order of appearance. One that reaches
    `largest` pixels is cut there; one below `smallest` joins an earlier piece that it touches, if any."""
    H, W = nearest.shape
    step = W + 1  # a row ends with a pixel of no cluster, which is also to the left of the next row
    clusters = np.full((H + 2) * step + 1, np.int32(-2))
    for y in range(H):
        clusters[(y + 1) * step + 1 : (y + 2) * step] = nearest[y]
    pieces, found = np.full(len(clusters), np.int32(-1)), np.empty(largest, np.int32)
    new = np.int32(0)
    for start in range(step + 1, (H + 1) * step):
        cluster = clusters[start]
        if pieces[start] >= 0 or cluster == -2:
            continue
        beside = pieces[start] = new
        found[0], size, seen = start, 1, 0
        while seen < size < largest:
            at = found[seen]
            for near in (at + 1, at - 1, at + step, at - step):
                piece = pieces[near]
                if piece == -1:
                    if clusters[near] == cluster:
                        pieces[near] = new
                        found[size] = near
                        size += 1
                        if size >= largest:
                            break
                elif piece != new:
                    beside = piece
            seen += 1
        if size < smallest:
            for i in range(size):
                pieces[found[i]] = beside
        else:
            new += np.int32(1)
    return pieces[step + 1 : (H + 1) * step + 1].reshape(H, step)[:, :W].copy()
