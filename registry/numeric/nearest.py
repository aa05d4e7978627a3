"""The nearest of k centroids: FAISS's flat index (`faiss.IndexFlatL2`), the only module that builds one.

FAISS expands ||x||^2 - 2 x.c + ||c||^2 in single precision, which cancels far from the origin; so points and
centroids are passed minus the mean of the centroids, divided by a power of two near the largest coordinate.

Guarantee for labels: the squared distance to a point's assigned centroid exceeds the smallest one by at most the
rounding error of single precision, (d + 8) 2^-23 (|x| + r)^2, where |x| and r are the lengths of the point and of the
longest centroid, both minus the mean. Nothing else about the call matters, neither the number of threads (FAISS always
uses one here) nor the batch or the other points, except for points that tie with a second centroid by that measure.
FAISS decides such ties, possibly depending on the batch: below twenty points it sums differences, from twenty on it
multiplies matrices, whose last bit depends on the row's position in the block. All this applies to CPUs; GPUs may
round more coarsely.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any

import numpy as np
import torch

from registry.base import UserError
from registry.numeric.threads import single
from registry.requirements import faiss_install

CHUNK = 1 << 20  # numbers worked on at once
INFINITE = "k-means got NaN or infinite coordinates: check for NaN pixels in the images or a diverged training"


def load_faiss() -> ModuleType:
    """Import FAISS with support for tensors. Raises UserError that says how to install it."""
    try:
        import faiss
        import faiss.contrib.torch_utils  # lets indexes take tensors, including those on a GPU
    except ImportError as error:
        raise UserError(f"k-means needs FAISS, which is not installed: {faiss_install()}") from error
    return faiss


def assign(points: Any, centroids: Any, device: str | torch.device = "cpu") -> tuple[Any, Any]:
    """The nearest centroid of every point, by FAISS; see the module on ties.

    Shapes
        points: (n, d) float array or tensor; centroids: (k, d), likewise; k >= 1, n may be 0.
        returns: labels (n,) int64 and squared distances (n,) float32, summed from differences; tensors on the device
        of `points` when `points` is a tensor, NumPy arrays otherwise. No gradient passes.

    `device`: of FAISS. On a CUDA device, its GPU index is used if this FAISS build has one, and tensors on a GPU are
    passed directly; otherwise the CPU index. Raises UserError if FAISS is missing or a coordinate is NaN or infinite.
    """
    if points.ndim != 2 or centroids.ndim != 2 or points.shape[1] != centroids.shape[1] or len(centroids) == 0:
        got = f"{tuple(points.shape)} and {tuple(centroids.shape)}"
        raise ValueError(f"expected points (n, d) and centroids (k >= 1, d), got {got}")
    index = flat_index(points.shape[1], device)
    x: Any
    c: Any
    labels: Any
    distances: Any
    if hasattr(index, "getDevice") and getattr(points, "is_cuda", False):  # all stays on the GPU
        x, c = (torch.as_tensor(v, device=points.device).detach().contiguous() for v in (points, centroids))
        x, c = (v.to(torch.promote_types(v.dtype, torch.float32)) for v in (x, c))
        labels, distances = x.new_empty(len(x), dtype=torch.int64), x.new_empty(len(x), dtype=torch.float32)
    else:  # in NumPy, on one thread: for so few numbers, torch's threads mostly wait
        x, c = as_floats(points), as_floats(centroids)
        labels, distances = np.empty(len(x), np.int64), np.empty(len(x), np.float32)
    for part in slices(*x.shape):
        labels[part] = _search(index, x[part], c)
        difference = x[part] - c[labels[part]]
        distances[part] = (difference * difference).sum(1)
    if hasattr(points, "detach") and isinstance(labels, np.ndarray):
        return torch.from_numpy(labels).to(points.device), torch.from_numpy(distances).to(points.device)
    return labels, distances


def _search(index: Any, x: Any, c: Any) -> Any:
    """Labels (n,) of points x (n, d), n at least 1, and centroids c (k, d): tensors for a GPU's index, or arrays."""
    if not np.isfinite(float(abs(c).max())):
        raise UserError(INFINITE.replace("coordinates", "centroids"))
    centre = c[0] + (c - c[0]).mean(0)  # subtract first, as a mean of large numbers rounds
    x, c = x - centre, c - centre
    factor = scale(max(float(abs(x).max()), float(abs(c).max())))
    x, c = (v * factor for v in (x, c))
    x, c = (v.float() if isinstance(v, torch.Tensor) else v.astype(np.float32, copy=False) for v in (x, c))
    with one_thread(load_faiss()):
        index.reset()
        index.add(c)
        return index.search(x, 1)[1][:, 0]


def flat_index(d: int, device: str | torch.device) -> Any:
    """An empty `faiss.IndexFlatL2` for d coordinates; on a CUDA `device` FAISS's GPU index if this build has one."""
    faiss = load_faiss()
    index = faiss.IndexFlatL2(d)
    kind, _, number = str(device).partition(":")
    if kind == "cuda" and hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0:
        if not _resources:  # a large scratch buffer on the GPU, so shared
            _resources.append(faiss.StandardGpuResources())
        return faiss.index_cpu_to_gpu(_resources[0], int(number or 0), index)
    return index


_resources: list[Any] = []


def scale(largest: float) -> float:
    """A power of two that brings coordinates up to `largest` near 1, so that squares stay within single precision.

    Raises UserError if `largest` is NaN or infinite.
    """
    if not np.isfinite(largest):
        raise UserError(INFINITE)
    return 2.0 ** -int(np.clip(np.frexp(largest)[1], -100, 1000))


def one_thread(faiss: ModuleType) -> AbstractContextManager[None]:
    """Run FAISS on one thread: few centroids are not worth sharing, and on a busy machine waiting threads turned a
    search of 0.1 ms into 10 ms. This also keeps labels independent of the number of threads."""
    return single(faiss.omp_get_max_threads, faiss.omp_set_num_threads)


def slices(n: int, width: int) -> list[slice]:
    """Slices over n rows, each of CHUNK numbers at most when a row is `width` wide."""
    rows = max(1, CHUNK // max(1, width))
    return [slice(start, min(start + rows, n)) for start in range(0, n, rows)]


def as_floats(values: Any) -> np.ndarray:
    """Array or tensor -> C-contiguous NumPy array, float64 if it is so already, float32 otherwise."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.numpy() if values.dtype.itemsize > 2 else values.float().numpy()
    values = np.asarray(values)
    return np.ascontiguousarray(values, np.float64 if values.dtype == np.float64 else np.float32)
