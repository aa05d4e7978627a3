"""From pooled nodes to a weighted graph: scale of node features, kernel, and choice of edges (paper, Eq. 1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field

from registry.base import GraphBuilder, UserError, expect
from registry.numeric.compiled import at_once, compiled
from registry.numeric.memory import check_pairs
from registry.numeric.processor import multiplies_int8
from registry.spg.graphs import Nodes, RegionGraph
from registry.spg.propagation import Propagation

Standardize = Literal["set", "node", "node+l2", "none"]
Edges = Literal["all", "knn", "adjacent", "knn+adjacent"]
Precision = Literal["float32", "int8"]
Kappa = (
    Literal["median", "neighbour"] | Annotated[float, Field(ge=1e-12, le=1e12)]
)  # in single precision neither 0 nor infinity
BYTES_PER_PAIR = 40  # used by `connect` with `edges: all` if every pair stays joined (measured)
MEND = "use graph.edges: knn+adjacent, or a larger graph.pixels_per_superpixel"
SAMPLE = 4096  # nodes used to determine the kernel's width, equally many from each training graph


def pairwise_squared(X: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
    """||x_i - y_j||^2 of X (a, d) and Y (b, d): (a, b), never negative."""
    return (X.square().sum(1)[:, None] + Y.square().sum(1)[None, :]).sub_(2 * X @ Y.T).clamp_(min=0)


def rounded(X: torch.Tensor) -> torch.Tensor:
    """X (..., n, d) minus the mean of the nodes, in whole multiples, at most 127, of a power of two near a sixteenth of
    its root mean square: float32. Products are exact. Distances err by about a hundredth, and by more for nodes so far
    out that their coordinates are cut off."""
    X = X - X.mean(-2, keepdim=True)
    rms = X.square().mean((-2, -1), keepdim=True).sqrt().clamp(min=1e-30)
    return X.mul_(torch.exp2(4 - rms.log2().round())).round_().clamp_(-127, 127)


def nearest_pairs(X: torch.Tensor, m: int, rows: int = 256, precision: Precision = "float32") -> torch.Tensor:
    """Pairs (2, n * m) int64 of each node and its m nearest others by Euclidean distance, X (n, d); m at most n - 1.

    In a tie, the CPU takes the first, and so does a GPU with `precision: int8`, which compares `rounded` nodes.
    rows: nodes compared at once; memory is rows x n, on the CPU rows x rows.
    """
    n = len(X)
    m = max(min(m, n - 1), 0)
    nearest = torch.empty(n, m, dtype=torch.int64, device=X.device)
    if m > 0:
        whole = precision == "int8"
        if whole:
            X = rounded(X)
        (_nearest_on_cpu if X.device.type == "cpu" else _nearest_on_device)(X, rows, whole, nearest)
    return torch.stack([torch.arange(n, device=X.device)[:, None].expand(-1, m).reshape(-1), nearest.reshape(-1)])


def first_of_equals(d2: torch.Tensor) -> torch.Tensor:
    """Numbers (..., n) float64 that order whole numbers d2 (..., n) along the last axis, equal ones by their place."""
    return d2.double() * d2.shape[-1] + torch.arange(d2.shape[-1], device=d2.device)


def _nearest_on_device(X: torch.Tensor, rows: int, whole: bool, nearest: torch.Tensor) -> None:
    """Fill `nearest` (n, m). whole: X are whole numbers."""
    for block in torch.arange(len(X), device=X.device).split(rows):
        d2 = pairwise_squared(X[block], X)
        if whole:
            d2 = first_of_equals(d2)
        d2[torch.arange(len(block), device=X.device), block] = torch.inf
        nearest[block] = d2.topk(nearest.shape[1], dim=1, largest=False).indices


def _nearest_on_cpu(X: torch.Tensor, rows: int, whole: bool, nearest: torch.Tensor) -> None:
    """Fill `nearest` (n, m). Each product of two blocks is computed once and used for both. whole: X are whole numbers
    of eight bits."""
    square = X.square().sum(1).div_(2).numpy()
    nearest[:] = torch.arange(len(X))[:, None]
    least = np.full(nearest.shape, np.inf, np.float32)
    bound = np.full(len(X), np.inf, np.float32)
    multiply: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = torch.mm
    if whole and multiplies_int8():
        X, multiply = X.to(torch.int8), torch._int_mm
    blocks = X.split(rows)
    for a, block in enumerate(blocks):
        for b in range(a, len(blocks)):  # so that every node is compared with the others in order
            product = multiply(block, blocks[b].T).numpy()
            _select(product, square, a * rows, b * rows, least, bound, nearest.numpy())


@compiled
def _select(
    product: np.ndarray,
    square: np.ndarray,
    first: int,
    second: int,
    least: np.ndarray,
    bound: np.ndarray,
    nearest: np.ndarray,
) -> None:
    """Keep in `nearest` (n, m) the nodes that are nearest so far, in `least` (n, m) half of their squared distances,
    (||x_i||^2 + ||x_j||^2) / 2 - x_i.x_j, in `bound` (n,) the largest of each row: product (rows, columns), x_i.x_j of
    the nodes i from `first` and j from `second` on, later ones or the same; square (n,), half of ||x_i||^2."""
    m, columns = nearest.shape[1], product.shape[1]
    those = slice(second, second + columns)
    d2, near, some = np.empty(columns, np.float32), np.empty(columns, np.uint8), np.empty(columns + 1, np.int64)
    for r in range(len(product)):
        i, line, squares, bounds = first + r, product[r], square[those], bound[those]
        own, limit = square[i], bound[i]
        for c in range(columns):  # branch-free, for vector instructions
            d2[c] = max((own + squares[c]) - np.float32(line[c]), np.float32(0))
            near[c] = (d2[c] < limit) | (d2[c] < bounds[c])
        found = 0
        for c in range(columns):
            some[found] = c
            found += near[c]
        for c in some[:found]:
            j = second + c
            if d2[c] < bound[i] and j != i:
                place = m - 1
                while place > 0 and least[i, place - 1] > d2[c]:
                    least[i, place], nearest[i, place] = least[i, place - 1], nearest[i, place - 1]
                    place -= 1
                least[i, place], nearest[i, place] = d2[c], j
                bound[i] = least[i, m - 1]
            if first != second and d2[c] < bound[j]:
                place = m - 1
                while place > 0 and least[j, place - 1] > d2[c]:
                    least[j, place], nearest[j, place] = least[j, place - 1], nearest[j, place - 1]
                    place -= 1
                least[j, place], nearest[j, place] = d2[c], i
                bound[j] = least[j, m - 1]


def squared_lengths(X: torch.Tensor, i: torch.Tensor, j: torch.Tensor, rows: int = 256) -> torch.Tensor:
    """||x_i - x_j||^2 (E,) of pairs i, j (E,) of X (n, d); on a GPU for `rows` pairs at a time."""
    if X.device.type != "cpu":
        parts = zip(i.split(rows), j.split(rows))
        return torch.cat([(X.index_select(0, a) - X.index_select(0, b)).square_().sum(1) for a, b in parts])
    lengths = X.new_empty(len(i))
    arrays = X.numpy(), i.numpy(), j.numpy(), lengths.numpy()
    at_once(lambda part: _squared_lengths(arrays[0], *(each[part] for each in arrays[1:])), len(i))
    return lengths


@compiled
def _squared_lengths(X: np.ndarray, i: np.ndarray, j: np.ndarray, lengths: np.ndarray) -> None:
    """Fill `lengths` (E,) with the squared distances of pairs i, j (E,) of X (n, d), in sixteen sums, each of every
    sixteenth channel, as loops without a branch become vector instructions."""
    d = X.shape[1]
    sums = np.empty(d, np.float32)
    for e in range(len(i)):
        one, other = X[i[e]], X[j[e]]
        for k in range(d):
            apart = one[k] - other[k]
            sums[k] = apart * apart
        for k in range(16, d):
            sums[k] += sums[k - 16]
        total = np.float32(0)
        for k in range(min(16, d)):
            total += sums[d - 1 - (d - 1 - k) % 16]  # the last place of the k-th sum
        lengths[e] = total


class AffinityGraph(GraphBuilder):
    """The second half of all graph parts: standardise node features, then a_ij = exp(-||F_i - F_j||^2 / kappa),
    then A <- max(A - max(A) / alpha, 0) (paper, Eq. 1; max(A) = 1, the diagonal, which is kept as self-loop).

    standardize: `set`, by mean and deviation of each channel over all training nodes (default; the paper gives
    kappa = 2 and no scale), with the same total variance for each of several feature maps (`features: concat`);
    `node`, over the channels of each node; `node+l2`, also to unit length; `none`.
    kappa: a number; `median`, of squared distances between training nodes; `neighbour`, the median of those from
    training nodes to their `neighbours` nearest in the same graph. alpha: None skips the threshold of Eq. 1.
    warmup_alpha: alpha of the graphs that the embedding is trained on until the clusterer starts (the later code: 8,
    then 4); null: the same graphs throughout.
    distance: `squared` (paper) or `plain`, exp(-||F_i - F_j|| / kappa) (the group's later code).
    edges: `all` pairs (as printed); `knn`, each node's `neighbours` nearest, symmetrised; `adjacent`, touching
    regions; `knn+adjacent`, both.
    precision: of the features by which neighbours are chosen; `int8` takes less time and changes few edges
    (benchmarks/speed/neighbours.py). The affinity of an edge is always that of the features as they are.
    propagation: how the product with the normalised affinity is computed: `csr`, `dense` or `dgl`, DGL's own kernel;
    `auto` chooses (`registry.spg.propagation`).
    """

    standardize: Standardize
    kappa: Kappa
    alpha: float | None
    distance: Literal["squared", "plain"]
    edges: Edges
    neighbours: int
    warmup_alpha: float | None = None
    propagation: Propagation = "auto"
    precision: Precision = "float32"

    def check(self) -> None:
        """Raise UserError if an argument is out of range."""
        for key in ("alpha", "warmup_alpha"):
            value = getattr(self, key)
            if value is not None and value <= 1:
                raise UserError(f"graph.{key}: {value} removes all edges; it must be above 1 (paper: 4) or null")
        if not isinstance(self.kappa, str) and self.kappa <= 0:
            raise UserError(f"graph.kappa: {self.kappa} must be above 0 (paper: 2), 'median' or 'neighbour'")
        if self.neighbours < 1:
            raise UserError(f"graph.neighbours: {self.neighbours} must be at least 1")

    def fit(self, nodes: Sequence[Nodes]) -> None:
        """Mean and scale (d,) of node features, and kappa, over the training nodes. Raises UserError without any."""
        count, total, square = 0, np.zeros(1), np.zeros(1)
        for each in nodes:
            F = each.feature.astype(np.float64)
            count, total, square = count + len(F), total + F.sum(0), square + np.square(F).sum(0)
        if not count:
            raise UserError("data.train: no training node to fit the graph to; give at least one training image")
        self.mean_ = (total / count).astype(np.float32)
        deviation = np.sqrt(np.maximum(square / count - np.square(total / count), 0))
        # a constant channel carries no information: leave it at zero instead of dividing by rounding errors
        self.scale_ = np.where(deviation > 1e-6, 1 / np.maximum(deviation, 1e-6), 0).astype(np.float32)
        if (sizes := nodes[0].blocks) is not None:  # of several feature maps each gives the same share of the variance
            self.scale_ *= np.repeat(np.sqrt(sizes.sum() / (len(sizes) * sizes)), sizes).astype(np.float32)
        self.kappa_ = self._width(nodes) if isinstance(self.kappa, str) else float(self.kappa)

    def _width(self, nodes: Sequence[Nodes]) -> float:
        """The kernel's width, in the units of its distance; 1 if there are no two nodes to measure."""
        share = max(1, SAMPLE // len(nodes))
        picks = [np.unique(np.linspace(0, each.n - 1, min(share, each.n)).astype(int)) for each in nodes]
        if self.kappa == "median":
            X = self.scaled(np.concatenate([each.feature[pick] for each, pick in zip(nodes, picks)]))
            values = pairwise_squared(X, X)[~torch.eye(len(X), dtype=torch.bool)]
        else:
            values = torch.cat([self._to_neighbours(each, pick) for each, pick in zip(nodes, picks)])
        if self.distance == "plain":
            values = values.sqrt()
        return max(float(values.median()), 1e-6) if len(values) else 1.0

    def _to_neighbours(self, nodes: Nodes, pick: np.ndarray) -> torch.Tensor:
        """Squared distances (len(pick) * m,) of some nodes to the m nearest others of their graph."""
        X, rows = self.scaled(nodes.feature), torch.from_numpy(pick)
        d2 = pairwise_squared(X[rows], X)  # (len(pick), n_s)
        d2[torch.arange(len(rows)), rows] = torch.inf
        return d2.topk(min(self.neighbours, nodes.n - 1), dim=1, largest=False).values.reshape(-1)

    def scaled(self, features: np.ndarray | torch.Tensor) -> torch.Tensor:
        """Pooled features (n, d) float32, scaled for distances according to `standardize`."""
        if isinstance(features, torch.Tensor):
            X = features
            if self.standardize == "set":
                mean, scale = (torch.from_numpy(each).to(X.device) for each in (self.mean_, self.scale_))
                return (X - mean) * scale
        elif self.standardize == "set":
            centred = features - self.mean_
            centred *= self.scale_
            return torch.from_numpy(centred)
        else:
            X = torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32))
        if self.standardize == "none":
            return X
        X = (X - X.mean(1, keepdim=True)) / (X.std(1, keepdim=True, unbiased=False) + 1e-6)
        return torch.nn.functional.normalize(X, dim=1) if self.standardize == "node+l2" else X

    def connect(self, nodes: Nodes) -> RegionGraph:
        """Standardise, weight pairs by Eq. 1, and keep those of `edges` above zero, and a self-loop for each node."""
        X = self.scaled(nodes.feature)
        graph = self._joined(X, nodes, self.alpha)
        if self.warmup_alpha is not None:
            graph.warmup = self._joined(X, nodes, self.warmup_alpha)
        return graph

    def _joined(self, X: torch.Tensor, nodes: Nodes, alpha: float | None) -> RegionGraph:
        if self.edges == "all":
            check_pairs("graph.edges: all", nodes.n, BYTES_PER_PAIR, MEND)
            weight = self._kernel(pairwise_squared(X, X), alpha)
            weight.fill_diagonal_(self._kernel(torch.zeros(1), alpha).item())
            src, dst = weight.nonzero(as_tuple=True)
            affinity = weight[src, dst]
        else:
            src, dst, affinity = self._sparse(X, nodes, alpha)
        graph = RegionGraph.from_edges(nodes.regions, X, nodes.area, nodes.centroid, src, dst, affinity, nodes.grey)
        graph.propagation = self.propagation
        return graph

    def _sparse(self, X: torch.Tensor, nodes: Nodes, alpha: float | None) -> tuple[torch.Tensor, ...]:
        pairs = []
        if "knn" in self.edges:
            pairs.append(nearest_pairs(X, self.neighbours, precision=self.precision))
        if "adjacent" in self.edges:
            pairs.append(torch.from_numpy(nodes.touching))
        return self.weighed(X, torch.cat(pairs, dim=1), alpha)

    def weighed(
        self, X: torch.Tensor, pairs: torch.Tensor, alpha: float | None, rows: int = 256
    ) -> tuple[torch.Tensor, ...]:
        """Rows, columns (E,) int64 and entries (E,) of A by Eq. 1, in both directions and with self-loops, for
        standardised nodes X (n, d) and candidate pairs (2, m), in any direction and possibly repeated."""
        (i, j), n = pairs, len(X)
        keys = torch.unique(torch.minimum(i, j) * n + torch.maximum(i, j))
        i, j = keys // n, keys % n
        weight = self._kernel(squared_lengths(X, i, j, rows), alpha)
        kept = weight > 0
        i, j, weight = i[kept], j[kept], weight[kept]
        loop = torch.arange(n, device=X.device)
        self_weight = self._kernel(torch.zeros(n, device=X.device), alpha)
        return torch.cat([i, j, loop]), torch.cat([j, i, loop]), torch.cat([weight, weight, self_weight])

    def _kernel(self, d2: torch.Tensor, alpha: float | None) -> torch.Tensor:
        a = torch.exp(-(d2.sqrt() if self.distance == "plain" else d2) / self.kappa_)
        return a if alpha is None else (a - 1 / alpha).clamp_(min=0)

    def get_state(self) -> dict[str, np.ndarray]:
        return {"mean": self.mean_, "scale": self.scale_, "kappa": np.array([self.kappa_], dtype=np.float64)}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        expect(state, {"mean": ("d",), "scale": ("d",), "kappa": (1,)})
        self.mean_, self.scale_, self.kappa_ = state["mean"], state["scale"], float(state["kappa"][0])
        if not 0 < self.kappa_ < np.inf:
            raise ValueError(f"kappa is {self.kappa_}")
