"""A third party's part: the image under Gaussian blurs of several widths."""

import numpy as np
from scipy.ndimage import gaussian_filter

from registry.base import FeatureMap, Features


class Blur(Features):
    """image (H, W) -> FeatureMap with one channel for each width (sigma, px)."""

    def __init__(self, *, widths: list[float] = [1.0, 2.0]):
        self.widths = widths

    def extract(self, image: np.ndarray) -> FeatureMap:
        values = np.stack([gaussian_filter(image, width) for width in self.widths], axis=-1)  # (H, W, q)
        return FeatureMap(values=values, step=1.0, offset=0.0, shape=image.shape)
