"""k-means on every graph separately, with clusters matched to those of an anchor graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from registry.base import Clusterer, UserError, expect
from registry.numeric.kmeans import cluster_sums, kmeans
from registry.numeric.nearest import as_floats
from registry.ranges import Count, Seed
from registry.spg.graphs import RegionGraph


class HungarianKMeans(Clusterer):
    """Z (n_s, u) -> P (n_s, k), one-hot: k-means on this graph's own Z, clusters named after the anchor's.

    The matching minimises the summed squared distance between cluster means (Hungarian algorithm). `feature` uses
    the means of node features, which are comparable between images; `embedding` those of Z, which for a numerical
    eigensolver are not, as signs, order and rotations of eigenvectors differ between graphs.
    The paper's ablation "w/o NC_hm" matches with the ground truth instead, which is impossible without labels.

    k: clusters; a graph with fewer distinct nodes gets as many clusters as it has nodes. match: see
    above. n_init, iterations, seed (null: the run's): of k-means.
    The attribute `anchor`, set before `fit`, is the index of the anchor graph. `fit` raises UserError if the
    anchor has fewer than k distinct nodes. Fitted: `reference_` (k, d) or (k, u), means of the anchor's clusters.
    """

    anchor: int = 0

    def __init__(
        self,
        *,
        k: Count = 8,
        match: Literal["feature", "embedding"] = "feature",
        n_init: Count = 10,
        iterations: Count = 100,
        seed: Seed | None = None,
    ):
        self.k = k
        self.match = match
        self.n_init = n_init
        self.iterations = iterations
        self.seed = seed
        for name, value in (("k", k), ("n_init", n_init), ("iterations", iterations)):
            if value < 1:
                raise UserError(f"clusterer.{name}: {value} must be at least 1")

    def fit(self, graphs: Sequence[RegionGraph], embeddings: Sequence[torch.Tensor]) -> None:
        graph, Z = graphs[self.anchor], embeddings[self.anchor]
        labels = self._cluster(Z, self.k)
        self.reference_ = self._means(graph, Z, labels, self.k).astype(np.float32)

    def predict(self, graph: RegionGraph, Z: torch.Tensor) -> torch.Tensor:
        points = as_floats(Z)
        P = np.zeros((len(points), self.k), np.float32)
        if len(points):
            own = min(self.k, len(np.unique(points, axis=0)))  # k' clusters
            labels = self._cluster(Z, own)
            names = match(self._means(graph, Z, labels, own), self.reference_)
            P[np.arange(len(points)), names[labels]] = 1
        return torch.from_numpy(P).to(Z.device)

    def get_state(self) -> dict[str, np.ndarray]:
        return {"reference": self.reference_} if hasattr(self, "reference_") else {}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        if state:
            expect(state, {"reference": (self.k, "d")})
            self.reference_ = np.array(state["reference"])

    def _cluster(self, Z: torch.Tensor, k: int) -> np.ndarray:
        return kmeans(Z, k, self.seed or 0, self.n_init, self.iterations, device=Z.device)[1]

    def _means(self, graph: RegionGraph, Z: torch.Tensor, labels: np.ndarray, k: int) -> np.ndarray:
        """Cluster means (k, d) of node features, or (k, u) of Z."""
        sums, counts = cluster_sums(as_floats(graph.feature if self.match == "feature" else Z), labels, k)
        return sums / np.maximum(counts, 1)[:, None]


def match(means: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """One-to-one matching with the smallest summed squared distance: means (k', d), reference (k >= k', d) -> (k',)."""
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    return linear_sum_assignment(cdist(means, reference, "sqeuclidean"))[1]
