"""The product Â X with a spG's normalised affinity, the basis of linear graph convolutions, and how to compute it.

csr: torch's sparse product on the DGLGraph's own compressed rows. dense: a full matrix, from DENSE_ABOVE on. dgl: DGL's
kernel `u_mul_e_sum`, used by the layers of `dgl.nn`. On CPUs the first two are faster (benchmarks/speed,
`propagation`); on other devices DGL's kernel works if its build has kernels for them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal

import torch

from registry.numeric.memory import check_pairs
from registry.spg.dgl_adapter import dgl

DENSE_ABOVE = 0.25  # share of nonzero entries from which a dense product is faster (benchmarks/speed/propagation.py)
Propagation = Literal["auto", "csr", "dense", "dgl"]
SPARSER = "use csr with graph.edges: knn+adjacent, or a larger graph.pixels_per_superpixel"
Product = Callable[[torch.Tensor], torch.Tensor]  # X (n_s, c) -> Â X (n_s, c)


def chosen(graph: Any, mode: Propagation) -> Propagation:
    """The mode chosen by `auto` for a DGLGraph: `dense` or `csr`, depending on its density."""
    if mode == "auto":
        return "dense" if graph.num_edges() > DENSE_ABOVE * graph.num_nodes() ** 2 else "csr"
    return mode


def product(graph: Any, weight: torch.Tensor, mode: Propagation = "auto") -> Product:
    """The function X (n_s, c) -> Â X on the device of `weight`; no gradient passes (see `Symmetric`).

    graph: a DGLGraph of n_s nodes. weight: (E,) entries of Â, in the order of its edges. Raises ValueError for another
    mode, and for `dgl` if the graph is not on that device, for lack of kernels.
    """
    mode, n, device = chosen(graph, mode), graph.num_nodes(), weight.device
    if mode == "dense":
        check_pairs("graph.propagation: dense", n, 4, SPARSER, str(device))
        M = torch.zeros(n, n, device=device)
        M[tuple(end.to(device) for end in graph.edges(order="eid"))] = weight
        return lambda X: M @ X
    if mode == "csr":
        indptr, indices, edges = (array.to(device) for array in graph.adj_tensors("csr"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "CSR support is in beta state"
            sparse = torch.sparse_csr_tensor(indptr, indices, weight[edges], (n, n), check_invariants=False)
        return lambda X: sparse @ X
    if mode == "dgl":
        if device != graph.device:
            raise ValueError(f"propagation 'dgl': this build of DGL has no kernels for {device}; use 'csr' or 'dense'")
        return lambda X: dgl.ops.u_mul_e_sum(graph, X, weight)
    raise ValueError(f"propagation is 'auto', 'csr', 'dense' or 'dgl', got {mode!r}")


class Symmetric(torch.autograd.Function):
    """X -> M X for a symmetric M that needs no gradient: the backward product is the forward one."""

    @staticmethod
    def forward(ctx: Any, multiply: Product, X: torch.Tensor) -> torch.Tensor:
        ctx.multiply = multiply
        return multiply(X)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[None, torch.Tensor]:
        return None, ctx.multiply(grad.contiguous())
