"""Logistic regression on a few labelled nodes."""

from __future__ import annotations

import warnings

import numpy as np

from registry.base import expect
from registry.clusterer.sparse import SparseHead, balanced
from registry.ranges import Count, Positive, Width


class SparseLogistic(SparseHead):
    """Z (n_s, u) -> P (n_s, k) by multinomial logistic regression on a few labelled nodes.

    `registry.clusterer.sparse` describes what all such heads share.

    It uses all coordinates but those before the first walk, times their deviations: coordinates of unit deviation
    are mostly noise for so few labels.

    k: maximal number of classes. coordinates: of each node. C: inverse strength of the L2 penalty. iterations: maximal
    number, of L-BFGS.
    Fitted: `weights_` (d, k), `bias_` (k,) float32, for those d coordinates.
    """

    def __init__(self, *, k: Count = 8, coordinates: Width = 24, C: Positive = 1.0, iterations: Count = 200):
        self.k = k
        self.coordinates = coordinates
        self.C = C
        self.iterations = iterations
        self._check()

    def _seen(self, X: np.ndarray) -> np.ndarray:
        deviations = self.coordinates_.deviation_[1:]
        return X[:, self.coordinates :] * (deviations.ravel() / np.sqrt(len(deviations), dtype=np.float32))

    def _learn(self, X: np.ndarray, y: np.ndarray) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        self.weights_ = np.zeros((X.shape[1] - self.coordinates, self.k), np.float32)
        self.bias_ = np.full(self.k, -np.inf, np.float32)
        classes = np.unique(y)
        self.bias_[classes] = 0
        if len(classes) == 1:
            return
        model = LogisticRegression(C=self.C, max_iter=self.iterations)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # full convergence is not needed
            model.fit(self._seen(X).astype(np.float64), y, balanced(y))
        if len(classes) == 2:  # scikit-learn returns one column, for the second class against the first
            self.weights_[:, classes[1]], self.bias_[classes[1]] = model.coef_[0], model.intercept_[0]
        else:
            self.weights_[:, classes], self.bias_[classes] = model.coef_.T, model.intercept_

    def _judge(self, X: np.ndarray) -> np.ndarray:
        score = self._seen(X) @ self.weights_ + self.bias_
        P = np.exp(score - score.max(1, keepdims=True))
        return P / P.sum(1, keepdims=True)

    def _own_state(self) -> dict[str, np.ndarray]:
        return {"weights": self.weights_, "bias": self.bias_}

    def _set_own_state(self, state: dict[str, np.ndarray], d: int) -> None:
        if state["weights"].shape == (self.coordinates, self.k):  # of an older teacher
            state = {**state, "weights": self._from_older(state["weights"])}
        expect(state, {"weights": (d - self.coordinates, self.k), "bias": (self.k,)})
        self.weights_, self.bias_ = state["weights"], state["bias"]

    def _from_older(self, weights: np.ndarray) -> np.ndarray:
        """The same function as weights (u, k) of the coordinates after the most walks alone, each of which was divided
        by the root of its deviation."""
        found = np.zeros((len(self.hops) - 1, *weights.shape), np.float32)
        deviation = np.sqrt(self.coordinates_.deviation_[-1])[:, None]
        found[-1] = np.divide(weights, deviation, out=found[-1], where=deviation > 0) * np.sqrt(len(found))
        return found.reshape(-1, self.k)
