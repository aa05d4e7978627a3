"""Linear graph convolution: the neural spectral embedding of the paper."""
from __future__ import annotations

from typing import Literal, Sequence

import numpy as np
import torch

from registry.base import Embedder, UserError
from registry.graphs import RegionGraph
from registry.losses import spectral


MEMORY = 100


class LGC(torch.nn.Module, Embedder):
    """Z^(l+1) = Â Z^(l) W^(l), Z^(0) = F_s, no nonlinearity: 2q -> channels -> u (paper: 384 -> 96 -> 48 -> 12).

    u: spectral coordinates. channels: widths between. bias: off (paper) or on (the group's later code).
    mu, orthogonality: of L_spe (`registry.losses.spectral`).
    init: `pca`, the product of the weights starts as the u principal directions of Â^3 F_s over the training
        graphs; `random`, truncated normal.
    scale: what the clustering sees. `spectrum`: each column keeps the deviation that it started with, over all
        training graphs, so that strong directions stay strong; `shared`: unit deviation over all training graphs;
        `graph`: unit deviation over the nodes of each graph; `none`: as the layers give it.

    seed: of the random start; null: the run's.

    Without bias the layers commute with the propagation, Â(Â X W1) W2 = Â^2 X (W1 W2), so that training on the same
    graphs needs Â^3 F_s only once for each of them, while a single pass propagates after each W, on fewer channels.
    """

    trainable = True

    def __init__(self, *, u: int = 12, channels: list[int] = [96, 48], bias: bool = False, mu: float = 1.0,
                 orthogonality: Literal["squared", "paper"] = "squared", init: Literal["pca", "random"] = "pca",
                 scale: Literal["spectrum", "shared", "graph", "none"] = "spectrum", seed: int | None = None):
        super().__init__()
        self.u = u
        self.channels = channels
        self.bias = bias
        self.mu = mu
        self.orthogonality = orthogonality
        self.init = init
        self.scale = scale
        self.seed = seed
        if u < 1 or any(c < 1 for c in channels):
            raise UserError(f"embedder: u = {u} and channels = {channels} must be at least 1")
        self.weights = torch.nn.ParameterList()
        self.biases = torch.nn.ParameterList()
        self.register_buffer("square_", torch.ones(u))  # mean square of each column over the training graphs
        self.register_buffer("start_", torch.ones(u))  # the same at the start

    @property
    def layers(self) -> int:
        return len(self.channels) + 1

    def _create(self, d: int) -> None:
        widths = [d, *self.channels, self.u]
        self.weights = torch.nn.ParameterList([torch.zeros(a, b) for a, b in zip(widths, widths[1:])])
        self.biases = torch.nn.ParameterList([torch.zeros(b) for b in widths[1:]] if self.bias else [])

    def fit(self, graphs: Sequence[RegionGraph]) -> None:
        self._create(graphs[0].feature.shape[1])
        generator = torch.Generator().manual_seed(self.seed or 0)
        with torch.no_grad():
            for W in self.weights:
                torch.nn.init.trunc_normal_(W, std=W.shape[0] ** -0.5, generator=generator)
            if self.init == "pca":
                self._start_at_principal_directions(graphs)
        self.to(graphs[0].device)
        with torch.no_grad():
            self.square_ = (sum(self.coordinates(graph).square().sum(0) for graph in graphs)
                            / sum(graph.n for graph in graphs))
            self.start_ = self.square_.clone()

    def _start_at_principal_directions(self, graphs: Sequence[RegionGraph]) -> None:
        moment = sum((graph.hop(self.layers).T @ graph.hop(self.layers)).double().cpu() for graph in graphs)
        _, vectors = torch.linalg.eigh(moment / sum(graph.n for graph in graphs))
        best = vectors[:, -self.u:].flip(1).float()  # (2q, at most u), largest first
        best = best * best.gather(0, best.abs().argmax(0, keepdim=True)).sign()  # a sign that no solver chooses
        width = min(best.shape[1], *(W.shape[1] for W in self.weights))
        self.weights[0][:, :width] = best[:, :width]
        for W in self.weights[1:]:
            W[:, :width] = 0
            W[:width, :width] = torch.eye(width)

    def _linear(self) -> torch.Tensor:
        """W1 W2 ... (2q, u)."""
        product = self.weights[0]
        for W in self.weights[1:]:
            product = product @ W
        return product

    def coordinates(self, graph: RegionGraph) -> torch.Tensor:
        """Z (n_s, u) before scaling."""
        if self.training and not self.bias:
            return graph.hop(self.layers) @ self._linear()
        X = graph.feature
        for layer, W in enumerate(self.weights):
            X = graph.propagate(X @ W)
            if self.bias:
                X = X + self.biases[layer]
        return X

    def embed(self, graph: RegionGraph) -> torch.Tensor:
        Z = self.coordinates(graph)
        if self.scale == "graph":
            return Z / Z.square().mean(0).sqrt().clamp(min=1e-12)
        return Z * self._factor()

    def loss(self, graph: RegionGraph, Z: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"spe": spectral(graph, Z, self.mu, self.orthogonality)}

    @torch.no_grad()
    def after_step(self, step: int, graph: RegionGraph, Z: torch.Tensor) -> None:
        """Let the shared deviation of each column follow the weights, over the last `MEMORY` graphs or so."""
        if self.scale in ("spectrum", "shared"):
            here = (Z / self._factor()).square().mean(0)
            self.square_ += (here - self.square_) / MEMORY

    def _factor(self) -> torch.Tensor:
        """What `embed` multiplies the columns with, (u,)."""
        if self.scale == "none":
            return torch.ones_like(self.square_)
        wanted = self.start_ if self.scale == "spectrum" else torch.ones_like(self.square_)
        return (wanted / self.square_.clamp(min=1e-24)).sqrt()

    def get_state(self) -> dict[str, np.ndarray]:
        return {name: value.detach().cpu().numpy() for name, value in self.state_dict().items()}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        self._create(state["weights.0"].shape[0])
        self.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state.items()})
