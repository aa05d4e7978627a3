"""Incremental k-means without a network (paper, ablation "w/o NC_inc"): the MLP's teacher in SCCS, used directly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from registry.base import Clusterer, UserError, expect
from registry.numeric.centroids import IncrementalCentroids
from registry.numeric.nearest import assign
from registry.ranges import Closed, Count, Seed
from registry.spg.graphs import RegionGraph


class IncrementalKMeans(Clusterer):
    """Z (n_s, u) -> P (n_s, k), one-hot by the nearest of k centroids that grew over the training graphs.

    k-means on the anchor graph initialises the centroids; the other graphs follow in an order drawn with the seed, each
    node joins the nearest centroid, and centroids move once per `update_every` graphs (see `IncrementalCentroids` for
    updates and re-seeding). In later passes the anchor is treated like any other graph.

    k: clusters. update_every: graphs per update (paper: 8). decay: forgetting of old nodes at each update, null for
    the paper's mean over all nodes so far. reseed: move clusters that stay empty for a whole window.
    passes: how often every graph is seen. n_init: restarts of k-means on the anchor.
    The attribute `anchor`, set before `fit`, is the index of the anchor graph.

    Fitted: `centroids_` (k, u) float32; `use_` (k,) int64, nodes assigned to each cluster during `fit`; `reseeds_`.
    """

    anchor: int = 0

    def __init__(
        self,
        *,
        k: Count = 8,
        update_every: Count = 8,
        decay: Closed | None = None,
        reseed: bool = True,
        passes: Count = 1,
        n_init: Count = 10,
        seed: Seed | None = None,
    ):
        self.k = k
        self.update_every = update_every
        self.decay = decay
        self.reseed = reseed
        self.passes = passes
        self.n_init = n_init
        self.seed = seed
        for name, value in (("k", k), ("update_every", update_every), ("passes", passes), ("n_init", n_init)):
            if value < 1:
                raise UserError(f"clusterer.{name}: {value} must be at least 1")
        if decay is not None and not 0 <= decay <= 1:
            raise UserError(f"clusterer.decay: {decay} must be null or between 0 and 1")

    def fit(self, graphs: Sequence[RegionGraph], embeddings: Sequence[torch.Tensor]) -> None:
        seed = self.seed or 0
        centroids = IncrementalCentroids(self.k, self.update_every, self.decay, self.reseed, seed, self.n_init)
        centroids.begin(embeddings[self.anchor])
        rng = np.random.default_rng(seed)
        for turn in range(self.passes):
            for index in rng.permutation(len(embeddings)):
                if turn == 0 and index == self.anchor:
                    continue
                Z = embeddings[index]
                centroids.observe(Z, centroids.assign(Z))
        centroids.flush()
        self.centroids_, self.use_, self.reseeds_ = centroids.centroids, centroids.use_, centroids.reseeds_

    def predict(self, graph: RegionGraph, Z: torch.Tensor) -> torch.Tensor:
        labels, _ = assign(Z, self.centroids_, Z.device)
        return torch.nn.functional.one_hot(labels, self.k).float()

    def get_state(self) -> dict[str, np.ndarray]:
        if not hasattr(self, "centroids_"):
            return {}
        return {"centroids": self.centroids_, "use": self.use_, "reseeds": np.array([self.reseeds_])}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        if state:
            expect(state, {"centroids": (self.k, "u"), "use": (self.k,), "reseeds": (1,)})
            self.centroids_, self.use_ = np.array(state["centroids"]), np.array(state["use"])
            self.reseeds_ = int(state["reseeds"][0])
