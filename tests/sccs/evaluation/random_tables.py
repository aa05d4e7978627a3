"""Tables of pixel counts for tests of mappings and scores."""

import numpy as np

NAMES = ["unrecognized", "nucleus", "granules", "mitochondria"]


def random_table(rng, k=6, C=4):
    """Skewed like real ones: some clusters nearly pure, some classes rare."""
    return (rng.gamma(0.3, 1, (k, C)) * rng.gamma(0.5, 1, C) * 1e4).astype(np.int64)
