"""Extremely randomised trees as arrays: grown by scikit-learn, saved without pickle, evaluated by a compiled loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from registry.numeric.compiled import at_once, compiled


@dataclass
class Trees:
    """A forest, with its trees stored one after the other.

    Shapes
        roots: (trees,) int32, the first node of each. feature: (nodes,) int32, the coordinate that a node tests, -1
        in a leaf. threshold: (nodes,) float32; values up to it go to `left` (nodes,) int32, others to `right`; in a
        leaf both are 0. value: (nodes, C) float32, shares of the classes.
    """

    roots: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray

    @classmethod
    def grow(
        cls, X: np.ndarray, y: np.ndarray, C: int, weight: np.ndarray, *, trees: int, leaf: int, seed: int
    ) -> Trees:
        """Grow a forest from points X (N, d) float32 of the classes y (N,) within 0 .. C - 1, with weights (N,).

        leaf: minimal number of points in a leaf. Every tree sees all points.
        """
        from sklearn import config_context
        from sklearn.ensemble import ExtraTreesClassifier

        with config_context(assume_finite=True, skip_parameter_validation=True):  # checks that would run once per tree
            forest = ExtraTreesClassifier(trees, min_samples_leaf=leaf, random_state=seed).fit(X, y, weight)
        found = [tree.tree_ for tree in forest.estimators_]
        roots = np.cumsum([0] + [tree.node_count for tree in found])[:-1].astype(np.int32)

        def joined(name: str) -> np.ndarray:
            return np.concatenate([getattr(tree, name) for tree in found])

        inner = joined("children_left") >= 0
        first = np.repeat(roots, [tree.node_count for tree in found])
        left, right = (np.where(inner, joined(f"children_{side}") + first, 0) for side in ("left", "right"))
        shares = joined("value")[:, 0]
        value = np.zeros((len(shares), C), np.float32)
        value[:, forest.classes_] = shares / shares.sum(1, keepdims=True)
        return cls(
            roots,
            np.where(inner, joined("feature"), -1).astype(np.int32),
            _rounded_down(joined("threshold")),
            left.astype(np.int32),
            right.astype(np.int32),
            value,
        )

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Shares (n, C) float32 of points (n, d) float32, the mean over all trees."""
        X = np.ascontiguousarray(X, np.float32)
        out = np.zeros((len(X), self.value.shape[1]), np.float32)
        arrays = (self.roots, self.feature, self.threshold, self.left, self.right, self.value)
        at_once(lambda part: _ask(X[part], *arrays, out[part]), len(X))
        return out / np.float32(len(self.roots))

    def get_state(self) -> dict[str, np.ndarray]:
        """The arrays by name."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray], C: int, d: int) -> Trees:
        """Inverse of `get_state`, for C classes and points of d coordinates.

        Raises ValueError for arrays that are not a valid forest, so that no file can make the loop read out of bounds
        or run forever.
        """
        try:
            trees = cls(**state)
        except TypeError as error:
            raise ValueError(str(error)) from None
        n, kinds = len(trees.feature), {"threshold": np.float32, "value": np.float32}
        for name, array in state.items():
            shape = {"roots": (len(trees.roots),), "value": (n, C)}.get(name, (n,))
            if array.shape != shape or array.dtype != kinds.get(name, np.int32):
                raise ValueError(f"trees.{name}: {array.dtype} {array.shape} is not an array of {C} classes, {n} nodes")
        inner, here = trees.feature >= 0, np.arange(n)
        ahead = all(((side > here) & (side < n))[inner].all() for side in (trees.left, trees.right))
        rooted = len(trees.roots) and trees.roots.min() >= 0 and trees.roots.max() < n
        if not (ahead and rooted and trees.feature.max(initial=-1) < d):
            raise ValueError("trees: nodes that are not there")
        return trees


def _rounded_down(threshold: np.ndarray) -> np.ndarray:
    """float32 thresholds that split float32 values like the float64 ones: the largest not above them."""
    rounded = threshold.astype(np.float32)
    return np.where(rounded > threshold, np.nextafter(rounded, np.float32(-np.inf)), rounded)


@compiled
def _ask(
    X: np.ndarray,
    roots: np.ndarray,
    feature: np.ndarray,
    threshold: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    value: np.ndarray,
    out: np.ndarray,
) -> None:
    """Add each tree's values for points X (n, d) to out (n, C), tree by tree.

    A node splits the points that reach it, as in training: no branch depends on a single point, and points that reach
    a leaf early cost nothing further. A block of points stays in the cache.
    """
    size = 1024
    columns = np.empty((X.shape[1], size), np.float32)
    order = np.empty(size, np.int32)
    open_ = np.empty((size + 1, 3), np.int32)  # waiting nodes, and the part of `order` that reaches each; never empty
    for start in range(0, len(X), size):
        m = min(size, len(X) - start)
        for i in range(m):
            order[i] = i
            for f in range(X.shape[1]):
                columns[f, i] = X[start + i, f]
        for root in roots:
            open_[0, 0], open_[0, 1], open_[0, 2], waiting = root, 0, m, 1
            while waiting:
                waiting -= 1
                node, low, high = open_[waiting, 0], open_[waiting, 1], open_[waiting, 2]
                if feature[node] < 0:
                    for i in range(low, high):
                        for c in range(out.shape[1]):
                            out[start + order[i], c] += value[node, c]
                    continue
                middle, column, limit = low, columns[feature[node]], threshold[node]
                for i in range(low, high):
                    point = order[i]
                    order[i] = order[middle]
                    order[middle] = point
                    middle += np.int32(column[point] <= limit)
                if middle < high:
                    open_[waiting, 0], open_[waiting, 1], open_[waiting, 2] = right[node], middle, high
                    waiting += 1
                if low < middle:
                    open_[waiting, 0], open_[waiting, 1], open_[waiting, 2] = left[node], low, middle
                    waiting += 1
