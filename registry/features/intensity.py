"""Raw intensity: the grey value of a pixel is its only feature (paper, Table 1: the k-means baseline)."""

from __future__ import annotations

import numpy as np

from registry.base import FeatureMap, Features


class Intensity(Features):
    """image (H, W) float32, standardised per volume -> FeatureMap with values (H, W, 1), step 1, offset 0."""

    def extract(self, image: np.ndarray) -> FeatureMap:
        values = np.ascontiguousarray(image, dtype=np.float32)[..., None]  # (H, W, 1)
        return FeatureMap(values=values, step=1.0, offset=0.0, shape=image.shape)
