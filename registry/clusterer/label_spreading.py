"""A few labels spread along the edges of the spG: correct and smooth."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from registry.clusterer.sparse import SparseHead, below, shares
from registry.clusterer.sparse_logistic import SparseLogistic
from registry.clusterer.sparse_trees import SparseTrees
from registry.ranges import Count, Positive, Seed, Share, Width
from registry.spg.graphs import RegionGraph
from registry.spg.principal import TINY

LEAST = 0.02  # share of a class, of which few labels cannot tell that it is less


class LabelSpreading(SparseHead):
    """Z (n_s, u) -> P (n_s, k) by other heads, corrected and smoothed along the edges (Huang et al. 2021).

    The others are logistic regression and trees. Few labels suit the first, many the second: with n labelled nodes a
    class, the shares of their say are m to n, m = `even`.

    Heads to which all classes are alike see rare ones too often, if labels were drawn class by class, and too seldom,
    if they were not. How large the classes are is estimated from nodes without labels, and P is multiplied by that
    share to the power of prior r^2 - chosen (1 - r), where r is the number of a class's labels, 1 for the class with
    most.

    With W = D^-1 A, the mean over neighbours: what is wrong at labelled nodes, E_0, is spread by
    E <- correct W E + (1 - correct) E_0 and added, then P <- smooth W P + (1 - smooth) P_0. Labelled nodes are known
    again by their coordinates; in an image without any only the second step does something. What all such heads have in
    common is told in `registry.clusterer.sparse`.

    k: room for classes. coordinates: of each node, after each number of walks. base: `both`, or `trees` or `logistic`
        alone. even: labelled nodes a class at which both have the same say. trees: of the forest. C: inverse strength
        of the penalty of logistic regression. prior, chosen: as above. correct, smooth: share of the neighbours.
        steps: of either.
    Fitted: `weight_` (k,) float32, that factor.
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
        prior: Share = 0.15,
        chosen: Share = 0.2,
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
        self.prior = prior
        self.chosen = chosen
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
        self.weight_ = np.ones(self.k, np.float32)
        if len(np.unique(y)) > 1 and len(sample := self.coordinates_.sample_):
            count = np.bincount(y, minlength=self.k)
            r = count / count.max()
            found = shares(self._judge(sample), LEAST) ** (self.prior * r**2 - self.chosen * (1 - r))
            self.weight_ = found.astype(np.float32)

    def _judge(self, X: np.ndarray) -> np.ndarray:
        parts = [np.float32(share) * head._judge(X) for head, share in self._fitted.values()]
        P = np.sum(parts, axis=0) * self.weight_
        return P / P.sum(1, keepdims=True)

    def settle(self, graph: RegionGraph, points: np.ndarray, P: np.ndarray) -> np.ndarray:
        classes = self._known(points)
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

    def _known(self, points: np.ndarray) -> np.ndarray:
        """The class (n,) int64 of each of the points (n, d) that is labelled; -1 of others."""
        known = {point.tobytes(): c for point, c in zip(self.points_, self.classes_)}
        classes = np.full(len(points), -1, np.int64)
        for i in np.flatnonzero(np.isin(points[:, 0], self.points_[:, 0])):
            classes[i] = known.get(points[i].tobytes(), -1)
        return classes

    def _spread(self, graph: RegionGraph, start: torch.Tensor, share: float) -> torch.Tensor:
        """X <- share W X + (1 - share) start, `steps` times from `start` (n_s, k) on.

        As W = D^-1/2 Â D^1/2, D^1/2 X goes the same way with Â in place of W.
        """
        degree = graph.degree[:, None]
        length = degree.clamp(min=TINY).sqrt()
        first = X = start.to(graph.device) * length
        for _ in range(self.steps):
            X = torch.add((1 - share) * first, graph.propagate(X), alpha=share)
        return torch.where(degree > 0, X / length, start.to(graph.device)).cpu()

    def _own_state(self) -> dict[str, np.ndarray]:
        parts = {
            f"{name}.{key}": value
            for name, (head, _) in self._fitted.items()
            for key, value in head._own_state().items()
        }
        return {**parts, "weight": self.weight_}

    def _set_own_state(self, state: dict[str, np.ndarray], d: int) -> None:
        self._fitted = self._others()
        for name, (head, _) in self._fitted.items():
            head._set_own_state(below(f"{name}.", state), d)
        self.weight_ = np.array(state.get("weight", np.ones(self.k, np.float32)))  # an older teacher has none
        if self.weight_.shape != (self.k,) or self.weight_.dtype != np.float32 or not (self.weight_ > 0).all():
            raise ValueError(f"weight: not {self.k} positive numbers")
