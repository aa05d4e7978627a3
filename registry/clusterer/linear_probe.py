"""Logistic regression on labelled nodes: what a linear model could extract from the features, given labels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch

from registry.base import Clusterer, UserError, expect
from registry.numeric.nearest import as_floats
from registry.ranges import Count, Positive
from registry.spg.graphs import RegionGraph


class LinearProbe(Clusterer):
    """Z (n_s, u) -> P (n_s, k) by multinomial logistic regression, trained on the labels of the training images.

    A yardstick for features, never part of an unsupervised system. Each node with labelled pixels counts as their most
    frequent class, with their number as its weight; coordinates are standardised over these nodes.

    k: maximal number of classes; cluster i is class i of the data set, columns beyond the last class stay zero.
    C: inverse strength of the L2 penalty (scikit-learn's default 1). iterations: maximal number, of L-BFGS.
    Fitted: `weights_` (u, k) and `bias_` (k,) on standardised coordinates, `mean_`, `deviation_` (u,).
    """

    supervised = True
    per_class = True

    def __init__(self, *, k: Count = 8, C: Positive = 1.0, iterations: Count = 200):
        self.k = k
        self.C = C
        self.iterations = iterations
        for name, value in (("k", k), ("iterations", iterations)):
            if value < 1:
                raise UserError(f"clusterer.{name}: {value} must be at least 1")
        if C <= 0:
            raise UserError(f"clusterer.C: {C} must be above 0")

    def fit(  # type: ignore[override]  # a supervised part also gets labels
        self, graphs: Sequence[RegionGraph], embeddings: Sequence[torch.Tensor], labels: Sequence[np.ndarray]
    ) -> None:
        """labels: for each graph (n_s, C) int, the pixels of each class in each node."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        counts = np.concatenate(labels)  # (N, C)
        if counts.shape[1] > self.k:
            raise UserError(f"clusterer.k: {self.k} is less than the data's {counts.shape[1]} classes; increase it")
        if len(counts) < self.k:
            raise UserError(f"clusterer.k: {self.k} is larger than the {len(counts)} training nodes; lower it")
        seen = counts.sum(1) > 0
        if not seen.any():
            raise UserError("data.train: linear_probe needs labels, but no training node has any; add labels")
        X = np.concatenate([as_floats(Z) for Z in embeddings])[seen].astype(np.float64)
        y, weight = counts[seen].argmax(1), counts[seen].max(1)
        self.mean_ = X.mean(0).astype(np.float32)
        deviation = X.std(0)
        self.deviation_ = np.where(deviation > 1e-6, deviation, 1).astype(np.float32)
        self.weights_ = np.zeros((X.shape[1], self.k), np.float32)
        self.bias_ = np.full(self.k, -np.inf, np.float32)  # a class absent from training is never predicted
        classes = np.unique(y)
        if len(classes) == 1:
            self.bias_[classes] = 0
            return
        model = LogisticRegression(C=self.C, max_iter=self.iterations)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a yardstick need not converge to the last digit
            model.fit((X - self.mean_) / self.deviation_, y, sample_weight=weight / weight.mean())
        if len(classes) == 2:  # scikit-learn returns one column, for the second class against the first
            self.weights_[:, classes[1]], self.bias_[classes] = model.coef_[0], [0, model.intercept_[0]]
        else:
            self.weights_[:, classes], self.bias_[classes] = model.coef_.T, model.intercept_

    def predict(self, graph: RegionGraph, Z: torch.Tensor) -> torch.Tensor:
        parts = (
            torch.from_numpy(value).to(Z.device) for value in (self.mean_, self.deviation_, self.weights_, self.bias_)
        )
        mean, deviation, weights, bias = parts
        return (((Z.float() - mean) / deviation) @ weights + bias).softmax(1)

    def get_state(self) -> dict[str, np.ndarray]:
        if not hasattr(self, "weights_"):
            return {}
        return {name: getattr(self, f"{name}_") for name in ("weights", "bias", "mean", "deviation")}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        if state:
            u, k = "u", self.k
            expect(state, {"weights": (u, k), "bias": (k,), "mean": (u,), "deviation": (u,)})
        for name, value in state.items():
            setattr(self, f"{name}_", np.array(value))
