"""k-means: greedy k-means++ seeds from scikit-learn, Lloyd's iterations from FAISS (`faiss.Kmeans`), restarts.

The same seed gives the same result on the same machine with the same number of threads. FAISS works on one thread
(`registry.numeric.nearest`); the seeds' distances are matrix products, whose last bit may depend on their number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from registry.base import UserError
from registry.numeric.nearest import INFINITE, as_floats, assign, flat_index, load_faiss, one_thread, scale, slices

if TYPE_CHECKING:
    import torch

SEED_POINTS = 20_000  # k-means restarts use at most so many points; the best is refined on all
TOLERANCE = 1e-4  # relative to the mean variance: k-means stops when centroids move by less in a round
ROUND = 10  # iterations of FAISS, which itself never stops early


def kmeans(
    points: Any,
    k: int,
    seed: int,
    n_init: int = 10,
    iterations: int = 100,
    weights: Any = None,
    device: str | torch.device = "cpu",
) -> tuple[np.ndarray, np.ndarray, float]:
    """Lloyd's k-means from greedy k-means++ seeds, best of `n_init` restarts.

    Shapes
        points: (n, d) array or tensor; weights: (n,) non-negative, or None for equal weights.
        returns: centroids (k, d) in the points' precision, labels (n,) int64, inertia (weighted sum of squared
        distances). NumPy arrays. No returned cluster is empty, unless fewer than k points are further apart than
        single precision rounds at the spread of all.

    With more than SEED_POINTS points, the restarts use a random sample of that size, and the best is refined on all.
    Points go to FAISS in single precision, minus their mean. Its objective ignores weights, so restarts are compared by
    the inertia of `assign`. On a CUDA `device` FAISS searches on the GPU; seeding uses points on the host.
    Raises UserError if there are fewer than k distinct points (of positive weight), FAISS is missing, or a coordinate
    is NaN or infinite.
    """
    if k < 1 or n_init < 1 or iterations < 1:
        raise ValueError(f"expected k, n_init, iterations of at least 1; got {k}, {n_init}, {iterations}")
    x, w = _checked(points, weights)
    used = np.flatnonzero(w > 0)
    centre = x.mean(axis=0, dtype=np.float64).astype(x.dtype) if len(x) else np.zeros(x.shape[1], x.dtype)
    given, weight = x[used] - centre, w[used]
    factor = scale(float(np.abs(given).max(initial=0.0)))
    given = (given * factor).astype(np.float32)
    if (distinct := _distinct(x[used], k)) < k:
        raise UserError(_too_few(k, distinct))
    random = np.random.RandomState(seed)
    sample = np.arange(len(given))
    if len(given) > SEED_POINTS:
        chosen = np.sort(random.choice(len(given), SEED_POINTS, replace=False))
        sample = chosen if _distinct(given[chosen], k) >= k else sample  # all points, if rare ones are missing
    runs = []
    for _ in range(n_init):
        seeds = _plus_plus(given[sample], weight[sample], k, random)
        runs.append(_lloyd(given[sample], weight[sample], seeds, iterations, device))
    centroids, _ = min(runs, key=lambda run: run[1])
    if len(sample) < len(given):
        centroids, _ = _lloyd(given, weight, centroids, iterations, device)
    centroids = (centroids / factor + centre).astype(x.dtype)
    labels, distances = assign(x, centroids, device)
    return centroids, labels, float((w * distances).sum())


def farthest(points: np.ndarray, distances: np.ndarray, count: int) -> np.ndarray:
    """Indices of up to `count` points, each the farthest from all centroids and from those taken before it.

    points (n, d), distances (n,) squared distances to the nearest centroid. Points that coincide with a centroid are
    never taken, so fewer than `count` may be returned; in a tie, the lowest index is taken.
    """
    points, distances = points.astype(np.float64), distances.astype(np.float64)
    taken: list[int] = []
    while len(taken) < min(count, len(points)):
        index = int(distances.argmax())
        if distances[index] <= 0:
            break
        taken.append(index)
        distances = np.minimum(distances, np.square(points - points[index]).sum(axis=1))
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
        # Row i of the membership matrix has the weight of point i in the column of its cluster.
        membership = csr_matrix((values, labels[part], np.arange(len(x) + 1)), shape=(len(x), k))
        sums += membership.T @ x
    return sums, np.bincount(labels, weights=weights, minlength=k).astype(np.float64)


def _checked(points: Any, weights: Any) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, d) and weights (n,) float64 as arrays. Raises ValueError for wrong shapes or a negative weight,
    UserError if a coordinate is NaN or infinite."""
    x = as_floats(points)
    if x.ndim != 2:
        raise ValueError(f"expected points (n, d), got {x.shape}")
    if not np.isfinite(x).all():
        raise UserError(INFINITE)
    w = np.ones(len(x)) if weights is None else as_floats(weights).astype(np.float64)
    if w.shape != (len(x),) or (w < 0).any():
        raise ValueError(f"weights must be ({len(x)},) and not negative, got shape {w.shape}")
    return x, w


def _distinct(x: np.ndarray, k: int) -> int:
    """Number of distinct points (n, d); if there are k or more, any number from k on."""
    size = 100 * k
    while (count := len(np.unique(x[:size], axis=0))) < k and size < len(x):
        size *= 10
    return count


def _plus_plus(x: np.ndarray, w: np.ndarray, k: int, random: np.random.RandomState) -> np.ndarray:
    """k of the points (n, d) as first centroids (k, d): greedy k-means++ (Arthur and Vassilvitskii 2007, section 5)."""
    from sklearn.cluster import kmeans_plusplus

    return kmeans_plusplus(x, k, sample_weight=w, random_state=random)[0]


def _lloyd(
    x: np.ndarray, w: np.ndarray, centroids: np.ndarray, iterations: int, device: str | torch.device
) -> tuple[np.ndarray, float]:
    """Lloyd's iterations of FAISS from given centroids (k, d), x (n, d) float32 -> centroids, inertia."""
    faiss = load_faiss()
    (n, d), k = x.shape, len(centroids)
    enough = TOLERANCE * x.var(axis=0, dtype=np.float64).mean()
    # FAISS replaces an empty cluster by splitting one, which it draws until its weight is above 1.
    share = (w / w.mean()).astype(np.float32)
    for done in range(0, iterations, ROUND):
        run = faiss.Kmeans(
            d, k, niter=min(ROUND, iterations - done), max_points_per_centroid=n, min_points_per_centroid=1
        )
        run.index = flat_index(d, device)
        with one_thread(faiss):
            run.train(x, weights=share, init_centroids=centroids)
        moved, centroids = np.square(run.centroids - centroids).sum(), run.centroids
        if moved <= enough:
            break
    return _filled(x, w, centroids, device)


def _filled(
    x: np.ndarray, w: np.ndarray, centroids: np.ndarray, device: str | torch.device
) -> tuple[np.ndarray, float]:
    """The centroids (k, d), with those of empty clusters moved to the farthest points; and the inertia."""
    for _ in range(len(centroids)):
        labels, distances = assign(x, centroids, device)
        empty = np.flatnonzero(np.bincount(labels, minlength=len(centroids)) == 0)
        found = farthest(x, distances, len(empty))
        if not len(found):
            break
        centroids[empty[: len(found)]] = x[found]
    return centroids, float((w * assign(x, centroids, device)[1]).sum())


def _too_few(k: int, n: int) -> str:
    return f"k={k} is larger than the {n} distinct nodes: lower clusterer.k, or use finer regions or more data"
