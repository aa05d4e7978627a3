"""k-means by FAISS (`faiss.Kmeans`), from greedy k-means++ seeds of scikit-learn; restarts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from registry.base import UserError
from registry.numeric.nearest import Frame, as_floats, assign, chunks, load_faiss, squared_distances

if TYPE_CHECKING:
    import torch

SEED_POINTS = 20_000  # restarts of k-means run on at most so many points; the best is refined on all
BLOCK = 10  # of FAISS's iterations, which end when a block of them lowers the objective by less than TOLERANCE of it
TOLERANCE = 1e-5


def kmeans(
    points: Any,
    k: int,
    seed: int,
    n_init: int = 10,
    iterations: int = 100,
    weights: Any = None,
    device: str | torch.device = "cpu",
) -> tuple[np.ndarray, np.ndarray, float]:
    """FAISS's k-means from greedy k-means++ seeds, best of `n_init` restarts; the same for the same seed.

    Shapes
        points: (n, d) array or tensor; weights: (n,) non-negative, or None for equal weights.
        returns: centroids (k, d) in the points' precision, labels (n,) int64, inertia (weighted sum of squared
        distances). NumPy arrays. No returned cluster is empty.

    With more than SEED_POINTS points the restarts run on so many drawn at random, and the best is refined on all.
    Raises UserError when fewer than k distinct points (of positive weight) exist, or a coordinate is not finite.
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
    sample = used if len(used) <= SEED_POINTS else np.sort(rng.choice(used, SEED_POINTS, replace=False))
    frame = Frame.of(x[used])
    best, least = np.zeros((0, x.shape[1]), np.float32), np.inf
    for _ in range(n_init):
        seeds = _seeds(frame, x, w, sample, used, k, int(rng.integers(2**31)))
        found, objective = _lloyd(frame.put(x[sample]), w[sample], seeds, iterations, device)
        if objective < least:
            best, least = found, objective
    if len(sample) < len(used):
        best, _ = _lloyd(frame.put(x[used]), w[used], best, iterations, device)
    return _finished(x, w, frame.back(best), device)


def _seeds(
    frame: Frame, x: np.ndarray, w: np.ndarray, sample: np.ndarray, used: np.ndarray, k: int, seed: int
) -> np.ndarray:
    """k distinct points (k, d) float32, in the frame, by greedy k-means++; of all points where the sample has fewer."""
    from sklearn.cluster import kmeans_plusplus

    for rows in (sample, used):
        found, _ = kmeans_plusplus(frame.put(x[rows]), k, sample_weight=w[rows], random_state=seed)
        if len(np.unique(found, axis=0)) == k:
            return np.ascontiguousarray(found, np.float32)
    distinct = np.unique(frame.put(x[used]), axis=0)
    if len(distinct) < k:
        raise UserError(_too_few(k, len(distinct)))
    return distinct[np.linspace(0, len(distinct) - 1, k).astype(int)]


def _lloyd(
    x: np.ndarray, w: np.ndarray, centroids: np.ndarray, iterations: int, device: str | torch.device
) -> tuple[np.ndarray, float]:
    """FAISS's iterations from given centroids (k, d) -> centroids, and the weighted sum of squared distances."""
    faiss = load_faiss()
    least = np.inf
    for start in range(0, iterations, BLOCK):
        job = faiss.Kmeans(
            x.shape[1],
            len(centroids),
            niter=min(BLOCK, iterations - start),
            seed=1,
            gpu=_gpu(faiss, device),
            min_points_per_centroid=1,
            max_points_per_centroid=len(x) + 1,  # all of them: FAISS would draw some without a word
        )
        job.train(x, weights=w.astype(np.float32), init_centroids=centroids)
        _, distances = assign(x, job.centroids, device)
        objective = float((w * distances).sum())
        if not objective < least * (1 - TOLERANCE):
            return (job.centroids, objective) if objective < least else (centroids, least)
        centroids, least = job.centroids.copy(), objective
    return centroids, least


def _gpu(faiss: Any, device: str | torch.device) -> bool:
    return str(device).startswith("cuda") and faiss.get_num_gpus() > 0


def _finished(
    x: np.ndarray, w: np.ndarray, centroids: np.ndarray, device: str | torch.device
) -> tuple[np.ndarray, np.ndarray, float]:
    """Centroids, the means of their points in double precision; labels; inertia.

    A cluster without a point takes the one that is farthest from all centroids.
    """
    used, k = w > 0, len(centroids)
    labels, distances = assign(x, centroids, device)
    while True:
        sums, counts = cluster_sums(x[used], labels[used], k, w[used])
        full = counts > 0
        centroids = centroids.astype(x.dtype)
        centroids[full] = sums[full] / counts[full, None]
        found = farthest(x[used], distances[used], int((~full).sum()))
        centroids[np.flatnonzero(~full)[: len(found)]] = x[used][found]
        labels, distances = assign(x, centroids, device)
        if not len(found):
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
    for part in chunks(len(points), points.shape[1]):
        x = points[part].astype(np.float64)
        values = np.ones(len(x)) if weights is None else weights[part]
        # Row i of the membership matrix holds the weight of point i in the column of its cluster.
        membership = csr_matrix((values, labels[part], np.arange(len(x) + 1)), shape=(len(x), k))
        sums += membership.T @ x
    return sums, np.bincount(labels, weights=weights, minlength=k).astype(np.float64)


def _too_few(k: int, n: int) -> str:
    return f"k={k} larger than the {n} nodes that differ: lower clusterer.k, or use finer regions or more data"
