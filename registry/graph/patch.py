"""The patch graph of DSM and DeepCut: square cells of a grid as nodes."""

from __future__ import annotations

from typing import Literal

import numpy as np

from registry.base import FeatureMap, FeatureStack, UserError
from registry.ranges import AboveOne, Count, Pixels
from registry.spg.affinity import AffinityGraph, Edges, Kappa, Precision, Standardize
from registry.spg.graphs import Nodes, region_geometry, region_means, touching_pairs
from registry.spg.pooling import blocks, pool
from registry.spg.propagation import Propagation


class Patch(AffinityGraph):
    """Grid cells of `cell` x `cell` px as nodes, with features (n_s, 2q) like the spG's: mean and deviation.

    Source: the patches of DSM (Melas-Kyriazi et al. 2022) and DeepCut (Aflalo et al. 2023).

    cell: px along a side. 4 gives 19,600 nodes per 560 x 560 FOV, 6.53 times the spG's 3,000 (paper). `edges: all` then
        needs n_s^2 floats.
    standardize, kappa, alpha, distance, edges, neighbours, precision, propagation: see
        `registry.spg.affinity.AffinityGraph`.
    """

    def __init__(
        self,
        *,
        cell: Pixels = 4,
        standardize: Standardize = "set",
        kappa: Kappa = "median",
        alpha: AboveOne | None = 4.0,
        distance: Literal["squared", "plain"] = "squared",
        edges: Edges = "knn+adjacent",
        neighbours: Count = 10,
        propagation: Propagation = "auto",
        precision: Precision = "float32",
    ):
        self.cell = cell
        self.standardize = standardize
        self.kappa = kappa
        self.alpha = alpha
        self.distance = distance
        self.edges = edges
        self.neighbours = neighbours
        self.propagation = propagation
        self.precision = precision
        if cell < 1:
            raise UserError(f"graph.cell: {cell} must be at least 1 pixel")
        self.check()

    def pool(self, image: np.ndarray, features: FeatureMap | FeatureStack) -> Nodes:
        rows, cols = (np.arange(n) // self.cell for n in image.shape)
        regions = (rows[:, None] * (cols[-1] + 1) + cols[None, :]).astype(np.int32)
        area, centroid = region_geometry(regions)
        return Nodes(
            regions,
            pool(features, regions),
            area,
            centroid,
            touching_pairs(regions),
            region_means(image, regions, area),
            blocks(features),
        )
