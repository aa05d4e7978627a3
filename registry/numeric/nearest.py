"""Nearest centroid and k-means, the only module that knows FAISS.

Labels equal a plain argmin of distances in double precision, ties included (the lowest index wins), whatever the device,
the batch or the number of threads. Distances in single precision come first, and rows in which the two least lie within
their rounding error are decided again. Those first distances are of two kinds:

- up to FEW centroids on the CPU: sums of squared differences in compiled loops. They do not cancel, so that hardly any
  row is left to decide, and few centroids leave a matrix product little to gain.
- else FAISS's, which expands ||x||^2 - 2 x.c + ||c||^2: that cancels for points far from the origin and breaks ties in an
  order that depends on the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np

from registry.base import UserError
from registry.numeric.compiled import at_once, compiled
from registry.requirements import faiss_install

FEW = 32  # centroids
CHUNK = 1 << 22  # numbers held at once in double precision (32 MiB)
CACHED = 1 << 17  # the same where nothing is summed over points: 1 MiB stays in a processor's cache
SEED_POINTS = 20_000  # restarts of k-means run on at most so many points; the best is refined on all
TOLERANCE = 1e-4  # Lloyd's iterations stop when centroids move less than this fraction of the mean variance
INFINITE = "k-means got NaN or infinite coordinates: look for NaN pixels in the images or a training that diverged"
# Relative rounding of one product: single precision, and TF32, which GPU libraries may use for matrix products.
ROUNDING = {"cpu": 2.0**-23, "gpu": 2.0**-10}


def load_faiss() -> ModuleType:
    """FAISS, or a UserError that says how to install it."""
    try:
        import faiss
    except ImportError as error:
        raise UserError(f"k-means needs FAISS, which is not installed: {faiss_install()}") from error
    return faiss


def squared_distances(points: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Plain ||x_i - c_j||^2 in double precision, (n, d) and (k, d) -> (n, k) float64: what `assign` agrees with."""
    difference = points.astype(np.float64)[:, None, :] - centroids.astype(np.float64)[None, :, :]
    return (difference * difference).sum(axis=-1)


def assign(points: Any, centroids: Any, device: Any = "cpu") -> tuple[Any, Any]:
    """Nearest centroid of every point: the same result as ``squared_distances(points, centroids).argmin(1)``.

    Shapes
        points: (n, d) float array or tensor; centroids: (k, d), likewise; k >= 1, n may be 0.
        returns: labels (n,) int64 and squared distances (n,) float32; tensors on the device of `points` when
        `points` is a tensor, NumPy arrays otherwise. No gradient passes.

    `device` names where FAISS works: on a CUDA device its GPU index is used if this FAISS build has one, else the
    CPU index. Raises UserError when FAISS is missing or a coordinate is NaN or infinite.
    """
    x, c = as_floats(points), as_floats(centroids)
    if x.ndim != 2 or c.ndim != 2 or x.shape[1] != c.shape[1] or len(c) == 0:
        raise ValueError(f"expected points (n, d) and centroids (k >= 1, d), got {x.shape} and {c.shape}")
    if _few(c, device):
        labels, distances = _nearest_of_few(x, c)
        distances = distances.astype(np.float32)
    else:
        labels, distances = np.empty(len(x), np.int64), np.empty(len(x), np.float32)
        for part in _slices(len(x), x.shape[1], CACHED):
            labels[part] = _Prepared(x[part], c.mean(axis=0, dtype=np.float64), device).nearest(c)
            distances[part] = _own_distances(x[part], c, labels[part])
    if hasattr(points, "detach"):
        import torch

        return torch.from_numpy(labels).to(points.device), torch.from_numpy(distances).to(points.device)
    return labels, distances


