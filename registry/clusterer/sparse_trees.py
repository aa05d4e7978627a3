"""Extremely randomised trees on a few labelled nodes."""

from __future__ import annotations

import numpy as np

from registry.clusterer.sparse import SparseHead, balanced
from registry.numeric.trees import Trees
from registry.ranges import Count, Seed, Width


class SparseTrees(SparseHead):
    """Z (n_s, u) -> P (n_s, k) by extremely randomised trees (Geurts et al. 2006) on a few labelled nodes.

    `registry.clusterer.sparse` describes what all such heads share.

    k: maximal number of classes. coordinates: of each node, after each number of walks. trees: of the forest. leaf:
    minimal number of labelled nodes in a leaf.
    """

    def __init__(
        self, *, k: Count = 8, coordinates: Width = 24, trees: Count = 100, leaf: Count = 1, seed: Seed | None = None
    ):
        self.k = k
        self.coordinates = coordinates
        self.trees = trees
        self.leaf = leaf
        self.seed = seed
        self._check()

    def _learn(self, X: np.ndarray, y: np.ndarray) -> None:
        self.trees_ = Trees.grow(X, y, self.k, balanced(y), trees=self.trees, leaf=self.leaf, seed=self.seed or 0)

    def _judge(self, X: np.ndarray) -> np.ndarray:
        return self.trees_.predict(X)

    def _own_state(self) -> dict[str, np.ndarray]:
        return self.trees_.get_state()

    def _set_own_state(self, state: dict[str, np.ndarray], d: int) -> None:
        self.trees_ = Trees.from_state(state, self.k, d)
