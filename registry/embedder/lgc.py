"""Linear graph convolution: the neural spectral embedding of the paper."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from registry.base import Embedder, UserError
from registry.numeric.projection import project
from registry.ranges import NotNegative, Seed, Width, Widths
from registry.spg.graphs import RegionGraph
from registry.spg.losses import Orthogonality, spectral, spectral_of_products
from registry.spg.scaling import Scale, first_scale, graph_scale, scaled, set_scale


class LGC(torch.nn.Module, Embedder):
    """Z^(l+1) = Â Z^(l) W^(l), Z^(0) = F_s, no nonlinearity: 2q -> channels -> u (paper: 384 -> 96 -> 48 -> 12).

    u: spectral coordinates. channels: widths of the hidden layers. bias: off (paper) or on (the group's later code).
    mu, orthogonality: of L_spe (`registry.spg.losses.spectral`).
    Warm-up graphs (`graph.warmup_alpha`) require `columns: graph`; `shared` moments come from the final graphs.
    columns: the nodes over which L_spe computes norms and products of columns. `shared`: those of all training graphs;
    `graph`: those of each graph separately.
    scale: of the clustering's input. `span`: the columns together have the variance of the node features (after the
    hops) that they explain, regardless of the basis of their span, so that weak directions stay weak; `explained`:
    each column separately; `unit`: unit deviation, also over all training graphs; `graph`: unit deviation over the
    nodes of each graph; `none`: the layers' output.
    init: `random`, truncated normal of deviation one, including biases (later code); `pca`, every layer starts as the
    truncation to the leading principal directions of Â^3 F_s over the training graphs.
    seed: of the random start; null: the run's.

    Without bias the layers commute with the propagation, Â(Â X W1) W2 = Â^2 X (W1 W2). So Z = X W with
    X = Â^3 F_s, computed once per training graph, and W = W1 W2 W3; over all training graphs Z^T Z = W^T (X^T X) W and
    Z^T Â Z = W^T (X^T Â X) W follow exactly from two (2q, 2q) matrices. A single pass propagates F_s W instead, on u
    channels. With bias, only `columns: graph` and the scales `graph` and `none` are defined.
    """

    trainable = True
    terms = ("spe",)

    def __init__(
        self,
        *,
        u: Width = 12,
        channels: Widths = [96, 48],
        bias: bool = False,
        mu: NotNegative = 1.0,
        orthogonality: Orthogonality = "squared",
        columns: Literal["shared", "graph"] = "shared",
        scale: Scale = "span",
        init: Literal["random", "pca"] = "random",
        seed: Seed | None = None,
    ):
        super().__init__()
        self.u = u
        self.channels = channels
        self.bias = bias
        self.mu = mu
        self.orthogonality = orthogonality
        self.columns = columns
        self.scale = scale
        self.init = init
        self.seed = seed
        if u < 1 or any(c < 1 for c in channels):
            raise UserError(f"embedder: u = {u} and channels = {channels} must be at least 1")
        if bias and (columns == "shared" or scale not in ("graph", "none")):
            raise UserError("embedder.bias: true needs `columns: graph`, and `scale: graph` or `none`")
        self.weights = torch.nn.ParameterList()
        self.biases = torch.nn.ParameterList()
        self.scale_: torch.Tensor
        self.moments: torch.Tensor
        self.register_buffer("scale_", first_scale(u, scale))  # factors of the columns in `embed`
        self._stale = False  # whether the weights have moved since `scale_` was set
        self.register_buffer("moments", torch.zeros(2, 0, 0), persistent=False)  # X^T X and X^T Â X per node

    @property
    def takes_tensors(self) -> bool:  # type: ignore[override]  # an attribute where it is constant
        return self.scale != "graph"

    @property
    def layers(self) -> int:
        """Number of linear layers, and thus of propagations of F_s."""
        return len(self.channels) + 1

    def _create(self, d: int) -> None:
        widths = [d, *self.channels, self.u]
        self.weights = torch.nn.ParameterList([torch.zeros(a, b) for a, b in itertools.pairwise(widths)])
        self.biases = torch.nn.ParameterList([torch.zeros(b) for b in widths[1:]] if self.bias else [])

    def fit(self, graphs: Sequence[RegionGraph]) -> None:
        width = graphs[0].feature.shape[1]
        self._create(width)
        generator = torch.Generator().manual_seed(self.seed or 0)
        nodes = sum(graph.n for graph in graphs)
        with torch.no_grad():
            zero = torch.zeros(2, width, width, device=graphs[0].device)
            self.moments = sum(
                (
                    torch.stack([X.T @ X, X.T @ graph.propagate(X)]) / nodes
                    for graph in graphs
                    for X in [graph.hop(self.layers)]
                ),
                zero,
            )
            if self.init == "pca":
                self._start_at_principal_directions()
            else:
                for parameter in (*self.weights, *self.biases):
                    torch.nn.init.trunc_normal_(parameter, generator=generator)
        self.to(graphs[0].device)
        self._rescale()

    def _start_at_principal_directions(self) -> None:
        _, vectors = torch.linalg.eigh(self.moments[0].double().cpu())
        vectors = vectors.flip(1).float()  # (2q, 2q), largest variance first
        vectors = (
            vectors * vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
        )  # signs independent of the solver
        for layer, W in enumerate(self.weights):
            start = vectors if layer == 0 else torch.eye(W.shape[0])
            kept = min(start.shape[1], W.shape[1])
            W.zero_()
            W[:, :kept] = start[:, :kept]
            W /= W.square().mean().sqrt()

    def _linear(self) -> torch.Tensor:
        """W1 W2 ... (2q, u)."""
        product = self.weights[0]
        for W in self.weights[1:]:
            product = product @ W
        return product

    @property
    def loss_uses_Z(self) -> bool:  # type: ignore[override]  # an attribute where it is constant
        return self.columns == "graph"  # otherwise the moments suffice

    @torch.no_grad()
    def _rescale(self) -> None:
        """Update the scale for the weights: columns are z = X w, so that z^T z = w^T M w and X^T z = M w, M = X^T X."""
        self._stale = False
        if self.scale in ("graph", "none"):
            return
        W = self._linear()  # (2q, u)
        MW = self.moments[0] @ W
        self.scale_ = set_scale(W.T @ MW, MW, self.scale)

    def coordinates(self, graph: RegionGraph) -> torch.Tensor:
        """Z (n_s, u) before scaling."""
        if self.training and not self.bias:
            return graph.hop(self.layers) @ self._linear()
        if not self.bias:
            W = self.weights[-1]
            for V in reversed(self.weights[:-1]):  # from the narrow end, with a quarter of the products
                W = V @ W
            X = project(graph.feature, W)
            for _ in range(self.layers):
                X = graph.propagate(X)
            return X
        X = graph.feature
        for W, b in zip(self.weights, self.biases):
            X = graph.propagate(X @ W) + b
        return X

    def embed(self, graph: RegionGraph) -> torch.Tensor:
        if self._stale:
            self._rescale()
        Z = self.coordinates(graph)
        return scaled(Z, graph_scale(Z) if self.scale == "graph" else self.scale_)

    def loss(self, graph: RegionGraph, Z: torch.Tensor | None) -> dict[str, torch.Tensor]:
        if self.columns == "graph":
            assert Z is not None  # see `loss_uses_Z`
            Z = self.coordinates(graph) if self.scale == "span" else Z  # the unmixed columns
            return {"spe": spectral(graph, Z, self.mu, self.orthogonality)}
        W = self._linear()
        gram, smooth = W.T @ self.moments[0] @ W, W.T @ self.moments[1] @ W  # (u, u)
        return {"spe": spectral_of_products(gram, smooth, self.mu, self.orthogonality)}

    def after_step(self, step: int, graph: RegionGraph, Z: torch.Tensor | None) -> None:
        self._stale = True  # most warm-up iterations need no Z

    def get_state(self) -> dict[str, np.ndarray]:
        if self._stale:
            self._rescale()
        return {name: value.detach().cpu().numpy() for name, value in self.state_dict().items()}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        self._create(state["weights.0"].shape[0])
        self.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state.items()})