def kmeans(
    points: Any, k: int, seed: int, n_init: int = 10, iterations: int = 100, weights: Any = None, device: Any = "cpu"
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
    best: tuple[float, np.ndarray] | None = None
    for _ in range(n_init):
        seeds = _plus_plus(x[sample], w[sample], k, rng)
        if len(seeds) < k and len(sample) < len(used):  # the sample holds too few distinct points
            seeds = _plus_plus(x[used], w[used], k, rng)
        if len(seeds) < k:
            raise UserError(_too_few(k, len(seeds)))
        centroids, _, inertia = _lloyd(x[sample], w[sample], seeds, iterations, device)
        if best is None or inertia < best[0]:
            best = (inertia, centroids)
    centroids = best[1]
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


def cluster_sums(points: np.ndarray, labels: np.ndarray, k: int, weights: np.ndarray | None = None):
    """Weighted sums (k, d) float64 and counts (k,) float64 of the points of each cluster, added in index order."""
    from scipy.sparse import csr_matrix

    sums = np.zeros((k, points.shape[1]))
    for part in _slices(len(points), points.shape[1]):
        x = points[part].astype(np.float64)
        values = np.ones(len(x)) if weights is None else weights[part]
        # Row i of the membership matrix holds the weight of point i in the column of its cluster.
        membership = csr_matrix((values, labels[part], np.arange(len(x) + 1)), shape=(len(x), k))
        sums += membership.T @ x
    return sums, np.bincount(labels, weights=weights, minlength=k).astype(np.float64)


def as_floats(values: Any) -> np.ndarray:
    """Array or tensor -> C-contiguous NumPy array, float64 if it is so already, float32 otherwise."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.numpy() if values.dtype.itemsize > 2 else values.float().numpy()
    values = np.asarray(values)
    return np.ascontiguousarray(values, np.float64 if values.dtype == np.float64 else np.float32)


def _few(centroids: np.ndarray, device: Any) -> bool:
    return len(centroids) <= FEW and not str(device).startswith("cuda")


def _nearest_of_few(points: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n,) int64 and squared distances (n,) float64, all as `squared_distances` has them. Raises UserError."""
    n, d = points.shape
    if not np.isfinite(centroids).all():
        raise UserError(INFINITE.replace("coordinates", "centroids"))
    labels, unsure, distances = np.empty(n, np.int64), np.empty(n, np.bool_), np.empty(n)
    leaves, merges = _pairwise_plan(d)

    def rows(part: slice) -> None:
        for block in _slices(part.stop - part.start, d, CACHED):
            block = slice(part.start + block.start, part.start + block.stop)
            _screen(points[block], centroids, labels[block], unsure[block])
            _settle(points[block], centroids, leaves, merges, labels[block], unsure[block], distances[block])

    at_once(rows, n, None if n * d > CACHED else n)
    if not np.isfinite(distances).all() and not np.isfinite(points).all():
        raise UserError(INFINITE)
    return labels, distances


@compiled(reordered=True)
def _screen(points, centroids, labels, unsure):
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
def _settle(points, centroids, leaves, merges, labels, unsure, distances):
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


class _Prepared:
    """Points made ready for many searches: for FAISS centred and scaled copies, so that single precision suffices."""

    def __init__(self, points: np.ndarray, centre: np.ndarray, device: Any = "cpu"):
        self.points, self.centre, self.device = points, centre, device

    @cached_property
    def _scaled(self) -> tuple[np.ndarray, float, np.ndarray]:
        """Copies (n, d) float32, what they were multiplied by, and their lengths (n,)."""
        shifted = self.points.astype(np.float64) - self.centre
        largest = np.abs(shifted).max(initial=0.0)
        if not np.isfinite(largest):
            raise UserError(INFINITE)
        # A power of two near the largest coordinate keeps squares of any input within single precision.
        scale = 2.0 ** -np.frexp(largest)[1] if largest > 0 else 1.0
        single = (shifted * scale).astype(np.float32)
        return single, scale, np.sqrt(np.einsum("ij,ij->i", single, single).astype(np.float64))

    def nearest(self, centroids: np.ndarray) -> np.ndarray:
        """Labels (n,) int64 of the nearest of centroids (k, d)."""
        if _few(centroids, self.device):
            return _nearest_of_few(self.points, centroids)[0]
        single, scale, norms = self._scaled
        if len(centroids) == 1 or len(self.points) == 0:
            return np.zeros(len(self.points), np.int64)
        shifted = (centroids.astype(np.float64) - self.centre) * scale
        if not np.isfinite(shifted).all():
            raise UserError(INFINITE.replace("coordinates", "centroids"))
        radius = np.sqrt((shifted * shifted).sum(axis=1).max())
        if radius > 1e15:  # centroids far beyond the points: squares would leave single precision
            return self._decide(np.arange(len(self.points)), centroids)
        distances, indices, unit = _search(single, shifted.astype(np.float32), self.device)
        labels = indices[:, 0].astype(np.int64)
        # Either of the two distances is off by at most `error`; no other centroid is nearer than the second one.
        error = (self.points.shape[1] + 8) * unit * (norms + radius) ** 2 + 1e-30
        near = np.flatnonzero(~(distances[:, 1].astype(np.float64) - distances[:, 0] > 2 * error))
        labels[near] = self._decide(near, centroids)
        return labels

    def _decide(self, rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
        labels = np.empty(len(rows), np.int64)
        for part in _slices(len(rows), centroids.size):
            labels[part] = squared_distances(self.points[rows[part]], centroids).argmin(axis=1)
        return labels


def _search(points: np.ndarray, centroids: np.ndarray, device: Any) -> tuple[np.ndarray, np.ndarray, float]:
    """FAISS's two nearest centroids: distances (n, 2), indices (n, 2), and the relative rounding of a product."""
    faiss = load_faiss()
    index, unit = faiss.IndexFlatL2(points.shape[1]), ROUNDING["cpu"]
    kind, _, number = str(device).partition(":")
    if kind == "cuda" and hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0:
        index, unit = faiss.index_cpu_to_gpu(_gpu_resources(faiss), int(number or 0), index), ROUNDING["gpu"]
    index.add(centroids)
    with _one_thread(faiss):
        distances, indices = index.search(points, 2)
    return distances, indices, unit


@contextmanager
def _one_thread(faiss: ModuleType) -> Iterator[None]:
    """FAISS on one thread: with few centroids there is little to share out, and on a busy machine threads that wait
    for one another made a search of 0.1 ms take 10 ms."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


_resources: list[Any] = []


def _gpu_resources(faiss: ModuleType) -> Any:
    # Allocates a large scratch buffer on the GPU, hence once a process.
    if not _resources:
        _resources.append(faiss.StandardGpuResources())
    return _resources[0]


def _own_distances(points: np.ndarray, centroids: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Squared distance (n,) float64 of each point to the centroid of its own cluster."""
    difference = points.astype(np.float64) - centroids.astype(np.float64)[labels]
    return (difference * difference).sum(axis=-1)


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


def _lloyd(x: np.ndarray, w: np.ndarray, centroids: np.ndarray, iterations: int, device: Any):
    """Lloyd's iterations from given centroids (k, d) -> centroids, labels, inertia."""
    k = len(centroids)
    centre = x.mean(axis=0, dtype=np.float64)
    prepared = [_Prepared(x[part], centre, device) for part in _slices(len(x), x.shape[1])]
    spread = np.mean([np.var(x[:, j], dtype=np.float64) for j in range(x.shape[1])])
    for _ in range(iterations):
        labels = np.concatenate([part.nearest(centroids) for part in prepared])
        sums, counts = cluster_sums(x, labels, k, w)
        empty = np.flatnonzero(counts == 0)
        moved = centroids.copy()
        filled = counts > 0
        moved[filled] = sums[filled] / counts[filled, None]
        if len(empty):
            found = farthest(x, _own_distances(x, centroids, labels), len(empty))
            moved[empty[: len(found)]] = x[found]
        shift = np.square(moved.astype(np.float64) - centroids).sum()
        centroids = moved
        if not len(empty) and shift <= TOLERANCE * spread:
            break
    labels = np.concatenate([part.nearest(centroids) for part in prepared])
    return centroids, labels, float((w * _own_distances(x, centroids, labels)).sum())


def _slices(n: int, width: int, numbers: int = CHUNK):
    """Slices over n rows that hold at most so many numbers each when a row is `width` wide."""
    rows = max(1, numbers // max(1, width))
    return [slice(start, min(start + rows, n)) for start in range(0, n, rows)]


def _too_few(k: int, n: int) -> str:
    return f"k={k} larger than the {n} nodes that differ: lower clusterer.k, or use finer regions or more data"
