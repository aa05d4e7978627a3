"""The superpixel graph (spG) of the paper: SLIC regions (Achanta et al. 2012) as nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field

from registry.base import FeatureMap, FeatureStack, TensorMap, UserError
from registry.ranges import AboveOne, Count
from registry.spg.affinity import AffinityGraph, Edges, Kappa, Precision, Standardize
from registry.spg.graphs import Nodes, region_geometry, region_means, touching_pairs
from registry.spg.pieces import connected_batch
from registry.spg.pooling import blocks, pool
from registry.spg.propagation import Propagation
from registry.spg.slic import slic
from registry.spg.slic_grid import assigned_batch, grid_slic
from registry.spg.tensor_graph import TensorGraph, build


def consecutive(regions: np.ndarray) -> np.ndarray:
    """The same regions with labels 0 .. n - 1, in order of their first label: (H, W) -> (H, W) int32."""
    present = np.bincount(regions.ravel()) > 0
    if present.all():
        return regions.astype(np.int32, copy=False)
    return (np.cumsum(present) - 1).astype(np.int32)[regions]


class Superpixel(AffinityGraph):
    """SLIC superpixels as nodes, with features (n_s, 2q): mean and population standard deviation over their pixels.

    pixels_per_superpixel: mean area, in pixels (paper: 100, about 3,000 per 560 x 560 FOV).
    compactness: SLIC's weight of position against grey value, on images scaled to [0, 1] (paper: 0.2).
    slic: `scikit-image`, the labels of that package, computed by `registry.spg.slic`; `grid`
    (`registry.spg.slic_grid`), tensor operations that also run on a GPU and give slightly different regions: they leak
    less, and at compactness 0.15 also follow more of the labels' borders (benchmarks/speed/superpixels.py).
    sigma: Gaussian smoothing before SLIC, in pixels. slic_iterations: of its k-means.
    standardize, kappa, alpha, warmup_alpha, distance, edges, neighbours, precision, propagation: see
        `registry.spg.affinity.AffinityGraph`.
    """

    def __init__(
        self,
        *,
        pixels_per_superpixel: Annotated[float, Field(ge=1, le=1e9)] = 100.0,
        compactness: Annotated[float, Field(ge=1e-6, le=1e6)] = 0.2,
        sigma: Annotated[float, Field(ge=0, le=1e3)] = 0.0,
        slic: Literal["scikit-image", "grid"] = "scikit-image",
        slic_iterations: Count = 10,
        standardize: Standardize = "set",
        kappa: Kappa = "median",
        alpha: AboveOne | None = 4.0,
        distance: Literal["squared", "plain"] = "squared",
        edges: Edges = "knn+adjacent",
        neighbours: Count = 10,
        warmup_alpha: AboveOne | None = None,
        propagation: Propagation = "auto",
        precision: Precision = "float32",
    ):
        self.pixels_per_superpixel = pixels_per_superpixel
        self.compactness = compactness
        self.sigma = sigma
        self.slic = slic
        self.slic_iterations = slic_iterations
        self.standardize = standardize
        self.kappa = kappa
        self.alpha = alpha
        self.distance = distance
        self.edges = edges
        self.neighbours = neighbours
        self.warmup_alpha = warmup_alpha
        self.propagation = propagation
        self.precision = precision
        self.device = "cpu"
        if pixels_per_superpixel < 1:
            raise UserError(f"graph.pixels_per_superpixel: {pixels_per_superpixel} must be at least 1 (paper: 100)")
        self.check()

    def decompose(self, image: np.ndarray) -> np.ndarray:
        """SLIC regions (H, W) int32 of an image (H, W) standardised per volume."""
        # a fixed window of +-3 standard deviations, so that a bright speck does not rescale the whole FOV
        grey = np.clip(image / 6 + 0.5, 0, 1).astype(np.float32)
        count = max(1, round(image.size / self.pixels_per_superpixel))
        if self.slic == "scikit-image":
            return consecutive(slic(grey, count, self.compactness, self.slic_iterations, self.sigma))
        if self.sigma:
            from scipy.ndimage import gaussian_filter

            grey = gaussian_filter(grey, self.sigma)
        return grid_slic(grey, count, self.compactness, self.slic_iterations, self.device)

    @property
    def takes_tensors(self) -> bool:  # type: ignore[override]  # an attribute where it is constant
        return self.edges != "all"

    def on_cpu(self) -> list[str]:
        if self.slic == "grid" and not self.sigma:
            return []
        return ["superpixels (only graph.slic: grid without sigma runs on the device)"]

    def decompose_batch(self, images: torch.Tensor) -> torch.Tensor:
        """The regions (B, H, W) int64 of several images, on their device, numbered consecutively."""
        if self.on_cpu():
            regions = torch.from_numpy(np.stack([self.decompose(image) for image in images.cpu().numpy()]))
            ends = (regions.flatten(1).amax(1) + 1).cumsum(0)
            return (regions + torch.cat([ends.new_zeros(1), ends[:-1]])[:, None, None]).to(images.device)
        grey = (images / 6 + 0.5).clamp(0, 1)
        size = grey[0].numel()
        count = max(1, round(size / self.pixels_per_superpixel))
        labels = assigned_batch(grey, count, self.compactness, self.slic_iterations)
        return connected_batch(labels, grey, size / count / 4)

    def build_batch(self, images: torch.Tensor, features: Sequence[TensorMap]) -> TensorGraph:
        return build(self, images, self.decompose_batch(images), features)

    def pool(self, image: np.ndarray, features: FeatureMap | FeatureStack) -> Nodes:
        regions = self.decompose(image)
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
