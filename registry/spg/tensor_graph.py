"""The superpixel graphs of several fields of view (FOVs) of one size, built and kept on a device.

DGL's wheels on the public index have no GPU kernels, so a graph is stored here as tensors in compressed rows; `to_dgl`
converts it to a DGLGraph. Everything is a tensor operation over all FOVs at once, the same on every device; tests
compare each with the CPU implementation (tests/registry/spg/test_tensor_graph.py).
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from registry.base import TensorMap
from registry.spg.affinity import AffinityGraph, Precision, first_of_equals, rounded
from registry.spg.graphs import RegionGraph
from registry.spg.pieces import touching
from registry.spg.pooling import cells

NUMBERS = 1 << 26  # processed at once, where there is a choice


@dataclass
class TensorGraph:
    """B spGs side by side as one graph of n nodes, with edges only within FOVs. Used like a `RegionGraph`.

    Shapes, all on one device
        numbers: (B, H, W) int64, the node of each pixel. starts: B + 1 numbers; nodes of FOV b are those from starts[b]
            up to starts[b + 1].
        feature: (n, d) float32. area: (n,) float32, px. centroid: (n, 2) float32, (y, x) in px. grey: (n,) float32.
        indptr: (n + 1,), indices: (E,) int64, affinity: (E,) float32: A in compressed rows.
    """

    numbers: Tensor
    starts: list[int]
    feature: Tensor
    area: Tensor
    centroid: Tensor
    grey: Tensor
    indptr: Tensor
    indices: Tensor
    affinity: Tensor

    @property
    def n(self) -> int:
        """Nodes."""
        return len(self.feature)

    @property
    def device(self) -> torch.device:
        """The device of all tensors."""
        return self.feature.device

    @cached_property
    def regions(self) -> np.ndarray:
        """(H, W) int32, for several FOVs (B, H, W): the node of each pixel, copied to the CPU."""
        found = self.numbers.to(torch.int32).cpu().numpy()
        return found[0] if len(found) == 1 else found

    @cached_property
    def edges(self) -> tuple[Tensor, Tensor]:
        """Rows and columns (E,) int64."""
        return torch.repeat_interleave(self.indptr.diff()), self.indices

    @property
    def src(self) -> Tensor:
        """(E,) int64."""
        return self.edges[0]

    @property
    def dst(self) -> Tensor:
        """(E,) int64."""
        return self.edges[1]

    @cached_property
    def degree(self) -> Tensor:
        """D (n,): the row sums of A."""
        return torch.zeros_like(self.area).index_add_(0, self.edges[0], self.affinity)

    @cached_property
    def normalised(self) -> Tensor:
        """Entries (E,) of Â = D^-1/2 A D^-1/2."""
        length, (i, j) = self.degree.rsqrt(), self.edges
        return length[i] * length[j] * self.affinity

    @cached_property
    def _sparse(self) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "CSR support is in beta state"
            shape = (self.n, self.n)
            return torch.sparse_csr_tensor(self.indptr, self.indices, self.normalised, shape, check_invariants=False)

    def propagate(self, X: Tensor) -> Tensor:
        """Â X: (n, c) -> (n, c)."""
        return self._sparse @ X

    def fov(self, b: int) -> TensorGraph:
        """The graph of one FOV."""
        nodes = slice(*self.starts[b : b + 2])
        first, end = self.indptr[[nodes.start, nodes.stop]].tolist()
        return TensorGraph(
            self.numbers[b : b + 1] - nodes.start,
            [0, nodes.stop - nodes.start],
            self.feature[nodes],
            self.area[nodes],
            self.centroid[nodes],
            self.grey[nodes],
            self.indptr[nodes.start : nodes.stop + 1] - first,
            self.indices[first:end] - nodes.start,
            self.affinity[first:end],
        )

    def to_dgl(self) -> RegionGraph:
        """The same as a DGLGraph, on the device if this build of DGL has kernels for it."""
        nodes = self.feature, self.area, self.centroid
        return RegionGraph.from_edges(self.regions, *nodes, *self.edges, self.affinity, self.grey).to(self.device)


def build(part: AffinityGraph, images: Tensor, regions: Tensor, features: Sequence[TensorMap]) -> TensorGraph:
    """Pool, standardise, join and weight like `part`: images (B, H, W) float32, their regions (B, H, W) int64, numbered
    consecutively, and their features. The part's `edges` must not be `all`."""
    B, H, W = images.shape
    starts = [0, *(regions.view(B, -1).amax(1) + 1).tolist()]
    n, flat = starts[-1], regions.view(-1)
    area = torch.bincount(flat, minlength=n).double()
    y, x = (torch.arange(length, device=images.device, dtype=torch.float64) for length in (H, W))
    each = y[:, None].expand(B, H, W), x.expand(B, H, W), images.double()
    means = [torch.bincount(flat, values.reshape(-1), minlength=n) / area for values in each]
    F = torch.cat([pool(some, regions, area, starts) for some in features], 1)
    nodes = area.float(), torch.stack(means[:2], 1).float(), means[2].float()
    X, *rows = joined(part, regions, F, starts)
    return TensorGraph(regions, starts, X, *nodes, *rows)


