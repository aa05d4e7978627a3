"""The superpixel graph (spG): pooled nodes, and the DGLGraph of their affinity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from registry.numeric.compiled import compiled
from registry.spg.dgl_adapter import dgl, has_kernels
from registry.spg.propagation import Product, Propagation, Symmetric, chosen, product

Numbers = np.ndarray | torch.Tensor | Sequence[Any]


@dataclass
class Nodes:
    """The regions of one FOV and their properties, before any training-set statistics.

    Shapes
        regions: (H, W) int32, labels 0 .. n_s - 1, none missing; -1 outside of a mask (`within`).
        feature: (n_s, d) float32, d = 2q: mean, then population standard deviation over the region's pixels.
        area: (n_s,) float32, pixels. centroid: (n_s, 2) float32, (y, x) in pixels.
        touching: (2, m) int64, pairs i < j of regions that share a pixel edge.
        grey: (n_s,) float32, mean of the image over the region, or None if not measured.
        blocks: (maps,) int64, channels of `feature` from each of several feature maps; None for a single map.
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

    def within(self, inside: np.ndarray) -> Nodes:
        """The nodes with at least half of their pixels `inside` (H, W) bool; the regions of all others become -1."""
        kept = 2 * np.bincount(self.regions[inside], minlength=self.n) >= self.area
        number = np.where(kept, np.cumsum(kept) - 1, -1).astype(self.regions.dtype)
        touching = self.touching[:, kept[self.touching].all(0)]
        return replace(
            self,
            regions=number[self.regions],
            feature=self.feature[kept],
            area=self.area[kept],
            centroid=self.centroid[kept],
            touching=number[touching].astype(self.touching.dtype),
            grey=None if self.grey is None else self.grey[kept],
        )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The known fields by name, for files."""
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
    """i n + j of the regions i < j on both sides of pixel edges, with most repetitions skipped."""
    H, W = regions.shape
    keys, count, before = np.empty(2 * H * W, np.int64), 0, np.full(W, -1)
    for y in range(H):
        last = np.int64(-1)
        for x in range(W):
            i = np.int64(regions[y, x])
            if x + 1 < W and regions[y, x + 1] != i:
                j = np.int64(regions[y, x + 1])
                key = min(i, j) * n + max(i, j)
                if key != before[x]:  # not the same border as in the row above
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
    area, place = _sums_of_places(regions, int(regions.max()) + 1)
    return area.astype(np.float32), (place / area[:, None]).astype(np.float32)


@compiled
def _sums_of_places(regions: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (n,) of each region, and the sums (n, 2) of their (y, x)."""
    area, place = np.zeros(n), np.zeros((n, 2))
    H, W = regions.shape
    for y in range(H):
        for x in range(W):
            region = regions[y, x]
            area[region] += 1
            place[region, 0] += y
            place[region, 1] += x
    return area, place


def region_means(image: np.ndarray, regions: np.ndarray, area: np.ndarray) -> np.ndarray:
    """Mean grey value (n,) float32 of every region of (H, W) labels 0 .. n - 1, whose areas (n,) are known."""
    return (np.bincount(regions.ravel(), image.ravel(), len(area)) / area).astype(np.float32)


