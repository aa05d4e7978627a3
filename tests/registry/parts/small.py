"""Small parts and what they are given, for tests that run over all parts of a role."""

import numpy as np
import pytest
import torch

import registry
from registry.base import FeatureMap
from registry.spg.graphs import RegionGraph

EVERYWHERE = {"seed": 0, "k": 3, "u": 3}
TINY_MAE = {"window": 20, "patch": 5, "width": 8, "depth": 1, "heads": 1}
SPECIAL = {
    ("features", "mae"): {**TINY_MAE, "stride": 20},
    ("features", "maester"): {**TINY_MAE, "central": 2},
    ("features", "segmenter"): {"checkpoint": None, "depth": 1, "steps": 2, "batch": 2},
    ("clusterer", "class_scores"): {"k": 5},
    ("features", "contrast"): {"width": 4, "q": 6, "steps": 2, "batch": 2, "places": 4, "crop": 32},
    ("features", "vae"): {"patch": 8, "channels": [4, 8], "hidden": 16, "steps": 3, "batch": 4},
}
SHAPES = [(80, 80), (83, 121), (160, 96), (97, 80)]  # (H, W) of a FOV


def every(role: str):
    return pytest.mark.parametrize("name", registry.available(role))


def assert_same_state(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for key in one:
        assert one[key].dtype == other[key].dtype, key
        np.testing.assert_array_equal(one[key], other[key], err_msg=key)


def ready(part):
    """Trained parts are asked in evaluation mode."""
    return part.eval() if isinstance(part, torch.nn.Module) else part


def grey(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """A standardised image (H, W) float32 of smooth blobs and noise."""
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(seed).normal(size=shape)
    image = 6 * gaussian_filter(noise, 6) + 0.3 * noise
    return ((image - image.mean()) / image.std()).astype(np.float32)


def feature_map(shape: tuple[int, int], q: int = 3, seed: int = 0) -> FeatureMap:
    h, w = (-(-side // 5) for side in shape)
    values = np.random.default_rng(seed).normal(size=(h, w, q)).astype(np.float32)
    return FeatureMap(values, 5.0, 2.0, shape)


def without_edges(n: int = 7, d: int = 6) -> RegionGraph:
    feature, none = np.random.default_rng(0).normal(size=(n, d)), np.zeros(0, np.int64)
    return RegionGraph.from_edges(np.arange(n).reshape(1, n), feature, np.ones(n), np.zeros((n, 2)), none, none, none)
