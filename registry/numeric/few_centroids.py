"""The nearest of few centroids on the CPU, in compiled loops that round as NumPy does.

Distances in single precision come first: sums of squared differences, which do not cancel, so that hardly any point is
left to decide in double precision. Few centroids leave a matrix product little to gain.
"""

from __future__ import annotations

import numpy as np

from registry.base import UserError
from registry.numeric.compiled import at_once, compiled

CHUNK = 1 << 22  # numbers held at once in double precision (32 MiB)
CACHED = 1 << 17  # the same where nothing is summed over points: 1 MiB stays in a processor's cache
INFINITE = "k-means got NaN or infinite coordinates: look for NaN pixels in the images or a training that diverged"


def slices(n: int, width: int, numbers: int | None = None) -> list[slice]:
    """Slices over n rows, each of `numbers` numbers at most (CHUNK unless told) when a row is `width` wide."""
    rows = max(1, (numbers or CHUNK) // max(1, width))
    return [slice(start, min(start + rows, n)) for start in range(0, n, rows)]


def nearest_of_few(points: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest of centroids (k, d) for points (n, d): labels (n,) int64 and squared distances (n,) float64.

    Both are those of `registry.numeric.nearest.squared_distances`, bit by bit. Raises UserError where a coordinate is
    NaN or infinite.
    """
    n, d = points.shape
    if not np.isfinite(centroids).all():
        raise UserError(INFINITE.replace("coordinates", "centroids"))
    labels, unsure, distances = np.empty(n, np.int64), np.empty(n, np.bool_), np.empty(n)
    leaves, merges = _pairwise_plan(d)

    def rows(part: slice) -> None:
        for block in slices(part.stop - part.start, d, CACHED):
            block = slice(part.start + block.start, part.start + block.stop)
            _screen(points[block], centroids, labels[block], unsure[block])
            _settle(points[block], centroids, leaves, merges, labels[block], unsure[block], distances[block])

    at_once(rows, n, None if n * d > CACHED else n)
    if not np.isfinite(distances).all() and not np.isfinite(points).all():
        raise UserError(INFINITE)
    return labels, distances


@compiled(reordered=True)
def _screen(points: np.ndarray, centroids: np.ndarray, labels: np.ndarray, unsure: np.ndarray) -> None:
    """The nearest centroid by distances in single precision, and whether these are too close or too extreme to tell:
    points (n, d), centroids (k, d) -> labels (n,), unsure (n,)."""
    n, d = points.shape
    # every distance is right but for its (d + 4) 2^-24th part, as it sums squares; twice that for two, and twice again
    margin = np.float32(1 + (d + 8) * 2.0**-22)
    for i in range(n):
        point, best, second, label = points[i], np.float32(np.inf), np.float32(np.inf), 0
        for j in range(len(centroids)):
            centroid, total = centroids[j], np.float32(0)
            for c in range(d):
                difference = np.float32(point[c] - centroid[c])
                total += difference * difference
            if total < best:
                best, second, label = total, best, j
            elif total < second:
                second = total
        labels[i] = label
        unsure[i] = not (best > np.float32(1e-30) and second < np.float32(1e38) and second > best * margin)


@compiled
def _settle(
    points: np.ndarray,
    centroids: np.ndarray,
    leaves: np.ndarray,
    merges: np.ndarray,
    labels: np.ndarray,
    unsure: np.ndarray,
    distances: np.ndarray,
) -> None:
    """Decide what is unsure by distances in double precision, and write each point's to its own centroid: sums in the
    order of NumPy's, bit by bit. leaves (l, 2), merges (l - 1, 2): see `_pairwise_plan`."""
    part, squares = np.empty(len(leaves)), np.empty(points.shape[1])
    for i in range(len(points)):
        first, last = (0, len(centroids)) if unsure[i] else (labels[i], labels[i] + 1)
        best, label, point = np.inf, first, points[i]
        for j in range(first, last):
            centroid = centroids[j]
            for s in range(len(squares)):
                difference = np.float64(point[s]) - np.float64(centroid[s])
                squares[s] = difference * difference
            for leaf in range(len(leaves)):
                x = squares[leaves[leaf, 0] : leaves[leaf, 0] + leaves[leaf, 1]]
                whole = len(x) - len(x) % 8
                a, b, c, d, e, f, g, h = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
                for s in range(0, whole, 8):
                    u = x[s : s + 8]
                    a, b, c, d = a + u[0], b + u[1], c + u[2], d + u[3]
                    e, f, g, h = e + u[4], f + u[5], g + u[6], h + u[7]
                total = ((a + b) + (c + d)) + ((e + f) + (g + h))
                for s in range(whole, len(x)):
                    total += x[s]
                part[leaf] = total
            for into, source in merges:
                part[into] += part[source]
            if part[0] < best:
                best, label = part[0], j
        labels[i], distances[i] = label, best


def _pairwise_plan(length: int) -> tuple[np.ndarray, np.ndarray]:
    """How NumPy sums `length` numbers: leaves (l, 2) of up to 128, as (start, size), and merges (l - 1, 2) of leaf
    sums, as (into, source), in order."""
    leaves, merges = [], []

    def split(start: int, size: int) -> int:
        if size <= 128:
            leaves.append((start, size))
            return len(leaves) - 1
        half = size // 2 - size // 2 % 8
        into, source = split(start, half), split(start + half, size - half)
        merges.append((into, source))
        return into

    split(0, length)
    return np.array(leaves, np.int64), np.array(merges, np.int64).reshape(-1, 2)
