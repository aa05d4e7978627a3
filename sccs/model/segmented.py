"""A model's result for one field of view (FOV)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from registry.spg.graphs import RegionGraph

STAGES = ("features", "graph", "embed", "cluster")


@dataclass
class Segmented:
    """A model's result for one FOV (H, W) with n_s superpixels."""

    clusters: np.ndarray  # (H, W) uint8
    graph: RegionGraph  # or a `TensorGraph`, used like one
    Z: np.ndarray  # (n_s, u) float32
    assignment: np.ndarray  # (n_s,) uint8, the cluster of each node
    seconds: dict[str, float] = field(default_factory=dict)  # by stage
