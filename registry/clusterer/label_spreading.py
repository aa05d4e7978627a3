"""A few labels spread along the edges of the spG: correct and smooth."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from registry.clusterer.sparse import SparseHead, below
from registry.clusterer.sparse_logistic import SparseLogistic
from registry.clusterer.sparse_trees import SparseTrees
from registry.ranges import Count, Positive, Seed, Share, Width
from registry.spg.graphs import RegionGraph
from registry.spg.principal import propagated


class LabelSpreading(SparseHead):
    """Z (n_s, u) -> P (n_s, k) by other heads, corrected and smoothed along the edges (Huang et al. 2021).

    The others are logistic regression and trees. Few labels suit the first, many the second: with n labelled nodes a
    class, the shares of their say are m to n, m = `even`.

    With W = D^-1 A, the mean over neighbours: what is wrong at labelled nodes, E_0, is spread by
    E <- correct W E + (1 - correct) E_0 and added, then P <- smooth W P + (1 - smooth) P_0. Labelled nodes are known
    again by their coordinates; in an image without any only the second step does something. What all such heads have in
    common is told in `registry.clusterer.sparse`.

    k: room for classes. coordinates: of each node, after each number of walks. base: `both`, or `trees` or `logistic`
        alone. even: labelled nodes a class at which both have the same say. trees: of the forest. C: inverse strength
        of the penalty of logistic regression. correct, smooth: share of the neighbours. steps: of either.
    """

    def __init__(
        self,
        *,
        k: Count = 8,
        coordinates: Width = 24,
        base: Literal["both", "trees", "logistic"] = "both",
        even: Positive = 5.0,
        trees: Count = 100,
        C: Positive = 1.0,
        correct: Share = 0.5,
        smooth: Share = 0.5,
        steps: Count = 6,
        seed: Seed | None = None,
    ):
        self.k = k
        self.coordinates = coordinates
        self.base = base
        self.even = even
        self.trees = trees
        self.C = C
        self.correct = correct
        self.smooth = smooth
        self.steps = steps
        self.seed = seed
        self._check()

    def _others(self) -> dict[str, tuple[SparseHead, float]]:
        """The other heads, not fitted yet, and the shares of their say."""
        n = len(self.classes_) / len(np.unique(self.classes_))
        logistic = {"both": self.even / (self.even + n), "trees": 0.0, "logistic": 1.0}[self.base]
        heads: dict[str, tuple[SparseHead, float]] = {
            "logistic": (SparseLogistic(k=self.k, coordinates=self.coordinates, C=self.C), logistic),
            "trees": (
                SparseTrees(k=self.k, coordinates=self.coordinates, trees=self.trees, seed=self.seed),
                1 - logistic,
            ),
        }
        for head, _ in heads.values():
            head.coordinates_ = self.coordinates_
        return {name: (head, share) for name, (head, share) in heads.items() if share}

    def _learn(self, X: np.ndarray, y: np.ndarray) -> None:
        self._fitted = self._others()
        for head, _ in self._fitted.values():
            head._learn(X, y)

    def _judge(self, X: np.ndarray) -> np.ndarray:
        parts = [np.float32(share) * head._judge(X) for head, share in self._fitted.values()]
        return np.sum(parts, axis=0)

    def settle(self, graph: RegionGraph, points: np.ndarray, P: np.ndarray) -> np.ndarray:
        known = {point.tobytes(): c for point, c in zip(self.points_, self.classes_)}
        classes = np.array([known.get(point.tobytes(), -1) for point in points], np.int64)
        labelled = torch.from_numpy(classes >= 0)
        start = torch.from_numpy(P)
        if bool(labelled.any()):
            truth = torch.eye(self.k)[torch.from_numpy(classes[classes >= 0])]
            wrong = torch.zeros_like(start)
            wrong[labelled] = truth - start[labelled]
            start = (start + self._spread(graph, wrong, self.correct)).clamp(min=0)
            start[labelled] = truth
        P_ = self._spread(graph, start, self.smooth).clamp(min=0)
        return (P_ / P_.sum(1, keepdim=True)).numpy()

    def _spread(self, graph: RegionGraph, start: torch.Tensor, share: float) -> torch.Tensor:
        alone = graph.degree.cpu()[:, None] <= 0
        X = start
        for _ in range(self.steps):
            mean = propagated(graph, X.to(graph.device), 1, walk=True).cpu()
            X = share * torch.where(alone, X, mean) + (1 - share) * start
        return X

    def _own_state(self) -> dict[str, np.ndarray]:
        return {
            f"{name}.{key}": value
            for name, (head, _) in self._fitted.items()
            for key, value in head._own_state().items()
        }

    def _set_own_state(self, state: dict[str, np.ndarray], d: int) -> None:
        self._fitted = self._others()
        for name, (head, _) in self._fitted.items():
            head._set_own_state(below(f"{name}.", state), d)
