"""Segments of each image by k-means, then k-means over the segments of all images (Melas-Kyriazi et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from registry.base import Clusterer, UserError, expect
from registry.numeric.kmeans import cluster_sums, kmeans
from registry.numeric.nearest import as_floats, assign
from registry.ranges import Count, Seed
from registry.spg.graphs import RegionGraph


class SegmentKMeans(Clusterer):
    """Z (n_s, u) -> P (n_s, k), one-hot: the cluster of each node's segment.

    k-means on a graph's own Z gives segments, which are not comparable between images. Each is described by the mean of
    its nodes' features, which are, weighted by area and scaled to unit length; k-means over the segments of all
    training graphs gives k centroids, and each segment goes to the nearest.

    k: clusters. segments: per image (DSM: 15 for VOC); a graph with fewer distinct nodes has one per node.
    n_init, iterations, seed (null: the run's): of both k-means.

    Source: DSM, where a segment is described by the DINO class token of the image cropped to it. A masked autoencoder's
    class token is not trained, so the mean is used. DSM takes the segment with the most border pixels as background; a
    field of view within tissue has none. Its k-means over segments uses mini-batches of 4,096, which is plain k-means
    for the few segments here.
    `fit` raises UserError if the training graphs have fewer than k distinct segments. Fitted: `centroids_` (k, d).
    """

    def __init__(
        self,
        *,
        k: Count = 8,
        segments: Count = 15,
        n_init: Count = 10,
        iterations: Count = 100,
        seed: Seed | None = None,
    ):
        self.k = k
        self.segments = segments
        self.n_init = n_init
        self.iterations = iterations
        self.seed = seed
        for name in ("k", "segments", "n_init", "iterations"):
            if getattr(self, name) < 1:
                raise UserError(f"clusterer.{name}: {getattr(self, name)} must be at least 1")

    def fit(self, graphs: Sequence[RegionGraph], embeddings: Sequence[torch.Tensor]) -> None:
        described = [self.describe(graph, self.segment(Z)) for graph, Z in zip(graphs, embeddings)]
        points = np.concatenate(described) if described else np.zeros((0, 1), np.float32)  # (N, d)
        distinct = len(np.unique(points, axis=0))
        if distinct < self.k:
            raise UserError(
                f"clusterer.k: {self.k} is larger than the {distinct} distinct segments; lower it, "
                "raise clusterer.segments, or use finer regions or more data"
            )
        self.centroids_ = self._kmeans(points, self.k, graphs[0].device)[0].astype(np.float32)

    def predict(self, graph: RegionGraph, Z: torch.Tensor) -> torch.Tensor:
        P = np.zeros((graph.n, self.k), np.float32)
        if graph.n:
            labels = self.segment(Z)
            clusters, _ = assign(self.describe(graph, labels), self.centroids_, Z.device)
            P[np.arange(graph.n), clusters[labels]] = 1
        return torch.from_numpy(P).to(Z.device)

    def segment(self, Z: torch.Tensor) -> np.ndarray:
        """The segment of each node, (n_s,) int64 from 0, none empty."""
        points = as_floats(Z)
        if not len(points):
            return np.zeros(0, np.int64)
        labels = self._kmeans(points, min(self.segments, len(np.unique(points, axis=0))), Z.device)[1]
        return np.unique(labels, return_inverse=True)[1]

    def describe(self, graph: RegionGraph, labels: np.ndarray) -> np.ndarray:
        """Mean feature of each segment, weighted by area, of unit length: (segments, d) float32."""
        count = int(labels.max(initial=-1)) + 1
        sums, area = cluster_sums(as_floats(graph.feature), labels, count, as_floats(graph.area))
        means = sums / np.maximum(area, 1e-30)[:, None]
        return (means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)).astype(np.float32)

    def _kmeans(self, points: np.ndarray, k: int, device: Any) -> tuple[np.ndarray, np.ndarray]:
        """Centroids (k, d) and labels (n,)."""
        return kmeans(points, k, self.seed or 0, self.n_init, self.iterations, device=device)[:2]

    def get_state(self) -> dict[str, np.ndarray]:
        return {"centroids": self.centroids_} if hasattr(self, "centroids_") else {}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        if state:
            expect(state, {"centroids": (self.k, "d")})
            self.centroids_ = np.array(state["centroids"])
