"""The common base of heads that learn from a few labelled nodes: coordinates, and the stored labelled nodes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from registry.base import Clusterer, UserError
from registry.spg.graphs import RegionGraph
from registry.spg.principal import Coordinates


class SparseHead(Clusterer):
    """Z (n_s, u) -> P (n_s, k), fitted to a few labelled nodes among many; cluster i is class i of the data set.

    Instead of Z, nodes are represented by their own coordinates (`registry.spg.principal.Coordinates`) after 0, 2 and 6
    walks: the first show small structures, the last large ones. A node with labelled pixels counts as their most
    frequent class. All classes have the same weight, regardless of the number of their nodes. Columns of unlabelled
    classes stay zero.

    `fit` starts over: its graphs, labelled or not, determine the coordinates. `partial_fit` adds labelled nodes; a node
    that is labelled again takes the new class. Interactive labelling uses the individual steps: `points` of a graph's
    nodes do not depend on labels, `learn` takes all labelled points at once, `judge` classifies points.

    Fitted: `coordinates_`; `points_` (N, d) float32, `classes_` (N,) int64, the labelled nodes.
    """

    supervised = True
    per_class = True
    coordinates: int
    k: int
    seed: int | None = None
    hops: tuple[int, ...] = (0, 2, 6)

    def _check(self) -> None:
        for name in ("k", "coordinates"):
            if getattr(self, name) < 1:
                raise UserError(f"clusterer.{name}: {getattr(self, name)} must be at least 1")

    def fit(  # type: ignore[override]  # a supervised part also gets labels
        self, graphs: Sequence[RegionGraph], embeddings: Sequence[torch.Tensor], labels: Sequence[np.ndarray]
    ) -> None:
        """labels: for each graph (n_s, C) int, the pixels of each class in each node; rows of zeros if unlabelled."""
        if (n := sum(graph.n for graph in graphs)) < self.k:
            raise UserError(f"clusterer.k: {self.k} is larger than the {n} training nodes; lower it")
        self.begin_with(graphs)
        self.partial_fit(graphs, embeddings, labels)

    def begin_with(self, graphs: Sequence[RegionGraph]) -> None:
        """Fit the coordinates to the nodes of these graphs, and forget all labels."""
        self.coordinates_ = Coordinates(self.coordinates, self.hops).fit(graphs)
        d = self.coordinates * len(self.hops)
        self.points_, self.classes_ = np.zeros((0, d), np.float32), np.zeros(0, np.int64)

    def partial_fit(
        self, graphs: Sequence[RegionGraph], embeddings: Sequence[torch.Tensor], labels: Sequence[np.ndarray]
    ) -> None:
        """Also learn from the labelled nodes of these graphs; arguments as for `fit`, which must come first."""
        found, classes = [self.points_], [self.classes_]
        for graph, counts in zip(graphs, labels):
            if counts.shape[1] > self.k:
                raise UserError(f"clusterer.k: {self.k} is less than the data's {counts.shape[1]} classes; increase it")
            if (seen := counts.sum(1) > 0).any():
                found.append(self.points(graph)[seen])
                classes.append(counts[seen].argmax(1))
        self.learn(np.concatenate(found), np.concatenate(classes))

    def points(self, graph: RegionGraph) -> np.ndarray:
        """Coordinates (n_s, d) float32 of a graph's nodes, labelled or not."""
        return self.coordinates_.of(graph)

    def learn(self, points: np.ndarray, classes: np.ndarray) -> None:
        """Fit to exactly these labelled points (N, d) float32 of classes (N,) int64. If a point occurs more than once,
        its last class counts. Raises UserError if there are none."""
        if not len(points):
            raise UserError("data.train: this part needs labels, but no training node has any; add labels")
        _, last = np.unique(points[::-1], axis=0, return_index=True)
        kept = np.sort(len(points) - 1 - last)
        self.points_, self.classes_ = points[kept], classes[kept]
        self._learn(self.points_, self.classes_)

    def judge(self, points: np.ndarray) -> np.ndarray:
        """P (n, k) float32 of points (n, d), each independently."""
        P = np.zeros((len(points), self.k), np.float32)
        classes = np.unique(self.classes_)
        if len(classes) == 1:
            P[:, classes] = 1
        elif len(points):
            P[:] = self._judge(points)
        return P

    def settle(self, graph: RegionGraph, points: np.ndarray, P: np.ndarray) -> np.ndarray:
        """P (n_s, k) of a graph's nodes with regard to their neighbours, given `judge`'s P for their `points`."""
        return P

    def predict(self, graph: RegionGraph, Z: torch.Tensor) -> torch.Tensor:
        points = self.points(graph)
        return torch.from_numpy(self.settle(graph, points, self.judge(points))).to(Z.device)

    def _learn(self, X: np.ndarray, y: np.ndarray) -> None:
        """Fit to points X (N, d) of classes y (N,); with a single class, `_judge` is not called."""
        raise NotImplementedError

    def _judge(self, X: np.ndarray) -> np.ndarray:
        """P (n, k) of points (n, d)."""
        raise NotImplementedError

    def _own_state(self) -> dict[str, np.ndarray]:
        """State made by `_learn`."""
        raise NotImplementedError

    def _set_own_state(self, state: dict[str, np.ndarray], d: int) -> None:
        """Restore the result of `_own_state`, for points of d coordinates. Raises ValueError for anything else."""
        raise NotImplementedError

    def get_state(self) -> dict[str, np.ndarray]:
        if not hasattr(self, "points_"):
            return {}
        made = {f"head.{name}": value for name, value in self._own_state().items()} if len(self.points_) else {}
        coordinates = {f"coordinates.{name}": value for name, value in self.coordinates_.get_state().items()}
        return {"points": self.points_, "classes": self.classes_, **coordinates, **made}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        if not state:
            return
        coordinates = Coordinates(self.coordinates, self.hops)
        coordinates.set_state(below("coordinates.", state))
        points, classes, d = state["points"], state["classes"], self.coordinates * len(self.hops)
        if points.shape != (len(classes), d) or points.dtype != np.float32 or classes.dtype != np.int64:
            raise ValueError(f"points {points.shape} and classes {classes.shape} do not belong together")
        if len(classes) and not 0 <= classes.min() <= classes.max() < self.k:
            raise ValueError(f"classes: not all within 0 to {self.k - 1}")
        self.coordinates_, self.points_, self.classes_ = coordinates, np.array(points), np.array(classes)
        if len(points):
            self._set_own_state(below("head.", state), d)


def balanced(classes: np.ndarray) -> np.ndarray:
    """Weights (N,) float64 that give every class the same sum; their mean is 1."""
    _, at, count = np.unique(classes, return_inverse=True, return_counts=True)
    return len(classes) / (len(count) * count[at].astype(np.float64))


def shares(P: np.ndarray, least: float, rounds: int = 30) -> np.ndarray:
    """Shares (C,) of the classes among points, from the P (n, C) of a head that treats all classes alike.

    By expectation maximisation (Saerens et al. 2002), none below `least`.
    """
    found = np.full(P.shape[1], 1 / P.shape[1])
    for _ in range(rounds):
        weighed = P * found
        found = np.maximum((weighed / np.maximum(weighed.sum(1, keepdims=True), 1e-12)).mean(0), least)
    return found


def below(prefix: str, state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays whose names start with `prefix`, with the prefix removed."""
    return {name.removeprefix(prefix): np.array(value) for name, value in state.items() if name.startswith(prefix)}
