"""k-means over the nodes of all training graphs at once: one set of centroids, so clusters agree between images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from registry.base import Clusterer, UserError, expect
from registry.numeric.kmeans import kmeans
from registry.numeric.nearest import as_floats, assign
from registry.ranges import Count, Seed
from registry.spg.graphs import RegionGraph


class KMeans(Clusterer):
    """Z (n_s, u) -> P (n_s, k), one-hot by the nearest of k centroids.

    k: clusters. n_init, iterations: restarts of k-means, and Lloyd iterations in each.
    scale: `none`, coordinates unchanged; `standardize`, by their mean and deviation over all training nodes.
    max_points: fit to at most so many nodes, drawn from all graphs with the seed; null for all of them.

    `fit` raises UserError if the training graphs have fewer than k distinct nodes.
    """

    def __init__(
        self,
        *,
        k: Count = 8,
        n_init: Count = 10,
        iterations: Count = 100,
        scale: Literal["none", "standardize"] = "none",
        max_points: Count | None = 200_000,
        seed: Seed | None = None,
    ):
        self.k = k
        self.n_init = n_init
        self.iterations = iterations
        self.scale = scale
        self.max_points = max_points
        self.seed = seed
        self.check(("k", "n_init", "iterations"))

    def check(self, counts: Sequence[str]) -> None:
        for name in counts:
            if getattr(self, name) < 1:
                raise UserError(f"clusterer.{name}: {getattr(self, name)} must be at least 1")
        if self.max_points is not None and self.max_points < self.k:
            raise UserError(f"clusterer.max_points: {self.max_points} must be at least clusterer.k ({self.k})")

    def fit(self, graphs: Sequence[RegionGraph], embeddings: Sequence[torch.Tensor]) -> None:
        points = self._draw(graphs, embeddings)  # (N, u)
        self.mean_ = np.zeros(points.shape[1], np.float32)
        self.deviation_ = np.ones(points.shape[1], np.float32)
        if self.scale == "standardize" and len(points):
            self.mean_ = points.mean(axis=0, dtype=np.float64).astype(np.float32)
            deviation = points.std(axis=0, dtype=np.float64).astype(np.float32)
            self.deviation_ = np.where(deviation > 0, deviation, np.float32(1))
            points = (points - self.mean_) / self.deviation_
        device = embeddings[0].device if len(embeddings) else "cpu"
        self.centroids_, self.inertia_ = self._centroids(points, device)

    def _centroids(self, points: np.ndarray, device: Any) -> tuple[np.ndarray, float]:
        """Centroids (k, u) of points (N, u), and the inertia."""
        centroids, _, inertia = kmeans(points, self.k, self.seed or 0, self.n_init, self.iterations, device=device)
        return centroids, inertia

    def predict(self, graph: RegionGraph, Z: torch.Tensor) -> torch.Tensor:
        points = Z.detach().float()
        if self.scale == "standardize":
            mean, deviation = (torch.from_numpy(values).to(Z.device) for values in (self.mean_, self.deviation_))
            points = (points - mean) / deviation
        labels, _ = assign(points, self.centroids_, Z.device)
        return torch.nn.functional.one_hot(labels, self.k).float()

    def get_state(self) -> dict[str, np.ndarray]:
        if not hasattr(self, "centroids_"):
            return {}
        return {"centroids": self.centroids_, "mean": self.mean_, "deviation": self.deviation_}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        if state:
            expect(state, {"centroids": (self.k, "u"), "mean": ("u",), "deviation": ("u",)})
        for name, value in state.items():
            setattr(self, f"{name}_", np.array(value))

    def _draw(self, graphs: Sequence[RegionGraph], embeddings: Sequence[torch.Tensor]) -> np.ndarray:
        """Rows of all Z, at most `max_points`: (N, u) float32. Processes one graph's Z at a time."""
        offsets = np.cumsum([0] + [graph.n for graph in graphs])
        chosen = np.arange(offsets[-1])
        if self.max_points is not None and len(chosen) > self.max_points:
            rng = np.random.default_rng(self.seed or 0)
            chosen = np.sort(rng.choice(len(chosen), self.max_points, replace=False))
        rows = []
        for Z, start, stop in zip(embeddings, offsets, offsets[1:]):
            inside = chosen[(chosen >= start) & (chosen < stop)] - start
            rows.append(as_floats(Z)[inside].astype(np.float32))
        return np.concatenate(rows) if rows else np.zeros((0, 1), np.float32)
