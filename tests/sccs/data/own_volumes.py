"""Images and labels at random, and data sets of them."""

import numpy as np
import pytest

from registry.base import UserError
from sccs.data import load_dataset

CLASSES = {0: "rest", 1: "nucleus", 2: "granule"}


def picture(shape=(5, 200, 170), seed=0, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(dtype)


def codes(shape=(5, 200, 170), seed=1):
    return np.random.default_rng(seed).integers(0, 3, shape).astype(np.uint8)


def load(train, test=(), base=".", **block):
    return load_dataset({"name": "volumes", "fov": 80, "train": list(train), "test": list(test), **block}, base)


def refused(match, *args, **kwargs):
    with pytest.raises(UserError, match=match) as error:
        load(*args, **kwargs)
    assert "\n" not in str(error.value)
