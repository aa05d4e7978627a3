"""k-means: greedy k-means++ seeds, Lloyd's iterations, restarts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from registry.base import UserError
from registry.numeric.few_centroids import slices
from registry.numeric.nearest import Prepared, as_floats, assign, own_distances, squared_distances

if TYPE_CHECKING:
    import torch

SEED_POINTS = 20_000  # restarts of k-means run on at most so many points; the best is refined on all
TOLERANCE = 1e-4  # Lloyd's iterations stop when centroids move less than this fraction of the mean variance


def kmeans(
    points: Any,
    k: int,
    seed: int,
    n_init: int = 10,
    iterations: int = 100,
    weights: Any = None,
    device: str | torch.device = "cpu",
) -> tuple[np.ndarray, np.ndarray, float]:
    """Lloyd's k-means from greedy k-means++ seeds, best of `n_init` restarts; the same for the same seed.

    Shapes
        points: (n, d) array or tensor; weights: (n,) non-negative, or None for equal weights.
        returns: centroids (k, d) in the points' precision, labels (n,) int64, inertia (weighted sum of squared
        distances). NumPy arrays. No returned cluster is empty as long as Lloyd converges within `iterations`.

    With more than SEED_POINTS points the restarts run on so many drawn at random, and the best is refined on all.
    A cluster that runs empty takes the point farthest from every centroid. Raises UserError when fewer than k
    distinct points (of positive weight) exist.
    """
    x = as_floats(points)
    if x.ndim != 2 or k < 1 or n_init < 1 or iterations < 1:
        got = f"{x.shape}, {k}, {n_init}, {iterations}"
        raise ValueError(f"expected points (n, d), and k, n_init, iterations of at least 1; got {got}")
    w = np.ones(len(x)) if weights is None else as_floats(weights).astype(np.float64)
    if w.shape != (len(x),) or (w < 0).any():
        raise ValueError(f"weights must be ({len(x)},) and not negative, got shape {w.shape}")
    used = np.flatnonzero(w > 0)
    if len(used) < k:
        raise UserError(_too_few(k, len(used)))
    rng = np.random.default_rng(seed)
    sample = used
    if len(used) > SEED_POINTS:
        sample = np.sort(rng.choice(used, SEED_POINTS, replace=False))
    least, centroids = np.inf, np.zeros((0, x.shape[1]))
    for _ in range(n_init):
        seeds = _plus_plus(x[sample], w[sample], k, rng)
        if len(seeds) < k and len(sample) < len(used):  # the sample holds too few distinct points
            seeds = _plus_plus(x[used], w[used], k, rng)
        if len(seeds) < k:
            raise UserError(_too_few(k, len(seeds)))
        found, _, inertia = _lloyd(x[sample], w[sample], seeds, iterations, device)
        if len(centroids) == 0 or inertia < least:
            least, centroids = inertia, found
    if len(sample) < len(used):
        centroids, _, _ = _lloyd(x[used], w[used], centroids, iterations, device)
    labels, distances = assign(x, centroids, device)
    return centroids, labels, float((w * distances).sum())


def farthest(points: np.ndarray, distances: np.ndarray, count: int) -> np.ndarray:
    """Indices of up to `count` points, each the farthest from all centroids and from those taken before it.

    points (n, d), distances (n,) squared distances to the nearest centroid. Points that coincide with a centroid are
    never taken, so fewer than `count` may come back; of equal distances the lowest index is taken.
    """
    distances = distances.astype(np.float64)
    taken: list[int] = []
    while len(taken) < min(count, len(points)):
        index = int(distances.argmax())
        if distances[index] <= 0:
            break
        taken.append(index)
        distances = np.minimum(distances, squared_distances(points, points[index : index + 1])[:, 0])
    return np.array(taken, np.int64)


def cluster_sums(
    points: np.ndarray, labels: np.ndarray, k: int, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted sums (k, d) float64 and counts (k,) float64 of the points of each cluster, added in index order.

    points (n, d), labels (n,) within 0 .. k - 1, weights (n,) or None for ones.
    """
    from scipy.sparse import csr_matrix

    sums = np.zeros((k, points.shape[1]))
    for part in slices(len(points), points.shape[1]):
        x = points[part].astype(np.float64)
        values = np.ones(len(x)) if weights is None else weights[part]
        # Row i of the membership matrix holds the weight of point i in the column of its cluster.
        membership = csr_matrix((values, labels[part], np.arange(len(x) + 1)), shape=(len(x), k))
        sums += membership.T @ x
    return sums, np.bincount(labels, weights=weights, minlength=k).astype(np.float64)


def _plus_plus(x: np.ndarray, w: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Greedy k-means++: k of the points as first centroids (k, d); fewer when there are fewer distinct points.

    Each step draws 2 + ln k candidates with probability w * squared distance and keeps the one that lowers the
    potential most (Arthur and Vassilvitskii 2007, section 5).
    """
    trials = 2 + int(np.log(k))
    chosen = [int(rng.choice(len(x), p=w / w.sum()))]
    distances = _to_one(x, chosen[0])
    while len(chosen) < k:
        cumulated = np.cumsum(w * distances)
        if cumulated[-1] <= 0:  # every point coincides with a chosen one
            break
        draws = np.searchsorted(cumulated, rng.random(trials) * cumulated[-1], side="right")
        draws = np.minimum(draws, len(x) - 1)
        candidates = [np.minimum(distances, _to_one(x, index)) for index in draws]
        best = int(np.argmin([(w * candidate).sum() for candidate in candidates]))
        chosen.append(int(draws[best]))
        distances = candidates[best]
    return x[chosen]


def _to_one(x: np.ndarray, index: int) -> np.ndarray:
    """Squared distance (n,) float64 of all points to point `index`: exactly 0 for its duplicates."""
    difference = x - x[index]
    return np.einsum("ij,ij->i", difference, difference).astype(np.float64)


def _lloyd(
    x: np.ndarray, w: np.ndarray, centroids: np.ndarray, iterations: int, device: str | torch.device
) -> tuple[np.ndarray, np.ndarray, float]:
    """Lloyd's iterations from given centroids (k, d) -> centroids, labels, inertia."""
    k = len(centroids)
    centre = x.mean(axis=0, dtype=np.float64)
    prepared = [Prepared(x[part], centre, device) for part in slices(len(x), x.shape[1])]
    spread = np.mean([np.var(x[:, j], dtype=np.float64) for j in range(x.shape[1])])
    for _ in range(iterations):
        labels = np.concatenate([part.nearest(centroids) for part in prepared])
        sums, counts = cluster_sums(x, labels, k, w)
        empty = np.flatnonzero(counts == 0)
        moved = centroids.copy()
        filled = counts > 0
        moved[filled] = sums[filled] / counts[filled, None]
        if len(empty):
            found = farthest(x, own_distances(x, centroids, labels), len(empty))
            moved[empty[: len(found)]] = x[found]
        shift = np.square(moved.astype(np.float64) - centroids).sum()
        centroids = moved
        if not len(empty) and shift <= TOLERANCE * spread:
            break
    labels = np.concatenate([part.nearest(centroids) for part in prepared])
    return centroids, labels, float((w * own_distances(x, centroids, labels)).sum())


def _too_few(k: int, n: int) -> str:
    return f"k={k} larger than the {n} nodes that differ: lower clusterer.k, or use finer regions or more data"
