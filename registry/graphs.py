"""The superpixel graph (spG): pooled nodes, the DGL graph around them, and the product with the normalised affinity."""
from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from registry.dgl_adapter import dgl

DENSE_ABOVE = 0.05  # share of nonzero entries from which a dense product wins (benchmarks/propagation.py)


@dataclass
class Nodes:
    """The regions of one FOV and what is known of each, before any training-set statistic enters.

    Shapes
        regions: (H, W) int32, labels 0 .. n_s - 1, none missing.
        feature: (n_s, d) float32, d = 2q: mean, then population standard deviation over the region's pixels.
        area: (n_s,) float32, pixels. centroid: (n_s, 2) float32, (y, x) in pixels.
        touching: (2, m) int64, pairs i < j of regions that share a pixel edge.
    """

    regions: np.ndarray
    feature: np.ndarray
    area: np.ndarray
    centroid: np.ndarray
    touching: np.ndarray

    @property
    def n(self) -> int:
        return len(self.feature)

    def to_arrays(self) -> dict[str, np.ndarray]:
        return {name: np.ascontiguousarray(getattr(self, name)) for name in self.__dataclass_fields__}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> "Nodes":
        return cls(**{name: np.asarray(arrays[name]) for name in cls.__dataclass_fields__})


def touching_pairs(regions: np.ndarray) -> np.ndarray:
    """Pairs i < j of region labels that share a pixel edge (4-neighbourhood): regions (H, W) -> (2, m) int64."""
    n = int(regions.max()) + 1
    pairs = []
    for a, b in ((regions[:, :-1], regions[:, 1:]), (regions[:-1], regions[1:])):
        border = a != b
        low, high = np.minimum(a[border], b[border]), np.maximum(a[border], b[border])
        pairs.append(low.astype(np.int64) * n + high)
    keys = np.unique(np.concatenate(pairs))
    return np.stack([keys // n, keys % n])


def region_geometry(regions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Area (n,) in pixels and centroid (n, 2) as (y, x) of every region of (H, W) labels 0 .. n - 1."""
    flat = regions.ravel()
    n = int(flat.max()) + 1
    area = np.bincount(flat, minlength=n).astype(np.float64)
    y, x = np.indices(regions.shape)
    centroid = np.stack([np.bincount(flat, c.ravel(), n) / area for c in (y, x)], axis=1)
    return area.astype(np.float32), centroid.astype(np.float32)


class _Symmetric(torch.autograd.Function):
    """X -> M X for a symmetric M that needs no gradient: the backward product is the forward one."""

    @staticmethod
    def forward(ctx, multiply, X):
        ctx.multiply = multiply
        return multiply(X)

    @staticmethod
    def backward(ctx, grad):
        return None, ctx.multiply(grad.contiguous())


class RegionGraph:
    """A spG: a DGLGraph (ndata `feature` (n_s, d), `area` (n_s,), `centroid` (n_s, 2); edata `affinity` (E,)) and
    its `regions` (H, W) int32. The affinity A is symmetric, both directions are stored, self-loops are kept."""

    def __init__(self, graph: "dgl.DGLGraph", regions: np.ndarray):
        self.graph = graph
        self.regions = regions
        self._hops: dict[int, torch.Tensor] = {}

    @classmethod
    def from_edges(cls, regions, feature, area, centroid, src, dst, affinity) -> "RegionGraph":
        feature = torch.as_tensor(feature, dtype=torch.float32)
        graph = dgl.graph((torch.as_tensor(src), torch.as_tensor(dst)), num_nodes=len(feature))
        graph.ndata["feature"] = feature
        graph.ndata["area"] = torch.as_tensor(area, dtype=torch.float32)
        graph.ndata["centroid"] = torch.as_tensor(centroid, dtype=torch.float32)
        graph.edata["affinity"] = torch.as_tensor(affinity, dtype=torch.float32)
        return cls(graph, np.asarray(regions, dtype=np.int32))

    def to_arrays(self) -> dict[str, np.ndarray]:
        src, dst = self.edges
        tensors = {"feature": self.feature, "area": self.area, "centroid": self.centroid, "src": src, "dst": dst,
                   "affinity": self.affinity}
        return {"regions": self.regions, **{name: t.cpu().numpy() for name, t in tensors.items()}}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> "RegionGraph":
        return cls.from_edges(**{name: np.array(value) for name, value in arrays.items()})

    @property
    def n(self) -> int:
        return self.graph.num_nodes()

    @property
    def feature(self) -> torch.Tensor:
        return self.graph.ndata["feature"]

    @property
    def area(self) -> torch.Tensor:
        return self.graph.ndata["area"]

    @property
    def centroid(self) -> torch.Tensor:
        return self.graph.ndata["centroid"]

    @property
    def affinity(self) -> torch.Tensor:
        return self.graph.edata["affinity"]

    @property
    def edges(self) -> tuple[torch.Tensor, torch.Tensor]:
        src, dst = self.graph.edges()
        return src, dst

    @property
    def device(self) -> torch.device:
        return self.feature.device

    @property
    def density(self) -> float:
        """Share of the n_s x n_s entries of A that are not zero."""
        return self.affinity.numel() / max(self.n, 1) ** 2

    def to(self, device: str) -> "RegionGraph":
        if str(self.device) == str(torch.device(device)):
            return self
        return RegionGraph.from_edges(self.regions, *(t.to(device) for t in (
            self.feature, self.area, self.centroid, *self.edges, self.affinity)))

    def dense_affinity(self) -> torch.Tensor:
        """A (n_s, n_s)."""
        src, dst = self.edges
        A = torch.zeros(self.n, self.n, device=self.device)
        A[src, dst] = self.affinity
        return A

    @cached_property
    def degree(self) -> torch.Tensor:
        """D (n_s,): the row sums of A."""
        return torch.zeros(self.n, device=self.device).index_add_(0, self.edges[0], self.affinity)

    @cached_property
    def normalised(self) -> torch.Tensor:
        """Edge weights (E,) of Â = D^-1/2 A D^-1/2; a row without weight stays zero."""
        src, dst = self.edges
        degree = self.degree
        scale = torch.where(degree > 0, degree.clamp(min=1e-30).rsqrt(), torch.zeros_like(degree))
        return scale[src] * self.affinity * scale[dst]

    def operator(self, mode: str | None = None):
        """The function X (n_s, c) -> Â X: `dense`, `csr` or `dgl` message passing; by density when not told."""
        mode = mode or ("dense" if self.density > DENSE_ABOVE else "csr")
        src, dst = self.edges
        if mode == "dense":
            M = torch.zeros(self.n, self.n, device=self.device)
            M[src, dst] = self.normalised
            return lambda X: M @ X
        if mode == "csr":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "CSR support is in beta state"
                M = torch.sparse_coo_tensor(torch.stack([src, dst]), self.normalised, (self.n, self.n),
                                            check_invariants=False).coalesce().to_sparse_csr()
            return lambda X: M @ X
        if mode == "dgl":
            def message_passing(X: torch.Tensor) -> torch.Tensor:
                with self.graph.local_scope():
                    self.graph.ndata["x"] = X
                    self.graph.edata["w"] = self.normalised
                    self.graph.update_all(dgl.function.u_mul_e("x", "w", "m"), dgl.function.sum("m", "y"))
                    return self.graph.ndata["y"]
            return message_passing
        raise ValueError(f"mode is 'dense', 'csr' or 'dgl', got {mode!r}")

    @cached_property
    def _multiply(self):
        return self.operator()

    def propagate(self, X: torch.Tensor) -> torch.Tensor:
        """Â X, differentiable in X: (n_s, c) -> (n_s, c)."""
        return _Symmetric.apply(self._multiply, X)

    def hop(self, times: int) -> torch.Tensor:
        """Â^times F_s (n_s, d), kept: a linear network trained on the same graph again and again needs it each time."""
        if times not in self._hops:
            with torch.no_grad():
                X = self.feature
                for _ in range(times):
                    X = self.propagate(X)
            self._hops = {times: X}
        return self._hops[times]

    def diagnostics(self) -> dict[str, float | int]:
        """Nodes, edges (undirected, without self-loops), density, isolated nodes, connected components."""
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        src, dst = (t.cpu().numpy() for t in self.edges)
        proper = src != dst
        matrix = coo_matrix((np.ones(proper.sum()), (src[proper], dst[proper])), shape=(self.n, self.n))
        degree = np.bincount(src[proper], minlength=self.n)
        return {"nodes": self.n, "edges": int(proper.sum()) // 2, "density": float(self.density),
                "isolated": int((degree == 0).sum()), "components": int(connected_components(matrix, False)[0])}