def joined(
    part: AffinityGraph, regions: Tensor, features: Tensor, starts: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pooled features (n, d), scaled by `part`, and the affinity in compressed rows: indptr, indices, entries."""
    X, n = part.scaled(features), len(features)
    pairs = []
    if "knn" in part.edges:
        pairs.append(nearest(X, starts, part.neighbours, part.precision))
    if "adjacent" in part.edges:
        pairs.append(touching(regions, n))
    rows = max(1, NUMBERS // X.shape[1])
    i, j, affinity = part.weighed(X, torch.cat(pairs, 1), part.alpha, rows)
    order = (i * n + j).argsort()
    indptr = torch.cat([i.new_zeros(1), torch.bincount(i, minlength=n).cumsum(0)])
    return X, indptr, j[order], affinity[order]


def pool(features: TensorMap, regions: Tensor, area: Tensor, starts: Sequence[int]) -> Tensor:
    """Mean, then population standard deviation of the features over each region: (n, 2q) float32, as in
    `registry.spg.pooling.pool`. regions: (B, H, W), numbered consecutively; area: (n,) float64.

    Pixels of one region between the same four tokens form a group. With their bilinear weights w (4,), its mean is a
    sum over tokens weighted by the sum of w, its second moment one over pairs of tokens weighted by the sum of w w^T.
    In double precision, as squares are subtracted.
    """
    (B, h, w, q), (_, H, W), device = features.values.shape, regions.shape, regions.device
    V = features.values.double()
    V = (V - (centre := V.mean((0, 1, 2)))).view(-1, q)
    flat, moments = regions.view(-1), V.new_zeros(2, len(area), q)
    if features.step == 1 and features.offset == 0 and (h, w) == (H, W):
        for pixels in torch.arange(len(V), device=device).split(max(1, NUMBERS // q)):
            for moment, values in zip(moments, (V[pixels], V[pixels].square())):
                moment.index_add_(0, flat[pixels], values)
    else:
        along = [cells(n, m, features.step, features.offset) for n, m in ((H, h), (W, w))]
        (i, fy), (j, fx) = ([torch.from_numpy(each).to(device) for each in axis] for axis in along)
        cell = (i[:, None] * w + j).view(-1)
        keys, group = torch.unique(flat * (h * w) + cell.repeat(B), return_inverse=True)
        region, cell = keys // (h * w), keys % (h * w)
        weights = torch.stack([1 - fy, fy], 1)[:, None, :, None] * torch.stack([1 - fx, fx], 1)[None, :, None, :]
        weights = weights.reshape(H * W, 4)
        products = (weights[:, :, None] * weights[:, None, :]).view(H * W, 16).repeat(B, 1)
        second = V.new_zeros(len(keys), 16).index_add_(0, group, products).view(-1, 4, 4)
        image = torch.searchsorted(torch.tensor(starts[1:], device=device), region, right=True)
        corners = torch.tensor([0, 1 if w > 1 else 0, w if h > 1 else 0, (w > 1) + w * (h > 1)], device=device)
        token = (image * (h * w) + cell)[:, None] + corners
        for some in torch.arange(len(keys), device=device).split(max(1, NUMBERS // (4 * q))):
            T, M = V[token[some]], second[some]  # (groups, 4, q), (groups, 4, 4)
            weighed = M @ T
            moments[0].index_add_(0, region[some], weighed.sum(1))  # a pixel's weights sum to one
            moments[1].index_add_(0, region[some], (T * weighed).sum(1))
    mean, square = moments / area[:, None]
    return torch.cat([mean + centre, (square - mean.square()).clamp(min=0).sqrt()], 1).float()


def nearest(X: Tensor, starts: Sequence[int], m: int, precision: Precision = "float32") -> Tensor:
    """Pairs (2, E) int64 of each node and its m nearest others of the same FOV: X (n, d); see `nearest_pairs`."""
    if precision == "int8":
        X = torch.cat([rounded(some) for some in X.split([b - a for a, b in itertools.pairwise(starts)])])
    sizes = torch.tensor(starts, device=X.device).diff()
    B, most = len(sizes), int(np.diff(starts).max())
    place = torch.arange(most, device=X.device)
    there = place < sizes[:, None]  # (B, most)
    padded = X.new_zeros(B, most, X.shape[1])
    padded[there] = X
    square = padded.square().sum(2).masked_fill(~there, torch.inf)
    number = (place + torch.tensor(starts[:-1], device=X.device)[:, None])[there]
    found, known = [], []
    for rows in place.split(max(1, NUMBERS // (B * most))):
        # the node's own square is the same in its row
        d2 = torch.baddbmm(square[:, None], padded[:, rows], padded.transpose(1, 2), alpha=-2)
        if precision == "int8":
            d2 = first_of_equals(d2)
        d2[:, rows - rows[0], rows] = torch.inf
        least = d2.topk(min(m, most - 1), dim=2, largest=False)
        found.append(least.indices)
        known.append(least.values.isfinite())
    first = torch.tensor(starts[:-1], device=X.device)[:, None, None]
    j, finite = (torch.cat(each, 1)[there] for each in (found, known))
    j = j + first.expand(B, most, 1)[there]
    return torch.stack([number[:, None].expand_as(j)[finite], j[finite]])
