"""The nearest of k centroids, by FAISS (`IndexFlatL2`, or its GPU index): every assignment of every recipe.

FAISS expands ||x||^2 - 2 x.c + ||c||^2 in single precision. Points and centroids are centred and scaled before, so that
nothing cancels far from the origin and no square leaves single precision. Where the two nearest are as near to within
that rounding, their distances in double precision decide, and of equal ones the lower index. Promised, and tested: the
same points and centroids give the same labels, whatever the number of threads and the batch; where three or more
centroids are as near as that, the label's distance is the least to within that rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from registry.base import UserError
from registry.requirements import faiss_install

if TYPE_CHECKING:
    import torch

CHUNK = 1 << 24  # numbers of the points that are copied at once
ROUNDING = 2.0**-20  # of a squared distance in single precision, and of a sum of two, a coordinate
SMALL = 1 << 24  # products up to which FAISS works on one thread: others would wait longer than they help
INFINITE = "k-means got NaN or infinite coordinates: look for NaN pixels in the images or a training that diverged"


def load_faiss() -> ModuleType:
    """FAISS, or a UserError that says how to install it."""
    try:
        import faiss
    except ImportError as error:
        raise UserError(f"k-means needs FAISS, which is not installed: {faiss_install()}") from error
    return faiss


def as_floats(values: Any) -> np.ndarray:
    """Array or tensor -> C-contiguous NumPy array, float64 if it is so already, float32 otherwise."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.numpy() if values.dtype.itemsize > 2 else values.float().numpy()
    values = np.asarray(values)
    return np.ascontiguousarray(values, np.float64 if values.dtype == np.float64 else np.float32)


