"""Linear graph convolution along the directions of highest variance preserved by the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field

from registry.base import Embedder, UserError, expect
from registry.numeric.projection import project
from registry.ranges import Width
from registry.spg.graphs import RegionGraph
from registry.spg.principal import directions, propagated

Hops = Annotated[int, Field(ge=0, le=1000)]


class LGCPrincipal(Embedder):
    """Z = Â^hops (F_s - m) W, (n_s, u): the paper's linear graph convolution, with another constraint on W.

    L_spe seeks directions that vary little along edges, and fixes the norm of the columns of Z: a direction of low
    variance, mostly noise, is amplified until it counts as much as any other. Here the norm of the directions is
    fixed instead: with X = Â^hops (F_s - m) of all training nodes,

        W = argmax Tr(W^T X^T Â X W),  W^T W = I

    so that a column counts by its variance, less what the graph removes: w^T X^T Â X w is the variance along w times
    one minus its Rayleigh quotient. The maximum is exact, from one (2q, 2q) eigenproblem for the whole training set
    (the trace form of spectral clustering, restricted to linear maps as in He & Niyogi 2003, with the constraint of
    PCA). No single image, in training or later, requires an eigenproblem.

    u: spectral coordinates. hops: propagations.
    normalisation: of the propagation. `symmetric`: Â = D^-1/2 A D^-1/2, as in the paper. `walk`: D^-1 A, the mean over
    neighbours; Â instead gives nodes with many neighbours long features and those with few short ones, regardless
    of their content. X is then propagated by D^-1 A hops times, and W are its
    principal directions: those of highest remaining variance.
    `embed` projects before it propagates, on u channels.

    Fitted: `mean_` (2q,), `weights_` (2q, u) float32, columns by descending share of the trace; `share_` (u,).
    """

    takes_tensors = True

    def __init__(self, *, u: Width = 12, hops: Hops = 4, normalisation: Literal["symmetric", "walk"] = "symmetric"):
        self.u = u
        self.hops = hops
        self.normalisation = normalisation
        if u < 1 or hops < 0:
            raise UserError(f"embedder: u = {u} must be at least 1 and hops = {hops} at least 0")

    def fit(self, graphs: Sequence[RegionGraph]) -> None:
        width, nodes = graphs[0].feature.shape[1], sum(graph.n for graph in graphs)
        zero = torch.zeros(width, dtype=torch.float64, device=graphs[0].device)
        mean = sum((graph.feature.sum(0, dtype=torch.float64) for graph in graphs), zero) / max(nodes, 1)
        kept = torch.zeros(width, width, dtype=torch.float64)  # X^T Â X; walk: the covariance of X, times its nodes
        walk, total = self.normalisation == "walk", torch.zeros(width, dtype=torch.float64)
        for graph in graphs:
            X = self._propagated(graph, graph.feature - mean.float(), self.hops)
            kept += (X.T @ (X if walk else graph.propagate(X))).double().cpu()
            total += X.sum(0, dtype=torch.float64).cpu()
        if walk:
            kept -= torch.outer(total, total) / max(nodes, 1)
        values, vectors = directions(kept, self.u)
        missing = max(self.u - width, 0)  # coordinates that so few features cannot fill stay zero
        self.mean_ = mean.float().cpu().numpy()
        # in the order of a loaded array: on some processors, products depend on it in their last bits
        self.weights_ = np.ascontiguousarray(np.pad(vectors.float().numpy(), ((0, 0), (0, missing))))
        self.share_ = np.pad((values.clamp(min=0) / kept.trace().clamp(min=1e-30)).float().numpy(), (0, missing))

    def embed(self, graph: RegionGraph) -> torch.Tensor:
        mean, W = (torch.from_numpy(value).to(graph.device) for value in (self.mean_, self.weights_))
        return self._propagated(graph, project(graph.feature, W) - mean @ W, self.hops)

    def _propagated(self, graph: RegionGraph, X: torch.Tensor, times: int) -> torch.Tensor:
        return propagated(graph, X, times, self.normalisation == "walk")

    def get_state(self) -> dict[str, np.ndarray]:
        if not hasattr(self, "weights_"):
            return {}
        return {"mean": self.mean_, "weights": self.weights_, "share": self.share_}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        if state:
            expect(state, {"mean": ("d",), "weights": ("d", self.u), "share": (self.u,)})
        for name, value in state.items():
            setattr(self, f"{name}_", np.array(value))
