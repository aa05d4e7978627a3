"""Extremely randomised trees as arrays: grown and evaluated by compiled loops, saved without pickle."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
        """Grow a forest from points X (N, d) float32 of the classes y (N,) within 0 .. C - 1; weight (N,) above 0.

        leaf: minimal number of points in a leaf. Every tree sees all points. A node tries sqrt(d) coordinates, each at
        one random threshold, and takes the split of least Gini impurity (Geurts et al. 2006), as scikit-learn's
        ExtraTreesClassifier does (benchmarks/speed/trees.py compares the two).
        """
        points = np.ascontiguousarray(X, np.float32), y.astype(np.int64), weight.astype(np.float64)
        found: list[Any] = [None] * trees

        def some(part: slice) -> None:
            for tree in range(trees)[part]:
                found[tree] = _grown(*points, C, leaf, np.random.default_rng((seed, tree)))

        at_once(some, trees)
        first = np.cumsum([0] + [len(arrays[0]) for arrays in found])[:-1].astype(np.int32)
        feature, threshold, left, right, value = (np.concatenate(arrays) for arrays in zip(*found))
        first_of = np.where(feature >= 0, np.repeat(first, [len(arrays[0]) for arrays in found]), 0).astype(np.int32)
        return cls(first, feature, threshold, left + first_of, right + first_of, value)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Shares (n, C) float32 of points (n, d) float32, the mean over all trees."""
        X = np.ascontiguousarray(X, np.float32)
        out = np.zeros((len(X), self.value.shape[1]), np.float32)
        nodes, roots, heights = self._laid_out
        arrays = nodes, roots, heights, nodes.view(np.float32), self.value
        at_once(lambda part: _ask(X[part], *arrays, out[part]), len(X))
        return out / np.float32(len(self.roots))

    @functools.cached_property
    def _laid_out(self) -> tuple[np.ndarray, ...]:
        return _laid_out(self.roots, self.feature, self.threshold.view(np.uint32), self.left, self.right)

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


@compiled
def _grown(
    X: np.ndarray, y: np.ndarray, weight: np.ndarray, C: int, leaf: int, rng: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """One tree: feature, threshold, left, right (nodes,) and value (nodes, C) as in `Trees`, from node 0 on."""
    n, d = X.shape
    feature, threshold = np.full(2 * n - 1, -1, np.int32), np.zeros(2 * n - 1, np.float32)
    left, right = np.zeros(2 * n - 1, np.int32), np.zeros(2 * n - 1, np.int32)
    value = np.zeros((2 * n - 1, C), np.float32)
    order, coordinates = np.arange(n), np.arange(d)
    open_ = np.empty((n, 3), np.int64)  # waiting nodes, and the part of `order` that reaches each
    open_[0, 0], open_[0, 1], open_[0, 2], waiting, nodes = 0, 0, n, 1, 1
    total, low_side = np.empty(C), np.empty(C)
    while waiting:
        waiting -= 1
        node, low, high = open_[waiting, 0], open_[waiting, 1], open_[waiting, 2]
        total[:] = 0
        for i in range(low, high):
            total[y[order[i]]] += weight[order[i]]
        whole = total.sum()
        value[node] = total / whole
        best, chosen, cut, varied = -1.0, -1, np.float32(0), False
        for tried in range(d if total.max() < whole and high - low >= 2 * leaf else 0):
            if varied and tried >= np.int64(np.sqrt(d)):
                break
            swap = tried + np.int64(rng.random() * (d - tried))
            f = coordinates[swap]
            coordinates[swap], coordinates[tried] = coordinates[tried], f
            least = most = X[order[low], f]
            for i in range(low, high):
                least, most = min(least, X[order[i], f]), max(most, X[order[i], f])
            if least == most:
                continue
            varied = True
            limit = np.float32(least + rng.random() * (most - least))
            if limit >= most:
                limit = least
            low_side[:] = 0
            count = 0
            for i in range(low, high):
                if X[order[i], f] <= limit:
                    low_side[y[order[i]]] += weight[order[i]]
                    count += 1
            if min(count, high - low - count) < leaf:
                continue
            part = low_side.sum()
            gain = (low_side**2).sum() / part + ((total - low_side) ** 2).sum() / (whole - part)
            if gain > best:
                best, chosen, cut = gain, f, limit
        if chosen < 0:
            continue
        middle = low
        for i in range(low, high):
            point = order[i]
            if X[point, chosen] <= cut:
                order[i], order[middle] = order[middle], point
                middle += 1
        feature[node], threshold[node], left[node], right[node] = chosen, cut, nodes, nodes + 1
        open_[waiting, 0], open_[waiting, 1], open_[waiting, 2] = nodes + 1, middle, high
        open_[waiting + 1, 0], open_[waiting + 1, 1], open_[waiting + 1, 2] = nodes, low, middle
        waiting, nodes = waiting + 2, nodes + 2
    return (  # copies, so that the rest is freed
        feature[:nodes].copy(),
        threshold[:nodes].copy(),
        left[:nodes].copy(),
        right[:nodes].copy(),
        value[:nodes].copy(),
    )


@compiled
def _laid_out(
    roots: np.ndarray, feature: np.ndarray, limit: np.ndarray, left: np.ndarray, right: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Nodes (4 nodes,) uint32 as `_ask` reads them, so that a test touches one cache line: where to go from a node, up
    to its limit and above (both lead back to a leaf), the bits of the limit, the coordinate. Then roots and heights
    (trees,) uint32. limit: the bits of thresholds."""
    n = len(feature)
    nodes, height = np.empty(4 * n, np.uint32), np.zeros(n, np.uint32)
    for node in range(n - 1, -1, -1):  # children come after their parents
        inner = feature[node] >= 0
        nodes[4 * node] = 4 * (left[node] if inner else node)
        nodes[4 * node + 1] = 4 * (right[node] if inner else node)
        nodes[4 * node + 2] = limit[node]
        nodes[4 * node + 3] = feature[node] if inner else 0
        if inner:
            height[node] = 1 + max(height[left[node]], height[right[node]])
    return nodes, (4 * roots).astype(np.uint32), height[roots]


@compiled
def _ask(
    X: np.ndarray,
    nodes: np.ndarray,
    roots: np.ndarray,
    heights: np.ndarray,
    limits: np.ndarray,
    value: np.ndarray,
    out: np.ndarray,
) -> None:
    """Add each tree's values for points X (n, d) to out (n, C), tree by tree. limits: `nodes`, read as float32.

    64 points go down a tree side by side, as many steps as the tree is high: no branch depends on a point, so that the
    innermost loop becomes vector instructions. They need indices without sign.
    """
    n, d = X.shape
    side = 64
    at, block = np.empty(side, np.uint32), np.zeros(side * d, np.float32)
    for start in range(0, n, side):
        m = min(side, n - start)
        for i in range(m):
            for f in range(d):
                block[i * d + f] = X[start + i, f]
        for tree in range(len(roots)):
            at[:] = roots[tree]
            for _ in range(heights[tree]):
                for i in range(side):
                    node = at[i]
                    at[i] = nodes[node + np.uint32(block[i * d + nodes[node + 3]] > limits[node + 2])]
            for i in range(m):
                for c in range(out.shape[1]):
                    out[start + i, c] += value[at[i] // 4, c]
