"""Principal directions of node features smoothed by the graph, and the nodes' coordinates along them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from registry.base import expect
from registry.numeric.projection import project
from registry.numeric.threads import single
from registry.spg.graphs import RegionGraph

TINY = 1e-24
SAMPLE = 2000  # nodes


def propagated(graph: RegionGraph, X: torch.Tensor, times: int, walk: bool) -> torch.Tensor:
    """Â^times X, or with `walk` (D^-1 A)^times X: (n_s, c) -> (n_s, c); a node without edges has zeros.

    (D^-1 A)^t = D^-1/2 Â^t D^1/2, so the product is the same.
    """
    length = graph.degree.clamp(min=TINY).sqrt()[:, None] if walk and times else None
    X = X if length is None else X * length
    for _ in range(times):
        X = graph.propagate(X)
    return X if length is None else X / length


def directions(scatter: torch.Tensor, u: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The u largest eigenvalues (u,) of a symmetric (d, d) matrix and their eigenvectors (d, u), in descending order,
    with solver-independent signs; fewer if d is less than u."""
    values, vectors = torch.linalg.eigh((scatter + scatter.T) / 2)
    values, vectors = values.flip(0)[:u], vectors.flip(1)[:, :u]
    return values, vectors * vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()


class Coordinates:
    """Principal coordinates of the nodes' features after several numbers of walks: (n_s, u len(hops)) float32.

    The walk is D^-1 A, the mean over neighbours; a node without edges keeps its features. Each coordinate is divided
    by its deviation over the nodes that it was fitted to, so that all have the same weight.

    u: coordinates for each number of walks. hops: the numbers of walks.
    Fitted, for each of `hops`: `mean_` (h, d), `weights_` (h, d, u), `deviation_` (h, u) float32; the last relative to
    the largest. Coordinates that so few features cannot fill are zero. `sample_` (m, u len(hops)) float32: coordinates
    of `SAMPLE` evenly spaced nodes, or of all if there are fewer; empty if an older state has none.
    """

    def __init__(self, u: int = 24, hops: Sequence[int] = (0, 2, 6)):
        self.u, self.hops = u, tuple(hops)

    # several threads sum parts of a product in an order that depends on their number
    @single(torch.get_num_threads, torch.set_num_threads)
    def fit(self, graphs: Sequence[RegionGraph]) -> Coordinates:
        """Fit to all nodes of the graphs, without labels; the same for any number of threads."""
        means, weights, deviations = [], [], []
        for hops in self.hops:
            d = graphs[0].feature.shape[1]
            total, scatter = torch.zeros(d, dtype=torch.float64), torch.zeros(d, d, dtype=torch.float64)
            for graph in graphs:
                X = _walked(graph, graph.feature, hops).cpu()
                total += X.sum(0, dtype=torch.float64)
                scatter += (X.T @ X).double()
            n = max(sum(graph.n for graph in graphs), 1)
            values, vectors = directions(scatter / n - torch.outer(total, total) / n**2, self.u)
            deviation = values.clamp(min=0).sqrt()
            deviation = torch.where(deviation > 1e-4 * deviation.max(), deviation, 0)
            factor = torch.where(deviation > 0, 1 / deviation.clamp(min=TINY), 0)
            missing = (0, self.u - len(values))
            means.append((total / n).float().numpy())
            weights.append(np.pad((vectors * factor).float().numpy(), ((0, 0), missing)))
            deviations.append(np.pad((deviation / deviation.max().clamp(min=TINY)).float().numpy(), missing))
        self.mean_, self.weights_, self.deviation_ = map(np.stack, (means, weights, deviations))
        points = np.concatenate([self.of(graph) for graph in graphs])
        self.sample_ = points[np.linspace(0, len(points) - 1, min(SAMPLE, len(points))).astype(np.int64)]
        return self

    def of(self, graph: RegionGraph) -> np.ndarray:
        """The coordinates (n_s, u len(hops)) of a graph's nodes, first projected, then propagated."""
        columns = []
        for hops, mean, weights in zip(self.hops, self.mean_, self.weights_):
            m, W = (torch.from_numpy(value).to(graph.device) for value in (mean, weights))
            columns.append(_walked(graph, project(graph.feature - m, W), hops))
        return torch.cat(columns, 1).cpu().numpy()

    def get_state(self) -> dict[str, np.ndarray]:
        """`mean`, `weights`, `deviation`, `sample`."""
        return {"mean": self.mean_, "weights": self.weights_, "deviation": self.deviation_, "sample": self.sample_}

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore the result of `get_state`. Raises ValueError for arrays of other shapes."""
        h = len(self.hops)
        state = {"sample": np.zeros((0, self.u * h), np.float32), **state}
        expect(
            state,
            {"mean": (h, "d"), "weights": (h, "d", self.u), "deviation": (h, self.u), "sample": ("m", self.u * h)},
        )
        if any(array.dtype != np.float32 or not np.isfinite(array).all() for array in state.values()):
            raise ValueError("coordinates are not float32, or not finite")
        self.mean_, self.weights_, self.deviation_ = (np.array(state[key]) for key in ("mean", "weights", "deviation"))
        self.sample_ = np.array(state["sample"])


def _walked(graph: RegionGraph, X: torch.Tensor, hops: int) -> torch.Tensor:
    if not hops:
        return X
    return torch.where(graph.degree[:, None] > 0, propagated(graph, X, hops, walk=True), X)
