"""The superpixel graph (spG): pooled nodes, edges, the product with the normalised affinity, and the way to DGL."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from registry.numeric.compiled import compiled

if TYPE_CHECKING:
    import dgl

    Numbers = np.ndarray | torch.Tensor | Sequence[Any]

Product = Callable[[torch.Tensor], torch.Tensor]  # X (n_s, c) -> M X (n_s, c)

DENSE_ABOVE = 0.25  # share of nonzero entries from which a dense product wins (benchmarks/speed/propagation.py)


@dataclass
class Nodes:
    """The regions of one FOV and what is known of each, before any training-set statistic enters.

    Shapes
        regions: (H, W) int32, labels 0 .. n_s - 1, none missing.
        feature: (n_s, d) float32, d = 2q: mean, then population standard deviation over the region's pixels.
        area: (n_s,) float32, pixels. centroid: (n_s, 2) float32, (y, x) in pixels.
        touching: (2, m) int64, pairs i < j of regions that share a pixel edge.
        grey: (n_s,) float32, mean of the image over the region, or None where nobody measured it.
        blocks: (maps,) int64, channels of `feature` from each of several feature maps; None where there is one map.
    """

    regions: np.ndarray
    feature: np.ndarray
    area: np.ndarray
    centroid: np.ndarray
    touching: np.ndarray
    grey: np.ndarray | None = None
    blocks: np.ndarray | None = None

    @property
    def n(self) -> int:
        """Nodes, n_s."""
        return len(self.feature)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """What is known, by field, as files keep it."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: np.ascontiguousarray(value) for name, value in values.items() if value is not None}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Nodes:
        """Inverse of `to_arrays`."""
        return cls(**{name: np.asarray(value) for name, value in arrays.items()})