class RegionGraph:
    """A spG: a DGLGraph of n_s nodes with the edges of a symmetric affinity A, and the regions of its nodes.

    Edges are stored in both directions, with self-loops, ordered by row.

    Shapes
        regions: (H, W) int32, labels 0 .. n_s - 1, always on the CPU.
        graph: a DGLGraph with ndata `feature` (n_s, d) float32, `area` (n_s,) float32 px, `centroid` (n_s, 2) float32,
            (y, x) in px, and `grey` (n_s,) float32, mean of the standardised image, if measured; edata
            `affinity` (E,) float32.
        feature, area, centroid, grey, src, dst, affinity: the same, on `device`; grey is None if unknown.

    device: where products are computed. The DGLGraph is also there if this build of DGL has kernels for it (wheels on
    the public index only have them for the CPU); otherwise it stays on the CPU, and only its data and the
    normalised affinity are copied.
    warmup: the same nodes with the affinity for the first part of the embedding's training, or None if it is the same.
    propagation: how Â X is computed (`registry.spg.propagation`).
    """

    def __init__(self, regions: np.ndarray, graph: dgl.DGLGraph, device: str | torch.device | None = None):
        self.regions = regions
        self.graph = by_row(graph)
        self.device = torch.device(device if device is not None else graph.device)
        self.warmup: RegionGraph | None = None
        self.propagation: Propagation = "auto"
        self._moved: dict[str, torch.Tensor] = {}
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
        """Build from arrays, tensors or lists of any number type; shapes as for the class. Edges of weight zero are
        dropped. The graph is on the CPU.
        """
        weight = torch.as_tensor(affinity, dtype=torch.float32).cpu()
        ends = [torch.as_tensor(value, dtype=torch.int64).cpu() for value in (src, dst)]
        if not bool(weight.all()):
            weight, *ends = (each[weight != 0] for each in (weight, *ends))
        graph = dgl.graph(tuple(ends), num_nodes=len(feature))
        nodes = {"feature": feature, "area": area, "centroid": centroid, "grey": grey}
        for name, value in nodes.items():
            if value is not None:
                graph.ndata[name] = torch.as_tensor(value, dtype=torch.float32).cpu()
        graph.edata["affinity"] = weight
        return cls(np.asarray(regions, dtype=np.int32), graph)

    @classmethod
    def batch(cls, graphs: Sequence[RegionGraph]) -> RegionGraph:
        """The graphs side by side as one (`dgl.batch`), without regions; all must be on one device."""
        whole = cls(np.zeros((0, 0), np.int32), dgl.batch([graph.graph for graph in graphs]), graphs[0].device)
        whole.propagation = graphs[0].propagation
        return whole

    def _data(self, name: str) -> torch.Tensor:
        """Node or edge data on `device`."""
        held = self.graph.edata if name == "affinity" else self.graph.ndata
        if self.device == self.graph.device:
            return held[name]
        if name not in self._moved:
            self._moved[name] = held[name].to(self.device)
        return self._moved[name]

    @property
    def feature(self) -> torch.Tensor:
        """(n_s, d) float32."""
        return self._data("feature")

    @property
    def area(self) -> torch.Tensor:
        """(n_s,) float32, px."""
        return self._data("area")

    @property
    def centroid(self) -> torch.Tensor:
        """(n_s, 2) float32, (y, x) in px."""
        return self._data("centroid")

    @property
    def grey(self) -> torch.Tensor | None:
        """(n_s,) float32, None if unknown."""
        return self._data("grey") if "grey" in self.graph.ndata else None

    @property
    def affinity(self) -> torch.Tensor:
        """(E,) float32."""
        return self._data("affinity")

    @property
    def edges(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows and columns (E,) int64 of the edges, on `device`."""
        src, dst = self.graph.edges(order="eid")
        return src.to(self.device), dst.to(self.device)

    @property
    def src(self) -> torch.Tensor:
        """(E,) int64."""
        return self.edges[0]

    @property
    def dst(self) -> torch.Tensor:
        """(E,) int64."""
        return self.edges[1]

    @property
    def n(self) -> int:
        """Nodes."""
        return self.graph.num_nodes()

    @property
    def density(self) -> float:
        """Share of the n_s x n_s entries of A that are not zero."""
        return self.graph.num_edges() / max(self.n, 1) ** 2

    def to(self, device: str | torch.device) -> RegionGraph:
        """The same graph on `device`; itself if it is already there."""
        device = torch.device(device)
        if self.device == device:
            return self
        graph = self.graph.to(device) if has_kernels(device) else self.graph
        moved = RegionGraph(self.regions, graph, device)
        moved.propagation = self.propagation
        moved.warmup = None if self.warmup is None else self.warmup.to(device)
        return moved

    def dense_affinity(self) -> torch.Tensor:
        """A (n_s, n_s)."""
        A = torch.zeros(self.n, self.n, device=self.device)
        A[self.edges] = self.affinity
        return A

    @cached_property
    def degree(self) -> torch.Tensor:
        """D (n_s,): the row sums of A."""
        return dgl.ops.copy_e_sum(self.graph, self.graph.edata["affinity"]).to(self.device)

    @cached_property
    def normalised(self) -> torch.Tensor:
        """Edge weights (E,) of Â = D^-1/2 A D^-1/2, as computed by `dgl.nn.EdgeWeightNorm("both")`."""
        return dgl.nn.EdgeWeightNorm("both")(self.graph, self.graph.edata["affinity"]).to(self.device)

    @cached_property
    def _product(self) -> Product:
        return product(self.graph, self.normalised, self.propagation)

    @property
    def product(self) -> str:
        """How Â X is computed here, in words."""
        return f"{chosen(self.graph, self.propagation)} on {self.device.type}, DGLGraph on {self.graph.device.type}"

    def propagate(self, X: torch.Tensor) -> torch.Tensor:
        """Â X, differentiable in X: (n_s, c) -> (n_s, c)."""
        return Symmetric.apply(self._product, X) if X.requires_grad else self._product(X)

    def hop(self, times: int) -> torch.Tensor:
        """Â^times F_s (n_s, d), cached, as a linear network needs it each time it is trained on this graph."""
        if times not in self._hops:
            with torch.no_grad():
                X = self.feature
                for _ in range(times):
                    X = self.propagate(X)
            self._hops = {times: X}
        return self._hops[times]

    def diagnostics(self) -> dict[str, float | int]:
        """Nodes, edges (undirected, without self-loops), density, isolated nodes, connected components."""
        from scipy.sparse.csgraph import connected_components

        proper = dgl.remove_self_loop(self.graph.cpu())
        return {
            "nodes": self.n,
            "edges": proper.num_edges() // 2,
            "density": float(self.density),
            "isolated": int((proper.out_degrees() == 0).sum()),
            "components": int(connected_components(proper.adj_external(scipy_fmt="csr"), False)[0]),
        }


def by_row(graph: dgl.DGLGraph) -> dgl.DGLGraph:
    """The same graph with its edges ordered by row, then column, so that its own arrays form compressed rows."""
    src, dst = graph.edges(order="eid")
    keys = src * graph.num_nodes() + dst
    if bool((keys[1:] >= keys[:-1]).all()):
        return graph
    return dgl.edge_subgraph(graph, torch.argsort(keys), relabel_nodes=False, store_ids=False)
