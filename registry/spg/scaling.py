"""The scale of an embedding's columns: factors for Z (n_s, u) before clustering."""

from __future__ import annotations

from typing import Literal

import torch

TINY = 1e-24
DEPENDENT = 1e-6  # eigenvalue of the columns' correlations below which a direction is rounding error

Scale = Literal["span", "explained", "unit", "graph", "none"]


def graph_scale(Z: torch.Tensor) -> torch.Tensor:
    """Factors (u,) that give each column of Z (n_s, u) unit deviation over the nodes of this one graph."""
    return Z.square().mean(0).clamp(min=TINY).rsqrt()


def first_scale(u: int, scale: Scale) -> torch.Tensor:
    """The neutral scale: ones (u,), for `span` the identity (u, u)."""
    return torch.eye(u) if scale == "span" else torch.ones(u)


def scaled(Z: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    """Z (n_s, u) times factors (u,) or a matrix (u, u)."""
    return Z * by if by.ndim == 1 else Z @ by


def set_scale(gram: torch.Tensor, cross: torch.Tensor, scale: Scale) -> torch.Tensor:
    """The argument of `scaled` for `scale: unit`, `explained` and `span`, from means over the nodes of all training
    graphs.

    gram: (u, u), Z^T Z. cross: (d, u), X^T Z, with the node features X (n, d) that the columns come from.
    `unit`: factors for unit deviation. `explained`: factors for the deviation of X that the column explains,
    ||X^T z|| / ||z||, relative to the root of the mean square over all columns, so that weak directions stay weak.
    `span`: the same for the columns together. With Q = Z (Z^T Z)^-1/2, orthonormal, Z becomes Q (Q^T X X^T Q)^1/2, of
    the same variance: distances between nodes are those in the part of X that the columns span, independent of the
    basis. Whatever part of a column depends on others adds nothing.
    """
    factors = gram.diagonal().clamp(min=TINY).rsqrt()
    cross = cross * factors  # of columns of unit deviation
    if scale == "span":
        gram, cross = (factors[:, None] * gram * factors).double(), cross.double()
        values, vectors = torch.linalg.eigh(gram)
        kept = values > DEPENDENT
        root = vectors * torch.where(kept, values.clamp(min=DEPENDENT).rsqrt(), 0) @ vectors.T  # (Z^T Z)^-1/2
        values, vectors = torch.linalg.eigh(root @ cross.T @ cross @ root)
        values = values.clamp(min=0)
        values = values / values.mean().clamp(min=TINY)
        return factors[:, None] * (root @ (vectors * values.sqrt()) @ vectors.T).float()
    if scale == "explained":
        explained = cross.square().sum(0)
        factors = factors * (explained / explained.mean().clamp(min=TINY)).sqrt()
    return factors
