"""Mini-batch k-means (Sculley 2010), for very many nodes; used by Han et al. 2022, and by DSM for its segments."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from registry.base import UserError
from registry.clusterer.kmeans import KMeans
from registry.numeric.centroids import IncrementalCentroids
from registry.numeric.kmeans import TOLERANCE
from registry.numeric.nearest import assign
from registry.ranges import Count, Seed


class MiniBatchKMeans(KMeans):
    """Z (n_s, u) -> P (n_s, k), one-hot by the nearest of k centroids that moved with every batch of nodes.

    k-means on a first batch initialises the centroids; nodes of each further batch go to the nearest, and a centroid
    moves to the mean of all nodes that it ever received, as in Sculley's algorithm. FAISS finds the nearest centroids;
    it has no mini-batches itself (its `max_points_per_centroid` draws one sample and ignores the other nodes). With at
    most `batch` nodes this is plain k-means.

    k: clusters. batch: nodes per step. iterations: maximal number of passes over all nodes; stops when a pass hardly
    moves the centroids. n_init: restarts of k-means on the first batch. max_points: fit to at most so many nodes, drawn
    from all graphs with the seed; null for all of them.
    `fit` raises UserError if the training graphs have fewer than k distinct nodes.
    """

    scale = "none"

    def __init__(
        self,
        *,
        k: Count = 8,
        batch: Count = 4096,
        iterations: Count = 100,
        n_init: Count = 3,
        max_points: Count | None = 1_000_000,
        seed: Seed | None = None,
    ):
        self.k = k
        self.batch = batch
        self.iterations = iterations
        self.n_init = n_init
        self.max_points = max_points
        self.seed = seed
        self.check(("k", "batch", "iterations", "n_init"))

    def _centroids(self, points: np.ndarray, device: Any) -> tuple[np.ndarray, float]:
        seed = self.seed or 0
        rng = np.random.default_rng(seed)
        Z = torch.from_numpy(points).to(device)
        running = IncrementalCentroids(self.k, update_every=1, reseed=False, seed=seed, n_init=self.n_init)
        batches = self._shuffled(Z, rng)
        try:
            running.begin(batches.pop(0) if batches else Z)
        except UserError:  # fewer than k distinct nodes in the batch, but perhaps not overall
            running.begin(Z)
        enough = TOLERANCE * points.var(axis=0, dtype=np.float64).mean()
        for _ in range(self.iterations):
            before = running.centroids
            for part in batches:
                running.observe(part, running.assign(part))
            if np.square(running.centroids - before).sum() <= enough:
                break
            batches = self._shuffled(Z, rng)
        centroids = running.centroids
        return centroids, float(assign(points, centroids, device)[1].sum(dtype=np.float64))

    def _shuffled(self, Z: torch.Tensor, rng: np.random.Generator) -> list[torch.Tensor]:
        """Batches (batch, u) of all nodes Z (N, u) in a new order; the last may be smaller."""
        return list(Z[torch.from_numpy(rng.permutation(len(Z))).to(Z.device)].split(self.batch)) if len(Z) else []
