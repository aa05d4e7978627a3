"""Numerical spectral embedding: eigenvectors of each graph's Laplacian (paper, ablation "w/o NSC"; DSM)."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from registry.base import Embedder, UserError
from registry.numeric.memory import check_pairs
from registry.ranges import Width
from registry.spg.graphs import RegionGraph

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

DENSE_BELOW = 256  # nodes up to which a full decomposition is as fast as an iteration, and always converges
BYTES_PER_PAIR = 40  # of a full decomposition (benchmarks/results/quick/scaling.csv, `eigh`)
TOLERANCE = 1e-9  # relative residual of the Lanczos iteration
JITTER = 1e-9  # of the diagonal of Â, see _solve


class Eigsh(Embedder):
    """Z (n_s, u): eigenvectors of L = I - Â with the smallest eigenvalues, in ascending order.

    u: coordinates; columns that a tiny graph cannot fill are zero.
    drop_first: omit the trivial eigenvector D^1/2 1, which only reflects the degree (as DSM does).
    solver: `eigsh`, Lanczos from a fixed start vector; `lobpcg`, from a fixed start block; `dense`, a full
        decomposition, O(n_s^3). Graphs of up to DENSE_BELOW nodes are always decomposed in full.
    vectors: `symmetric`, of L; `random_walk`, D^-1/2 times these, which solve (D - A) v = lambda D v (DSM).
    row_normalize: scale each row of Z to unit length (Ng, Jordan and Weiss 2001); else each column to the length
    sqrt(n_s), so that entries are of order one for any number of nodes.

    The eigenvectors of eigenvalue 0 are known: D^1/2 1 on each connected component. They are set directly (the trivial
    one first, then components from the heaviest to the lightest, orthogonalised) and deflated, so that the solver has
    no multiple eigenvalue 0 to miss. Signs: the entry of largest magnitude is positive.
    """

    def __init__(
        self,
        *,
        u: Width = 12,
        drop_first: bool = True,
        solver: Literal["eigsh", "lobpcg", "dense"] = "eigsh",
        vectors: Literal["symmetric", "random_walk"] = "symmetric",
        row_normalize: bool = False,
    ):
        self.u = u
        self.drop_first = drop_first
        self.solver = solver
        self.vectors = vectors
        self.row_normalize = row_normalize
        if u < 1:
            raise UserError(f"embedder.u: {u} must be at least 1")

    def embed(self, graph: RegionGraph) -> torch.Tensor:
        _, V, scale = self._decompose(graph)
        if self.vectors == "random_walk":
            V = V * scale[:, None]
            V /= np.maximum(np.linalg.norm(V, axis=0), 1e-30)
        V = fix_signs(V)
        if self.row_normalize:
            V /= np.maximum(np.linalg.norm(V, axis=1, keepdims=True), 1e-30)
        else:
            V *= np.sqrt(graph.n)
        Z = np.zeros((graph.n, self.u), np.float32)
        Z[:, : V.shape[1]] = V
        return torch.from_numpy(Z).to(graph.feature.device)

    def spectrum(self, graph: RegionGraph) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues (m,) of L, ascending, and orthonormal eigenvectors (n_s, m); m = u unless the graph is tiny."""
        values, V, _ = self._decompose(graph)
        return values, fix_signs(V)

    def _decompose(self, graph: RegionGraph) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Eigenvalues (m,), eigenvectors (n_s, m), and the diagonal (n_s,) of D^-1/2."""
        if graph.n == 0:
            return np.zeros(0), np.zeros((0, 0)), np.zeros(0)
        M, degree = _normalised_affinity(graph)
        null, weight = _null_space(M, degree)
        first = 1 if self.drop_first and len(weight) else 0
        known = _trivial_first(null, weight, min(len(weight), self.u + first))[:, first:]  # (n_s, <= u)
        wanted = min(self.u - known.shape[1], graph.n - len(weight))
        values, V = self._solve(M, null, wanted) if wanted > 0 else (np.zeros(0), np.zeros((graph.n, 0)))
        scale = np.where(degree > 0, 1 / np.sqrt(np.maximum(degree, 1e-30)), 0)
        return np.concatenate([np.zeros(known.shape[1]), 1 - values]), np.hstack([known, V]), scale

    def _solve(self, M: csr_matrix, null: csr_matrix, m: int) -> tuple[np.ndarray, np.ndarray]:
        """The m largest eigenvalues of Â outside its known null space of L, descending, and their eigenvectors."""
        from scipy.sparse import diags
        from scipy.sparse.linalg import LinearOperator, eigsh, lobpcg

        n = M.shape[0]
        # Eigenvalues of Â lie in [-1, 1]; the known ones, 1, are moved below all others, to -2.
        if self.solver == "dense" or n <= max(DENSE_BELOW, 5 * m):
            check_pairs("embedder.solver: dense", n, BYTES_PER_PAIR, "take eigsh, or larger superpixels")
            values, V = np.linalg.eigh(M.toarray() - 3 * (null @ null.T).toarray())
            return values[::-1][:m], V[:, ::-1][:, :m]
        rng = np.random.default_rng(0)
        # If all nodes are equal, Lanczos breaks down and restarts from its own random vector, a new one each time.
        # A jitter far below single precision makes every eigenvalue simple.
        M = M + diags(JITTER * rng.random(n))
        transposed = null.T.tocsr()

        def deflated(X: np.ndarray) -> np.ndarray:
            return M @ X - 3 * (null @ (transposed @ X))

        operator = LinearOperator((n, n), matvec=deflated, matmat=deflated, dtype=np.float64)
        if self.solver == "lobpcg":
            start = rng.standard_normal((n, m))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # also raised for a residual of 1.01 tol
                values, V = lobpcg(operator, start - null @ (transposed @ start), largest=True, tol=1e-5, maxiter=1000)
            residual = np.linalg.norm(deflated(V) - V * values, axis=0).max()
            if residual > 1e-3:
                warnings.warn(
                    f"lobpcg stopped at a residual of {residual:.1g}; embedder.solver: eigsh is more accurate",
                    stacklevel=2,
                )
        else:
            start = rng.standard_normal(n)
            values, V = eigsh(
                operator,
                k=m,
                which="LA",
                v0=start - null @ (transposed @ start),
                ncv=min(n, max(4 * m, 40)),
                tol=TOLERANCE,
            )
        order = np.argsort(-values, kind="stable")
        return values[order], V[:, order]


def _normalised_affinity(graph: RegionGraph) -> tuple[csr_matrix, np.ndarray]:
    """Â = D^-1/2 A D^-1/2 as a CSR matrix (n_s, n_s) float64, and the degrees (n_s,), row sums of A."""
    from scipy.sparse import coo_matrix, diags

    src, dst = (index.cpu().numpy() for index in graph.edges)
    weights = graph.affinity.detach().cpu().numpy().astype(np.float64)
    A = coo_matrix((weights, (src, dst)), shape=(graph.n, graph.n)).tocsr()
    A.eliminate_zeros()
    degree = np.asarray(A.sum(axis=1)).ravel()
    scale = diags(np.where(degree > 0, 1 / np.sqrt(np.maximum(degree, 1e-30)), 0))
    return (scale @ A @ scale).tocsr(), degree


def _null_space(M: csr_matrix, degree: np.ndarray) -> tuple[csr_matrix, np.ndarray]:
    """Null vectors of L, (n_s, c) sparse and orthonormal, and the weights (c,) of their components.

    They are D^1/2 1 on each connected component with nonzero weight, heaviest first, the weight being the sum of
    degrees. A node without weight is in none: its row of L equals that of the identity.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    _, component = connected_components(M, directed=False)
    weight = np.bincount(component, weights=degree)
    order = np.argsort(-weight, kind="stable")[: int((weight > 0).sum())]
    column = np.full(len(weight), -1)
    column[order] = np.arange(len(order))
    inside = np.flatnonzero(degree > 0)
    values = np.sqrt(degree[inside] / weight[component[inside]])
    null = csr_matrix((values, (inside, column[component[inside]])), shape=(len(degree), len(order)))
    return null, weight[order]


def _trivial_first(null: csr_matrix, weight: np.ndarray, m: int) -> np.ndarray:
    """m <= c orthonormal vectors (n_s, m) of the null space: D^1/2 1 of the whole graph, then component by component.

    In the basis `null` the first has the coefficients sqrt(weight / total); unit vectors are orthogonalised against it
    and one another, in order.
    """
    basis = np.eye(len(weight), m, k=1)
    basis[:, :1] = np.sqrt(weight / max(weight.sum(), 1e-30))[:, None]
    return null @ np.linalg.qr(basis)[0]


def fix_signs(V: np.ndarray) -> np.ndarray:
    """Make each column's entry of largest magnitude positive (the first, in a tie)."""
    if V.size == 0:
        return V
    peak = V[np.abs(V).argmax(axis=0), np.arange(V.shape[1])]
    return V * np.where(peak < 0, -1.0, 1.0)