def touching_pairs(regions: np.ndarray) -> np.ndarray:
    """Pairs i < j of region labels that share a pixel edge (4-neighbourhood): regions (H, W) -> (2, m) int64."""
    n = int(regions.max()) + 1
    keys = np.unique(_borders(regions, n))
    return np.stack([keys // n, keys % n])


@compiled
def _borders(regions: np.ndarray, n: int) -> np.ndarray:
    """i n + j of the regions i < j on the two sides of a pixel edge, less often than once for every edge."""
    H, W = regions.shape
    keys, count, before = np.empty(2 * H * W, np.int64), 0, np.full(W, -1)
    for y in range(H):
        last = np.int64(-1)
        for x in range(W):
            i = np.int64(regions[y, x])
            if x + 1 < W and regions[y, x + 1] != i:
                j = np.int64(regions[y, x + 1])
                key = min(i, j) * n + max(i, j)
                if key != before[x]:  # not the border that the row above has here
                    before[x] = keys[count] = key
                    count += 1
            if y + 1 < H and regions[y + 1, x] != i:
                j = np.int64(regions[y + 1, x])
                key = min(i, j) * n + max(i, j)
                if key != last:
                    last = keys[count] = key
                    count += 1
    return keys[:count].copy()


def region_geometry(regions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Area (n,) in pixels and centroid (n, 2) as (y, x) of every region of (H, W) labels 0 .. n - 1."""
    flat = regions.ravel()
    n = int(flat.max()) + 1
    area = np.bincount(flat, minlength=n).astype(np.float64)
    y, x = np.indices(regions.shape)
    centroid = np.stack([np.bincount(flat, c.ravel(), n) / area for c in (y, x)], axis=1)
    return area.astype(np.float32), centroid.astype(np.float32)


def region_means(image: np.ndarray, regions: np.ndarray, area: np.ndarray) -> np.ndarray:
    """Mean grey value (n,) float32 of every region of (H, W) labels 0 .. n - 1, whose areas (n,) are known."""
    return (np.bincount(regions.ravel(), image.ravel(), len(area)) / area).astype(np.float32)


@compiled
def _by_row(src: np.ndarray, dst: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Starts (n + 1,) of the rows, and the numbers (E,) of the edges by src and then dst: two counting sorts."""
    order = np.arange(len(src))
    for ends in (dst, src):
        starts = np.zeros(n + 1, np.int64)
        for end in ends:
            starts[end + 1] += 1
        for i in range(n):
            starts[i + 1] += starts[i]
        place, before, order = starts[:-1].copy(), order, np.empty_like(order)
        for edge in before:
            order[place[ends[edge]]] = edge
            place[ends[edge]] += 1
    return starts, order


class _Symmetric(torch.autograd.Function):
    """X -> M X for a symmetric M that needs no gradient: the backward product is the forward one."""

    @staticmethod
    def forward(ctx: Any, multiply: Product, X: torch.Tensor) -> torch.Tensor:
        ctx.multiply = multiply
        return multiply(X)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[None, torch.Tensor]:
        return None, ctx.multiply(grad.contiguous())


class RegionGraph:
    """A spG: n_s nodes and the edges of a symmetric affinity A; both directions are stored, self-loops are kept.

    Shapes
        regions: (H, W) int32, labels 0 .. n_s - 1, always on the CPU.
        feature: (n_s, d) float32. area: (n_s,) float32, px. centroid: (n_s, 2) float32, (y, x) in px.
        src, dst: (E,) int64. affinity: (E,) float32.
        grey: (n_s,) float32, mean of the standardised image, or None where nobody measured it.

    `warmup`: the same nodes with the affinity that the embedding is trained on at first, or None where it is the same.

    The tensors are the graph's own and live on one device; `graph` hands them to DGL, whose wheels know the CPU only.
    """

    def __init__(
        self,
        regions: np.ndarray,
        feature: torch.Tensor,
        area: torch.Tensor,
        centroid: torch.Tensor,
        src: torch.Tensor,
        dst: torch.Tensor,
        affinity: torch.Tensor,
        grey: torch.Tensor | None = None,
    ):
        self.regions = regions
        self.feature = feature
        self.area = area
        self.centroid = centroid
        self.src = src
        self.dst = dst
        self.affinity = affinity
        self.grey = grey
        self.warmup: RegionGraph | None = None
        self._hops: dict[int, torch.Tensor] = {}

    @classmethod
    def from_edges(
        cls,
        regions: Numbers,
        feature: Numbers,
        area: Numbers,
        centroid: Numbers,
        src: Numbers,
        dst: Numbers,
        affinity: Numbers,
        grey: Numbers | None = None,
    ) -> RegionGraph:
        """From arrays, tensors or lists of any number type, of the shapes that the class tells."""

        def floats(values: Numbers) -> torch.Tensor:
            return torch.as_tensor(values, dtype=torch.float32)

        return cls(
            np.asarray(regions, dtype=np.int32),
            floats(feature),
            floats(area),
            floats(centroid),
            torch.as_tensor(src, dtype=torch.int64),
            torch.as_tensor(dst, dtype=torch.int64),
            floats(affinity),
            None if grey is None else floats(grey),
        )

    @classmethod
    def from_dgl(cls, graph: dgl.DGLGraph, regions: np.ndarray) -> RegionGraph:
        """From a DGLGraph with the names that `graph` gives, and the regions (H, W) of its nodes."""
        src, dst = graph.edges(order="eid")
        return cls.from_edges(
            regions,
            graph.ndata["feature"],
            graph.ndata["area"],
            graph.ndata["centroid"],
            src,
            dst,
            graph.edata["affinity"],
            graph.ndata.get("grey"),
        )

    @cached_property
    def graph(self) -> dgl.DGLGraph:
        """For DGL, on the CPU: ndata `feature`, `area`, `centroid`, `grey` if known; edata `affinity`. Made when first
        asked for."""
        from registry.spg.dgl_adapter import dgl  # over a second, and few runs need it

        graph = dgl.graph((self.src.cpu(), self.dst.cpu()), num_nodes=self.n)
        graph.ndata.update(feature=self.feature.cpu(), area=self.area.cpu(), centroid=self.centroid.cpu())
        if self.grey is not None:
            graph.ndata["grey"] = self.grey.cpu()
        graph.edata["affinity"] = self.affinity.cpu()
        return graph

    def _tensors(self) -> dict[str, torch.Tensor]:
        names = ("feature", "area", "centroid", "src", "dst", "affinity", "grey")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Nodes and edges, by argument of `from_edges`; without `warmup`."""
        return {"regions": self.regions, **{name: t.cpu().numpy() for name, t in self._tensors().items()}}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> RegionGraph:
        """Inverse of `to_arrays`, on the CPU."""
        return cls.from_edges(**{name: np.array(value) for name, value in arrays.items()})

    @property
    def n(self) -> int:
        """Nodes, n_s."""
        return len(self.feature)

    @property
    def edges(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Ends src and dst (E,) int64."""
        return self.src, self.dst

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.feature.device

    @property
    def density(self) -> float:
        """Share of the n_s x n_s entries of A that are not zero."""
        return self.affinity.numel() / max(self.n, 1) ** 2

    def to(self, device: str | torch.device) -> RegionGraph:
        """The same graph with its tensors on `device`; itself when they are there already."""
        if self.device == torch.device(device):
            return self
        moved = RegionGraph(self.regions, **{name: t.to(device) for name, t in self._tensors().items()})
        moved.warmup = None if self.warmup is None else self.warmup.to(device)
        return moved

    def dense_affinity(self) -> torch.Tensor:
        """A (n_s, n_s)."""
        A = torch.zeros(self.n, self.n, device=self.device)
        A[self.src, self.dst] = self.affinity
        return A

    @cached_property
    def degree(self) -> torch.Tensor:
        """D (n_s,): the row sums of A."""
        return torch.zeros(self.n, device=self.device).index_add_(0, self.src, self.affinity)

    @cached_property
    def normalised(self) -> torch.Tensor:
        """Edge weights (E,) of Â = D^-1/2 A D^-1/2; a row without weight stays zero."""
        degree = self.degree
        scale = torch.where(degree > 0, degree.clamp(min=1e-30).rsqrt(), torch.zeros_like(degree))
        return scale[self.src] * self.affinity * scale[self.dst]

    def operator(self, mode: str | None = None) -> Product:
        """The function X (n_s, c) -> Â X: `dense`, `csr` or `dgl` message passing; by density when not told.

        Raises ValueError for another mode, and for `dgl` off the CPU.
        """
        mode = mode or ("dense" if self.density > DENSE_ABOVE else "csr")
        if mode == "dense":
            M = torch.zeros(self.n, self.n, device=self.device)
            M[self.src, self.dst] = self.normalised
            return lambda X: M @ X
        if mode == "csr":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "CSR support is in beta state"
                M = self._csr()
            return lambda X: M @ X
        if mode == "dgl":
            return self._message_passing()
        raise ValueError(f"mode is 'dense', 'csr' or 'dgl', got {mode!r}")

    def _csr(self) -> torch.Tensor:
        """Â in compressed rows, columns in order."""
        if self.device.type == "cpu":
            starts, order = (torch.from_numpy(a) for a in _by_row(self.src.numpy(), self.dst.numpy(), self.n))
        else:
            order = torch.argsort(self.src * self.n + self.dst)
            ends = torch.bincount(self.src, minlength=self.n).cumsum(0)
            starts = torch.cat([ends.new_zeros(1), ends])
        return torch.sparse_csr_tensor(
            starts, self.dst[order], self.normalised[order], (self.n, self.n), check_invariants=False
        )

    def _message_passing(self) -> Product:
        from registry.spg.dgl_adapter import dgl

        if self.device.type != "cpu":
            raise ValueError(f"mode 'dgl' works on the CPU only, the graph is on {self.device}; use 'dense' or 'csr'")

        def multiply(X: torch.Tensor) -> torch.Tensor:
            with self.graph.local_scope():
                self.graph.ndata["x"] = X
                self.graph.edata["w"] = self.normalised
                self.graph.update_all(dgl.function.u_mul_e("x", "w", "m"), dgl.function.sum("m", "y"))
                return self.graph.ndata["y"]

        return multiply

    @cached_property
    def _multiply(self) -> Product:
        return self.operator()

    def propagate(self, X: torch.Tensor) -> torch.Tensor:
        """Â X, differentiable in X: (n_s, c) -> (n_s, c)."""
        return _Symmetric.apply(self._multiply, X) if X.requires_grad else self._multiply(X)

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
        return {
            "nodes": self.n,
            "edges": int(proper.sum()) // 2,
            "density": float(self.density),
            "isolated": int((degree == 0).sum()),
            "components": int(connected_components(matrix, False)[0]),
        }
