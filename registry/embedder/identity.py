"""No embedding: Z is the node features, already standardised by the graph part."""

from __future__ import annotations

import torch

from registry.base import Embedder
from registry.spg.graphs import RegionGraph


class Identity(Embedder):
    """Z (n_s, 2q) = F_s. Used by the k-means, MAESTER and "features only" systems."""

    def embed(self, graph: RegionGraph) -> torch.Tensor:
        return graph.feature
