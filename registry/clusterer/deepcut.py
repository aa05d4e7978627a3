"""A small graph network trained on each graph separately, by the cut of its clusters (DeepCut, Aflalo et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import elu

from registry.base import Clusterer, UserError, expect
from registry.numeric.memory import check_pairs
from registry.ranges import AboveOne, Count, Positive, Rate, Seed, Share, Width
from registry.spg.graphs import RegionGraph


class DeepCut(Clusterer):
    """Z (n_s, u) -> P (n_s, k), rows of a softmax, by a network that `predict` trains on that graph alone.

    F (n_s, q) are the node features: Z or half of it. One graph convolution of F (symmetric normalisation,
    self-loops; weights are the positive entries of W), ReLU for `ncut` or ELU for `cc`, ELU, linear, ELU, dropout,
    linear, softmax: S (n_s, k).

    cut: `ncut`, W = max(F F^T, 0) / max, and the loss is the relaxed normalised cut of MinCutPool,
            -Tr(S^T W S) / Tr(S^T D S) + || S^T S / ||S^T S||_F - I / ||I||_F ||_F,  D the row sums of W;
        `cc`, W = F F^T - max / alpha, and the loss is that of correlation clustering, -sum_ij W_ij (S S^T)_ij, for
            which similar nodes belong together and others apart, so that clusters may stay empty.
    k: clusters, for `cc` the maximal number. alpha: of `cc`, above 1; larger values give fewer clusters.
    hidden, mlp_hidden: width of the convolution and of the layer after it. dropout: of the latter. lr: of AdamW.
    epochs: steps on each graph.
    channels: `mean`, the first half of Z's channels: they correspond to the code's single feature vector per patch; the
    other half, deviations within the patch, is added by the spG. `all`, for other kinds of features.
    An odd number of channels is always used in full.
    length: scale each node's features to this length; null: do not. Nodes then differ only in direction, and no single
    long vector determines the largest similarity, and with it the threshold of `cc`.

    Every graph starts from the same random weights, drawn in `fit`; nothing else makes clusters correspond between
    images. `fit` raises UserError if no training graph has k nodes. Fitted: `weights_`, tensors by name.

    Source: the paper's code, including sizes and rates, which uses unscaled DINO keys as features. Unscaled MAE tokens
    all point in nearly the same direction (cosines above .9), so that no cut is worthwhile and all nodes become one
    cluster; use `graph.standardize: set` and a `length`. The code's single stage has 10 epochs, its second one 100.
    Measured on the phantom by the losses alone, without labels: of the decrease from the first step to 300 epochs,
    `ncut` reaches 17 % after 10 and 94 % after 100, `cc` 60 % and 97 %. With shorter features (14, the deviation 1 of
    192 channels), `ncut` stays on its initial plateau for some hundred epochs, with every node spread equally over all
    clusters. The code reads clusters from the last step, with dropout; here they are read after it, without.
    """

    def __init__(
        self,
        *,
        cut: Literal["ncut", "cc"] = "ncut",
        k: Count = 8,
        alpha: AboveOne = 3.0,
        hidden: Width = 64,
        mlp_hidden: Width = 32,
        dropout: Share = 0.25,
        epochs: Count = 100,
        lr: Rate = 1e-3,
        channels: Literal["mean", "all"] = "mean",
        length: Positive | None = 100.0,
        seed: Seed | None = None,
    ):
        self.cut = cut
        self.k = k
        self.alpha = alpha
        self.hidden = hidden
        self.mlp_hidden = mlp_hidden
        self.dropout = dropout
        self.epochs = epochs
        self.lr = lr
        self.channels = channels
        self.length = length
        self.seed = seed
        for name in ("k", "hidden", "mlp_hidden", "epochs"):
            if getattr(self, name) < 1:
                raise UserError(f"clusterer.{name}: {getattr(self, name)} must be at least 1")
        if not 1 < alpha < np.inf:
            raise UserError(f"clusterer.alpha: {alpha} must be above 1, or no two nodes are similar")
        if not 0 <= dropout < 1:
            raise UserError(f"clusterer.dropout: {dropout} must be at least 0 and below 1")
        for name, value in (("lr", lr), ("length", 1 if length is None else length)):
            if not 0 < value < np.inf:
                raise UserError(f"clusterer.{name}: {value} must be above 0")

    def fit(self, graphs: Sequence[RegionGraph], embeddings: Sequence[Tensor]) -> None:
        largest = max((len(Z) for Z in embeddings), default=0)
        if largest < self.k:
            raise UserError(
                f"clusterer.k: {self.k} is larger than the {largest} nodes of the largest training graph; "
                "lower it, or use finer regions or larger images"
            )
        self.weights_ = self._draw(self._features(embeddings[0]).shape[1])

    def predict(self, graph: RegionGraph, Z: Tensor) -> Tensor:
        if len(Z) == 0:
            return torch.zeros(0, self.k, device=Z.device)
        return self.optimise(Z)[0]

    def optimise(self, Z: Tensor) -> tuple[Tensor, list[float]]:
        """P (n_s, k) of one graph's Z, and the loss before each step."""
        with torch.inference_mode(False), torch.enable_grad():
            X, loss = self._prepare(self._features(Z).clone())
            weights = {name: w.to(X.device, copy=True).requires_grad_() for name, w in self.weights_.items()}
            optimiser = torch.optim.AdamW(weights.values(), lr=self.lr)
            generator = torch.Generator().manual_seed(self.seed or 0)
            losses = []
            for _ in range(self.epochs):
                kept = torch.rand(len(X), self.mlp_hidden, generator=generator) >= self.dropout
                value = loss(self._forward(weights, X, kept.to(X) / (1 - self.dropout)))
                optimiser.zero_grad()
                value.backward()
                optimiser.step()
                losses.append(value.detach())
        with torch.no_grad():
            return self._forward(weights, X, 1), torch.stack(losses).tolist()

    def get_state(self) -> dict[str, np.ndarray]:
        return {name: w.numpy().copy() for name, w in self.weights_.items()} if hasattr(self, "weights_") else {}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        if state:
            expect(state, {name: tuple(w.shape) for name, w in self._draw(len(state["conv.weight"])).items()})
            self.weights_ = {name: torch.from_numpy(np.array(w)) for name, w in state.items()}

    def _features(self, Z: Tensor) -> Tensor:
        """F (n_s, q)."""
        F = Z.detach().float()
        if self.channels == "mean" and F.shape[1] % 2 == 0:
            F = F[:, : F.shape[1] // 2]
        return F if self.length is None else self.length * torch.nn.functional.normalize(F, dim=1)

    def _draw(self, q: int) -> dict[str, Tensor]:
        """Initial weights for q channels, from the usual distributions for such layers."""
        generator = torch.Generator().manual_seed(self.seed or 0)

        def uniform(bound: float, *shape: int) -> Tensor:
            return (2 * torch.rand(*shape, generator=generator) - 1) * bound

        outer, inner = self.hidden**-0.5, self.mlp_hidden**-0.5
        return {
            "conv.weight": uniform((6 / (q + self.hidden)) ** 0.5, q, self.hidden),
            "conv.bias": torch.zeros(self.hidden),
            "linear.weight": uniform(outer, self.hidden, self.mlp_hidden),
            "linear.bias": uniform(outer, self.mlp_hidden),
            "scores.weight": uniform(inner, self.mlp_hidden, self.k),
            "scores.bias": uniform(inner, self.k),
        }

    def _forward(self, weights: dict[str, Tensor], X: Tensor, kept: Tensor | int) -> Tensor:
        """S (n_s, k) from the propagated features X (n_s, q); kept: (n_s, mlp_hidden) factors of dropout, or 1."""
        X = X @ weights["conv.weight"] + weights["conv.bias"]  # (n_s, hidden)
        X = elu(X.relu() if self.cut == "ncut" else elu(X))
        X = elu(X @ weights["linear.weight"] + weights["linear.bias"]) * kept
        return (X @ weights["scores.weight"] + weights["scores.bias"]).softmax(1)

    def _prepare(self, F: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Prepare training on F (n_s, q): the features propagated over the graph, and the loss of S (n_s, k).

        The convolution is linear and F fixed, so F is propagated once rather than in each step. Similarities are
        relative to the largest, which affects neither the convolution nor AdamW.
        """
        n = len(F)
        check_pairs("clusterer: deepcut", n, 4, "use larger cells or superpixels, or a smaller data.fov", str(F.device))
        largest = float(F.square().sum(1).max())  # of F F^T: no product exceeds the larger of two squared lengths
        if not np.isfinite(largest):
            raise UserError("deepcut got NaN or infinite features: check the images for NaN pixels")
        largest = largest or 1.0
        G = F / largest**0.5
        W = G @ G.T  # (n_s, n_s)
        if self.cut == "cc":
            W -= 1 / self.alpha
        negative = float(W.min()) < 0
        W.clamp_(min=0)
        degree = W.sum(1)
        loops = W.diagonal()
        missing = torch.where(loops > 0, 0.0, 1.0 if self.cut == "ncut" else 1 / largest)  # a loop of 1, see units
        scale = (degree + missing).rsqrt()[:, None]
        X = scale * (W @ (scale * F) + missing[:, None] * (scale * F))
        if self.cut == "cc":
            return X, lambda S: correlation(S, G, self.alpha)
        return X, lambda S: normalised_cut(S, degree, W if negative else None, G)


def normalised_cut(S: Tensor, degree: Tensor, W: Tensor | None, G: Tensor) -> Tensor:
    """Loss `ncut` of S (n, k): W (n, n) with row sums `degree` (n,), or None where W = G G^T, G (n, q)."""
    if W is None:
        inside = (S.T @ G).square().sum()
    else:
        fixed = S.detach()
        WS = W @ fixed  # W is symmetric: 2 W S is the gradient, which needs no second product
        inside = (fixed * WS).sum() + 2 * ((S - fixed) * WS).sum()
    whole = (degree * S.square().sum(1)).sum()
    sizes, identity = S.T @ S, torch.eye(S.shape[1], device=S.device)
    balance = torch.linalg.norm(sizes / torch.linalg.norm(sizes) - identity / S.shape[1] ** 0.5)
    return balance - inside / whole.clamp(1e-12)


def correlation(S: Tensor, G: Tensor, alpha: float) -> Tensor:
    """Loss `cc` of S (n, k) for W = G G^T - 1 / alpha, negative entries included; a mean over all pairs."""
    return (S.sum(0).square().sum() / alpha - (S.T @ G).square().sum()) / len(S) ** 2
