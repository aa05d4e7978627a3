"""How wide the columns of an embedding are: factors for the columns of Z (n_s, u) before anything clusters them."""

from __future__ import annotations

from typing import Literal

import torch

TINY = 1e-24

Scale = Literal["explained", "unit", "graph", "none"]


def graph_scale(Z: torch.Tensor) -> torch.Tensor:
    """Factors (u,) that give each column of Z (n_s, u) unit deviation over the nodes of this one graph."""
    return Z.square().mean(0).clamp(min=TINY).rsqrt()


def set_scale(square: torch.Tensor, cross: torch.Tensor, scale: Scale) -> torch.Tensor:
    """Factors (u,) for `scale: unit` or `explained`, from means over the nodes of all training graphs.

    square: (u,), of z^2 for each column z. cross: (d, u), X^T Z, with the node features X (n, d) that the columns come
    from. `unit`: unit deviation. `explained`: the deviation of X that the column explains, ||X^T z|| / ||z||, relative
    to the root of the mean square over all columns, so that weak directions stay weak.
    """
    square = square.clamp(min=TINY)
    factors = square.rsqrt()
    if scale == "explained":
        explained = cross.square().sum(0) / square
        factors = factors * (explained / explained.mean().clamp(min=TINY)).sqrt()
    return factors
