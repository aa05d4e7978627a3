"""k-means by mini-batches (Sculley 2010), for very many nodes: Han et al. 2022 cluster so, and DSM its segments."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from registry.base import UserError
from registry.clusterer.kmeans import KMeans


class MiniBatchKMeans(KMeans):
    """Z (n_s, u) -> P (n_s, k), one-hot by the nearest of k centroids, which scikit-learn's MiniBatchKMeans finds.

    k: clusters. batch: nodes per step. iterations: passes over all nodes, at most. n_init: starts, of which the best
    goes on. max_points: fit on at most so many nodes, drawn over all graphs with the seed; null for all of them.
    `fit` raises UserError when the training graphs have fewer than k distinct nodes.
    """

    scale = "none"

    def __init__(
        self,
        *,
        k: int = 8,
        batch: int = 4096,
        iterations: int = 100,
        n_init: int = 3,
        max_points: int | None = 1_000_000,
        seed: int | None = None,
    ):
        self.k = k
        self.batch = batch
        self.iterations = iterations
        self.n_init = n_init
        self.max_points = max_points
        self.seed = seed
        self.check(("k", "batch", "iterations", "n_init"))

    def _centroids(self, points: np.ndarray, device: Any) -> tuple[np.ndarray, float]:
        from sklearn.cluster import MiniBatchKMeans as Estimator

        if not np.isfinite(points).all():
            raise UserError(
                "k-means got NaN or infinite coordinates: look for NaN pixels in the images or a training that diverged"
            )
        distinct = len(np.unique(points[: 100 * self.k], axis=0))
        if distinct < self.k and (distinct := len(np.unique(points, axis=0))) < self.k:
            raise UserError(
                f"k={self.k} larger than the {distinct} nodes that differ: lower clusterer.k, or use finer "
                "regions or more data"
            )
        estimator = Estimator(
            self.k, batch_size=self.batch, max_iter=self.iterations, n_init=self.n_init, random_state=self.seed or 0
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of threads on another platform
            estimator.fit(points)
        return estimator.cluster_centers_.astype(np.float32), float(estimator.inertia_)
