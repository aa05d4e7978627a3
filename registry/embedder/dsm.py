"""Eigensegments of Deep Spectral Methods (Melas-Kyriazi et al. 2022): spectral coordinates of each single image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from registry.base import Embedder, UserError
from registry.embedder.eigsh import DENSE_BELOW, JITTER, fix_signs
from registry.numeric.memory import check_pairs
from registry.ranges import NotNegative, Width
from registry.spg.graphs import RegionGraph

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

BLOCK = 1024  # rows computed at a time
NO_DEGREE = 1e-12  # a smaller degree counts as 1 (DSM's code)
NO_VARIANCE = 1e-12  # eigenvalues below are rounding errors of single-precision features
TOLERANCE = 1e-6  # of the Lanczos iteration, whose products are in single precision
NEIGHBOURS = ((20, 2.0), (10, 0.1))  # of the colour term: neighbours, weight of distance (DSM's code)


class DSM(Embedder):
    """Z (n_s, u): solutions of (D - W) v = lambda D v with the smallest lambda, without the constant one.

    W = max(F F^T, 0), F the node features at unit length: (n_s, n_s), for every pair of nodes, regardless of the
    graph's edges. D holds its row sums. DSM's code also divides W by its largest entry, which is 1.

    u: coordinates. DSM's code solves for 20 by default and for 5 in the commands of its VOC study, including the
    constant one, and groups them into 15 segments; 15 lies in between, with as many coordinates as segments.
    channels: `mean`, the first half of the node's channels, which correspond to DSM's features of a patch (the second
    half are deviations within the node); `all`, for other kinds of graphs. An odd number of channels is always used
    in full.
    colour_weight: lambda of W + lambda C, where C counts how often two nodes are among each other's nearest by grey
    value and position: 20 neighbours with weight 2 for positions, 10 with weight .1. DSM's commands use 0, no colour.

    Columns have the same D-norm (v^T D v is equal for all), as from DSM's solver; entries are of order one.
    The entry of largest magnitude is positive. Columns that a tiny or uniform graph cannot fill are zero.

    If all products are non-negative, W = F F^T has at most q eigenvectors, which come from an exact q x q decomposition
    without W. This is always so for unscaled MAE features, which all point in nearly the same direction. Otherwise W is
    computed (1.5 GB for 19,600 nodes) and its eigenvectors are found by Lanczos iterations.
    """

    def __init__(self, *, u: Width = 15, channels: Literal["mean", "all"] = "mean", colour_weight: NotNegative = 0.0):
        self.u = u
        self.channels = channels
        self.colour_weight = colour_weight
        if u < 1:
            raise UserError(f"embedder.u: {u} must be at least 1")
        if not 0 <= colour_weight < np.inf:
            raise UserError(f"embedder.colour_weight: {colour_weight} must be 0 (no colour) or positive")

    def embed(self, graph: RegionGraph) -> torch.Tensor:
        _, V = self.spectrum(graph)
        Z = np.zeros((graph.n, self.u), np.float32)
        Z[:, : V.shape[1]] = V
        return torch.from_numpy(Z).to(graph.device)

    def spectrum(self, graph: RegionGraph) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues (m,), ascending, and solutions (n_s, m); m = u unless the graph is tiny or uniform."""
        if graph.n == 0:
            return np.zeros(0), np.zeros((0, 0))
        similarity = self._similarity(graph)
        degree = similarity.degree
        trivial = np.sqrt(np.where(degree < NO_DEGREE, 0, degree))  # eigenvector 1 of D^-1/2 W D^-1/2
        trivial /= max(np.linalg.norm(trivial), 1e-30)
        degree = np.where(degree < NO_DEGREE, 1, degree)
        scale = 1 / np.sqrt(degree)
        m = min(self.u, graph.n - int(trivial.any()))
        values, V = similarity.largest(m, scale, trivial) if m > 0 else (np.zeros(0), np.zeros((graph.n, 0)))
        return 1 - values, fix_signs(scale[:, None] * V * np.sqrt(degree.sum()))

    def _similarity(self, graph: RegionGraph) -> _Product | _Dense:
        F = graph.feature.detach()
        if self.channels == "mean" and F.shape[1] % 2 == 0:
            F = F[:, : F.shape[1] // 2]
        F = torch.nn.functional.normalize(F.double(), dim=1)
        colour = self.colour_weight * neighbours_by_grey(graph) if self.colour_weight > 0 else None
        return _Product(F, colour) if within_a_right_angle(F) else _Dense(F.float(), colour)


def within_a_right_angle(F: torch.Tensor) -> bool:
    """Whether all rows (n, q), of unit length or zero, lie within 45 degrees of their mean: no product is negative."""
    mean = torch.nn.functional.normalize(F.mean(0), dim=0)
    return bool(((F @ mean > 0.7072) | (F == 0).all(1)).all())


def neighbours_by_grey(graph: RegionGraph) -> csr_matrix:
    """C (n_s, n_s) CSR: how often one node is among the other's nearest, itself included, by grey value and place.

    Grey values run from 0 to 1 over +-3 standard deviations and count threefold, as a grey image has three equal
    colours; positions run from 0 to 1 over the image. Raises UserError if the graph has no grey values.
    """
    from scipy.sparse import coo_matrix
    from scipy.spatial import cKDTree

    if graph.grey is None:
        raise UserError("embedder.colour_weight: the nodes of this graph have no grey values; set it to 0")
    grey = np.clip(graph.grey.cpu().numpy() / 6 + 0.5, 0, 1)[:, None] * np.sqrt(3)
    place = graph.centroid.cpu().numpy() / np.maximum(np.array(graph.regions.shape) - 1, 1)
    n, found = graph.n, []
    for count, weight in NEIGHBOURS:
        points = np.hstack([grey, weight * place])
        nearest = cKDTree(points).query(points, np.arange(1, min(count, n) + 1))[1]  # (n, count)
        found.append(np.stack([np.repeat(np.arange(n), nearest.shape[1]), nearest.ravel()]))
    i, j = np.hstack(found)
    C = coo_matrix((np.ones(len(i)), (i, j)), shape=(n, n)).tocsr()
    return C + C.T


class _Product:
    """W = F F^T (+ colour), where no entry of F F^T is negative, kept as F: (n, q) float64."""

    def __init__(self, F: torch.Tensor, colour: csr_matrix | None = None):
        self.F, self.colour = F.cpu().numpy(), colour
        self.degree = self.multiply(np.ones(len(F)))

    def multiply(self, x: np.ndarray) -> np.ndarray:
        y = self.F @ (self.F.T @ x)
        return y if self.colour is None else y + self.colour @ x

    def matrix(self) -> np.ndarray:
        return self.F @ self.F.T + (0 if self.colour is None else self.colour.toarray())

    def largest(self, m: int, scale: np.ndarray, trivial: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.colour is not None:
            return largest(self, m, scale, trivial)
        # Eigenvectors of G G^T are those y of G^T G, as G y / sqrt(lambda).
        G = scale[:, None] * self.F
        G = G - trivial[:, None] * (trivial @ G)
        values, Y = np.linalg.eigh(G.T @ G)
        values, Y = values[::-1][:m], Y[:, ::-1][:, :m]
        kept = values > NO_VARIANCE
        return values[kept], G @ Y[:, kept] / np.sqrt(values[kept])


class _Dense:
    """W = max(F F^T, 0) (+ colour), (n, n) in single precision on the device of F (n, q)."""

    def __init__(self, F: torch.Tensor, colour: csr_matrix | None = None):
        n = len(F)
        check_pairs("embedder: dsm", n, 4, "use larger cells or superpixels, or a smaller data.fov", str(F.device))
        self.colour = colour
        self.W = torch.empty(n, n, device=F.device)
        degree = []
        for start in range(0, n, BLOCK):
            rows = self.W[start : start + BLOCK]
            torch.mm(F[start : start + BLOCK], F.T, out=rows)
            degree.append(rows.clamp_(min=0).sum(1, dtype=torch.float64))
        self.degree = torch.cat(degree).cpu().numpy()
        if colour is not None:
            self.degree = self.degree + np.asarray(colour.sum(1)).ravel()

    def multiply(self, x: np.ndarray) -> np.ndarray:
        y = (self.W @ torch.from_numpy(x).to(self.W)).double().cpu().numpy()
        return y if self.colour is None else y + self.colour @ x

    def matrix(self) -> np.ndarray:
        return self.W.double().cpu().numpy() + (0 if self.colour is None else self.colour.toarray())

    def largest(self, m: int, scale: np.ndarray, trivial: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return largest(self, m, scale, trivial)


def largest(
    similarity: _Product | _Dense, m: int, scale: np.ndarray, trivial: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The m largest eigenvalues of D^-1/2 W D^-1/2 beside that of `trivial` (n,), descending, and eigenvectors (n, m).

    scale: (n,), the diagonal of D^-1/2.
    """
    from scipy.sparse.linalg import LinearOperator, eigsh

    n = len(scale)
    # Eigenvalues lie in [-1, 1]; that of the trivial vector, 1, is moved below all others, to -2.
    if n <= max(DENSE_BELOW, 5 * m):
        M = scale[:, None] * similarity.matrix() * scale - 3 * np.outer(trivial, trivial)
        values, V = np.linalg.eigh((M + M.T) / 2)
        return values[::-1][:m], V[:, ::-1][:, :m]
    rng = np.random.default_rng(0)
    # The identity makes the tolerance absolute, in case all eigenvalues except the first are small. The jitter prevents
    # the iteration from restarting with its own random vector if all nodes are equal.
    diagonal = 1 + JITTER * rng.random(n)

    def multiply(x: np.ndarray) -> np.ndarray:
        x = x.ravel()
        return scale * similarity.multiply(scale * x) - 3 * trivial * (trivial @ x) + diagonal * x

    start = rng.standard_normal(n)
    values, V = eigsh(
        LinearOperator((n, n), matvec=multiply, dtype=np.float64),
        k=m,
        which="LA",
        v0=start - trivial * (trivial @ start),
        ncv=min(n, max(2 * m + 10, 40)),
        tol=TOLERANCE,
    )
    order = np.argsort(-values, kind="stable")
    return values[order] - 1, V[:, order]
