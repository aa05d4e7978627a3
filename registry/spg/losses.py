"""The loss terms of the paper's Eq. 2 to 4, all exact and at most linear in the number of edges.

Z (n_s, u) spectral coordinates, P (n_s, k) assignments, Â the normalised affinity, L = I - Â.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F

from registry.spg.graphs import RegionGraph

Head = Literal["softmax", "sigmoid"]
Orthogonality = Literal["squared", "paper", "later"]


def spectral(
    graph: RegionGraph, Z: torch.Tensor, mu: float = 1.0, orthogonality: Orthogonality = "squared"
) -> torch.Tensor:
    """L_spe, Eq. 2, of Z (n_s, u) with its columns scaled to unit norm: a scalar.

    `squared` (default): mean over i != j of (z_i^T z_j)^2 + mu (z_i^T L z_j)^2, and the diagonal term that ties Z^T Z
    to I, mean over i of (z_i^T z_i - 1)^2, which is zero unless a column vanishes.
    `paper`: sum over i != j of z_i^T z_j + mu (z_i^T L z_j)^2, as printed; without a square, the first term is
    smallest for opposite columns, not for orthogonal ones.
    `later`: as in the group's later code, mean over all i, j of (z_i^T z_j - [i = j])^2 + mu |z_i^T L z_j|, the second
    over i != j only.
    """
    return spectral_of_products(Z.T @ Z, Z.T @ graph.propagate(Z), mu, orthogonality)


def spectral_of_products(
    gram: torch.Tensor, smooth: torch.Tensor, mu: float = 1.0, orthogonality: Orthogonality = "squared"
) -> torch.Tensor:
    """L_spe, Eq. 2, from Z^T Z and Z^T Â Z, (u, u) each, of columns of any norm: a scalar.

    Their means over several graphs also work. See `spectral` for the terms.
    """
    u = len(gram)
    norm = gram.diagonal().clamp(min=1e-24).rsqrt()  # (u,)
    gram = norm[:, None] * gram * norm
    quadratic = gram - norm[:, None] * smooth * norm  # Z^T L Z
    off = ~torch.eye(u, dtype=torch.bool, device=gram.device)
    if orthogonality == "paper":
        return gram[off].sum() + mu * quadratic[off].square().sum()
    pairs = max(u * (u - 1), 1)
    if orthogonality == "later":
        identity = torch.eye(u, device=gram.device)
        return (gram - identity).square().mean() + mu * quadratic[off].abs().sum() / pairs
    diagonal = (gram.diagonal() - 1).square().mean()
    return (gram[off].square().sum() + mu * quadratic[off].square().sum()) / pairs + diagonal


def clustering(logits: torch.Tensor, target: torch.Tensor, head: Head = "softmax") -> torch.Tensor:
    """L_clu, Eq. 3: binary cross-entropy of P (n_s, k) against the clusters `target` (n_s,) int64, mean over n_s k.

    P is the softmax of `logits` (n_s, k), or their sigmoid. P itself is not computed, as rounding to 0 and 1 would
    leave a confident but wrong node without a gradient.
    """
    if head == "sigmoid":
        log_p, log_not = F.logsigmoid(logits), F.logsigmoid(-logits)
    else:
        log_p = F.log_softmax(logits, 1)
        # log(1 - p): of the largest p of a row, which may be 1, from the other p's
        first = log_p.argmax(1, keepdim=True)
        rest = log_p.scatter(1, first, -torch.inf)
        log_not = torch.log1p(-rest.exp()).scatter(1, first, rest.logsumexp(1, keepdim=True))
    own = target[:, None]
    return -(log_p.gather(1, own).sum() + log_not.sum() - log_not.gather(1, own).sum()) / logits.numel()


def smoothness(graph: RegionGraph, P: torch.Tensor, eta: float = 0.1, nu: float = 0.1) -> torch.Tensor:
    """L_smo, Eq. 4, of P (n_s, k), a scalar: over all n_s^2 pairs in O(edges k), by
    sum (a_ij - eta)(1 - p_i.p_j) = sum a_ij - eta n^2 - sum a_ij p_i.p_j + eta ||sum p_i||^2, p of unit rows.

    The nu term makes the assignments sum to n_s; it vanishes for a softmax head.
    """
    n = graph.n
    p = F.normalize(P, dim=1, eps=1e-12)  # (n_s, k)
    weighted = p * graph.degree.sqrt()[:, None]
    agree = (weighted * graph.propagate(weighted)).sum()  # sum a_ij p_i.p_j, since A = D^1/2 Â D^1/2
    pairs = graph.degree.sum() - eta * n * n - agree + eta * p.sum(0).square().sum()
    return pairs / (n * n) + nu * (P.abs().sum() / n - 1).abs()
