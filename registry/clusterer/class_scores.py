"""The class with the highest score, for features that are class scores (supervised references, Appendix Table 2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from registry.base import Clusterer, UserError
from registry.ranges import Count
from registry.spg.graphs import RegionGraph


class ClassScores(Clusterer):
    """Z (n, C) class scores -> P (n, k): softmax over the C scores; columns beyond C stay zero.

    k: maximal number of classes, at least C. Cluster i is class i of the data set. Nothing is learned here: labels were
    used to train the scores (`features: segmenter`). Meant for `graph: pixel`, which passes scores on unchanged.
    `fit` raises UserError if there are more scores than k, or fewer training nodes than scores.
    """

    per_class = True

    def __init__(self, *, k: Count = 8):
        self.k = k
        if k < 1:
            raise UserError(f"clusterer.k: {k} must be at least 1")

    def fit(self, graphs: Sequence[RegionGraph], embeddings: Sequence[torch.Tensor]) -> None:
        self._check(embeddings[0])
        nodes = sum(graph.n for graph in graphs)
        if nodes < self.k:
            raise UserError(f"clusterer.k: {self.k} is larger than the {nodes} training nodes; use larger images")

    def predict(self, graph: RegionGraph, Z: torch.Tensor) -> torch.Tensor:
        self._check(Z)
        P = torch.zeros(len(Z), self.k, device=Z.device)
        P[:, : Z.shape[1]] = Z.float().softmax(1)
        return P

    def _check(self, Z: torch.Tensor) -> None:
        if Z.shape[1] > self.k:
            raise UserError(
                f"clusterer.k: {self.k} is less than the {Z.shape[1]} scores of each node; increase it, and "
                "use features that are class scores, such as segmenter, with graph: pixel"
            )