def squared_distances(points: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """||x_i - c_j||^2 in double precision, (n, d) and (k, d) -> (n, k) float64."""
    difference = points.astype(np.float64)[:, None, :] - centroids.astype(np.float64)[None, :, :]
    return (difference * difference).sum(axis=-1)


def assign(points: Any, centroids: Any, device: str | torch.device = "cpu") -> tuple[Any, Any]:
    """Nearest centroid of every point.

    Shapes
        points: (n, d) float array or tensor; centroids: (k, d), likewise; k >= 1, n may be 0.
        returns: labels (n,) int64 and squared distances (n,) float32; tensors on the device of `points` when
        `points` is a tensor, NumPy arrays otherwise. No gradient passes.

    `device` names where FAISS works: on a CUDA device its GPU index is used if this FAISS build has one, and tensors
    stay on the GPU; else the CPU index. Raises UserError when FAISS is missing or a coordinate is NaN or infinite.
    """
    if np.ndim(points) != 2 or np.ndim(centroids) != 2 or points.shape[1] != centroids.shape[1] or not len(centroids):
        shapes = f"{tuple(np.shape(points))} and {tuple(np.shape(centroids))}"
        raise ValueError(f"expected points (n, d) and centroids (k >= 1, d), got {shapes}")
    gpu = _gpu_index(device, points.shape[1])
    if gpu is not None and hasattr(points, "detach"):
        return _assign_there(points, centroids, gpu)
    x, c = as_floats(points), as_floats(centroids)
    labels, distances = np.empty(len(x), np.int64), np.empty(len(x), np.float32)
    frame = Frame.of(c)
    index = load_faiss().IndexFlatL2(x.shape[1]) if gpu is None else gpu
    index.add(frame.put(c))
    for part in chunks(len(x), x.shape[1]):
        labels[part] = _searched(x[part], c, frame, index)
        distances[part] = _own(x[part], c, labels[part])
    if not np.isfinite(distances).all() and not np.isfinite(x).all():
        raise UserError(INFINITE)
    if hasattr(points, "detach"):
        import torch

        return torch.from_numpy(labels).to(points.device), torch.from_numpy(distances).to(points.device)
    return labels, distances


def _searched(points: np.ndarray, centroids: np.ndarray, frame: Frame, index: Any) -> np.ndarray:
    """Labels (n,) of the nearest by an index that holds the centroids (k, d) in the frame."""
    x = frame.put(points)
    with _threads(len(x) * centroids.size):
        squares, found = index.search(x, min(2, len(centroids)))
    found = found.astype(np.int64)
    if len(centroids) > 1:
        rounding = ROUNDING * x.shape[1] * (1 + np.einsum("ij,ij->i", x, x))
        near = np.flatnonzero(~(squares[:, 1] - squares[:, 0] > rounding))
        one, other = (_own(points[near], centroids, found[near, i]) for i in (0, 1))
        swap = (other < one) | ((other == one) & (found[near, 1] < found[near, 0]))
        found[near[swap], 0] = found[near[swap], 1]
    return found[:, 0]


def _own(points: np.ndarray, centroids: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Squared distance (n,) float64 of each point to the centroid of its label."""
    difference = points.astype(np.float64) - centroids.astype(np.float64)[labels]
    return np.einsum("ij,ij->i", difference, difference)


class Frame:
    """Where single precision suffices: coordinates less `centre` (d,), times `scale`, a power of two."""

    def __init__(self, centre: np.ndarray, scale: float):
        self.centre, self.scale = centre, scale

    @classmethod
    def of(cls, points: np.ndarray) -> Frame:
        """That of points (n, d): their mean, and one over their largest distance from it along an axis."""
        centre = points.mean(0, dtype=np.float64) if len(points) else np.zeros(points.shape[1])
        largest = np.abs(points - centre).max(initial=0.0)
        if not np.isfinite(largest):
            raise UserError(INFINITE)
        return cls(centre, 2.0 ** -np.frexp(largest)[1] if largest > 0 else 1.0)

    def put(self, points: np.ndarray) -> np.ndarray:
        """(n, d) float32 for FAISS."""
        return np.ascontiguousarray((points - self.centre) * self.scale, np.float32)

    def back(self, points: np.ndarray) -> np.ndarray:
        """The inverse of `put`, in double precision."""
        return points.astype(np.float64) / self.scale + self.centre


def chunks(n: int, width: int) -> list[slice]:
    """Slices over n rows, each of CHUNK numbers at most when a row is `width` wide."""
    rows = max(1, CHUNK // max(1, width))
    return [slice(start, min(start + rows, n)) for start in range(0, n, rows)]


@contextmanager
def _threads(products: int) -> Iterator[None]:
    faiss = load_faiss()
    before = faiss.omp_get_max_threads()
    if products <= SMALL:
        faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


_resources: list[Any] = []


def _gpu_index(device: str | torch.device, d: int) -> Any:
    """FAISS's flat index on a CUDA device, None where the device or the build of FAISS is for the CPU."""
    kind, _, number = str(device).partition(":")
    faiss = load_faiss()
    if kind != "cuda" or not hasattr(faiss, "StandardGpuResources") or faiss.get_num_gpus() == 0:
        return None
    if not _resources:  # a large scratch buffer on the GPU, hence once a process
        _resources.append(faiss.StandardGpuResources())
    settings = faiss.GpuIndexFlatConfig()
    settings.device = int(number or 0)
    return faiss.GpuIndexFlatL2(_resources[0], d, settings)


def _assign_there(points: torch.Tensor, centroids: Any, index: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """`assign` of tensors on a GPU, without a way through the host."""
    import faiss.contrib.torch_utils  # noqa: F401  # lets FAISS take tensors
    import torch

    x, c = points.detach().double(), torch.as_tensor(centroids, device=points.device).detach().double()
    centre = c.mean(0)
    scale = 1 / (c - centre).abs().max().clamp(min=1e-300)
    index.add(((c - centre) * scale).float().contiguous())
    labels = index.search(((x - centre) * scale).float().contiguous(), 1)[1][:, 0]
    distances = (x - c[labels]).square().sum(1)
    if not bool(torch.isfinite(distances).all()) and not bool(torch.isfinite(x).all()):
        raise UserError(INFINITE)
    return labels, distances.float()
