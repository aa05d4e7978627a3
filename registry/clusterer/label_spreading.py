"""A few labels spread along the edges of the spG: correct and smooth."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from registry.clusterer.sparse import SparseHead, below, shares
from registry.clusterer.sparse_logistic import SparseLogistic
from registry.clusterer.sparse_trees import SparseTrees
from registry.ranges import Count, NotNegative, Positive, Seed, Share, Width
from registry.spg.graphs import RegionGraph
from registry.spg.principal import TINY

LEAST = 0.02  # smallest share of a class that a few labels can reveal


class LabelSpreading(SparseHead):
    """Z (n_s, u) -> P (n_s, k) by other heads, corrected and smoothed along the edges (Huang et al. 2021).

    The others are logistic regression, which suits few labels, and trees, which suit many: with n labelled nodes per
    class, the harmonic mean, they are weighted m to n, m = `even`.

    Heads that treat all classes alike predict rare ones too often if labels were drawn class by class, and too seldom
    if they were not. The classes' shares are estimated from unlabelled nodes, and P is multiplied by the share raised
    to the power prior r^2 - chosen (1 - r), where r is the number of a class's labels relative to the class with most,
    after adding `trust` to both.

    With W = D^-1 A, the mean over neighbours: the error at labelled nodes, E_0, is spread by
    E <- correct W E + (1 - correct) E_0 and added, then P <- smooth W P + (1 - smooth) P_0. Labelled nodes are
    recognised by their coordinates; in an image without any, only the second step has an effect.
    `registry.clusterer.sparse` describes what all such heads share.

    k: maximal number of classes. coordinates: of each node, after each number of walks. base: `both`, or only `trees`
    or `logistic`. even: labelled nodes per class at which both have the same weight. trees: of the forest. C: inverse
    strength of the penalty of logistic regression. prior, chosen, trust: as above; the more `trust`, the less a few
    labels say about how they were chosen. correct, smooth: weight of the neighbours. steps: of either.
    Fitted: `weight_` (k,) float32, the factors of P; `share_`, the weight of logistic regression.
    """

    def __init__(
        self,
        *,
        k: Count = 8,
        coordinates: Width = 24,
        base: Literal["both", "trees", "logistic"] = "both",
        even: Positive = 3.0,
        trees: Count = 100,
        C: Positive = 1.0,
        prior: Share = 0.15,
        chosen: Share = 0.25,
        trust: NotNegative = 4.0,
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
        self.trust = trust
        self.correct = correct
        self.smooth = smooth
        self.steps = steps
        self.seed = seed
        self._check()

    def _others(self, share: float) -> dict[str, tuple[SparseHead, float]]:
        """The other heads, unfitted, and their weights, given that of logistic regression if both are used."""
        logistic = {"both": share, "trees": 0.0, "logistic": 1.0}[self.base]
        heads: dict[str, tuple[SparseHead, float]] = {
            "logistic": (SparseLogistic(k=self.k, coordinates=self.coordinates, C=self.C), logistic),
            "trees": (
                SparseTrees(k=self.k, coordinates=self.coordinates, trees=self.trees, seed=self.seed),
                1 - logistic,
            ),
        }
        for head, _ in heads.values():
            head.coordinates_ = self.coordinates_
        return {name: (head, weight) for name, (head, weight) in heads.items() if weight}

    def _learn(self, X: np.ndarray, y: np.ndarray) -> None:
        count = np.bincount(y, minlength=self.k)
        n = 1 / np.mean(1 / count[count > 0])
        self.share_ = np.float32(self.even / (self.even + n))
        self._fitted = self._others(float(self.share_))
        for head, _ in self._fitted.values():
            head._learn(X, y)
        self.weight_ = np.ones(self.k, np.float32)
        if (count > 0).sum() > 1 and len(sample := self.coordinates_.sample_):
            r = (count + self.trust) / (count.max() + self.trust)
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
        classes = np.full(len(points), -1, np.int64)
        first = np.sort(self.points_[:, 0])  # one coordinate tells most points apart
        at = np.searchsorted(first, points[:, 0]).clip(max=len(first) - 1)
        if len(alike := np.flatnonzero(first[at] == points[:, 0])):
            known = {point.tobytes(): c for point, c in zip(self.points_, self.classes_)}
            classes[alike] = [known.get(points[i].tobytes(), -1) for i in alike]
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
        return {**parts, "weight": self.weight_, "share": np.array([self.share_])}

    def _set_own_state(self, state: dict[str, np.ndarray], d: int) -> None:
        # an older teacher may have neither; its share depended on the arithmetic mean
        n = len(self.classes_) / len(np.unique(self.classes_))
        share = state.get("share", np.array([self.even / (self.even + n)], np.float32))
        self.weight_ = np.array(state.get("weight", np.ones(self.k, np.float32)))
        for name, array, size in (("share", share, 1), ("weight", self.weight_, self.k)):
            if array.shape != (size,) or array.dtype != np.float32 or not (array > 0).all():
                raise ValueError(f"{name}: not {size} positive numbers")
        if share[0] > 1:
            raise ValueError(f"share: {share[0]} is above 1")
        self.share_ = share[0]
        self._fitted = self._others(float(self.share_))
        for name, (head, _) in self._fitted.items():
            head._set_own_state(below(f"{name}.", state), d)
