"""Every pixel as a node, without edges, as in MAESTER and raw k-means."""

from __future__ import annotations

from typing import Literal

import numpy as np

from registry.base import FeatureMap, FeatureStack
from registry.spg.affinity import AffinityGraph
from registry.spg.graphs import Nodes, RegionGraph
from registry.spg.pooling import upsample


class Pixel(AffinityGraph):
    """H x W nodes with the q features of the pixel (a pixel has no deviation), without edges.

    standardize: `none` (default, as in MAESTER) or the scales of `registry.spg.affinity.AffinityGraph`.
    """

    cacheable = False
    kappa, alpha, distance, edges, neighbours = 1.0, None, "squared", "adjacent", 1  # no kernel is evaluated

    def __init__(self, *, standardize: Literal["set", "node", "node+l2", "none"] = "none"):
        self.standardize = standardize

    def pool(self, image: np.ndarray, features: FeatureMap | FeatureStack) -> Nodes:
        H, W = image.shape
        y, x = np.indices((H, W), dtype=np.float32)
        return Nodes(
            np.arange(H * W, dtype=np.int32).reshape(H, W),
            upsample(features).reshape(H * W, -1),
            np.ones(H * W, np.float32),
            np.stack([y.ravel(), x.ravel()], axis=1),
            np.zeros((2, 0), np.int64),
            np.asarray(image, np.float32).ravel(),
        )

    def connect(self, nodes: Nodes) -> RegionGraph:
        none = np.zeros(0, np.int64)
        return RegionGraph.from_edges(
            nodes.regions,
            self.scaled(nodes.feature),
            nodes.area,
            nodes.centroid,
            none,
            none,
            np.zeros(0, np.float32),
            nodes.grey,
        )
