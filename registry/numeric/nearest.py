"""The nearest of k centroids: the only module that knows FAISS.

Labels equal a plain argmin of distances in double precision, ties included (the lowest index wins), whatever the
device, the batch or the number of threads. Distances in single precision come first, and rows in which the two least
lie within their rounding error are decided again. Up to FEW centroids on the CPU go to `few_centroids`. For more,
FAISS expands ||x||^2 - 2 x.c + ||c||^2, which cancels for points far from the origin and breaks ties in an order that
depends on the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from registry.base import UserError
from registry.numeric.few_centroids import CACHED, INFINITE, nearest_of_few, slices
from registry.requirements import faiss_install

if TYPE_CHECKING:
    import torch

FEW = 32  # centroids
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
    """||x_i - c_j||^2 in double precision, (n, d) and (k, d) -> (n, k) float64: what `assign` agrees with."""
    difference = points.astype(np.float64)[:, None, :] - centroids.astype(np.float64)[None, :, :]
    return (difference * difference).sum(axis=-1)


def assign(points: Any, centroids: Any, device: str | torch.device = "cpu") -> tuple[Any, Any]:
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
        labels, distances = nearest_of_few(x, c)
        distances = distances.astype(np.float32)
    else:
        labels, distances = np.empty(len(x), np.int64), np.empty(len(x), np.float32)
        for part in slices(len(x), x.shape[1], CACHED):
            labels[part] = Prepared(x[part], c.mean(axis=0, dtype=np.float64), device).nearest(c)
            distances[part] = own_distances(x[part], c, labels[part])
    if hasattr(points, "detach"):
        import torch

        return torch.from_numpy(labels).to(points.device), torch.from_numpy(distances).to(points.device)
    return labels, distances


def as_floats(values: Any) -> np.ndarray:
    """Array or tensor -> C-contiguous NumPy array, float64 if it is so already, float32 otherwise."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.numpy() if values.dtype.itemsize > 2 else values.float().numpy()
    values = np.asarray(values)
    return np.ascontiguousarray(values, np.float64 if values.dtype == np.float64 else np.float32)


def own_distances(points: np.ndarray, centroids: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Squared distance (n,) float64 of each point to the centroid of its own cluster."""
    difference = points.astype(np.float64) - centroids.astype(np.float64)[labels]
    return (difference * difference).sum(axis=-1)


def _few(centroids: np.ndarray, device: str | torch.device) -> bool:
    return len(centroids) <= FEW and not str(device).startswith("cuda")


class Prepared:
    """Points made ready for many searches: for FAISS centred and scaled copies, so that single precision suffices."""

    def __init__(self, points: np.ndarray, centre: np.ndarray, device: str | torch.device = "cpu"):
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
            return nearest_of_few(self.points, centroids)[0]
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
        for part in slices(len(rows), centroids.size):
            labels[part] = squared_distances(self.points[rows[part]], centroids).argmin(axis=1)
        return labels


def _search(
    points: np.ndarray, centroids: np.ndarray, device: str | torch.device
) -> tuple[np.ndarray, np.ndarray, float]:
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
