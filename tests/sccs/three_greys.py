"""A volume of three greys and a recipe for it."""

import numpy as np

RECIPE = {
    "features": "intensity",
    "graph": {"name": "superpixel", "pixels_per_superpixel": 64, "standardize": "none"},
    "embedder": {"name": "lgc", "u": 2, "channels": [4]},
    "clusterer": {"name": "mlp_incremental", "k": 3, "warmup": 20},
    "train": {"iterations": 150, "checkpoint_every": 100},
    "device": "cpu",
}


def three_greys(seed: int = 0, shape=(2, 96, 100)) -> np.ndarray:
    """Left, middle, right third of three greys, with noise."""
    rng = np.random.default_rng(seed)
    truth = np.digitize(np.arange(shape[2]), [shape[2] // 3, 2 * shape[2] // 3])
    return (60 + 60 * truth + rng.normal(0, 8, shape)).clip(0, 255).astype(np.uint8)


def recipe(**parts) -> dict:
    return {**RECIPE, "embedder": "identity", "clusterer": {"name": "kmeans", "k": 3}, **parts}
